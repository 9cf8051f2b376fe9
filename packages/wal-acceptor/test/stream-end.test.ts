import { WireError } from "@millrace/pg-wire";
import { ProtocolError } from "@millrace/wal-protocol";
import { expect, test } from "vitest";

import { AcceptorError, isOperatingError, storageError } from "../src/errors.js";
import {
  causeChain,
  decideStreamEnd,
  errorFieldsOf,
  streamEndOfError,
  streamEndReport,
} from "../src/stream-end.js";
import type { StreamEnd, TaskEnd } from "../src/stream-end.js";

const refusal = new AcceptorError("ERR_ACCEPTOR_GAP", "append leaves a gap");
const socketReset: StreamEnd = { kind: "disconnected", reason: "ECONNRESET", error: new Error("ECONNRESET") };
const finished: TaskEnd = { kind: "finished" };
const failed: TaskEnd = { kind: "failed", error: refusal };

// Aim: of several failures the right one is reported. Method: every combination of network and task results.
test("a network reason wins over the task's, whatever that is", () => {
  for (const task of [finished, failed, { kind: "panicked", error: new TypeError("bug") } as const]) {
    expect(decideStreamEnd(socketReset, task)).toBe(socketReset);
  }
});

test("without a network reason the task's error is reported under its own prefix", () => {
  const end = decideStreamEnd(undefined, failed);
  expect(streamEndReport(end).send).toEqual({
    severity: "ERROR",
    code: "XX000",
    message: "WAL acceptor: append leaves a gap",
  });
});

test("a task that crashed is reported as panicked, without its insides being mistaken for a refusal", () => {
  const end = decideStreamEnd(undefined, { kind: "panicked", error: new TypeError("x is undefined") });
  expect(streamEndReport(end).send).toMatchObject({
    code: "XX000",
    message: "WalAcceptor task panicked: x is undefined",
  });
  expect(decideStreamEnd(undefined, finished)).toEqual({ kind: "clean" });
});

test("a cancelled timeline ends its streams as cancelled, not as failed", () => {
  const error = new AcceptorError("ERR_ACCEPTOR_CANCELLED", "being deleted");
  expect(decideStreamEnd(undefined, { kind: "failed", error })).toEqual({ kind: "cancelled" });
  expect(streamEndOfError(error)).toEqual({ kind: "cancelled" });
});

// Aim: each reason has its bytes. Method: the table, row by row.
test.each<[StreamEnd, unknown, string, string]>([
  [{ kind: "clean" }, "nothing", "graceful", "info"],
  [{ kind: "copy-done" }, "copy-done", "graceful", "info"],
  [{ kind: "disconnected", reason: "eof" }, "nothing", "graceful", "info"],
  [socketReset, "nothing", "now", "info"],
  [{ kind: "idle-timeout", idleMs: 600_000 }, "nothing", "now", "info"],
  [{ kind: "timeline-no-create" }, "nothing", "graceful", "info"],
  [{ kind: "cancelled" }, "nothing", "now", "info"],
  [
    { kind: "server-initiated", message: "ending streaming to standby" },
    { severity: "ERROR", code: "00000", message: "ending streaming to standby" },
    "graceful",
    "info",
  ],
  [
    { kind: "copy-fail", message: "no more" },
    { severity: "ERROR", code: "00000", message: "terminated by CopyFail: no more" },
    "graceful",
    "info",
  ],
  [
    { kind: "shutting-down" },
    { severity: "FATAL", code: "57P01", message: "terminating connection: the acceptor is shutting down" },
    "graceful",
    "info",
  ],
  [
    { kind: "failed", error: new ProtocolError("ERR_PROTOCOL_TAG", "unknown tag") },
    { severity: "ERROR", code: "XX000", message: "unknown tag" },
    "graceful",
    "error",
  ],
])("%j is reported as it should be", (end, send, close, level) => {
  expect(streamEndReport(end)).toEqual({ send, close, level });
});

// Aim: an error's own SQLSTATE reaches the client through wrappers. Method: full disk, I/O, limits below a prefix.
test("the SQLSTATE is that of the first acceptor error in the chain", () => {
  const full = storageError(
    "write segment",
    Object.assign(new Error("ENOSPC: no space"), { code: "ENOSPC" }),
  );
  const io = storageError("write segment", Object.assign(new Error("EIO: i/o error"), { code: "EIO" }));
  expect(errorFieldsOf(new Error("WAL acceptor", { cause: full })).code).toBe("53100");
  expect(errorFieldsOf(new Error("WAL acceptor", { cause: io })).code).toBe("58030");
  const limit = new AcceptorError("ERR_ACCEPTOR_CONNECTION_LIMIT", "too many");
  expect(errorFieldsOf(new Error("WAL acceptor", { cause: limit })).code).toBe("53300");
  expect(errorFieldsOf("no error at all")).toEqual({
    severity: "ERROR",
    code: "XX000",
    message: "no error at all",
  });
});

// Aim: the text has every cause once and ends. Method: repeated texts, a cycle, nothing.
test("a chain of causes is told once each and cannot run for ever", () => {
  const inner = new Error("disk on fire");
  const middle = new Error("write failed: disk on fire", { cause: inner });
  expect(causeChain(new Error("WAL acceptor", { cause: middle }))).toBe(
    "WAL acceptor: write failed: disk on fire",
  );
  const cycle = new Error("a");
  cycle.cause = cycle;
  expect(causeChain(cycle)).toBe("a");
  expect(causeChain(undefined)).toBe("unknown error");
});

// Aim: bugs and failures are told apart. Method: one of each.
test("failures of the packages below are expected, language errors and assertions are not", () => {
  expect(isOperatingError(refusal)).toBe(true);
  expect(isOperatingError(new ProtocolError("ERR_PROTOCOL_TAG", "tag"))).toBe(true);
  expect(isOperatingError(new WireError("ERR_WIRE_IO", "io"))).toBe(true);
  expect(isOperatingError(new TypeError("bug"))).toBe(false);
  expect(isOperatingError(Object.assign(new Error("assert"), { code: "ERR_ASSERTION" }))).toBe(false);
  expect(isOperatingError("text")).toBe(false);
});
