/**
 * Redo against PostgreSQL's own images of the pages: `wal_consistency_checking` puts into each record what the page looks
 * like after it. Each block of each record is replayed here on what the record before left, and compared.
 *
 * A page that differs is reported and replaced by the image, so that one mistake is one report.
 */
import { formatLsn } from "@millrace/lsn";
import { restoreImage, WalRecord } from "@millrace/wal-decoder";
import type { BlockRef } from "@millrace/wal-decoder";
import { describe, expect, test } from "vitest";
import {
  applyBlock,
  applyMapEffect,
  implicitEffects,
  maskPage,
  needsBase,
  Page,
  redoBlock,
  RedoError,
  RMGR,
} from "../src/index.js";
import { pageKey, RedoSource, whyNot } from "./redo-source.js";

const kinds = [
  ["system", { wal_compression: "lz4" }],
  ["embedded", { wal_compression: "pglz", wal_level: "logical" }],
] as const;

const RMGR_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(RMGR).map(([name, rmid]) => [rmid, name]),
);

/** `heap 40 #0`: resource manager, operation without the flag for a new page, reference. */
function typeOf(record: WalRecord, ref: BlockRef): string {
  const flags =
    record.rmid === RMGR.heap || record.rmid === RMGR.heap2 || record.rmid === RMGR.brin ? 0x70 : 0xf0;
  const operation = (record.operation & flags).toString(16).padStart(2, "0");
  return `${RMGR_NAMES.get(record.rmid) ?? ""} ${operation} #${String(ref.id)}`;
}

/** Everything that is replayed, by type: each must have been compared. */
const COVERED = [
  ...["00", "10", "20", "40", "50", "60", "70"].map((each) => `heap ${each} #0`),
  "heap 20 #1",
  ...["10", "20", "30", "40", "50", "60"].map((each) => `heap2 ${each} #0`),
  "heap2 40 #1",
  ...["00", "10", "20", "30", "40", "50", "60", "70", "80", "90", "a0", "b0", "c0", "e0"].map(
    (each) => `btree ${each} #0`,
  ),
  ...["10", "20", "30", "40", "80", "a0", "b0"].map((each) => `btree ${each} #1`),
  ...["20", "30", "40", "80", "90", "a0"].map((each) => `btree ${each} #2`),
  "btree 90 #4",
  "hash 20 #0",
  "hash 20 #1",
  "gin 20 #0",
  "gin 20 #1",
  "gin 60 #0",
  "gin 60 #1",
  "gin 70 #0",
  "gin 80 #0",
  "gin 80 #1",
  "gist 00 #0",
  "gist 00 #1",
  "gist 30 #1",
  "gist 30 #2",
  "sequence 00 #0",
  "spgist 10 #0",
  "brin 30 #0",
  "generic 00 #0",
];

/** Only these are refused, and only for the types named here. */
const REFUSED = new Set(["hash", "spgist", "brin", "gin"]);

/** Pages as replay left them, and what was found out on the way. */
class Oracle {
  readonly compared = new Map<string, number>();
  readonly refused = new Map<string, number>();
  readonly reports: string[] = [];
  /** Records of each type, for the tests that damage them. */
  readonly samples = new Map<
    string,
    { bytes: Uint8Array; record: WalRecord; id: number; base: Uint8Array }
  >();
  readonly updates = new Set<string>();
  gistChildren = 0;
  readonly #pages = new Map<string, Page>();
  readonly #image = new Page(new Uint8Array(8192));
  readonly #environment: { readonly hintLsn: boolean };

  constructor(hintLsn: boolean) {
    this.#environment = { hintLsn };
  }

  take(record: WalRecord): void {
    for (const effect of implicitEffects(record)) {
      const page = this.#pages.get(pageKey(effect, 2, effect.mapBlock));
      if (page !== undefined) applyMapEffect(effect, page);
    }
    for (const ref of record.refs) this.#takeBlock(record, ref);
  }

  #takeBlock(record: WalRecord, ref: BlockRef): void {
    const key = pageKey(ref, ref.fork, ref.block);
    let page = this.#pages.get(key);
    if (page === undefined) {
      // The walk begins where the cluster did: what was never seen, and is not initialised now, was not logged then.
      if (needsBase(ref) && ref.fork !== 2) {
        if (ref.hasImage) throw new Error(`no base for ${key} at ${formatLsn(record.startLsn)}`);
        return;
      }
      this.#pages.set(key, (page = new Page(new Uint8Array(8192))));
    }
    const type = typeOf(record, ref);
    const base = Uint8Array.from(page.bytes);
    try {
      redoBlock(record, ref, page, this.#environment);
    } catch (error) {
      if (!(error instanceof RedoError) || error.code !== "ERR_REDO_UNSUPPORTED") throw error;
      this.refused.set(type, (this.refused.get(type) ?? 0) + 1);
      this.#takeImage(record, ref, page);
      return;
    }
    this.#noteSample(type, record, ref, base);
    if (ref.hasImage && !ref.imageApplies) this.#compare(type, record, ref, page, base);
  }

  #noteSample(type: string, record: WalRecord, ref: BlockRef, base: Uint8Array): void {
    if (
      record.rmid === RMGR.heap &&
      (record.operation & 0x50) !== 0x10 &&
      (record.operation & 0x70) !== 0x60
    ) {
      const flags = record.mainBytes >= 14 ? (record.main[7] ?? 0) & 0x60 : 0;
      if (ref.dataBytes > 0) {
        const hoffAt = ref.dataAt + (flags & 0x20 ? 2 : 0) + (flags & 0x40 ? 2 : 0) + 4;
        this.updates.add(`${flags.toString(16)} ${String(record.view.getUint8(hoffAt) > 24)}`);
      }
    }
    if (this.samples.has(type)) return;
    const bytes = Uint8Array.from(record.bytes);
    const copy = new WalRecord(record.pgMajor).decodeBytes(bytes, record);
    this.samples.set(type, { bytes, record: copy, id: ref.id, base });
  }

  #compare(type: string, record: WalRecord, ref: BlockRef, page: Page, base: Uint8Array): void {
    this.compared.set(type, (this.compared.get(type) ?? 0) + 1);
    restoreImage(record, ref, this.#image.bytes);
    const ours = maskPage(page.bytes, record.rmid, ref.fork, ref.block);
    const theirs = maskPage(this.#image.bytes, record.rmid, ref.fork, ref.block);
    if (Buffer.compare(ours, theirs) !== 0) {
      const at = ours.findIndex((byte, index) => byte !== theirs[index]);
      const bytes = [ours, theirs].map((each) => Buffer.from(each.subarray(at, at + 12)).toString("hex"));
      this.reports.push(
        `${type} at ${formatLsn(record.startLsn)}: byte ${String(at)} ${bytes.join(" not ")}`,
      );
      this.#takeImage(record, ref, page);
      return;
    }
    // What has the change has it already.
    const once = Uint8Array.from(page.bytes);
    if (!ref.willInit) redoBlock(record, ref, page, this.#environment);
    if (Buffer.compare(once, page.bytes) !== 0)
      this.reports.push(`${type} is not the same when replayed twice`);
    if (record.rmid === RMGR.gist && ref.id === (record.operation === 0 ? 1 : 0))
      this.#checkGistChild(record, ref, base);
  }

  /** The same child, had its image been one to be applied: it must get the sequence number all the same. */
  #checkGistChild(record: WalRecord, ref: BlockRef, base: Uint8Array): void {
    ref.imageFlags |= 2;
    const page = new Page(applyBlock(record, ref, base, this.#environment));
    ref.imageFlags &= ~2;
    const nsn =
      (BigInt(page.view.getUint32(page.special, true)) << 32n) |
      BigInt(page.view.getUint32(page.special + 4, true));
    if (nsn !== record.endLsn || (page.view.getUint16(page.special + 12, true) & 8) !== 0) {
      this.reports.push(`a child from an image has the sequence number ${formatLsn(record.endLsn)} not`);
    }
    this.gistChildren += 1;
  }

  #takeImage(record: WalRecord, ref: BlockRef, page: Page): void {
    if (!ref.hasImage) throw new Error(`no image at ${formatLsn(record.startLsn)}`);
    restoreImage(record, ref, page.bytes);
    page.setLsn(record.endHigh, record.endLow);
  }
}

// Aim: every block that redo changes looks as PostgreSQL's own does, for every type of record that is replayed. Method: a
// workload of all of them with an image in every record; masked pages compared without any tolerance.
describe.each(kinds)("redo of the %s PostgreSQL's records", (which, settings) => {
  const reason = whyNot(which);
  test.skipIf(reason !== "")(
    `gives the pages that it has itself${reason === "" ? "" : ` (${reason})`}`,
    async () => {
      await using source = await RedoSource.open(which, { ...settings, wal_consistency_checking: "all" });
      await source.runEveryRecord(0.2);
      const oracle = new Oracle(source.hintLsn);
      await source.walk({ endLsn: await source.flushLsn() }, (record) => oracle.take(record));
      expect(oracle.reports).toEqual([]);
      expect(COVERED.filter((type) => !oracle.compared.has(type))).toEqual([]);
      expect([...oracle.refused.keys()].filter((type) => !REFUSED.has(type.split(" ")[0] ?? ""))).toEqual([]);
      expect(oracle.gistChildren).toBeGreaterThan(0);
      // New versions with and without a beginning and an end of the old one, with short and long headers; with logical
      // decoding PostgreSQL logs whole rows.
      const wanted =
        "wal_level" in settings
          ? []
          : ["0", "20", "40", "60"].flatMap((each) => [`${each} false`, `${each} true`]);
      expect(wanted.filter((each) => !oracle.updates.has(each))).toEqual([]);
      expectDamageToBeRefused(oracle);
    },
    120_000,
  );
});

// Aim: a record or page that does not fit is refused, and the page that was given stays. Method: one record of each type,
// with bytes of it, or of the page, changed one at a time.
function expectDamageToBeRefused(oracle: Oracle): void {
  let refused = 0;
  let seed = 7;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % below;
  };
  for (const { bytes, record, id, base } of oracle.samples.values()) {
    for (let turn = 0; turn < 200; turn += 1) {
      const damaged = Uint8Array.from(bytes);
      const page = Uint8Array.from(base);
      if (turn % 2 === 0) damaged[24 + random(damaged.length - 24)] = random(256);
      else page[turn % 4 === 1 ? random(60) : random(8192)] = random(256);
      const before = Uint8Array.from(page);
      try {
        const again = new WalRecord(record.pgMajor).decodeBytes(damaged, record);
        const ref = again.ref(id);
        if (ref !== undefined) applyBlock(again, ref, page, { hintLsn: true });
      } catch (error) {
        const code = (error as { code?: string }).code ?? String(error);
        expect(code).toMatch(/^ERR_(?:REDO|WAL)_/);
        refused += 1;
      }
      expect(Buffer.compare(page, before)).toBe(0);
    }
  }
  expect(refused).toBeGreaterThan(100);
}
