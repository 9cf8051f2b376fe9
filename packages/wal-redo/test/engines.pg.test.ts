/**
 * Every engine gives the same pages: threads, our own processes in both dialects, and redo in this thread.
 */
import { fileURLToPath } from "node:url";
import { WalRecord } from "@millrace/wal-decoder";
import { expect, test } from "vitest";
import { applyBlock, applyMapEffect, implicitEffects, needsBase, Page, RedoManager } from "../src/index.js";
import type { PageKey, PageModification, RedoEngine, RedoRequest } from "../src/index.js";
import { pageKey, RedoSource, whyNot } from "./redo-source.js";

const PAGES = 200;
const MAIN = fileURLToPath(new URL("../dist/worker-main.js", import.meta.url));

interface Chain {
  readonly page: PageKey;
  readonly modifications: PageModification[];
}

/** Pages whose whole history is in the WAL, and that history. */
async function chains(source: RedoSource): Promise<Chain[]> {
  const found = new Map<string, Chain>();
  const note = (page: PageKey, modification: PageModification, begins: boolean): void => {
    const key = pageKey(page, page.fork, page.block);
    if (begins) found.set(key, { page, modifications: [modification] });
    else found.get(key)?.modifications.push(modification);
  };
  await source.walk({ endLsn: await source.flushLsn() }, (record) => {
    const { endLsn } = record;
    for (const effect of implicitEffects(record)) {
      note({ ...effect, fork: 2, block: effect.mapBlock }, { kind: "effect", effect, endLsn }, false);
    }
    const bytes = Uint8Array.from(record.bytes);
    for (const ref of record.refs) {
      const { spc, db, rel, fork, block } = ref;
      // What is not replayed (Hash, GIN, GiST, SP-GiST, BRIN in part) is left out.
      if (record.rmid >= 12 && record.rmid <= 17 && record.rmid !== 15) continue;
      const page = { spc, db, rel, fork, block };
      // A map's page is zeros before the first bit is set.
      const begins = !needsBase(ref) || (fork === 2 && !found.has(pageKey(page, fork, block)));
      note(page, { kind: "record", bytes, endLsn }, begins);
    }
  });
  // Maps first, as they are few; then the longest.
  const weight = ({ page, modifications }: Chain): number =>
    modifications.length + (page.fork === 2 ? 1e9 : 0);
  return [...found.values()].sort((a, b) => weight(b) - weight(a)).slice(0, PAGES);
}

function replayedHere({ page, modifications }: Chain, pgMajor: number, hintLsn: boolean): Uint8Array {
  let bytes: Uint8Array = new Uint8Array(8192);
  for (const modification of modifications) {
    if (modification.kind === "effect") {
      applyMapEffect(modification.effect, new Page(bytes));
      continue;
    }
    const record = new WalRecord(pgMajor).decodeBytes(modification.bytes, {
      startLsn: modification.endLsn,
      endLsn: modification.endLsn,
    });
    for (const ref of record.refs) {
      if (pageKey(ref, ref.fork, ref.block) !== pageKey(page, page.fork, page.block)) continue;
      bytes = applyBlock(record, ref, bytes, { hintLsn });
    }
  }
  return bytes;
}

const reason = whyNot("system");

// Aim: it does not matter who replays. Method: 200 histories of a workload of all types, the longest ones, by each engine.
test.skipIf(reason !== "")(
  `all engines give the same pages${reason === "" ? "" : ` (${reason})`}`,
  async () => {
    await using source = await RedoSource.open("system", {});
    await source.runEveryRecord(0.1);
    const all = await chains(source);
    const { pgMajor, hintLsn } = source;
    const wanted = all.map((chain) => Buffer.from(replayedHere(chain, pgMajor, hintLsn)));
    expect(all.length).toBe(PAGES);
    expect(all.some(({ modifications }) => modifications.some(({ kind }) => kind === "effect"))).toBe(true);
    const neon = [process.execPath, MAIN, JSON.stringify({ dialect: "neon", pgMajor, hintLsn })] as const;
    const engines: readonly RedoEngine[] = ["thread", "process", { command: neon, dialect: "neon" }];
    for (const engine of engines) {
      await using manager = await RedoManager.open({ engine, workerCount: 2 });
      const requests = all.map(({ page, modifications }): RedoRequest => {
        const lsn = modifications.at(-1)?.endLsn;
        if (lsn === undefined) throw new Error("no history");
        return { page, lsn, modifications, pgMajor, hintLsn, purpose: "read" };
      });
      const pages = await Promise.all(requests.map((request) => manager.redo(request)));
      expect(pages.map((page, index) => Buffer.compare(page, wanted[index] ?? page))).toEqual(
        all.map(() => 0),
      );
      expect(manager.status()).toMatchObject({ retried: 0, killed: { poison: 0 } });
    }
  },
  120_000,
);
