/**
 * What the simulated world promises: order within a connection, order in time, disks that keep what was synced.
 */
import { constants } from "node:fs";
import fc from "fast-check";
import { AlignedArena } from "@millrace/aligned-buffers";
import type { Lsn } from "@millrace/lsn";
import { syncDirectory } from "@millrace/virtual-file";
import { WalDecoder } from "@millrace/wal-decoder";
import { expect, test } from "vitest";
import { sameBytes } from "../src/byte-log.js";
import { CopyLink } from "../src/copy-link.js";
import { Network } from "../src/network.js";
import { Random } from "../src/random.js";
import { SimulatedFileSystem } from "../src/simulated-file-system.js";
import { VirtualTime } from "../src/virtual-time.js";
import { WAL_SHAPE, WalLog } from "../src/wal-log.js";

const never = (): boolean => false;
const arena = new AlignedArena({ bytes: 1024 * 1024 });
const CREATE: number = constants.O_RDWR | constants.O_CREAT;

// Aim: events run by time and, at equal times, in the order of their making. Method: random delays, some equal, against
// a stable sort.
test("virtual time runs events in order", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(20), { maxLength: 200, size: "max" }), async (delays) => {
      const time = new VirtualTime();
      const seen: number[] = [];
      delays.forEach((delay, index) => time.after(delay, () => seen.push(index)));
      await time.run(100, never);
      const expected = delays
        .map((_, index) => index)
        .toSorted((a, b) => (delays[a] ?? 0) - (delays[b] ?? 0));
      expect(seen).toEqual(expected);
      expect(time.nowMs).toBe(100);
    }),
  );
});

// Aim: what an event sets in motion has come to rest before the next event. Method: a chain of promises begun by an event.
test("promises of an event settle before the next event", async () => {
  const time = new VirtualTime();
  const seen: string[] = [];
  const chain = async (): Promise<void> => {
    await time.sleep(1);
    for (let step = 0; step < 50; step += 1) await Promise.resolve();
    seen.push("chain");
  };
  time.after(0, () => {
    time.promisesMoved();
    void chain();
  });
  time.after(1.001, () => seen.push("event"));
  await time.run(10, never);
  expect(seen).toEqual(["chain", "event"]);
});

// Aim: a connection delivers a prefix of what was sent, in order, and its end last. Method: random sends, a block, a
// close that keeps all or some, over random latencies.
test("a connection delivers in order, and a prefix", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer(),
      fc.integer({ min: 1, max: 60 }),
      fc.boolean(),
      async (seed, count, keepAll) => {
        const time = new VirtualTime();
        const random = new Random(seed, "network test");
        const network = new Network(time, random, { usualMs: 5, slowShare: 0.3, slowMs: 100 });
        const { clientSide, serverSide } = network.open(50, 0);
        const seen: number[] = [];
        let endAfter: number | undefined;
        serverSide.handlers = {
          message: (payload) => seen.push(payload[0] ?? -1),
          closed: () => {
            endAfter = seen.length;
          },
        };
        for (let index = 0; index < count; index += 1) {
          time.after(random.between(0, 0.001) + index, () => clientSide.send(Uint8Array.of(index)));
        }
        time.after(10, () => network.block(50, 0));
        time.after(200, () => network.unblock(50, 0));
        time.after(count + 5, () => clientSide.close("done", keepAll));
        await time.run(2000, never);
        expect(seen).toEqual(Array.from({ length: seen.length }, (_, index) => index));
        expect(endAfter).toBe(seen.length);
        if (keepAll) expect(seen).toHaveLength(count);
        expect(network.connections.size).toBe(0);
      },
    ),
  );
});

// Aim: a copy over a connection is one: in order, with a bounded queue, and final events stay. Method: one end sends more
// than fits, waits for room as it is told to, and ends; the other reads.
test("a copy makes its writer wait and ends with what it was ended by", async () => {
  const time = new VirtualTime();
  const network = new Network(time, new Random(1, "copy test"), { usualMs: 5, slowShare: 0, slowMs: 5 });
  const { clientSide, serverSide } = network.open(70, 0);
  const [client, server] = [new CopyLink(clientSide, time), new CopyLink(serverSide, time)];
  let mostQueued = 0;
  const sending = (async () => {
    for (let index = 0; index < 40; index += 1) {
      const room = server.send(Uint8Array.of(index), Uint8Array.of(7));
      mostQueued = Math.max(mostQueued, server.queuedBytes);
      if (room !== undefined) await room;
    }
    await server.fail({ severity: "ERROR", code: "XX000", message: "enough" });
  })();
  const seen: number[] = [];
  const reading = (async () => {
    for (;;) {
      const event = await client.next();
      if (event.type !== "data") return event;
      seen.push(event.payload[0] ?? -1);
    }
  })();
  await time.run(1000, never);
  await sending;
  const last = await reading;
  expect(last).toEqual({ type: "fail", message: "enough" });
  expect(client.tryNext()).toBe(last);
  expect(seen).toEqual(Array.from({ length: 40 }, (_, index) => index));
  expect(mostQueued).toBeLessThan(40);
  client.destroy("left", true);
  await time.run(2000, never);
  expect(await server.next()).toEqual({ type: "end", reason: "eof" });
  await expect(server.send(Uint8Array.of(1))).rejects.toMatchObject({ code: "ERR_WIRE_CLOSED" });
  expect(network.connections.size).toBe(0);
});

// Aim: who waits is told that the connection was closed under it. Method: a pending read and a full queue.
test("closing a copy ends what waits on it", async () => {
  const time = new VirtualTime();
  const network = new Network(time, new Random(1, "copy test"), { usualMs: 5, slowShare: 0, slowMs: 5 });
  const { clientSide } = network.open(70, 0);
  const link = new CopyLink(clientSide, time);
  const reading = link.next();
  let room: Promise<void> | undefined;
  while (room === undefined) room = link.send(Uint8Array.of(1));
  link.close("over");
  await expect(reading).rejects.toMatchObject({ code: "ERR_WIRE_CLOSED", message: "over" });
  await room;
  expect(() => link.tryNext()).toThrow("over");
});

// Aim: the generated WAL is what PostgreSQL's rules ask for, across pages and segments. Method: the decoder reads it, and
// agrees about every record's end.
test("the decoder accepts the generated WAL and finds its records", () => {
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 0, max: 3000 }), (seed, back) => {
      const startLsn = BigInt(3 * WAL_SHAPE.segmentBytes - 24_000 + 8 * back) as Lsn;
      const inPage = Number(startLsn % 8192n);
      fc.pre(inPage === 0 || inPage >= 40);
      const random = new Random(seed, "wal test");
      const log = new WalLog(startLsn, seed);
      log.writeSome(random, 15);
      if (random.chance(0.3)) log.switchSegment();
      log.writeSome(random, 15);
      const decoder = new WalDecoder({
        startLsn,
        pgMajor: WAL_SHAPE.pgMajor,
        segmentBytes: WAL_SHAPE.segmentBytes,
        onRecord: ({ endLsn }) => {
          expect(log.isBoundary(endLsn)).toBe(true);
        },
      });
      decoder.feed(log.view(startLsn, log.endLsn));
      expect(decoder.recordEndLsn).toBe(log.endLsn);
      // Another database continues a copy, with other bytes.
      const other = new WalLog(startLsn, seed + 1);
      other.adopt(log.view(startLsn, log.endLsn));
      const forkLsn = other.endLsn;
      expect(forkLsn).toBe(log.endLsn);
      for (const either of [log, other]) either.writeSome(new Random(seed, "same sizes"), 5);
      expect(sameBytes(log.view(forkLsn, log.endLsn), other.view(forkLsn, other.endLsn))).toBe(false);
      const both = new WalDecoder({
        startLsn,
        pgMajor: WAL_SHAPE.pgMajor,
        segmentBytes: WAL_SHAPE.segmentBytes,
      });
      both.feed(other.view(startLsn, other.endLsn));
      expect(both.recordEndLsn).toBe(other.endLsn);
    }),
    { numRuns: 60 },
  );
});

// Aim: a power cut keeps what was synced, may lose what was not, and tears nothing else. Method: a synced and an unsynced
// write and a rename, cut with every kind of luck.
test("a power cut keeps what was synced and any part of the rest", async () => {
  const outcomes = new Set<string>();
  for (let seed = 0; seed < 60; seed += 1) {
    const random = new Random(seed, "power cut");
    const disk = new SimulatedFileSystem(() => undefined, "/d", arena);
    const before = disk.newProcess();
    const file = await before.open("/d/a", CREATE, 0, 1);
    await file.write(new Uint8Array(8192).fill(1), 0);
    await file.sync(false);
    await syncDirectory("/d", { engine: before });
    await file.write(new Uint8Array(8192).fill(2), 8192);
    await before.rename("/d/a", "/d/b");
    disk.powerCut(() => random.next());
    await expect(file.read(new Uint8Array(1), 0)).rejects.toMatchObject({ code: "EBADF" });
    const after = disk.newProcess();
    const names = await after.readdir("/d");
    expect(names).toHaveLength(1);
    const again = await after.open(`/d/${names[0] ?? ""}`, constants.O_RDONLY, 0, 1);
    const bytes = new Uint8Array(16_384);
    const size = await again.read(bytes, 0);
    expect(size).toBeGreaterThanOrEqual(8192);
    expect(bytes.subarray(0, 8192).every((byte) => byte === 1)).toBe(true);
    expect(bytes.subarray(8192, size).every((byte) => byte === 0 || byte === 2)).toBe(true);
    outcomes.add(`${names[0] ?? ""} ${String(size)} ${String(bytes[8192])} ${String(bytes[size - 1])}`);
  }
  expect(outcomes.size).toBeGreaterThan(5);
});

// Aim: O_DSYNC makes a write durable by itself, zeros included. Method: one such write over another, then a cut without luck.
test("a write with O_DSYNC survives a power cut", async () => {
  const disk = new SimulatedFileSystem(() => undefined, "/d", arena);
  const before = disk.newProcess();
  const file = await before.open("/d/a", CREATE | constants.O_DSYNC, 0, 4096);
  await syncDirectory("/d", { engine: before });
  await file.write(new Uint8Array(8192).fill(7), 0);
  await file.write(new Uint8Array(4096), 0);
  await expect(file.write(new Uint8Array(100), 0)).rejects.toMatchObject({ code: "EINVAL" });
  disk.powerCut(() => 0);
  const again = await disk.newProcess().open("/d/a", constants.O_RDONLY, 0, 1);
  const bytes = new Uint8Array(9000);
  expect(await again.read(bytes, 0)).toBe(8192);
  expect(bytes.subarray(0, 4096).every((byte) => byte === 0)).toBe(true);
  expect(bytes.subarray(4096, 8192).every((byte) => byte === 7)).toBe(true);
});

test("a killed process leaves what the kernel has seen, and can do nothing more", async () => {
  const disk = new SimulatedFileSystem(() => undefined, "/d", arena);
  const before = disk.newProcess();
  const file = await before.open("/d/a", CREATE, 0, 1);
  await file.write(Uint8Array.of(7), 0);
  disk.kill();
  await expect(before.rename("/d/a", "/d/b")).rejects.toMatchObject({ code: "EBADF" });
  const after = disk.newProcess();
  expect(await after.stat("/d/a")).toEqual({ sizeBytes: 1, isDirectory: false });
});

// Aim: named streams are independent of what others draw. Method: the same stream, made before and after draws.
test("a named stream of numbers depends on its seed and name only", () => {
  const parent = new Random(5, "parent");
  const early = Array.from(
    { length: 20 },
    (
      (draws) => () =>
        draws.next()
    )(parent.fork("child")),
  );
  parent.next();
  const child = parent.fork("child");
  expect(Array.from({ length: 20 }, () => child.next())).toEqual(early);
  expect(new Random(6, "parent").next()).not.toBe(new Random(5, "parent").next());
});
