/**
 * A real acceptor process under load until it dies, and what must be found afterwards.
 *
 * Each life of the process has a proposer of a new term, which adopts the log as the acceptor describes it and appends
 * different WAL from its end on, some of it without waiting for answers. What the acceptor has acknowledged is what it must not lose.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createConnection } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { connect } from "@millrace/pg-wire";
import { openDiskControlStore } from "../src/disk-control-store.js";
import { openDiskWalStore } from "../src/disk-wal-store.js";
import type { FileSystem } from "../src/file-system.js";
import { START, TestProposer } from "./acceptor-harness.js";
import type { Pair } from "./duplex-pair.js";
import { TENANT, TIMELINE } from "./fixtures.js";
import { WalStream } from "./wal-stream.js";

const PROGRAM: string = fileURLToPath(new URL("./crashing-acceptor.mjs", import.meta.url));
/** Appends of one life, and bytes of the longest record: some lives cross a segment's end, most do not. */
const APPENDS = 40;
const RECORD_BYTES_MAX = 50_000;
/** How often an append is waited for before the next one; else it is on its way together with others. */
const WAITING = 0.5;

/** How the process is run, besides its directory. */
export interface CrashOptions {
  readonly journal?: { readonly journal: string; readonly kept: string; readonly dieAt: number };
  /** From which durable write or sync on all fail with EIO: the process has to end itself. */
  readonly failAt?: number;
  /** Called as soon as so many acknowledgements have come in this life. */
  readonly onAcknowledgements?: { readonly count: number; readonly call: () => void };
}

/** One log over many lives of an acceptor. */
export class CrashLoad {
  readonly directory: string;
  /** What the log must be a prefix of, and how far it must reach at least. */
  #stream = new WalStream({ startLsn: START });
  #acked: Lsn = START;
  /** Of the last vote that was given, and that was asked for: a vote may be on disk although its answer never came. */
  #term = 0n;
  #askedTerm = 0n;
  #isThere = false;
  acknowledgements = 0;

  constructor(directory: string) {
    this.directory = directory;
  }

  /**
   * One life: start, election, load. The process dies of itself, or is killed when everything is acknowledged. Resolves
   * when it is gone, with its exit code if it had one.
   */
  async live(options: CrashOptions, random: () => number): Promise<number | null> {
    const { journal, failAt } = options;
    const settings = JSON.stringify({ directory: this.directory, journal, failAt });
    // What it says of a disk that is meant to fail is no news.
    const complaints =
      failAt === undefined && options.onAcknowledgements === undefined ? "inherit" : "ignore";
    const child = spawn(process.execPath, [PROGRAM, settings], { stdio: ["ignore", "pipe", complaints] });
    const gone = once(child, "exit");
    try {
      const lines = createInterface({ input: child.stdout });
      const port = await Promise.race([
        once(lines, "line").then(([line]) => Number(String(line).slice(5))),
        gone,
      ]);
      if (typeof port === "number") {
        await this.#push(port, random, options).catch((error: unknown) => {
          // A connection of a process that dies ends as it likes; anything else is told by the checks.
          const { code, message } = error as { readonly code?: string; readonly message: string };
          if (!/^ERR_WIRE|^ECONN|^EPIPE/.test(String(code)) && !message.includes('{"type":"end"'))
            throw error;
        });
      }
      if (failAt !== undefined) await gone;
    } finally {
      child.kill("SIGKILL");
      await gone;
    }
    return child.exitCode;
  }

  /** What the log is after a crash; throws if something acknowledged is missing, or something strange is there. */
  async check(fileSystem: FileSystem, where: string): Promise<void> {
    const directory = `${this.directory}/${TENANT}/${TIMELINE}`;
    if ((await fileSystem.stat(directory)) === undefined) {
      if (this.#isThere) throw new Error(`${where}: the timeline is gone`);
      return;
    }
    const control = await openDiskControlStore({ directory, fileSystem });
    await using wal = await openDiskWalStore({ directory, fileSystem, control });
    if (control.get().term < this.#term) throw new Error(`${where}: the vote of term ${this.#term} is gone`);
    const end = wal.flushLsn;
    if (end === 0n && this.#acked === START) return;
    if (end < this.#acked)
      throw new Error(`${where}: ${formatLsn(this.#acked)} was acknowledged, found ${formatLsn(end)}`);
    const wanted = this.#stream.slice(START, end);
    const found = new Uint8Array(wanted.byteLength);
    await using reader = wal.openReader(START);
    for (let filled = 0; filled < found.byteLength;) filled += await reader.read(found.subarray(filled));
    if (Buffer.compare(found, wanted) !== 0) throw new Error(`${where}: the log is not what was sent`);
  }

  async #push(port: number, random: () => number, { onAcknowledgements }: CrashOptions): Promise<void> {
    const socket = createConnection({ host: "127.0.0.1", port, noDelay: true });
    const client = await connect({
      user: "test",
      ssl: "disable",
      parameters: { options: `-c tenant_id=${TENANT} timeline_id=${TIMELINE}` },
      connectSocket: () => socket,
    });
    const stream = await client.startCopyBoth("START_WAL_PUSH (proto_version '3')");
    const proposer = new TestProposer(client, stream, undefined as unknown as Pair, Promise.resolve(), 3);
    await proposer.greet();
    this.#isThere = true;
    const term = (this.#askedTerm += 1n);
    const vote = await proposer.vote(term);
    if (!vote.voteGiven) throw new Error(`no vote in term ${term}`);
    this.#term = term;
    const end = vote.flushLsn === 0n ? START : vote.flushLsn;
    if (end < this.#acked)
      throw new Error(`voted with ${formatLsn(end)}, acknowledged ${formatLsn(this.#acked)}`);
    const earlier = vote.history.length === 0 ? [{ term: 0n, lsn: START }] : vote.history;
    const wal = this.#stream.fork(end, Number(term % 250n) + 1);
    this.#stream = wal;
    proposer.elect(term, end, [...earlier, { term, lsn: end }]);
    let count = 0;
    const receive = async (): Promise<void> => {
      const { flushLsn } = await proposer.receiveOf("append-response");
      if (flushLsn <= this.#acked) return;
      this.#acked = flushLsn;
      this.acknowledgements += 1;
      count += 1;
      if (count === onAcknowledgements?.count) onAcknowledgements.call();
    };
    for (let appended = 0; appended < APPENDS; appended += 1) {
      const begin = wal.endLsn;
      wal.record(Math.floor(random() ** 4 * RECORD_BYTES_MAX));
      proposer.append(wal, begin, wal.endLsn, this.#acked, term);
      if (random() < WAITING && this.#acked < wal.endLsn) await receive();
    }
    while (this.#acked < wal.endLsn) await receive();
  }
}
