/**
 * PostgreSQL's own compression (common/pg_lzcompress.c), the way back.
 *
 * A control byte rules the eight items that follow, its lowest bit the first: 0 is a byte as it is, 1 a copy of what was
 * written already. A copy has two bytes, or three if it is 18 bytes or longer; its distance has 12 bits.
 */

/** Copies are at least this long, and have a third byte from `LONG` on. */
const SHORTEST = 3;
const LONG = 18;

/**
 * Fills `target` from `source`.
 *
 * @returns whether the two ended together; if not, the contents of `target` are undefined
 */
export function pglzDecompress(source: Uint8Array, target: Uint8Array): boolean {
  const sourceEnd = source.byteLength;
  const targetEnd = target.byteLength;
  let from = 0;
  let to = 0;
  while (from < sourceEnd && to < targetEnd) {
    let control = source[from++] ?? 0;
    for (let item = 0; item < 8 && from < sourceEnd && to < targetEnd; item += 1) {
      if ((control & 1) === 0) target[to++] = source[from++] ?? 0;
      else {
        if (from + 2 > sourceEnd) return false;
        const first = source[from] ?? 0;
        const distance = ((first & 0xf0) << 4) | (source[from + 1] ?? 0);
        let length = (first & 0x0f) + SHORTEST;
        from += 2;
        if (length === LONG) {
          if (from === sourceEnd) return false;
          length += source[from++] ?? 0;
        }
        if (distance === 0 || distance > to) return false;
        // What is longer than the rest is cut off, as PostgreSQL does; the source then has to be at its end.
        const until = Math.min(to + length, targetEnd);
        copyWithin(target, to, distance, until);
        to = until;
      }
      control >>= 1;
    }
  }
  return from === sourceEnd && to === targetEnd;
}

/** Copies from `distance` bytes before `to`, byte by byte: source and target may overlap, which repeats the source. */
export function copyWithin(target: Uint8Array, to: number, distance: number, until: number): void {
  if (until - to <= distance && until - to > 16) target.copyWithin(to, to - distance, until - distance);
  else for (let at = to; at < until; at += 1) target[at] = target[at - distance] ?? 0;
}
