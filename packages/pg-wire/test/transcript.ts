/**
 * Helpers for dialogs: bytes written as readable text, sessions driven by chunks, and a pair of connected streams.
 */
import { Duplex } from "node:stream";
import { ClientSession, ServerSession } from "../src/index.js";
import type { ClientEvent, ServerEvent, ServerSessionOptions, Timers } from "../src/index.js";

/** A typed message; strings are taken as they are, numbers as 32-bit. */
export function message(type: string, ...parts: readonly (string | number | Uint8Array)[]): Buffer {
  const body = bytes(...parts);
  return Buffer.concat([Buffer.from(type), bytes(body.length + 4), body]);
}

/** A startup packet: a code and what follows. */
export function packet(code: number, ...parts: readonly (string | number | Uint8Array)[]): Buffer {
  const body = bytes(...parts);
  return Buffer.concat([bytes(body.length + 8, code), body]);
}

export function bytes(...parts: readonly (string | number | Uint8Array)[]): Buffer {
  return Buffer.concat(
    parts.map((part) => {
      if (typeof part !== "number") return Buffer.from(part as string);
      const word = Buffer.alloc(4);
      word.writeUInt32BE(part >>> 0);
      return word;
    }),
  );
}

export const SSL_REQUEST: Buffer = packet(80877103);
export const GSSENC_REQUEST: Buffer = packet(80877104);
export const CANCEL_REQUEST: Buffer = packet(80877102, 77, 88);

export function startup(parameters: Readonly<Record<string, string>>, code = 0x30000): Buffer {
  const pairs = Object.entries(parameters).map(([name, value]) => `${name}\0${value}\0`);
  return packet(code, ...pairs, "\0");
}

/** What a fresh server session with these fixed values says at the end of a login. */
export const WELCOME: Buffer = Buffer.concat([
  message("R", 0),
  message("S", "client_encoding\0UTF8\0"),
  message("S", "integer_datetimes\0on\0"),
  message("S", "server_version\x0015.0\0"),
  message("S", "standard_conforming_strings\0on\0"),
  message("K", 4711, 1234567),
  message("Z", "I"),
]);

export function serverSession(options: Partial<ServerSessionOptions> = {}): ServerSession {
  return new ServerSession({
    tls: false,
    serverVersion: () => "15.0",
    processId: 4711,
    secretKey: 1234567,
    ...options,
  });
}

/** A server session past its login, with the output taken. */
export function loggedInServer(options: Partial<ServerSessionOptions> = {}): ServerSession {
  const session = serverSession(options);
  session.receive(startup({ user: "u" }));
  session.nextEvent();
  session.takeOutput();
  return session;
}

/** A client session past its login, with the output taken. */
export function loggedInClient(): ClientSession {
  const session = new ClientSession({ parameters: new Map([["user", "u"]]), askTls: false, nonce: "n" });
  session.receive(WELCOME);
  session.nextEvent();
  session.takeOutput();
  return session;
}

/** One step of a dialog as text that compares well: an event, output in hex, or an error's code and message. */
export function outputText(session: { takeOutput(): readonly Buffer[] }): string {
  return Buffer.concat([...session.takeOutput()]).toString("latin1");
}

export function eventText(event: ServerEvent | ClientEvent): string {
  return JSON.stringify(event, (_key, value: unknown) =>
    value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value,
  ).replace(/\{"type":"Buffer","data":\[([0-9,]*)\]\}/g, (_all, data: string) =>
    JSON.stringify(Buffer.from(data.split(",").filter(Boolean).map(Number)).toString("hex")),
  );
}

/** Two streams, each reading what the other writes, in memory. */
export function streamPair(highWaterMark: number = 16 * 1024): [Duplex, Duplex] {
  const ends: MemoryStream[] = [];
  const other = (self: MemoryStream): MemoryStream | undefined => ends[ends.indexOf(self) === 0 ? 1 : 0];
  ends.push(new MemoryStream(other, highWaterMark), new MemoryStream(other, highWaterMark));
  return ends as unknown as [Duplex, Duplex];
}

class MemoryStream extends Duplex {
  readonly #other: (self: MemoryStream) => MemoryStream | undefined;
  #wanted: (() => void) | undefined;

  constructor(other: (self: MemoryStream) => MemoryStream | undefined, highWaterMark: number) {
    super({ allowHalfOpen: true, highWaterMark });
    this.#other = other;
  }

  override _read(): void {
    const wanted = this.#wanted;
    this.#wanted = undefined;
    wanted?.();
  }

  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    const peer = this.#other(this);
    if (peer === undefined || peer.destroyed || peer.push(Buffer.from(chunk))) callback();
    else peer.#wanted = callback;
  }

  override _final(callback: () => void): void {
    this.#other(this)?.push(null);
    callback();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    const peer = this.#other(this);
    if (peer !== undefined && !peer.destroyed && !peer.readableEnded) setImmediate(() => peer.push(null));
    callback(error);
  }
}

/** Timers that fire when told to. */
export class ManualTimers implements Timers {
  readonly #pending = new Map<symbol, { readonly callback: () => void; readonly delayMs: number }>();

  start(callback: () => void, delayMs: number): () => void {
    const key = Symbol("timer");
    this.#pending.set(key, { callback, delayMs });
    return () => this.#pending.delete(key);
  }

  /** Delays of the timers that run. */
  get delays(): readonly number[] {
    return [...this.#pending.values()].map((timer) => timer.delayMs);
  }

  fire(delayMs: number): void {
    for (const [key, timer] of this.#pending) {
      if (timer.delayMs !== delayMs) continue;
      this.#pending.delete(key);
      timer.callback();
    }
  }
}
