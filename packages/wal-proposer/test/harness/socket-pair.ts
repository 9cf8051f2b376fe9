// Two connected streams in memory, with back-pressure: a write is finished when the other side has read it.
import { Duplex } from "node:stream";

/** Chunks on their way between two halves, of all pairs. */
let inFlight = 0;
let everSent = 0;

/** How much is on its way and how much was ever sent: what does not change any more is quiet. */
export function traffic(): { readonly inFlight: number; readonly everSent: number } {
  return { inFlight, everSent };
}

class Half extends Duplex {
  peer: Half | undefined;
  #unread: (() => void) | undefined;

  constructor() {
    super({ allowHalfOpen: true });
  }

  override _read(): void {
    const resume = this.#unread;
    this.#unread = undefined;
    resume?.();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error) => void): void {
    const peer = this.peer;
    if (peer === undefined || peer.destroyed) {
      callback(Object.assign(new Error("the other side is gone"), { code: "EPIPE" }));
      return;
    }
    inFlight += 1;
    everSent += 1;
    setImmediate(() => {
      inFlight -= 1;
      if (peer.destroyed) callback(Object.assign(new Error("the other side is gone"), { code: "EPIPE" }));
      else if (peer.push(chunk)) callback();
      else peer.#unread = callback;
    });
  }

  override _final(callback: () => void): void {
    this.peer?.push(null);
    callback();
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    const peer = this.peer;
    this.peer = undefined;
    this.#unread?.();
    if (peer !== undefined && !peer.destroyed && !peer.readableEnded) setImmediate(() => peer.push(null));
    callback(error);
  }
}

export function socketPair(): [Duplex, Duplex] {
  const [left, right] = [new Half(), new Half()];
  left.peer = right;
  right.peer = left;
  return [left, right];
}
