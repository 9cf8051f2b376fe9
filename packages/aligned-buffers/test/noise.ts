/** Bytes for the tests: they look random and are the same every time (xorshift32). */
export function noise(length: number, seed = 1): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state & 255;
  });
}

export const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
export const bytes = (letters: string): Buffer => Buffer.from(letters, "latin1");
