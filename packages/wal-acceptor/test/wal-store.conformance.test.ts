import { constants } from "node:fs";
import { expect, test } from "vitest";
import { formatLsn, segmentNumber } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { createDiskControlFile, openDiskControlStore } from "../src/disk-control-store.js";
import { openDiskWalStore } from "../src/disk-wal-store.js";
import type { ControlStore } from "../src/control-store.js";
import type { AcceptorError } from "../src/errors.js";
import { createMemoryControlStore } from "../src/memory-control-store.js";
import { MemoryWalDisk } from "../src/memory-wal-disk.js";
import { createMemoryWalStore } from "../src/memory-wal-store.js";
import type { PersistentState } from "../src/persistent-state.js";
import type { WalStore } from "../src/wal-store.js";
import { at, codeOf, expectSameBytes, freshState, seededRandom } from "./fixtures.js";
import { MemoryFileSystem, systemError } from "./memory-file-system.js";
import { MIB, WalStream } from "./wal-stream.js";

/** One node's storage, whatever it is made of. */
interface Node {
  wal: WalStore;
  control: ControlStore;
  readonly fatal: AcceptorError[];
  /** Power cut and restart. */
  restart(random: () => number): Promise<void>;
  /** Whether a written byte may survive a crash before anybody has asked for it to be flushed. */
  readonly keepsUnflushed: boolean;
  /** Whether a write to the disk is durable by itself, so that a failing one is as bad as a failing sync. */
  readonly hasDurableWrites: boolean;
  /** Makes every following write, or sync, fail until it is called with undefined. */
  fail(what: "write" | "sync" | undefined, errno?: string): void;
}

/** @param refusedFlags what the file system cannot do: O_DIRECT, O_DSYNC, neither or both */
async function diskNode(state: PersistentState, refusedFlags = 0): Promise<Node> {
  const directory = "/data/timeline";
  const fileSystem = new MemoryFileSystem(directory);
  fileSystem.refusedFlags = refusedFlags;
  await createDiskControlFile({ directory, fileSystem: fileSystem.face, state });
  const fatal: AcceptorError[] = [];
  const onFatal = (error: AcceptorError): void => void fatal.push(error);
  const open = async (): Promise<{ control: ControlStore; wal: WalStore }> => {
    const options = { directory, fileSystem: fileSystem.face, onFatal };
    const control = await openDiskControlStore(options);
    return { control, wal: await openDiskWalStore({ ...options, control }) };
  };
  return {
    ...(await open()),
    fatal,
    keepsUnflushed: false,
    hasDurableWrites: refusedFlags === 0,
    async restart(random) {
      fileSystem.crash(random);
      Object.assign(this, await open());
    },
    fail(what, errno = "EIO") {
      fileSystem.onCall = (call) => {
        if (what === "write" && call.name === "pwrite") throw systemError(errno);
        if (what === "sync" && /sync/.test(call.name)) throw systemError(errno);
      };
    },
  };
}

async function memoryNode(state: PersistentState): Promise<Node> {
  const disk = new MemoryWalDisk();
  const fatal: AcceptorError[] = [];
  let failing: { what: string; errno: string } | undefined;
  const open = (control: ControlStore): WalStore =>
    createMemoryWalStore({
      control,
      disk,
      onFatal: (error) => fatal.push(error),
      beforeStep: (step) => {
        if (step === failing?.what) throw systemError(failing.errno);
      },
    });
  let control = createMemoryControlStore(state);
  return Promise.resolve({
    control,
    wal: open(control),
    fatal,
    keepsUnflushed: true,
    hasDurableWrites: false,
    restart(random: () => number) {
      control.crash(random);
      disk.crash(random);
      control = createMemoryControlStore(control.durable);
      Object.assign(this, { control, wal: open(control) });
      return Promise.resolve();
    },
    fail(what, errno = "EIO") {
      failing = what === undefined ? undefined : { what, errno };
    },
  } satisfies Node);
}

const START = at(0x3000060n + 0x28n);

async function readAll(wal: WalStore, from: bigint, to: bigint): Promise<Uint8Array> {
  await using reader = wal.openReader(at(from));
  const all = new Uint8Array(Number(to - from));
  for (let filled = 0; filled < all.byteLength;) {
    const count = await reader.read(all.subarray(filled));
    if (count === 0) return all.subarray(0, filled);
    filled += count;
  }
  expect(reader.lsn).toBe(to);
  return all;
}

/** A store that took ProposerElected at the stream's start: header written, cut, ready. */
async function ready(make: (state: PersistentState) => Promise<Node>, stream: WalStream): Promise<Node> {
  const node = await make(freshState({ startLsn: stream.startLsn }));
  await node.wal.initFirstSegment(stream.startLsn);
  await node.wal.truncate(stream.startLsn);
  return node;
}

function append(wal: WalStore, stream: WalStream, to: Lsn): Promise<void> {
  return wal.write(wal.writeLsn, [stream.slice(wal.writeLsn, to)]);
}

/** A store may write at once, or when it is asked to make durable what it has. */
async function appendAndFlush(wal: WalStore, stream: WalStream, to: Lsn): Promise<void> {
  await append(wal, stream, to);
  await wal.flush();
}

const implementations = [
  ["disk", diskNode],
  ["disk without O_DSYNC", (state: PersistentState) => diskNode(state, constants.O_DSYNC)],
  ["disk without direct I/O", (state: PersistentState) => diskNode(state, constants.O_DIRECT)],
  ["memory", memoryNode],
] as const;

for (const [name, make] of implementations) {
  const suite = (title: string, body: () => Promise<void>): void => test(`${name}: ${title}`, body);

  // Aim: a new store promises nothing. Method: implicit and explicit timelines before any WAL.
  suite("a fresh store has no positions, or those of its explicit start", async () => {
    const implicit = (await make(freshState())).wal;
    expect([implicit.writeLsn, implicit.writeRecordLsn, implicit.flushLsn]).toEqual([0n, 0n, 0n]);
    const explicit = (await make(freshState({ startLsn: START }))).wal;
    expect([explicit.writeLsn, explicit.writeRecordLsn, explicit.flushLsn]).toEqual([START, START, START]);
    expect(explicit.needsTruncation).toBe(true);
    expect(explicit.oldestSegment).toBeUndefined();
  });

  // Aim: until a truncation the end is not trusted. Method: write right after opening.
  suite("a freshly opened store refuses writes until it was truncated", async () => {
    const stream = new WalStream({ startLsn: START }).record();
    const { wal } = await make(freshState({ startLsn: START }));
    const bytes = stream.slice(START, stream.endLsn);
    expect(await codeOf(wal.write(START, [bytes]))).toBe("ERR_ACCEPTOR_TRUNCATE_FIRST");
    await wal.truncate(START);
    expect(wal.needsTruncation).toBe(false);
    await wal.write(START, [bytes]);
    expect(wal.writeLsn).toBe(stream.endLsn);
  });

  // Aim: write moves the written ends, flush the durable one, both by records. Method: a record cut in the middle.
  suite("only whole records that were synced are flushed", async () => {
    const stream = new WalStream({ startLsn: START }).record(100).record(200);
    const { wal } = await ready(make, stream);
    const [, first, second] = stream.boundaries as [Lsn, Lsn, Lsn];
    const middle = at(first + 40n);
    await append(wal, stream, middle);
    expect([wal.writeLsn, wal.writeRecordLsn, wal.flushLsn]).toEqual([middle, first, START]);
    expect(wal.unflushedBytes).toBe(Number(middle - START));
    await wal.flush();
    expect([wal.writeLsn, wal.writeRecordLsn, wal.flushLsn]).toEqual([middle, first, first]);
    await append(wal, stream, second);
    expect([wal.writeRecordLsn, wal.flushLsn]).toEqual([second, first]);
    await wal.flush();
    expect(wal.flushLsn).toBe(second);
    expectSameBytes(await readAll(wal, START, second), stream.slice(START, second));
  });

  // Aim: contiguity. Method: one byte too early, one too late.
  suite("a write elsewhere than at the end is refused and changes nothing", async () => {
    const stream = new WalStream({ startLsn: START }).record().record();
    const { wal } = await ready(make, stream);
    const [, first] = stream.boundaries as [Lsn, Lsn];
    await append(wal, stream, first);
    const bytes = new Uint8Array(8);
    expect(await codeOf(wal.write(at(first - 8n), [bytes]))).toBe("ERR_ACCEPTOR_REWRITE");
    expect(await codeOf(wal.write(at(first + 8n), [bytes]))).toBe("ERR_ACCEPTOR_GAP");
    await append(wal, stream, stream.endLsn);
    await wal.flush();
    expect(wal.flushLsn).toBe(stream.endLsn);
  });

  // Aim: segments are crossed, completed and durable on the way. Method: many buffers over two boundaries, odd cuts.
  suite("a write over segment borders makes each completed segment durable", async () => {
    const stream = new WalStream({ startLsn: at(0x3000000n + BigInt(MIB) - 0x4000n) });
    while (stream.endLsn < 0x3000000n + BigInt(2 * MIB) + 0x5000n) stream.record(30_011);
    const { wal } = await ready(make, stream);
    const bytes = stream.slice(stream.startLsn, stream.endLsn);
    const buffers: Uint8Array[] = [];
    for (let i = 0; i < bytes.byteLength; i += 7001) buffers.push(bytes.subarray(i, i + 7001));
    await wal.write(stream.startLsn, buffers);
    expect(wal.writeLsn).toBe(stream.endLsn);
    expect(wal.flushLsn).toBe(stream.boundaryBefore(0x3000000n + BigInt(2 * MIB)));
    await wal.flush();
    expect(wal.flushLsn).toBe(stream.endLsn);
    expectSameBytes(await readAll(wal, stream.startLsn, stream.endLsn), bytes);
    expect(wal.oldestSegment).toBe(segmentNumber(stream.startLsn, MIB));
  });

  // Aim: what was flushed is recovered after a power cut, and nothing else is made up. Method: flush, write more,
  // lose everything unsynced, or keep everything.
  suite("a restart finds at least the flushed end, and only whole records", async () => {
    for (const keep of [0, 0.999]) {
      const stream = new WalStream({ startLsn: START })
        .record(9000)
        .record(20_000)
        .record(500)
        .record(10_000);
      const node = await ready(make, stream);
      const [, , second, , last] = stream.boundaries as [Lsn, Lsn, Lsn, Lsn, Lsn];
      await append(node.wal, stream, second);
      await node.wal.flush();
      await append(node.wal, stream, last);
      await node.restart(() => keep);
      expect(node.wal.flushLsn >= second).toBe(true);
      expect(stream.boundaries).toContain(node.wal.flushLsn);
      if (keep === 0) expect(node.wal.flushLsn).toBe(second);
      else if (node.keepsUnflushed) expect(node.wal.flushLsn).toBe(last);
      expect(node.wal.writeLsn).toBe(node.wal.flushLsn);
      expect(node.wal.needsTruncation).toBe(true);
      const end = node.wal.flushLsn;
      expectSameBytes(await readAll(node.wal, START, end), stream.slice(START, end));
    }
  });

  // Aim: truncation is durable, keeps the prefix, and a different tail can follow. Method: cut two segments back.
  suite("truncation keeps the prefix byte for byte and forgets the rest for good", async () => {
    const stream = new WalStream({ startLsn: START });
    while (stream.endLsn < START + BigInt(2 * MIB + MIB / 2)) stream.record(50_000);
    const node = await ready(make, stream);
    await append(node.wal, stream, stream.endLsn);
    await node.wal.flush();
    const cut = stream.boundaryBefore(START + 300_000n);
    await node.wal.truncate(cut);
    expect([node.wal.writeLsn, node.wal.writeRecordLsn, node.wal.flushLsn]).toEqual([cut, cut, cut]);
    expect(await readAll(node.wal, cut, stream.endLsn)).toEqual(new Uint8Array(0));
    const other = stream.fork(cut, 2).record(64).record(30_000);
    await append(node.wal, other, other.endLsn);
    await node.wal.flush();
    await node.restart(seededRandom(5));
    expect(formatLsn(node.wal.flushLsn)).toBe(formatLsn(other.endLsn));
    expectSameBytes(await readAll(node.wal, START, other.endLsn), other.slice(START, other.endLsn));
  });

  // Aim: a truncation needs no later sync to be durable. Method: cut, then a power cut that loses all that is unsynced.
  suite("a truncation is durable when it resolves", async () => {
    const stream = new WalStream({ startLsn: START }).record(100).record(100).record(100);
    const node = await ready(make, stream);
    const [, first] = stream.boundaries as [Lsn, Lsn];
    await append(node.wal, stream, stream.endLsn);
    await node.wal.flush();
    await node.wal.truncate(first);
    await node.restart(() => 0);
    expect(formatLsn(node.wal.flushLsn)).toBe(formatLsn(first));
  });

  // Aim: what a truncation keeps is durable, flushed before or not. Method: cut between unflushed records, power cut.
  suite("a truncation keeps unflushed records below its end durably", async () => {
    const stream = new WalStream({ startLsn: START }).record(100).record(9000).record(100);
    const node = await ready(make, stream);
    const [, , second] = stream.boundaries as [Lsn, Lsn, Lsn];
    await append(node.wal, stream, stream.endLsn);
    await node.wal.truncate(second);
    expect(node.wal.flushLsn).toBe(second);
    await node.restart(() => 0);
    expect(formatLsn(node.wal.flushLsn)).toBe(formatLsn(second));
  });

  // Aim: nothing to do costs nothing and clears nothing. Method: truncate at a clean end; beyond the end.
  suite("truncation at the clean end does nothing, beyond the end it is refused", async () => {
    const stream = new WalStream({ startLsn: START }).record().record();
    const { wal } = await ready(make, stream);
    const [, first] = stream.boundaries as [Lsn, Lsn];
    await append(wal, stream, first);
    await wal.flush();
    await wal.truncate(first);
    expect(wal.flushLsn).toBe(first);
    await expect(wal.truncate(at(first + 8n))).rejects.toThrow(RangeError);
    await expect(wal.truncate(at(0))).rejects.toThrow(RangeError);
    expect(wal.needsTruncation).toBe(false);
  });

  // Aim: a failed write leaves a store that can flush, vote and be repaired. Method: fail writes, then truncate.
  suite("after a failed write the store stands at its last flushed record until truncated", async () => {
    const stream = new WalStream({ startLsn: START }).record(100).record(100).record(100);
    const node = await ready(make, stream);
    const [, first, second, third] = stream.boundaries as [Lsn, Lsn, Lsn, Lsn];
    await append(node.wal, stream, first);
    await node.wal.flush();
    await append(node.wal, stream, second);
    node.fail("write", "ENOSPC");
    expect(await codeOf(appendAndFlush(node.wal, stream, third))).toBe("ERR_ACCEPTOR_NO_SPACE");
    expect([node.wal.writeLsn, node.wal.writeRecordLsn, node.wal.flushLsn]).toEqual([first, first, first]);
    await node.wal.flush();
    node.fail(undefined);
    expect(await codeOf(append(node.wal, stream, third))).toBe("ERR_ACCEPTOR_TRUNCATE_FIRST");
    await node.wal.truncate(first);
    await append(node.wal, stream, third);
    await node.wal.flush();
    expect(node.wal.flushLsn).toBe(third);
    expect(node.fatal).toEqual([]);
    await node.restart(() => 0);
    expect(node.wal.flushLsn).toBe(third);
  });

  // Aim: other write errors have their own code. Method: EIO.
  suite("an I/O error of a write is told apart from a full disk", async () => {
    const stream = new WalStream({ startLsn: START }).record();
    const node = await ready(make, stream);
    node.fail("write", "EIO");
    const code = node.hasDurableWrites ? "ERR_ACCEPTOR_POISONED" : "ERR_ACCEPTOR_IO";
    expect(await codeOf(appendAndFlush(node.wal, stream, stream.endLsn))).toBe(code);
    expect(node.wal.poisoned).toBe(node.hasDurableWrites);
    expect(node.fatal.length).toBe(node.hasDurableWrites ? 1 : 0);
    expect(node.wal.flushLsn).toBe(START);
  });

  // Aim: after a failed sync nothing is acknowledged ever again. Method: fail one flush, then let syncs succeed.
  suite("a failed sync poisons the store for good", async () => {
    const stream = new WalStream({ startLsn: START }).record().record();
    const node = await ready(make, stream);
    const [, first] = stream.boundaries as [Lsn, Lsn];
    await append(node.wal, stream, first);
    node.fail("sync");
    expect(await codeOf(node.wal.flush())).toBe("ERR_ACCEPTOR_POISONED");
    node.fail(undefined);
    expect(node.fatal.map(({ code }) => code)).toEqual(["ERR_ACCEPTOR_POISONED"]);
    expect(node.wal.flushLsn).toBe(START);
    expect(node.wal.poisoned).toBe(true);
    expect(await codeOf(node.wal.flush())).toBe("ERR_ACCEPTOR_POISONED");
    expect(await codeOf(append(node.wal, stream, stream.endLsn))).toBe("ERR_ACCEPTOR_POISONED");
    expect(await codeOf(node.wal.truncate(START))).toBe("ERR_ACCEPTOR_POISONED");
  });

  // Aim: WAL that does not decode is never acknowledged. Method: damage one byte of the second record.
  suite("invalid WAL fails the write and never counts", async () => {
    const stream = new WalStream({ startLsn: START }).record(100).record(100);
    const { wal } = await ready(make, stream);
    const [, first] = stream.boundaries as [Lsn, Lsn];
    const bytes = stream.slice(START, stream.endLsn);
    const damagedAt = Number(first - START) + 50;
    bytes[damagedAt] = (bytes[damagedAt] ?? 0) ^ 1;
    expect(await codeOf(wal.write(START, [bytes]))).toBe("ERR_ACCEPTOR_WAL_INVALID");
    await wal.flush();
    expect(wal.flushLsn).toBe(START);
    expect(wal.needsTruncation).toBe(true);
    await wal.truncate(START);
    await append(wal, stream, stream.endLsn);
    await wal.flush();
    expect(wal.flushLsn).toBe(stream.endLsn);
  });

  // Aim: WAL of another cluster or version does not get in. Method: a foreign system id in a segment header; PG 14.
  suite("WAL of another cluster or an unknown version is refused", async () => {
    const boundary = at(0x3100000n);
    const foreign = new WalStream({ startLsn: boundary, systemId: 1n }).record();
    const { wal } = await ready(make, new WalStream({ startLsn: boundary }));
    expect(await codeOf(append(wal, foreign, foreign.endLsn))).toBe("ERR_ACCEPTOR_WAL_INVALID");
    const server = { pgVersion: 140_000, systemId: 1n, segmentBytes: MIB };
    const old = await make(freshState({ startLsn: boundary, server }));
    await old.wal.truncate(boundary);
    expect(await codeOf(append(old.wal, foreign, foreign.endLsn))).toBe("ERR_ACCEPTOR_PG_VERSION");
  });

  // Aim: a switch record counts at once, and its segment ends in zeros. Method: flush right after the record, restart,
  // truncate at the next segment, read the whole rest.
  suite("a segment switch flushes to the next segment before its zeros arrive", async () => {
    const stream = new WalStream({ startLsn: START }).record(100);
    const dataEnd = stream.switchSegment();
    stream.record(50);
    const boundary = at(0x3100000n);
    const node = await ready(make, stream);
    await append(node.wal, stream, dataEnd);
    await node.wal.flush();
    expect([node.wal.writeLsn, node.wal.flushLsn]).toEqual([dataEnd, boundary]);
    await node.restart(() => 0);
    expect(node.wal.flushLsn).toBe(boundary);
    await node.wal.truncate(boundary);
    await append(node.wal, stream, stream.endLsn);
    await node.wal.flush();
    expectSameBytes(await readAll(node.wal, START, stream.endLsn), stream.slice(START, stream.endLsn));
  });

  // Aim: somebody waiting for a commit is noticed once. Method: plain, commit, plain.
  suite("the end of a transaction is reported once", async () => {
    const stream = new WalStream({ startLsn: START }).record().commit().record();
    const { wal } = await ready(make, stream);
    const [, first, second] = stream.boundaries as [Lsn, Lsn, Lsn];
    await append(wal, stream, first);
    expect(wal.takeTransactionEnd()).toBe(false);
    await append(wal, stream, second);
    expect(wal.takeTransactionEnd()).toBe(true);
    expect(wal.takeTransactionEnd()).toBe(false);
    await append(wal, stream, stream.endLsn);
    expect(wal.takeTransactionEnd()).toBe(false);
  });

  // Aim: removal takes old segments and never what recovery needs. Method: remove everything, then restart.
  suite("removal spares the segment of the durable commit position", async () => {
    const stream = new WalStream({ startLsn: START });
    while (stream.endLsn < START + BigInt(3 * MIB)) stream.record(60_000);
    const node = await ready(make, stream);
    await append(node.wal, stream, stream.endLsn);
    await node.wal.flush();
    expect(await node.wal.removeUpTo(1000n)).toBe(0);
    const commitLsn = stream.boundaryBefore(START + BigInt(2 * MIB + MIB / 2));
    await node.control.persist({ ...node.control.get(), commitLsn });
    const first = segmentNumber(START, MIB);
    expect(await node.wal.removeUpTo(first)).toBe(1);
    expect(node.wal.oldestSegment).toBe(first + 1n);
    expect(await node.wal.removeUpTo(1000n)).toBe(1);
    expect(node.wal.oldestSegment).toBe(segmentNumber(commitLsn, MIB));
    expect(await codeOf(readAll(node.wal, START, START + 8n))).toBe("ERR_ACCEPTOR_SEGMENT_REMOVED");
    await node.restart(() => 0);
    expect(node.wal.flushLsn).toBe(stream.endLsn);
    expectSameBytes(
      await readAll(node.wal, commitLsn, stream.endLsn),
      stream.slice(commitLsn, stream.endLsn),
    );
  });

  // Aim: WAL that starts inside a segment can be read from the segment's first byte. Method: bytes before the start
  // with the file there, and before it was made.
  suite("the bytes before the first record are page headers, in the file and without it", async () => {
    const start = at(0x3000000n + 0x6000n + 0x100n);
    const stream = new WalStream({ startLsn: start }).record();
    const untouched = await make(freshState({ startLsn: start }));
    const made = await readAll(untouched.wal, 0x3000000n, start);
    const { wal } = await ready(make, stream);
    await wal.initFirstSegment(start);
    await append(wal, stream, stream.endLsn);
    await wal.flush();
    const stored = await readAll(wal, 0x3000000n, start);
    expectSameBytes(stored, made);
    const view = new DataView(stored.buffer);
    expect([view.getUint16(0, true), view.getUint16(2, true)]).toEqual([0xd110, 2]);
    expect([view.getUint16(0x6000, true), view.getUint16(0x6002, true)]).toEqual([0xd110, 1]);
    expect(view.getUint32(0x6010, true)).toBe(0x100 - 24);
    expectSameBytes(await readAll(wal, start, stream.endLsn), stream.slice(start, stream.endLsn));
  });

  // Aim: directly behind a page header there is nothing to continue. Method: the continuation flag of that page.
  suite("a start right behind a page header continues nothing", async () => {
    const start = at(0x3000000n + 0x6000n + 24n);
    const { wal } = await ready(make, new WalStream({ startLsn: start }));
    const view = new DataView((await readAll(wal, 0x3000000n, start)).buffer);
    expect([view.getUint16(0x6000, true), view.getUint16(0x6002, true)]).toEqual([0xd110, 0]);
  });

  // Aim: misuse is loud. Method: two writes at once; calls after close; closing twice.
  suite("overlapping calls throw, and a closed store refuses everything", async () => {
    const stream = new WalStream({ startLsn: START }).record().record();
    const { wal } = await ready(make, stream);
    const [, first] = stream.boundaries as [Lsn, Lsn];
    const running = append(wal, stream, first);
    await expect(wal.flush()).rejects.toThrow("lock missing");
    await running;
    const reader = wal.openReader(START);
    await wal.close();
    await wal.close();
    expect(await codeOf(wal.flush())).toBe("ERR_ACCEPTOR_CLOSED");
    expect(await codeOf(reader.read(new Uint8Array(8)))).toBe("ERR_ACCEPTOR_CLOSED");
    await reader.close();
    await reader.close();
  });
}
