/**
 * The order in which a node loads its timelines: all of them in the background, asked-for ones first.
 *
 * At most LOAD_CONCURRENCY loads run at a time, plus DEMAND_CONCURRENCY that are kept for what somebody waits for:
 * if every background load hangs on a slow disk, the first request still finds a free place. A demanded load that has
 * not begun goes to the front, behind those demanded earlier. Whoever demands waits for that one load alone.
 *
 * It knows names and the promise of each load, nothing of timelines. Loads begin in `start`, so that nothing runs
 * before everything is queued. After `stop` no load begins.
 */

/** Background loads at a time: enough to keep a disk busy, few enough descriptors and scan buffers (1 MiB each). */
export const LOAD_CONCURRENCY = 8;
/** Further loads at a time that somebody waits for. */
export const DEMAND_CONCURRENCY = 8;

interface Load<T> {
  readonly item: T;
  readonly done: Promise<void>;
  readonly finish: () => void;
}

/** Items by name that are loaded once each. */
export class LoadQueue<T> {
  readonly #run: (item: T) => Promise<void>;
  readonly #background = new Map<string, Load<T>>();
  readonly #demanded = new Map<string, Load<T>>();
  readonly #running = new Map<string, Load<T>>();
  /** Those of `#running` that hold a place kept for demands. */
  #extra = 0;
  #started = false;
  #stopped = false;
  readonly #idle: Promise<void>;
  #becomeIdle: () => void = () => undefined;

  /** @param run loads one item; must not reject */
  constructor(run: (item: T) => Promise<void>) {
    this.#run = run;
    this.#idle = new Promise((resolve) => {
      this.#becomeIdle = resolve;
    });
  }

  /** Loads that have not ended. */
  get size(): number {
    return this.#background.size + this.#demanded.size + this.#running.size;
  }

  /** Queues an item. Names are unique and come before `start`. */
  add(name: string, item: T): void {
    let finish = (): void => undefined;
    const done = new Promise<void>((resolve) => {
      finish = resolve;
    });
    this.#background.set(name, { item, done, finish });
  }

  /** Begins to load. */
  start(): void {
    this.#started = true;
    this.#pump();
  }

  /** Moves the item to the front. @returns resolves when its load has ended, or `stop` gave it up; never rejects */
  demand(name: string): Promise<void> {
    const waiting = this.#background.get(name);
    if (waiting === undefined) {
      return (this.#demanded.get(name) ?? this.#running.get(name))?.done ?? Promise.resolve();
    }
    this.#background.delete(name);
    this.#demanded.set(name, waiting);
    this.#pump();
    return waiting.done;
  }

  /** Resolves when everything was loaded, or given up by `stop`. */
  whenIdle(): Promise<void> {
    return this.#idle;
  }

  /** Begins no more loads and lets everybody go who waits for one. @returns settles when those under way have ended */
  stop(): Promise<void> {
    this.#stopped = true;
    for (const loads of [this.#demanded, this.#background, this.#running]) {
      for (const { finish } of loads.values()) finish();
    }
    this.#demanded.clear();
    this.#background.clear();
    this.#pump();
    return this.#idle;
  }

  #pump(): void {
    if (this.#started && !this.#stopped) {
      while (this.#running.size - this.#extra < LOAD_CONCURRENCY) {
        if (!this.#begin(this.#demanded, false) && !this.#begin(this.#background, false)) break;
      }
      while (this.#extra < DEMAND_CONCURRENCY) if (!this.#begin(this.#demanded, true)) break;
    }
    if (this.size === 0) this.#becomeIdle();
  }

  // The first of `waiting`. False: there is none.
  #begin(waiting: Map<string, Load<T>>, extra: boolean): boolean {
    const [next] = waiting;
    if (next === undefined) return false;
    const [name, load] = next;
    waiting.delete(name);
    this.#running.set(name, load);
    if (extra) this.#extra += 1;
    void this.#run(load.item).then(() => {
      this.#running.delete(name);
      if (extra) this.#extra -= 1;
      load.finish();
      this.#pump();
    });
    return true;
  }
}
