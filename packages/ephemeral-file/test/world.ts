/**
 * Where the tests make their files: on a disk through @millrace/aio, or in memory. Whoever leaves a world leaves no buffer, no
 * descriptor and no file behind.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { IoEngine } from "@millrace/aio";
import { AlignedArena } from "@millrace/aligned-buffers";
import { createFileEngine, FdCache, probeAlignment } from "@millrace/virtual-file";
import type { FileEnvironment, IoMode } from "@millrace/virtual-file";
import { expect } from "vitest";
import type { EphemeralFile } from "../src/index.js";
import { MemoryEngine, TestEngine } from "./test-engine.js";

const MiB: number = 1024 * 1024;

export interface World extends AsyncDisposable {
  readonly engine: TestEngine;
  readonly arena: AlignedArena;
  readonly environment: FileEnvironment;
  readonly directory: string;
  /** Names in the directory. */
  names(): string[];
  /** What a file has on the disk. */
  onDisk(file: EphemeralFile): Uint8Array;
}

/** One on a disk. */
export interface DiskWorld extends World {
  readonly io: IoEngine;
}

export interface WorldOptions {
  readonly alignment?: number;
  readonly ioMode?: IoMode;
  readonly slots?: number;
  readonly arenaBytes?: number;
}

export function diskWorld({
  alignment = 512,
  ioMode = "direct-rw",
  slots = 10,
}: WorldOptions = {}): DiskWorld {
  const directory = mkdtempSync(join(tmpdir(), "millrace-ephemeral-"));
  const io = IoEngine.create({ arenaBytes: 8 * MiB });
  const engine = new TestEngine(createFileEngine(io));
  const descriptors = new FdCache(slots);
  const environment = { engine, arena: io.arena, descriptors, alignment, ioMode };
  const names = (): string[] => readdirSync(directory);
  return {
    io,
    engine,
    arena: io.arena,
    environment,
    directory,
    names,
    onDisk: ({ path }) => readFileSync(path),
    [Symbol.asyncDispose]: async () => {
      expect([descriptors.stats.open, io.arena.stats.liveBuffers, names()]).toEqual([0, 0, []]);
      await io.close();
      rmSync(directory, { recursive: true });
    },
  };
}

export function memoryWorld(options: WorldOptions = {}): World {
  const { alignment = 512, ioMode = "direct-rw", slots = 10, arenaBytes = MiB } = options;
  const base = new MemoryEngine();
  const engine = new TestEngine(base);
  const arena = new AlignedArena({ bytes: arenaBytes, alignment: 512, debug: true });
  const descriptors = new FdCache(slots);
  const names = (): string[] => [...base.files.keys()];
  return {
    engine,
    arena,
    environment: { engine, arena, descriptors, alignment, ioMode },
    directory: "/d",
    names,
    onDisk: ({ path }) => base.files.get(path)?.bytes ?? new Uint8Array(0),
    [Symbol.asyncDispose]: async () => {
      await settle();
      expect([descriptors.stats.open, arena.stats.liveBuffers, names()]).toEqual([0, 0, []]);
    },
  };
}

/** What direct I/O needs where temporary files are; null where there is none. */
export async function probe(): Promise<number | null> {
  await using world = diskWorld();
  return await probeAlignment(world.directory, world.environment);
}

/** Bytes that look random and are the same every time (xorshift32). */
export function noise(length: number, seed = 1): Uint8Array {
  let state = seed;
  const bytes = new Uint8Array(length);
  for (let index = 0; index < length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[index] = state & 255;
  }
  return bytes;
}

/** What a read of so many bytes gives. */
export async function readBytes(file: EphemeralFile, offset: number, length: number): Promise<Buffer> {
  const target = Buffer.alloc(length, 0xee);
  const count = await file.read(offset, target);
  expect(
    target.subarray(count).every((byte) => byte === 0xee),
    "bytes behind the end are left alone",
  ).toBe(true);
  return target.subarray(0, count);
}

/** Fails with a short message where `toEqual` would print a hundred thousand numbers. */
export function expectSame(actual: Uint8Array, expected: Uint8Array, what: string): void {
  if (Buffer.compare(actual, expected) === 0) return;
  const at = expected.findIndex((byte, index) => byte !== actual[index]);
  expect.fail(
    `${what}: ${String(actual.length)} bytes instead of ${String(expected.length)}, different at ${String(at)}`,
  );
}

/** Lets everything that can happen without outside help happen. */
export async function settle(): Promise<void> {
  await turn();
  await turn();
}

/** Not settled after the microtask queue and two turns of the event loop. */
export async function isPending(promise: Promise<unknown>): Promise<boolean> {
  let isSettled = false;
  const mark = (): void => {
    isSettled = true;
  };
  promise.then(mark, mark);
  await settle();
  return !isSettled;
}

/** What a call rejects with, taken at once so that nobody misses it; undefined if it does not reject. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    return error;
  }
}
