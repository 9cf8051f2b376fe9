// Reads one block and prints its first word; ends by itself, with the engine left open. See event-loop.test.ts.
import { IoEngine } from "../dist/index.js";

const [method, path, wake] = process.argv.slice(2);
const engine = IoEngine.create({ method, required: true, busyPoll: wake === "polls", arenaBytes: 65_536 });
const file = await engine.open(path, { direct: "prefer" });
const view = engine.arena.alloc(8192, { zeroed: true }).view();
// Nothing but the engine keeps the process alive here.
await file.read(view, 3 * 8192);
process.stdout.write(String(new Uint32Array(view.buffer, view.byteOffset, 1)[0]));
