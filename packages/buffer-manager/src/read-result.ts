/**
 * What the I/O of a read came to, as its issuer says it: an error of this package, or an event.
 *
 * The issuer knows what its files are called; the callbacks, which run in any thread, know relations only.
 */
import type { BackendContext } from "./backend-context.js";
import { publish } from "./diagnostics.js";
import { BufferError } from "./errors.js";
import { POOL_CALLBACK } from "./io-ids.js";
import { describeReadFaults, invalidPages } from "./read-errors.js";
import type { ReadRange } from "./read-errors.js";
import type { ReadOperation } from "./read-operation.js";
import { targetBlocks } from "./relation-target.js";

type ResultContext = Pick<BackendContext, "files" | "aio">;
type EndedRead = Pick<ReadOperation, "relation" | "fork" | "slot">;

/** The blocks of the I/O that ended last, and the file of the first of them. */
function rangeOf({ files }: ResultContext, { relation, fork, slot }: EndedRead): ReadRange {
  const { block, blocks } = targetBlocks(slot.target);
  return { name: `"${files.fileName(relation, fork, block)}"`, block, blocks };
}

/** Publishes that pages were made zeros or accepted. */
export function publishReadWarning(context: ResultContext, operation: EndedRead): void {
  publish(() => {
    const { message } = describeReadFaults(operation.slot.result.error, false, rangeOf(context, operation));
    return { type: "read-warning", level: "warn", message };
  });
}

/** The error of an I/O that failed. */
export function readFailure(context: ResultContext, operation: EndedRead): BufferError {
  const { slot } = operation;
  const { callback, error } = slot.result;
  const range = rangeOf(context, operation);
  const isOfPages = callback === POOL_CALLBACK.sharedRead || callback === POOL_CALLBACK.localRead;
  if (isOfPages) return invalidPages(error, range);
  const { name, block, blocks } = range;
  const what = blocks === 1 ? `block ${block}` : `blocks ${block}..${block + blocks - 1}`;
  const message = `could not read ${what} of ${name}`;
  const cause = causeOf(context, operation);
  if (error !== 0) return new BufferError("ERR_BUFFER_READ_FAILED", message, { cause });
  return new BufferError("ERR_BUFFER_SHORT_READ", `${message}: the file ends before`, { cause });
}

/** What the layer below raises. */
function causeOf({ aio }: ResultContext, { slot }: EndedRead): unknown {
  try {
    aio.report(slot, "error");
  } catch (error) {
    return error;
  }
  return undefined;
}
