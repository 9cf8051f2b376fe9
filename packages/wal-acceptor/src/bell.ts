/**
 * Wakes one waiter, however many reasons there are and whenever they come.
 *
 * A ring while nobody waits is remembered once, so a waiter that looks at everything it cares about after each wake-up
 * misses nothing. One waiter at a time. Costs one promise per wait and none per ring.
 */

/** A remembered, coalesced wake-up. */
export class Bell {
  #rung = false;
  #resolve: (() => void) | undefined;

  /** Ends the wait under way, or the next one before it begins. */
  ring(): void {
    const resolve = this.#resolve;
    this.#resolve = undefined;
    if (resolve === undefined) this.#rung = true;
    else resolve();
  }

  /** Waits for a ring since the last wait ended. */
  async wait(): Promise<void> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        this.#resolve = resolve;
      });
    }
    this.#rung = false;
  }
}
