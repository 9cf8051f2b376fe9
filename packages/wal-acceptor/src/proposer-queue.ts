/**
 * The queue between the network reader of a push stream and its acceptor task, bounded twice: by messages and by bytes.
 *
 * A full queue is how back-pressure travels: the reader stops taking CopyData, the socket fills, the proposer stops.
 * The message bound alone would allow 256 messages of 128 KiB; the byte bound keeps the sum below a figure an
 * operator can set. A message larger than the whole byte bound passes once the queue is otherwise empty, so no
 * message can be stuck for ever.
 *
 * One producer and one consumer. `close` is the producer's and lets the consumer drain what is queued; `abandon` is
 * the consumer's and turns the producer away. The consumer gives back a message's bytes by taking the next one, so
 * the message in its hands still counts (of a batch, the last one).
 */
import { channel, CLOSED } from "@millrace/duplex";
import type { Receiver, Sender } from "@millrace/duplex";
import type { ProposerMessage } from "@millrace/wal-protocol";

/** Messages in the queue at most; that of Neon's safekeeper. */
export const MESSAGE_QUEUE_CAPACITY = 256;
/** Bytes in the queue at most, unless configured otherwise. */
export const QUEUE_BYTES_DEFAULT: number = 32 * 1024 * 1024;

// What a message costs besides its payload: the objects around it. An estimate; it keeps empty messages from being free.
const MESSAGE_OVERHEAD_BYTES = 256;
const HISTORY_ENTRY_BYTES = 64;
const MEMBER_BYTES = 256;

/** A FIFO of proposer messages, bounded by count and by bytes. */
export class ProposerQueue {
  readonly #sender: Sender<ProposerMessage>;
  readonly #receiver: Receiver<ProposerMessage>;
  readonly #bytesMax: number;
  #bytes = 0;
  #inHandBytes = 0;
  #wakeProducer: (() => void) | undefined;
  #abandoned = false;

  constructor(capacity: number = MESSAGE_QUEUE_CAPACITY, bytesMax: number = QUEUE_BYTES_DEFAULT) {
    [this.#sender, this.#receiver] = channel<ProposerMessage>(capacity);
    this.#bytesMax = bytesMax;
  }

  /** Messages waiting. */
  get size(): number {
    return this.#receiver.size;
  }

  /** Bytes accounted for: those waiting and those of the message the consumer took last. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Producer: queues `message` if both bounds allow it. */
  trySend(message: ProposerMessage): "sent" | "full" | "closed" {
    if (this.#abandoned) return "closed";
    const cost = messageCost(message);
    if (this.#bytes > 0 && this.#bytes + cost > this.#bytesMax) return "full";
    const result = this.#sender.trySend(message);
    if (result === "sent") this.#bytes += cost;
    return result;
  }

  /** Producer: waits for room. False: the consumer is gone, the message was not taken. */
  async send(message: ProposerMessage): Promise<boolean> {
    for (;;) {
      const result = this.trySend(message);
      if (result !== "full") return result === "sent";
      // Room appears only when the consumer takes a message, and it is the only one who can give it.
      await new Promise<void>((resolve) => {
        this.#wakeProducer = resolve;
      });
    }
  }

  /** Producer: no more messages will come. What is queued stays to be taken. */
  close(): void {
    this.#sender.close();
    this.#wake();
  }

  /** Consumer: the next message, `undefined` if there is none now, CLOSED if there will be none. */
  tryTake(): ProposerMessage | typeof CLOSED | undefined {
    return this.#took(this.#receiver.tryRecv());
  }

  /** Consumer: waits for the next message or CLOSED. */
  async take(): Promise<ProposerMessage | typeof CLOSED> {
    this.#release();
    this.#wake(); // a producer that waits for bytes must not find this consumer waiting for messages
    const message = await this.#receiver.recv();
    this.#took(message);
    return message;
  }

  /** Consumer: takes no more; the producer is told at its next, or its waiting, call. */
  abandon(): void {
    this.#abandoned = true;
    this.#receiver.close();
    this.#wake();
  }

  #took(message: ProposerMessage | typeof CLOSED | undefined): ProposerMessage | typeof CLOSED | undefined {
    this.#release();
    if (message !== undefined && message !== CLOSED) this.#inHandBytes = messageCost(message);
    this.#wake();
    return message;
  }

  #release(): void {
    this.#bytes -= this.#inHandBytes;
    this.#inHandBytes = 0;
  }

  #wake(): void {
    const wake = this.#wakeProducer;
    this.#wakeProducer = undefined;
    wake?.();
  }
}

function messageCost(message: ProposerMessage): number {
  switch (message.type) {
    case "append-request":
      return MESSAGE_OVERHEAD_BYTES + message.walData.byteLength;
    case "elected":
      return MESSAGE_OVERHEAD_BYTES + message.history.length * HISTORY_ENTRY_BYTES;
    case "greeting": {
      const { members, newMembers } = message.configuration;
      return MESSAGE_OVERHEAD_BYTES + (members.length + newMembers.length) * MEMBER_BYTES;
    }
    case "vote-request":
    default:
      return MESSAGE_OVERHEAD_BYTES;
  }
}
