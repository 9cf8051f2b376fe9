/**
 * Descriptions of transactions' ends and of what standbys are told: files to be removed, cache entries to be forgotten
 * (xactdesc.c, standbydesc.c).
 */
import type { WalPgMajor } from "../layout.js";
import type { WalRecord } from "../wal-record.js";
import { Fields, lsnText, timeText } from "./fields.js";

const XINFO = {
  database: 1,
  subtransactions: 2,
  relations: 4,
  invalidations: 8,
  twoPhase: 0x10,
  origin: 0x20,
  gid: 0x80,
  droppedStatistics: 0x100,
  applyFeedback: 0x2000_0000,
  relcacheFile: 0x4000_0000,
  forceSync: 0x8000_0000,
} as const;
const HAS_XINFO = 0x80;
const OPERATION = {
  commit: 0x00,
  prepare: 0x10,
  abort: 0x20,
  commitPrepared: 0x30,
  abortPrepared: 0x40,
  assignment: 0x50,
  invalidations: 0x60,
} as const;

/** Names of directories of tablespaces hold the catalog's version. */
const CATALOG_VERSION: Readonly<Record<WalPgMajor, number>> = {
  15: 202_209_061,
  16: 202_307_071,
  17: 202_406_281,
  18: 202_506_291,
};
const FORK_SUFFIX: readonly string[] = ["", "_fsm", "_vm", "_init"];

/** Path of a relation's file, as `relpath` makes it. */
export function relationPath(major: WalPgMajor, spc: number, db: number, rel: number, fork = 0): string {
  const file = `${String(rel)}${FORK_SUFFIX[fork] ?? ""}`;
  if (spc === 1664) return `global/${file}`;
  if (spc === 1663) return `base/${String(db)}/${file}`;
  const version = `PG_${String(major)}_${String(CATALOG_VERSION[major])}`;
  return `pg_tblspc/${String(spc)}/${version}/${String(db)}/${file}`;
}

function relations(fields: Fields, major: WalPgMajor, label: string, count: number): string {
  let text = count > 0 ? `; ${label}:` : "";
  for (let index = 0; index < count; index += 1) {
    text += ` ${relationPath(major, fields.u32(), fields.u32(), fields.u32())}`;
  }
  return text;
}

function subtransactions(fields: Fields, count: number): string {
  let text = count > 0 ? "; subxacts:" : "";
  for (let index = 0; index < count; index += 1) text += ` ${String(fields.u32())}`;
  return text;
}

function droppedStatistics(fields: Fields, major: WalPgMajor, label: string, count: number): string {
  let text = count > 0 ? `; ${label}dropped stats:` : "";
  for (let index = 0; index < count; index += 1) {
    text += ` ${String(fields.i32())}/${String(fields.u32())}/`;
    const low = BigInt(fields.u32());
    text += String(major >= 18 ? (BigInt(fields.u32()) << 32n) | low : low);
  }
  return text;
}

/** What the caches of other processes are to forget: messages of 16 bytes. */
export function invalidations(
  fields: Fields,
  count: number,
  file: { db: number; spc: number } | undefined,
): string {
  if (count <= 0) return "";
  let text = "";
  if (file !== undefined) {
    text = `; relcache init file inval dbid ${String(file.db)} tsid ${String(file.spc)}`;
  }
  text += "; inval msgs:";
  for (let index = 0; index < count; index += 1) {
    const id = fields.i8();
    const first = fields.skip(3).u32();
    const second = fields.u32();
    fields.skip(4);
    text += ` ${invalidation(id, first, second)}`;
  }
  return text;
}

function invalidation(id: number, first: number, second: number): string {
  if (id >= 0) return `catcache ${String(id)}`;
  switch (id) {
    case -1:
      return `catalog ${String(second)}`;
    case -2:
      return `relcache ${String(second)}`;
    case -3:
      return "smgr";
    case -4:
      return `relmap db ${String(first)}`;
    case -5:
      return `snapshot ${String(second)}`;
    case -6:
      return `relsync ${String(second)}`;
    default:
      return `unrecognized id ${String(id)}`;
  }
}

export function describeTransaction(record: WalRecord): string {
  const operation = record.operation & 0x70;
  const fields = Fields.ofMain(record);
  switch (operation) {
    case OPERATION.commit:
    case OPERATION.commitPrepared:
      return describeEnd(record, fields, true);
    case OPERATION.abort:
    case OPERATION.abortPrepared:
      return describeEnd(record, fields, false);
    case OPERATION.prepare:
      return describePrepare(record, fields);
    case OPERATION.assignment: {
      const top = String(fields.u32());
      const subs = Array.from({ length: fields.i32() }, () => ` ${String(fields.u32())}`);
      return `xtop ${top}: subxacts:${subs.join("")}`;
    }
    case OPERATION.invalidations:
      return invalidations(fields, fields.i32(), undefined);
    default:
      return "";
  }
}

function describeEnd(record: WalRecord, fields: Fields, isCommit: boolean): string {
  const { pgMajor } = record;
  const time = fields.time();
  const xinfo = (record.operation & HAS_XINFO) === 0 ? 0 : fields.u32();
  const has = (flag: number): boolean => (xinfo & flag) !== 0;
  const db = has(XINFO.database) ? fields.u32() : 0;
  const spc = has(XINFO.database) ? fields.u32() : 0;
  const subs = has(XINFO.subtransactions) ? subtransactions(fields, fields.i32()) : "";
  const rels = has(XINFO.relations) ? relations(fields, pgMajor, "rels", fields.i32()) : "";
  const stats = has(XINFO.droppedStatistics) ? droppedStatistics(fields, pgMajor, "", fields.i32()) : "";
  const file = has(XINFO.relcacheFile) ? { db, spc } : undefined;
  const messages = has(XINFO.invalidations) ? invalidations(fields, fields.i32(), file) : "";
  const prepared = has(XINFO.twoPhase) ? `${String(fields.u32())}: ` : "";
  if (has(XINFO.twoPhase) && has(XINFO.gid)) fields.text();
  const origin = has(XINFO.origin) ? originText(record.originId, fields.u64(), fields.i64()) : "";
  if (!isCommit) return `${prepared}${time}${rels}${subs}${origin}${stats}`;
  const feedback = has(XINFO.applyFeedback) ? "; apply_feedback" : "";
  const sync = has(XINFO.forceSync) ? "; sync" : "";
  return `${prepared}${time}${rels}${subs}${stats}${messages}${feedback}${sync}${origin}`;
}

function originText(id: number, lsn: bigint, time: bigint): string {
  return `; origin: node ${String(id)}, lsn ${lsnText(lsn)}, at ${timeText(time)}`;
}

/** The state file of a prepared transaction, each part of it aligned to 8. */
function describePrepare(record: WalRecord, fields: Fields): string {
  const { pgMajor } = record;
  fields.skip(12);
  const db = fields.u32();
  const time = fields.time();
  fields.skip(4);
  const subs = fields.i32();
  const commitRels = fields.i32();
  const abortRels = fields.i32();
  const commitStats = fields.i32();
  const abortStats = fields.i32();
  const messages = fields.i32();
  const relcacheFile = fields.u8() !== 0;
  const gidBytes = fields.skip(1).u16();
  const originLsn = fields.u64();
  const originTime = fields.i64();
  const gid = fields.textOf(gidBytes).replace(/\0.*$/s, "");
  const subsText = subtransactions(fields.align(8), subs);
  const commitText = relations(fields.align(8), pgMajor, "rels(commit)", commitRels);
  const abortText = relations(fields.align(8), pgMajor, "rels(abort)", abortRels);
  const commitStatsText = droppedStatistics(fields.align(8), pgMajor, "commit ", commitStats);
  const abortStatsText = droppedStatistics(fields.align(8), pgMajor, "abort ", abortStats);
  const file = relcacheFile ? { db, spc: 0 } : undefined;
  const messagesText = messages > 0 ? invalidations(fields.align(8), messages, file) : "";
  const origin = record.originId === 0 ? "" : originText(record.originId, originLsn, originTime);
  return `gid ${gid}: ${time}${commitText}${abortText}${commitStatsText}${abortStatsText}${subsText}${messagesText}${origin}`;
}

export function describeStandby(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  if (record.operation === 0x00) {
    let text = "";
    for (let left = fields.i32(); left > 0; left -= 1) {
      text += `xid ${String(fields.u32())} db ${String(fields.u32())} rel ${String(fields.u32())} `;
    }
    return text;
  }
  if (record.operation === 0x10) return describeRunning(fields);
  if (record.operation !== 0x20) return "";
  const db = fields.u32();
  const spc = fields.u32();
  const relcacheFile = fields.u8() !== 0;
  const count = fields.skip(3).i32();
  return invalidations(fields, count, relcacheFile ? { db, spc } : undefined);
}

function describeRunning(fields: Fields): string {
  const count = fields.i32();
  const subCount = fields.i32();
  const overflowed = fields.u8() !== 0;
  const next = fields.skip(3).u32();
  const oldest = fields.u32();
  const latest = fields.u32();
  let text = `nextXid ${String(next)} latestCompletedXid ${String(latest)} oldestRunningXid ${String(oldest)}`;
  const xids = (length: number): string => Array.from({ length }, () => ` ${String(fields.u32())}`).join("");
  if (count > 0) text += `; ${String(count)} xacts:${xids(count)}`;
  if (overflowed) text += "; subxid overflowed";
  if (subCount > 0) text += `; ${String(subCount)} subxacts:${xids(subCount)}`;
  return text;
}
