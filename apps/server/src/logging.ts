/**
 * Structured logs: JSON lines for machines, coloured lines for a person at a terminal.
 *
 * Logs go to standard error, so that what a command prints for its user (URLs, the demo's table) can be piped
 * alone. Both formats are written synchronously: the last line before a process ends is the one that matters.
 * A child of the all-in-one always writes JSON; its parent reads the lines and logs them as its own, so that one
 * format and one stream reach the user and a status line at the bottom of the terminal is not torn.
 */
import { Writable } from "node:stream";

import { pino } from "pino";
import type { DestinationStream, Level, Logger } from "pino";
import pinoPretty from "pino-pretty";

export type { Logger } from "pino";

/** Levels that the option takes, most talkative first. */
export const LOG_LEVELS: readonly ["trace", "debug", "info", "warn", "error", "fatal"] = [
  "trace",
  "debug",
  "info",
  "warn",
  "error",
  "fatal",
];
/** "auto" is pretty on a terminal and json otherwise. */
export const LOG_FORMATS: readonly ["auto", "pretty", "json"] = ["auto", "pretty", "json"];

/** What `createLogger` needs to know. */
export interface LogOptions {
  readonly level: (typeof LOG_LEVELS)[number];
  readonly format: (typeof LOG_FORMATS)[number];
  /** Takes each finished line; standard error when absent. */
  readonly write?: (text: string) => void;
}

function standardError(): DestinationStream {
  const destination = pino.destination({ fd: 2, sync: true });
  // A full disk or a closed terminal costs log lines, not the server.
  destination.on("error", () => undefined);
  return destination;
}

/** A logger that writes as `options` say. */
export function createLogger(options: LogOptions): Logger {
  const write = options.write;
  const pretty = options.format === "pretty" || (options.format === "auto" && process.stderr.isTTY);
  let destination: DestinationStream;
  if (pretty) {
    const sink = new Writable({
      write(chunk: Buffer, _encoding, done) {
        (write ?? ((text: string): boolean => process.stderr.write(text)))(chunk.toString());
        done();
      },
    });
    destination = pinoPretty({
      colorize: process.stderr.isTTY,
      ignore: "pid,hostname",
      translateTime: "HH:MM:ss.l",
      singleLine: true,
      destination: sink,
      sync: true,
    });
  } else {
    destination = write === undefined ? standardError() : { write };
  }
  return pino({ level: options.level, base: { pid: process.pid } }, destination);
}

/** A logger that says nothing, for tests and for parts that are used without one. */
export function silentLogger(): Logger {
  return pino({ level: "silent" });
}

const LEVEL_BY_NUMBER: Readonly<Record<number, Level>> = pino.levels.labels as Record<number, Level>;

/**
 * Logs one line of a child's output as ours. A line that is not one of pino's (a crash's stack trace, a warning of
 * Node) is logged as it is, at level warn.
 */
export function relayLine(logger: Logger, line: string): void {
  if (line.trim() === "") return;
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch {
    parsed = undefined;
  }
  const record = parsed as { level?: unknown; msg?: unknown } | undefined;
  const level = typeof record?.level === "number" ? LEVEL_BY_NUMBER[record.level] : undefined;
  if (level === undefined || typeof record !== "object") {
    logger.warn(line);
    return;
  }
  const { level: _level, time: _time, pid: _pid, msg, ...fields } = record as Record<string, unknown>;
  logger[level](fields, typeof msg === "string" ? msg : "");
}
