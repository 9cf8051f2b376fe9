/**
 * Pages that are kept away from the workers for a while: those that failed in every attempt.
 *
 * A record that kills whoever replays it would otherwise have a new process started for each time that somebody asks.
 */
import { RedoError } from "./errors.js";
import { pageKeyText } from "./redo-request.js";
import type { RedoRequest } from "./redo-request.js";

const QUARANTINE_MS = 30_000;
/** Beyond this the one that has been in for longest comes out. */
const PAGES_MAX = 4096;

export class Quarantine {
  readonly #now: () => number;
  readonly #until = new Map<string, number>();

  /** @param now milliseconds since an arbitrary moment */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** @throws {RedoError} ERR_REDO_QUARANTINED */
  check(request: RedoRequest): void {
    if (this.#until.size === 0) return;
    const identity = identityOf(request);
    const until = this.#until.get(identity);
    if (until === undefined) return;
    if (this.#now() < until) {
      throw new RedoError(
        "ERR_REDO_QUARANTINED",
        undefined,
        `${identity} failed in all attempts a moment ago`,
      );
    }
    this.#until.delete(identity);
  }

  add(request: RedoRequest): void {
    const [oldest] = this.#until.keys();
    if (oldest !== undefined && this.#until.size >= PAGES_MAX) this.#until.delete(oldest);
    this.#until.set(identityOf(request), this.#now() + QUARANTINE_MS);
  }
}

/** Page, base and last change: another base or another end may well be replayed. */
function identityOf({ page, base, modifications }: RedoRequest): string {
  const [from, to] = [base?.lsn ?? 0n, modifications.at(-1)?.endLsn ?? 0n];
  return `${pageKeyText(page)} from ${String(from)} to ${String(to)}`;
}
