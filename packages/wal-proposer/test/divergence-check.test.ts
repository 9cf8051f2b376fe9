// The comparison of PostgreSQL's bytes with the acceptors', on invented logs and voters.
import { createHash } from "node:crypto";
import { addBytes, toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import fc from "fast-check";
import { expect, test } from "vitest";
import { checkDivergence, comparisonStart, wishedStart } from "../src/divergence-check.js";
import type { Voter } from "../src/divergence-check.js";
import { PrefixDigest } from "../src/prefix-digest.js";
import { FakeClock, settle } from "./harness/fake-clock.js";

const FROM = toLsn(0x500_0000n);
const at = (bytes: number): Lsn => addBytes(FROM, bytes);
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

function log(bytes: number): Buffer {
  return Buffer.from(Array.from({ length: bytes }, (_, index) => (index * 7) % 251));
}

/** A voter whose log is `bytes`, from FROM on. */
function voter(name: string, bytes: Buffer, endLsn: Lsn = at(bytes.byteLength)): Voter {
  return {
    name,
    endLsn,
    digest: async (from, until) => {
      if (until > at(bytes.byteLength)) throw new Error("not that WAL");
      return sha256(bytes.subarray(Number(from - FROM), Number(until - FROM)));
    },
  };
}

interface Run {
  readonly outcome: Promise<unknown>;
  readonly clock: FakeClock;
  readonly fed: Buffer[];
  closed: boolean;
}

/** Runs the check over `own`, which PostgreSQL sends in chunks, with some bytes that follow. */
function check(own: Buffer, voters: readonly Voter[], chunkBytes = 1000): Run {
  const clock = new FakeClock();
  const fed: Buffer[] = [];
  const sent = Buffer.concat([own, log(chunkBytes)]);
  let position = 0;
  const run: Run = { outcome: Promise.resolve(), clock, fed, closed: false };
  const stream = {
    next: async () => {
      const bytes = sent.subarray(position, position + chunkBytes);
      const startLsn = at(position);
      position += bytes.byteLength;
      return { startLsn, bytes };
    },
    close: () => {
      run.closed = true;
    },
  };
  const outcome = checkDivergence({
    fromLsn: FROM,
    termStartLsn: at(own.byteLength),
    voters: () => voters,
    stream,
    decoder: { feed: (bytes) => void fed.push(Buffer.from(bytes)) },
    retryMs: 1000,
    timeoutMs: 10_000,
    clock,
    signal: new AbortController().signal,
  }).catch((error: unknown) => error);
  return Object.assign(run, { outcome });
}

// Aim: equal logs pass whatever the chunks, and the decoder stands at the term's start. Method: three chunk sizes.
test("equal logs pass and the decoder has seen exactly the stretch", async () => {
  const own = log(70_001);
  for (const chunkBytes of [1, 999, 100_000]) {
    const run = check(own, [voter("a", own), voter("b", own)], chunkBytes);
    expect(await run.outcome).toBeUndefined();
    expect(sha256(Buffer.concat(run.fed))).toBe(sha256(own));
    expect(run.closed).toBe(true);
    expect(run.clock.pendingTimers).toBe(0);
  }
});

// Aim: a difference is found wherever it is, and the place that is named holds it. Method: one byte changes anywhere,
// logs of any length, one voter with the whole stretch or a shorter part of it.
test("one different byte is found and its place is named", async () => {
  const property = fc.asyncProperty(
    fc.integer({ min: 1, max: 3000 }),
    fc.nat(),
    fc.nat(),
    async (bytes, flipped, shorter) => {
      const own = log(bytes);
      const theirs = Buffer.from(own.subarray(0, bytes - (shorter % bytes)));
      const index = flipped % theirs.byteLength;
      theirs[index] = (theirs[index] ?? 0) ^ 0x80;
      const error = await check(own, [voter("good", own), voter("bad", theirs)]).outcome;
      expect(error).toMatchObject({ code: "ERR_BRIDGE_DIVERGED" });
      const place = /hold: bad differs between 0\/(\w+) and 0\/(\w+)\. .*agrees with good/.exec(
        String(error),
      );
      const [from, until] = [place?.[1], place?.[2]].map((digits) => BigInt(`0x${digits}`));
      expect(from !== undefined && from <= at(index)).toBe(true);
      expect(until !== undefined && until > at(index)).toBe(true);
      expect(Number((until ?? 0n) - (from ?? 0n))).toBeLessThanOrEqual(Math.ceil(bytes / 64));
    },
  );
  await fc.assert(property);
});

// Aim: an election that nobody could confirm does not pass. Method: voters that fail, answer nonsense, never answer,
// or hold only the beginning.
test("without one answer for the whole stretch the check fails, after five rounds", async () => {
  const own = log(5000);
  const asked: string[] = [];
  const broken = (name: string, digest: () => Promise<string>): Voter => ({
    name,
    endLsn: at(5000),
    digest: () => {
      asked.push(name);
      return digest();
    },
  });
  const run = check(own, [
    broken("down", () => Promise.reject(new Error("connection refused"))),
    broken("odd", async () => "no digest"),
    broken("silent", () => new Promise(() => undefined)),
    voter("short", own.subarray(0, 1000)),
  ]);
  await settle();
  for (let round = 0; round < 5; round += 1) {
    await run.clock.advance(10_000);
    await run.clock.advance(1000);
  }
  expect(await run.outcome).toMatchObject({ code: "ERR_BRIDGE_ACCEPTOR" });
  expect(asked.length).toBe(15);
  expect(run.clock.pendingTimers).toBe(0);
});

// Aim: a voter that cannot answer does not stop an election that another one confirms. Method: one of each.
test("one equal voter is enough", async () => {
  const own = log(5000);
  const down: Voter = { name: "down", endLsn: at(5000), digest: () => Promise.reject(new Error("refused")) };
  expect(await check(own, [down, voter("up", own)]).outcome).toBeUndefined();
});

// Aim: digests of prefixes are those of the prefixes. Method: random ends and chunks against hashing each prefix alone.
test("a prefix digest agrees with hashing each prefix", () => {
  const bytes = log(500);
  const ends = fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 20, size: "max" });
  const chunks = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 50, size: "max" });
  fc.assert(
    fc.property(ends, chunks, (wanted, sizes) => {
      const digest = new PrefixDigest(FROM, wanted.map(at));
      let position = 0;
      for (let i = 0; position < bytes.byteLength; i += 1) {
        const size = sizes[i % sizes.length] ?? 1;
        digest.add(bytes.subarray(position, position + size));
        position += size;
      }
      expect(digest.complete).toBe(true);
      for (const end of wanted) expect(digest.at(at(end))).toBe(sha256(bytes.subarray(0, end)));
    }),
  );
});

// Aim: the stretch begins with the segment of the commit, but not too far below the term's start. Method: cases.
test("the comparison begins where its header says", () => {
  const MIB = 1024 * 1024;
  const lsn = (mib: number, bytes = 0): Lsn => toLsn(BigInt(mib * MIB + bytes));
  const base = {
    beginLsn: lsn(16),
    termStartLsn: lsn(100, 5000),
    commitLsn: lsn(99, 10),
    truncateLsn: lsn(90, 10),
    windowBytes: 64 * MIB,
    segmentBytes: MIB,
  };
  expect(comparisonStart(base)).toBe(lsn(99));
  expect(comparisonStart({ ...base, commitLsn: lsn(0) })).toBe(lsn(90));
  expect(comparisonStart({ ...base, commitLsn: lsn(20), truncateLsn: lsn(20) })).toBe(lsn(36));
  expect(comparisonStart({ ...base, windowBytes: 3000 })).toBe(lsn(100));
  // A term that starts with a segment, all of it committed.
  expect(comparisonStart({ ...base, termStartLsn: lsn(100), commitLsn: lsn(100) })).toBe(lsn(99));
  expect(comparisonStart({ ...base, beginLsn: lsn(99, 24) })).toBe(lsn(99, 24));
  expect(comparisonStart({ ...base, beginLsn: lsn(100), termStartLsn: lsn(100) })).toBe(lsn(100));
  expect(
    comparisonStart({
      ...base,
      beginLsn: lsn(1),
      termStartLsn: lsn(3),
      commitLsn: lsn(0),
      truncateLsn: lsn(0),
    }),
  ).toBe(lsn(1));
});

// Aim: right behind a segment's start there is still something to compare, and never less than the rule asks for. Method:
// cases around the wish of 1 MiB.
test("the comparison reaches back further than it has to where that would be little", () => {
  const MIB = 1024 * 1024;
  const lsn = (mib: number, bytes = 0): Lsn => toLsn(BigInt(mib * MIB + bytes));
  const base = {
    beginLsn: lsn(16),
    termStartLsn: lsn(100, 100),
    commitLsn: lsn(100, 50),
    truncateLsn: lsn(90),
    windowBytes: 64 * MIB,
    segmentBytes: MIB,
  };
  expect(comparisonStart(base)).toBe(lsn(100));
  expect(wishedStart(base)).toBe(lsn(99));
  expect(wishedStart({ ...base, termStartLsn: lsn(100, 10_000) })).toBe(lsn(99, 8192));
  expect(wishedStart({ ...base, commitLsn: lsn(95) })).toBe(lsn(95)); // the rule reaches further
  expect(wishedStart({ ...base, beginLsn: lsn(99, 24) })).toBe(lsn(99, 24));
  expect(wishedStart({ ...base, windowBytes: 3000 })).toBe(lsn(99, MIB - 8192));
  expect(wishedStart({ ...base, beginLsn: lsn(100, 100) })).toBe(lsn(100, 100));
});
