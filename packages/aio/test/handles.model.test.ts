/** The handle core against its reference: long random lives of the handles of two backends, compared after each step. */
import { expect, test } from "vitest";

import type { AioBackend } from "../src/backend.js";
import { attachBackend } from "../src/attach.js";
import { HANDLE_STATE } from "../src/handle-state.js";
import type { IoHandle } from "../src/io-handle.js";
import { createIoReturn } from "../src/result.js";
import type { IoReturn } from "../src/result.js";
import type { IoScope } from "../src/scope.js";
import type { WaitRef } from "../src/wait-ref.js";
import { BLOCK_BYTES, BLOCKS, World } from "./fixture.js";
import { HandleModel } from "./handle-model.js";
import type { ModelBackend, ModelHandle } from "./handle-model.js";

const STEPS = 50_000; // for each of the two sizes
const SLOTS_KEPT = 40;
const REFS_KEPT = 64;

/** A small generator of 32-bit numbers (mulberry32), so that a seed is all one needs to see a run again. */
function createRandom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

interface Side {
  readonly backend: AioBackend;
  readonly model: ModelBackend;
  readonly scopes: Map<number, IoScope>;
  readonly warnings: string[];
  readonly submissions: number[];
  handedOut: IoHandle | undefined;
}

interface KnownRef {
  readonly ref: WaitRef;
  readonly handle: ModelHandle;
}

class Run {
  readonly world: World;
  readonly model: HandleModel;
  readonly sides: readonly Side[];
  readonly slots: IoReturn[] = [];
  readonly refs: KnownRef[] = [];
  readonly random: (below: number) => number;
  readonly counts: Record<string, number> = {};

  constructor(concurrency: number, seed: number) {
    this.random = createRandom(seed);
    this.world = new World("manual", { concurrency, backendsMax: 2 });
    this.model = new HandleModel(2, concurrency);
    const { shared, registry } = this.world.system;
    this.sides = [0, 1].map((id) => {
      const warnings: string[] = id === 0 ? this.world.warnings : [];
      const submissions: number[] = [];
      const probe = { onSubmit: (count: number) => void submissions.push(count) };
      const onWarning = (code: string): void => void warnings.push(code);
      if (id === 0) this.world.backend.detach();
      const backend = attachBackend(shared, registry, { mayBlock: true, onWarning, probe });
      const model = this.model.backends[backend.id] as ModelBackend;
      return { backend, model, scopes: new Map(), warnings, submissions, handedOut: undefined };
    });
  }

  /** One random operation, on core and model. Those that would sleep or make no sense are something else's turn. */
  step(): string {
    const side = this.sides[this.random(2)] as Side;
    const operation = OPERATIONS[this.random(OPERATIONS.length)] as Operation;
    const name = operation(this, side);
    this.counts[name] = (this.counts[name] ?? 0) + 1;
    return name;
  }

  /** Everything that can be seen of the core, and of the model, as text: compared whole. */
  seen(): string {
    const { table } = this.world.backend;
    const handles = this.model.handles.map(({ id }) => `${table.state(id)}.${table.generation(id)}`);
    const lists = this.sides.map(
      ({ backend: { idleCount, stagedCount, inFlightCount, isInBatch, haveStaged } }) =>
        `${idleCount} ${stagedCount} ${inFlightCount} ${isInBatch} ${haveStaged}`,
    );
    const events = this.sides.map(({ warnings, submissions }) => `${warnings.length} ${submissions.join()}`);
    const returned = this.slots.slice(-SLOTS_KEPT).map(({ result }) => describe(result));
    return [...handles, ...lists, ...events, ...returned].join("|");
  }

  expected(): string {
    const { handles, slots } = this.model;
    const lists = this.sides.map(
      ({ model: { idle, staged, inFlight, isBatch } }) =>
        `${idle.length} ${staged.length} ${inFlight.length} ${isBatch} ${staged.length > 0}`,
    );
    const events = this.sides.map(
      ({ model: { warnings, submissions } }) => `${warnings.length} ${submissions.join()}`,
    );
    const states = handles.map(({ state, generation }) => `${state}.${generation}`);
    return [...states, ...lists, ...events, ...slots.slice(-SLOTS_KEPT)].join("|");
  }

  /** Idle, handed out, staged and in flight are all of a backend's handles, and no one is two of these. */
  checkCount({ model, backend }: Side): void {
    const { idle, staged, inFlight, handedOut } = model;
    const all = new Set([...idle, ...staged, ...inFlight, ...(handedOut === undefined ? [] : [handedOut])]);
    const out = countOf(handedOut);
    const counted = backend.idleCount + out + backend.stagedCount + backend.inFlightCount;
    if (all.size !== backend.concurrency || counted !== backend.concurrency) {
      throw new Error(`${all.size} handles in the model, ${counted} in the core`);
    }
  }

  /** Forgets what was compared often enough, so that a step stays cheap. */
  trim(): void {
    for (const { warnings, submissions, model } of this.sides) {
      for (const list of [warnings, submissions, model.warnings, model.submissions]) list.length = 0;
    }
  }
}

function countOf(handle: ModelHandle | undefined): number {
  return handle === undefined ? 0 : 1;
}

function describe(result: IoReturn["result"]): string {
  return result.status === "unknown" ? "unknown" : `${result.status} ${result.error} ${result.result}`;
}

function codeOf(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

function expectCode(action: () => unknown, code: string): void {
  const got = codeOf(action);
  if (got !== code) throw new Error(`expected ${code}, got ${got}`);
}

type Operation = (run: Run, side: Side) => string;

const openScope: Operation = ({ model }, side) => {
  if (side.scopes.size >= 3) return "skip";
  const scope = model.openScope(side.model);
  side.scopes.set(scope, side.backend.openScope());
  return "openScope";
};

const endScope: Operation = ({ model, random }, side) => {
  const scope = [...side.scopes.keys()][random(4)];
  if (scope === undefined) return "skip";
  const failed = random(2) === 0;
  side.scopes.get(scope)?.end(failed);
  side.scopes.delete(scope);
  model.endScope(side.model, scope, failed);
  if (side.model.handedOut === undefined) side.handedOut = undefined;
  return failed ? "failScope" : "endScope";
};

const acquire: Operation = ({ model, random, slots }, side) => {
  const scopes = [...side.scopes.keys()];
  if (scopes.length === 0) return "skip";
  const number = scopes[random(scopes.length)] as number;
  const scope = side.scopes.get(number) as IoScope;
  const isTry = random(3) === 0;
  if (!isTry && side.model.handedOut === undefined && model.wouldSleep(side.model)) return "skip";
  const slot = createIoReturn();
  const take = (): IoHandle | undefined =>
    isTry ? side.backend.tryAcquire(scope, slot) : side.backend.acquire(scope, slot);
  const expected = model.acquire(side.model, number, isTry);
  if (expected === undefined) {
    expectCode(take, "ERR_AIO_HANDLE_ALREADY_OUT");
    return "acquireTwice";
  }
  const handle = take();
  if (expected === "none") {
    if (handle !== undefined) throw new Error("a handle, where none is idle");
    return "acquireNone";
  }
  if (handle?.id !== expected.id) throw new Error(`handle ${handle?.id} instead of ${expected.id}`);
  slots.push(slot);
  side.handedOut = handle;
  return isTry ? "tryAcquire" : "acquire";
};

const release: Operation = ({ model, world, random }, side) => {
  if (side.handedOut === undefined || random(4) > 0) return "skip";
  side.handedOut.release();
  model.release(side.model);
  expectCode(() => side.handedOut?.release(), "ERR_AIO_BAD_RELEASE");
  expectCode(() => world.read(side.handedOut as IoHandle, 0, 0), "ERR_AIO_BAD_STATE");
  side.handedOut = undefined;
  return "release";
};

const start: Operation = (run, side) => {
  const { handedOut } = side;
  if (handedOut === undefined) return "skip";
  const isSynchronous = run.random(8) === 0;
  const known = { ref: handedOut.ref(), handle: run.model.handles[handedOut.id] as ModelHandle };
  run.refs.push(known);
  if (run.refs.length > REFS_KEPT) run.refs.shift();
  if (isSynchronous) handedOut.flag("synchronous");
  side.handedOut = undefined;
  run.world.read(handedOut, run.random(BLOCKS), 0);
  run.model.start(side.model, isSynchronous, `ok 0 ${BLOCK_BYTES}`);
  return isSynchronous ? "startInline" : "start";
};

const batch: Operation = ({ model, random }, side) => {
  const { backend, model: state } = side;
  if (random(6) === 0) {
    backend.submitStaged();
    model.submitStaged(state);
    return "submitStaged";
  }
  if (random(2) === 0) {
    if (state.isBatch) {
      expectCode(() => backend.enterBatch(), "ERR_AIO_NESTED_BATCH");
      return "nestedBatch";
    }
    backend.enterBatch();
    [state.isBatch, state.batchScope] = [true, state.scopes.at(-1) ?? -1];
    return "enterBatch";
  }
  if (random(4) > 0) return "skip";
  if (!state.isBatch) {
    expectCode(() => backend.exitBatch(), "ERR_AIO_NOT_IN_BATCH");
    return "exitTwice";
  }
  backend.exitBatch();
  model.exitBatch(state);
  return "exitBatch";
};

/** A stranger completes something of either backend: for real, short, or with an error. */
const complete: Operation = ({ model, world, random }) => {
  const out = model.handles.filter(({ state }) => state === HANDLE_STATE.submitted);
  const handle = out[random(Math.max(1, out.length))];
  if (handle === undefined) return "skip";
  const outcomes: readonly [number | undefined, string][] = [
    [undefined, `ok 0 ${BLOCK_BYTES}`],
    [17, "ok 0 17"],
    [-5, "error 5 0"],
  ];
  const [result, described] = outcomes[random(outcomes.length)] as [number | undefined, string];
  world.controller.complete(handle.id, result);
  model.complete(handle, described);
  return "complete";
};

/** `done` or `wait` for something known, perhaps long over, by either backend. */
const look: Operation = ({ model, random, refs, sides }, side) => {
  const known = refs[random(REFS_KEPT)];
  if (known === undefined) return "skip";
  const { handle, ref } = known;
  const asker = sides.indexOf(side);
  const isNow = handle.generation === ref.generation;
  const isOut = isNow && handle.state < HANDLE_STATE.completedShared;
  if (random(2) === 0) {
    const expected = model.done(asker, handle, ref.generation);
    if (side.backend.done(ref) !== expected) throw new Error(`done is not ${expected}`);
    return expected ? "doneYes" : "doneNo";
  }
  if (isOut && handle.owner === asker && handle.state < HANDLE_STATE.submitted) {
    expectCode(() => side.backend.wait(ref), "ERR_AIO_WAIT_OWN_UNSUBMITTED");
    return "waitUnsubmitted";
  }
  if (isOut) return "skip";
  side.backend.wait(ref);
  model.done(asker, handle, ref.generation);
  return "wait";
};

/** Each as often as it stands here. */
const OPERATIONS: readonly Operation[] = [
  openScope,
  endScope,
  acquire,
  acquire,
  acquire,
  acquire,
  release,
  start,
  start,
  start,
  start,
  batch,
  complete,
  complete,
  look,
  look,
  look,
];

// Aim: lists, states, generations and outcomes are those of the reference, whatever happens in whatever order.
// Method: 100,000 random operations of two backends and a stranger who completes; a narrow and a wide backend.
test.each([
  [4, 20_251],
  [40, 20_252],
])("two backends of %i handles agree with the reference after every operation", async (concurrency, seed) => {
  const run = new Run(concurrency, seed);
  await using world = run.world;
  for (let step = 0; step < STEPS; step++) {
    const name = run.step();
    const [seen, expected] = [run.seen(), run.expected()];
    if (seen !== expected) expect(seen, `step ${step}, ${name}, seed ${seed}`).toBe(expected);
    for (const each of run.sides) run.checkCount(each);
    if (step % 20 === 0) run.trim();
  }
  const usual = ["acquire", "tryAcquire", "acquireTwice", "release", "start", "startInline", "complete"];
  const looks = ["doneYes", "doneNo", "wait", "waitUnsubmitted"];
  const scopes = ["openScope", "endScope", "failScope"];
  const batches = ["enterBatch", "nestedBatch", "exitBatch", "exitTwice", "submitStaged"];
  for (const name of [
    ...usual,
    ...looks,
    ...scopes,
    ...batches,
    ...(concurrency === 4 ? ["acquireNone"] : []),
  ]) {
    expect(run.counts[name], `${name} occurred`).toBeGreaterThan(20);
  }
  for (const { backend, scopes } of run.sides) {
    for (const scope of scopes.values()) scope.end(true);
    if (backend.isInBatch) backend.exitBatch();
    backend.submitStaged();
  }
  world.controller.completeAll();
  for (const { backend } of run.sides) {
    backend.detach();
    expect(backend.idleCount).toBe(concurrency);
  }
});
