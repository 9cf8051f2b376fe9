/**
 * A writer as a stream of Node: for `pipeline` from a socket, an upload, a decompressor.
 *
 * The stream is a face, and owns nothing: when it has ended, everything is in the writer, whose owner shuts it down. Destroying
 * the stream leaves the writer as it is. Back-pressure is the writer's: a chunk is done when its write has returned.
 */
import { Writable } from "node:stream";
import type { PositionalWriter } from "@millrace/virtual-file";
import type { BufferedWriter } from "./buffered-writer.js";

/**
 * Makes a stream that writes into a writer.
 *
 * @param writer stays the caller's; writes of others go in between the chunks
 */
export function createWritable(writer: BufferedWriter<PositionalWriter>): Writable {
  return new Writable({
    decodeStrings: true,
    write(chunk: Uint8Array, _encoding, callback) {
      void write(writer, chunk, callback);
    },
  });
}

async function write(
  writer: BufferedWriter<PositionalWriter>,
  chunk: Uint8Array,
  callback: (error?: Error) => void,
): Promise<void> {
  try {
    if (writer.tryWrite(chunk) === undefined) await writer.write(chunk);
  } catch (error) {
    callback(error as Error);
    return;
  }
  callback();
}
