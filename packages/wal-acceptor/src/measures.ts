/**
 * What a node measures while it works: histograms that stores and streams add to, and the clock they share.
 *
 * One per node, handed down to whoever does the work; nobody but the owner of a number adds to it. An observation is a
 * reading of the clock and two additions. Names are those of Neon's safekeeper where it has them; the buckets are finer,
 * because a commit waits for these times. A test or a program that wants no numbers leaves it out: each part then has
 * one that nobody reads.
 */
import { systemClock } from "./clock.js";
import type { Clock } from "./clock.js";
import { Histogram } from "./histogram.js";
import type { HistogramMetric, Metric } from "./metrics.js";

/** From the page cache's tens of microseconds to a disk that hangs. */
const SECONDS: readonly number[] = [
  0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10, 30,
];
/** From a bare commit record to what one write may carry. */
const BYTES: readonly number[] = [64, 256, 1024, 4096, 16_384, 65_536, 131_072, 262_144, 524_288, 1_048_576];
/** Messages: up to the capacity of a stream's queue. */
const MESSAGES: readonly number[] = [0, 1, 2, 4, 8, 16, 32, 64, 128, 255, 256];
/** Appends that became one write: up to `COALESCED_REQUESTS_MAX`. */
const REQUESTS: readonly number[] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/** What a WAL store does; Neon's names for the first four. */
export const STORAGE_OPERATIONS = [
  "initialize_first_segment",
  "write_wal",
  "flush_wal",
  "truncate_wal",
  "remove_wal",
] as const;
export type StorageOperation = (typeof STORAGE_OPERATIONS)[number];

function sampleOf(
  histogram: Histogram,
  labels: Readonly<Record<string, string>>,
): HistogramMetric["samples"][number] {
  return { labels, ...histogram.snapshot() };
}

/** The measurements of one node. */
export class AcceptorMeasures {
  /** Writes of WAL that were durable when they returned, and syncs of WAL: what commits share. */
  durableWalWrites = 0;
  /** Bytes of one write of a WAL store to the disk. */
  readonly writeWalBytes: Histogram = new Histogram(BYTES);
  readonly writeWalSeconds: Histogram = new Histogram(SECONDS);
  readonly flushWalSeconds: Histogram = new Histogram(SECONDS);
  readonly persistControlFileSeconds: Histogram = new Histogram(SECONDS);
  readonly storageOperationSeconds: Readonly<Record<StorageOperation, Histogram>> = {
    initialize_first_segment: new Histogram(SECONDS),
    write_wal: new Histogram(SECONDS),
    flush_wal: new Histogram(SECONDS),
    truncate_wal: new Histogram(SECONDS),
    remove_wal: new Histogram(SECONDS),
  };
  readonly receiverQueueDepth: Histogram = new Histogram(MESSAGES);
  readonly appendBatchSize: Histogram = new Histogram(REQUESTS);
  readonly commitToAckSeconds: Histogram = new Histogram(SECONDS);
  readonly recoveryDecodeSeconds: Histogram = new Histogram(SECONDS);
  readonly #clock: Clock;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  /** Monotonic milliseconds: the beginning of something that `secondsSince` will be asked about. */
  now(): number {
    return this.#clock.monotonicMs();
  }

  secondsSince(beganMs: number): number {
    return (this.#clock.monotonicMs() - beganMs) / 1000;
  }

  /** Plain counts for a monitoring system. */
  counters(): readonly Metric[] {
    return [
      {
        name: "safekeeper_wal_durable_writes_total",
        help: "Durable writes of WAL, and syncs after writes that were not",
        type: "counter",
        samples: [{ labels: {}, value: this.durableWalWrites }],
      },
    ];
  }

  /** Distributions for a monitoring system, read at this moment. */
  metrics(): readonly HistogramMetric[] {
    const one = (name: string, help: string, histogram: Histogram): HistogramMetric => ({
      name: `safekeeper_${name}`,
      help,
      samples: [sampleOf(histogram, {})],
    });
    return [
      one("write_wal_bytes", "Bytes of one write of WAL", this.writeWalBytes),
      one(
        "write_wal_seconds",
        "Time of one write of WAL, durable where files have O_DSYNC",
        this.writeWalSeconds,
      ),
      one("flush_wal_seconds", "Time from asking for WAL to be durable until it is", this.flushWalSeconds),
      one("persist_control_file_seconds", "Time to replace a control file", this.persistControlFileSeconds),
      {
        name: "safekeeper_wal_storage_operation_seconds",
        help: "Time of one call of a WAL store, by kind, failed ones included",
        samples: STORAGE_OPERATIONS.map((operation) =>
          sampleOf(this.storageOperationSeconds[operation], { operation }),
        ),
      },
      one("wal_receiver_queue_depth", "Messages waiting in a stream's queue", this.receiverQueueDepth),
      one("append_batch_size", "Append requests that became one write", this.appendBatchSize),
      one(
        "commit_to_ack_seconds",
        "From taking a transaction's end out of the queue to its acknowledgement",
        this.commitToAckSeconds,
      ),
      one("recovery_decode_seconds", "Time to find the end of a timeline's WAL", this.recoveryDecodeSeconds),
    ];
  }
}
