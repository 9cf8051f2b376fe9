/**
 * Drivers of durable writes, one after the other, as a log with one client has them.
 */
import { open } from "node:fs/promises";

import { IoEngine } from "@millrace/aio";
import type { MemorySegment } from "@millrace/aligned-buffers";
import { createFileEngine, FdCache, VirtualFile } from "@millrace/virtual-file";

import { positions, views, withEngine, WORD_BYTES, wrong } from "./io-drive.js";
import type { Drive, Meter } from "./io-drive.js";
import type { IoRunSpec } from "./io-run.js";
import { NUMBERED_PAGE_BYTES } from "./numbered-file.js";

/** Writes one page after the other, each durable before the next, and looks for the last one in the file. */
async function writeInOrder(
  spec: IoRunSpec,
  segment: MemorySegment,
  meter: Meter,
  write: (source: Uint8Array, position: number) => Promise<unknown>,
): Promise<void> {
  const next = positions(spec);
  const [source = new Uint8Array()] = views(spec, segment);
  const number = new Int32Array(source.buffer, source.byteOffset, 1);
  let position = 0;
  while (!meter.isStopped) {
    position = next();
    number[0] = position / NUMBERED_PAGE_BYTES;
    const start = meter.now();
    await write(source, position);
    meter.wrote(position, start);
  }
  const file = await open(spec.path, "r");
  try {
    const found = new Int32Array(1);
    await file.read(new Uint8Array(found.buffer), 0, WORD_BYTES, position);
    if (found[0] !== number[0]) throw wrong(`no write at ${position}`);
  } finally {
    await file.close();
  }
}

/** An engine's file, opened with O_DSYNC. */
export const driveLog: Drive = (spec, segment, meter) =>
  withEngine(spec, segment, (file) =>
    writeInOrder(spec, segment, meter, (source, position) => file.write(source, position)),
  );

/** What Node has. */
export const driveFsPromisesLog: Drive = async (spec, segment, meter) => {
  const file = await open(spec.path, "r+");
  try {
    await writeInOrder(spec, segment, meter, async (source, position) => {
      await file.write(source, 0, source.byteLength, position);
      await file.datasync();
    });
  } finally {
    await file.close();
  }
};

/** A file of @millrace/virtual-file, which has no O_DSYNC: each write is followed by an fdatasync. */
export const driveVirtualFileLog: Drive = async (spec, segment, meter) => {
  const { method, queueDepth, blockBytes, path, direct } = spec;
  await using io = IoEngine.create({ method, required: true, queueDepth, arenaBytes: blockBytes });
  const environment = { engine: createFileEngine(io), arena: io.arena, descriptors: new FdCache(1) };
  const options = { write: true, direct: direct ? "require" : "off" } as const;
  await using file = await VirtualFile.open(path, options, environment);
  await writeInOrder(spec, segment, meter, async (source, position) => {
    using page = io.arena.copyFrom(source).freeze();
    await file.writeAllAt(page, position);
    await file.sync("data");
  });
};
