/**
 * How values become frames in shared memory, and frames values again.
 *
 * Codecs are code and cannot be posted: each thread brings its own, and the two of a direction must agree.
 */

/** Translates the values of one direction. */
export interface Codec<T> {
  /**
   * Writes a value into a frame.
   *
   * @param target borrowed for the call; as long as a slot
   * @returns bytes of the frame. More than `target.byteLength` says that the value does not fit: write nothing then
   */
  encode(value: T, target: DataView): number;
  /**
   * Reads a value.
   *
   * @param source borrowed for the call: the sender overwrites it afterwards, so copy what is kept
   * @param lengthBytes what `encode` returned
   */
  decode(source: DataView, lengthBytes: number): T;
}

/** Bytes as they are. The receiver gets a copy of its own. */
export const bytesCodec: Codec<Uint8Array> = {
  encode(value, target) {
    if (value.length <= target.byteLength) bytesOf(target, value.length).set(value);
    return value.length;
  },
  decode(source, lengthBytes) {
    return Uint8Array.from(bytesOf(source, lengthBytes));
  },
};

function bytesOf({ buffer, byteOffset }: DataView, length: number): Uint8Array {
  return new Uint8Array(buffer, byteOffset, length);
}
