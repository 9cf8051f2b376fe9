// A thread with a backend, which does what it is told, one order after the other, and may sleep in the middle of one.
// It tells of each sleep before it begins and answers each order. See backend-thread.ts.
import { parentPort, workerData } from "node:worker_threads";
import {
  AioRegistry,
  attachBackend,
  createFileRegistry,
  createIoReturn,
  fileCallbacks,
  fileTarget,
  ManualController,
} from "../dist/index.js";
import { createRegistry as createPagesRegistry, pageLog } from "./pages-registry.mjs";

const BLOCK_BYTES = 8192;
const { shared, registryName, concurrency } = workerData;
const registries = {
  file: createFileRegistry,
  pages: createPagesRegistry,
  renamed: () => new AioRegistry().target(1, fileTarget).callback(1, { ...fileCallbacks, name: "renamed" }),
};

const events = [];
const registry = registries[registryName]();
let backend;
let scope;
let beforeSleep;

function attach() {
  backend = attachBackend(shared, registry, {
    mayBlock: true,
    onWarning: (code) => events.push(code),
    probe: {
      onSubmit: (count) => events.push(`submit ${count}`),
      onSleep: (handle) => {
        events.push(`sleep ${handle}`);
        parentPort.postMessage({ sleeping: handle });
        beforeSleep?.(handle);
      },
    },
  });
  scope = backend.openScope();
  return backend.id;
}

function read({ lease, block, memoryBlock, blocks = 1, target = 1, callbacks = [1], flags = [], data = [] }) {
  const slot = createIoReturn();
  const handle = backend.acquire(scope, slot);
  const ref = handle.ref();
  handle.setTarget(target, [lease.fd, lease.slot, block, blocks]);
  for (const [id, data] of callbacks.map((each) => [each].flat())) handle.addCallback(id, data ?? 0);
  for (const flag of flags) handle.flag(flag);
  if (data.length > 0) handle.setData(data);
  const piece = { segment: 0, offsetBytes: memoryBlock * BLOCK_BYTES, lengthBytes: blocks * BLOCK_BYTES };
  handle.startReadv(lease, [piece], block * BLOCK_BYTES);
  return { ref, slot };
}

const slots = [];

/** Reads over and over, each I/O with a length that follows from its offset, until it is told to stop. */
function hammer({ lease, stop, roundsMax }) {
  const controller = shared.method === "manual" ? new ManualController(shared, registry) : undefined;
  parentPort.postMessage({ sleeping: -1 });
  let rounds = 0;
  for (; rounds < roundsMax && Atomics.load(stop, 0) === 0; rounds++) {
    const block = (rounds * 7) % 60;
    const blocks = 1 + (block % 4);
    const data = Array.from({ length: blocks }, () => block);
    const { ref } = read({ lease, block, memoryBlock: 0, blocks, data });
    controller?.complete(ref.handle, blocks * BLOCK_BYTES);
    backend.wait(ref);
  }
  return rounds;
}

const orders = {
  attach,
  read(order) {
    const { ref, slot } = read(order);
    slots.push(slot);
    return ref;
  },
  /** Takes a handle and gives it back; what the own handles' states are in between. */
  acquire() {
    const handle = backend.acquire(scope);
    const first = backend.id * concurrency;
    const states = Array.from({ length: concurrency }, (_, index) => backend.table.state(first + index));
    handle.release();
    return { handle: handle.id, states };
  },
  wait(ref) {
    backend.wait(ref);
    return backend.table.state(ref.handle);
  },
  /** Waits for one I/O, and a moment before the sleep completes another, whose callback throws. */
  waitAndStop({ ref, bad }) {
    beforeSleep = () => {
      try {
        new ManualController(shared, registry).complete(bad);
      } catch {
        // What it throws is the point: it has stopped the system.
      }
    };
    backend.wait(ref);
  },
  done: (ref) => backend.done(ref),
  enterBatch: () => backend.enterBatch(),
  exitBatch: () => backend.exitBatch(),
  /** The rule of everybody who may be waited for: first hand over what is staged. */
  submitAndWait(ref) {
    if (backend.haveStaged) backend.submitStaged();
    backend.wait(ref);
  },
  endScope: () => scope.end(),
  closeFile: (lease) => backend.closingFile(lease),
  complete: ({ handle, result }) => new ManualController(shared, registry).complete(handle, result),
  detach: () => backend.detach(),
  hammer,
  events: () => events.splice(0),
  results: () => slots.map(({ result }) => result),
  log: () => pageLog.splice(0),
};

parentPort.on("message", ({ order, argument }) => {
  try {
    parentPort.postMessage({ value: orders[order](argument) });
  } catch (error) {
    parentPort.postMessage({ code: error.code ?? "none", message: error.message });
  }
});
