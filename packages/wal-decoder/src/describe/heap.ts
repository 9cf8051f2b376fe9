/**
 * Descriptions of Heap and Heap2 (heapdesc.c). PostgreSQL 16 named the fields and put lists into brackets; 17 made one
 * record of pruning, vacuum and freezing.
 */
import type { WalRecord } from "../wal-record.js";
import { Fields, flagNames, hexByte, list, truth } from "./fields.js";
import { invalidations } from "./transactions.js";

const INFOBITS: readonly string[] = ["IS_MULTI", "LOCK_ONLY", "EXCL_LOCK", "KEYSHR_LOCK", "KEYS_UPDATED"];
const TRUNCATE_FLAGS: readonly string[] = ["CASCADE", "RESTART_SEQS"];
const INIT_PAGE = 0x80;

function infobits(bits: number): string {
  return `[${flagNames(bits, INFOBITS).join(", ")}]`;
}

/** Each with a space behind it, as before version 16. */
function infobitsPlain(bits: number): string {
  return flagNames(bits, INFOBITS)
    .map((name) => `${name} `)
    .join("");
}

export function describeHeap(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  const plain = record.pgMajor === 15;
  switch (record.operation & 0x70) {
    case 0x00: {
      const off = fields.u16();
      return offAndFlags(plain, off, fields.u8());
    }
    case 0x10: {
      const xmax = fields.u32();
      const off = fields.u16();
      const bits = fields.u8();
      const flags = hexByte(fields.u8());
      if (plain) return `off ${String(off)} flags 0x${flags} ${infobitsPlain(bits)}`;
      return `xmax: ${String(xmax)}, off: ${String(off)}, infobits: ${infobits(bits)}, flags: 0x${flags}`;
    }
    case 0x20:
    case 0x40:
      return describeUpdate(fields, plain);
    case 0x30:
      return describeTruncate(fields, plain);
    case 0x50:
      return `off${colon(plain)} ${String(fields.u16())}`;
    case 0x60:
      return describeLock(fields, plain, "xid");
    case 0x70:
      return describeInplace(record, fields, plain);
    default:
      return "";
  }
}

function colon(plain: boolean): string {
  return plain ? "" : ":";
}

function offAndFlags(plain: boolean, off: number, flags: number): string {
  return plain
    ? `off ${String(off)} flags 0x${hexByte(flags)}`
    : `off: ${String(off)}, flags: 0x${hexByte(flags)}`;
}

function describeUpdate(fields: Fields, plain: boolean): string {
  const oldXmax = String(fields.u32());
  const oldOff = String(fields.u16());
  const bits = fields.u8();
  const flags = hexByte(fields.u8());
  const newXmax = String(fields.u32());
  const newOff = String(fields.u16());
  if (plain) {
    return `off ${oldOff} xmax ${oldXmax} flags 0x${flags} ${infobitsPlain(bits)}; new off ${newOff} xmax ${newXmax}`;
  }
  return (
    `old_xmax: ${oldXmax}, old_off: ${oldOff}, old_infobits: ${infobits(bits)}, flags: 0x${flags}, ` +
    `new_xmax: ${newXmax}, new_off: ${newOff}`
  );
}

function describeTruncate(fields: Fields, plain: boolean): string {
  fields.skip(4);
  const count = fields.u32();
  const names = flagNames(fields.u8(), TRUNCATE_FLAGS);
  fields.align(4);
  if (!plain) {
    return `flags: [${names.join(", ")}], nrelids: ${String(count)}, relids:${list(count, () => String(fields.u32()))}`;
  }
  const flags = names.map((name) => `${name.toLowerCase()} `).join("");
  const relids = Array.from({ length: count }, () => ` ${String(fields.u32())}`).join("");
  return `${flags}nrelids ${String(count)} relids:${relids}`;
}

function describeLock(fields: Fields, plain: boolean, xidName: string): string {
  const xmax = String(fields.u32());
  const off = String(fields.u16());
  const bits = fields.u8();
  const flags = hexByte(fields.u8());
  if (plain) return `off ${off}: ${xidName} ${xmax}: flags 0x${flags} ${infobitsPlain(bits)}`;
  return `xmax: ${xmax}, off: ${off}, infobits: ${infobits(bits)}, flags: 0x${flags}`;
}

function describeInplace(record: WalRecord, fields: Fields, plain: boolean): string {
  const text = `off${colon(plain)} ${String(fields.u16())}`;
  if (record.pgMajor < 18) return text;
  const db = fields.align(4).u32();
  const spc = fields.u32();
  const relcacheFile = fields.u8() !== 0;
  const count = fields.align(4).i32();
  return text + invalidations(fields, count, relcacheFile ? { db, spc } : undefined);
}

export function describeHeap2(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  const { pgMajor } = record;
  const plain = pgMajor === 15;
  const horizon = plain ? "cutoff xid" : "snapshotConflictHorizon:";
  switch (record.operation & 0x70) {
    case 0x10:
    case 0x20:
    case 0x30:
      if (pgMajor >= 17) return describePruneFreeze(record, fields);
      return pgMajor === 16 ? describePruning16(record, fields) : describePruning15(record, fields);
    case 0x40: {
      const xid = `${horizon} ${String(fields.u32())}`;
      return `${xid}${plain ? "" : ","} flags${colon(plain)} 0x${hexByte(fields.u8())}`;
    }
    case 0x50:
      return describeMultiInsert(record, fields, plain);
    case 0x60:
      return describeLock(fields, plain, "xmax");
    case 0x70:
      return describeNewCid(fields, plain);
    default:
      return "";
  }
}

function describePruning15(record: WalRecord, fields: Fields): string {
  const operation = record.operation & 0x70;
  if (operation === 0x20) return `nunused ${String(fields.u16())}`;
  const xid = String(fields.u32());
  const first = String(fields.u16());
  if (operation === 0x30) return `cutoff xid ${xid} ntuples ${first}`;
  return `latestRemovedXid ${xid} nredirected ${first} ndead ${String(fields.u16())}`;
}

function describePruning16(record: WalRecord, fields: Fields): string {
  const operation = record.operation & 0x70;
  const ref = record.ref(0);
  const block = ref === undefined || ref.dataBytes === 0 ? undefined : Fields.ofBlock(record, ref);
  if (operation === 0x20) {
    const count = fields.u16();
    const unused = block === undefined ? "" : `, unused:${block.offsets(count)}`;
    return `nunused: ${String(count)}${unused}`;
  }
  const xid = String(fields.u32());
  if (operation === 0x30) {
    const plans = fields.u16();
    const text = `snapshotConflictHorizon: ${xid}, nplans: ${String(plans)}`;
    return block === undefined ? text : `${text}, plans:${freezePlans(block, plans)}`;
  }
  const redirected = fields.u16();
  const dead = fields.u16();
  const text = `snapshotConflictHorizon: ${xid}, nredirected: ${String(redirected)}, ndead: ${String(dead)}`;
  if (block === undefined) return text;
  const redirects = list(redirected, () => `${String(block.u16())}->${String(block.u16())}`);
  const deadItems = block.offsets(dead);
  const unused = block.left >> 1;
  return (
    `${text}, nunused: ${String(unused)}, redirected:${redirects}, dead:${deadItems}, ` +
    `unused:${block.offsets(unused)}`
  );
}

/** What `count` plans of 12 bytes say, and the tuples of each, which are numbered behind all plans. */
function freezePlans(block: Fields, count: number, numbers?: Fields): string {
  const plans = Array.from({ length: count }, () => ({
    xmax: block.u32(),
    infomask2: block.u16(),
    infomask: block.u16(),
    tuples: block.skip(2).u16(),
  }));
  const offsets = numbers ?? block;
  return list(count, (index) => {
    const { xmax = 0, infomask = 0, infomask2 = 0, tuples = 0 } = plans[index] ?? {};
    return (
      `{ xmax: ${String(xmax)}, infomask: ${String(infomask)}, infomask2: ${String(infomask2)}, ` +
      `ntuples: ${String(tuples)}, offsets:${offsets.offsets(tuples)} }`
    );
  });
}

/** The parts of a block's data are in another order than their counts are printed. */
function describePruneFreeze(record: WalRecord, fields: Fields): string {
  fields.skip(1);
  const flags = fields.u8();
  const has = (flag: number): boolean => (flags & flag) !== 0;
  const xid = has(0x08) ? `snapshotConflictHorizon: ${String(fields.u32())}` : "";
  const text = `${xid}, isCatalogRel: ${truth(has(0x02))}`;
  const ref = record.ref(0);
  if (ref === undefined || ref.dataBytes === 0) return text;
  const block = Fields.ofBlock(record, ref);
  const nplans = has(0x10) ? block.u16() : 0;
  const plansAt = has(0x10) ? block.skip(2).bytes(12 * nplans) : new Uint8Array(0);
  const counted = (flag: number, width: number): { count: number; bytes: Uint8Array } => {
    const count = has(flag) ? block.u16() : 0;
    return { count, bytes: block.bytes(count * width) };
  };
  const redirected = counted(0x20, 4);
  const dead = counted(0x40, 2);
  const unused = counted(0x80, 2);
  let parts = "";
  if (nplans > 0) {
    parts += `, plans:${freezePlans(Fields.ofBytes(record, plansAt), nplans, block)}`;
  }
  if (redirected.count > 0) {
    const words = wordsOf(redirected.bytes);
    parts += `, redirected:${list(redirected.count, (index) => `${String(words[2 * index])}->${String(words[2 * index + 1])}`)}`;
  }
  if (dead.count > 0) parts += `, dead:${list(dead.count, (index) => String(wordsOf(dead.bytes)[index]))}`;
  if (unused.count > 0)
    parts += `, unused:${list(unused.count, (index) => String(wordsOf(unused.bytes)[index]))}`;
  return (
    `${text}, nplans: ${String(nplans)}, nredirected: ${String(redirected.count)}, ndead: ${String(dead.count)}, ` +
    `nunused: ${String(unused.count)}${parts}`
  );
}

function wordsOf(bytes: Uint8Array): readonly number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.byteLength >> 1 }, (_, index) => view.getUint16(2 * index, true));
}

function describeMultiInsert(record: WalRecord, fields: Fields, plain: boolean): string {
  const flags = hexByte(fields.u8());
  const count = fields.skip(1).u16();
  if (plain) return `${String(count)} tuples flags 0x${flags}`;
  const text = `ntuples: ${String(count)}, flags: 0x${flags}`;
  const ref = record.ref(0);
  const hasOffsets = (record.operation & INIT_PAGE) === 0 && ref !== undefined && ref.dataBytes > 0;
  return hasOffsets ? `${text}, offsets:${fields.offsets(count)}` : text;
}

function describeNewCid(fields: Fields, plain: boolean): string {
  fields.skip(4);
  const cmin = String(fields.u32());
  const cmax = String(fields.u32());
  const combo = String(fields.u32());
  const rel = fields.locator();
  const block = (fields.u16() * 0x1_0000 + fields.u16()).toString();
  const tid = `${block}/${String(fields.u16())}`;
  if (plain) return `rel ${rel}; tid ${tid}; cmin: ${cmin}, cmax: ${cmax}, combo: ${combo}`;
  return `rel: ${rel}, tid: ${tid}, cmin: ${cmin}, cmax: ${cmax}, combo: ${combo}`;
}
