/**
 * One option of a command, described once: its flag, variable, key in the configuration file, what is allowed,
 * and its default.
 *
 * `resolveOptions` takes the raw values of the three places and gives typed values; a flag beats the environment,
 * which beats the file, which beats the default. Every mistake is reported, not just the first, and each report
 * names the option, the value, the place it came from and what is allowed. Unknown keys in the file are mistakes;
 * unknown MILLRACE_* variables are not, because one environment is shared by several commands.
 *
 * Pure: it reads neither files nor the environment. The values' shapes are in values.ts.
 */
import type { ZodType } from "zod";

import { ServerError } from "../errors.js";

/** What is known of one option. `T` is the type of its value. */
export interface OptionSpec<T> {
  /** Name of the flag without dashes; derived from the key when absent ("listenPg" gives "listen-pg"). */
  readonly flag?: string;
  /** The placeholder in the help text, for example "<host:port>"; absent for a switch. */
  readonly placeholder?: string;
  readonly description: string;
  /** Ends the sentence "… is not allowed; expected …". */
  readonly allowed: string;
  /** Checks and converts a string (flag, variable) or a JSON string, number, boolean or array (file). */
  readonly schema: ZodType<T>;
  /** Used when no place gives a value. An option without default and without `optional` is required. */
  readonly default?: T;
  /** How the default reads in the help text, when it is not the value itself. */
  readonly defaultText?: string;
  /** May stay without a value. */
  readonly optional?: boolean;
  /** The value may contain a password and is never repeated in a message. */
  readonly secret?: boolean;
}

/** The options of a command whose values together are `T`. */
export type OptionTable<T> = { readonly [K in keyof T]-?: OptionSpec<NonNullable<T[K]>> };

/** Where values come from, highest first; raw and unchecked. */
export interface OptionSources {
  /** By key of the table; only what was on the command line. */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The configuration file's object, absent when there is no file. */
  readonly file?: { readonly path: string; readonly values: Readonly<Record<string, unknown>> };
}

/** Values beyond this many characters are cut in messages. */
const SHOWN_VALUE_MAX = 80;

function words(key: string): string[] {
  return key.replace(/([A-Z])/g, " $1").split(" ");
}

/** The flag of an option without dashes: "listenPg" gives "listen-pg". */
export function flagName(key: string, spec: Pick<OptionSpec<unknown>, "flag">): string {
  return (
    spec.flag ??
    words(key)
      .map((word) => word.toLowerCase())
      .join("-")
  );
}

/** The environment variable of an option: "listenPg" gives "MILLRACE_LISTEN_PG". */
export function variableName(key: string, spec: Pick<OptionSpec<unknown>, "flag">): string {
  return `MILLRACE_${flagName(key, spec).replaceAll("-", "_").toUpperCase()}`;
}

interface RawValue {
  readonly value: unknown;
  readonly place: string;
}

function pick(key: string, spec: OptionSpec<unknown>, sources: OptionSources): RawValue | undefined {
  const flag = sources.flags[key];
  if (flag !== undefined) return { value: flag, place: "the command line" };
  const variable = variableName(key, spec);
  const fromEnvironment = sources.environment[variable];
  // An empty variable is how a shell or a unit file unsets one.
  if (fromEnvironment !== undefined && fromEnvironment !== "") {
    return { value: fromEnvironment, place: `the environment variable ${variable}` };
  }
  const fromFile = sources.file?.values[key];
  if (fromFile !== undefined) return { value: fromFile, place: `"${key}" in ${sources.file?.path}` };
  return undefined;
}

function shown(value: unknown, secret: boolean): string {
  if (secret) return "the given value (not shown, as it may hold a password)";
  const text = typeof value === "string" ? JSON.stringify(value) : (JSON.stringify(value) ?? String(value));
  return text.length > SHOWN_VALUE_MAX ? `${text.slice(0, SHOWN_VALUE_MAX)}…` : text;
}

/**
 * The typed values of a command's options.
 *
 * @returns one property a key of `table`; an optional option without a value has none
 * @throws {ServerError} ERR_SERVER_OPTION with one line for each mistake
 */
export function resolveOptions<T extends object>(table: OptionTable<T>, sources: OptionSources): T {
  const values: Record<string, unknown> = {};
  const mistakes: string[] = [];
  const specs = Object.entries<OptionSpec<unknown>>(table);
  for (const [key, spec] of specs) {
    const flag = flagName(key, spec);
    const raw = pick(key, spec, sources);
    if (raw === undefined) {
      if (spec.default !== undefined) values[key] = spec.default;
      else if (spec.optional !== true) {
        mistakes.push(
          `--${flag} is missing: give ${spec.allowed} by flag, by ${variableName(key, spec)}, or as "${key}" in the configuration file`,
        );
      }
      continue;
    }
    const parsed = spec.schema.safeParse(raw.value);
    if (parsed.success) values[key] = parsed.data;
    else {
      mistakes.push(
        `--${flag} (from ${raw.place}): ${shown(raw.value, spec.secret === true)} is not allowed; expected ${spec.allowed}`,
      );
    }
  }
  const known = new Set(specs.map(([key]) => key));
  for (const key of Object.keys(sources.file?.values ?? {})) {
    if (known.has(key)) continue;
    mistakes.push(
      `unknown key "${key}" in ${sources.file?.path}; known keys: ${[...known].sort().join(", ")}`,
    );
  }
  if (mistakes.length > 0) throw new ServerError("ERR_SERVER_OPTION", mistakes.join("\n"));
  return values as T;
}
