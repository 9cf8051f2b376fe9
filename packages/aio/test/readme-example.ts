import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { IoEngine } from "@millrace/aio";

const directory = await mkdtemp(join(tmpdir(), "blocks-"));
const path = join(directory, "blocks");
await writeFile(path, Buffer.alloc(100 * 8192, "millrace"));

const engine = IoEngine.create(); // io_uring, or worker threads where it is not to be had
const file = await engine.open(path, { direct: "prefer" });
const blocks = Array.from({ length: 1000 }, () => engine.arena.alloc(8192));
const random = (): number => Math.floor(Math.random() * 100) * 8192;
const sizes = await Promise.all(blocks.map((block) => file.read(block.spareView(), random())));
for (const [index, block] of blocks.entries()) block.setLength(sizes[index] ?? 0);
assert.equal(Buffer.from(blocks[999]?.view().subarray(0, 8) ?? []).toString(), "millrace");
assert.ok(["io_uring", "worker"].includes(engine.choice.method), "`fallbacks` says why not io_uring");

await engine.close();
await rm(directory, { recursive: true });
