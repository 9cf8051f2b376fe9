/**
 * The WAL port against clients that break the protocol, on purpose and in numbers: nothing they send may cost memory
 * beyond its bounds, and nothing of them may stay.
 */
import type { Duplex } from "node:stream";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";

import { Harness, START, walOf } from "./acceptor-harness.js";
import { TENANT, TIMELINE } from "./fixtures.js";
import { frame, RawClient, startup } from "./raw-client.js";
import { MIB } from "./wal-stream.js";

const OPTIONS = `-c tenant_id=${TENANT} timeline_id=${TIMELINE}`;
/** What a client has to send beyond a bad header: far more than a connection may take in. */
const FLOOD_BYTES = 32 * MIB;
const PIECE = Buffer.alloc(64 * 1024);
/** Pieces on their way and in the socket's own buffers when the header is looked at. */
const TAKEN_BYTES_MAX = 512 * 1024;
/** Growth over six thousand logins that is not a leak: half a kilobyte for each would be one. */
const GROWTH_BYTES_MAX = 3 * MIB;

/** Sends until the other side has ended; gives the bytes it took. */
async function flood(socket: Duplex): Promise<number> {
  let taken = 0;
  while (taken < FLOOD_BYTES) {
    const error = await new Promise((resolve) => void socket.write(PIECE, resolve));
    if (error instanceof Error) break;
    taken += PIECE.byteLength;
  }
  return taken;
}

function head(tag: string, length: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes.write(tag, 0, "latin1");
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

/** Memory that buffers take, after a collection. */
function bufferedBytes(): number {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  return process.memoryUsage().arrayBuffers;
}

const impossible: readonly (readonly [tag: string, length: number])[] = [
  ["Q", 3],
  ["Q", 0],
  ["Q", 2 ** 31],
  ["Q", 2 ** 32 - 1],
  ["Q", 64 * 1024 + 5],
  ["d", 100],
  ["?", 5],
  ["F", 5],
];

// Aim: a length that cannot be is refused from its five bytes. Method: the header, then as much as the other
// side takes until it has ended the connection.
test.each(impossible)("in the command loop a frame %s of length %d costs nothing", async (tag, length) => {
  await using harness = await Harness.open();
  const raw = harness.raw();
  const client = new RawClient(raw.client);
  client.write(startup({ options: OPTIONS }));
  await client.until("Z");
  client.write(head(tag, length));
  expect(await flood(raw.client)).toBeLessThan(TAKEN_BYTES_MAX);
  const answer = await client.untilEnd();
  expect(answer).toEqual([expect.stringMatching(/^E\(FATAL 08P01 /) as string, "end"]);
  await raw.served;
  expect(harness.node.status().connections).toBe(0);
});

const impossibleInCopy: readonly (readonly [tag: string, length: number])[] = [
  ["d", 3],
  ["d", 2 ** 31],
  ["d", 2 ** 32 - 1],
  ["d", 16 * MIB + 5],
  ["f", 64 * 1024],
  ["c", 5],
  ["Q", 20],
  ["p", 20],
];

// Aim: the same inside a stream, where a message may be 16 MiB and not one byte more. Method: as above, behind a greeting
// and an election; what was acknowledged stays.
test.each(impossibleInCopy)("in a stream a frame %s of length %d costs nothing", async (tag, length) => {
  await using harness = await Harness.open();
  const proposer = await harness.elected();
  const wal = walOf(1);
  proposer.append(wal, START, wal.endLsn);
  await proposer.receiveOf("append-response");
  proposer.pair.client.write(head(tag, length));
  expect(await flood(proposer.pair.client)).toBeLessThan(TAKEN_BYTES_MAX);
  expect(await proposer.end()).toMatchObject({ sqlstate: "XX000" });
  await proposer.served;
  const [timeline] = harness.node.timelines.list();
  expect([timeline?.receivers.size, timeline?.users, timeline?.state.flushLsn]).toEqual([0, 0, wal.endLsn]);
});

// Aim: the largest allowed message is taken, so the bound is where it is said to be. Method: a greeting with padding up
// to exactly 16 MiB; what follows a message's fields is not part of it.
test("a message of 16 MiB is taken", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.elected();
  const padded = Buffer.alloc(16 * MIB);
  padded.set(Buffer.from("76000000000000000000000001", "hex")); // a vote-request for term 1
  proposer.pair.client.write(frame("d", padded));
  expect(await proposer.receiveOf("vote-response")).toMatchObject({ term: 1n, voteGiven: false });
  await proposer.client.close();
});

// Aim: refused logins leave nothing at the node. Method: a thousand of each kind, one after the other; connections, timers
// and memory are counted before and after.
test(
  "thousands of refused logins leave no connection, no timer and no memory",
  { timeout: 60_000 },
  async () => {
    await using harness = await Harness.open();
    const pairs = Buffer.from("user\0x", "latin1");
    const packet = (...parts: readonly (string | Buffer)[]): Buffer => {
      const body = Buffer.concat(parts.map((part) => Buffer.from(part as string, "latin1")));
      const lengthAndVersion = Buffer.from([0, 0, 0, 0, 0, 3, 0, 0]);
      lengthAndVersion.writeUInt32BE(body.length + 8);
      return Buffer.concat([lengthAndVersion, body]);
    };
    const cancel = Buffer.from("00000010 04d2162e 00000001 00000002".replaceAll(" ", ""), "hex");
    const inputs = [
      Buffer.from([0, 0, 0, 7, 0, 3, 0, 0]),
      Buffer.concat([Buffer.from([0, 0, 0x27, 0x11]), Buffer.alloc(10_000)]),
      packet(pairs),
      packet("user\0", Buffer.from([0xff, 0xfe]), "\0\0"),
      cancel,
      startup({ options: `tenant_id=${TENANT.slice(1)}` }),
    ];
    const timersBefore = harness.clock.pending;
    const attempt = async (input: Buffer): Promise<void> => {
      const raw = harness.raw();
      raw.client.resume();
      raw.client.end(input);
      await raw.served;
      if (!raw.server.destroyed) throw new Error("a refused login left its socket open");
    };
    for (const input of inputs) for (let round = 0; round < 50; round += 1) await attempt(input);
    const before = bufferedBytes();
    for (const input of inputs) for (let round = 0; round < 1000; round += 1) await attempt(input);
    expect(harness.clock.pending).toBe(timersBefore);
    expect(harness.node.status()).toMatchObject({ connections: 0 });
    expect(harness.node.timelines.size).toBe(0);
    expect(bufferedBytes() - before).toBeLessThan(GROWTH_BYTES_MAX);
    // Nobody got as far as a connection; five of six were refused in words, a CancelRequest is only ever ignored.
    expect(harness.log.of("connection-opened")).toEqual([]);
    expect(harness.log.of("connection-failed")).toHaveLength(5 * 1050);
  },
);
