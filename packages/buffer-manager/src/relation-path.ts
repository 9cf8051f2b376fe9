/**
 * Where PostgreSQL keeps a relation's files, below its data directory.
 *
 * `base/<database>/<relation>` in the default tablespace, `global/<relation>` for what all databases share, and
 * `pg_tblspc/<tablespace>/<version directory>/<database>/<relation>` in the others. A fork other than the main one has a
 * suffix, a temporary relation its backend in front, and a segment after the first its number behind. After relpath.c.
 */
import type { Fork, Relation } from "./tag.js";

/** Tablespaces that every cluster has. */
export const DEFAULT_TABLESPACE = 1663;
export const GLOBAL_TABLESPACE = 1664;

const SUFFIXES = ["", "_fsm", "_vm", "_init"] as const;

/**
 * Path of a fork's first segment, relative to the data directory.
 *
 * @param versionDirectory the directory in a tablespace that is the cluster's own, such as "PG_18_202506291"; used for
 *   tablespaces other than the two of each cluster
 */
export function relationPath(relation: Relation, fork: Fork, versionDirectory: string): string {
  const { tablespace, database, owner } = relation;
  const isTemporary = relation.persistence === "temporary";
  const name = `${isTemporary ? `t${owner ?? 0}_` : ""}${relation.relation}${SUFFIXES[fork]}`;
  if (tablespace === GLOBAL_TABLESPACE) return `global/${name}`;
  if (tablespace === DEFAULT_TABLESPACE) return `base/${database}/${name}`;
  return `pg_tblspc/${tablespace}/${versionDirectory}/${database}/${name}`;
}

/** Path of a segment of a fork. */
export function segmentPath(path: string, segment: number): string {
  return segment === 0 ? path : `${path}.${segment}`;
}
