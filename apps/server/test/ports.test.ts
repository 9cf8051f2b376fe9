/**
 * Remembered ports.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

import { rememberedPorts, systemPorts } from "../src/ports.js";
import type { PortSource } from "../src/ports.js";

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "millrace-ports-"));
  file = join(directory, "ports.json");
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** Draws 20001, 20002, …; `taken` are in use. */
function source(taken: Set<number>): PortSource {
  let next = 20_000;
  return {
    isFree: (port) => Promise.resolve(!taken.has(port)),
    random: () => (next += 1),
  };
}

// Aim: addresses stay the same from run to run. Method: two runs, the second with another sequence of draws.
test("ports are remembered", async () => {
  const first = await rememberedPorts(file, ["a", "b"], undefined, source(new Set()));
  const second = await rememberedPorts(file, ["a", "b"], undefined, source(new Set([20_003])));
  expect(first.ports).toEqual({ a: 20_001, b: 20_002 });
  expect(second).toEqual({ ports: first.ports, moved: [] });
});

// Aim: a port that somebody took meanwhile is replaced and reported, and no port is given twice.
// Method: one of two remembered ports is taken; the next draw is the other one's.
test("a remembered port that is taken moves, and the move is told", async () => {
  await rememberedPorts(file, ["a", "b"], undefined, source(new Set()));
  const { ports, moved } = await rememberedPorts(file, ["a", "b"], undefined, source(new Set([20_002])));
  expect(moved).toEqual(["b"]);
  expect(ports).toEqual({ a: 20_001, b: 20_003 });
});

// Aim: a port the user asked for is used or refused, never replaced. Method: free and taken.
test("an asked port is used, or refused when it is taken", async () => {
  const asked = { b: 5000 };
  expect((await rememberedPorts(file, ["a", "b"], asked, source(new Set()))).ports.b).toBe(5000);
  await expect(rememberedPorts(file, ["a", "b"], asked, source(new Set([5000])))).rejects.toMatchObject({
    code: "ERR_SERVER_PORT",
    message: expect.stringContaining("5000") as string,
  });
});

// Aim: a damaged file costs the old ports and nothing else. Method: garbage, wrong types.
test.each(["{", "[]", '{"a":"x"}', '{"a":70000}'])("a file that holds %s is replaced", async (text) => {
  writeFileSync(file, text);
  const { ports } = await rememberedPorts(file, ["a"], undefined, source(new Set()));
  expect(ports.a).toBe(20_001);
});

// Aim: the search is bounded. Method: a machine without free ports.
test("no free port is an error, not an endless search", async () => {
  const none: PortSource = { isFree: () => Promise.resolve(false), random: () => 20_000 };
  await expect(rememberedPorts(file, ["a"], undefined, none)).rejects.toMatchObject({
    code: "ERR_SERVER_PORT",
  });
});

// Aim: the real check sees a real listener. Method: listen, ask, close, ask.
test("a port with a listener is not free", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  expect(await systemPorts.isFree(port)).toBe(false);
  await new Promise((resolve) => server.close(resolve));
  expect(await systemPorts.isFree(port)).toBe(true);
});
