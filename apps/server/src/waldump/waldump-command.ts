/**
 * `millrace waldump`: prints the records of WAL files as pg_waldump does, of PostgreSQL 15 to 18 with one program.
 *
 * Where the WAL ends by itself that is said on stderr and no failure; WAL that is damaged is one. What is printed before is
 * printed in any case. Nothing is printed faster than the reader takes it.
 */
import { once } from "node:events";
import type { Writable } from "node:stream";

import { blockStart, formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { describeParts, describeRecord, scanWal, WalRecord } from "@millrace/wal-decoder";
import type { RecordVisit, WalEnd } from "@millrace/wal-decoder";

import type { WaldumpConfiguration } from "../configuration/waldump-options.js";
import { EXIT } from "../errors.js";
import { WalFiles } from "./wal-files.js";

/** Thrown by the visitor to end the scan where the user wants it to end. */
class Enough extends Error {
  override readonly name = "Enough";
}

/** Records and bytes of a type. */
interface Count {
  records: number;
  bytes: number;
  imageBytes: number;
}

/** What becomes of the records: lines, or counts. */
class Dump {
  readonly #configuration: WaldumpConfiguration;
  readonly #record: WalRecord;
  readonly #counts = new Map<string, Count>();
  #text = "";
  #left: number;

  constructor(configuration: WaldumpConfiguration, pgMajor: number) {
    this.#configuration = configuration;
    this.#record = new WalRecord(pgMajor);
    this.#left = configuration.limit;
  }

  take(visit: RecordVisit): void {
    const { end, start, rmgr, stats } = this.#configuration;
    if (end !== undefined && visit.startLsn >= end) throw new Enough();
    if (start !== undefined && visit.startLsn < start) return;
    const record = this.#record.decode(visit);
    const parts = describeParts(record);
    if (rmgr !== undefined && parts.rmgr !== rmgr) return;
    if (stats) this.#count(`${parts.rmgr}/${parts.operation}`, record);
    else this.#text += `${describeRecord(record)}\n`;
    this.#left -= 1;
    if (this.#left === 0) throw new Enough();
  }

  /** What has been printed since the last call. */
  takeText(): string {
    const text = this.#text;
    this.#text = "";
    return text;
  }

  #count(type: string, record: WalRecord): void {
    let count = this.#counts.get(type);
    if (count === undefined) this.#counts.set(type, (count = { records: 0, bytes: 0, imageBytes: 0 }));
    for (const ref of record.refs) count.imageBytes += ref.imageBytes;
    count.records += 1;
    count.bytes += record.totalBytes;
  }

  /** The counts, most frequent first, and their sum. */
  statistics(): string {
    const rows = [...this.#counts].sort(([, a], [, b]) => b.records - a.records);
    const sum: Count = { records: 0, bytes: 0, imageBytes: 0 };
    for (const [, { records, bytes, imageBytes }] of rows) {
      sum.records += records;
      sum.bytes += bytes;
      sum.imageBytes += imageBytes;
    }
    const line = (type: string, records: string, bytes: string, images: string): string =>
      `${type.padEnd(36)} ${records.padStart(12)} ${bytes.padStart(14)} ${images.padStart(14)}\n`;
    const numbers = (type: string, { records, bytes, imageBytes }: Count): string =>
      line(type, String(records), String(bytes), String(imageBytes));
    const table = rows.map(([type, count]) => numbers(type, count)).join("");
    return line("type", "records", "bytes", "of images") + table + numbers("total", sum);
  }
}

/** Writes text, and waits until more of it may come. */
async function print(output: Writable, text: string): Promise<void> {
  if (text !== "" && !output.write(text)) await once(output, "drain");
}

function endText(end: WalEnd): string {
  const why = {
    "end-of-data": "the files end",
    zeros: "nothing was written",
    recycled: "an older file was renamed",
    invalid: "",
  };
  const text = end.error === undefined || end.reason !== "invalid" ? why[end.reason] : end.error.message;
  return `the WAL ends at ${formatLsn(end.endLsn)}: ${text}`;
}

/**
 * Runs the command.
 *
 * @returns the exit code: a failure where the WAL is damaged before the end that was asked for
 * @throws {ServerError} ERR_SERVER_DATA: there is nothing to read
 */
export async function runWaldump(
  configuration: WaldumpConfiguration,
  output: Writable = process.stdout,
  notes: Writable = process.stderr,
): Promise<number> {
  using files = new WalFiles(configuration.walDir, configuration.timelineId);
  const { pgMajor, segmentBytes, startLsn: firstLsn } = files.first;
  const dump = new Dump(configuration, pgMajor);
  const startLsn: Lsn = configuration.start === undefined ? firstLsn : blockStart(configuration.start);
  let end: WalEnd | undefined;
  try {
    end = await scanWal({
      startLsn,
      pgMajor,
      segmentBytes,
      start: "anywhere",
      wholeRecords: true,
      onRecord: (visit) => dump.take(visit),
      read: async (lsn, target) => {
        await print(output, dump.takeText());
        return files.read(lsn, target);
      },
    });
  } catch (error) {
    if (!(error instanceof Enough)) throw error;
  }
  await print(output, configuration.stats ? dump.statistics() : dump.takeText());
  if (end === undefined) return EXIT.ok;
  const reached = configuration.end !== undefined && end.endLsn >= configuration.end;
  if (!reached) await print(notes, `millrace: ${endText(end)}\n`);
  return end.reason === "invalid" && !reached ? EXIT.failure : EXIT.ok;
}
