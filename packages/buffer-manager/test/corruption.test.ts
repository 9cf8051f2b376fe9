/**
 * Pages that a disk has spoilt: what fails, what is made zeros, what is accepted, what is counted and who hears of it.
 */
import { describe, expect, test } from "vitest";

import { checksumFailureRows } from "../src/checksum-failures.js";
import type { PoolOptions } from "../src/pool.js";
import { READ_FLAG } from "../src/read-callbacks.js";
import { blockOf, makePage, METHODS, TABLE } from "./data-directory.js";
import { ReadWorld } from "./read-world.js";

const { zeroOnError, ignoreChecksum } = READ_FLAG;

function createWorld(method: (typeof METHODS)[number], options: PoolOptions = {}): ReadWorld {
  const world = new ReadWorld(method, options);
  world.directory.writeBlocks(TABLE, 8);
  return world;
}

function isZero(page: Uint8Array): boolean {
  return page.every((byte) => byte === 0);
}

describe.each(METHODS)("method %s", (method) => {
  test("one bad page of four fails the read, and only it is not valid", async () => {
    await using world = createWorld(method);
    const { directory } = world;
    directory.writeBlock(TABLE, 1, makePage(1, { header: true }));
    const backend = world.backend();
    const file = directory.segment(TABLE, 0);
    const failure = {
      code: "ERR_BUFFER_INVALID_PAGE",
      block: 1,
      pages: 1,
      message: `invalid page in block 1 of "${file}"`,
    };
    await expect(backend.read(0, 4)).rejects.toMatchObject(failure);
    expect([1, 2, 3, 4].map((buffer) => backend.isValid(buffer))).toEqual([true, false, true, true]);
    expect([1, 2, 3, 4].map((buffer) => backend.hasFailed(buffer))).toEqual([false, true, false, false]);
    await expect(backend.read(1, 1), "again").rejects.toMatchObject(failure);
    directory.writeBlock(TABLE, 1, makePage(1));
    const [buffer = 0] = await backend.read(1, 1);
    expect([blockOf(backend.page(buffer)), backend.isValid(buffer), backend.hasFailed(buffer)]).toEqual([
      1,
      true,
      false,
    ]);
  });

  test("several bad pages are one error that counts them, and a message each", async () => {
    await using world = createWorld(method);
    for (const block of [2, 3]) world.directory.writeBlock(TABLE, block, makePage(block, { checksum: true }));
    const backend = world.backend();
    await expect(backend.read(1, 4)).rejects.toMatchObject({
      code: "ERR_BUFFER_INVALID_PAGE",
      block: 2,
      pages: 2,
      message:
        `2 invalid pages among blocks 1..4 of "${world.directory.segment(TABLE, 0)}"; ` +
        "block 2 held the first invalid page",
    });
    expect(world.events).toEqual(
      [2, 3].map((block) => ({
        type: "bad-page",
        level: "error",
        message: `invalid page in block ${block} of relation "base/5/16384"`,
        relation: { tablespace: 1663, database: 5, relation: 16_384 },
        fork: 0,
        block,
        outcome: "failed",
        isChecksumWrong: true,
      })),
    );
  });

  test.each([
    ["the read's flag", zeroOnError, {}],
    ["the pool's setting", 0, { zeroDamagedPages: true }],
  ])("bad pages are made zeros by %s", async (_, flags, settings) => {
    await using world = createWorld(method, settings);
    for (const block of [2, 3]) world.directory.writeBlock(TABLE, block, makePage(block, { header: true }));
    const backend = world.backend();
    const buffers = await backend.read(1, 4, flags);
    expect(buffers.map((buffer) => backend.isValid(buffer))).toEqual([true, true, true, true]);
    expect(buffers.map((buffer) => isZero(backend.page(buffer)))).toEqual([false, true, true, false]);
    expect(world.messages("read-warning")).toEqual([
      `zeroing out 2 invalid pages among blocks 1..4 of "${world.directory.segment(TABLE, 0)}"; ` +
        "block 2 held the first zeroed page",
    ]);
    expect(world.messages("bad-page").length).toBe(2);
  });

  test.each([
    ["the read's flag", ignoreChecksum, {}],
    ["the pool's setting", 0, { ignoreChecksumFailure: true }],
  ])("a wrong checksum alone is accepted by %s, a wrong header is not", async (_, flags, settings) => {
    await using world = createWorld(method, settings);
    world.directory.writeBlock(TABLE, 3, makePage(3, { checksum: true }));
    const backend = world.backend();
    const [, buffer = 0] = await backend.read(2, 2, flags);
    expect([blockOf(backend.page(buffer)), backend.isValid(buffer)]).toEqual([3, true]);
    const file = world.directory.segment(TABLE, 0);
    expect(world.messages("read-warning")).toEqual([`ignoring checksum failure in block 3 of "${file}"`]);
    world.directory.writeBlock(TABLE, 4, makePage(4, { checksum: true, header: true }));
    await expect(backend.read(4, 2, flags)).rejects.toMatchObject({ block: 4, pages: 1 });
  });

  // Aim: every kind at once is told apart. Method: checksum; checksum and header; header; header, with both wishes.
  test("zeroed and accepted pages of one read are one warning, and a message each", async () => {
    await using world = createWorld(method);
    const { directory } = world;
    directory.writeBlock(TABLE, 2, makePage(2, { checksum: true }));
    directory.writeBlock(TABLE, 3, makePage(3, { checksum: true, header: true }));
    for (const block of [4, 5]) directory.writeBlock(TABLE, block, makePage(block, { header: true }));
    const backend = world.backend();
    const buffers = await backend.read(1, 5, zeroOnError | ignoreChecksum);
    expect(buffers.map((buffer) => isZero(backend.page(buffer)))).toEqual([false, false, true, true, true]);
    expect(world.messages("read-warning")).toEqual([
      `zeroing 3 pages and ignoring 2 checksum failures among blocks 1..5 of "${directory.segment(TABLE, 0)}"; ` +
        "block 3 held the first zeroed page",
    ]);
    expect(world.messages("bad-page")).toEqual([
      'ignoring checksum failure in block 2 of relation "base/5/16384"',
      ...[3, 4, 5].map(
        (block) => `invalid page in block ${block} of relation "base/5/16384"; zeroing out page`,
      ),
    ]);
  });

  test("wrong checksums are counted once a read, by database, whoever completes it", async () => {
    await using world = createWorld(method);
    const shared = { tablespace: 1664, database: 0, relation: 1262 };
    world.directory.writeBlocks(shared, 4);
    world.directory.writeBlock(shared, 1, makePage(1, { checksum: true }));
    for (const block of [0, 5]) world.directory.writeBlock(TABLE, block, makePage(block, { checksum: true }));
    world.directory.writeBlock(TABLE, 6, makePage(6, { header: true }));
    const [one, two] = [world.backend(), world.backend()];
    await expect(one.read(0, 8)).rejects.toMatchObject({ pages: 3 });
    await expect(two.read(0, 1, 0, shared)).resolves.toHaveLength(1);
    await expect(two.read(0, 2, 0, shared)).rejects.toMatchObject({ block: 1 });
    const { words, layout } = one.context;
    expect(checksumFailureRows(words, layout.checksumFailuresAt)).toEqual([
      { database: null, failures: 1 },
      { database: 5, failures: 2 },
    ]);
  });

  test("pages of a pool without checksums are looked at by their header only", async () => {
    await using world = createWorld(method, { checksums: false });
    world.directory.writeBlock(TABLE, 1, makePage(1, { checksum: true }));
    world.directory.writeBlock(TABLE, 2, makePage(2, { header: true }));
    const backend = world.backend();
    await expect(backend.read(1, 2)).rejects.toMatchObject({ block: 2, pages: 1 });
  });

  test("a page that arrived is looked at, also if the read came only in part", async () => {
    await using world = createWorld(method);
    world.directory.writeBlock(TABLE, 1, makePage(1, { header: true }));
    using fault = world.pool.aio.faults.arm({
      point: "afterwards",
      operation: "readv",
      result: 3 * 8192,
      times: 1,
    });
    const backend = world.backend();
    await expect(backend.read(0, 6)).rejects.toMatchObject({ block: 1, pages: 1 });
    expect(fault.hits).toBe(1);
    expect([1, 2, 3, 4].map((buffer) => backend.isValid(buffer))).toEqual([true, false, true, false]);
  });
});

// Aim: the wish of whoever starts a read counts, not of whoever completes it. Method: the setting is taken back meanwhile.
test("what a session wishes is settled when its read starts", async () => {
  await using world = new ReadWorld("manual");
  world.directory.writeBlocks(TABLE, 4);
  world.directory.writeBlock(TABLE, 1, makePage(1, { header: true }));
  const backend = world.backend();
  backend.session.zeroDamagedPages = true;
  const operation = backend.operation();
  const buffers = new Int32Array(2);
  await backend.reader.startReadAsync(operation.begin(buffers, 0, 0, 2, 0));
  backend.session.zeroDamagedPages = false;
  world.controller.completeAll();
  await backend.reader.waitReadAsync(operation);
  expect([...buffers].map((buffer) => isZero(backend.page(buffer)))).toEqual([false, true]);
});

// Aim: a stranger who completes a read neither hears of its bad pages nor counts them. Method: a second backend waits for it.
test("the backend that wanted a page hears of it, not the one that only completed it", async () => {
  await using world = new ReadWorld("manual");
  world.directory.writeBlocks(TABLE, 4);
  world.directory.writeBlock(TABLE, 1, makePage(1, { checksum: true }));
  const backend = world.backend();
  const operation = backend.operation();
  await backend.reader.startReadAsync(operation.begin(new Int32Array(2), 0, 0, 2, 0));
  world.controller.completeAll();
  const { words, layout } = backend.context;
  expect([world.events, checksumFailureRows(words, layout.checksumFailuresAt)]).toEqual([[], []]);
  await expect(backend.reader.waitReadAsync(operation)).rejects.toMatchObject({ block: 1 });
  expect(world.messages("bad-page").length).toBe(1);
  expect(checksumFailureRows(words, layout.checksumFailuresAt)).toEqual([{ database: 5, failures: 1 }]);
});
