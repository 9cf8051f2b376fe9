/**
 * The two halves of COPY BOTH, the same on either side of a connection: a reader of CopyData payloads and a writer.
 *
 * They are independent. A reader that met broken bytes leaves the writer usable, so that an error can still be
 * reported; a writer whose peer does not read never stops the reader. Both push back on the socket: the reader stops
 * reading from it once READ_HIGH_WATER_BYTES lie unread, the writer hands out a promise once SEND_HIGH_WATER_BYTES
 * wait for the kernel.
 *
 * The fast paths have no promise: tryNext() takes a message that is already here, send() returns undefined while
 * there is room. A payload is a view of the chunk that came from the socket and is never reused by this package, so
 * it may be kept and queued. It does keep its chunk alive (64 KiB from an accepted socket, up to 1 MiB from a
 * connected one): copy a small payload that is to live long.
 */
import type { ErrorFields } from "./errors.js";

/** One CopyData message. */
export interface CopyDataEvent {
  readonly type: "data";
  /** A view, given: valid as long as it is referenced, never written to by this package. */
  readonly payload: Uint8Array;
}

/** What a CopyReader yields. All but `data` are final: every later call yields the same event again. */
export type CopyEvent =
  | CopyDataEvent
  | { readonly type: "done" } // the peer sent CopyDone and will send no more data
  | { readonly type: "fail"; readonly message: string } // the peer sent CopyFail (only a client does)
  | { readonly type: "end"; readonly reason: "terminate" | "eof" }; // Terminate, or the socket's end between messages

/** The reading half; one consumer at a time. */
export interface CopyReader {
  /**
   * The next event if it is already here, or undefined. Never waits and makes no promise.
   *
   * @throws {WireError} ERR_WIRE_PROTOCOL, ERR_WIRE_IO (also an end inside a message), ERR_WIRE_CLOSED, and
   *   ServerError when the other side is a server that reported one. Final: later calls throw the same error.
   */
  tryNext(): CopyEvent | undefined;

  /**
   * Waits for the next event. Rejects as `tryNext` throws. Two calls at a time are not allowed (ERR_WIRE_BUSY).
   */
  next(): Promise<CopyEvent>;

  /** Bytes received and not yet yielded, of which up to one message may be incomplete. */
  readonly bufferedBytes: number;
}

/** The writing half; messages of several callers never interleave. */
export interface CopyWriter {
  /**
   * Sends one CopyData message whose payload is the concatenation of `parts`, without concatenating them.
   *
   * @param parts given: large ones go to the kernel as they are, so their bytes must not change until the socket is
   *   done with them, which for a view of received WAL means never
   * @returns undefined while fewer than SEND_HIGH_WATER_BYTES are queued, otherwise a promise that resolves once
   *   everything queued so far was handed to the kernel. The promise rejects with WireError (ERR_WIRE_IO,
   *   ERR_WIRE_CLOSED, ERR_WIRE_STATE after done() or fail()); ignoring it is harmless.
   */
  send(...parts: Uint8Array[]): Promise<void> | undefined;

  /** Sends CopyDone. Nothing may be sent afterwards. Calling it again, or after the copy was aborted, does nothing. */
  done(): Promise<void> | undefined;

  /**
   * Ends the copy with an error: an ErrorResponse from a server, CopyFail (of which the message is all that
   * travels) from a client. Nothing may be sent on this writer afterwards.
   */
  fail(fields: ErrorFields): Promise<void> | undefined;

  /** Bytes accepted by send() and not yet handed to the kernel. */
  readonly queuedBytes: number;
}
