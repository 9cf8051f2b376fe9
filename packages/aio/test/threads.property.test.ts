/**
 * Several threads that do legal and illegal things in any order, against a model of the handles' states.
 *
 * Every step is a message to one thread, or a completion from outside, and is answered before the next: the schedule is
 * the property's. After each step the shared words must say what the model says. The model is the table of the states and
 * four lists a thread; it knows nothing of memory, locks or wake-ups.
 */
import fc from "fast-check";
import { expect, test } from "vitest";

import { HANDLE_STATE } from "../src/handle-state.js";
import type { WaitRef } from "../src/wait-ref.js";
import { BackendThread, ThreadError } from "./driven-thread.js";
import { World } from "./fixture.js";

const THREADS = 3;
const CONCURRENCY = 3;

interface ModelHandle {
  state: number;
  generation: number;
}

/** What one thread's handles should be. */
class ModelThread {
  readonly idle: number[] = Array.from({ length: CONCURRENCY }, (_, at) => CONCURRENCY - 1 - at);
  staged: number[] = [];
  handedOut: number | undefined;
  hasHandle = false;
  isBatch = false;
}

const ACTIONS = [
  "tryAcquire",
  "release",
  "start",
  "enterBatch",
  "exitBatch",
  "submitStaged",
  "done",
  "wait",
  "complete",
  "kill",
] as const;
type Action = (typeof ACTIONS)[number];
interface Step {
  readonly action: Action;
  readonly thread: number;
  readonly choice: number;
}

/** The answer of a step that is refused. */
const refusal = (code: string): { readonly code: string } => ({ code });

class Model {
  readonly handles: ModelHandle[] = Array.from({ length: THREADS * CONCURRENCY }, () => {
    return { state: HANDLE_STATE.idle, generation: 1 };
  });
  readonly threads: ModelThread[] = Array.from({ length: THREADS }, () => new ModelThread());

  at(handle: number): ModelHandle {
    return this.handles[handle] as ModelHandle;
  }

  recycle(owner: number, position: number): void {
    const handle = this.at(owner * CONCURRENCY + position);
    handle.state = HANDLE_STATE.idle;
    handle.generation += 1;
    this.threads[owner]?.idle.push(position);
  }

  tryAcquire(owner: number): unknown {
    const thread = this.threads[owner] as ModelThread;
    if (thread.handedOut !== undefined) return refusal("ERR_AIO_HANDLE_ALREADY_OUT");
    const position = thread.idle.pop();
    if (position === undefined) return undefined;
    thread.handedOut = position;
    thread.hasHandle = true;
    const handle = owner * CONCURRENCY + position;
    this.at(handle).state = HANDLE_STATE.handedOut;
    return { handle, generation: this.at(handle).generation };
  }

  release(owner: number): unknown {
    const thread = this.threads[owner] as ModelThread;
    if (thread.handedOut === undefined) return refusal("ERR_AIO_BAD_RELEASE");
    this.recycle(owner, thread.handedOut);
    thread.handedOut = undefined;
    return undefined;
  }

  start(owner: number): unknown {
    const thread = this.threads[owner] as ModelThread;
    if (thread.handedOut === undefined) return refusal("ERR_AIO_BAD_STATE");
    this.at(owner * CONCURRENCY + thread.handedOut).state = HANDLE_STATE.staged;
    thread.staged.push(thread.handedOut);
    thread.handedOut = undefined;
    if (!thread.isBatch) this.submitStaged(owner);
    return undefined;
  }

  submitStaged(owner: number): number {
    const thread = this.threads[owner] as ModelThread;
    for (const position of thread.staged) {
      this.at(owner * CONCURRENCY + position).state = HANDLE_STATE.submitted;
    }
    const count = thread.staged.length;
    thread.staged = [];
    return count;
  }

  enterBatch(owner: number): unknown {
    const thread = this.threads[owner] as ModelThread;
    if (thread.isBatch) return refusal("ERR_AIO_NESTED_BATCH");
    thread.isBatch = true;
    return undefined;
  }

  exitBatch(owner: number): unknown {
    const thread = this.threads[owner] as ModelThread;
    if (!thread.isBatch) return refusal("ERR_AIO_NOT_IN_BATCH");
    thread.isBatch = false;
    this.submitStaged(owner);
    return undefined;
  }

  done(viewer: number, ref: WaitRef): boolean {
    const handle = this.at(ref.handle);
    if (handle.generation !== ref.generation || handle.state === HANDLE_STATE.idle) return true;
    if (handle.state < HANDLE_STATE.completedShared) return false;
    const owner = Math.floor(ref.handle / CONCURRENCY);
    if (owner === viewer) this.recycle(owner, ref.handle % CONCURRENCY);
    return true;
  }

  /** @returns "sleeps" if the thread would not answer */
  wait(viewer: number, ref: WaitRef): unknown {
    if (this.done(viewer, ref)) return undefined;
    const { state } = this.at(ref.handle);
    const isOwn = Math.floor(ref.handle / CONCURRENCY) === viewer;
    if (isOwn && state < HANDLE_STATE.submitted) return refusal("ERR_AIO_WAIT_OWN_UNSUBMITTED");
    return state === HANDLE_STATE.handedOut ? refusal("ERR_AIO_BAD_STATE") : "sleeps";
  }

  /** A thread is gone: everything of it is back, and what was in use has another generation. */
  kill(owner: number): void {
    for (let position = 0; position < CONCURRENCY; position++) {
      const handle = this.at(owner * CONCURRENCY + position);
      if (handle.state === HANDLE_STATE.idle) continue;
      handle.state = HANDLE_STATE.idle;
      handle.generation += 1;
    }
    this.threads[owner] = new ModelThread();
  }
}

/** The real threads, each in the slot of its model. */
class Play implements AsyncDisposable {
  readonly world = new World("manual", { backendsMax: THREADS + 1, concurrency: CONCURRENCY });
  readonly model = new Model();
  readonly refs: WaitRef[] = [];
  readonly threads: BackendThread[] = [];

  /** The world's own backend is the first; the threads' handles come after its. */
  get shift(): number {
    return CONCURRENCY;
  }

  async start(): Promise<this> {
    for (let at = 0; at < THREADS; at++) {
      const thread = await BackendThread.start(this.world.system);
      expect(thread.backend).toBe(at + 1);
      this.threads.push(thread);
    }
    return this;
  }

  #real(ref: WaitRef): WaitRef {
    return { handle: ref.handle + this.shift, generation: ref.generation };
  }

  async step({ action, thread, choice }: Step): Promise<void> {
    const { model, refs } = this;
    if (action === "kill") return await this.#kill(thread);
    if (action === "complete") return this.#complete(choice);
    if (action === "done" || action === "wait") {
      const ref = refs[choice % Math.max(1, refs.length)];
      if (ref === undefined) return undefined;
      const expected = action === "done" ? model.done(thread, ref) : model.wait(thread, ref);
      if (expected === "sleeps") return undefined;
      return await this.#expect(thread, expected, action, this.#real(ref));
    }
    if ((action === "release" || action === "start") && model.threads[thread]?.hasHandle !== true)
      return undefined;
    const expected = model[action](thread);
    if (action === "tryAcquire" && expected !== undefined && "handle" in (expected as object)) {
      refs.push(expected as WaitRef);
      return await this.#expect(thread, this.#real(expected as WaitRef), action);
    }
    const io = { offset: 0, length: 8192 };
    const more = action === "start" ? ["readv", this.world.lease, io] : [];
    return await this.#expect(thread, expected, action, ...more);
  }

  async #expect(thread: number, expected: unknown, command: string, ...args: unknown[]): Promise<void> {
    let answer: unknown;
    try {
      answer = await this.threads[thread]?.call(command, ...args);
    } catch (error) {
      if (!(error instanceof ThreadError)) throw error;
      answer = refusal(error.code);
    }
    expect(answer, command).toEqual(expected);
  }

  #complete(choice: number): void {
    const submitted = this.world.controller.submitted();
    const handle = submitted[choice % Math.max(1, submitted.length)];
    if (handle === undefined) return;
    this.world.controller.complete(handle);
    this.model.at(handle - this.shift).state = HANDLE_STATE.completedShared;
  }

  /** Ends a thread; a new one takes the slot. What it has in flight the test has in hand, and completes. */
  async #kill(at: number): Promise<void> {
    const thread = this.threads[at] as BackendThread;
    await thread.worker.terminate();
    const first = this.shift + at * CONCURRENCY;
    for (const handle of this.world.controller.submitted()) {
      if (handle >= first && handle < first + CONCURRENCY) this.world.controller.complete(handle);
    }
    await thread.recovered;
    this.model.kill(at);
    this.threads[at] = await BackendThread.start(this.world.system);
    expect(this.threads[at].backend, "the slot is used again").toBe(at + 1);
  }

  /** The shared words say what the model says. */
  compare(): void {
    const { table } = this.world.backend;
    const real = this.model.handles.map((_, at) => {
      return { state: table.state(at + this.shift), generation: table.generation(at + this.shift) };
    });
    expect(real).toEqual(this.model.handles);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ends = this.threads.map(async (thread) => {
      await thread.worker.terminate();
      this.world.controller.completeAll();
      await thread.recovered;
    });
    await Promise.all(ends);
    await this.world[Symbol.asyncDispose]();
  }
}

const weights: Readonly<Partial<Record<Action, number>>> = { tryAcquire: 6, start: 6, complete: 4, kill: 1 };
const step: fc.Arbitrary<Step> = fc.record({
  action: fc.oneof(
    ...ACTIONS.map((action) => ({ weight: weights[action] ?? 2, arbitrary: fc.constant(action) })),
  ),
  thread: fc.nat(THREADS - 1),
  choice: fc.nat(1000),
});

// Aim: no sequence of calls, of any threads, brings a handle into a state it must not be in, and each illegal call is
// refused with its code and changes nothing. Method: the model.
test(
  "handles are in the states of the model after every call of every thread",
  { timeout: 120_000 },
  async () => {
    const steps = fc.array(step, { minLength: 60, maxLength: 120, size: "max" });
    await fc.assert(
      fc.asyncProperty(steps, async (list) => {
        await using play = await new Play().start();
        for (const each of list) {
          await play.step(each);
          play.compare();
        }
      }),
      { numRuns: 8 },
    );
  },
);
