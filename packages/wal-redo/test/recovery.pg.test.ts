/**
 * Redo against PostgreSQL's recovery: the pages that replay makes of a base backup are those of a recovered cluster, byte for
 * byte, free space and LSN included. Only the checksum is another: it is set when a page is written to a file.
 */
import { formatLsn, parseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { runPostgresTool } from "@millrace/postgres-process";
import { describe, expect, test } from "vitest";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  applyMapEffect,
  applySlruEffect,
  implicitEffects,
  needsBase,
  Page,
  redoBlock,
  RedoError,
  SLRU_PAGES_PER_SEGMENT,
  slruEffects,
} from "../src/index.js";
import type { SlruPageEffect } from "../src/index.js";
import type { WalRecord } from "@millrace/wal-decoder";
import { BaseBackup, RelationFiles } from "./recovered-cluster.js";
import { pageKey, RedoSource, whyNot } from "./redo-source.js";

interface Change {
  readonly bytes: Uint8Array;
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

interface Place {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
  readonly block: number;
}

const STORAGE = 2;
const TRUNCATE = 0x20;
const MAIN_FORK_FLAG = 1;

/** Every page that the WAL changes, and the records that change it. */
class History {
  readonly records: Change[] = [];
  /** Changes of the transaction logs. */
  readonly slru: { readonly effect: SlruPageEffect; readonly endLsn: Lsn }[] = [];
  readonly pages = new Map<
    string,
    { place: Place; changes: { record: number; from: "ref" | "effect" | "cut" }[] }
  >();

  add(record: WalRecord): void {
    const index = this.records.length;
    const change = (place: Place, from: "ref" | "effect" | "cut"): void => {
      const key = pageKey(place, place.fork, place.block);
      let page = this.pages.get(key);
      if (page === undefined) this.pages.set(key, (page = { place, changes: [] }));
      page.changes.push({ record: index, from });
    };
    for (const effect of implicitEffects(record))
      change({ ...effect, fork: 2, block: effect.mapBlock }, "effect");
    for (const { spc, db, rel, fork, block } of record.refs) change({ spc, db, rel, fork, block }, "ref");
    if (record.rmid === STORAGE && record.operation === TRUNCATE) this.#cut(record, change);
    for (const effect of slruEffects(record)) {
      // Nothing is old enough here to be removed.
      if (effect.kind === "truncate" || effect.kind === "remove") continue;
      this.slru.push({ effect, endLsn: record.endLsn });
    }
    this.records.push({
      bytes: Uint8Array.from(record.bytes),
      startLsn: record.startLsn,
      endLsn: record.endLsn,
    });
  }

  /** Blocks behind a relation's new end are gone: should they come back, they begin as zeros. */
  #cut(record: WalRecord, change: (place: Place, from: "cut") => void): void {
    const word = (at: number): number => record.view.getUint32(record.mainAt + at, true);
    const [blocks, spc, db, rel] = [word(0), word(4), word(8), word(12)];
    if ((word(16) & MAIN_FORK_FLAG) === 0) return;
    for (const { place } of this.pages.values()) {
      if (place.spc !== spc || place.db !== db || place.rel !== rel) continue;
      const mapEnd = Math.ceil(blocks / 32_672);
      if ((place.fork === 0 && place.block >= blocks) || (place.fork === 2 && place.block >= mapEnd)) {
        change(place, "cut");
      }
    }
  }
}

// Aim: what is served as of an LSN is what recovery to that LSN has. Method: a backup copied under load, a workload of all
// types, recovery to three positions; each page that the WAL touched, replayed from the backup's own copy of it.
describe.each(["system", "embedded"] as const)("pages of the %s PostgreSQL", (which) => {
  const reason = whyNot(which);
  test.skipIf(reason !== "")(
    `are those of a recovered cluster${reason === "" ? "" : ` (${reason})`}`,
    async () => {
      await using source = await RedoSource.open(which, { max_wal_senders: "2" });
      await source.tool("pgbench", ["-i", "-q", "-s", "2", source.cluster.url()]);
      const load = runPostgresTool(source.tools, "pgbench", [
        "-n",
        "-c",
        "2",
        "-T",
        "4",
        source.cluster.url(),
      ]);
      await source.sql("SELECT pg_sleep(0.3)");
      const backup = await BaseBackup.take(source);
      expect((await load).code).toBe(0);
      // Recovery writes its pages when it stops only if it has met a checkpoint.
      await source.sql("CHECKPOINT");
      const first = await source.flushLsn();
      await source.runEveryRecord(0.15);
      await source.sql("CHECKPOINT", "SELECT pg_create_restore_point('end')");
      const endText = await source.sql("SELECT pg_current_wal_insert_lsn()");
      await source.sql("SELECT pg_switch_wal()");
      const end = parseLsn(endText);
      const history = new History();
      await source.walk({ startLsn: backup.startLsn, endLsn: await source.flushLsn() }, (record) =>
        history.add(record),
      );

      // Behind the checkpoint, however much the load before it wrote.
      const later = history.records.filter(({ startLsn }) => startLsn > first);
      const middle = later[Math.floor(later.length * 0.6)];
      // Recovery stops behind the first record that begins at its target or later.
      const early = history.records.findLast(({ endLsn }) => endLsn <= first);
      if (middle === undefined || early === undefined) throw new Error("no records");
      const targets = [
        { name: "early", target: { lsn: formatLsn(early.startLsn) }, lsn: early.endLsn },
        { name: "middle", target: { lsn: formatLsn(middle.startLsn) }, lsn: middle.endLsn },
        { name: "late", target: { name: "end" }, lsn: end },
      ];
      const compared: number[] = [];
      let slruPages: readonly string[] = [];
      for (const { name, target, lsn } of targets) {
        const directory = await backup.recover(source, name, target);
        const recovered = new RelationFiles(directory);
        compared.push(await compare(source, history, new RelationFiles(backup.directory), recovered, lsn));
        slruPages = await compareSlru(history, backup.directory, directory, lsn);
      }
      // How many pages of members there are depends on which clients met.
      expect(slruPages).toEqual(
        expect.arrayContaining(["multixact-members 0", "multixact-offsets 0", "xact 0"]),
      );
      expect(Math.min(...compared)).toBeGreaterThan(150);
    },
    240_000,
  );
});

/** Replays every page up to `lsn` and compares those that exist there; gives their number. */
async function compare(
  source: RedoSource,
  history: History,
  backup: RelationFiles,
  recovered: RelationFiles,
  lsn: Lsn,
): Promise<number> {
  const { WalRecord } = await import("@millrace/wal-decoder");
  const record = new WalRecord(source.pgMajor);
  const environment = { hintLsn: source.hintLsn };
  const different: string[] = [];
  let compared = 0;
  for (const [key, { place, changes }] of history.pages) {
    // The free space map is not replayed, and an unsupported type's page is not either.
    if (place.fork === 1) continue;
    const wanted = await recovered.page(place, place.fork, place.block);
    if (wanted === undefined) continue;
    const base = await backup.page(place, place.fork, place.block);
    const page = new Page(base === undefined ? new Uint8Array(8192) : Uint8Array.from(base));
    let known = true;
    let touched = false;
    for (const { record: index, from } of changes) {
      const change = history.records[index];
      if (change === undefined || change.endLsn > lsn) break;
      touched = true;
      if (from === "cut") {
        page.bytes.fill(0);
        known = true;
        continue;
      }
      record.decodeBytes(change.bytes, change);
      if (from === "effect") {
        for (const effect of implicitEffects(record)) {
          if (effect.rel === place.rel && effect.mapBlock === place.block) applyMapEffect(effect, page);
        }
        continue;
      }
      for (const ref of record.refs) {
        if (pageKey(ref, ref.fork, ref.block) !== key) continue;
        if (!needsBase(ref)) known = true;
        if (!known) continue;
        try {
          redoBlock(record, ref, page, environment);
        } catch (error) {
          if (!(error instanceof RedoError) || error.code !== "ERR_REDO_UNSUPPORTED") throw error;
          known = false;
        }
      }
    }
    if (!known || !touched) continue;
    compared += 1;
    const ours = page.bytes;
    const at = ours.findIndex((byte, index) => byte !== wanted[index] && index !== 8 && index !== 9);
    if (at >= 0)
      different.push(`${key}: byte ${String(at)} is ${String(ours[at])}, not ${String(wanted[at])}`);
  }
  expect(different).toEqual([]);
  return compared;
}

const SLRU_DIRECTORY = {
  xact: "pg_xact",
  "multixact-offsets": "pg_multixact/offsets",
  "multixact-members": "pg_multixact/members",
} as const;

/** A page of a transaction log; undefined if its file does not have it. */
async function slruPage(directory: string, { slru, page }: SlruPageEffect): Promise<Uint8Array | undefined> {
  const segment = Math.floor(page / SLRU_PAGES_PER_SEGMENT);
  const name = segment.toString(16).toUpperCase().padStart(4, "0");
  const at = (page % SLRU_PAGES_PER_SEGMENT) * 8192;
  const file = await readFile(join(directory, SLRU_DIRECTORY[slru], name)).catch(() => Buffer.alloc(0));
  return file.byteLength < at + 8192 ? undefined : Uint8Array.from(file.subarray(at, at + 8192));
}

/** Makes all changes up to `lsn` on the backup's pages and compares them; gives the names of the pages. */
async function compareSlru(
  history: History,
  backup: string,
  recovered: string,
  lsn: Lsn,
): Promise<readonly string[]> {
  const pages = new Map<string, { effect: SlruPageEffect; bytes: Uint8Array }>();
  for (const { effect, endLsn } of history.slru) {
    if (endLsn > lsn) break;
    const name = `${effect.slru} ${String(effect.page)}`;
    let page = pages.get(name);
    if (page === undefined) {
      page = { effect, bytes: (await slruPage(backup, effect)) ?? new Uint8Array(8192) };
      pages.set(name, page);
    }
    applySlruEffect(effect, page.bytes);
  }
  for (const [name, { effect, bytes }] of pages) {
    const wanted = await slruPage(recovered, effect);
    const at = bytes.findIndex((byte, index) => byte !== wanted?.[index]);
    expect(`${name}: ${String(at)}`).toBe(`${name}: -1`);
  }
  return [...pages.keys()];
}
