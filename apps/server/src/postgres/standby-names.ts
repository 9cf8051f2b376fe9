/**
 * Reads PostgreSQL's synchronous_standby_names and says whether a commit can return without the bridge.
 *
 * The grammar is that of PostgreSQL's syncrep_gram.y: a plain list (the first of it is synchronous), `n (list)`,
 * `FIRST n (list)` and `ANY n (list)`. In each form a standby that is not connected is simply not counted and the next
 * ones take its place, so commits depend on the bridge only if the other names are fewer than n. `*` stands for
 * every standby and so always leaves others.
 */

/** A parsed setting: a commit waits for `count` of `names`. */
export interface StandbyNames {
  readonly count: number;
  readonly names: readonly string[];
}

const FORM = /^(?:(?:(?:first|any)\s+)?(\d+)\s*\(([^()]*)\)|([^()]*))$/i;
const NAME = /\s*(?:"((?:[^"]|"")*)"|([^\s,"]+))\s*(?:,|$)/y;

/** The parsed setting, or undefined when it is empty or not in one of the forms. */
export function parseStandbyNames(setting: string): StandbyNames | undefined {
  const form = FORM.exec(setting.trim());
  const list = form?.[2] ?? form?.[3];
  if (list === undefined || list.trim() === "") return undefined;
  const names: string[] = [];
  NAME.lastIndex = 0;
  while (NAME.lastIndex < list.length) {
    const match = NAME.exec(list);
    if (match === null) return undefined;
    names.push(match[1]?.replaceAll('""', '"') ?? match[2] ?? "");
  }
  return { count: Number(form?.[1] ?? 1), names };
}

/** How commits depend on the standby `name`. */
export type Dependence =
  /** No commit returns without it. */
  | "required"
  /** It is listed, but others can satisfy a commit while it is away. */
  | "replaceable"
  /** It is not listed: commits do not wait for it at all. */
  | "absent";

/** Whether commits wait for the standby called `name` under the setting. */
export function dependenceOn(name: string, setting: string): Dependence {
  const parsed = parseStandbyNames(setting);
  if (parsed === undefined) return "absent";
  // PostgreSQL compares names without regard to case.
  const same = (other: string): boolean => other.toLowerCase() === name.toLowerCase();
  const listed = parsed.names.some((other) => same(other) || other === "*");
  if (!listed) return "absent";
  const others = parsed.names.filter((other) => !same(other));
  return others.includes("*") || others.length >= parsed.count ? "replaceable" : "required";
}
