/**
 * Resource managers of PostgreSQL 15 to 18 by their numbers.
 *
 * Facts of rmgrlist.h. Those of extensions have numbers from 128 on, and nothing is known of their records here.
 */
export const RMGR = {
  xlog: 0,
  transaction: 1,
  storage: 2,
  clog: 3,
  database: 4,
  tablespace: 5,
  multiXact: 6,
  relMap: 7,
  standby: 8,
  heap2: 9,
  heap: 10,
  btree: 11,
  hash: 12,
  gin: 13,
  gist: 14,
  sequence: 15,
  spgist: 16,
  brin: 17,
  commitTs: 18,
  replicationOrigin: 19,
  generic: 20,
  logicalMessage: 21,
} as const;
