/**
 * The lower layer's callbacks for reads of whole blocks: bytes become blocks, and a failure becomes an error one can read.
 *
 * What is read is all of it, a part of it, or nothing that helps: a block that arrived only in part is not there, and a
 * read that brought not even one block failed. A part is no error, because whoever issued it reads the rest with an I/O
 * of its own; nothing here repeats anything. The end of the file is a short read like any other: no block is made up.
 *
 * Registered after the upper layer's, they run before them, so that those see which blocks arrived. After md_readv_complete
 * and md_readv_report of PostgreSQL 18.
 */
import { getSystemErrorMap } from "node:util";

import { AioError, AioIoError } from "./errors.js";
import type { Callbacks, IoView } from "./registry.js";
import { errnoName } from "./report.js";
import { CALLBACK_IDS } from "./result.js";
import type { IoResult } from "./result.js";

/** What a target's words say about a read of blocks. */
export interface BlockRange {
  /** The file, as a message calls it; with the quotes it wants. */
  readonly file: string;
  /** Number of the first block in the file. */
  readonly block: number;
  /** Blocks asked for, from 1. */
  readonly blocks: number;
}

/** What the callbacks for blocks are made for. */
export interface BlockCallbacksOptions {
  /** Which blocks of which file an I/O is for, from the words of its target. Called for messages only. */
  readonly rangeOf: (target: Int32Array) => BlockRange;
  /** Part of the registry's hash; "block-read" unless said otherwise. */
  readonly name?: string;
  /**
   * Hears of a read that failed, in the thread that completes it, which may be a stranger to it: for a log. As bound as
   * any completion: it must not throw, wait, or start I/O. What its issuer raises later says the same.
   */
  readonly onFailure?: (message: string, io: IoView) => void;
}

/**
 * The callbacks for reads of blocks.
 *
 * Results: all blocks are "ok", some are "partial", and `result` counts them. Below one block it is "error" with `result`
 * 0, and `error` holds the errno, or 0 if the file just ended.
 *
 * @param id the id they are registered under, 1..63: a result names it, so that they report it
 * @param blockBytes size of a block, a positive integer
 * @throws {RangeError} no such id, or no such size
 */
export function createBlockCallbacks(
  id: number,
  blockBytes: number,
  options: BlockCallbacksOptions,
): Callbacks {
  if (!Number.isInteger(id) || id < 1 || id >= CALLBACK_IDS) throw new RangeError(`not a callback id: ${id}`);
  if (!Number.isInteger(blockBytes) || blockBytes < 1)
    throw new RangeError(`not the size of a block: ${blockBytes}`);
  const { rangeOf, name = "block-read", onFailure } = options;

  function completeShared(io: IoView, prior: IoResult): IoResult {
    const bytes = prior.result;
    const blocks = Math.floor(Math.max(0, bytes) / blockBytes);
    prior.callback = id;
    prior.result = blocks;
    prior.error = Math.max(0, -bytes);
    prior.status = blocks === 0 ? "error" : blocks * blockBytes < io.lengthBytes ? "partial" : "ok";
    if (prior.status === "ok") prior.callback = 0;
    else if (prior.status === "error")
      onFailure?.(describeFailure(prior, rangeOf(io.target), blockBytes), io);
    return prior;
  }

  return {
    name,
    completeShared,
    report(result, target, level) {
      if (level !== "error") return;
      const message = describeFailure(result, rangeOf(target), blockBytes);
      if (result.error === 0) throw new AioError("ERR_AIO_SHORT", message);
      throw new AioIoError("readv", result.error, errnoName(result.error), message);
    },
  };
}

function describeFailure(result: Readonly<IoResult>, range: BlockRange, blockBytes: number): string {
  const { file, block, blocks } = range;
  const what = blocks === 1 ? `block ${block}` : `blocks ${block}..${block + blocks - 1}`;
  const start = `could not read ${what} of ${file}`;
  if (result.error !== 0) return `${start}: ${errnoText(result.error)}`;
  return `${start}: read only ${result.result * blockBytes} of ${blocks * blockBytes} bytes`;
}

/** Name and meaning of an error number. */
function errnoText(errno: number): string {
  const meaning = getSystemErrorMap().get(-errno)?.[1];
  const name = errnoName(errno);
  return meaning === undefined ? name : `${name}, ${meaning}`;
}
