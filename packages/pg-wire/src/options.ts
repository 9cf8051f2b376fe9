/**
 * The `options` startup parameter: a command line in one string, as `PGOPTIONS` and conninfo carry it.
 *
 * Blanks separate tokens unless a backslash stands before them; a backslash keeps the next character as it is, and
 * one at the very end stands for nothing. This is the splitting of PostgreSQL's pg_split_opts. What differs: a server
 * of settings would refuse switches that it does not know, here every token that has a `=` is a pair and the others
 * are skipped, as Neon's safekeeper does, because its own client sends one `-c` followed by several pairs.
 */

/** ASCII whitespace as isspace() in the C locale. */
const BLANKS = " \t\n\v\f\r";

/** Splits the text into tokens with the escapes resolved. */
export function splitOptions(text: string): readonly string[] {
  const tokens: string[] = [];
  let token: string | undefined; // undefined between tokens; "" is a token made of a lone backslash
  for (let index = 0; index < text.length; index++) {
    const char = text.charAt(index);
    if (BLANKS.includes(char)) {
      if (token !== undefined) tokens.push(token);
      token = undefined;
    } else if (char === "\\") {
      index += 1;
      token = (token ?? "") + text.charAt(index);
    } else {
      token = (token ?? "") + char;
    }
  }
  if (token !== undefined) tokens.push(token);
  return tokens;
}

/**
 * The pairs of an `options` parameter: `-c key=value`, `-ckey=value`, `--key=value`, and bare `key=value`. Of a
 * repeated key the last value counts. In `--key` dashes read as underscores, as PostgreSQL does it.
 *
 * @param text undefined gives an empty map
 */
export function parseOptions(text: string | undefined): ReadonlyMap<string, string> {
  const pairs = new Map<string, string>();
  for (const token of splitOptions(text ?? "")) {
    const isLong = token.startsWith("--");
    const pair = isLong || token.startsWith("-c") ? token.slice(2) : token;
    const equals = pair.indexOf("=");
    if (equals <= 0) continue;
    const key = pair.slice(0, equals);
    pairs.set(isLong ? key.replaceAll("-", "_") : key, pair.slice(equals + 1));
  }
  return pairs;
}
