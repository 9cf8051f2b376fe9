/**
 * PostgreSQL's page checksum against PostgreSQL: every page of a cluster that real servers wrote.
 *
 * It is here because packages of the lowest floor cannot run PostgreSQL in their tests. SQL goes through psql of a
 * system installation, which speaks to newer servers too; the embedded package has none.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { createMemorySegment } from "@millrace/aligned-buffers";
import { createPageChecksummer, pageChecksum, verifyPage } from "@millrace/checksums";
import {
  findPostgres,
  PostgresCluster,
  postgresOrSkip,
  runPostgresTool,
  temporaryDirectory,
} from "@millrace/postgres-process";
import { describe, expect, test } from "vitest";

const PAGE_BYTES = 8192;
/** Of a relation's file, which PostgreSQL cuts at 1 GiB. */
const SEGMENT_BLOCKS = 131_072;

/** Heap with long and dead rows, TOAST, every kind of index, free space and visibility maps, an unlogged table. */
const STATEMENTS = [
  `CREATE TABLE things AS SELECT n, md5(n::text) AS text, ARRAY[n, n % 7] AS numbers, point(n, n % 13) AS place
     FROM generate_series(1, 20000) AS n`,
  "CREATE TABLE long AS SELECT n, (SELECT string_agg(md5((n * i)::text), '') FROM generate_series(1, 300) i) AS text FROM generate_series(1, 50) n",
  "CREATE INDEX ON things (n)",
  "CREATE INDEX ON things USING hash (text)",
  "CREATE INDEX ON things USING gin (numbers)",
  "CREATE INDEX ON things USING gist (place)",
  "CREATE INDEX ON things USING spgist (place)",
  "CREATE INDEX ON things USING brin (n)",
  "UPDATE things SET text = text || 'x' WHERE n % 3 = 0",
  "DELETE FROM things WHERE n % 5 = 0",
  "VACUUM ANALYZE things",
  "CREATE UNLOGGED TABLE unlogged AS SELECT generate_series(1, 5000) AS n",
  "CREATE INDEX ON unlogged (n)",
  "CREATE SEQUENCE counter",
  "CHECKPOINT",
];

interface Page {
  readonly file: string;
  readonly block: number;
  readonly bytes: Buffer;
}

/** All pages of a data directory whose server has stopped, with the numbers they have in their relation's fork. */
async function pagesOf(dataDirectory: string): Promise<readonly Page[]> {
  const names = await readdir(dataDirectory, { recursive: true });
  const files = names.filter((name) => /^(base\/\d+|global)\/\d+(_[a-z]+)?(\.\d+)?$/.test(name)).sort();
  const pages: Page[] = [];
  for (const file of files) {
    const content = await readFile(join(dataDirectory, file));
    const first = Number(/\.(\d+)$/.exec(file)?.[1] ?? 0) * SEGMENT_BLOCKS;
    for (let at = 0; at < content.length; at += PAGE_BYTES)
      pages.push({ file, block: first + at / PAGE_BYTES, bytes: content.subarray(at, at + PAGE_BYTES) });
  }
  return pages;
}

async function writtenBy(which: "system" | "embedded"): Promise<readonly Page[]> {
  const [installation, tools] = [findPostgres(which), findPostgres("system")];
  if (installation === undefined || tools === undefined) throw new Error("asked for without a look");
  await using directory = await temporaryDirectory("millrace-pages-");
  await using cluster = await PostgresCluster.create({
    installation,
    directory: directory.path,
    initdbArguments: ["--no-sync", "--data-checksums"],
    settings: { fsync: "off", autovacuum: "off" },
  });
  await cluster.start();
  const commands = STATEMENTS.flatMap((statement) => ["-c", statement]);
  const login = ["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", cluster.url()];
  const { code, stderr } = await runPostgresTool(tools, "psql", [...login, ...commands]);
  expect(code, stderr).toBe(0);
  await cluster.stop("fast");
  return await pagesOf(cluster.dataDirectory);
}

const skip = postgresOrSkip("system").skip;

describe.each(["system", "embedded"] as const)("pages of the %s PostgreSQL", (which) => {
  const reason = postgresOrSkip(which).skip || skip;

  // Aim: the checksum is PostgreSQL's. Method: every page of the cluster, copied and in place; then one bit of each page,
  // at another place in every page, and its block number are wrong.
  const name = `have the checksums that we compute${reason && `: ${reason}`}`;
  test.skipIf(reason !== "")(name, { timeout: 120_000 }, async () => {
    const pages = await writtenBy(which);
    const segment = createMemorySegment(pages.length * PAGE_BYTES);
    const inPlace = createPageChecksummer(segment.memory);
    expect(inPlace.method).toBe("webassembly");
    const states = { valid: 0, new: 0, invalid: 0 };
    const forks = new Set<string>();
    const missed: string[] = [];
    for (const [index, { file, block, bytes }] of pages.entries()) {
      const at = index * PAGE_BYTES;
      segment.view(at, PAGE_BYTES).set(bytes);
      const state = verifyPage(bytes, block);
      expect(state, `${file} block ${block}`).not.toBe("invalid");
      expect(inPlace.verify(at, block)).toBe(state);
      states[state] += 1;
      if (state === "new") continue;
      forks.add(/_[a-z]+/.exec(file)?.[0] ?? "main");
      expect(pageChecksum(bytes, block)).toBe(bytes.readUInt16LE(8));
      // The difference of two numbers below 65535 changes a remainder by 65535 for certain.
      expect(verifyPage(bytes, block + 1)).toBe("invalid");
      const bit = (index * 8191) % (PAGE_BYTES * 8);
      const byte = segment.view(at + (bit >> 3), 1);
      byte[0] = (byte[0] ?? 0) ^ (1 << (bit & 7));
      if (inPlace.verify(at, block) === "valid") missed.push(`bit ${bit} of ${file} block ${block}`);
    }
    // A checksum of 16 bits misses one change in 65535: none of these pages, as a rule, and never five.
    expect(missed.length, missed.join("\n")).toBeLessThan(5);
    expect(states.valid).toBeGreaterThan(1500);
    expect([...forks].sort()).toEqual(["_fsm", "_init", "_vm", "main"]);
  });
});
