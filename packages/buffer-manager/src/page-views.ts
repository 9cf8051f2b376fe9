/**
 * Views of frames, made once each: a view costs a hundred nanoseconds, looking one up a few.
 *
 * They are kept in pieces of 1024, so that a thread that uses a part of a big pool pays for that part.
 */
import type { PoolMemory } from "@millrace/aligned-buffers";

const SHIFT = 10;
const MASK = (1 << SHIFT) - 1;

/** The pages of a pool as one thread sees them. */
export class PageViews {
  readonly #frames: PoolMemory;
  readonly #pieces: (Uint8Array<SharedArrayBuffer> | undefined)[][] = [];

  constructor(frames: PoolMemory, count: number) {
    this.#frames = frames;
    for (let at = 0; at < count; at += MASK + 1) this.#pieces.push([]);
  }

  /** The bytes of a frame, borrowed. */
  get(frame: number): Uint8Array<SharedArrayBuffer> {
    const piece = this.#pieces[frame >>> SHIFT];
    return piece?.[frame & MASK] ?? this.#make(frame);
  }

  #make(frame: number): Uint8Array<SharedArrayBuffer> {
    const view = this.#frames.view(frame);
    const piece = this.#pieces[frame >>> SHIFT];
    const at = frame & MASK;
    if (piece !== undefined) {
      while (piece.length < at) piece.push(undefined);
      piece[at] = view;
    }
    return view;
  }
}
