/**
 * Logs: what a child printed becomes one of our lines, whatever it was.
 */
import { PassThrough } from "node:stream";
import { expect, test } from "vitest";

import { createLogger, relayLine } from "../src/logging.js";
import { readLines } from "../src/process-lines.js";

function collect(format: "json" | "pretty"): { lines: string[]; logger: ReturnType<typeof createLogger> } {
  const lines: string[] = [];
  return { lines, logger: createLogger({ level: "info", format, write: (text) => void lines.push(text) }) };
}

// Aim: a child's line keeps its level, message and facts, and loses what is only true of the child's process.
// Method: relay a line of pino's, one below the level, a stack trace, JSON that is no record, and an empty line.
test("a child's lines are logged as ours", () => {
  const { lines, logger } = collect("json");
  const child = logger.child({ part: "acceptor 1" });
  relayLine(child, JSON.stringify({ level: 50, time: 1, pid: 5, msg: "failed", reason: "EIO" }));
  relayLine(child, JSON.stringify({ level: 20, time: 1, pid: 5, msg: "detail" }));
  relayLine(child, "Error: boom");
  relayLine(child, "null");
  relayLine(child, '{"level":"high"}');
  relayLine(child, "  ");
  const records = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(records).toMatchObject([
    { level: 50, part: "acceptor 1", msg: "failed", reason: "EIO", pid: process.pid },
    { level: 40, part: "acceptor 1", msg: "Error: boom" },
    { level: 40, msg: "null" },
    { level: 40, msg: '{"level":"high"}' },
  ]);
});

// Aim: for people a line is one line with the message in it. Method: the pretty format.
test("the pretty format writes one line for each record", () => {
  const { lines, logger } = collect("pretty");
  logger.info({ port: 1 }, "listens");
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(/INFO.*listens.*port.*1.*\n$/);
});

// Aim: lines come whole however the bytes are cut, also within a character; a line without end stays bounded.
// Method: a character of two bytes cut in half, a last line without newline, and a flood.
test("output is cut into lines and never piles up", async () => {
  const stream = new PassThrough();
  const lines: string[] = [];
  readLines(stream, (line) => lines.push(line));
  const bytes = Buffer.from("é1\né2\nend");
  stream.write(bytes.subarray(0, 1));
  stream.write(bytes.subarray(1, 6));
  stream.write(bytes.subarray(6));
  stream.end();
  await new Promise((resolve) => stream.once("close", resolve));
  expect(lines).toEqual(["é1", "é2", "end"]);

  const flood = new PassThrough();
  const pieces: string[] = [];
  readLines(flood, (line) => pieces.push(line));
  for (let chunk = 0; chunk < 4; chunk += 1) flood.write("x".repeat(50_000));
  flood.end();
  await new Promise((resolve) => flood.once("close", resolve));
  expect(pieces.map((piece) => piece.length)).toEqual([100_000, 100_000]);
});
