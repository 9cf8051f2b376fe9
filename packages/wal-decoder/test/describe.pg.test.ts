/**
 * Whole records against PostgreSQL: each line equals pg_waldump's, and every page image unpacks.
 *
 * A workload makes the server write records of nearly every type, once as it would, once with images for verification
 * in all of them. pg_waldump is asked where there is one of the server's version, pg_walinspect in any case.
 */
import { formatLsn } from "@millrace/lsn";
import { describe, expect, test } from "vitest";
import { describeParts, describeRecord, restoreImage, WalDecoder, WalRecord } from "../src/index.js";
import { MIB } from "./wal-builder.js";
import { WalSource } from "./postgres-wal.js";

const kinds = [
  ["system", "plain", {}],
  ["system", "verified", { wal_consistency_checking: "all", wal_compression: "lz4" }],
  ["embedded", "plain", { wal_level: "logical" }],
  ["embedded", "verified", { wal_consistency_checking: "all", wal_compression: "pglz" }],
] as const;

/** Types that the workload must have written in any version, or it would show little. */
const WANTED =
  "CHECKPOINT_ONLINE PARAMETER_CHANGE RESTORE_POINT FPI COMMIT PREPARE ABORT COMMIT_PREPARED ABORT_PREPARED " +
  "CREATE_FILE_COPY CREATE_WAL_LOG DROP ZERO_MEM_PAGE CREATE_ID UPDATE RUNNING_XACTS INVALIDATIONS VISIBLE " +
  "MULTI_INSERT MULTI_INSERT+INIT LOCK_UPDATED INSERT+INIT DELETE HOT_UPDATE UPDATE+INIT HEAP_CONFIRM LOCK INPLACE " +
  "INSERT_UPPER INSERT_META SPLIT_L SPLIT_R INSERT_POST DEDUP UNLINK_PAGE UNLINK_PAGE_META NEWROOT MARK_PAGE_HALFDEAD " +
  "VACUUM META_CLEANUP SQUEEZE_PAGE SPLIT_COMPLETE INSERT_LISTPAGE DELETE_LISTPAGE PAGE_SPLIT LOG ADD_LEAF MOVE_LEAFS " +
  "PICKSPLIT VACUUM_LEAF VACUUM_REDIRECT SAMEPAGE_UPDATE REVMAP_EXTEND DESUMMARIZE Generic MESSAGE";

// Aim: nothing of a record is misread. Method: every record of the workload, its line character for character, in
// chunks that cut records anywhere; each image restored, its hole zeros, its header a page's.
describe.each(kinds)("records of the %s PostgreSQL, %s", (which, kind, settings) => {
  const reason = WalSource.whyNot(which);
  test.skipIf(reason !== "")(
    `are described as PostgreSQL does${reason === "" ? "" : ` (${reason})`}`,
    async () => {
      await using source = await WalSource.open(which, 16 * MIB, settings);
      await source.sql("CREATE EXTENSION pg_walinspect");
      await source.runEveryRecord(kind === "plain" ? 0.6 : 0.25);
      const endLsn = await source.flushLsn();
      const { startLsn, bytes } = await source.wal(endLsn);
      const record = new WalRecord(source.pgMajor);
      const page = new Uint8Array(8192);
      const lines: string[] = [];
      const parts: string[][] = [];
      const seen = new Set<string>();
      let images = 0;
      let verified = 0;
      const decoder = new WalDecoder({
        startLsn,
        pgMajor: source.pgMajor,
        segmentBytes: 16 * MIB,
        start: "anywhere",
        wholeRecords: true,
        onRecord: (visit) => {
          record.decode(visit);
          lines.push(describeRecord(record));
          const { operation, description } = describeParts(record);
          parts.push([formatLsn(record.startLsn), operation, description]);
          seen.add(operation);
          for (const ref of record.refs) {
            if (!ref.hasImage) continue;
            page.fill(0xee);
            restoreImage(record, ref, page);
            images += 1;
            if (!ref.imageApplies) verified += 1;
            const hole = page.subarray(ref.holeOffset, ref.holeOffset + ref.holeBytes);
            if (hole.some((byte) => byte !== 0)) throw new Error("the hole is not zeros");
            const size = new DataView(page.buffer).getUint16(18, true);
            if (size !== 0x2004 && page.some((byte) => byte !== 0)) throw new Error("no page");
          }
        },
      });
      const sizes = [65_536, 1, 8191, 24, 100_003];
      for (let at = 0, turn = 0; at < bytes.byteLength; turn += 1) {
        const size = sizes[turn % sizes.length] ?? 1;
        decoder.feed(bytes.subarray(at, at + size));
        at += size;
      }
      expect(decoder.recordEndLsn).toBe(endLsn);
      expect(WANTED.split(" ").filter((name) => !seen.has(name))).toEqual([]);
      expect(images).toBeGreaterThan(500);
      expect(verified > 10_000).toBe(kind === "verified");

      const dump = await source.dumpLines(startLsn, endLsn);
      if (dump !== undefined) expectEqualLines(lines, dump);
      const described = await source.describedRecords(startLsn, endLsn);
      expectEqualLines(
        parts.map((each) => each.join("|")),
        described.map((each) => each.join("|")),
      );
    },
    120_000,
  );
});

/** Two lists of a hundred thousand lines: says where they first differ instead of printing both. */
function expectEqualLines(found: readonly string[], wanted: readonly string[]): void {
  const at = wanted.findIndex((line, index) => line !== found[index]);
  if (at >= 0) expect(found[at]).toBe(wanted[at]);
  expect(found.length).toBe(wanted.length);
}
