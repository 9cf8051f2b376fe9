/**
 * What readers of the WAL report back, on its way to the proposer.
 *
 * Two kinds. Pageserver feedback is a stream of reports, each broadcast to every proposer connection of the timeline:
 * a subscription keeps the newest few and drops the oldest, because a report is superseded by the next one and a
 * proposer that does not read must not hold memory. Hot-standby feedback is state: the oldest xmin over all standbys,
 * recomputed when one reports or leaves, and read whenever an AppendResponse goes out.
 *
 * Single-threaded; `publish` and `update` never wait and never call out except to the `wake` of a subscription.
 */
import { aggregateHotStandby, NO_HOT_STANDBY_FEEDBACK } from "@millrace/wal-protocol";
import type { HotStandbyFeedback, PageserverFeedback } from "@millrace/wal-protocol";

/** Reports a slow subscriber may lag behind before the oldest are dropped; Neon's broadcast capacity. */
export const PAGESERVER_FEEDBACK_CAPACITY = 8;

/** Collects feedback of one timeline and hands it to its proposer connections. */
export class FeedbackHub {
  readonly #subscriptions = new Set<FeedbackSubscription>();
  readonly #standbys = new Set<StandbyFeedbackSlot>();
  #hotStandby: HotStandbyFeedback = NO_HOT_STANDBY_FEEDBACK;
  #published = 0;

  /** Reports of pageservers so far. */
  get published(): number {
    return this.#published;
  }

  /** The aggregate of every standby connected now: minima of the non-zero xmins, the newest time. */
  get hotStandby(): HotStandbyFeedback {
    return this.#hotStandby;
  }

  /** How many proposer connections listen. */
  get subscriptions(): number {
    return this.#subscriptions.size;
  }

  /** Hands a pageserver's report to every subscription. */
  publish(feedback: PageserverFeedback): void {
    this.#published += 1;
    for (const subscription of this.#subscriptions) subscription.push(feedback);
  }

  /**
   * Subscribes to the reports published from now on.
   *
   * @param wake called, synchronously, when a report arrives and none was waiting
   */
  subscribe(wake: () => void): FeedbackSubscription {
    const subscription = new FeedbackSubscription(wake, () => this.#subscriptions.delete(subscription));
    this.#subscriptions.add(subscription);
    return subscription;
  }

  /** Adds a standby that has reported nothing yet; it counts until its slot is disposed. */
  registerStandby(): StandbyFeedbackSlot {
    const slot = new StandbyFeedbackSlot(
      () => this.#recompute(),
      () => {
        this.#standbys.delete(slot);
        this.#recompute();
      },
    );
    this.#standbys.add(slot);
    return slot;
  }

  #recompute(): void {
    this.#hotStandby = aggregateHotStandby([...this.#standbys].map((slot) => slot.feedback));
  }
}

/** One listener's last few reports, oldest first. */
export class FeedbackSubscription implements Disposable {
  readonly #wake: () => void;
  readonly #unsubscribe: () => void;
  readonly #reports: PageserverFeedback[] = [];
  #dropped = 0;

  constructor(wake: () => void, unsubscribe: () => void) {
    this.#wake = wake;
    this.#unsubscribe = unsubscribe;
  }

  /** Reports lost because this listener was slow. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Called by the hub. */
  push(feedback: PageserverFeedback): void {
    if (this.#reports.length === PAGESERVER_FEEDBACK_CAPACITY) {
      this.#reports.shift();
      this.#dropped += 1;
    }
    this.#reports.push(feedback);
    if (this.#reports.length === 1) this.#wake();
  }

  /** Takes the oldest report, if any. */
  take(): PageserverFeedback | undefined {
    return this.#reports.shift();
  }

  /** Stops listening; twice is allowed. */
  [Symbol.dispose](): void {
    this.#unsubscribe();
    this.#reports.length = 0;
  }
}

/** One standby's newest hot-standby feedback. */
export class StandbyFeedbackSlot implements Disposable {
  readonly #changed: () => void;
  readonly #unregister: () => void;
  #feedback: HotStandbyFeedback = NO_HOT_STANDBY_FEEDBACK;

  constructor(changed: () => void, unregister: () => void) {
    this.#changed = changed;
    this.#unregister = unregister;
  }

  get feedback(): HotStandbyFeedback {
    return this.#feedback;
  }

  /** Replaces what this standby reported before. */
  update(feedback: HotStandbyFeedback): void {
    this.#feedback = feedback;
    this.#changed();
  }

  /** The standby is gone: its horizon counts no more. Twice is allowed. */
  [Symbol.dispose](): void {
    this.#unregister();
  }
}
