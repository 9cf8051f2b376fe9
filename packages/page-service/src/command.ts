/**
 * The commands with which a connection becomes a pagestream, or asks for something about a timeline.
 */
import { tryParseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { PagestreamError } from "./errors.js";
import type { PagestreamVersion } from "./messages.js";

/** 32 hexadecimal digits, small. */
export type TimelineName = string;

export type PageServiceCommand =
  | {
      readonly kind: "pagestream";
      readonly version: PagestreamVersion;
      readonly tenant: TimelineName;
      readonly timeline: TimelineName;
    }
  | {
      readonly kind: "lease";
      readonly tenant: TimelineName;
      readonly timeline: TimelineName;
      readonly lsn: Lsn;
    }
  /** A setting, which is accepted and ignored. */
  | { readonly kind: "set" };

const NAME = /^[0-9a-f]{32}$/i;

/**
 * Reads a simple query.
 *
 * @throws {PagestreamError} ERR_PAGESTREAM_COMMAND; the connection may go on
 */
export function parseCommand(query: string): PageServiceCommand {
  const words = query.trim().replace(/;$/, "").split(/\s+/);
  const [name = "", second = ""] = words;
  if (name.toLowerCase() === "set") return { kind: "set" };
  if (name === "pagestream_v2" || name === "pagestream_v3") {
    expectWords(query, words, 3);
    const version = name === "pagestream_v2" ? 2 : 3;
    return { kind: "pagestream", version, tenant: nameOf(words[1]), timeline: nameOf(words[2]) };
  }
  if (name === "lease" && second === "lsn") {
    expectWords(query, words, 5);
    const lsn = tryParseLsn(words[4] ?? "");
    if (lsn === undefined) throw commandError(`${String(words[4])} is no position`);
    return { kind: "lease", tenant: nameOf(words[2]), timeline: nameOf(words[3]), lsn };
  }
  throw commandError(`unknown command: ${query.slice(0, 100)}`);
}

function expectWords(query: string, words: readonly string[], count: number): void {
  if (words.length !== count)
    throw commandError(`${query.slice(0, 100)}: ${String(count - 1)} arguments are expected`);
}

function nameOf(word: string | undefined): TimelineName {
  if (word === undefined || !NAME.test(word))
    throw commandError(`${String(word)} is not 32 hexadecimal digits`);
  return word.toLowerCase();
}

function commandError(problem: string): PagestreamError {
  return new PagestreamError("ERR_PAGESTREAM_COMMAND", problem);
}
