/**
 * Four threads on one pool against the dumbest model of it: how often each block was changed.
 *
 * `MODEL_SEEDS=200 npx vitest run --project buffer-manager pool.model` runs more seeds, `MODEL_FIRST=17` begins with that one.
 */
import { probeUring } from "@millrace/io-uring";
import type { MethodName } from "@millrace/aio";
import { expect, test } from "vitest";

import { runModel } from "./pool-model.js";

const METHODS: readonly MethodName[] = probeUring().available
  ? ["sync", "worker", "io_uring"]
  : ["sync", "worker"];
const SEEDS = Number(process.env["MODEL_SEEDS"] ?? 10);
const FIRST = Number(process.env["MODEL_FIRST"] ?? 1);

// Aim: no lost write, no stale read, no torn page, no pin or lock left, whatever happens to the threads. Method: the threads
// compare every page they see; failed writes, resizes and deaths come at operation counts that the seed decides.
test(`${SEEDS} seeds of four threads hold`, { timeout: 20_000 * SEEDS }, async () => {
  let changes = 0;
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    const outcome = await runModel(seed, METHODS[seed % METHODS.length] ?? "sync");
    changes += outcome.changes;
  }
  expect(changes).toBeGreaterThan(SEEDS * 100);
});
