/**
 * Names of resource managers and of what their records do, as pg_waldump prints them (rmgrlist.h and the `identify`
 * functions of access/rmgrdesc).
 */
import type { WalRecord } from "../wal-record.js";
import { RMID_CUSTOM_MIN } from "../layout.js";

/** By the number of the resource manager. */
const RMGR_NAMES =
  "XLOG Transaction Storage CLOG Database Tablespace MultiXact RelMap Standby Heap2 Heap Btree Hash Gin Gist Sequence " +
  "SPGist BRIN CommitTs ReplicationOrigin Generic LogicalMessage";
const RMGRS: readonly string[] = RMGR_NAMES.split(" ");

/** Name of a resource manager; those of extensions have a number only. */
export function rmgrName(rmid: number): string {
  return rmid < RMID_CUSTOM_MIN ? (RMGRS[rmid] ?? `unknown${String(rmid)}`) : `custom${String(rmid)}`;
}

/** One resource manager's operations: the bits of `info` that tell them, and their names by those bits. */
interface Operations {
  readonly mask: number;
  readonly names: Readonly<Record<number, string>>;
  /** A bit that adds `+INIT` to the name. */
  readonly init?: number;
}

/** Names in the order of their numbers, which go up by 16; an empty one does not exist. */
function named(names: string, mask = 0xf0, init?: number): Operations {
  const entries = names.split(" ").map((name, index) => [index * 16, name === "-" ? "" : name] as const);
  return { mask, names: Object.fromEntries(entries), ...(init === undefined ? {} : { init }) };
}

const HEAP2_BEFORE_17 = named(
  "REWRITE PRUNE VACUUM FREEZE_PAGE VISIBLE MULTI_INSERT LOCK_UPDATED NEW_CID",
  0x70,
  0x80,
);
const HEAP2_SINCE_17 = named(
  "REWRITE PRUNE_ON_ACCESS PRUNE_VACUUM_SCAN PRUNE_VACUUM_CLEANUP VISIBLE MULTI_INSERT LOCK_UPDATED NEW_CID",
  0x70,
  0x80,
);

const OPERATIONS: readonly (Operations | undefined)[] = [
  named(
    "CHECKPOINT_SHUTDOWN CHECKPOINT_ONLINE NOOP NEXTOID SWITCH BACKUP_END PARAMETER_CHANGE RESTORE_POINT FPW_CHANGE " +
      "END_OF_RECOVERY FPI_FOR_HINT FPI - OVERWRITE_CONTRECORD CHECKPOINT_REDO",
  ),
  named("COMMIT PREPARE ABORT COMMIT_PREPARED ABORT_PREPARED ASSIGNMENT INVALIDATION", 0x70),
  named("- CREATE TRUNCATE"),
  named("ZEROPAGE TRUNCATE"),
  named("CREATE_FILE_COPY CREATE_WAL_LOG DROP"),
  named("CREATE DROP"),
  named("ZERO_OFF_PAGE ZERO_MEM_PAGE CREATE_ID TRUNCATE_ID"),
  named("UPDATE"),
  named("LOCK RUNNING_XACTS INVALIDATIONS"),
  HEAP2_BEFORE_17,
  named("INSERT DELETE UPDATE TRUNCATE HOT_UPDATE HEAP_CONFIRM LOCK INPLACE", 0x70, 0x80),
  named(
    "INSERT_LEAF INSERT_UPPER INSERT_META SPLIT_L SPLIT_R INSERT_POST DEDUP DELETE UNLINK_PAGE UNLINK_PAGE_META NEWROOT " +
      "MARK_PAGE_HALFDEAD VACUUM REUSE_PAGE META_CLEANUP",
  ),
  named(
    "INIT_META_PAGE INIT_BITMAP_PAGE INSERT ADD_OVFL_PAGE SPLIT_ALLOCATE_PAGE SPLIT_PAGE SPLIT_COMPLETE " +
      "MOVE_PAGE_CONTENTS SQUEEZE_PAGE DELETE SPLIT_CLEANUP UPDATE_META_PAGE VACUUM_ONE_PAGE",
  ),
  named(
    "- CREATE_PTREE INSERT SPLIT VACUUM_PAGE DELETE_PAGE UPDATE_META_PAGE INSERT_LISTPAGE DELETE_LISTPAGE " +
      "VACUUM_DATA_LEAF_PAGE",
  ),
  named("PAGE_UPDATE DELETE PAGE_REUSE PAGE_SPLIT - - PAGE_DELETE ASSIGN_LSN"),
  named("LOG"),
  named("- ADD_LEAF MOVE_LEAFS ADD_NODE SPLIT_TUPLE PICKSPLIT VACUUM_LEAF VACUUM_ROOT VACUUM_REDIRECT"),
  named("CREATE_INDEX INSERT UPDATE SAMEPAGE_UPDATE REVMAP_EXTEND DESUMMARIZE", 0x70, 0x80),
  named("ZEROPAGE TRUNCATE"),
  named("SET DROP"),
  { mask: 0, names: { 0: "Generic" } },
  named("MESSAGE"),
];

const HEAP2 = 9;
const HEAP_TYPES_WITH_INIT = new Set(["INSERT", "UPDATE", "HOT_UPDATE", "MULTI_INSERT"]);

/** What the record does, for example `INSERT+INIT`; `UNKNOWN (f0)` for an operation that does not exist. */
export function operationName(record: WalRecord): string {
  const { rmid } = record;
  const operations = rmid === HEAP2 && record.pgMajor >= 17 ? HEAP2_SINCE_17 : OPERATIONS[rmid];
  const name = operations?.names[record.operation & operations.mask];
  if (operations === undefined || name === undefined || name === "") {
    return `UNKNOWN (${record.operation.toString(16)})`;
  }
  const init = operations.init !== undefined && (record.operation & operations.init) !== 0;
  if (!init) return name;
  return HEAP_TYPES_WITH_INIT.has(name) ? `${name}+INIT` : `UNKNOWN (${record.operation.toString(16)})`;
}
