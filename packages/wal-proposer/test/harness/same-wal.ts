// Comparing what test acceptors hold with PostgreSQL's own files.
import { maxLsn, minLsn, parseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { ClientConnection } from "@millrace/pg-wire";
import { expect } from "vitest";
import type { Primary } from "./primary.js";
import type { TestAcceptor } from "./test-acceptor.js";

export async function value(sql: ClientConnection, query: string): Promise<string | null | undefined> {
  return (await sql.query(query)).at(-1)?.rows[0]?.[0];
}

export async function lsnOf(sql: ClientConnection, query: string): Promise<Lsn> {
  return parseLsn((await value(sql, query)) ?? "");
}

/** Lowest position that all acceptors have written, and the highest where any begins. */
export function common(acceptors: readonly TestAcceptor[]): { beginLsn: Lsn; endLsn: Lsn } {
  const [a, b, c] = acceptors;
  if (a === undefined || b === undefined || c === undefined) throw new Error("three acceptors expected");
  return {
    beginLsn: maxLsn(a.startLsn, b.startLsn, c.startLsn),
    endLsn: minLsn(a.flushLsn, b.flushLsn, c.flushLsn),
  };
}

/** Every byte that the acceptors have in common is PostgreSQL's. */
export function expectSameWal(primary: Primary): void {
  const { beginLsn, endLsn } = common(primary.acceptors);
  const expected = primary.pgWal(beginLsn, endLsn);
  expect(expected.byteLength).toBeGreaterThan(0);
  for (const acceptor of primary.acceptors) {
    expect(acceptor.bytes(beginLsn, endLsn).equals(expected)).toBe(true);
  }
}
