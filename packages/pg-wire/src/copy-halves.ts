/**
 * The reader and the writer of a COPY over a session and a transport; copy-stream.ts says what they promise. The same
 * code serves both sides of the protocol: what differs is in the sessions.
 *
 * The writer frames without copying: parts of at least SMALL_PART_BYTES go to the socket as they are, smaller ones are
 * copied into the buffer that holds the message header, as an iovec entry of its own costs more than copying them.
 */
import type { CopyEvent, CopyReader, CopyWriter } from "./copy-stream.js";
import { WireError } from "./errors.js";
import type { ErrorFields } from "./errors.js";
import { FRAME_HEADER_BYTES, TAG, writeFrameHeader } from "./messages.js";
import type { SocketTransport } from "./socket-transport.js";

/** Parts below this size are copied. */
const SMALL_PART_BYTES = 1024;

/** The end of a stream at a message boundary. */
const EOF: CopyEvent = { type: "end", reason: "eof" };

/** The part of a session that a reader needs. */
export interface CopySource {
  /** @throws {WireError} final */
  nextCopyEvent(): CopyEvent | undefined;
  readonly bufferedBytes: number;
}

/** The part of a session that a writer needs. */
export interface CopySink {
  readonly copySendOpen: boolean;
  copyDone(): Buffer | undefined;
  copyFail(fields: ErrorFields): Buffer | undefined;
}

/** See CopyReader. Final events and errors stay: they are what every later call gives. */
export class SessionCopyReader implements CopyReader {
  readonly #source: CopySource;
  readonly #transport: SocketTransport;
  #last: CopyEvent | undefined;
  #failure: WireError | undefined;

  constructor(source: CopySource, transport: SocketTransport) {
    this.#source = source;
    this.#transport = transport;
  }

  get bufferedBytes(): number {
    return this.#source.bufferedBytes;
  }

  tryNext(): CopyEvent | undefined {
    if (this.#last !== undefined) return this.#last;
    if (this.#failure !== undefined) throw this.#failure;
    try {
      const event = this.#source.nextCopyEvent();
      this.#transport.consumed();
      if (event?.type === "data") return event;
      if (event !== undefined) this.#last = event;
      else if (this.#transport.whyNothingMore() === "eof") this.#last = EOF;
      return this.#last;
    } catch (error) {
      if (error instanceof WireError) this.#failure = error;
      throw error;
    }
  }

  async next(): Promise<CopyEvent> {
    for (;;) {
      const event = this.tryNext();
      if (event !== undefined) return event;
      await this.#transport.readable();
    }
  }
}

/** See CopyWriter. */
export class SessionCopyWriter implements CopyWriter {
  readonly #sink: CopySink;
  readonly #transport: SocketTransport;

  constructor(sink: CopySink, transport: SocketTransport) {
    this.#sink = sink;
    this.#transport = transport;
  }

  get queuedBytes(): number {
    return this.#transport.queuedBytes;
  }

  send(...parts: Uint8Array[]): Promise<void> | undefined {
    if (!this.#sink.copySendOpen) return rejectedQuietly("the sending half of this copy has ended");
    return this.#transport.write(copyDataBuffers(parts));
  }

  done(): Promise<void> | undefined {
    const message = this.#sink.copyDone();
    return message === undefined ? undefined : this.#transport.write([message]);
  }

  fail(fields: ErrorFields): Promise<void> | undefined {
    const message = this.#sink.copyFail(fields);
    return message === undefined ? undefined : this.#transport.write([message]);
  }
}

/** Header and payload of one CopyData message as few buffers; large parts are not copied. */
export function copyDataBuffers(parts: readonly Uint8Array[]): readonly Uint8Array[] {
  let bodyBytes = 0;
  let copiedBytes = FRAME_HEADER_BYTES;
  for (const part of parts) {
    bodyBytes += part.length;
    if (part.length < SMALL_PART_BYTES) copiedBytes += part.length;
  }
  const small = Buffer.allocUnsafe(copiedBytes);
  writeFrameHeader(small, TAG.copyData, bodyBytes);
  const buffers: Uint8Array[] = [];
  let start = 0; // of the bytes in `small` that no buffer covers yet
  let end = FRAME_HEADER_BYTES;
  for (const part of parts) {
    if (part.length < SMALL_PART_BYTES) {
      small.set(part, end);
      end += part.length;
      continue;
    }
    if (end > start) buffers.push(small.subarray(start, end));
    start = end;
    buffers.push(part);
  }
  if (end > start) buffers.push(small.subarray(start, end));
  return buffers;
}

function rejectedQuietly(message: string): Promise<void> {
  const rejected = Promise.reject(new WireError("ERR_WIRE_STATE", message));
  rejected.catch(() => undefined);
  return rejected;
}
