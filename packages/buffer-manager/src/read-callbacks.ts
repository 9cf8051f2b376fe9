/**
 * What happens to the buffers of a read: when it is staged, when it completes in any thread, and in its issuer's after that.
 *
 * Staging hands the I/O locks of the buffers to the I/O. Completion looks at each page that arrived, says whether it is valid,
 * and gives lock and pin back; it runs wherever the I/O is noticed to be over, also in threads that are no backends. What is
 * wrong with a page is left in the buffer's detail word, so that the issuer, who has the buffers pinned as a rule, can tell
 * about each of them. Failed checksums are counted by the issuer, once. After buffer_readv_complete of PostgreSQL 18.
 */
import assert from "node:assert/strict";
import type { Callbacks, IoResult, IoView, ReportLevel } from "@millrace/aio";

import { STATE } from "./buffer-state.js";
import { countChecksumFailures } from "./checksum-failures.js";
import { hasListeners, publish } from "./diagnostics.js";
import { BufferHeaders } from "./headers.js";
import { POOL_CALLBACK } from "./io-ids.js";
import { handOverToIo, isUnderIo, terminateIo } from "./io-lock.js";
import { DESCRIPTOR } from "./layout.js";
import type { OwnBuffers, OwnBuffersHolder } from "./own-buffers.js";
import { PAGE_FAULT, PageChecker } from "./page-check.js";
import type { PoolView } from "./pool-core.js";
import { decodeReadFaults, describeReadFaults, encodeReadFaults, invalidPages } from "./read-errors.js";
import type { ReadRange } from "./read-errors.js";
import { RELATION_WORDS, targetBlocks, targetFork, targetRange, targetRelation } from "./relation-target.js";

/** How a read is meant; bits, and the byte that its callbacks are registered with. */
export const READ_FLAG = {
  /** Make zeros of pages that no sense can be made of. */
  zeroOnError: 1,
  /** Advise the kernel, where the method reads only when it is waited for. */
  issueAdvice: 2,
  /** Accept pages whose only fault is their checksum. */
  ignoreChecksum: 4,
  /** Execute the read at once, in the thread that starts it: it is about to wait anyway. */
  synchronously: 8,
} as const;

/** What became of a page, in a buffer's detail word; 0 for one that is good. */
const DETAIL = { failed: 1, zeroed: 2, accepted: 4, checksum: 8 } as const;

/** Called in the completing thread before a page is looked at. */
export type CompletionHook = (buffer: number) => void;

/** The name and blocks of a read, as errors say them in a thread that has no files. */
function rangeOf(target: Int32Array): ReadRange {
  const { file, block, blocks } = targetRange(target);
  return { name: file, block, blocks };
}

/** Sums over the pages of one I/O. One for the thread: completions do not nest. */
class Faults {
  errors = 0;
  zeroed = 0;
  accepted = 0;
  checksums = 0;
  firstError = 0;
  firstZeroed = 0;
  firstAccepted = 0;

  clear(): void {
    this.errors = this.zeroed = this.accepted = this.checksums = 0;
  }

  add(detail: number, offset: number): void {
    if ((detail & DETAIL.failed) !== 0 && this.errors++ === 0) this.firstError = offset;
    if ((detail & DETAIL.zeroed) !== 0 && this.zeroed++ === 0) this.firstZeroed = offset;
    if ((detail & DETAIL.accepted) !== 0 && this.accepted++ === 0) this.firstAccepted = offset;
    if ((detail & DETAIL.checksum) !== 0) this.checksums += 1;
  }

  get isAny(): boolean {
    return this.errors + this.zeroed + this.accepted > 0;
  }

  /** A page's verdict takes the place of what the lower layer said: also of "partial", as the rest is not read then. */
  into(result: IoResult, callback: number): void {
    const { errors, zeroed, accepted, checksums, firstError, firstZeroed, firstAccepted } = this;
    result.callback = callback;
    result.status = errors > 0 ? "error" : "warning";
    result.error = encodeReadFaults({
      isAnyZeroed: zeroed > 0,
      isAnyIgnored: accepted > 0,
      count: errors > 0 ? errors : zeroed,
      checksumFailures: checksums,
      first: errors > 0 ? firstError : zeroed > 0 ? firstZeroed : firstAccepted,
    });
  }
}

/** Looks at one page, and makes zeros of it if it is to be so. @returns what became of it, bits of DETAIL */
export function judgePage(
  checker: PageChecker,
  frames: PoolView["frames"],
  frame: number,
  block: number,
  flags: number,
): number {
  const fault = checker.check(frame, block);
  if (fault === PAGE_FAULT.none) return 0;
  const checksum = (fault & PAGE_FAULT.checksum) !== 0 ? DETAIL.checksum : 0;
  if (fault === PAGE_FAULT.checksum && (flags & READ_FLAG.ignoreChecksum) !== 0)
    return checksum | DETAIL.accepted;
  if ((flags & READ_FLAG.zeroOnError) === 0) return checksum | DETAIL.failed;
  frames.zero(frame);
  return checksum | DETAIL.zeroed;
}

/** The callbacks of reads into the pool, for one thread. */
export function createSharedReadCallbacks(view: PoolView, hook?: CompletionHook): Callbacks {
  const { words, layout, frames, settings } = view;
  const headers = new BufferHeaders(words, layout, -1, true);
  const checker = new PageChecker(frames, settings.checksums);
  const faults = new Faults();

  function completeOne(buffer: number, offset: number, hasArrived: boolean, flags: number): void {
    let detail = 0;
    if (hasArrived) {
      hook?.(buffer);
      detail = judgePage(checker, frames, buffer, headers.block(buffer), flags);
      if (detail !== 0) faults.add(detail, offset);
    }
    words[headers.at(buffer) + DESCRIPTOR.ioDetail] = detail;
    const isValid = hasArrived && (detail & DETAIL.failed) === 0;
    terminateIo(headers, buffer, false, isValid ? STATE.valid : STATE.ioError, true);
  }

  return {
    name: "shared-read",

    stage(io) {
      const { handle, generation, dataLength } = io;
      const ref = { handle, generation };
      for (let offset = 0; offset < dataLength; offset++) handOverToIo(headers, io.dataAt(offset), ref);
    },

    completeShared(io, prior, flags) {
      faults.clear();
      const arrived = prior.status === "error" ? 0 : prior.result;
      const { dataLength } = io;
      for (let offset = 0; offset < dataLength; offset++) {
        const buffer = io.dataAt(offset);
        if (isUnderIo(headers, buffer, io)) completeOne(buffer, offset, offset < arrived, flags);
      }
      if (faults.isAny) faults.into(prior, POOL_CALLBACK.sharedRead);
      return prior;
    },

    completeLocal(io, prior) {
      if (prior.callback === POOL_CALLBACK.sharedRead) {
        countFailures(view, io, prior);
        if (hasListeners()) publishBadPages(headers, io);
      }
      return prior;
    },

    report,
  };
}

/**
 * The callbacks of reads into a backend's own buffers. All of it happens in the issuer's thread: nobody else knows them.
 *
 * @param holder of the thread's buffers; none in a thread that is no backend, which never gets here
 */
export function createLocalReadCallbacks(view: PoolView, holder: OwnBuffersHolder): Callbacks {
  const { frames, settings } = view;
  const checker = new PageChecker(frames, settings.checksums);
  const faults = new Faults();

  function completeOne(
    own: OwnBuffers,
    io: IoView,
    offset: number,
    hasArrived: boolean,
    flags: number,
  ): void {
    const buffer = io.dataAt(offset);
    const { block } = targetBlocks(io.target);
    const detail = hasArrived ? judgePage(checker, frames, own.frame(buffer), block + offset, flags) : 0;
    if (detail !== 0) {
      faults.add(detail, offset);
      if (hasListeners()) publishBadPage(io.target, offset, detail);
    }
    const isValid = hasArrived && (detail & DETAIL.failed) === 0;
    own.terminateIo(buffer, false, isValid ? STATE.valid : STATE.ioError, true);
  }

  return {
    name: "local-read",

    stage(io) {
      const { handle, generation, dataLength } = io;
      const ref = { handle, generation };
      for (let offset = 0; offset < dataLength; offset++) holder.buffers?.stageIo(io.dataAt(offset), ref);
    },

    completeLocal(io, prior, flags) {
      const own = holder.buffers;
      assert(own !== undefined, "a read of local buffers ended in a thread that has none");
      faults.clear();
      const arrived = prior.status === "error" ? 0 : prior.result;
      const { dataLength } = io;
      for (let offset = 0; offset < dataLength; offset++)
        completeOne(own, io, offset, offset < arrived, flags);
      if (!faults.isAny) return prior;
      faults.into(prior, POOL_CALLBACK.localRead);
      countFailures(view, io, prior);
      return prior;
    },

    report,
  };
}

function report(result: Readonly<IoResult>, target: Int32Array, level: ReportLevel): void {
  const range = rangeOf(target);
  if (level === "error") throw invalidPages(result.error, range);
  const { message } = describeReadFaults(result.error, result.status === "error", range);
  publish(() => ({ type: "read-warning", level: "warn", message }));
}

/** Counts the checksum failures of a read, in its issuer's thread. */
function countFailures({ words, layout }: PoolView, io: IoView, result: Readonly<IoResult>): void {
  const { checksumFailures } = decodeReadFaults(result.error);
  if (checksumFailures === 0) return;
  const database = io.target[RELATION_WORDS.database] as number;
  countChecksumFailures(words, layout.checksumFailuresAt, database, checksumFailures);
}

/** A message for each bad page of an I/O. A buffer that has another page by now is left out. */
function publishBadPages(headers: BufferHeaders, io: IoView): void {
  const { target } = io;
  const relation = targetRelation(target);
  const fork = targetFork(target);
  const { block } = targetBlocks(target);
  for (let offset = 0; offset < io.dataLength; offset++) {
    const buffer = io.dataAt(offset);
    const detail = headers.words[headers.at(buffer) + DESCRIPTOR.ioDetail] as number;
    if (detail === 0 || !headers.hasTag(buffer, relation, fork, block + offset)) continue;
    publishBadPage(target, offset, detail);
  }
}

function publishBadPage(target: Int32Array, offset: number, detail: number): void {
  const { name, block: first } = rangeOf(target);
  const block = first + offset;
  const [outcome, word] = outcomeOf(detail);
  const { message } = describeReadFaults(word, outcome === "failed", { name, block, blocks: 1 });
  publish(() => ({
    type: "bad-page",
    level: outcome === "failed" ? "error" : "warn",
    message,
    relation: targetRelation(target),
    fork: targetFork(target),
    block,
    outcome,
    isChecksumWrong: (detail & DETAIL.checksum) !== 0,
  }));
}

/** What became of a page, and the error word of a read of it alone. */
function outcomeOf(detail: number): readonly ["failed" | "zeroed" | "accepted", number] {
  const isAnyZeroed = (detail & DETAIL.zeroed) !== 0;
  const isAnyIgnored = (detail & DETAIL.accepted) !== 0;
  const checksumFailures = (detail & DETAIL.checksum) !== 0 ? 1 : 0;
  const count = isAnyIgnored ? 0 : 1;
  const word = encodeReadFaults({ isAnyZeroed, isAnyIgnored, count, checksumFailures, first: 0 });
  return [isAnyZeroed ? "zeroed" : isAnyIgnored ? "accepted" : "failed", word];
}
