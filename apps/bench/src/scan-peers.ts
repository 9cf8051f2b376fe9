/**
 * Who takes part in the contests of the suite `scan`, beside the same scan in other ways: PostgreSQL, fio, node:fs.
 */
import { createReadStream, existsSync } from "node:fs";
import { join } from "node:path";

import type { MaybeContestant } from "./available.js";
import type { Sample } from "./contest.js";
import { FIO_HINT, fioCommand, fioVersion, runFio, writeWithFio } from "./fio.js";
import { makeCold, prewarm } from "./prewarm.js";
import type { PrewarmGround } from "./prewarm.js";
import { PAGE_BYTES, relation } from "./pool-ground.js";
import { runScan, scanCommand } from "./scan-run.js";
import type { ScanSpec } from "./scan-run.js";

/** The relation of the contest of cached pages, where there is no table of PostgreSQL. */
export const CACHED = 2;
const WARM_UP_BLOCKS = 32_768;
const COMBINE = 16;
/** I/Os in flight, of the scan and of fio. */
export const DEPTH = 16;
const CHUNK_BYTES = 128 * 1024;
const FIO_MS = 2000;
const FIO_READ = ["ioengine=io_uring", "direct=1", "rw=read", `bs=${CHUNK_BYTES / 1024}k`, "iomem=shmhuge"];
const FIO_VERIFY = "verify=crc32c";
/** Else fio leaves a file in the working directory. */
const FIO_NO_STATE = "verify_state_save=0";
const QUICK_FIO_MS = 60;

/** What the groups share. */
export interface ScanGround {
  readonly quick: boolean;
  readonly directory: string;
  readonly table: PrewarmGround | undefined;
  readonly missing: { readonly postgres: string | undefined; readonly uring: string | undefined };
  readonly hugePages: string | undefined;
}

/** A cold scan of the table, past the page cache, with every part of the design; but for `wish`. */
export function specOf(ground: ScanGround, wish: Partial<ScanSpec>): ScanSpec {
  const { table, quick } = ground;
  return {
    directory: table?.dataDirectory ?? ground.directory,
    relation: table?.relation ?? relation(CACHED),
    blocks: table?.blocks ?? 0,
    warmUpBlocks: quick ? 64 : WARM_UP_BLOCKS,
    method: "io_uring",
    direct: true,
    checksums: true,
    buffers: 16_384,
    combineLimit: COMBINE,
    effectiveIoConcurrency: DEPTH,
    contiguous: true,
    passes: 1,
    isCached: false,
    isAged: false,
    ...wish,
  };
}

/** The scan of `wish`, in MB/s. */
export function scanner(ground: ScanGround, name: string, wish: Partial<ScanSpec> = {}): MaybeContestant {
  const spec = specOf(ground, wish);
  return {
    name,
    command: scanCommand(spec),
    missing: ground.missing.postgres ?? (spec.method === "io_uring" ? ground.missing.uring : undefined),
    run: async () => runScan(spec, "MB/s"),
  };
}

/** `pg_prewarm` of the table by a server that has just been started, with `settings`. */
export function prewarmer(
  ground: ScanGround,
  name: string,
  settings: Readonly<Record<string, string>>,
): MaybeContestant {
  const { table, missing } = ground;
  const said = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
  return {
    name,
    command: `PostgreSQL ${table?.installation.version ?? ""}: pg_prewarm('t', 'buffer'), shared_buffers=128MB, ${said.join(", ")}`,
    missing: missing.postgres,
    run: async () => (table === undefined ? [] : prewarm(table, settings)),
  };
}

/** I/Os a second as MB/s; the second sample is a rate as well. */
function inMegabytes(samples: readonly Sample[]): Sample[] {
  return samples.map(({ rate, checksum, details = {} }) => ({
    rate: (rate * CHUNK_BYTES) / 1e6,
    checksum,
    details,
  }));
}

/** fio reading in order, `depth` at a time, so that its work is a scan's. */
export function fioReader(
  ground: ScanGround,
  name: string,
  { path, depth, more = [] }: { readonly path: string; readonly depth: number; readonly more?: string[] },
): MaybeContestant {
  const { table, quick, missing, hugePages } = ground;
  const job = {
    path,
    fileBytes: (table?.blocks ?? 0) * PAGE_BYTES,
    options: [...FIO_READ, `iodepth=${depth}`, ...more],
    warmUpMs: 0,
    timedMs: quick ? QUICK_FIO_MS : FIO_MS,
  };
  return {
    name,
    command: fioCommand(job),
    missing:
      missing.postgres ?? missing.uring ?? hugePages ?? (fioVersion() === undefined ? FIO_HINT : undefined),
    run: () => inMegabytes(runFio(job)),
  };
}

/** The same file of fio's own, every 128 KiB with a CRC-32C in front, which reading verifies. */
export function fioVerifier(ground: ScanGround, name: string): MaybeContestant {
  const path = join(ground.directory, "verified.bin");
  const reader = fioReader(ground, name, { path, depth: DEPTH, more: [FIO_VERIFY, FIO_NO_STATE] });
  return {
    ...reader,
    run(round: number) {
      if (!existsSync(path)) {
        writeWithFio({
          path,
          fileBytes: (ground.table?.blocks ?? 0) * PAGE_BYTES,
          options: [
            "rw=write",
            `bs=${CHUNK_BYTES / 1024}k`,
            "direct=1",
            FIO_VERIFY,
            FIO_NO_STATE,
            "do_verify=0",
          ],
        });
      }
      return reader.run(round);
    },
  };
}

/** Node reading the table in order, and looking at a word of each page. */
export function nodeReader(ground: ScanGround, name: string): MaybeContestant {
  const { table, missing } = ground;
  const path = table?.path ?? "";
  const end = (table?.blocks ?? 0) * PAGE_BYTES - 1;
  return {
    name,
    command: "fs.createReadStream, highWaterMark 128 KiB",
    missing: missing.postgres,
    run: async () => {
      makeCold(path);
      const start = performance.now();
      let [bytes, sum] = [0, 0];
      for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES, end })) {
        const data = chunk as Buffer;
        bytes += data.length;
        for (let at = 12; at < data.length; at += PAGE_BYTES)
          sum = (Math.imul(sum, 31) + (data[at] ?? 0)) | 0;
      }
      const seconds = (performance.now() - start) / 1000;
      return [{ rate: bytes / 1e6 / seconds, checksum: String(sum) }];
    },
  };
}
