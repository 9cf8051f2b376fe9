import type { Lsn } from "@millrace/lsn";
import { effectiveHistory, streamingStart } from "@millrace/wal-protocol";
import type { AcceptorMessage, AppendRequest, TermHistory } from "@millrace/wal-protocol";
import fc from "fast-check";
import { expect, test } from "vitest";
import { createMemoryControlStore } from "../src/memory-control-store.js";
import { MemoryWalDisk } from "../src/memory-wal-disk.js";
import { createMemoryWalStore } from "../src/memory-wal-store.js";
import type { MemoryWalStep } from "../src/memory-wal-store.js";
import { SafekeeperCore } from "../src/safekeeper-core.js";
import type { WalStore } from "../src/wal-store.js";
import { at, expectSameBytes, freshState, ManualClock, seededRandom } from "./fixtures.js";
import { systemError } from "./memory-file-system.js";
import { WalStream } from "./wal-stream.js";

const START = at(0x3000000n + 0xf0000n + 0x88n);

/** What the world knows of a proposer that was elected once. */
interface Reign {
  readonly term: bigint;
  readonly history: TermHistory;
  readonly startLsn: Lsn;
  readonly log: WalStream;
}

/** Refusals that must leave everything as it was. */
const REFUSALS: ReadonlySet<unknown> = new Set([
  "ERR_ACCEPTOR_GENERATION_MISMATCH",
  "ERR_ACCEPTOR_BEFORE_ELECTED",
  "ERR_ACCEPTOR_GAP",
  "ERR_ACCEPTOR_REWRITE",
]);

/** Failures that may change state on the way: a started election, a write that hit a full disk. */
const EXPECTED_FAILURES: ReadonlySet<unknown> = new Set([
  "ERR_ACCEPTOR_TRUNCATION_POINT",
  "ERR_ACCEPTOR_TRUNCATE_FIRST",
  "ERR_ACCEPTOR_NO_SPACE",
  "ENOSPC",
]);

interface Step {
  readonly kind: number;
  readonly a: number;
  readonly b: number;
}

const clock = new ManualClock();

/** One acceptor, all proposers that ever were, and the dumbest account of what the acceptor has promised. */
class World {
  readonly #disk = new MemoryWalDisk();
  readonly #failing = new Set<MemoryWalStep | "persist">();
  #control = this.#openControl(freshState({ startLsn: START }));
  #wal: WalStore = this.#openWal();
  #core = this.#openCore();
  readonly #random: () => number;

  readonly reigns: Reign[];
  readonly #voted = new Set<bigint>();
  /** The acceptor must find its log at least this long after a crash. */
  #promised: Lsn = START;
  #highestTerm = 0n;
  #commitSeen: Lsn = START;
  /** What is committed, as the proposers know it: every later reign's log contains it. */
  #committed: { lsn: Lsn; term: bigint } = { lsn: START, term: 0n };
  /** Last term whose ProposerElected the acceptor has taken; undefined while a failure left that open. */
  #followed: bigint | undefined = 0n;
  readonly seen = { votes: 0, acks: 0, cuts: 0, restarts: 0, commits: 0 };

  constructor(seed: number) {
    this.#random = seededRandom(seed);
    this.reigns = [
      {
        term: 0n,
        history: [{ term: 0n, lsn: START }],
        startLsn: START,
        log: new WalStream({ startLsn: START }),
      },
    ];
  }

  async step({ kind, a, b }: Step): Promise<void> {
    const before = this.#snapshot();
    try {
      await this.#act(kind, a, b);
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      if (REFUSALS.has(code)) expect(this.#snapshot()).toEqual(before);
      else if (!EXPECTED_FAILURES.has(code)) throw error;
    }
    this.#failing.clear();
    await this.#check();
  }

  async #act(kind: number, a: number, b: number): Promise<void> {
    if (kind < 6) return this.#elect(a);
    if (kind < 20) return this.#announce(a, b);
    if (kind < 70) return this.#append(a, b, kind);
    if (kind < 80) return this.#flush();
    if (kind < 84) {
      await this.#vote(BigInt(a % (this.reigns.length + 2)));
      return undefined;
    }
    if (kind < 88) return this.#restart();
    if (kind < 89) {
      await this.#core.bumpTerm();
      return undefined;
    }
    if (kind < 94) return this.#core.checkpoint();
    if (kind < 97) return this.#peer();
    this.#failing.add(a % 3 === 0 ? "write" : a % 3 === 1 ? "cut" : "persist");
    return b % 2 === 0 ? this.#append(a, b, 40) : this.#announce(a, b);
  }

  // A new proposer wins: somewhere else, on any log that contains what is committed, or here, on this acceptor's log.
  async #elect(a: number): Promise<void> {
    const term =
      this.reigns.reduce((max, reign) => (reign.term > max ? reign.term : max), this.#core.state.term) + 1n;
    const vote = await this.#vote(term);
    const donors = this.reigns.filter((reign) => reign.term >= this.#committed.term);
    const donor = donors[a % donors.length];
    if (donor === undefined) throw new Error("nobody has what is committed");
    let history = donor.history;
    let ends = donor.log.boundaries.filter((lsn) => lsn >= this.#committed.lsn && lsn >= donor.startLsn);
    let log = donor.log;
    if (a % 3 === 0) {
      const own = this.#reign(this.#core.state.lastLogTerm);
      // Only if this acceptor has all that is committed could it be the donor.
      if (vote.flushLsn >= this.#committed.lsn && own.term >= this.#committed.term) {
        ({ history, log } = own);
        ends = [vote.flushLsn];
      }
    }
    const startLsn = ends[Math.floor(a / 7) % ends.length] ?? this.#committed.lsn;
    const next: Reign = {
      term,
      history: [...effectiveHistory(history, startLsn), { term, lsn: startLsn }],
      startLsn,
      log: log.fork(startLsn, Number(term)),
    };
    this.reigns.push(next);
  }

  async #vote(term: bigint): Promise<{ flushLsn: Lsn }> {
    const reply = await this.#process({ type: "vote-request", generation: 0, term });
    if (reply?.type !== "vote-response") throw new Error("no vote response");
    if (reply.voteGiven) {
      expect(this.#voted.has(term)).toBe(false);
      expect(reply.term).toBe(term);
      this.#voted.add(term);
      this.seen.votes += 1;
    } else {
      expect(reply.term >= term).toBe(true);
    }
    expect(reply.history).toEqual(effectiveHistory(this.#core.state.termHistory, reply.flushLsn));
    this.#promised = reply.flushLsn;
    return reply;
  }

  // ProposerElected of some reign, mostly the newest; sometimes with a start that was right long ago.
  async #announce(a: number, b: number): Promise<void> {
    const reign = a % 4 === 0 ? this.reigns[b % this.reigns.length] : this.reigns.at(-1);
    if (reign === undefined || reign.term === 0n) return;
    const { state } = this.#core;
    const right = streamingStart(reign.history, state.effectiveHistory, state.flushLsn).lsn;
    const start = b % 9 === 0 ? reign.log.boundaryBefore(START + BigInt(b * 31)) : right;
    const follows = reign.term >= state.term && start === right;
    if (follows) {
      if (start < this.#promised) this.seen.cuts += 1;
      this.#promised = start < this.#promised ? start : this.#promised;
      this.#followed = undefined;
    }
    await this.#process({
      type: "elected",
      generation: 0,
      term: reign.term,
      startStreamingAt: start,
      history: reign.history,
    });
    if (!follows) return;
    this.#followed = reign.term;
    expect(this.#core.state.writeLsn).toBe(start);
    expect(this.#core.state.termHistory).toEqual(reign.history);
  }

  async #append(a: number, b: number, kind: number): Promise<void> {
    const reign = a % 6 === 0 ? this.reigns[b % this.reigns.length] : this.reigns.at(-1);
    if (reign === undefined) return;
    const { log } = reign;
    const { state } = this.#core;
    const size = 24 + (a % 20 === 0 ? 30_000 : (a * 7) % 900);
    while (log.endLsn < state.writeLsn + BigInt(size)) log.record(size);
    let begin = state.writeLsn;
    if (b % 10 === 0) begin = at(log.startLsn + BigInt((a * 1009) % Number(log.endLsn - log.startLsn)));
    if (begin < log.startLsn) return;
    const generation = b % 37 === 5 ? 1 : 0;
    const end = at(begin + BigInt(b % 8 === 0 ? 0 : Math.min(size - (b % 5), Number(log.endLsn - begin))));
    const request: AppendRequest = {
      type: "append-request",
      generation,
      term: reign.term,
      beginLsn: begin,
      endLsn: end,
      commitLsn: this.#commitFor(reign),
      truncateLsn: at(0),
      walData: log.slice(begin, end),
    };
    const wanted = this.#judge(request);
    const refused = async (
      run: Promise<AcceptorMessage | undefined>,
    ): Promise<AcceptorMessage | undefined> => {
      try {
        const reply = await run;
        expect(wanted).toSatisfy((verdict: string) => verdict === "ok" || verdict === "stale");
        return reply;
      } catch (error) {
        const code = (error as { code?: unknown }).code;
        if (REFUSALS.has(code)) expect(code).toBe(wanted);
        throw error;
      }
    };
    const flush = kind % 2 === 0;
    const message = flush ? request : ({ ...request, type: "no-flush-append-request" } as const);
    const reply = await refused(this.#process(message));
    if (wanted === "stale") {
      expect(reply).toMatchObject({ flushLsn: 0n, commitLsn: 0n, term: this.#core.state.term });
      return;
    }
    if (flush) expect(reply).toBeDefined();
    this.#acknowledged(reply, reign);
  }

  // The rules for an append, as plainly as they can be said.
  #judge(request: AppendRequest): string {
    const { state } = this.#core;
    if (request.generation !== 0) return "ERR_ACCEPTOR_GENERATION_MISMATCH";
    if (state.term > request.term) return "stale";
    if (state.term < request.term || state.termHistory.at(-1)?.term !== request.term) {
      return "ERR_ACCEPTOR_BEFORE_ELECTED";
    }
    if (request.beginLsn < state.writeLsn) return "ERR_ACCEPTOR_REWRITE";
    return request.beginLsn > state.writeLsn ? "ERR_ACCEPTOR_GAP" : "ok";
  }

  async #flush(): Promise<void> {
    const { lastLogTerm } = this.#core.state;
    const reply = await this.#process({ type: "flush-wal" });
    const { state } = this.#core;
    const follows = this.#followed === state.term && state.termHistory.at(-1)?.term === state.term;
    this.#acknowledged(reply, this.#reign(follows ? state.term : lastLogTerm), follows);
  }

  // An acknowledgement is a promise; from the leader's own quorum of one it also makes a commit.
  #acknowledged(reply: AcceptorMessage | undefined, reign: Reign, counts = true): void {
    if (reply?.type !== "append-response") return;
    this.seen.acks += 1;
    expect(reply.flushLsn).toBe(this.#core.state.flushLsn);
    expect(reply.commitLsn).toBe(this.#core.state.persistedCommitLsn);
    this.#promised = reply.flushLsn;
    const newest = this.reigns.at(-1);
    const leads = counts && reign === newest && reply.term === reign.term && this.#followed === reign.term;
    if (leads && reply.flushLsn >= reign.startLsn && this.#random() < 0.1) {
      this.#committed = { lsn: reply.flushLsn, term: reign.term };
      this.seen.commits += 1;
    }
  }

  #commitFor(reign: Reign): Lsn {
    return reign.term >= this.#committed.term && reign.startLsn <= this.#committed.lsn
      ? this.#committed.lsn
      : at(0);
  }

  async #peer(): Promise<void> {
    const { state } = this.#core;
    const known = this.#reign(state.lastLogTerm);
    await this.#core.recordPeer({
      lastLogTerm: this.#committed.term,
      commitLsn: known.term === this.#committed.term ? this.#committed.lsn : at(0),
      backupLsn: at(0),
      remoteConsistentLsn: at(0),
      peerHorizonLsn: START,
    });
  }

  #restart(): void {
    this.#control.crash(this.#random);
    this.#disk.crash(this.#random);
    this.#control = this.#openControl(this.#control.durable);
    this.#wal = this.#openWal();
    this.#core = this.#openCore();
    this.seen.restarts += 1;
    this.#commitSeen = this.#core.state.commitLsn;
    if (this.#core.state.flushLsn > this.#promised) this.#promised = this.#core.state.flushLsn;
  }

  /** What holds after every step. */
  async #check(): Promise<void> {
    const { state } = this.#core;
    expect(state.flushLsn >= this.#promised).toBe(true);
    expect(state.term >= this.#highestTerm).toBe(true);
    this.#highestTerm = state.term;
    expect(state.commitLsn <= state.flushLsn).toBe(true);
    expect(state.persistedCommitLsn <= state.commitLsn).toBe(true);
    expect(state.commitLsn >= this.#commitSeen).toBe(true);
    this.#commitSeen = state.commitLsn;
    expect(this.#core.safetyViolations).toBe(0);
    state.effectiveHistory.forEach((entry, index, all) => {
      const before = all[index - 1];
      expect(before === undefined || (before.term < entry.term && before.lsn <= entry.lsn)).toBe(true);
      expect(this.#reign(entry.term).startLsn).toBe(entry.lsn);
    });
    // The log is what the proposer of its last term has written, from the first byte on.
    const { log } = this.#reign(state.lastLogTerm);
    expect(log.boundaries).toContain(state.flushLsn);
    expectSameBytes(await this.#read(state.flushLsn), log.slice(START, state.flushLsn));
  }

  async #read(end: Lsn): Promise<Uint8Array> {
    await using reader = this.#wal.openReader(START);
    const bytes = new Uint8Array(Number(end - START));
    for (let filled = 0; filled < bytes.byteLength;) filled += await reader.read(bytes.subarray(filled));
    return bytes;
  }

  #reign(term: bigint): Reign {
    const found = this.reigns.find((reign) => reign.term === term);
    if (found === undefined) throw new Error(`nobody was elected in term ${String(term)}`);
    return found;
  }

  #process(message: Parameters<SafekeeperCore["process"]>[0]): Promise<AcceptorMessage | undefined> {
    return this.#core.process(message);
  }

  #snapshot(): unknown {
    const { term, termHistory, writeLsn, flushLsn, commitLsn, peerHorizonLsn } = this.#core.state;
    return { term, termHistory, writeLsn, flushLsn, commitLsn, peerHorizonLsn };
  }

  #openControl(state: ReturnType<typeof freshState>) {
    return createMemoryControlStore(state, {
      beforePersist: () => {
        if (this.#failing.has("persist")) throw systemError("ENOSPC");
      },
    });
  }

  #openWal(): WalStore {
    return createMemoryWalStore({
      control: this.#control,
      disk: this.#disk,
      beforeStep: (step) => {
        if (this.#failing.has(step)) throw systemError("ENOSPC");
      },
    });
  }

  #openCore(): SafekeeperCore {
    return new SafekeeperCore({ control: this.#control, wal: this.#wal, nodeId: 1n, clock });
  }
}

// Aim: the promises of an acceptor hold over any order of elections, late and wrong messages, full disks and power
// cuts: one vote a term, nothing acknowledged is lost, the log is always a prefix of its last term's, refusals change
// nothing. Method: random steps against proposers that only ever do what a correct one could; after each step the
// whole log is compared with theirs.
test(
  "an acceptor keeps its promises over random elections, messages and crashes",
  { timeout: 240_000 },
  async () => {
    const steps = fc.array(
      fc.record({ kind: fc.nat({ max: 99 }), a: fc.nat({ max: 9999 }), b: fc.nat({ max: 9999 }) }),
      { minLength: 20, maxLength: 150, size: "max" },
    );
    const total = { votes: 0, acks: 0, cuts: 0, restarts: 0, commits: 0 };
    await fc.assert(
      fc.asyncProperty(fc.nat(), steps, async (seed, list) => {
        const world = new World(seed);
        for (const step of list) await world.step(step);
        for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += world.seen[key];
      }),
      { numRuns: 600 },
    );
    // Every interesting thing did happen.
    for (const [what, count] of Object.entries(total)) expect([what, count > 100]).toEqual([what, true]);
  },
);
