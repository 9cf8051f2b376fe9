/** The promise face and the event loop: others get their turn, and an engine keeps the process alive as long as it must. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

import { IoEngine } from "../src/engine.js";
import { BLOCK_BYTES, BlockFile, BLOCKS, METHODS } from "./fixture.js";

/** Reads one after the other at most; a turn of the event loop comes long before. */
const READS_MAX = 20_000;

// Method sync is left out: it never waits for anything, so it has nothing to give way at.
describe.each(METHODS.filter((method) => method !== "sync"))("method %s", (method) => {
  // Aim: reads that are over at once, one after the other, do not keep the event loop from turning. Method: read and read
  // again until a turn has come.
  test.each([1, 8])("the event loop turns while %i flows read what is in the page cache", async (flows) => {
    using blocks = new BlockFile();
    await using engine = IoEngine.create({ method, required: true, arenaBytes: 1024 * 1024, queueDepth: 8 });
    await using file = await engine.open(blocks.path);
    const turn = { hasCome: false };
    let reads = 0;
    setImmediate(() => (turn.hasCome = true));
    const flow = async (): Promise<void> => {
      const view = engine.arena.alloc(BLOCK_BYTES, { zeroed: true }).view();
      while (!turn.hasCome && reads < READS_MAX) {
        const block = reads % BLOCKS;
        reads += 1;
        expect(await file.read(view, block * BLOCK_BYTES)).toBe(BLOCK_BYTES);
        expect(new Uint32Array(view.buffer, view.byteOffset, 1)[0]).toBe(block);
      }
    };
    await Promise.all(Array.from({ length: flows }, flow));
    expect(turn.hasCome).toBe(true);
    expect(reads).toBeLessThan(READS_MAX);
  });

  // Aim: an engine hears of its I/O, and keeps the process alive until it has, and no longer. Method: a process that has
  // nothing else to live for, and closes nothing.
  test.each(["polls", "is called"])("an engine that %s keeps the process alive for a read", (wake) => {
    using blocks = new BlockFile();
    const script = fileURLToPath(new URL("lone-reader.mjs", import.meta.url));
    const { status, stdout, stderr } = spawnSync(process.execPath, [script, method, blocks.path, wake], {
      encoding: "utf8",
    });
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: "3", stderr: "" });
  });
});
