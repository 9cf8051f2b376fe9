/**
 * Seeded random numbers and messages for the fuzz tests: the same seed gives the same run on every machine.
 *
 * Numbers are drawn from the edges of their range as often as from its middle, because that is where codecs break.
 */
import type { Lsn } from "@millrace/lsn";
import { EMPTY_CONFIGURATION } from "../src/index.js";
import type {
  AcceptorMessage,
  Configuration,
  Member,
  PageserverFeedback,
  ProposerMessage,
  ProtocolVersion,
  TermLsn,
} from "../src/index.js";

const U64_EDGES = [0n, 1n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 8n, 2n ** 64n - 2n, 2n ** 64n - 1n];
const HOSTS = ["", "h", "acceptor-1.example.org", "::1", "søster", "主机", "\ufeffbom"];

/** xorshift32: period 2^32 - 1, cheap enough to make a million inputs in a second. */
export class SeededRandom {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0 || 1;
  }

  /** u32 other than 0. */
  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }

  below(bound: number): number {
    return this.next() % bound;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  chance(oneIn: number): boolean {
    return this.below(oneIn) === 0;
  }

  u32(): number {
    return this.chance(4) ? this.pick([0, 1, 0x7fffffff, 0x80000000, 0xffffffff]) : this.next();
  }

  u64(): bigint {
    return this.chance(3) ? this.pick(U64_EDGES) : (BigInt(this.next()) << 32n) | BigInt(this.next());
  }

  i64(): bigint {
    return BigInt.asIntN(64, this.u64());
  }

  lsn(): Lsn {
    return this.u64() as Lsn;
  }

  hex(): string {
    let text = "";
    for (let word = 0; word < 4; word += 1) text += this.next().toString(16).padStart(8, "0");
    return text;
  }

  bytes(count: number): Buffer {
    const bytes = Buffer.allocUnsafe(count);
    for (let index = 0; index < count; index += 1) bytes[index] = this.next();
    return bytes;
  }
}

function randomHistory(random: SeededRandom): TermLsn[] {
  return Array.from({ length: random.below(6) }, () => ({ term: random.u64(), lsn: random.lsn() }));
}

function randomMembers(random: SeededRandom, count: number): Member[] {
  const members = new Map<bigint, Member>();
  for (let index = 0; index < count; index += 1) {
    const nodeId = random.u64() || 7n;
    members.set(nodeId, { nodeId, host: random.pick(HOSTS), port: random.below(65536) });
  }
  return [...members.values()];
}

function randomConfiguration(random: SeededRandom, version: ProtocolVersion): Configuration {
  if (version === 2 || random.chance(4)) return EMPTY_CONFIGURATION;
  return {
    generation: random.u32(),
    members: randomMembers(random, 1 + random.below(5)),
    newMembers: random.chance(2) ? [] : randomMembers(random, random.below(4)),
  };
}

export function randomFeedback(random: SeededRandom): PageserverFeedback {
  return {
    currentTimelineSize: random.u64(),
    lastReceivedLsn: random.lsn(),
    diskConsistentLsn: random.lsn(),
    remoteConsistentLsn: random.lsn(),
    replyTime: random.i64(),
    shardNumber: random.chance(2) ? 0 : random.u32(),
    corruptionDetected: random.chance(2),
  };
}

export function randomProposerMessage(random: SeededRandom, version: ProtocolVersion): ProposerMessage {
  const generation = version === 2 ? 0 : random.u32();
  switch (random.below(4)) {
    case 0:
      return {
        type: "greeting",
        tenantId: random.hex(),
        timelineId: random.hex(),
        configuration: randomConfiguration(random, version),
        pgVersion: random.pick([0, 140000, 150018, 189999]),
        systemId: random.u64(),
        segmentBytes: random.u32(),
      };
    case 1:
      return { type: "vote-request", generation, term: random.u64() };
    case 2: {
      const history = randomHistory(random);
      return { type: "elected", generation, term: random.u64(), startStreamingAt: random.lsn(), history };
    }
    default: {
      const walData = random.bytes(random.chance(3) ? 0 : random.below(40));
      const end = random.u64();
      const endLsn = (end < 40n ? 40n : end) as Lsn;
      return {
        type: "append-request",
        generation,
        term: random.u64(),
        beginLsn: (endLsn - BigInt(walData.byteLength)) as Lsn,
        endLsn,
        commitLsn: random.lsn(),
        truncateLsn: random.lsn(),
        walData,
      };
    }
  }
}

export function randomAcceptorMessage(random: SeededRandom, version: ProtocolVersion): AcceptorMessage {
  const generation = version === 2 ? 0 : random.u32();
  switch (random.below(3)) {
    case 0: {
      const configuration = randomConfiguration(random, version);
      return { type: "greeting", nodeId: random.u64(), configuration, term: random.u64() };
    }
    case 1:
      return {
        type: "vote-response",
        generation,
        term: random.u64(),
        voteGiven: random.chance(2),
        flushLsn: random.lsn(),
        truncateLsn: random.lsn(),
        history: randomHistory(random),
      };
    default:
      return {
        type: "append-response",
        generation,
        term: random.u64(),
        flushLsn: random.lsn(),
        commitLsn: random.lsn(),
        hotStandby: { timestamp: random.i64(), xmin: random.u64(), catalogXmin: random.u64() },
        ...(random.chance(2) ? {} : { pageserver: randomFeedback(random) }),
      };
  }
}
