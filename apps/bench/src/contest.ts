/**
 * Runs contestants in alternating rounds and makes rows of what they did.
 *
 * In a round every contestant runs once, and the order is turned round from one round to the next (ABBA), so that a
 * machine that gets slower or faster meanwhile does it to all of them. A set of rounds in which a row's reference
 * wobbles is void for that row: the set is repeated, at most TRIES_MAX times in all, and the first set that counts is
 * kept. Nothing here knows what is measured.
 */
import { BenchError } from "./errors.js";
import type { Row, Side } from "./row.js";
import { median, spread } from "./statistics.js";
import { isVoid, ratioOf, TRIES_MAX, verdictOf } from "./verdict.js";
import type { Bound, Judge } from "./verdict.js";

/** What one run of one contestant gave for one measure. */
export interface Sample {
  /** More is better, above zero, in the row's unit. */
  readonly rate: number;
  /** Depends on all of the work's outcome. */
  readonly checksum: string;
  readonly details?: Readonly<Record<string, number>>;
}

/** Something that can do the work. */
export interface Contestant {
  readonly name: string;
  readonly command: string;
  /** Does the work once; gives a sample for each measure, in the contest's order of measures. */
  run(round: number): Promise<readonly Sample[]> | readonly Sample[];
}

/** Which two contestants a row compares, in which measure, and what is asked of the candidate. */
export interface RowSpec {
  readonly id: string;
  readonly name: string;
  readonly question: string;
  readonly unit: string;
  /** Names of contestants. */
  readonly reference: string;
  readonly candidate: string;
  /** Index into the samples of a run. Default: 0. */
  readonly measure?: number;
  readonly judge: Judge;
  readonly gate?: Bound;
  readonly goal?: Bound;
  readonly cache: string;
  /** Reference and candidate do the same deterministic work: their checksums must be equal. */
  readonly sameWork?: boolean;
}

/** How a contest is run. */
export interface ContestOptions {
  readonly contestants: readonly Contestant[];
  readonly rows: readonly RowSpec[];
  readonly rounds: number;
  /** Sizes are those of a smoke test: nothing is repeated and nothing judged. */
  readonly quick: boolean;
  /** Told after each run, for a line of progress. */
  readonly onRun?: (name: string, round: number, samples: readonly Sample[]) => void;
}

/** The order in which `count` contestants run in a round: as given, and backwards every second time. */
export function orderOf(count: number, round: number): number[] {
  const order = Array.from({ length: count }, (_, index) => index);
  return round % 2 === 0 ? order : order.reverse();
}

/** Samples by contestant, then round. */
type SampleSets = ReadonlyMap<string, readonly (readonly Sample[])[]>;

async function runSet(options: ContestOptions): Promise<SampleSets> {
  const { contestants, rounds, onRun } = options;
  const sets = new Map<string, (readonly Sample[])[]>(contestants.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const index of orderOf(contestants.length, round)) {
      const contestant = contestants[index];
      if (contestant === undefined) continue;
      const samples = await contestant.run(round);
      sets.get(contestant.name)?.push(samples);
      onRun?.(contestant.name, round, samples);
    }
  }
  return sets;
}

function samplesOf(sets: SampleSets, name: string, spec: RowSpec): readonly Sample[] {
  return (sets.get(name) ?? []).map((samples) => {
    const sample = samples[spec.measure ?? 0];
    if (sample === undefined || !(sample.rate > 0)) {
      throw new BenchError("ERR_BENCH_WORK", `${name} gave no rate for "${spec.name}"`);
    }
    return sample;
  });
}

function sideOf(contestant: Contestant, samples: readonly Sample[]): Side {
  const rounds = samples.map(({ rate }) => rate);
  const keys = new Set(samples.flatMap(({ details }) => Object.keys(details ?? {})));
  const details = Object.fromEntries(
    [...keys].map((key) => [
      key,
      median(samples.flatMap((sample) => (sample.details?.[key] === undefined ? [] : [sample.details[key]]))),
    ]),
  );
  return { name: contestant.name, command: contestant.command, ...spread(rounds), rounds, details };
}

function find(contestants: readonly Contestant[], name: string): Contestant {
  const found = contestants.find((contestant) => contestant.name === name);
  if (found === undefined) throw new RangeError(`no contestant is named ${name}`);
  return found;
}

function rowOf(spec: RowSpec, sets: SampleSets, tries: number, options: ContestOptions): Row {
  const reference = samplesOf(sets, spec.reference, spec);
  const candidate = samplesOf(sets, spec.candidate, spec);
  const checksums = new Set([...reference, ...candidate].map(({ checksum }) => checksum));
  if (spec.sameWork === true && checksums.size > 1) {
    throw new BenchError(
      "ERR_BENCH_WORK",
      `"${spec.name}": the sides disagree on the outcome: ${[...checksums].join(", ")}`,
    );
  }
  const sides = {
    reference: sideOf(find(options.contestants, spec.reference), reference),
    candidate: sideOf(find(options.contestants, spec.candidate), candidate),
  };
  const ratio = ratioOf(sides.reference.rounds, sides.candidate.rounds, spec.judge);
  const { id, name, question, unit, judge, gate, goal, cache } = spec;
  return {
    id,
    name,
    question,
    unit,
    ...sides,
    ratio,
    judge,
    ...(gate === undefined ? {} : { gate }),
    ...(goal === undefined ? {} : { goal }),
    verdict: verdictOf({
      ratio: ratio.judged,
      rate: judge === "best" ? sides.candidate.max : sides.candidate.median,
      gate,
      goal,
      isVoid: isVoid(sides.reference.rounds),
      quick: options.quick,
    }),
    tries,
    checksum: candidate.at(-1)?.checksum ?? "",
    cache,
  };
}

/**
 * Runs the rounds and gives the rows, in the order of their specifications.
 *
 * @throws {BenchError} ERR_BENCH_WORK; whatever a contestant throws
 */
export async function contest(options: ContestOptions): Promise<Row[]> {
  const rows = new Map<RowSpec, Row>();
  const triesMax = options.quick ? 1 : TRIES_MAX;
  for (let tries = 1; tries <= triesMax; tries += 1) {
    const sets = await runSet(options);
    for (const spec of options.rows) {
      if (rows.get(spec) !== undefined && !isVoid(rows.get(spec)?.reference.rounds ?? [])) continue;
      rows.set(spec, rowOf(spec, sets, tries, options));
    }
    if ([...rows.values()].every(({ reference }) => !isVoid(reference.rounds))) break;
  }
  return [...rows.values()];
}
