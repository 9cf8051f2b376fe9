/**
 * Drivers of a write-ahead log: a `WalWriter` over a preallocated file that is written over and over from its beginning.
 *
 * The file is opened with O_DIRECT and O_DSYNC, so that a write which has completed is durable. A stream keeps as many pieces in flight
 * as its queue is deep. Group commit has one flush in flight: whoever commits meanwhile goes with the next one, all
 * together. At the end the last of what was acknowledged has to be in the file.
 */
import { closeSync, constants, openSync, readSync } from "node:fs";

import { AioSystem, WalWriter } from "@millrace/aio";
import type { FileLease } from "@millrace/aio";
import type { MemorySegment } from "@millrace/aligned-buffers";

import { GroupCommit } from "./group-commit.js";
import { views, wrong, WORD_BYTES } from "./io-drive.js";
import type { Drive } from "./io-drive.js";
import type { IoRunSpec } from "./io-run.js";

/** Of a client's record: what a small transaction leaves. */
const RECORD_BYTES = 256;
/** For the view of handles only. */
const SEGMENT_BYTES: number = 16 * 1024 * 1024;

/** A log and where it is written. */
interface Log {
  readonly writer: WalWriter;
  readonly lease: FileLease;
}

async function withLog(
  { path, direct, method, busyPoll, queueDepth }: IoRunSpec,
  segment: MemorySegment,
  work: (log: Log) => Promise<void>,
): Promise<void> {
  const fd = openSync(path, constants.O_RDWR | constants.O_DSYNC | (direct ? constants.O_DIRECT : 0));
  try {
    await using system = AioSystem.create({
      method,
      required: true,
      segments: [segment.memory],
      backendsMax: 1,
      concurrency: 2 * queueDepth + 2,
      fixBuffers: true,
    });
    const backend = system.attach({ mayBlock: false, busyPoll });
    using writer = new WalWriter(backend, { start: 0n, isDataSync: true });
    await work({ writer, lease: backend.openLease(fd) });
  } finally {
    closeSync(fd);
  }
}

/** Starts writing memory to the log at a position of the file, at most to the file's end. @returns the position behind it */
function startPiece(log: Log, memoryOffset: number, lengthBytes: number, position: number): bigint {
  return log.writer.start({
    file: log.lease,
    segmentNumber: BigInt(Math.floor(position / SEGMENT_BYTES)),
    offsetBytes: position,
    vectors: [{ segment: 0, offsetBytes: memoryOffset, lengthBytes }],
  });
}

function readWord(path: string, position: number): number | undefined {
  const words = new Int32Array(1);
  const fd = openSync(path, "r");
  try {
    readSync(fd, new Uint8Array(words.buffer), 0, WORD_BYTES, position);
  } finally {
    closeSync(fd);
  }
  return words[0];
}

/** Whole pieces, `queueDepth` in flight. */
export const driveWalStream: Drive = (spec, segment, meter) =>
  withLog(spec, segment, async (log) => {
    const { blockBytes, fileBytes, path } = spec;
    const blocks = Math.floor(fileBytes / blockBytes);
    const pieces = views(spec, segment);
    const numbers = pieces.map(({ buffer, byteOffset }) => new Int32Array(buffer, byteOffset, 1));
    let [next, last] = [0, 0];
    const loop = async (index: number): Promise<void> => {
      while (!meter.isStopped) {
        const position = (next % blocks) * blockBytes;
        next += 1;
        (numbers[index] as Int32Array)[0] = next;
        const start = meter.now();
        const end = startPiece(log, (pieces[index] as Uint8Array).byteOffset, blockBytes, position);
        const number = next;
        await log.writer.flushAsync(end);
        meter.wrote(position, start);
        last = Math.max(last, number);
      }
    };
    await Promise.all(pieces.map((_, index) => loop(index)));
    if (readWord(path, ((last - 1) % blocks) * blockBytes) !== last) throw wrong(`no piece ${last}`);
  });

/** Clients that each write a record, wait until it is durable, and write the next one. */
export const driveGroupCommit: Drive = (spec, segment, meter) =>
  withLog(spec, segment, async (log) => {
    const { clients, path, fileBytes, blockBytes } = spec;
    const commits = new GroupCommit({
      memory: segment,
      fileBytes,
      pageBytes: blockBytes,
      start: (memoryOffset, lengthBytes, position) => startPiece(log, memoryOffset, lengthBytes, position),
      flush: (end) => log.writer.flushAsync(end),
    });
    const client = async (id: number): Promise<void> => {
      const record = new Uint8Array(RECORD_BYTES);
      const words = new Int32Array(record.buffer);
      let position = 0;
      // A number that no other record has.
      for (let number = id; !meter.isStopped; number += clients) {
        words[0] = number;
        const start = meter.now();
        position = await commits.append(record);
        meter.wrote(position, start);
      }
      if (readWord(path, position) !== words[0]) throw wrong(`no record of client ${id} at ${position}`);
    };
    await Promise.all(Array.from({ length: clients }, (_, index) => client(index + 1)));
  });
