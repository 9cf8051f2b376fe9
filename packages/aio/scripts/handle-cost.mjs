// What a NOP costs with io_uring, in nanoseconds, the fastest of many slices: `node packages/aio/scripts/handle-cost.mjs`
// after a build. Entering the kernel alone (the entries are filled once); with filling and reading by the ring's calls; with
// a handle around it. 32 at a time, as the core submits them.
import { openSync } from "node:fs";
import { COMPLETION_WORDS, OPCODE, Ring } from "@millrace/io-uring";
import { AioSystem, createIoReturn, FILE_TARGET } from "../dist/index.js";

const [NOPS, BATCHES, SLICES] = [32, 200, 60];

function fastestNs(batch) {
  let best = Infinity;
  for (let slice = 0; slice < SLICES; slice++) {
    const startMs = performance.now();
    for (let index = 0; index < BATCHES; index++) batch();
    best = Math.min(best, ((performance.now() - startMs) * 1e6) / (BATCHES * NOPS));
  }
  return best;
}

const out = new Int32Array(NOPS * COMPLETION_WORDS);
const kernelRing = Ring.create({ entries: NOPS });
for (let index = 0; index < NOPS; index++) kernelRing.prepare(OPCODE.nop, 0, -1, 0, 0, 0, 0, 0, 1, 0);
kernelRing.submit();
kernelRing.reap(out, NOPS);
function kernel() {
  for (let index = 0; index < NOPS; index++) kernelRing.queues.claim();
  kernelRing.submit();
  kernelRing.queues.retire(NOPS);
}

const ring = Ring.create({ entries: 2 * NOPS });
function calls() {
  for (let index = 0; index < NOPS; index++) ring.prepare(OPCODE.nop, 0, -1, 0, 0, 0, 0, 0, 1, 0);
  ring.submit();
  ring.reap(out, NOPS);
}

const system = AioSystem.create({ method: "io_uring", required: true, segments: [], backendsMax: 1 });
const backend = system.attach({ mayBlock: true });
const scope = backend.openScope();
const lease = backend.openLease(openSync("/dev/null", "r"));
const slots = Array.from({ length: NOPS }, () => createIoReturn());
const target = [lease.fd, lease.slot];
backend.enterBatch();
function handles() {
  for (const slot of slots) backend.acquire(scope, slot).setTarget(FILE_TARGET, target).startNop(lease);
  backend.submitStaged();
  while (backend.inFlightCount > 0) backend.poll();
}

for (const [what, batch] of Object.entries({ kernel, calls, handles })) {
  process.stdout.write(`${what.padEnd(8)} ${fastestNs(batch).toFixed(0)} ns\n`);
}
process.exit(0);
