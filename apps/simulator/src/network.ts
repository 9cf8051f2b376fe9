/**
 * Connections that behave like TCP between hosts that lose each other.
 *
 * Within one connection and direction bytes come in order, once, or not at all from some point on. Between
 * connections there is no order: a message of an old connection may come long after those of its successor, which is
 * how requests get duplicated and reordered in practice. A blocked direction delays what is under way until the block
 * is lifted or one side gives up. A reset loses a suffix of what is under way; an abrupt close by one side lets a
 * prefix through, of random length.
 */
import type { Random } from "./random.js";
import type { VirtualTime } from "./virtual-time.js";

/** Who can be at an end of a connection: an address in the simulated network. */
export type Endpoint = number;

/** How long messages take. */
export interface LatencyProfile {
  readonly usualMs: number;
  /** Share of messages that take up to `slowMs`. */
  readonly slowShare: number;
  readonly slowMs: number;
}

/** A blocked direction is looked at again after this long, as a retransmission would find out. */
const RETRY_MS = 60;

/** All links, their latency and their blocks. */
export class Network {
  readonly time: VirtualTime;
  readonly #random: Random;
  readonly #latency: LatencyProfile;
  readonly #blocks = new Map<string, number>();
  /** Extra delay of everything from or to an endpoint. */
  readonly #slow = new Map<Endpoint, number>();
  #open = new Set<Connection>();

  constructor(time: VirtualTime, random: Random, latency: LatencyProfile) {
    this.time = time;
    this.#random = random;
    this.#latency = latency;
  }

  /** Connections of which at least one side has not ended. */
  get connections(): ReadonlySet<Connection> {
    return this.#open;
  }

  /** Nothing gets from `from` to `to` until a matching `unblock`; blocks are counted. */
  block(from: Endpoint, to: Endpoint): void {
    const key = `${String(from)}>${String(to)}`;
    this.#blocks.set(key, (this.#blocks.get(key) ?? 0) + 1);
  }

  unblock(from: Endpoint, to: Endpoint): void {
    const key = `${String(from)}>${String(to)}`;
    this.#blocks.set(key, Math.max(0, (this.#blocks.get(key) ?? 0) - 1));
  }

  /** Everything from or to `endpoint` takes `extraMs` longer; 0 is normal. */
  slowDown(endpoint: Endpoint, extraMs: number): void {
    this.#slow.set(endpoint, extraMs);
  }

  heal(): void {
    this.#blocks.clear();
    this.#slow.clear();
  }

  isBlocked(from: Endpoint, to: Endpoint): boolean {
    return (this.#blocks.get(`${String(from)}>${String(to)}`) ?? 0) > 0;
  }

  /** How long a message sent now takes. */
  latencyMs(from: Endpoint, to: Endpoint): number {
    const { usualMs, slowShare, slowMs } = this.#latency;
    const extra = (this.#slow.get(from) ?? 0) + (this.#slow.get(to) ?? 0);
    const base = this.#random.chance(slowShare) ? slowMs : usualMs;
    return extra + base * (0.2 + this.#random.next());
  }

  /** A new connection; both sides still have to set their handlers. */
  open(client: Endpoint, server: Endpoint, purpose: "messages" | "copy" = "messages"): Connection {
    const connection = new Connection(this, { client, server, purpose }, this.#random);
    this.#open.add(connection);
    return connection;
  }

  forget(connection: Connection): void {
    this.#open.delete(connection);
  }
}

/** What one side of a connection is told. After `close` of that side nothing is told any more. */
export interface SideHandlers {
  /** `payload` is given. */
  message(payload: Uint8Array): void;
  /** The peer is gone; the last call. */
  closed(reason: string): void;
}

/** One side: sends, and is told what comes. */
export class Side {
  readonly #connection: Connection;
  readonly #outgoing: Pipe;
  handlers: SideHandlers | undefined;
  /** Called whenever less is under way from here than before. */
  onRoom: (() => void) | undefined;
  #closed = false;

  constructor(connection: Connection, outgoing: Pipe) {
    this.#connection = connection;
    this.#outgoing = outgoing;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Messages sent and not delivered. */
  get queued(): number {
    return this.#outgoing.length;
  }

  /** Their bytes. */
  get queuedBytes(): number {
    return this.#outgoing.bytes;
  }

  /** @param payload given: nobody writes to it any more */
  send(payload: Uint8Array): void {
    if (!this.#closed) this.#outgoing.push(payload);
  }

  /** Ends this side at once; the other hears of it behind what still arrives, which is all or a prefix. */
  close(reason: string, keepAll: boolean): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#outgoing.end(reason, keepAll);
    this.#connection.sideEnded();
  }

  receive(payload: Uint8Array): void {
    if (!this.#closed) this.handlers?.message(payload);
  }

  receiveEnd(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#outgoing.drop();
    this.#connection.sideEnded();
    this.handlers?.closed(reason);
  }
}

/** One connection between two endpoints. */
export class Connection {
  readonly client: Endpoint;
  readonly server: Endpoint;
  /** A proposer's messages, or a copy of WAL. */
  readonly purpose: "messages" | "copy";
  readonly clientSide: Side;
  readonly serverSide: Side;
  readonly #network: Network;
  readonly #random: Random;

  constructor(network: Network, ends: Pick<Connection, "client" | "server" | "purpose">, random: Random) {
    const { client, server, purpose } = ends;
    this.#network = network;
    this.#random = random;
    this.client = client;
    this.server = server;
    this.purpose = purpose;
    const toServer = new Pipe(network, client, server, random);
    const toClient = new Pipe(network, server, client, random);
    this.clientSide = toServer.source = new Side(this, toServer);
    this.serverSide = toClient.source = new Side(this, toClient);
    toServer.target = this.serverSide;
    toClient.target = this.clientSide;
  }

  /** Both sides lose the connection, and some of what was under way is lost with it. */
  reset(): void {
    const clientFirst = this.#random.chance(0.5);
    (clientFirst ? this.clientSide : this.serverSide).receiveEnd("connection reset");
    (clientFirst ? this.serverSide : this.clientSide).receiveEnd("connection reset");
  }

  /** One side believes the connection is gone; what it sent may still arrive, later than its next connection. */
  abandon(): void {
    const side = this.#random.chance(0.7) ? this.clientSide : this.serverSide;
    if (side.isClosed) return;
    side.close("connection lost", this.#random.chance(0.6));
    side.handlers?.closed("connection lost");
  }

  sideEnded(): void {
    if (this.clientSide.isClosed && this.serverSide.isClosed) this.#network.forget(this);
  }
}

interface Parcel {
  readonly dueMs: number;
  /** Undefined: the sender has ended. */
  readonly payload: Uint8Array | undefined;
  readonly reason: string;
}

/** One direction: a queue whose head is delivered when it is due and the way is free. */
class Pipe {
  readonly #network: Network;
  readonly #from: Endpoint;
  readonly #to: Endpoint;
  readonly #random: Random;
  source: Side | undefined;
  target: Side | undefined;
  #parcels: Parcel[] = [];
  #lastDueMs = 0;
  #armed = false;
  #ended = false;

  constructor(network: Network, from: Endpoint, to: Endpoint, random: Random) {
    this.#network = network;
    this.#from = from;
    this.#to = to;
    this.#random = random;
  }

  get length(): number {
    return this.#parcels.length;
  }

  get bytes(): number {
    return this.#parcels.reduce((sum, { payload }) => sum + (payload?.byteLength ?? 0), 0);
  }

  push(payload: Uint8Array): void {
    if (!this.#ended) this.#enqueue(payload, "");
  }

  end(reason: string, keepAll: boolean): void {
    if (this.#ended) return;
    if (!keepAll) this.#parcels.length = this.#random.below(this.#parcels.length + 1);
    this.#enqueue(undefined, reason);
    this.#ended = true;
    this.source?.onRoom?.();
  }

  drop(): void {
    this.#ended = true;
    this.#parcels = [];
    this.source?.onRoom?.();
  }

  #enqueue(payload: Uint8Array | undefined, reason: string): void {
    const dueMs = this.#network.time.nowMs + this.#network.latencyMs(this.#from, this.#to);
    this.#lastDueMs = Math.max(this.#lastDueMs, dueMs);
    this.#parcels.push({ dueMs: this.#lastDueMs, payload, reason });
    this.#arm();
  }

  #arm(): void {
    const head = this.#parcels[0];
    if (this.#armed || head === undefined) return;
    this.#armed = true;
    this.#network.time.after(head.dueMs - this.#network.time.nowMs, () => this.#deliver());
  }

  #deliver(): void {
    this.#armed = false;
    if (this.#network.isBlocked(this.#from, this.#to)) {
      if (this.#parcels.length === 0) return;
      this.#armed = true;
      this.#network.time.after(RETRY_MS * (1 + this.#random.next()), () => this.#deliver());
      return;
    }
    const { nowMs } = this.#network.time;
    while (this.#parcels[0] !== undefined && this.#parcels[0].dueMs <= nowMs) {
      const parcel = this.#parcels.shift();
      if (parcel === undefined) break;
      if (parcel.payload === undefined) this.target?.receiveEnd(parcel.reason);
      else this.target?.receive(parcel.payload);
    }
    this.source?.onRoom?.();
    this.#arm();
  }
}
