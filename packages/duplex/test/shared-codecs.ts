/** Codecs of the tests: numbers, and text whose frames have the text's length. */
import type { Codec } from "../src/index.js";

export const numberCodec: Codec<number> = {
  encode(value, target) {
    target.setFloat64(0, value, true);
    return 8;
  },
  decode: (source) => source.getFloat64(0, true),
};

export const textCodec: Codec<string> = {
  encode(value, target) {
    const bytes = Buffer.from(value);
    if (bytes.length > target.byteLength) return bytes.length;
    for (const [index, byte] of bytes.entries()) target.setUint8(index, byte);
    return bytes.length;
  },
  decode: ({ buffer, byteOffset }, length) => Buffer.from(buffer, byteOffset, length).toString(),
};

interface Both<T> {
  readonly tx: Codec<T>;
  readonly rx: Codec<T>;
}

export const numbers: Both<number> = { tx: numberCodec, rx: numberCodec };
export const texts: Both<string> = { tx: textCodec, rx: textCodec };
