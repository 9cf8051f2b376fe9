import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { IoEngine } from "@millrace/aio";
import { createFileEngine, createTempFile, FdCache } from "@millrace/virtual-file";

await using io = IoEngine.create(); // io_uring, or worker threads where it is not to be had
const environment = { engine: createFileEngine(io), arena: io.arena, descriptors: new FdCache(100) };

await using temporary = await createTempFile(tmpdir(), "pages-", environment); // or VirtualFile.open
const { file } = temporary;

using page = io.arena.copyFrom(Buffer.alloc(4096, "m")).freeze(); // aligned, as direct I/O needs it
await file.writeAllAt(page, 8192);
await file.sync();

using target = io.arena.alloc(4096);
await file.readExactAt(target, 8192, 4096);
assert(page.equals(target.view()));
