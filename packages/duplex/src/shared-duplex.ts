/**
 * A two-way channel between two threads of a process: frames of bounded size in shared memory.
 *
 * Each side belongs to one thread, once. Threads that may block use `sendSync` and `recvSync`; a thread with an event loop
 * uses the promises, which keep it alive while, and only while, they wait. Between two threads that are awake nothing is
 * called but stores and loads. The death of a thread is told by whoever has its Worker: the end that was attached with it,
 * or `abandonSharedDuplex` where a third thread looks after both.
 *
 * Idea: the duplex of Neon's pageserver, over a ring as in PostgreSQL's shm_mq.c.
 */
import { isMainThread } from "node:worker_threads";
import type { Worker } from "node:worker_threads";
import { ring } from "./bell.js";
import type { Codec } from "./codec.js";
import type { DuplexEnd } from "./duplex.js";
import type { CallOptions, CLOSED } from "./ends.js";
import { DuplexError } from "./errors.js";
import { claimSide, openRings, RING, STATE } from "./shared-layout.js";
import type { SharedDuplexHandle, SharedRing } from "./shared-layout.js";
import { SharedReceiver } from "./shared-receiver.js";
import { SharedSender } from "./shared-sender.js";

/** How an end is used. */
export interface AttachOptions<S, R> {
  /** For what this side sends and receives. The other side brings the same two, exchanged. */
  readonly codecs: { readonly tx: Codec<S>; readonly rx: Codec<R> };
  /** The thread of the other side, if this one has started it: its end closes this end. */
  readonly peer?: Worker;
  /** Whether blocking calls may sleep here; by default in every thread but the main one. */
  readonly mayBlock?: boolean;
}

/** Why nothing can be sent or received any more; "open" as long as one direction is. */
export type CloseReason = "open" | "self" | "peer-closed" | "peer-died";

/** One end of a shared duplex. Everything of `DuplexEnd`, calls that block, and calls for many frames. */
export interface SharedDuplexEnd<S, R> extends DuplexEnd<S, R> {
  /**
   * Sends, sleeping until there is room.
   *
   * @param timeoutMs by default for ever; 0 only tries
   * @throws {DuplexError} ERR_CHANNEL_WOULD_BLOCK: there is no room and this thread must not sleep
   * @throws {MessageTooLargeError} ERR_MESSAGE_TOO_LARGE, and whatever the codec throws; nothing was sent
   */
  sendSync(value: S, timeoutMs?: number): "sent" | "timeout" | "closed";
  /**
   * Receives, sleeping until there is something.
   *
   * @param timeoutMs by default for ever; 0 only tries
   * @throws {DuplexError} ERR_CHANNEL_WOULD_BLOCK: nothing is there and this thread must not sleep
   */
  recvSync(timeoutMs?: number): R | typeof CLOSED | "timeout";
  /**
   * Sends as many values as fit now. The receiver sees them in groups, which is what makes a stream fast.
   *
   * @param values borrowed for the call
   * @param start index of the first one to send; 0 by default
   * @returns how many were sent; fewer than there are if the ring is full or closed, or if the next one cannot be
   *   encoded: a call that starts with that one throws
   */
  trySendMany(values: readonly S[], start?: number): number;
  /**
   * Receives what is there now, giving the slots back in groups.
   *
   * @param max values at most
   * @param visit gets one after the other; if it throws, the value that it was given counts as received
   * @returns how many; 0 if nothing is there or the channel is closed, which `rx.closed` tells
   */
  tryRecvMany(max: number, visit: (value: R) => void): number;
  /** Why this end is of no more use. */
  readonly closeReason: CloseReason;
}

/**
 * Takes one side of a shared duplex for this thread.
 *
 * @param handle from `createSharedDuplex`, as it is or posted
 * @param side 0 or 1; the other thread takes the other one
 * @throws {DuplexError} ERR_CHANNEL_ATTACHED: somebody has this side, or had it
 * @throws {TypeError} not a handle
 */
export function attachSharedDuplex<S, R>(
  handle: SharedDuplexHandle,
  side: 0 | 1,
  options: AttachOptions<S, R>,
): SharedDuplexEnd<S, R> {
  const rings = openRings(handle);
  if (!claimSide(rings[0], side))
    throw new DuplexError("ERR_CHANNEL_ATTACHED", `side ${String(side)} of the duplex is taken`);
  return new SharedEnd(rings[side], rings[side === 0 ? 1 : 0], options);
}

/**
 * Says that the thread of a side is gone: what it had sent can still be received, and the other end then closes with the
 * reason "peer-died". For a thread that looks after the two; does nothing where the side has closed already.
 *
 * @throws {TypeError} not a handle
 */
export function abandonSharedDuplex(handle: SharedDuplexHandle, side: 0 | 1): void {
  const rings = openRings(handle);
  abandon(rings[side], rings[side === 0 ? 1 : 0]);
}

function abandon(sending: SharedRing, receiving: SharedRing): void {
  Atomics.compareExchange(sending.words, sending.at + RING.txState, STATE.open, STATE.died);
  Atomics.compareExchange(receiving.words, receiving.at + RING.rxState, STATE.open, STATE.died);
  ring(sending.words, sending.at + RING.rxBell);
  ring(receiving.words, receiving.at + RING.txBell);
}

class SharedEnd<S, R> implements SharedDuplexEnd<S, R> {
  readonly tx: SharedSender<S>;
  readonly rx: SharedReceiver<R>;
  readonly #peer: Worker | undefined;
  readonly #onExit: () => void;
  #hasClosedFirst = false;

  constructor(sending: SharedRing, receiving: SharedRing, options: AttachOptions<S, R>) {
    const { codecs, peer, mayBlock = !isMainThread } = options;
    this.tx = new SharedSender(sending, codecs.tx, mayBlock);
    this.rx = new SharedReceiver(receiving, codecs.rx, mayBlock);
    this.#peer = peer;
    // What the peer sends is what this end receives.
    this.#onExit = () => abandon(receiving, sending);
    peer?.once("exit", this.#onExit);
    // A worker that has ended already will not tell again.
    if (peer !== undefined && peer.threadId < 0) this.#onExit();
  }

  send(value: S, options?: CallOptions): Promise<void> {
    return this.tx.send(value, options);
  }

  trySend(value: S): "sent" | "full" | "closed" {
    return this.tx.trySend(value);
  }

  trySendMany(values: readonly S[], start = 0): number {
    return this.tx.trySendMany(values, start);
  }

  sendSync(value: S, timeoutMs = Infinity): "sent" | "timeout" | "closed" {
    return this.tx.sendSync(value, timeoutMs);
  }

  recv(options?: CallOptions): Promise<R | typeof CLOSED> {
    return this.rx.recv(options);
  }

  tryRecvMany(max: number, visit: (value: R) => void): number {
    return this.rx.tryRecvMany(max, visit);
  }

  recvSync(timeoutMs = Infinity): R | typeof CLOSED | "timeout" {
    return this.rx.recvSync(timeoutMs);
  }

  get closeReason(): CloseReason {
    if (this.#hasClosedFirst) return "self";
    const { receiverState } = this.tx;
    const { senderState } = this.rx;
    if (receiverState === STATE.died || senderState === STATE.died) return "peer-died";
    return receiverState !== STATE.open && senderState !== STATE.open ? "peer-closed" : "open";
  }

  close(): void {
    this.#hasClosedFirst = this.closeReason === "open" || this.#hasClosedFirst;
    this.tx.close();
    this.rx.close();
    // Sends that wait in line are still served, or fail when the peer ends.
    if (!this.tx.hasWaiting) this.#peer?.off("exit", this.#onExit);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [Symbol.asyncIterator](): AsyncIterator<R> {
    return this.rx[Symbol.asyncIterator]();
  }
}
