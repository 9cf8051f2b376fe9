/**
 * A named place at which code is stopped until the test lets it go on, or ends: a failed test must not hang.
 */
export class Hold implements Disposable {
  /** Resolves when somebody has arrived. */
  readonly arrived: Promise<void>;
  readonly #released: Promise<void>;
  #arrive: () => void = () => undefined;
  #release: () => void = () => undefined;
  #fail: (error: Error) => void = () => undefined;

  constructor() {
    this.arrived = new Promise((resolve) => {
      this.#arrive = resolve;
    });
    this.#released = new Promise((resolve, reject) => {
      this.#release = resolve;
      this.#fail = reject;
    });
    this.#released.catch(() => undefined);
  }

  /** Arrives and waits. */
  pass(): Promise<void> {
    this.#arrive();
    return this.#released;
  }

  release(): void {
    this.#release();
  }

  [Symbol.dispose](): void {
    this.release();
  }

  /** Lets everybody go on with an error. */
  fail(error: Error): void {
    this.#fail(error);
  }
}
