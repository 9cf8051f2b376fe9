import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Lsn } from "@millrace/lsn";
import { EMPTY_CONFIGURATION, NO_HOT_STANDBY_FEEDBACK } from "@millrace/wal-protocol";
import type {
  AcceptorMessage,
  AppendResponse,
  Configuration,
  Member,
  ProposerGreeting,
  TermHistory,
  VoteResponse,
} from "@millrace/wal-protocol";
import { expect, test } from "vitest";
import { createMemoryControlStore } from "../src/memory-control-store.js";
import type { MemoryControlStore } from "../src/memory-control-store.js";
import { MemoryWalDisk } from "../src/memory-wal-disk.js";
import { createMemoryWalStore } from "../src/memory-wal-store.js";
import type { MemoryWalStep } from "../src/memory-wal-store.js";
import type { PersistentState } from "../src/persistent-state.js";
import { SAFETY_VIOLATION_CHANNEL, SafekeeperCore } from "../src/safekeeper-core.js";
import type { SafekeeperCoreOptions } from "../src/safekeeper-core.js";
import type { WalStore } from "../src/wal-store.js";
import {
  at,
  codeOf,
  expectSameBytes,
  freshState,
  ManualClock,
  SYSTEM_ID,
  TENANT,
  TIMELINE,
} from "./fixtures.js";
import { systemError } from "./memory-file-system.js";
import { MIB, WalStream } from "./wal-stream.js";

const L0 = at(0x3000088n);
const NODE = 1n;

/** An acceptor on memory, and what its proposer would send it. */
class Acceptor {
  readonly clock = new ManualClock();
  readonly disk = new MemoryWalDisk();
  /** Disk steps that fail, with their errno. */
  readonly failing = new Map<MemoryWalStep | "persist", string>();
  control: MemoryControlStore;
  wal: WalStore;
  core: SafekeeperCore;
  readonly #options: Partial<SafekeeperCoreOptions>;

  constructor(state: PersistentState, options: Partial<SafekeeperCoreOptions> = {}) {
    this.#options = options;
    this.control = this.#openControl(state);
    this.wal = this.#openWal();
    this.core = this.#openCore();
  }

  /** Power cut; without `keep` every unsynced page is lost. */
  restart(keep = 0): this {
    this.control.crash(() => keep);
    this.disk.crash(() => keep);
    this.control = this.#openControl(this.control.durable);
    this.wal = this.#openWal();
    this.core = this.#openCore();
    return this;
  }

  get generation(): number {
    return this.control.get().configuration.generation;
  }

  greet(change: Partial<ProposerGreeting> = {}): Promise<AcceptorMessage | undefined> {
    return this.core.process({
      type: "greeting",
      tenantId: TENANT,
      timelineId: TIMELINE,
      configuration: EMPTY_CONFIGURATION,
      pgVersion: 150_018,
      systemId: SYSTEM_ID,
      segmentBytes: MIB,
      ...change,
    });
  }

  async vote(term: bigint, generation = this.generation): Promise<VoteResponse> {
    const reply = await this.core.process({ type: "vote-request", generation, term });
    if (reply?.type !== "vote-response") throw new Error("no vote response");
    return reply;
  }

  elect(
    term: bigint,
    startStreamingAt: bigint,
    history: TermHistory,
    generation = this.generation,
  ): Promise<AcceptorMessage | undefined> {
    return this.core.process({
      type: "elected",
      generation,
      term,
      startStreamingAt: at(startStreamingAt),
      history,
    });
  }

  /** Appends [begin, end) of the stream, with a sync unless told otherwise. */
  async append(
    term: bigint,
    stream: WalStream,
    begin: bigint,
    end: bigint,
    more: { commitLsn?: bigint; truncateLsn?: bigint; generation?: number; flush?: boolean } = {},
  ): Promise<AppendResponse | undefined> {
    const reply = await this.core.process({
      type: more.flush === false ? "no-flush-append-request" : "append-request",
      generation: more.generation ?? this.generation,
      term,
      beginLsn: at(begin),
      endLsn: at(end),
      commitLsn: at(more.commitLsn ?? 0n),
      truncateLsn: at(more.truncateLsn ?? 0n),
      walData: stream.slice(begin, end),
    });
    if (reply !== undefined && reply.type !== "append-response") throw new Error("no append response");
    return reply;
  }

  async log(from: bigint, to: bigint): Promise<Uint8Array> {
    await using reader = this.wal.openReader(at(from));
    const bytes = new Uint8Array(Number(to - from));
    for (let filled = 0; filled < bytes.byteLength;) {
      const count = await reader.read(bytes.subarray(filled));
      if (count === 0) return bytes.subarray(0, filled);
      filled += count;
    }
    return bytes;
  }

  #fail(step: MemoryWalStep | "persist"): void {
    const errno = this.failing.get(step);
    if (errno !== undefined) throw systemError(errno);
  }

  #openControl(state: PersistentState): MemoryControlStore {
    return createMemoryControlStore(state, { beforePersist: () => this.#fail("persist") });
  }

  #openWal(): WalStore {
    return createMemoryWalStore({
      control: this.control,
      disk: this.disk,
      beforeStep: (step) => this.#fail(step),
    });
  }

  #openCore(): SafekeeperCore {
    const { control, wal, clock } = this;
    return new SafekeeperCore({ control, wal, nodeId: NODE, clock, ...this.#options });
  }
}

function history(...entries: readonly (readonly [bigint, bigint])[]): TermHistory {
  return entries.map(([term, lsn]) => ({ term, lsn: at(lsn) }));
}

function stream(...bodies: readonly number[]): WalStream {
  const made = new WalStream({ startLsn: L0 });
  for (const bytes of bodies) made.record(bytes);
  return made;
}

/** An explicitly created acceptor that follows the proposer of term 1 from L0 on. */
async function following(made: WalStream, options: Partial<SafekeeperCoreOptions> = {}): Promise<Acceptor> {
  const acceptor = new Acceptor(freshState({ startLsn: made.startLsn }), options);
  await acceptor.vote(1n);
  await acceptor.elect(1n, made.startLsn, history([0n, made.startLsn], [1n, made.startLsn]));
  return acceptor;
}

const members = (...ids: readonly number[]): readonly Member[] =>
  ids.map((id) => ({ nodeId: BigInt(id), host: `h${String(id)}`, port: 5454 }));

const configuration = (generation: number, ...ids: readonly number[]): Configuration => ({
  generation,
  members: members(...ids),
  newMembers: [],
});

// Aim: the first conversation of an explicit timeline. Method: greeting, vote, elected at its start.
test("a fresh cluster elects its first proposer without a record", async () => {
  const acceptor = new Acceptor(freshState({ startLsn: L0 }));
  expect(await acceptor.greet()).toEqual({
    type: "greeting",
    nodeId: NODE,
    configuration: EMPTY_CONFIGURATION,
    term: 0n,
  });
  expect(await acceptor.vote(1n)).toEqual({
    type: "vote-response",
    generation: 0,
    term: 1n,
    voteGiven: true,
    flushLsn: L0,
    truncateLsn: L0,
    history: history([0n, L0]),
  });
  expect(await acceptor.elect(1n, L0, history([0n, L0], [1n, L0]))).toBeUndefined();
  const { state } = acceptor.core;
  expect([state.lastLogTerm, state.flushLsn, state.termStartLsn, state.commitLsn]).toEqual([1n, L0, L0, L0]);
});

// Aim: a timeline made by a greeting learns its start from the first election, durably. Method: fields after elected.
test("an implicitly created timeline learns where it begins", async () => {
  const acceptor = new Acceptor(freshState());
  const vote = await acceptor.vote(4n);
  expect([vote.flushLsn, vote.truncateLsn, vote.history]).toEqual([0n, 0n, []]);
  await acceptor.elect(4n, L0, history([4n, L0]));
  for (const found of [acceptor.core.state, acceptor.restart().core.state]) {
    expect(found.timelineStartLsn).toBe(L0);
    expect(found.localStartLsn).toBe(L0);
    expect(found.peerHorizonLsn).toBe(L0);
    expect([found.commitLsn, found.backupLsn, found.remoteConsistentLsn]).toEqual([L0, L0, L0]);
    expect([found.flushLsn, found.lastLogTerm]).toEqual([L0, 4n]);
  }
});

// Aim: greetings that do not belong here are refused before anything changes. Method: one wrong field at a time.
test.each([
  ["tenant", { tenantId: TIMELINE }, "ERR_ACCEPTOR_GREETING_MISMATCH", "tenant"],
  ["timeline", { timelineId: TENANT }, "ERR_ACCEPTOR_GREETING_MISMATCH", "timeline"],
  ["major version", { pgVersion: 160_001 }, "ERR_ACCEPTOR_GREETING_MISMATCH", "PostgreSQL version"],
  ["segment size", { segmentBytes: 2 * MIB }, "ERR_ACCEPTOR_GREETING_MISMATCH", "segment size"],
  ["system id", { systemId: 5n }, "ERR_ACCEPTOR_SYSTEM_ID_MISMATCH", "system ID"],
] as const)("a greeting with another %s is refused", async (_, change, code, word) => {
  const acceptor = new Acceptor(freshState({ startLsn: L0 }));
  const failure = await acceptor.greet(change).catch((error: unknown) => error as Error & { code: string });
  expect(failure).toMatchObject({ code });
  expect((failure as Error).message).toContain(word);
  expect(acceptor.control.persists).toBe(0);
});

// Aim: another minor version is the same server. Method: greet with it; nothing to write.
test("a minor version difference is no difference", async () => {
  const acceptor = new Acceptor(freshState({ startLsn: L0 }));
  await acceptor.greet({ pgVersion: 150_002 });
  await acceptor.greet({ systemId: 0n });
  expect(acceptor.control.persists).toBe(0);
});

// Aim: what is unknown is learned once, and adopting is possible where it is allowed. Method: both policies.
test("an unknown server is learned, a foreign one adopted only where that is allowed", async () => {
  const unknown = new Acceptor(freshState({ server: { pgVersion: 0, systemId: 0n, segmentBytes: MIB } }));
  await unknown.greet();
  expect(unknown.control.durable.server).toEqual({
    pgVersion: 150_018,
    systemId: SYSTEM_ID,
    segmentBytes: MIB,
  });
  const adopting = new Acceptor(freshState({ startLsn: L0 }), { onSystemIdMismatch: "adopt" });
  await adopting.greet({ systemId: 5n, pgVersion: 150_020 });
  expect(adopting.restart().core.state.server).toEqual({
    pgVersion: 150_020,
    systemId: 5n,
    segmentBytes: MIB,
  });
});

// Aim: one vote a term, also across a restart. Method: ask twice, restart, ask again, then with a higher term.
test("a term is voted for once, whoever asks and whatever happens between", async () => {
  const acceptor = new Acceptor(freshState({ startLsn: L0 }));
  expect((await acceptor.vote(5n)).voteGiven).toBe(true);
  expect(await acceptor.vote(5n)).toMatchObject({ voteGiven: false, term: 5n });
  acceptor.restart();
  expect(await acceptor.vote(5n)).toMatchObject({ voteGiven: false, term: 5n });
  expect(await acceptor.vote(4n)).toMatchObject({ voteGiven: false, term: 5n });
  expect(await acceptor.vote(6n)).toMatchObject({ voteGiven: true, term: 6n });
});

// Aim: no vote is answered that is not on disk. Method: the control file cannot be written.
test("a vote that cannot be made durable is not given", async () => {
  const acceptor = new Acceptor(freshState({ startLsn: L0 }));
  acceptor.failing.set("persist", "ENOSPC");
  await expect(acceptor.vote(5n)).rejects.toThrow("ENOSPC");
  acceptor.failing.clear();
  expect(acceptor.core.state.term).toBe(0n);
  expect((await acceptor.vote(5n)).voteGiven).toBe(true);
});

// Aim: a vote covers everything written before it. Method: append without sync, vote, cut the power.
test("a vote makes the log durable first", async () => {
  const made = stream(100, 100);
  const acceptor = await following(made);
  expect(await acceptor.append(1n, made, L0, made.endLsn, { flush: false })).toBeUndefined();
  expect(acceptor.core.state.flushLsn).toBe(L0);
  expect((await acceptor.vote(2n)).flushLsn).toBe(made.endLsn);
  expect(acceptor.restart().core.state.flushLsn).toBe(made.endLsn);
});

// Aim: after a vote for a higher term the old proposer changes nothing. Method: append in the old term.
test("an append of an older term gets the new term and nothing else", async () => {
  const made = stream(100, 100);
  const acceptor = await following(made);
  const [, first] = made.boundaries as [Lsn, Lsn];
  await acceptor.append(1n, made, L0, first);
  await acceptor.vote(9n);
  const reply = await acceptor.append(1n, made, first, made.endLsn, { commitLsn: first, truncateLsn: first });
  expect(reply).toEqual({
    type: "append-response",
    generation: 0,
    term: 9n,
    flushLsn: 0n,
    commitLsn: 0n,
    hotStandby: NO_HOT_STANDBY_FEEDBACK,
  });
  const { state } = acceptor.core;
  expect([state.writeLsn, state.commitLsn, state.peerHorizonLsn]).toEqual([first, L0, L0]);
});

// Aim: the same with a term learned in another way. Method: raise the term by hand, heartbeat of the old proposer.
test("a heartbeat after a term bump is told of the new term", async () => {
  const made = stream();
  const acceptor = await following(made);
  expect(await acceptor.core.bumpTerm(9n)).toEqual({ previousTerm: 1n, currentTerm: 9n });
  expect(await acceptor.core.bumpTerm(3n)).toEqual({ previousTerm: 9n, currentTerm: 9n });
  expect((await acceptor.append(1n, made, L0, L0))?.term).toBe(9n);
  expect(await acceptor.core.bumpTerm()).toEqual({ previousTerm: 9n, currentTerm: 10n });
  expect(acceptor.restart().core.state.term).toBe(10n);
  await expect(acceptor.core.bumpTerm(2n ** 64n)).rejects.toThrow(RangeError);
});

// Aim: WAL is taken only from the proposer whose history is in place. Method: append after the vote, before elected;
// append of a term never heard of.
test("an append before ProposerElected is refused", async () => {
  const made = stream(100);
  const acceptor = await following(made);
  await acceptor.vote(2n);
  for (const term of [2n, 3n]) {
    const failure = await acceptor.append(term, made, L0, made.endLsn).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "ERR_ACCEPTOR_BEFORE_ELECTED" });
    expect((failure as Error).message).toContain("before ProposerElected");
  }
  expect(acceptor.core.state.writeLsn).toBe(L0);
});

// Aim: the log is written in order, heartbeats included. Method: too early, too late, empty at both and at the end.
test("gaps and rewrites are refused, also by a heartbeat", async () => {
  const made = stream(100, 100, 100);
  const acceptor = await following(made);
  const [, first, second] = made.boundaries as [Lsn, Lsn, Lsn];
  await acceptor.append(1n, made, L0, first);
  const attempts = [
    [second, made.endLsn, "ERR_ACCEPTOR_GAP", "gap"],
    [L0, first, "ERR_ACCEPTOR_REWRITE", "rewrites"],
    [second, second, "ERR_ACCEPTOR_GAP", "gap"],
    [L0, L0, "ERR_ACCEPTOR_REWRITE", "rewrites"],
  ] as const;
  for (const [begin, end, code, word] of attempts) {
    const failure = await acceptor
      .append(1n, made, begin, end, { commitLsn: first })
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({ code });
    expect((failure as Error).message).toContain(word);
  }
  expect([acceptor.core.state.writeLsn, acceptor.core.state.commitLsn]).toEqual([first, L0]);
  const reply = await acceptor.append(1n, made, first, first, { commitLsn: first });
  expect([reply?.flushLsn, acceptor.core.state.commitLsn]).toEqual([first, first]);
});

// Aim: commit follows the log, never leads it and never goes back. Method: candidates ahead of flush, then lower.
test("commit is clipped to what is durable and never goes back", async () => {
  const made = stream(100, 100);
  const acceptor = await following(made);
  const [, first] = made.boundaries as [Lsn, Lsn];
  await acceptor.append(1n, made, L0, first, { commitLsn: made.endLsn });
  expect(acceptor.core.state.commitLsn).toBe(first);
  await acceptor.append(1n, made, first, first, { commitLsn: L0 });
  expect(acceptor.core.state.commitLsn).toBe(first);
  await acceptor.append(1n, made, first, made.endLsn, { flush: false, commitLsn: made.endLsn });
  expect(acceptor.core.state.commitLsn).toBe(first);
  await acceptor.core.process({ type: "flush-wal" });
  await acceptor.append(1n, made, made.endLsn, made.endLsn, { commitLsn: made.endLsn });
  expect(acceptor.core.state.commitLsn).toBe(made.endLsn);
});

// Aim: an answer only when it says something. Method: appends without sync inside a segment and over its border.
test("an append without sync answers only when a segment was completed", async () => {
  const made = stream(100);
  while (made.endLsn < 0x3000000n + BigInt(MIB) + 20_000n) made.record(40_000);
  const acceptor = await following(made);
  const inside = made.boundaryBefore(0x3000000n + BigInt(MIB) - 1n);
  expect(await acceptor.append(1n, made, L0, inside, { flush: false })).toBeUndefined();
  const reply = await acceptor.append(1n, made, inside, made.endLsn, { flush: false });
  expect(reply?.flushLsn).toBe(inside);
  const flushed = await acceptor.core.process({ type: "flush-wal" });
  expect(flushed).toMatchObject({ type: "append-response", flushLsn: made.endLsn, term: 1n });
});

// Aim: a run of requests equals the same requests one by one. Method: a good run; one that breaks in the middle.
test("a batch takes effect in order and stops at the first bad request", async () => {
  const made = stream(100, 100, 100);
  const [, first, second] = made.boundaries as [Lsn, Lsn, Lsn];
  const request = (begin: Lsn, end: Lsn, commitLsn: bigint) =>
    ({
      type: "append-request",
      generation: 0,
      term: 1n,
      beginLsn: begin,
      endLsn: end,
      commitLsn: at(commitLsn),
      truncateLsn: at(0),
      walData: made.slice(begin, end),
    }) as const;
  const whole = await following(made);
  const steps: MemoryWalStep[] = [];
  const run = [request(L0, first, 0n), request(first, second, L0), request(second, made.endLsn, L0)];
  const writes = countWrites(whole, steps);
  expect(await whole.core.appendBatch(run)).toBeUndefined();
  expect(writes()).toBe(1);
  expect(whole.core.state.writeLsn).toBe(made.endLsn);

  const broken = await following(made);
  const gap = [request(L0, first, 0n), request(second, made.endLsn, 0n)];
  expect(await codeOf(broken.core.appendBatch(gap))).toBe("ERR_ACCEPTOR_GAP");
  expect(broken.core.state.writeLsn).toBe(first);
  await broken.vote(2n);
  expect(await broken.core.appendBatch([request(first, second, 0n)])).toMatchObject({
    term: 2n,
    flushLsn: 0n,
  });
});

function countWrites(acceptor: Acceptor, steps: MemoryWalStep[]): () => number {
  const { wal } = acceptor;
  const write = wal.write.bind(wal);
  Object.defineProperty(wal, "write", {
    value: (lsn: Lsn, buffers: readonly Uint8Array[]) => {
      steps.push("write");
      return write(lsn, buffers);
    },
  });
  return () => steps.length;
}

// Aim: durable commit is what is acknowledged, and it is saved at the right moment only. Method: count control writes.
test("the first commit at or above the term's start is saved, later ones are not", async () => {
  const made = stream(100, 100, 100);
  const acceptor = await following(made);
  const [, first, second] = made.boundaries as [Lsn, Lsn, Lsn];
  await acceptor.append(1n, made, L0, first);
  await acceptor.vote(2n);
  await acceptor.elect(2n, first, history([0n, L0], [1n, L0], [2n, first]));
  const before = acceptor.control.persists;
  const early = await acceptor.append(2n, made, first, second, { commitLsn: L0 });
  expect([early?.commitLsn, acceptor.control.persists]).toEqual([L0, before]);
  const reached = await acceptor.append(2n, made, second, second, { commitLsn: first });
  expect([reached?.commitLsn, acceptor.control.persists]).toEqual([first, before + 1]);
  const later = await acceptor.append(2n, made, second, made.endLsn, { commitLsn: made.endLsn });
  expect([later?.commitLsn, acceptor.control.persists]).toEqual([first, before + 1]);
  expect(acceptor.core.state.commitLsn).toBe(made.endLsn);
  expect(acceptor.restart().core.state.commitLsn).toBe(first);
});

// Aim: a new term counts exactly from its start on, without a record. Method: last log term around that position.
test("the last log term changes when the log reaches the new term's start", async () => {
  const made = stream(100, 100, 100);
  const [, first, second] = made.boundaries as [Lsn, Lsn, Lsn];
  const acceptor = await following(made);
  await acceptor.append(1n, made, L0, first);
  await acceptor.vote(4n);
  await acceptor.elect(4n, first, history([0n, L0], [1n, L0], [4n, second]));
  expect(acceptor.core.state.lastLogTerm).toBe(1n);
  expect(acceptor.core.state.effectiveHistory).toEqual(history([0n, L0], [1n, L0]));
  await acceptor.append(4n, made, first, at(second - 8n));
  expect(acceptor.core.state.lastLogTerm).toBe(1n);
  await acceptor.append(4n, made, at(second - 8n), second);
  expect([acceptor.core.state.lastLogTerm, acceptor.core.state.flushLsn]).toEqual([4n, second]);
  expect(acceptor.core.state.termHistory).toHaveLength(3);
});

// Aim: a lagging acceptor keeps all it has. Method: its log is a prefix of the new proposer's.
test("a lagging acceptor is streamed from its own end", async () => {
  const made = stream(100, 100, 100);
  const [, first] = made.boundaries as [Lsn, Lsn];
  const acceptor = await following(made);
  await acceptor.append(1n, made, L0, first);
  await acceptor.vote(4n);
  await acceptor.elect(4n, first, history([0n, L0], [1n, L0], [4n, made.endLsn]));
  expect(acceptor.core.state.flushLsn).toBe(first);
  await acceptor.append(4n, made, first, made.endLsn);
  expect(acceptor.core.state.lastLogTerm).toBe(4n);
});

// Aim: a foreign tail goes, the common prefix stays byte for byte. Method: a log of a dead term-2 proposer meets the
// winner of term 4, whose log parted at the end of term 1.
test("a divergent tail is cut and replaced", async () => {
  const ours = stream(100, 100, 5000);
  const [, shared] = ours.boundaries as [Lsn, Lsn];
  const acceptor = await following(ours);
  await acceptor.append(1n, ours, L0, shared);
  await acceptor.vote(2n);
  await acceptor.elect(2n, shared, history([0n, L0], [1n, L0], [2n, shared]));
  await acceptor.append(2n, ours, shared, ours.endLsn);
  const theirs = ours.fork(shared, 7).record(60).record(60);
  const vote = await acceptor.vote(4n);
  expect(vote.history).toEqual(history([0n, L0], [1n, L0], [2n, shared]));
  await acceptor.elect(4n, shared, history([0n, L0], [1n, L0], [3n, shared], [4n, theirs.endLsn]));
  expect(acceptor.core.state.flushLsn).toBe(shared);
  await acceptor.append(4n, theirs, shared, theirs.endLsn);
  expect(acceptor.core.state.lastLogTerm).toBe(4n);
  expectSameBytes(await acceptor.log(L0, theirs.endLsn), theirs.slice(L0, theirs.endLsn));
  acceptor.restart();
  expect(acceptor.core.state.flushLsn).toBe(theirs.endLsn);
});

// Aim: a divergent log that shares only the explicit start loses everything. Method: term 2 here, term 3 there, both
// from the start.
test("a log that never matched is cut to the common start", async () => {
  const ours = stream(100, 100, 100);
  const acceptor = new Acceptor(freshState({ startLsn: L0 }));
  await acceptor.vote(2n);
  await acceptor.elect(2n, L0, history([0n, L0], [2n, L0]));
  await acceptor.append(2n, ours, L0, ours.endLsn);
  await acceptor.vote(4n);
  const winner = history([0n, L0], [3n, L0], [4n, ours.boundaries[2] ?? L0]);
  expect(await codeOf(acceptor.elect(4n, ours.boundaries[2] ?? L0, winner))).toBe(
    "ERR_ACCEPTOR_TRUNCATION_POINT",
  );
  await acceptor.elect(4n, L0, winner);
  expect([acceptor.core.state.flushLsn, acceptor.core.state.lastLogTerm]).toEqual([L0, 3n]);
});

// Aim: a late message of a proposer's older connection changes nothing. Method: elected that was computed before an
// other connection appended.
test("a ProposerElected that was overtaken by appends is refused and a new one works", async () => {
  const made = stream(100, 100);
  const [, first] = made.boundaries as [Lsn, Lsn];
  const acceptor = await following(made);
  await acceptor.append(1n, made, L0, made.endLsn, { commitLsn: L0 });
  const persists = acceptor.control.persists;
  const failure = await acceptor
    .elect(1n, first, history([0n, L0], [1n, L0]))
    .catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: "ERR_ACCEPTOR_TRUNCATION_POINT" });
  expect((failure as Error).message).toContain("unexpected truncation point");
  expect([acceptor.core.state.flushLsn, acceptor.control.persists]).toEqual([made.endLsn, persists]);
  await acceptor.elect(1n, made.endLsn, history([0n, L0], [1n, L0]));
  expect(acceptor.core.state.flushLsn).toBe(made.endLsn);
});

// Aim: an older proposer's election is ignored without an error. Method: elected of a lower term.
test("a ProposerElected of an older term is ignored", async () => {
  const made = stream(100);
  const acceptor = await following(made);
  await acceptor.append(1n, made, L0, made.endLsn);
  await acceptor.vote(5n);
  expect(await acceptor.elect(3n, L0, history([3n, L0]))).toBeUndefined();
  expect([acceptor.core.state.term, acceptor.core.state.flushLsn]).toEqual([5n, made.endLsn]);
  expect(acceptor.core.state.termHistory).toEqual(history([0n, L0], [1n, L0]));
});

// Aim: committed WAL is never cut. Method: a proposer whose history contradicts what is committed; then anything else.
test("cutting below commit is refused loudly and stops the timeline", async () => {
  const made = stream(100, 100);
  const acceptor = await following(made);
  await acceptor.append(1n, made, L0, made.endLsn, { commitLsn: made.endLsn });
  const heard: unknown[] = [];
  const listen = (message: unknown): void => void heard.push(message);
  subscribe(SAFETY_VIOLATION_CHANNEL, listen);
  const rogue = acceptor.elect(7n, L0, history([0n, L0], [6n, L0], [7n, L0]));
  expect(await codeOf(rogue)).toBe("ERR_ACCEPTOR_SAFETY_VIOLATION");
  unsubscribe(SAFETY_VIOLATION_CHANNEL, listen);
  expect(heard).toMatchObject([{ tenantId: TENANT, timelineId: TIMELINE }]);
  expect(acceptor.core.safetyViolations).toBe(1);
  expect(acceptor.core.state.brokenReason).toContain("below what is committed");
  expect(acceptor.core.state.flushLsn).toBe(made.endLsn);
  expectSameBytes(await acceptor.log(L0, made.endLsn), made.slice(L0, made.endLsn));
  for (const call of [acceptor.vote(8n), acceptor.greet(), acceptor.core.checkpoint()]) {
    expect(await codeOf(call)).toBe("ERR_ACCEPTOR_BROKEN");
  }
  expect(acceptor.core.safetyViolations).toBe(1);
});

// Aim: histories that no proposer can have. Method: one flaw at a time; nothing is changed by any.
test.each([
  ["empty", history()],
  ["beginning at 0/0", history([0n, 0n], [2n, L0])],
  ["ending with another term", history([0n, L0], [1n, L0])],
  ["with terms out of order", history([0n, L0], [3n, L0], [2n, L0])],
  ["with positions going back", history([0n, L0], [1n, L0 + 800n], [2n, L0])],
  ["with another start of a shared term", history([0n, L0 + 8n], [2n, L0 + 8n])],
])("a term history %s is refused", async (_, bad) => {
  const acceptor = new Acceptor(freshState({ startLsn: L0 }));
  await acceptor.vote(2n);
  const persists = acceptor.control.persists;
  expect(await codeOf(acceptor.elect(2n, L0, bad))).toBe("ERR_ACCEPTOR_HISTORY_INVALID");
  expect(acceptor.control.persists).toBe(persists);
  expect(acceptor.core.state.termHistory).toEqual(history([0n, L0]));
});

// Aim: positions from the network are checked before they become file offsets. Method: unaligned, inside a header.
test("a start where no record can begin is refused", async () => {
  for (const start of [L0 + 1n, 0x3000010n, 0x3002008n]) {
    const acceptor = new Acceptor(freshState());
    expect(await codeOf(acceptor.elect(2n, start, history([2n, start])))).toBe(
      "ERR_ACCEPTOR_HISTORY_INVALID",
    );
  }
});

// Aim: without a common term nothing may be left out. Method: a proposer whose log begins behind this log's end.
test("a proposer whose log begins beyond ours is refused", async () => {
  const made = stream(100);
  const acceptor = await following(made);
  await acceptor.append(1n, made, L0, made.endLsn);
  const beyond = at(0x3100000n);
  const attempt = acceptor.elect(9n, beyond, history([9n, beyond]));
  expect(await codeOf(attempt)).toBe("ERR_ACCEPTOR_TRUNCATION_POINT");
  expect(acceptor.core.state.flushLsn).toBe(made.endLsn);
});

// Aim: the log is cut before it gets its new labels. Method: fail the control write after the cut, restart.
test("a crash between cut and control write leaves the old labels", async () => {
  const made = stream(100, 100);
  const [, first] = made.boundaries as [Lsn, Lsn];
  const acceptor = await following(made);
  await acceptor.append(1n, made, L0, made.endLsn);
  await acceptor.vote(3n);
  acceptor.failing.set("persist", "EIO");
  const next = history([0n, L0], [1n, L0], [2n, first], [3n, first]);
  await expect(acceptor.elect(3n, first, next)).rejects.toThrow("EIO");
  acceptor.failing.clear();
  acceptor.restart();
  const { state } = acceptor.core;
  expect([state.flushLsn, state.lastLogTerm, state.term]).toEqual([first, 1n, 3n]);
  await acceptor.elect(3n, first, next);
  expect(acceptor.core.state.lastLogTerm).toBe(3n);
});

// Aim: a minority acceptor with a longer, uncommitted log follows the leader. Method: it joins late in a new term.
test("a longer uncommitted log yields to the elected proposer", async () => {
  const ours = stream(100, 100, 100, 100);
  const [, first] = ours.boundaries as [Lsn, Lsn];
  const acceptor = await following(ours);
  await acceptor.append(1n, ours, L0, ours.endLsn, { commitLsn: L0 });
  await acceptor.elect(2n, first, history([0n, L0], [1n, L0], [2n, first]));
  expect([acceptor.core.state.term, acceptor.core.state.flushLsn]).toEqual([2n, first]);
  const theirs = ours.fork(first, 5).record(10);
  await acceptor.append(2n, theirs, first, theirs.endLsn);
  expectSameBytes(await acceptor.log(L0, theirs.endLsn), theirs.slice(L0, theirs.endLsn));
});

// Aim: commit falls back with a restart and comes back with the next leader; nothing above it is known meanwhile.
// Method: commit in memory only, power cut, new term.
test("a commit position that was only in memory is lost by a restart and restored by the next term", async () => {
  const made = stream(100, 100);
  const acceptor = await following(made);
  await acceptor.append(1n, made, L0, made.endLsn, { commitLsn: made.endLsn });
  expect(acceptor.core.state.commitLsn).toBe(made.endLsn);
  acceptor.restart();
  expect([acceptor.core.state.commitLsn, acceptor.core.state.termStartLsn]).toEqual([L0, 0n]);
  expect(acceptor.core.state.flushLsn).toBe(made.endLsn);
  await acceptor.vote(2n);
  await acceptor.elect(2n, made.endLsn, history([0n, L0], [1n, L0], [2n, made.endLsn]));
  const reply = await acceptor.append(2n, made, made.endLsn, made.endLsn, { commitLsn: made.endLsn });
  expect(reply?.commitLsn).toBe(made.endLsn);
});

// Aim: every message of another generation is refused. Method: lower and higher, each kind.
test("a generation mismatch is refused in votes, elections and appends", async () => {
  const made = stream(100);
  const acceptor = new Acceptor(freshState({ startLsn: L0, configuration: configuration(5, 1, 2, 3) }));
  for (const generation of [0, 4, 6]) {
    const calls = [
      () => acceptor.vote(1n, generation),
      () => acceptor.elect(1n, L0, history([0n, L0], [1n, L0]), generation),
      () => acceptor.append(1n, made, L0, L0, { generation }),
    ];
    for (const call of calls) {
      const failure = await call().catch((error: unknown) => error);
      expect(failure).toMatchObject({ code: "ERR_ACCEPTOR_GENERATION_MISMATCH" });
      expect((failure as Error).message).toContain("generation mismatch");
    }
  }
  expect(acceptor.control.persists).toBe(0);
  expect(await acceptor.vote(1n, 5)).toMatchObject({ voteGiven: true, generation: 5 });
});

// Aim: greetings carry configurations. Method: newer with us, newer without us, joint with us, same, older.
test("a greeting switches to a newer configuration that lists this node", async () => {
  const acceptor = new Acceptor(freshState({ startLsn: L0, configuration: configuration(5, 1, 2, 3) }));
  const seven = configuration(7, 1, 4, 5);
  expect(await acceptor.greet({ configuration: seven })).toMatchObject({ configuration: seven });
  expect(await codeOf(acceptor.greet({ configuration: configuration(8, 2, 3) }))).toBe(
    "ERR_ACCEPTOR_NOT_A_MEMBER",
  );
  expect(await acceptor.greet({ configuration: configuration(6, 1) })).toMatchObject({
    configuration: seven,
  });
  expect(await acceptor.greet({ configuration: configuration(7, 9) })).toMatchObject({
    configuration: seven,
  });
  const joint: Configuration = { generation: 9, members: members(2, 3), newMembers: members(1, 3) };
  expect(await acceptor.greet({ configuration: joint })).toMatchObject({ configuration: joint });
  expect(acceptor.restart().core.state.configuration).toEqual(joint);
});

// Aim: an explicit switch says where this log stands. Method: switch up, repeat, switch down, an impossible one.
test("a membership switch is durable and reports the log's rank", async () => {
  const made = stream(100);
  const acceptor = await following(made);
  await acceptor.append(1n, made, L0, made.endLsn);
  await acceptor.core.bumpTerm(6n);
  const two = configuration(2, 1, 2, 3);
  const result = { lastLogTerm: 1n, flushLsn: made.endLsn };
  expect(await acceptor.core.switchMembership(two)).toEqual({
    previous: EMPTY_CONFIGURATION,
    current: two,
    ...result,
  });
  acceptor.restart();
  expect(await acceptor.core.switchMembership(two)).toEqual({ previous: two, current: two, ...result });
  expect(await acceptor.core.switchMembership(configuration(1, 1))).toEqual({
    previous: two,
    current: two,
    ...result,
  });
  expect(
    await codeOf(acceptor.core.switchMembership({ ...two, generation: 3, members: members(1, 1) })),
  ).toBe("ERR_PROTOCOL_CONFIGURATION");
  expect(await codeOf(acceptor.append(1n, made, made.endLsn, made.endLsn, { generation: 0 }))).toBe(
    "ERR_ACCEPTOR_GENERATION_MISMATCH",
  );
});

// Aim: peers help only where that is safe. Method: commit from a peer of the same and of another last log term.
test("a peer's commit counts only if its log ends in the same term", async () => {
  const made = stream(100, 100);
  const [, first] = made.boundaries as [Lsn, Lsn];
  const acceptor = await following(made);
  await acceptor.append(1n, made, L0, first);
  const peer = {
    commitLsn: made.endLsn,
    backupLsn: at(0),
    remoteConsistentLsn: at(0),
    peerHorizonLsn: at(0),
  };
  await acceptor.core.recordPeer({ ...peer, lastLogTerm: 2n });
  expect(acceptor.core.state.commitLsn).toBe(L0);
  await acceptor.core.recordPeer({ ...peer, lastLogTerm: 1n });
  expect(acceptor.core.state.commitLsn).toBe(first);
});

// Aim: horizons move up only, and are saved when they are a segment ahead. Method: small and large steps.
test("horizons that ran a segment ahead are saved at once", async () => {
  const acceptor = await following(stream());
  const before = acceptor.control.persists;
  const peer = {
    lastLogTerm: 0n,
    commitLsn: at(0),
    backupLsn: L0,
    remoteConsistentLsn: L0,
    peerHorizonLsn: L0,
  };
  await acceptor.core.recordPeer({ ...peer, peerHorizonLsn: at(L0 + BigInt(MIB)) });
  expect([acceptor.control.persists, acceptor.core.dirty]).toEqual([before, true]);
  await acceptor.core.recordPeer({ ...peer, backupLsn: at(L0 + BigInt(MIB) + 8n) });
  expect([acceptor.control.persists, acceptor.core.dirty]).toEqual([before + 1, false]);
  acceptor.core.recordRemoteConsistentLsn(at(L0 + 8n));
  acceptor.core.recordRemoteConsistentLsn(L0);
  expect(acceptor.core.state.remoteConsistentLsn).toBe(L0 + 8n);
  await acceptor.core.checkpoint();
  const durable = acceptor.restart().core.state;
  expect([durable.peerHorizonLsn, durable.backupLsn]).toEqual([L0 + BigInt(MIB), L0 + BigInt(MIB) + 8n]);
  expect(durable.remoteConsistentLsn).toBe(L0 + 8n);
});

// Aim: the periodic save happens when it is due, and not more often. Method: a clock moved by hand.
test("the control file is saved 300 s after its last write, or a segment behind commit", async () => {
  const made = stream(100);
  while (made.endLsn < L0 + BigInt(MIB) + 90_000n) made.record(50_000);
  const [, first] = made.boundaries as [Lsn, Lsn];
  const acceptor = await following(made);
  const { core, clock } = acceptor;
  clock.nowMs = 1_000_000;
  expect(await core.maybePersist(clock.monotonicMs())).toBe(false);
  await acceptor.append(1n, made, L0, first, { commitLsn: first });
  await core.bumpTerm(1n);
  expect(await core.maybePersist(clock.monotonicMs())).toBe(true);
  await acceptor.append(1n, made, first, made.boundaries[2] ?? first, {
    commitLsn: made.boundaries[2] ?? first,
  });
  clock.nowMs += 299_999;
  expect(await core.maybePersist(clock.monotonicMs())).toBe(false);
  clock.nowMs += 1;
  expect(await core.maybePersist(clock.monotonicMs())).toBe(true);
  expect(await core.maybePersist(clock.monotonicMs())).toBe(false);
  const end = made.endLsn;
  await acceptor.append(1n, made, made.boundaries[2] ?? first, end, { commitLsn: end });
  expect(await core.maybePersist(clock.monotonicMs())).toBe(true);
  expect(acceptor.control.durable.commitLsn).toBe(end);
});

// Aim: a full disk stops appends and nothing else. Method: fail the write; heartbeat, vote and election go on.
test("on a full disk votes and heartbeats are answered, and an election repairs the log", async () => {
  const made = stream(100, 100);
  const [, first] = made.boundaries as [Lsn, Lsn];
  const acceptor = await following(made);
  await acceptor.append(1n, made, L0, first);
  acceptor.failing.set("write", "ENOSPC");
  const failure = await acceptor.append(1n, made, first, made.endLsn).catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: "ERR_ACCEPTOR_NO_SPACE", sqlState: "53100" });
  const beat = await acceptor.append(1n, made, first, first, { commitLsn: first });
  expect(beat?.flushLsn).toBe(first);
  expect(acceptor.core.state.commitLsn).toBe(first);
  expect(await acceptor.vote(2n)).toMatchObject({ voteGiven: true, flushLsn: first });
  acceptor.failing.clear();
  expect(await codeOf(acceptor.append(2n, made, first, made.endLsn))).toBe("ERR_ACCEPTOR_BEFORE_ELECTED");
  await acceptor.elect(2n, first, history([0n, L0], [1n, L0], [2n, first]));
  expect((await acceptor.append(2n, made, first, made.endLsn))?.flushLsn).toBe(made.endLsn);
});

// Aim: after a failed sync no acknowledgement leaves any more. Method: fail it once, then try everything.
test("after a failed sync nothing is acknowledged", async () => {
  const made = stream(100);
  const acceptor = await following(made);
  acceptor.failing.set("sync", "EIO");
  expect(await codeOf(acceptor.append(1n, made, L0, made.endLsn))).toBe("ERR_ACCEPTOR_POISONED");
  acceptor.failing.clear();
  const calls = [
    () => acceptor.append(1n, made, made.endLsn, made.endLsn),
    () => acceptor.vote(2n),
    () => acceptor.core.process({ type: "flush-wal" }),
    () => acceptor.elect(1n, L0, history([0n, L0], [1n, L0])),
  ];
  for (const call of calls) expect(await codeOf(call())).toBe("ERR_ACCEPTOR_POISONED");
});

// Aim: a missing lock cannot go unseen, even where the stores would not notice. Method: two term bumps at once.
test("overlapping handlers throw", async () => {
  const acceptor = new Acceptor(freshState({ startLsn: L0 }));
  const first = acceptor.core.bumpTerm(1n);
  await expect(acceptor.core.bumpTerm(2n)).rejects.toThrow("lock missing");
  expect(await first).toEqual({ previousTerm: 0n, currentTerm: 1n });
  expect((await acceptor.vote(2n)).voteGiven).toBe(true);
});

// Aim: standbys' feedback reaches the proposer. Method: an injected source.
test("append responses carry the hot-standby feedback of the moment", async () => {
  const feedback = { timestamp: 5n, xmin: 700n, catalogXmin: 0n };
  const made = stream(100);
  const acceptor = await following(made, { hotStandbyFeedback: () => feedback });
  expect((await acceptor.append(1n, made, L0, made.endLsn))?.hotStandby).toBe(feedback);
});

// Aim: arguments of the program are checked. Method: impossible node ids, WAL of another length than its positions.
test("impossible arguments are refused", async () => {
  expect(() => new Acceptor(freshState(), { nodeId: 0n })).toThrow(RangeError);
  expect(() => new Acceptor(freshState(), { nodeId: 2n ** 64n })).toThrow(RangeError);
  const made = stream(100);
  const acceptor = await following(made);
  const request = {
    type: "append-request",
    generation: 0,
    term: 1n,
    beginLsn: L0,
    endLsn: made.endLsn,
    commitLsn: at(0),
    truncateLsn: at(0),
    walData: new Uint8Array(3),
  } as const;
  await expect(acceptor.core.process(request)).rejects.toThrow(RangeError);
});
