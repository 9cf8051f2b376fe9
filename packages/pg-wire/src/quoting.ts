/**
 * Quoting for the replication grammar and for SQL, where there are no parameters to bind. As libpq's
 * PQescapeIdentifier and PQescapeLiteral under standard_conforming_strings = on.
 */

/** A double-quoted identifier, such as a slot name. @throws {TypeError} for NUL, which no identifier can have */
export function quoteIdentifier(name: string): string {
  return `"${refuseNul(name).replaceAll('"', '""')}"`;
}

/** A string literal; one with a backslash is written as an E'' string. @throws {TypeError} for NUL */
export function quoteLiteral(value: string): string {
  const doubled = refuseNul(value).replaceAll("'", "''");
  return doubled.includes("\\") ? ` E'${doubled.replaceAll("\\", "\\\\")}'` : `'${doubled}'`;
}

function refuseNul(text: string): string {
  if (text.includes("\0")) throw new TypeError("NUL cannot be quoted");
  return text;
}
