/**
 * Splits a child's output into lines.
 *
 * A line longer than the bound is handed on in pieces: a child cannot make its parent hold an unbounded amount of
 * memory by never ending a line.
 */
import type { Readable } from "node:stream";
import { StringDecoder } from "node:string_decoder";

/** Longer than any log line with a stack trace. */
const LINE_LENGTH_MAX = 64 * 1024;

/** Calls `onLine` for each line of `stream`, the last one even without its newline. */
export function readLines(stream: Readable, onLine: (line: string) => void): void {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  stream.on("data", (chunk: Buffer) => {
    const lines = (rest + decoder.write(chunk)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line);
    if (rest.length > LINE_LENGTH_MAX) {
      onLine(rest);
      rest = "";
    }
  });
  stream.once("end", () => {
    if (rest !== "") onLine(rest);
  });
  // A pipe that breaks is the child's end, which is reported elsewhere.
  stream.on("error", () => undefined);
}
