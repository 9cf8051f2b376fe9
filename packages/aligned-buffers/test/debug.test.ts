/** Debug arenas: tampering, where a buffer moved, and handles that were forgotten. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { AlignedArena } from "../src/index.js";
import type { LeakReport } from "../src/index.js";
import { bytes } from "./noise.js";
import { thrownBy } from "./thrown.js";

// Aim: a write to frozen bytes is found. Method: keep a raw view over the freeze and change one bit through it.
test("a byte changed through a raw view is found when the buffer is checked or becomes mutable", () => {
  const arena = new AlignedArena({ bytes: 4096, debug: true });
  const buffer = arena.alloc(100);
  buffer.append(bytes("abc"));
  const view = buffer.view();
  const frozen = buffer.freeze();
  frozen.verify();
  view[1] = 0x63;
  const tampered = { code: "ERR_BUFFER_TAMPERED", byteOffset: frozen.byteOffset };
  expect(thrownBy(() => frozen.verify())).toMatchObject(tampered);
  expect(thrownBy(() => frozen.tryIntoMut())).toMatchObject(tampered);
  using slice = frozen.slice(0, 1);
  expect(thrownBy(() => slice.verify())).toMatchObject(tampered);
  slice[Symbol.dispose]();
  view[1] = 0x62;
  const result = frozen.tryIntoMut();
  expect(result.ok).toBe(true);
});

test("without debug nothing is compared and no stack is kept", () => {
  const arena = new AlignedArena({ bytes: 4096 });
  const buffer = arena.copyFrom(bytes("abc"));
  const view = buffer.view();
  const frozen = buffer.freeze();
  view[1] = 0x63;
  frozen.verify();
  expect(frozen.tryIntoMut().ok).toBe(true);
  expect(thrownBy(() => buffer.length)).toMatchObject({ movedAt: undefined });
});

test("a debug arena says where a buffer moved", () => {
  const arena = new AlignedArena({ bytes: 4096, debug: true });
  const buffer = arena.alloc(1);
  function whoMovesIt(): void {
    buffer.move()[Symbol.dispose]();
  }
  whoMovesIt();
  const error = thrownBy(() => buffer.length);
  expect(error).toMatchObject({ code: "ERR_BUFFER_MOVED", movedBy: "move" });
  expect((error as { movedAt: string }).movedAt).toContain("whoMovesIt");
});

// Aim: a forgotten handle is reported and its memory stays taken. Method: drop two handles, one disposed of, and collect.
test("a handle that was dropped is reported and never freed", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  let report: (leak: LeakReport) => void = () => undefined;
  const reported = new Promise<LeakReport>((resolve) => (report = resolve));
  const arena = new AlignedArena({ bytes: 8192, debug: true, onLeak: (leak) => report(leak) });
  function forgets(): void {
    arena.alloc(1).freeze()[Symbol.dispose]();
    arena.alloc(7).freeze();
  }
  forgets();
  // A turn of its own, so that no register or stack slot of this function holds the handle.
  await new Promise(setImmediate);
  collect();
  const leak = await reported;
  expect(leak).toMatchObject({ handle: "IoBuffer", capacity: 7, byteOffset: arena.segment.byteOffset });
  expect(leak.madeAt).toContain("forgets");
  expect(arena.stats.liveBuffers).toBe(1);
});
