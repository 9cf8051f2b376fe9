/**
 * A record as pg_waldump prints it, character for character.
 */
import { formatLsn } from "@millrace/lsn";
import { FORK } from "../block-ref.js";
import type { WalRecord } from "../wal-record.js";
import { describeHeap, describeHeap2 } from "./heap.js";
import {
  describeBrin,
  describeBtree,
  describeGin,
  describeGist,
  describeHash,
  describeSpgist,
} from "./indexes.js";
import { operationName, rmgrName } from "./operations.js";
import {
  describeClog,
  describeCommitTs,
  describeDatabase,
  describeLogicalMessage,
  describeMultiXact,
  describeRelMap,
  describeReplicationOrigin,
  describeSequence,
  describeStorage,
  describeTablespace,
  describeXlog,
} from "./server.js";
import { describeStandby, describeTransaction } from "./transactions.js";

const FORK_NAMES: readonly string[] = ["main", "fsm", "vm", "init"];

/** By the number of the resource manager. Generic records say nothing of themselves. */
const DESCRIBE: readonly ((record: WalRecord) => string)[] = [
  describeXlog,
  describeTransaction,
  describeStorage,
  describeClog,
  describeDatabase,
  describeTablespace,
  describeMultiXact,
  describeRelMap,
  describeStandby,
  describeHeap2,
  describeHeap,
  describeBtree,
  describeHash,
  describeGin,
  describeGist,
  describeSequence,
  describeSpgist,
  describeBrin,
  describeCommitTs,
  describeReplicationOrigin,
  () => "",
  describeLogicalMessage,
];

/** The parts of a record's line. */
export interface RecordDescription {
  /** Name of the resource manager. */
  readonly rmgr: string;
  /** What the record does, for example `INSERT+INIT`. */
  readonly operation: string;
  /** Its fields, in the words of the version that wrote it. */
  readonly description: string;
  /** Its blocks, each with a comma before it; empty without blocks. */
  readonly blocks: string;
}

/**
 * The parts of a record's line.
 *
 * @throws {WalDecodeError} ERR_WAL_RECORD_STRUCTURE for a record that is shorter than its type
 */
export function describeParts(record: WalRecord): RecordDescription {
  const describe = DESCRIBE[record.rmid] ?? ((each) => `rmid: ${String(each.rmid)}`);
  return {
    rmgr: rmgrName(record.rmid),
    operation: operationName(record),
    description: describe(record),
    blocks: describeBlocks(record),
  };
}

/**
 * A record's line, equal to that of pg_waldump of the same major version where the time zone is UTC.
 *
 * @throws {WalDecodeError} ERR_WAL_RECORD_STRUCTURE for a record that is shorter than its type
 */
export function describeRecord(record: WalRecord): string {
  const { rmgr, operation, description, blocks } = describeParts(record);
  let images = 0;
  for (const ref of record.refs) images += ref.imageBytes;
  const lengths = `${pad(record.totalBytes - images, 6)}/${pad(record.totalBytes, 6)}`;
  const place = `lsn: ${paddedLsn(record.startLsn)}, prev ${paddedLsn(record.prevLsn)}`;
  return (
    `rmgr: ${rmgr.padEnd(11)} len (rec/tot): ${lengths}, tx: ${pad(record.xid, 10)}, ${place}, ` +
    `desc: ${operation} ${description}${blocks}`
  );
}

function pad(value: number, width: number): string {
  return String(value).padStart(width);
}

/** The lower half has eight digits in the columns, unlike in descriptions. */
function paddedLsn(lsn: WalRecord["startLsn"]): string {
  const [high = "", low = ""] = formatLsn(lsn).split("/");
  return `${high}/${low.padStart(8, "0")}`;
}

function describeBlocks(record: WalRecord): string {
  let text = "";
  for (const ref of record.refs) {
    const fork = ref.fork === FORK.main ? "" : ` fork ${FORK_NAMES[ref.fork] ?? ""}`;
    const rel = `${String(ref.spc)}/${String(ref.db)}/${String(ref.rel)}`;
    text += `, blkref #${String(ref.id)}: rel ${rel}${fork} blk ${String(ref.block)}`;
    if (ref.hasImage) text += ref.imageApplies ? " FPW" : " FPW for WAL verification";
  }
  return text;
}
