/**
 * Lists of buffers that stand for one run of bytes: cut without copying.
 *
 * WAL comes as views into what sockets have received, and leaves for places that begin and end elsewhere: a segment's end
 * cuts it. Only views are made, and only where a cut goes through a buffer.
 */

/** Bytes in all of `buffers`. */
export function totalBytes(buffers: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const buffer of buffers) bytes += buffer.byteLength;
  return bytes;
}

/** What is left of `buffers` without the first `bytes`; empty buffers at the cut go too. */
export function dropBytes(buffers: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  let index = 0;
  let left = bytes;
  for (; index < buffers.length; index += 1) {
    const length = buffers[index]?.byteLength ?? 0;
    if (left < length) break;
    left -= length;
  }
  const cut = buffers[index];
  if (cut === undefined) return [];
  return left === 0 ? buffers.slice(index) : [cut.subarray(left), ...buffers.slice(index + 1)];
}

/** The first `bytes` of `buffers`, or all of them if there are fewer. */
export function takeBytes(buffers: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  const taken: Uint8Array[] = [];
  let left = bytes;
  for (const buffer of buffers) {
    if (left === 0) break;
    taken.push(buffer.byteLength <= left ? buffer : buffer.subarray(0, left));
    left -= Math.min(left, buffer.byteLength);
  }
  return taken;
}
