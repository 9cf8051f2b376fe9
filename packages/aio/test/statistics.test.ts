/** Counters of a backend: an I/O counts once, when it is started. */
import { expect, test } from "vitest";

import { OPERATION } from "../src/operations.js";
import { Statistics } from "../src/statistics.js";

test("I/O is counted by operation and target, and kinds that never occurred are left out", () => {
  const statistics = new Statistics();
  statistics.start(OPERATION.readv, 1, 8192);
  statistics.start(OPERATION.readv, 1, 16_384);
  statistics.start(OPERATION.readv, 15, 1);
  statistics.start(OPERATION.nop, 2, 0);
  statistics.start(OPERATION.writev, 1, 2 ** 40);
  expect(statistics.snapshot().io).toEqual([
    { operation: "readv", targetId: 1, started: 2, bytes: 24_576 },
    { operation: "readv", targetId: 15, started: 1, bytes: 1 },
    { operation: "writev", targetId: 1, started: 1, bytes: 2 ** 40 },
    { operation: "nop", targetId: 2, started: 1, bytes: 0 },
  ]);
});

test("a snapshot does not follow what is counted later", () => {
  const statistics = new Statistics();
  statistics.batches = 2;
  statistics.submitted = 5;
  statistics.inline = 1;
  statistics.waits = 3;
  const before = statistics.snapshot();
  statistics.start(OPERATION.fsync, 1, 0);
  statistics.batches += 1;
  expect(before).toEqual({ io: [], batches: 2, submitted: 5, inline: 1, waits: 3 });
  expect(statistics.snapshot().io).toHaveLength(1);
});
