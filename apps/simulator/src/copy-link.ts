/**
 * One end of COPY BOTH over a simulated connection: what the packages' readers and senders of WAL are given in place of
 * a socket.
 *
 * A payload in the network is one message: a byte that says what it is, and its content. As over a socket, what was
 * sent may arrive in part when the connection ends, a writer that is too far ahead gets a promise to wait for, and
 * final events stay.
 */
import { WireError } from "@millrace/pg-wire";
import type { CopyEvent, CopyReader, CopyWriter, ErrorFields } from "@millrace/pg-wire";
import type { Side } from "./network.js";
import type { VirtualTime } from "./virtual-time.js";

const DATA = 0;
const DONE = 1;
const FAIL = 2;
/** Messages under way above which a writer has to wait: small, so that it comes up. */
const WINDOW = 6;
const EOF: CopyEvent = { type: "end", reason: "eof" };

/** Both halves of one end. */
export class CopyLink implements CopyReader, CopyWriter {
  readonly #side: Side;
  readonly #time: VirtualTime;
  #events: CopyEvent[] = [];
  #last: CopyEvent | undefined;
  #failure: WireError | undefined;
  #wakeReader: (() => void) | undefined;
  #room: { readonly promise: Promise<void>; readonly resolve: () => void } | undefined;
  #sendOpen = true;

  /** @param side used by nobody else from now on */
  constructor(side: Side, time: VirtualTime) {
    this.#side = side;
    this.#time = time;
    side.handlers = {
      message: (payload) => this.#arrived(eventOf(payload)),
      closed: () => this.#arrived(EOF),
    };
    side.onRoom = () => this.#giveRoom();
  }

  get bufferedBytes(): number {
    return this.#events.reduce(
      (sum, event) => sum + (event.type === "data" ? event.payload.byteLength : 0),
      0,
    );
  }

  get queuedBytes(): number {
    return this.#side.queuedBytes;
  }

  tryNext(): CopyEvent | undefined {
    if (this.#last !== undefined) return this.#last;
    if (this.#failure !== undefined) throw this.#failure;
    const event = this.#events.shift();
    if (event !== undefined && event.type !== "data") this.#last = event;
    return event;
  }

  async next(): Promise<CopyEvent> {
    for (;;) {
      const event = this.tryNext();
      if (event !== undefined) return event;
      await new Promise<void>((resolve) => {
        this.#wakeReader = resolve;
      });
    }
  }

  send(...parts: Uint8Array[]): Promise<void> | undefined {
    if (!this.#sendOpen || this.#side.isClosed) return refused();
    return this.#send(DATA, parts);
  }

  done(): Promise<void> | undefined {
    if (!this.#sendOpen) return undefined;
    this.#sendOpen = false;
    return this.#send(DONE, []);
  }

  fail({ message }: ErrorFields): Promise<void> | undefined {
    if (!this.#sendOpen) return undefined;
    this.#sendOpen = false;
    return this.#send(FAIL, [Buffer.from(message)]);
  }

  /** Ends the connection behind what was sent. Whoever waits here is told that it was closed. */
  close(reason: string): void {
    this.#side.close(reason, true);
    this.#abandon(reason);
  }

  /** Drops the connection; what was sent may arrive, all of it or none. */
  destroy(reason: string, keepAll: boolean): void {
    this.#side.close(reason, keepAll);
    this.#abandon(reason);
  }

  #abandon(reason: string): void {
    this.#failure ??= new WireError("ERR_WIRE_CLOSED", reason);
    this.#events = [];
    this.#giveRoom();
    this.#wake();
  }

  #send(tag: number, parts: readonly Uint8Array[]): Promise<void> | undefined {
    this.#side.send(Buffer.concat([Uint8Array.of(tag), ...parts]));
    if (this.#side.queued < WINDOW) return undefined;
    this.#room ??= newRoom();
    return this.#room.promise;
  }

  #arrived(event: CopyEvent): void {
    this.#events.push(event);
    this.#wake();
  }

  #wake(): void {
    const wake = this.#wakeReader;
    if (wake === undefined) return;
    this.#wakeReader = undefined;
    this.#time.promisesMoved();
    wake();
  }

  // An end makes room too: the sender finds out at its next message.
  #giveRoom(): void {
    if (this.#room === undefined || (this.#side.queued >= WINDOW && !this.#side.isClosed)) return;
    this.#time.promisesMoved();
    this.#room.resolve();
    this.#room = undefined;
  }
}

function eventOf(payload: Uint8Array): CopyEvent {
  const content = payload.subarray(1);
  if (payload[0] === DONE) return { type: "done" };
  if (payload[0] === FAIL) return { type: "fail", message: Buffer.from(content).toString() };
  return { type: "data", payload: content };
}

function newRoom(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

function refused(): Promise<void> {
  const rejected = Promise.reject(new WireError("ERR_WIRE_CLOSED", "the connection is gone"));
  rejected.catch(() => undefined);
  return rejected;
}
