/**
 * Keeps one child process running: starts it, waits until it is ready, restarts it with back-off, ends it.
 *
 *     stopped -> starting -> ready        the child said so
 *     starting, ready -> waiting          it ended, and nobody had asked it to
 *     waiting -> starting                 the delay is over: 1 s, doubled at each failure up to 60 s
 *     starting, ready -> halted           it ended in a way that a restart cannot help (`isFinal`)
 *     any -> stopping -> stopped          `stop` or `kill`
 *
 * A child that was ready for a minute has earned a fresh start: its next failure waits 1 s again. The delay is
 * the only bound on restarts; each restart of a bridge is a new term on every acceptor, and a crash loop must neither
 * burn a core nor fill the term histories. Every end is logged with its exit code or signal.
 *
 * `ChildProcess` objects are not used here but an interface with the five things needed, so that tests drive
 * the machine without processes and without waiting.
 */
import type { Logger } from "../logging.js";

/** A running child, as much of it as the supervisor needs. */
export interface RunningChild {
  readonly pid: number | undefined;
  /** Asks it to end the orderly way. */
  requestStop(): void;
  /** Tells it that its end is expected from now on. */
  expectEnd?(): void;
  kill(): void;
}

/** What a child tells its supervisor. Called at most once each, `ended` last. */
export interface ChildEvents {
  ready(): void;
  /** `how` is for the log: an exit code, a signal or the reason it did not start. */
  ended(how: string, exitCode: number | undefined): void;
}

/** Timers, injected by tests. */
export interface Timers {
  nowMs(): number;
  /** @returns cancels the timer */
  after(delayMs: number, callback: () => void): () => void;
}

/** The process's own timers. They keep it alive: a restart that is due is work. */
export const systemTimers: Timers = {
  nowMs: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return () => {
      clearTimeout(timer);
    };
  },
};

export const RESTART_DELAY_MIN_MS = 1000;
export const RESTART_DELAY_MAX_MS = 60_000;
/** Ready for this long counts as recovered. */
export const STABLE_AFTER_MS = 60_000;

export type SupervisedState = "stopped" | "starting" | "ready" | "waiting" | "halted" | "stopping";

/** What `SupervisedProcess` is made of. */
export interface SupervisorOptions {
  readonly name: string;
  readonly start: (events: ChildEvents) => RunningChild;
  readonly logger: Logger;
  readonly timers?: Timers;
  /** Called after each change of state. */
  readonly onChange?: () => void;
  /** Whether a child that ended with this code is left alone. Default: never. */
  readonly isFinal?: (exitCode: number | undefined) => boolean;
  /** Asked before a restart; while it says no, the restart waits for `retry`. Default: always yes. */
  readonly mayRestart?: () => boolean;
}

/** One child process and its restarts. Invariant: at most one child runs at a time. */
export class SupervisedProcess {
  readonly name: string;
  readonly #options: SupervisorOptions;
  readonly #timers: Timers;
  #state: SupervisedState = "stopped";
  #child: RunningChild | undefined;
  #cancelTimer: (() => void) | undefined;
  #readySinceMs = 0;
  #endExpected = false;
  #failures = 0;
  #restarts = 0;
  #lastEnd: string | undefined;
  #whenReady: (() => void)[] = [];
  #whenSettled: (() => void)[] = [];
  #whenEnded: (() => void)[] = [];
  #whenStopped: (() => void)[] = [];

  constructor(options: SupervisorOptions) {
    this.name = options.name;
    this.#options = options;
    this.#timers = options.timers ?? systemTimers;
  }

  get state(): SupervisedState {
    return this.#state;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** How often it was started again after an unexpected end. */
  get restarts(): number {
    return this.#restarts;
  }

  /** How the last child ended, undefined before the first end. */
  get lastEnd(): string | undefined {
    return this.#lastEnd;
  }

  /** Starts the child; nothing when it has been started already. */
  start(): void {
    if (this.#state === "stopped") this.#launch();
  }

  /** Starts a child that waits for its restart at once; nothing otherwise. For when what it failed for is there again. */
  retry(): void {
    if (this.#state !== "waiting") return;
    this.#cancelTimer?.();
    this.#restart();
  }

  /** Resolves when the child is ready, at once if it is; never rejects, so race it with a deadline. */
  ready(): Promise<void> {
    if (this.#state === "ready") return Promise.resolve();
    return new Promise((resolve) => this.#whenReady.push(resolve));
  }

  /** Resolves at the next end of a child, whatever it is now. */
  ended(): Promise<void> {
    return new Promise((resolve) => this.#whenEnded.push(resolve));
  }

  /** Resolves when the child is ready or has ended, whichever comes next; at once when it is ready. */
  readyOrEnded(): Promise<void> {
    if (this.#state === "ready") return Promise.resolve();
    return new Promise((resolve) => this.#whenSettled.push(resolve));
  }

  /**
   * Ends the child: asks, waits up to `graceMs`, then kills. Resolves when it has ended; no restart follows.
   *
   * @returns false when it had to be killed
   */
  async stop(graceMs: number): Promise<boolean> {
    const child = this.#beginStop();
    if (child === undefined) return true;
    let inTime = true;
    const cancel = this.#timers.after(graceMs, () => {
      inTime = false;
      this.#options.logger.warn(`${this.name} did not end within ${graceMs} ms and is killed`);
      child.kill();
    });
    child.requestStop();
    await this.#stopped();
    cancel();
    return inTime;
  }

  /** From now on an end of the child is expected: it is not started again. `stop` is still to be called. */
  expectEnd(): void {
    this.#endExpected = true;
    this.#child?.expectEnd?.();
  }

  /** Ends the child at once with SIGKILL and resolves when it has ended. */
  async kill(): Promise<void> {
    const child = this.#beginStop();
    if (child === undefined) return;
    child.kill();
    await this.#stopped();
  }

  #beginStop(): RunningChild | undefined {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (this.#child === undefined) {
      this.#move("stopped");
      return undefined;
    }
    this.#move("stopping");
    return this.#child;
  }

  #stopped(): Promise<void> {
    if (this.#state === "stopped") return Promise.resolve();
    return new Promise((resolve) => this.#whenStopped.push(resolve));
  }

  #move(state: SupervisedState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#options.onChange?.();
  }

  #launch(): void {
    this.#cancelTimer = undefined;
    this.#move("starting");
    let over = false;
    this.#child = this.#options.start({
      ready: () => {
        if (over || this.#state !== "starting") return;
        this.#readySinceMs = this.#timers.nowMs();
        this.#move("ready");
        for (const resolve of [...this.#whenReady.splice(0), ...this.#whenSettled.splice(0)]) resolve();
      },
      ended: (how, exitCode) => {
        if (over) return;
        over = true;
        this.#ended(how, exitCode);
      },
    });
  }

  #restart(): void {
    this.#restarts += 1;
    this.#launch();
  }

  #ended(how: string, exitCode: number | undefined): void {
    this.#child = undefined;
    this.#lastEnd = how;
    for (const resolve of [...this.#whenSettled.splice(0), ...this.#whenEnded.splice(0)]) resolve();
    if (this.#state === "stopping" || this.#endExpected) {
      this.#move("stopped");
      for (const resolve of this.#whenStopped.splice(0)) resolve();
      return;
    }
    if (this.#options.isFinal?.(exitCode) === true) {
      this.#options.logger.error(
        { exitCode },
        `${this.name} ended (${how}) and stays down: a restart cannot help`,
      );
      this.#move("halted");
      return;
    }
    const wasStable = this.#state === "ready" && this.#timers.nowMs() - this.#readySinceMs >= STABLE_AFTER_MS;
    if (wasStable) this.#failures = 0;
    const delayMs = Math.min(RESTART_DELAY_MIN_MS * 2 ** this.#failures, RESTART_DELAY_MAX_MS);
    // The exponent stays small enough for the product to be exact.
    this.#failures = Math.min(this.#failures + 1, 10);
    this.#options.logger.error(
      { exitCode, restartInMs: delayMs },
      `${this.name} ended unexpectedly (${how}); it is started again in ${delayMs / 1000} s`,
    );
    this.#move("waiting");
    this.#cancelTimer = this.#timers.after(delayMs, () => {
      if (this.#options.mayRestart?.() !== false) this.#restart();
    });
  }
}
