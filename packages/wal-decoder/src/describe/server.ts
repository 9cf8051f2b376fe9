/**
 * Descriptions of what concerns the server as a whole: checkpoints, files, databases, multixacts, and the small resource
 * managers (xlogdesc.c, smgrdesc.c, clogdesc.c, dbasedesc.c and the rest of access/rmgrdesc).
 */
import type { WalRecord } from "../wal-record.js";
import { Fields, hexByte } from "./fields.js";
import { relationPath } from "./transactions.js";

const WAL_LEVELS: readonly string[] = ["minimal", "replica", "logical"];

function walLevel(value: number): string {
  return WAL_LEVELS[value] ?? "?";
}

function onOff(value: number): string {
  return value === 0 ? "off" : "on";
}

export function describeXlog(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  const { pgMajor, operation } = record;
  switch (operation) {
    case 0x00:
    case 0x10:
      return describeCheckpoint(record, fields);
    case 0x30:
      return String(fields.u32());
    case 0x50:
      return fields.lsn();
    case 0x60: {
      const names =
        "max_connections max_worker_processes max_wal_senders max_prepared_xacts max_locks_per_xact";
      const limits = names.split(" ").map((name) => `${name}=${String(fields.i32())}`);
      const level = `wal_level=${walLevel(fields.i32())}`;
      const hints = `wal_log_hints=${onOff(fields.u8())}`;
      return [...limits, level, hints, `track_commit_timestamp=${onOff(fields.u8())}`].join(" ");
    }
    case 0x70:
      return fields.skip(8).text();
    case 0x80:
      return fields.u8() === 0 ? "false" : "true";
    case 0x90: {
      const time = fields.time();
      const text = `tli ${String(fields.u32())}; prev tli ${String(fields.u32())}; time ${time}`;
      return pgMajor >= 17 ? `${text}; wal_level ${walLevel(fields.i32())}` : text;
    }
    case 0xd0: {
      const lsn = fields.lsn();
      return `lsn ${lsn}; time ${fields.time()}`;
    }
    case 0xe0:
      return pgMajor >= 17 ? `wal_level ${walLevel(fields.i32())}` : "";
    default:
      return "";
  }
}

function describeCheckpoint(record: WalRecord, fields: Fields): string {
  const redo = fields.lsn();
  const tli = String(fields.u32());
  const prevTli = String(fields.u32());
  const fullPages = fields.u8() === 0 ? "false" : "true";
  const level = record.pgMajor >= 17 ? ` wal_level ${walLevel(fields.align(4).i32())};` : "";
  const xid = fields.align(8).fullXid();
  const [oid, multi, offset, oldestXid, oldestXidDb, oldestMulti, oldestMultiDb] = Array.from(
    { length: 7 },
    () => String(fields.u32()),
  );
  fields.align(8).skip(8);
  const commitTs = `${String(fields.u32())}/${String(fields.u32())}`;
  const oldestActive = String(fields.u32());
  return (
    `redo ${redo}; tli ${tli}; prev tli ${prevTli}; fpw ${fullPages};${level} xid ${xid}; oid ${oid ?? ""}; ` +
    `multi ${multi ?? ""}; offset ${offset ?? ""}; oldest xid ${oldestXid ?? ""} in DB ${oldestXidDb ?? ""}; ` +
    `oldest multi ${oldestMulti ?? ""} in DB ${oldestMultiDb ?? ""}; oldest/newest commit timestamp xid: ${commitTs}; ` +
    `oldest running xid ${oldestActive}; ${record.operation === 0 ? "shutdown" : "online"}`
  );
}

export function describeStorage(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  const { pgMajor } = record;
  if (record.operation === 0x10) {
    const [spc, db, rel] = [fields.u32(), fields.u32(), fields.u32()] as const;
    return relationPath(pgMajor, spc, db, rel, fields.i32());
  }
  if (record.operation !== 0x20) return "";
  const blocks = String(fields.u32());
  const path = relationPath(pgMajor, fields.u32(), fields.u32(), fields.u32());
  return `${path} to ${blocks} blocks flags ${String(fields.i32())}`;
}

/** Numbers of pages of the transaction logs have 64 bits since version 17. */
function pageNumber(record: WalRecord, fields: Fields): string {
  return record.pgMajor >= 17 ? String(fields.i64()) : String(fields.i32());
}

export function describeClog(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  const page = `page ${pageNumber(record, fields)}`;
  return record.operation === 0x10 ? `${page}; oldestXact ${String(fields.u32())}` : page;
}

export function describeDatabase(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  const db = String(fields.u32());
  if (record.operation === 0x20) {
    let text = "dir";
    for (let left = fields.i32(); left > 0; left -= 1) text += ` ${String(fields.u32())}/${db}`;
    return text;
  }
  const spc = String(fields.u32());
  if (record.operation === 0x10) return `create dir ${spc}/${db}`;
  const sourceDb = String(fields.u32());
  return `copy dir ${String(fields.u32())}/${sourceDb} to ${spc}/${db}`;
}

export function describeTablespace(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  const spc = String(fields.u32());
  return record.operation === 0x00 ? `${spc} "${fields.text()}"` : spc;
}

const MULTIXACT_STATUS: readonly string[] = ["keysh", "sh", "fornokeyupd", "forupd", "nokeyupd", "upd"];

export function describeMultiXact(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  if (record.operation <= 0x10) return pageNumber(record, fields);
  if (record.operation === 0x20) {
    const id = String(fields.u32());
    const offset = String(fields.u32());
    const members = fields.i32();
    let text = `${id} offset ${offset} nmembers ${String(members)}: `;
    for (let index = 0; index < members; index += 1) {
      const xid = String(fields.u32());
      text += `${xid} (${MULTIXACT_STATUS[fields.u32()] ?? "unk"}) `;
    }
    return text;
  }
  fields.skip(4);
  const offsets = `offsets [${String(fields.u32())}, ${String(fields.u32())})`;
  return `${offsets}, members [${String(fields.u32())}, ${String(fields.u32())})`;
}

export function describeRelMap(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  return `database ${String(fields.u32())} tablespace ${String(fields.u32())} size ${String(fields.i32())}`;
}

export function describeSequence(record: WalRecord): string {
  return `rel ${Fields.ofMain(record).locator()}`;
}

export function describeCommitTs(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  const page = pageNumber(record, fields);
  return record.operation === 0x10 ? `pageno ${page}, oldestXid ${String(fields.u32())}` : page;
}

export function describeReplicationOrigin(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  if (record.operation === 0x10) return `drop ${String(fields.u16())}`;
  const lsn = fields.lsn();
  return `set ${String(fields.u16())}; lsn ${lsn}; force: ${String(fields.u8())}`;
}

export function describeLogicalMessage(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  const transactional = fields.skip(4).u8() === 0 ? "non-transactional" : "transactional";
  const prefixBytes = Number(fields.align(8).u64());
  const payloadBytes = Number(fields.u64());
  const prefix = fields.textOf(prefixBytes).replace(/\0.*$/s, "");
  const payload = Array.from(fields.bytes(payloadBytes), hexByte).join(" ");
  return `${transactional}, prefix "${prefix}"; payload (${String(payloadBytes)} bytes): ${payload}`;
}
