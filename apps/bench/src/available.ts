/**
 * Contests of what is there: a contestant that cannot run here says why, and its rows are left out with that reason.
 */
import type { Contestant, RowSpec } from "./contest.js";
import type { Row } from "./row.js";
import type { BenchContext } from "./suite.js";
import { runContest } from "./suite.js";

/** A contestant, or why there is none. */
export interface MaybeContestant extends Contestant {
  /** Why it cannot run here; undefined if it can. */
  readonly missing: string | undefined;
}

/** Contestants that alternate with one another, and what is asked of them. */
export interface Group {
  readonly contestants: readonly MaybeContestant[];
  readonly rows: readonly RowSpec[];
}

/** Rows, and for each reason the rows that are missing because of it. */
export interface GroupResult {
  readonly rows: readonly Row[];
  readonly skipped: readonly string[];
}

/** Runs the groups one after the other, as far as they can be run here. */
export async function runGroups(context: BenchContext, groups: readonly Group[]): Promise<GroupResult> {
  const rows: Row[] = [];
  const skipped = new Map<string, string[]>();
  for (const group of groups) {
    const missing = new Map(group.contestants.map(({ name, missing: reason }) => [name, reason]));
    const reasonOf = (spec: RowSpec): string | undefined =>
      missing.get(spec.reference) ?? missing.get(spec.candidate);
    const possible = group.rows.filter((spec) => reasonOf(spec) === undefined);
    for (const spec of group.rows) {
      const reason = reasonOf(spec);
      if (reason !== undefined)
        skipped.set(reason, [...(skipped.get(reason) ?? []), `${spec.id} ${spec.name}`]);
    }
    const needed = new Set(possible.flatMap(({ reference, candidate }) => [reference, candidate]));
    const contestants = group.contestants.filter(({ name }) => needed.has(name));
    if (possible.length > 0) rows.push(...(await runContest(context, contestants, possible)));
  }
  return { rows, skipped: [...skipped].map(([reason, names]) => `${reason}: ${names.join("; ")}`) };
}
