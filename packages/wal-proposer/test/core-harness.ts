/**
 * One ProposerCore and the other side of its conversation, message by message, for example tests.
 *
 * The defaults describe three acceptors without generations whose logs begin and end at LSN 1000 in term 0; a test
 * names only what matters to it. Every method returns the effects of its event.
 */
import type { Lsn } from "@millrace/lsn";
import { EMPTY_CONFIGURATION, NO_HOT_STANDBY_FEEDBACK } from "@millrace/wal-protocol";
import type {
  AcceptorMessage,
  AppendResponse,
  Configuration,
  TermHistory,
  TermLsn,
} from "@millrace/wal-protocol";
import { ProposerCore } from "../src/proposer-core.js";
import type { ProposerCoreOptions, ProposerEffect, ProposerEvent } from "../src/proposer-core.js";
import { lsn } from "./model-acceptor.js";

export const START = 1000;

type Effects = readonly ProposerEffect[];
type EffectOf<T extends ProposerEffect["type"]> = Extract<ProposerEffect, { readonly type: T }>;

export class Harness {
  readonly core: ProposerCore;
  nowMs = 0;

  constructor(options: Partial<ProposerCoreOptions> = {}) {
    this.core = new ProposerCore({
      tenantId: "00".repeat(16),
      timelineId: "11".repeat(16),
      pgVersion: 150018,
      systemId: 7n,
      segmentBytes: 1 << 20,
      acceptors: 3,
      bootstrapLsn: lsn(START),
      protocolVersion: 3,
      ...options,
    });
  }

  /** The core's generation, which honest acceptors repeat. */
  get generation(): number {
    return this.core.configuration?.generation ?? 0;
  }

  tick(passedMs = 0): Effects {
    this.nowMs += passedMs;
    return this.core.handle({ type: "tick", nowMs: this.nowMs });
  }

  message(acceptor: number, message: AcceptorMessage): Effects {
    return this.core.handle({ type: "message", acceptor, message, nowMs: this.nowMs });
  }

  event(
    event: { readonly type: "start-streaming" } | { readonly type: "wal-available"; readonly endLsn: Lsn },
  ): Effects {
    const timed: ProposerEvent = { ...event, nowMs: this.nowMs };
    return this.core.handle(timed);
  }

  connected(acceptor: number): Effects {
    return this.core.handle({ type: "connected", acceptor, nowMs: this.nowMs });
  }

  disconnected(acceptor: number): Effects {
    return this.core.handle({ type: "disconnected", acceptor, reason: "test", nowMs: this.nowMs });
  }

  greet(acceptor: number, { nodeId = acceptor + 1, term = 0n, configuration }: Greeting = {}): Effects {
    const known = configuration ?? this.core.configuration ?? EMPTY_CONFIGURATION;
    return this.message(acceptor, { type: "greeting", nodeId: BigInt(nodeId), configuration: known, term });
  }

  vote(acceptor: number, vote: Vote = {}): Effects {
    const { flush = START, history = terms([0, START]), given = true, truncate = 0, term, generation } = vote;
    return this.message(acceptor, {
      type: "vote-response",
      generation: generation ?? this.generation,
      term: term ?? this.core.term,
      voteGiven: given,
      flushLsn: lsn(flush),
      truncateLsn: lsn(truncate),
      history,
    });
  }

  ack(acceptor: number, flush: number, response: Partial<AppendResponse> = {}): Effects {
    return this.message(acceptor, {
      type: "append-response",
      generation: this.generation,
      term: this.core.term,
      flushLsn: lsn(flush),
      commitLsn: lsn(0),
      hotStandby: NO_HOT_STANDBY_FEEDBACK,
      ...response,
    });
  }

  /** From nothing to a greeting sent to each of `acceptors`. */
  open(acceptors: readonly number[]): void {
    this.tick();
    for (const acceptor of acceptors) this.connected(acceptor);
  }

  /** Gets the core elected by `acceptors`; gives the effects of the last vote. */
  elect(acceptors: readonly number[] = [0, 1], greeting: Greeting = {}, vote: Vote = {}): Effects {
    this.open(acceptors);
    for (const acceptor of acceptors) this.greet(acceptor, greeting);
    return acceptors.flatMap((acceptor) => this.vote(acceptor, vote));
  }

  /** Brings a further acceptor to streaming, in whatever state the election is. */
  join(acceptor: number, greeting: Greeting = {}, vote: Vote = {}): Effects {
    this.tick();
    this.connected(acceptor);
    this.greet(acceptor, { term: this.core.term, ...greeting });
    return this.vote(acceptor, vote);
  }

  reconnect(acceptor: number): void {
    this.disconnected(acceptor);
    this.tick(1000);
    this.connected(acceptor);
  }

  /** Hands all WAL up to `end` to an acceptor, as if the shell had sent it. */
  sendAll(acceptor: number, end: number): number {
    let requests = 0;
    while (this.core.nextAppend(acceptor, lsn(end)) !== undefined) requests += 1;
    return requests;
  }
}

interface Greeting {
  readonly nodeId?: number;
  readonly term?: bigint;
  readonly configuration?: Configuration;
}

interface Vote {
  readonly flush?: number;
  readonly history?: TermHistory;
  readonly given?: boolean;
  readonly truncate?: number;
  readonly term?: bigint;
  readonly generation?: number;
}

export function terms(...entries: readonly (readonly [number, number])[]): TermLsn[] {
  return entries.map(([term, start]) => ({ term: BigInt(term), lsn: lsn(start) }));
}

export function configuration(
  generation: number,
  members: readonly number[],
  newMembers: readonly number[] = [],
): Configuration {
  const set = (ids: readonly number[]): Configuration["members"] =>
    ids.map((id) => ({ nodeId: BigInt(id), host: `node${String(id)}`, port: 5454 }));
  return { generation, members: set(members), newMembers: set(newMembers) };
}

/** The effects of one type, in order. */
export function only<T extends ProposerEffect["type"]>(effects: Effects, type: T): EffectOf<T>[] {
  return effects.filter((effect): effect is EffectOf<T> => effect.type === type);
}

/** The message types sent to one acceptor, in order. */
export function sentTo(effects: Effects, acceptor: number): string[] {
  return only(effects, "send")
    .filter((effect) => effect.acceptor === acceptor)
    .map((effect) => effect.message.type);
}
