/**
 * Descriptions of the index access methods (nbtdesc.c, hashdesc.c, gindesc.c, gistdesc.c, spgdesc.c, brindesc.c).
 */
import type { WalRecord } from "../wal-record.js";
import { Fields, list, truth } from "./fields.js";

/** Whether the index belongs to a catalog table: in the records since version 16, in their descriptions since 17. */
function catalog(record: WalRecord, fields: Fields, colon: string): string {
  return record.pgMajor >= 17 ? `, isCatalogRel${colon} ${fields.flag()}` : "";
}

export function describeBtree(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  const plain = record.pgMajor === 15;
  const name = (text: string): string => (plain ? text : `${text}:`);
  const separator = plain ? ";" : ",";
  const horizon = plain ? "latestRemovedXid" : "snapshotConflictHorizon:";
  switch (record.operation) {
    case 0x00:
    case 0x10:
    case 0x20:
    case 0x50:
      return `${name("off")} ${String(fields.u16())}`;
    case 0x30:
    case 0x40: {
      const level = `${name("level")} ${String(fields.u32())}`;
      const right = `${name("firstrightoff")} ${String(fields.u16())}`;
      const added = `${name("newitemoff")} ${String(fields.u16())}`;
      return `${level}, ${right}, ${added}, ${name("postingoff")} ${String(fields.u16())}`;
    }
    case 0x60:
      return `${name("nintervals")} ${String(fields.u16())}`;
    case 0xc0: {
      const deleted = fields.u16();
      const updated = fields.u16();
      const counts = `${name("ndeleted")} ${String(deleted)}${separator} ${name("nupdated")} ${String(updated)}`;
      return counts + (plain ? "" : deletedItems(record, deleted, updated));
    }
    case 0x70: {
      const xid = String(fields.u32());
      const deleted = fields.u16();
      const updated = fields.u16();
      const counts = `${name("ndeleted")} ${String(deleted)}${separator} ${name("nupdated")} ${String(updated)}`;
      const text = `${horizon} ${xid}${separator} ${counts}`;
      return plain ? text : `${text}${catalog(record, fields, ":")}${deletedItems(record, deleted, updated)}`;
    }
    case 0xb0: {
      fields.skip(4);
      const [leaf, left, right] = [fields.u32(), fields.u32(), fields.u32()].map(String);
      const top = String(fields.u32());
      const parts = [
        `${name("topparent")} ${top}`,
        `${name("leaf")} ${leaf ?? ""}`,
        `${name("left")} ${left ?? ""}`,
      ];
      return [...parts, `${name("right")} ${right ?? ""}`].join(`${separator} `);
    }
    case 0x80:
    case 0x90: {
      const parts = ["left", "right", "level"].map((each) => `${name(each)} ${String(fields.u32())}`);
      parts.push(`${name("safexid")} ${fields.align(8).fullXid()}`);
      for (const each of ["leafleft", "leafright", "leaftopparent"])
        parts.push(`${name(each)} ${String(fields.u32())}`);
      return parts.join(`${separator} `);
    }
    case 0xa0:
      return `${plain ? "lev" : "level:"} ${String(fields.skip(4).u32())}`;
    case 0xd0: {
      const text = `${name("rel")} ${fields.locator()}${separator} ${horizon} ${fields.skip(4).fullXid()}`;
      return text + catalog(record, fields, ":");
    }
    case 0xe0:
      return describeMetaCleanup(record, plain);
    default:
      return "";
  }
}

function describeMetaCleanup(record: WalRecord, plain: boolean): string {
  const ref = record.ref(0);
  if (ref === undefined || ref.dataBytes === 0) return "";
  const pages = Fields.ofBlock(record, ref).skip(20).u32();
  return `last_cleanup_num_delpages${plain ? "" : ":"} ${String(pages)}`;
}

function deletedItems(record: WalRecord, deleted: number, updated: number): string {
  const ref = record.ref(0);
  if (ref === undefined || ref.dataBytes === 0) return "";
  const block = Fields.ofBlock(record, ref);
  const offsets = block.offsets(deleted);
  const numbers = Array.from({ length: updated }, () => block.u16());
  const items = list(updated, (index) => {
    const count = block.u16();
    return `{ off: ${String(numbers[index])}, nptids: ${String(count)}, ptids:${block.offsets(count)} }`;
  });
  return `, deleted:${offsets}, updated:${items}`;
}

export function describeHash(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  switch (record.operation) {
    case 0x00: {
      const tuples = String(fields.f64());
      return `num_tuples ${tuples}, fillfactor ${String(fields.skip(4).u16())}`;
    }
    case 0x10:
      return `bmsize ${String(fields.u16())}`;
    case 0x20:
      return `off ${String(fields.u16())}`;
    case 0x30:
      return `bmsize ${String(fields.u16())}, bmpage_found ${fields.flag()}`;
    case 0x40: {
      const bucket = String(fields.u32());
      const flags = fields.skip(4).u8();
      const masks = truth((flags & 1) !== 0);
      return `new_bucket ${bucket}, meta_page_masks_updated ${masks}, issplitpoint_changed ${truth((flags & 2) !== 0)}`;
    }
    case 0x60:
      return `old_bucket_flag ${String(fields.u16())}, new_bucket_flag ${String(fields.u16())}`;
    case 0x70:
      return `ntups ${String(fields.u16())}, is_primary ${fields.flag()}`;
    case 0x80: {
      const blocks = `prevblkno ${String(fields.u32())}, nextblkno ${String(fields.u32())}`;
      return `${blocks}, ntups ${String(fields.u16())}, is_primary ${fields.flag()}`;
    }
    case 0x90:
      return `clear_dead_marking ${fields.flag()}, is_primary ${fields.flag()}`;
    case 0xb0:
      return `ntuples ${String(fields.f64())}`;
    case 0xc0: {
      const xid = String(fields.u32());
      if (record.pgMajor === 15) return `ntuples ${String(fields.i32())}, latestRemovedXid ${xid}`;
      const tuples = String(fields.u16());
      return `ntuples ${tuples}, snapshotConflictHorizon ${xid}${catalog(record, fields, "")}`;
    }
    default:
      return "";
  }
}

const GIN_FLAG = { isData: 1, isLeaf: 2, splitRoot: 4 } as const;

export function describeGin(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  switch (record.operation) {
    case 0x20:
      return describeGinInsert(record, fields);
    case 0x30: {
      const flags = fields.skip(24).u16();
      const root = truth((flags & GIN_FLAG.splitRoot) !== 0);
      return `isrootsplit: ${root}${ginKind(flags)}`;
    }
    case 0x80:
      return `ndeleted: ${String(fields.skip(56).i32())}`;
    case 0x90: {
      const image = ginImage(record);
      const ref = record.ref(0);
      if (image !== "" || ref === undefined) return image;
      return recompressedLeaf(Fields.ofBlock(record, ref));
    }
    default:
      return "";
  }
}

function ginKind(flags: number): string {
  return ` isdata: ${truth((flags & GIN_FLAG.isData) !== 0)} isleaf: ${truth((flags & GIN_FLAG.isLeaf) !== 0)}`;
}

function ginImage(record: WalRecord): string {
  const ref = record.ref(0);
  if (ref === undefined || !ref.hasImage) return "";
  return ref.imageApplies ? " (full page image)" : " (full page image, for WAL verification)";
}

function describeGinInsert(record: WalRecord, fields: Fields): string {
  const flags = fields.u16();
  let text = ginKind(flags).slice(1);
  const blockId = (): string => String(fields.u16() * 0x1_0000 + fields.u16());
  if ((flags & GIN_FLAG.isLeaf) === 0) text += ` children: ${blockId()}/${blockId()}`;
  const image = ginImage(record);
  const ref = record.ref(0);
  if (image !== "" || ref === undefined) return text + image;
  const block = Fields.ofBlock(record, ref);
  if ((flags & GIN_FLAG.isData) === 0) return `${text} isdelete: ${truth(block.skip(2).u8() !== 0)}`;
  if ((flags & GIN_FLAG.isLeaf) !== 0) return text + recompressedLeaf(block);
  block.skip(2);
  const child = String(block.u16() * 0x1_0000 + block.u16());
  const keyBlock = String(block.u16() * 0x1_0000 + block.u16());
  return `${text} pitem: ${child}-${keyBlock}/${String(block.u16())}`;
}

const SEGMENT_ACTION: readonly string[] = ["", "delete", "insert", "replace", "add"];

function recompressedLeaf(block: Fields): string {
  const actions = block.u16();
  let text = ` ${String(actions)} segments:`;
  for (let index = 0; index < actions; index += 1) {
    const segment = String(block.u8());
    const action = block.u8();
    const name = SEGMENT_ACTION[action] ?? "";
    if (name === "") return `${text} ${segment} unknown action ${String(action)} ???`;
    if (name === "add") {
      const items = block.u16();
      block.skip(6 * items);
      text += ` ${segment} (add ${String(items)} items)`;
      continue;
    }
    if (name !== "delete") {
      const bytes = block.skip(6).u16();
      block.skip(bytes + (bytes & 1));
    }
    text += ` ${segment} (${name})`;
  }
  return text;
}

export function describeGist(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  const plain = record.pgMajor === 15;
  const horizon = plain ? "latestRemovedXid" : "snapshotConflictHorizon";
  switch (record.operation) {
    case 0x10: {
      const text = `delete: ${horizon} ${String(fields.u32())}, nitems: ${String(fields.u16())}`;
      return text + catalog(record, fields, "");
    }
    case 0x20: {
      const block = `rel ${fields.locator()}; blk ${String(fields.u32())}`;
      const text = `${block}; ${horizon} ${fields.fullXid()}`;
      return text + catalog(record, fields, "");
    }
    case 0x30:
      return `page_split: splits to ${String(fields.skip(18).u16())} pages`;
    case 0x60: {
      const xid = fields.fullXid();
      return `deleteXid ${xid}; downlink ${String(fields.u16())}`;
    }
    default:
      return "";
  }
}

export function describeSpgist(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  const marked = (isSet: boolean, text: string): string => (isSet ? ` (${text})` : "");
  switch (record.operation) {
    case 0x10: {
      const added = fields.u8() !== 0;
      const nulls = fields.u8() !== 0;
      const [off, head, parent, node] = [fields.u16(), fields.u16(), fields.u16(), fields.u16()].map(String);
      const text = `off: ${off ?? ""}, headoff: ${head ?? ""}, parentoff: ${parent ?? ""}, nodeI: ${node ?? ""}`;
      return `${text}${marked(added, "newpage")}${marked(nulls, "nulls")}`;
    }
    case 0x20: {
      const moves = String(fields.u16());
      const added = fields.u8() !== 0;
      const replaced = fields.u8() !== 0;
      const nulls = fields.u8() !== 0;
      const parent = String(fields.align(2).u16());
      const text = `nmoves: ${moves}, parentoff: ${parent}, nodeI: ${String(fields.u16())}`;
      return `${text}${marked(added, "newpage")}${marked(replaced, "replacedead")}${marked(nulls, "nulls")}`;
    }
    case 0x30: {
      const offsets = `off: ${String(fields.u16())}, newoff: ${String(fields.u16())}`;
      const added = fields.u8() !== 0;
      const parent = `parentBlk: ${String(fields.i8())}, parentoff: ${String(fields.u16())}`;
      return `${offsets}, ${parent}, nodeI: ${String(fields.u16())}${marked(added, "newpage")}`;
    }
    case 0x40: {
      const text = `prefixoff: ${String(fields.u16())}, postfixoff: ${String(fields.u16())}`;
      return `${text}${marked(fields.u8() !== 0, "newpage")}${marked(fields.u8() !== 0, "same")}`;
    }
    case 0x50:
      return describePickSplit(fields, marked);
    case 0x60: {
      const names = ["ndead", "nplaceholder", "nmove", "nchain"];
      return names.map((name) => `${name}: ${String(fields.u16())}`).join(", ");
    }
    case 0x70:
      return `ndelete: ${String(fields.u16())}`;
    case 0x80: {
      const text = `ntoplaceholder: ${String(fields.u16())}, firstplaceholder: ${String(fields.u16())}`;
      if (record.pgMajor === 15) return `${text}, newestredirectxid: ${String(fields.u32())}`;
      const xid = String(fields.u32());
      return `${text}, snapshotConflictHorizon: ${xid}${catalog(record, fields, ":")}`;
    }
    default:
      return "";
  }
}

function describePickSplit(fields: Fields, marked: (isSet: boolean, text: string) => string): string {
  const isRoot = fields.u8() !== 0;
  const counts = `ndelete: ${String(fields.align(2).u16())}, ninsert: ${String(fields.u16())}`;
  const inner = String(fields.skip(2).u16());
  const nulls = fields.skip(1).u8() !== 0;
  const innerIsParent = fields.u8() !== 0;
  const parent = String(fields.align(2).u16());
  const text = `${counts}, inneroff: ${inner}, parentoff: ${parent}, nodeI: ${String(fields.u16())}`;
  return `${text}${marked(innerIsParent, "innerIsParent")}${marked(nulls, "nulls")}${marked(isRoot, "isRootSplit")}`;
}

export function describeBrin(record: WalRecord): string {
  const fields = Fields.ofMain(record);
  switch (record.operation & 0x70) {
    case 0x00: {
      const pages = String(fields.u32());
      return `v${String(fields.u16())} pagesPerRange ${pages}`;
    }
    case 0x10:
      return `heapBlk ${String(fields.u32())} pagesPerRange ${String(fields.u32())} offnum ${String(fields.u16())}`;
    case 0x20: {
      const old = String(fields.u16());
      const range = `heapBlk ${String(fields.align(4).u32())} pagesPerRange ${String(fields.u32())}`;
      return `${range} old offnum ${old}, new offnum ${String(fields.u16())}`;
    }
    case 0x30:
      return `offnum ${String(fields.u16())}`;
    case 0x40:
      return `targetBlk ${String(fields.u32())}`;
    case 0x50: {
      const range = `pagesPerRange ${String(fields.u32())}, heapBlk ${String(fields.u32())}`;
      return `${range}, page offset ${String(fields.u16())}`;
    }
    default:
      return "";
  }
}
