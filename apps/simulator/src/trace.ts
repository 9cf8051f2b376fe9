/**
 * The trace of a run: a hash of everything that happened, and the text of it if somebody asked.
 *
 * Two runs of one seed must give the same hash; a difference means that something other than the seed decided. The
 * hash covers each entry's time, kind and values. Text is made only while a listener wants it, because most runs are
 * never looked at.
 */

/** What an entry may tell. LSNs and terms are bigints. */
export type TraceValue = string | number | bigint | boolean | undefined;

/** Collects one run. */
export class Trace {
  readonly #now: () => number;
  readonly #listener: ((line: string) => void) | undefined;
  #low = 0x811c9dc5;
  #high = 0x9747b28c;
  #entries = 0;

  /** @param listener gets each entry as a line of text */
  constructor(now: () => number, listener?: (line: string) => void) {
    this.#now = now;
    this.#listener = listener;
  }

  /** 16 hexadecimal digits over everything so far. */
  get hash(): string {
    return hex(this.#high) + hex(this.#low);
  }

  get entries(): number {
    return this.#entries;
  }

  /** Adds an entry. */
  note(kind: string, ...values: readonly TraceValue[]): void {
    this.#entries += 1;
    const now = this.#now();
    this.#mix(Math.floor(now * 1000));
    this.#mixText(kind);
    for (const value of values) {
      if (typeof value === "number") this.#mix(value);
      else if (typeof value === "bigint") this.#mix(Number(value & 0x1f_ffff_ffff_ffffn));
      else if (typeof value === "string") this.#mixText(value);
      else this.#mix(value === undefined ? 2 : Number(value));
    }
    this.#listener?.(`${now.toFixed(3).padStart(11)}  ${kind} ${values.map(printable).join(" ")}`);
  }

  #mixText(text: string): void {
    for (let index = 0; index < text.length; index += 1) this.#mix(text.charCodeAt(index));
  }

  #mix(value: number): void {
    this.#low = Math.imul(this.#low ^ (value | 0), 0x01000193);
    this.#low ^= this.#low >>> 13;
    this.#high = Math.imul(this.#high ^ ((value / 2 ** 32) | 0) ^ this.#low, 0x85ebca6b);
    this.#high ^= this.#high >>> 16;
  }
}

function hex(word: number): string {
  return (word >>> 0).toString(16).padStart(8, "0");
}

function printable(value: TraceValue): string {
  if (typeof value !== "bigint" || value < 0x10000n) return String(value);
  return `${(value >> 32n).toString(16).toUpperCase()}/${(value & 0xffff_ffffn).toString(16).toUpperCase()}`;
}
