/**
 * Column descriptions of the few result shapes a replication server sends: text, int4, int8 and oid, all in text
 * format. Type oids and lengths are those of PostgreSQL's pg_type.dat.
 */

/** A column of a RowDescription. */
export interface Column {
  readonly name: string;
  /** Absent means text. */
  readonly type?: ColumnType;
}

export type ColumnType = "text" | "int4" | "int8" | "oid" | "bool";

/** Type oid and fixed length in bytes (-1: variable) by type name. */
export const COLUMN_TYPES: Readonly<
  Record<ColumnType, { readonly oid: number; readonly lengthBytes: number }>
> = {
  text: { oid: 25, lengthBytes: -1 },
  int4: { oid: 23, lengthBytes: 4 },
  int8: { oid: 20, lengthBytes: 8 },
  oid: { oid: 26, lengthBytes: 4 },
  bool: { oid: 16, lengthBytes: 1 },
};
