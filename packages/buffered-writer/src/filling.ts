/**
 * The buffer that a writer is filling.
 *
 * A view of its room is kept, because asking the handle for one would cost more than a small write. The handle's own length is
 * therefore behind `used`, and is set whenever the handle is asked to do something.
 */
import type { IoBuffer, IoBufferMut } from "@millrace/aligned-buffers";

/** Copies from this length on go through the handle, which is faster for long ones. */
const LONG_COPY_BYTES = 1024;

const NO_ROOM: Uint8Array = new Uint8Array(0);

/** A buffer, or none: then the room is empty. */
export class Filling {
  #buffer: IoBufferMut | undefined;
  /** All of the buffer. Whoever writes to it directly adds to `used`. */
  room: Uint8Array = NO_ROOM;
  /** Bytes in use, from the start. */
  used = 0;

  /** There is none. */
  get isMissing(): boolean {
    return this.#buffer === undefined;
  }

  get isFull(): boolean {
    return this.used === this.room.length;
  }

  /** Bytes that still fit. */
  get spare(): number {
    return this.room.length - this.used;
  }

  /** Starts with an empty buffer. There is none before. */
  start(buffer: IoBufferMut): void {
    this.#buffer = buffer;
    this.room = buffer.spareView();
    this.used = 0;
  }

  /** Adds bytes, which fit. */
  append(bytes: Uint8Array): void {
    if (bytes.length < LONG_COPY_BYTES) this.room.set(bytes, this.used);
    else this.#ready().append(bytes);
    this.used += bytes.length;
  }

  /** Adds zeros, which fit. */
  pad(count: number): void {
    this.#ready().fill(0, count);
    this.used += count;
  }

  /** Ends it: the bytes in use, as an immutable buffer. */
  freeze(): IoBuffer {
    const frozen = this.#ready().freeze();
    this.#forget();
    return frozen;
  }

  /** Gives the buffer back to the arena, if there is one. */
  dispose(): void {
    this.#buffer?.[Symbol.dispose]();
    this.#forget();
  }

  /** The handle, with its length as it should be. */
  #ready(): IoBufferMut {
    if (this.#buffer === undefined) throw new TypeError("no buffer is being filled");
    this.#buffer.setLength(this.used);
    return this.#buffer;
  }

  #forget(): void {
    this.#buffer = undefined;
    this.room = NO_ROOM;
    this.used = 0;
  }
}
