/**
 * The process that writes one file (see writer-run.ts): opens, warms up on another file, writes, syncs, prints.
 *
 * Every writer gets the same pieces in the same order, waits when it is told to wait, and is opened before the clock starts.
 * The warm-up goes the same way, so that what is measured is compiled code.
 */
import { once } from "node:events";
import { closeSync, createWriteStream, fdatasync, openSync, rmSync } from "node:fs";
import { promisify } from "node:util";

import { IoEngine } from "@millrace/aio";
import { BufferedWriter } from "@millrace/buffered-writer";
import { createFileEngine, FdCache, VirtualFile } from "@millrace/virtual-file";
import SonicBoom from "sonic-boom";

import { cutSource } from "./writer-run.js";
import type { WriterDriver, WriterRunOutcome, WriterRunSpec } from "./writer-run.js";

/** What logical blocks of disks are at most. */
const ALIGNMENT_BYTES = 4096;

const syncData = promisify(fdatasync);

/** An open file and whoever writes to it. */
interface Sink extends AsyncDisposable {
  /** Writes pieces, `count` in all, starting again from the first one; returns when the kernel has them. */
  writeAll(chunks: readonly Buffer[], count: number): Promise<void>;
  sync(): Promise<void>;
}

type OpenSink = (spec: WriterRunSpec) => Promise<Sink>;

const openBufferedWriter: OpenSink = async ({ path, bufferBytes, queueDepth, preallocated }) => {
  const io = IoEngine.create({ arenaBytes: (queueDepth + 1) * bufferBytes });
  const environment = { engine: createFileEngine(io), arena: io.arena, descriptors: new FdCache(2) };
  const create = preallocated ? {} : { create: true, truncate: true };
  const file = await VirtualFile.open(path, { write: true, direct: "require", ...create }, environment);
  const writer = new BufferedWriter(file, io.arena, {
    capacity: bufferBytes,
    alignment: ALIGNMENT_BYTES,
    queueDepth,
  });
  return {
    async writeAll(chunks, count) {
      for (let index = 0, at = 0; index < count; index += 1, at = at + 1 === chunks.length ? 0 : at + 1) {
        const chunk = chunks[at] as Buffer;
        if (writer.tryWrite(chunk) === undefined) await writer.write(chunk);
      }
      await writer.shutdown("padThenTruncate");
    },
    sync: () => file.sync("data"),
    async [Symbol.asyncDispose]() {
      await file.close();
      await io.close();
    },
  };
};

const openWriteStream: OpenSink = async ({ path, bufferBytes, preallocated }) => {
  const fd = openSync(path, preallocated ? "r+" : "w");
  const stream = createWriteStream("", { fd, autoClose: false, highWaterMark: bufferBytes });
  return {
    async writeAll(chunks, count) {
      for (let index = 0, at = 0; index < count; index += 1, at = at + 1 === chunks.length ? 0 : at + 1) {
        if (!stream.write(chunks[at])) await once(stream, "drain");
      }
      stream.end();
      await once(stream, "finish");
    },
    sync: () => syncData(fd),
    [Symbol.asyncDispose]: async () => closeSync(fd),
  };
};

const openSonicBoom: OpenSink = async ({ path, bufferBytes, preallocated }) => {
  const fd = openSync(path, preallocated ? "r+" : "w");
  // Its best mode for buffers of this size: as text it counts all of the buffer's bytes anew with each write.
  const sonic = new SonicBoom.SonicBoom({
    fd,
    sync: true,
    contentMode: "buffer",
    minLength: bufferBytes,
    maxWrite: 2 * bufferBytes,
  });
  // Its types know of strings only.
  const buffers = sonic as unknown as { write(chunk: Buffer): boolean };
  return {
    async writeAll(chunks, count) {
      for (let index = 0, at = 0; index < count; index += 1, at = at + 1 === chunks.length ? 0 : at + 1) {
        buffers.write(chunks[at] as Buffer);
      }
      sonic.flushSync();
    },
    sync: () => syncData(fd),
    [Symbol.asyncDispose]: async () => closeSync(fd),
  };
};

const OPEN: Readonly<Record<WriterDriver, OpenSink>> = {
  "buffered-writer": openBufferedWriter,
  createWriteStream: openWriteStream,
  "sonic-boom": openSonicBoom,
};

async function writeFile(spec: WriterRunSpec, chunks: readonly Buffer[]): Promise<WriterRunOutcome> {
  await using sink = await OPEN[spec.driver](spec);
  const [cpuBefore, start] = [process.cpuUsage(), performance.now()];
  await sink.writeAll(chunks, spec.totalBytes / spec.chunkBytes);
  const writtenMs = performance.now() - start;
  await sink.sync();
  const durableMs = performance.now() - start;
  const { user, system } = process.cpuUsage(cpuBefore);
  return { writtenMs, durableMs, cpuMs: (user + system) / 1000 };
}

/** Does a run in this process. */
export async function doWriterRun(spec: WriterRunSpec): Promise<WriterRunOutcome> {
  const chunks = cutSource(spec.chunkBytes);
  const warmUp = {
    ...spec,
    path: `${spec.path}.warm-up`,
    totalBytes: spec.warmUpBytes,
    preallocated: false,
  };
  await writeFile(warmUp, chunks);
  rmSync(warmUp.path);
  return await writeFile(spec, chunks);
}
