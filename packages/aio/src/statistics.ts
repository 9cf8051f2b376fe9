/**
 * Counters of a thread: I/O started, by operation and target, and how it was done.
 *
 * Plain doubles in a memory of the thread's own; adding one costs a nanosecond. An I/O counts once, when it is started,
 * whatever becomes of it (PostgreSQL's pg_stat_io counts the same way).
 */
import { OPERATION_COUNT, operationName } from "./operations.js";
import type { IoOperation } from "./operations.js";
import { TARGET_IDS } from "./registry.js";

/** I/O of one kind. */
export interface IoCount {
  readonly operation: IoOperation;
  readonly targetId: number;
  readonly started: number;
  readonly bytes: number;
}

/** Everything a thread counts. */
export interface IoStatistics {
  readonly io: readonly IoCount[];
  /** Submissions, and the handles in them. */
  readonly batches: number;
  readonly submitted: number;
  /** I/O that the issuer executed itself. */
  readonly inline: number;
  /** Waits that had to sleep. */
  readonly waits: number;
  /** Own I/O that another thread completed. */
  readonly foreignCompletions: number;
}

/** The counters of one backend. */
export class Statistics {
  batches = 0;
  submitted = 0;
  inline = 0;
  waits = 0;
  /** Two for each kind: I/Os, then bytes. */
  readonly #io = new Float64Array(OPERATION_COUNT * TARGET_IDS * 2);

  /** Counts an I/O that is being started. */
  start(operation: number, targetId: number, bytes: number): void {
    const io = this.#io;
    const at = (operation * TARGET_IDS + targetId) * 2;
    (io[at] as number) += 1;
    (io[at + 1] as number) += bytes;
  }

  /** A copy of all counters; kinds of I/O that never occurred are left out. */
  snapshot(): Omit<IoStatistics, "foreignCompletions"> {
    const io: IoCount[] = [];
    for (let kind = 0; kind < OPERATION_COUNT * TARGET_IDS; kind++) {
      const operation = operationName(Math.floor(kind / TARGET_IDS));
      const started = this.#io[kind * 2] as number;
      if (operation === undefined || started === 0) continue;
      io.push({ operation, targetId: kind % TARGET_IDS, started, bytes: this.#io[kind * 2 + 1] as number });
    }
    const { batches, submitted, inline, waits } = this;
    return { io, batches, submitted, inline, waits };
  }
}
