import assert from "node:assert/strict";
import { AlignedArena, isIoMemory } from "@millrace/aligned-buffers";

const arena = new AlignedArena({ bytes: 64 * 1024 * 1024 }); // address space; pages come with the first write
const buffer = arena.alloc(8192);
buffer.append(Buffer.from("a page"));
buffer.fill(0, buffer.spare);

const frozen = buffer.freeze(); // `buffer` is of no use from here on
const share = frozen.slice(0, 6); // say, for a reader, while `frozen` is being written to a file
assert(isIoMemory(frozen.unsafeView(), 4096)); // good for O_DIRECT
assert.deepEqual(frozen.tryIntoMut(), { ok: false, refs: 2 });

share[Symbol.dispose]();
const again = frozen.tryIntoMut(); // the last one may write again: same memory, no allocation
assert(again.ok);
again.buffer[Symbol.dispose]();
assert.equal(arena.stats.inUse, 0);
