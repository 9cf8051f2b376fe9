/**
 * What the bridges in a test's process tell, kept and waited for.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";

import { DIAGNOSTICS_CHANNEL } from "@millrace/wal-proposer";
import type { ProposerNotice } from "@millrace/wal-proposer";

/** Every notice from the moment of its making until it is disposed of. */
export class NoticeWatch implements Disposable {
  readonly notices: ProposerNotice[] = [];
  readonly #watchers = new Set<(notice: ProposerNotice) => void>();
  readonly #look = (message: unknown): void => {
    this.notices.push(message as ProposerNotice);
    for (const watcher of this.#watchers) watcher(message as ProposerNotice);
  };

  constructor() {
    subscribe(DIAGNOSTICS_CHANNEL, this.#look);
  }

  /** Resolves once there is, or has been, a notice for which `found` holds. */
  until(found: (notice: ProposerNotice) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const watcher = (notice: ProposerNotice): void => {
        if (found(notice)) resolve();
      };
      this.#watchers.add(watcher);
      for (const notice of this.notices) watcher(notice);
    });
  }

  [Symbol.dispose](): void {
    unsubscribe(DIAGNOSTICS_CHANNEL, this.#look);
  }
}
