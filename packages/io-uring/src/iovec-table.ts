/**
 * A reusable array of iovecs, in the kernel's own form: for each entry an address and a length, 64 bits each.
 *
 * The same table serves a READV or WRITEV entry of a ring (by its `address`) and the synchronous preadv and pwritev.
 * It holds addresses, not views: whoever sets them keeps the memory alive. The kernel copies the table when an entry
 * is submitted, so it may be filled anew right after.
 */
import { nativeOrThrow } from "./native.js";

const WORDS = 4;
const TWO_32 = 2 ** 32;

/** The kernel's limit (UIO_MAXIOV), also for registered buffers here. */
const ENTRIES_MAX = 1024;

export class IovecTable {
  readonly entries: number;
  /** The table itself: low and high word of the address, low and high word of the length. */
  readonly words: Uint32Array<ArrayBuffer>;

  constructor(entries: number) {
    if (!Number.isInteger(entries) || entries < 0 || entries > ENTRIES_MAX)
      throw new RangeError(`entries: ${entries}, at most ${ENTRIES_MAX}`);
    this.entries = entries;
    // A buffer of its own: a small typed array without one lies on V8's heap and moves.
    this.words = new Uint32Array(new ArrayBuffer(entries * WORDS * 4));
  }

  /** The table's own address, for OPCODE.readv and writev. */
  get address(): number {
    return nativeOrThrow().addressOf(this.words);
  }

  /** Describes `length` bytes at `address` in entry `index`. */
  set(index: number, address: number, length: number): void {
    if (!(index >= 0 && index < this.entries))
      throw new RangeError(`index: ${index}, entries: ${this.entries}`);
    if (!(address >= 0 && address <= Number.MAX_SAFE_INTEGER)) throw new RangeError(`address: ${address}`);
    if (!(length >= 0 && length <= Number.MAX_SAFE_INTEGER)) throw new RangeError(`length: ${length}`);
    const word = index * WORDS;
    this.words[word] = address;
    this.words[word + 1] = address / TWO_32;
    this.words[word + 2] = length;
    this.words[word + 3] = length / TWO_32;
  }
}
