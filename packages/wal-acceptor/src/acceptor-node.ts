/**
 * A whole acceptor: a data directory, its timelines and its connections. Sockets come from outside, HTTP is
 * somebody else's.
 *
 * Order of opening: lock, node id, names of the timelines; then connections may come while the timelines themselves
 * are loaded. Nothing is answered about one before its recovered state is known to be durable. Order of closing: no new connections, streams drain what they have received and sync it, control files
 * are saved, the lock is given up; everything is bounded, so that a stop takes less than ten seconds. A kill at any
 * moment leads to the same state, only later: closing is an optimisation.
 */
import { setMaxListeners } from "node:events";
import type { Duplex } from "node:stream";
import type { MethodChoice, MethodName } from "@millrace/aio";
import { Gate } from "@millrace/duplex";
import type { Authenticator } from "@millrace/pg-wire";

import { MIN_FLUSH_GAP_MS_DEFAULT } from "./acceptor-task.js";
import { systemClock } from "./clock.js";
import type { Clock } from "./clock.js";
import type { SystemIdMismatchPolicy } from "./core-greeting.js";
import type { FileSystem } from "./file-system.js";
import { AcceptorMeasures } from "./measures.js";
import { IDLE_TIMEOUT_MS_DEFAULT } from "./network-reader.js";
import { CommandCounters, timelineMetrics } from "./metrics.js";
import type { HistogramMetric, Metric } from "./metrics.js";
import { openNodeDisk } from "./node-disk.js";
import type { NodeDisk } from "./node-disk.js";
import { ensureNodeId, lockDirectory } from "./node-identity.js";
import type { DirectoryLock } from "./node-identity.js";
import { QUEUE_BYTES_DEFAULT } from "./proposer-queue.js";
import { QueueSampler } from "./queue-sampler.js";
import type { PushSettings } from "./receive-wal.js";
import { ensureDirectory } from "./small-files.js";
import { TimelineRegistry } from "./timeline-registry.js";
import type { UnloadableTimeline } from "./timeline-registry.js";
import type { TimelineStatus } from "./timeline-status.js";
import { createDiskTimelineStorage } from "./timeline-storage.js";
import type { TimelineKey, TimelineStorage } from "./timeline-storage.js";
import { serveWalPort, SERVER_VERSION_DEFAULT } from "./wal-port.js";
import type { WalPortListener } from "./wal-port.js";

/** How a node is opened. */
export interface AcceptorNodeOptions {
  /** Made if it does not exist. */
  readonly directory: string;
  /** u64 above 0, kept in the directory for ever; may be left out once it is there. */
  readonly nodeId?: bigint;
  readonly clock?: Clock;
  /**
   * Default: the machine's, on an I/O engine of the node's own. With another one, which is lent, the directory is not
   * locked: a lock is about processes of a machine.
   */
  readonly fileSystem?: FileSystem;
  /** What runs the disk I/O. Default "auto": io_uring where there is one, else threads; see `status().io`. */
  readonly ioMethod?: MethodName | "auto";
  /** Timelines kept elsewhere than in the directory; default: `createDiskTimelineStorage`. */
  readonly storage?: TimelineStorage;
  /** Skip every sync: for tests and throw-away clusters. Default false. */
  readonly noSync?: boolean;
  /** Checks the tokens of connections; a listener may have its own. Default: everybody is trusted. */
  readonly authenticator?: Authenticator;
  /** server_version for connections whose timeline is unknown. Default "14.1". */
  readonly serverVersion?: string;
  /** Default "reject". */
  readonly onSystemIdMismatch?: SystemIdMismatchPolicy;
  /** Whether a proposer's greeting may create a timeline. Default true. */
  readonly allowTimelineCreation?: boolean;
  /** Sync when a transaction ends instead of only when a batch does. Default true. */
  readonly flushOnCommit?: boolean;
  /** Least milliseconds between two such syncs. Default 0.5. */
  readonly minFlushGapMs?: number;
  /** Bound of one stream's message queue. Default 32 MiB. */
  readonly queueBytes?: number;
  /** Silence after which a connection is dropped. Default 600 s. */
  readonly idleTimeoutMs?: number;
  /** Default 300 s. */
  readonly controlSaveIntervalMs?: number;
  /** WAL below the commit position that is kept whether or not anybody needs it, bytes. Default 64 MiB. */
  readonly walKeepBytes?: number;
  /** Time after which a slot that nobody uses is dropped, milliseconds. Default seven days. */
  readonly slotTtlMs?: number;
  /**
   * Called once when a sync has failed: what is durable is unknown. The process must exit without delay and start
   * again (by convention with code 70); until then every timeline concerned refuses everything. Must not throw.
   */
  readonly onFatal: (error: Error) => void;
}

/** A node at one moment. */
export interface AcceptorNodeStatus {
  readonly nodeId: bigint;
  readonly closing: boolean;
  /** What runs the disk I/O, and why nothing better; absent with a file system that was handed in. */
  readonly io?: MethodChoice;
  /** Sockets being served. */
  readonly connections: number;
  readonly timelines: readonly TimelineStatus[];
  /** On disk, and not recovered yet since the node was opened. */
  readonly loading: readonly TimelineKey[];
  readonly unloadable: readonly UnloadableTimeline[];
}

/** One acceptor. Close it to save its state; `await using` does. */
export class AcceptorNode implements AsyncDisposable {
  readonly nodeId: bigint;
  readonly timelines: TimelineRegistry;
  readonly #clock: Clock;
  readonly #settings: PushSettings;
  readonly #serverVersion: string;
  readonly #authenticator: Authenticator | undefined;
  readonly #lock: DirectoryLock | undefined;
  readonly #disk: NodeDisk;
  readonly #connections = new Gate();
  readonly #stop = new AbortController();
  readonly #counters = new CommandCounters();
  readonly #measures: AcceptorMeasures;
  #closed: Promise<void> | undefined;

  private constructor(
    nodeId: bigint,
    timelines: TimelineRegistry,
    lock: DirectoryLock | undefined,
    disk: NodeDisk,
    measures: AcceptorMeasures,
    options: AcceptorNodeOptions,
  ) {
    this.nodeId = nodeId;
    this.timelines = timelines;
    setMaxListeners(0, this.#stop.signal); // one listener for each connection, and each takes its own away
    this.#lock = lock;
    this.#disk = disk;
    this.#measures = measures;
    this.#clock = options.clock ?? systemClock;
    this.#serverVersion = options.serverVersion ?? SERVER_VERSION_DEFAULT;
    this.#authenticator = options.authenticator;
    this.#settings = {
      flush: {
        flushOnCommit: options.flushOnCommit ?? true,
        minFlushGapMs: options.minFlushGapMs ?? MIN_FLUSH_GAP_MS_DEFAULT,
      },
      queueBytes: options.queueBytes ?? QUEUE_BYTES_DEFAULT,
      idleTimeoutMs: options.idleTimeoutMs ?? IDLE_TIMEOUT_MS_DEFAULT,
      allowTimelineCreation: options.allowTimelineCreation ?? true,
      measures,
      queues: new QueueSampler(this.#clock, measures.receiverQueueDepth),
    };
  }

  /**
   * Takes the directory and begins to recover what is in it; `timelines.whenLoaded()` tells when that is done.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_DIRECTORY_LOCKED, ERR_ACCEPTOR_NODE_ID, ERR_ACCEPTOR_TOMBSTONES_CORRUPT,
   *   ERR_ACCEPTOR_IO, ERR_ACCEPTOR_NO_SPACE; the lock is given up again. A timeline that cannot be opened is no
   *   failure of the node: see `status().unloadable`
   */
  static async open(options: AcceptorNodeOptions): Promise<AcceptorNode> {
    const { directory, noSync = false, clock = systemClock } = options;
    const disk = openNodeDisk(options);
    const { fileSystem } = disk;
    let lock: DirectoryLock | undefined;
    try {
      await ensureDirectory(fileSystem, directory);
      if (options.fileSystem === undefined) lock = await lockDirectory(directory);
      const nodeId = await ensureNodeId(fileSystem, directory, options.nodeId);
      const onFatal = once(options.onFatal);
      const measures = new AcceptorMeasures(clock);
      const timelines = await TimelineRegistry.open({
        storage:
          options.storage ??
          createDiskTimelineStorage({ directory, fileSystem, noSync, clock, onFatal, measures }),
        nodeId,
        clock,
        onSystemIdMismatch: options.onSystemIdMismatch,
        controlSaveIntervalMs: options.controlSaveIntervalMs,
        readers: { walKeepBytes: options.walKeepBytes, slotTtlMs: options.slotTtlMs },
      });
      return new AcceptorNode(nodeId, timelines, lock, disk, measures, options);
    } catch (error) {
      await disk[Symbol.asyncDispose]();
      await lock?.[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Whether `close` was called. */
  get closing(): boolean {
    return this.#stop.signal.aborted;
  }

  /**
   * Serves one accepted socket until it is closed. Never rejects.
   *
   * @param socket given. From a net.Server made with `allowHalfOpen: true` and `noDelay: true`
   * @param listener what is special about the port it came from, such as another authenticator or TLS
   */
  async handleConnection(socket: Duplex, listener: WalPortListener = {}): Promise<void> {
    if (this.#connections.closing) {
      socket.destroy();
      return;
    }
    const guard = this.#connections.enter();
    try {
      await serveWalPort(socket, {
        timelines: this.timelines,
        clock: this.#clock,
        settings: this.#settings,
        serverVersion: this.#serverVersion,
        listener: { authenticator: listener.authenticator ?? this.#authenticator, tls: listener.tls },
        counters: this.#counters,
        stopSignal: this.#stop.signal,
      });
    } finally {
      guard.release();
    }
  }

  /** Everything there is to say about the node at this moment. */
  status(): AcceptorNodeStatus {
    return {
      nodeId: this.nodeId,
      closing: this.closing,
      ...(this.#disk.choice === undefined ? {} : { io: this.#disk.choice }),
      connections: this.#connections.holders,
      timelines: this.timelines.list().map((timeline) => timeline.status()),
      loading: this.timelines.loading(),
      unloadable: this.timelines.unloadable(),
    };
  }

  /** Numbers for a monitoring system, read at this moment; see `Metric`. */
  metrics(): readonly Metric[] {
    const timelines = this.timelines.list();
    const gauge = (name: string, help: string, value: number): Metric => ({
      name: `safekeeper_${name}`,
      help,
      type: "gauge",
      samples: [{ labels: {}, value }],
    });
    return [
      gauge("timelines", "Loaded timelines", timelines.length),
      gauge(
        "active_timelines",
        "Loaded timelines that are active",
        timelines.filter(({ active }) => active).length,
      ),
      gauge("loading_timelines", "Timelines that are still to be loaded", this.timelines.loading().length),
      gauge("unloadable_timelines", "Timelines that failed to load", this.timelines.unloadable().length),
      gauge("pg_connections", "Connections of the WAL port", this.#connections.holders),
      ...this.#ioMetrics(),
      ...this.#measures.counters(),
      ...this.#counters.metrics(),
      ...timelineMetrics(timelines),
    ];
  }

  #ioMetrics(): readonly Metric[] {
    const { choice } = this.#disk;
    if (choice === undefined) return [];
    const samples = [{ labels: { method: choice.method }, value: 1 }];
    return [{ name: "safekeeper_disk_io_method", help: "What runs the disk I/O", type: "gauge", samples }];
  }

  /** Distributions for a monitoring system, read at this moment; those of the disk are empty with other storage. */
  histograms(): readonly HistogramMetric[] {
    return this.#measures.metrics();
  }

  /**
   * Stops: streams drain what they have received and sync it, everybody is told and disconnected, control files are
   * saved. A second call gives the same promise.
   *
   * @throws {AcceptorError} what the first timeline could not save; everything is closed all the same
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#stop.abort();
    this.timelines.stopLoading();
    await this.#connections.close();
    try {
      await this.timelines.close();
    } finally {
      await this.#disk[Symbol.asyncDispose]();
      await this.#lock?.[Symbol.asyncDispose]();
    }
  }

  /** Same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function once(callback: (error: Error) => void): (error: Error) => void {
  let called = false;
  return (error) => {
    if (called) return;
    called = true;
    callback(error);
  };
}
