/**
 * What a child process says on stderr, line by line, to whoever listens on the channel `wal-redo:stderr`.
 *
 * The pipe is always read, however slow the listener and however much the child says: a child that waits for its stderr to
 * be taken would never answer. What is too much is dropped and counted.
 */
import { channel } from "node:diagnostics_channel";
import type { Readable } from "node:stream";
import type { RedoClock } from "./clock.js";

/** A longer line is cut, and marked as cut. */
const LINE_BYTES_MAX = 8192;
const LINES_A_SECOND_MAX = 200;
const SECOND_MS = 1000;
const NEWLINE = 0x0a;

/** One line of a child. */
export interface StderrLine {
  readonly pid: number;
  /** `debug` for what a PostgreSQL calls LOG, `error` for everything else. */
  readonly level: "debug" | "error";
  readonly line: string;
}

/** Lines of children: messages are `StderrLine`. */
const stderrChannel = channel("wal-redo:stderr");

export class StderrLines {
  readonly #pid: number;
  readonly #clock: RedoClock;
  readonly #line = Buffer.alloc(LINE_BYTES_MAX);
  #fill = 0;
  #isCut = false;
  #secondBegan = -SECOND_MS;
  #linesInSecond = 0;
  #suppressed = 0;
  #lines = 0;
  #dropped = 0;

  /** Begins to read `stream` to its end. */
  constructor(stream: Readable, pid: number, clock: RedoClock) {
    this.#pid = pid;
    this.#clock = clock;
    stream.on("data", (chunk: Buffer) => this.#take(chunk));
    stream.on("end", () => {
      if (this.#fill > 0) this.#finishLine();
      this.#tellSuppressed();
    });
  }

  /** Lines that were passed on, and lines that were not. */
  get counts(): { readonly lines: number; readonly dropped: number } {
    return { lines: this.#lines, dropped: this.#dropped };
  }

  #take(chunk: Buffer): void {
    for (let at = 0; at < chunk.byteLength;) {
      const newline = chunk.indexOf(NEWLINE, at);
      const end = newline < 0 ? chunk.byteLength : newline;
      const taken = Math.min(end - at, LINE_BYTES_MAX - this.#fill);
      chunk.copy(this.#line, this.#fill, at, at + taken);
      this.#fill += taken;
      if (taken < end - at) this.#isCut = true;
      if (newline < 0) return;
      this.#finishLine();
      at = newline + 1;
    }
  }

  #finishLine(): void {
    const line = this.#line.toString("utf8", 0, this.#fill) + (this.#isCut ? "…" : "");
    this.#fill = 0;
    this.#isCut = false;
    const now = this.#clock.monotonicMs();
    if (now - this.#secondBegan >= SECOND_MS) {
      this.#tellSuppressed();
      this.#secondBegan = now;
      this.#linesInSecond = 0;
    }
    this.#linesInSecond += 1;
    if (this.#linesInSecond > LINES_A_SECOND_MAX) {
      this.#suppressed += 1;
      this.#dropped += 1;
      return;
    }
    this.#lines += 1;
    this.#publish(line, line.includes("LOG:") ? "debug" : "error");
  }

  #tellSuppressed(): void {
    if (this.#suppressed === 0) return;
    this.#publish(`suppressed ${String(this.#suppressed)} lines`, "error");
    this.#suppressed = 0;
  }

  #publish(line: string, level: StderrLine["level"]): void {
    stderrChannel.publish({ pid: this.#pid, level, line } satisfies StderrLine);
  }
}
