/**
 * What records do to the transaction logs: the status of transactions (pg_xact), and the offsets and members of multixacts
 * (pg_multixact).
 *
 * These are pages without headers and LSNs, in segments of 32, that no block reference names: whoever keeps them must put these
 * changes into their history (clog.c, multixact.c). Each change may be made twice, which is how a backup copied while the server
 * wrote becomes right.
 */
import type { WalRecord } from "@millrace/wal-decoder";
import { main } from "./replay.js";
import { RMGR } from "./rmgr.js";
import { transactionEnd } from "./transaction-end.js";

export type SlruName = "xact" | "multixact-offsets" | "multixact-members";

/** Pages of one segment file. */
export const SLRU_PAGES_PER_SEGMENT = 32;

/** A change of one page. */
export type SlruPageEffect =
  /**
   * The page becomes zeros, but for the first `keptBytes`. Of a page of offsets the first slot stays: the last multixact of the
   * page before has written it already, and may have made the page for that.
   */
  | { readonly kind: "zero"; readonly slru: SlruName; readonly page: number; readonly keptBytes: number }
  /** Transactions have committed (1) or aborted (2). */
  | {
      readonly kind: "status";
      readonly slru: "xact";
      readonly page: number;
      readonly xids: readonly number[];
      readonly status: 1 | 2;
    }
  /** Where a multixact's members begin. */
  | {
      readonly kind: "offset";
      readonly slru: "multixact-offsets";
      readonly page: number;
      readonly slot: number;
      readonly value: number;
    }
  /** Members, each at its place among all of them. */
  | {
      readonly kind: "members";
      readonly slru: "multixact-members";
      readonly page: number;
      readonly members: readonly { readonly at: number; readonly xid: number; readonly status: number }[];
    };

/** Segments that are removed. */
export type SlruRemoval =
  /** Every segment whose pages are all older than `page`, which counts around. */
  | { readonly kind: "truncate"; readonly slru: SlruName; readonly page: number }
  /** Segments from the one with `fromPage` up to the one with `untilPage`, which stays; they count around. */
  | {
      readonly kind: "remove";
      readonly slru: "multixact-members";
      readonly fromPage: number;
      readonly untilPage: number;
    };

export type SlruEffect = SlruPageEffect | SlruRemoval;

const XIDS_PER_PAGE = 32_768;
const OFFSETS_PER_PAGE = 2048;
const OFFSET_BYTES = 4;
/** Members come in groups of four: four bytes of status, then four transaction ids. */
const MEMBERS_PER_GROUP = 4;
const GROUP_BYTES = 20;
const GROUPS_PER_PAGE = 409;
const MEMBERS_PER_PAGE: number = MEMBERS_PER_GROUP * GROUPS_PER_PAGE;

const ZERO_PAGE = 0x00;
const CLOG_TRUNCATE = 0x10;
const MULTIXACT = { zeroOffsets: 0x00, zeroMembers: 0x10, create: 0x20, truncate: 0x30 } as const;
const FIRST_MULTIXACT = 1;
const NONE: readonly SlruEffect[] = [];

/**
 * The changes that a record makes to the transaction logs; none for most.
 *
 * @returns in the order in which they are to be made
 * @throws {InvariantViolation} the record is shorter than its type
 */
export function slruEffects(record: WalRecord): readonly SlruEffect[] {
  switch (record.rmid) {
    case RMGR.transaction:
      return ofTransaction(record);
    case RMGR.clog:
      return ofClog(record);
    case RMGR.multiXact:
      return ofMultiXact(record);
    default:
      return NONE;
  }
}

/**
 * Makes a change.
 *
 * @param page 8192 bytes: the page that the effect names, zeros if it did not exist; changed in place
 */
export function applySlruEffect(effect: SlruPageEffect, page: Uint8Array): void {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  switch (effect.kind) {
    case "zero":
      page.fill(0, effect.keptBytes);
      break;
    case "status":
      for (const xid of effect.xids) setStatus(page, xid, effect.status);
      break;
    case "offset":
      view.setUint32(effect.slot * OFFSET_BYTES, effect.value, true);
      break;
    case "members":
      for (const { at, xid, status } of effect.members) {
        const inPage = at % MEMBERS_PER_PAGE;
        const group = Math.floor(inPage / MEMBERS_PER_GROUP) * GROUP_BYTES;
        const place = inPage % MEMBERS_PER_GROUP;
        page[group + place] = status;
        view.setUint32(group + MEMBERS_PER_GROUP + place * 4, xid, true);
      }
      break;
  }
}

function setStatus(page: Uint8Array, xid: number, status: number): void {
  const at = (xid % XIDS_PER_PAGE) >> 2;
  const shift = (xid & 3) << 1;
  page[at] = ((page[at] ?? 0) & ~(3 << shift)) | (status << shift);
}

function ofTransaction(record: WalRecord): readonly SlruEffect[] {
  const end = transactionEnd(record);
  if (end === undefined || end.xid === 0) return NONE;
  const pages = new Map<number, number[]>();
  for (const xid of [end.xid, ...end.subxids]) {
    const page = Math.floor(xid / XIDS_PER_PAGE);
    const xids = pages.get(page);
    if (xids === undefined) pages.set(page, [xid]);
    else xids.push(xid);
  }
  const status = end.isCommit ? 1 : 2;
  return [...pages].map(([page, xids]) => ({ kind: "status", slru: "xact", page, xids, status }));
}

/** Page numbers have 64 bits since version 17; a number of pages that JavaScript cannot count does not exist. */
function pageNumber(record: WalRecord): number {
  if (record.pgMajor < 17) return main.u32();
  const low = main.u32();
  return main.u32() * 0x1_0000_0000 + low;
}

function ofClog(record: WalRecord): readonly SlruEffect[] {
  main.readMain(record);
  const page = pageNumber(record);
  if (record.operation === ZERO_PAGE) return [{ kind: "zero", slru: "xact", page, keptBytes: 0 }];
  return record.operation === CLOG_TRUNCATE ? [{ kind: "truncate", slru: "xact", page }] : NONE;
}

function ofMultiXact(record: WalRecord): readonly SlruEffect[] {
  main.readMain(record);
  switch (record.operation) {
    case MULTIXACT.zeroOffsets:
      return [{ kind: "zero", slru: "multixact-offsets", page: pageNumber(record), keptBytes: OFFSET_BYTES }];
    case MULTIXACT.zeroMembers:
      return [{ kind: "zero", slru: "multixact-members", page: pageNumber(record), keptBytes: 0 }];
    case MULTIXACT.create:
      return ofNewMultiXact();
    case MULTIXACT.truncate:
      return ofMultiXactTruncation();
    default:
      return NONE;
  }
}

function offsetEffect(multixact: number, value: number): SlruPageEffect {
  const page = Math.floor(multixact / OFFSETS_PER_PAGE);
  return { kind: "offset", slru: "multixact-offsets", page, slot: multixact % OFFSETS_PER_PAGE, value };
}

/** The multixact's own offset, that of the next one, which begins where this one ends, and its members. */
function ofNewMultiXact(): readonly SlruEffect[] {
  const multixact = main.u32();
  const offset = main.u32();
  const count = main.u32();
  const next = (multixact + 1) >>> 0 || FIRST_MULTIXACT;
  // The offset 0 means that none was set.
  const nextOffset = (offset + count) >>> 0 || 1;
  const members = new Map<number, { at: number; xid: number; status: number }[]>();
  for (let index = 0; index < count; index += 1) {
    const at = (offset + index) >>> 0;
    const member = { at, xid: main.u32(), status: main.u32() };
    const page = Math.floor(at / MEMBERS_PER_PAGE);
    const ofPage = members.get(page);
    if (ofPage === undefined) members.set(page, [member]);
    else ofPage.push(member);
  }
  return [
    offsetEffect(multixact, offset),
    offsetEffect(next, nextOffset),
    ...[...members].map(([page, ofPage]): SlruPageEffect => {
      return { kind: "members", slru: "multixact-members", page, members: ofPage };
    }),
  ];
}

function ofMultiXactTruncation(): readonly SlruEffect[] {
  main.skip(8);
  const oldest = main.u32();
  const fromMember = main.u32();
  const untilMember = main.u32();
  // The page of the one before the oldest that is kept: its members end where the oldest one's begin.
  const last = oldest <= FIRST_MULTIXACT ? 0xffff_ffff : oldest - 1;
  return [
    {
      kind: "remove",
      slru: "multixact-members",
      fromPage: Math.floor(fromMember / MEMBERS_PER_PAGE),
      untilPage: Math.floor(untilMember / MEMBERS_PER_PAGE),
    },
    { kind: "truncate", slru: "multixact-offsets", page: Math.floor(last / OFFSETS_PER_PAGE) },
  ];
}
