/**
 * The first part of a push stream: CopyData in, parsed messages into the queue.
 *
 * It owns the reading half of the socket and the queue's producing side. It ends for three reasons: the peer (done,
 * fail, terminate, a broken socket, bytes that do not parse), silence for longer than the idle limit, or the queue's
 * consumer having gone, which is a quiet end. When the queue is full it waits and does not read: that is the
 * back-pressure. A hand-off that took long is published, because a slow disk shows here first.
 *
 * The idle limit is one re-armed timer per stream, not one per message, and counts only time spent waiting for the
 * peer. WAL in a message stays a view of the socket's chunk until it has been written.
 */
import type { CopyEvent, CopyReader } from "@millrace/pg-wire";
import { parseProposerMessage } from "@millrace/wal-protocol";
import type { ProposerMessage, ProtocolVersion } from "@millrace/wal-protocol";

import type { Clock, Timer } from "./clock.js";
import { publish } from "./diagnostics.js";
import type { EventPlace } from "./diagnostics.js";
import type { ProposerQueue } from "./proposer-queue.js";
import { streamEndOfError } from "./stream-end.js";
import type { StreamEnd } from "./stream-end.js";

/** Silence after which a peer is taken for dead; proposers send a heartbeat each second. */
export const IDLE_TIMEOUT_MS_DEFAULT = 600_000;
/** A hand-off to the acceptor task that takes longer is published as `slow-queue`. */
export const SLOW_HAND_OFF_MS = 5000;

/** What one reader works with. */
export interface NetworkReaderOptions {
  readonly reader: CopyReader;
  readonly version: ProtocolVersion;
  readonly clock: Clock;
  readonly idleTimeoutMs: number;
  readonly place: EventPlace;
}

/** Reads one push stream. One call of `first`, then one of `run`. */
export class NetworkReader {
  readonly #reader: CopyReader;
  readonly #version: ProtocolVersion;
  readonly #clock: Clock;
  readonly #idleTimeoutMs: number;
  readonly #place: EventPlace;
  #waitingSinceMs: number | undefined;

  constructor(options: NetworkReaderOptions) {
    this.#reader = options.reader;
    this.#version = options.version;
    this.#clock = options.clock;
    this.#idleTimeoutMs = options.idleTimeoutMs;
    this.#place = options.place;
  }

  /** The first message of the stream, or why there is none. Does not throw. */
  first(): Promise<{ readonly message: ProposerMessage } | { readonly end: StreamEnd }> {
    return this.#watched(
      async () => {
        const event = await this.#next();
        if (event.type !== "data") return { end: endOfEvent(event) };
        return { message: parseProposerMessage(event.payload, this.#version) };
      },
      (end) => ({ end }),
    );
  }

  /**
   * Moves messages into `queue` until the stream ends. Does not throw.
   *
   * After an idle timeout the reading half is still waiting for the peer: the caller must destroy the connection.
   *
   * @returns why it ended, or `undefined` when the queue's consumer had gone
   */
  run(queue: ProposerQueue): Promise<StreamEnd | undefined> {
    return this.#watched(
      async () => {
        for (;;) {
          const event = this.#reader.tryNext() ?? (await this.#next());
          if (event.type !== "data") return endOfEvent(event);
          const message = parseProposerMessage(event.payload, this.#version);
          const result = queue.trySend(message);
          if (result === "sent") continue;
          if (result === "closed" || !(await this.#sendSlowly(queue, message))) return undefined;
        }
      },
      (end) => end,
    );
  }

  async #next(): Promise<CopyEvent> {
    this.#waitingSinceMs = this.#clock.monotonicMs();
    try {
      return await this.#reader.next();
    } finally {
      this.#waitingSinceMs = undefined;
    }
  }

  async #sendSlowly(queue: ProposerQueue, message: ProposerMessage): Promise<boolean> {
    const startedMs = this.#clock.monotonicMs();
    const report = (): void => {
      publish(() => ({
        ...this.#place,
        type: "slow-queue",
        level: "warn",
        blockedMs: this.#clock.monotonicMs() - startedMs,
      }));
    };
    const timer = this.#clock.setTimer(SLOW_HAND_OFF_MS, report);
    try {
      return await queue.send(message);
    } finally {
      timer.cancel();
      if (this.#clock.monotonicMs() - startedMs > SLOW_HAND_OFF_MS) report();
    }
  }

  // Runs `body` against the idle limit. One race per stream, so nothing accumulates on long-lived promises.
  async #watched<T>(body: () => Promise<T>, ended: (end: StreamEnd) => T): Promise<T> {
    let timer: Timer | undefined;
    const silence = new Promise<T>((resolve) => {
      const arm = (delayMs: number): void => {
        timer = this.#clock.setTimer(delayMs, () => {
          const since = this.#waitingSinceMs;
          const silentMs = since === undefined ? 0 : this.#clock.monotonicMs() - since;
          if (silentMs >= this.#idleTimeoutMs)
            resolve(ended({ kind: "idle-timeout", idleMs: this.#idleTimeoutMs }));
          else arm(this.#idleTimeoutMs - silentMs);
        });
      };
      arm(this.#idleTimeoutMs);
    });
    const reading = body().catch((error: unknown) => ended(streamEndOfError(error)));
    try {
      return await Promise.race([reading, silence]);
    } finally {
      timer?.cancel();
    }
  }
}

function endOfEvent(event: Exclude<CopyEvent, { readonly type: "data" }>): StreamEnd {
  switch (event.type) {
    case "done":
      return { kind: "copy-done" };
    case "fail":
      return { kind: "copy-fail", message: event.message };
    case "end":
    default:
      return { kind: "disconnected", reason: event.reason };
  }
}
