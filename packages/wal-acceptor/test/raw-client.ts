/**
 * A client that sees every message of the server: for tests of exact sequences, which a driver would hide.
 */
import type { Duplex } from "node:stream";

export interface Frame {
  readonly tag: string;
  readonly body: Buffer;
}

/** Cuts server messages; bytes after the last whole one are left out. */
export function frames(bytes: Buffer): Frame[] {
  const list: Frame[] = [];
  for (let at = 0; at + 5 <= bytes.length;) {
    const end = at + 1 + bytes.readUInt32BE(at + 1);
    if (end > bytes.length) break;
    list.push({ tag: String.fromCharCode(bytes[at] ?? 0), body: bytes.subarray(at + 5, end) });
    at = end;
  }
  return list;
}

/** A message in words: `T(a:25 b:23)`, `D(x NULL)`, `C(TAG)`, `E(ERROR 42601 text)`, `Z(I)`, otherwise tag and hex. */
export function describe(frame: Frame): string {
  const { tag, body } = frame;
  switch (tag) {
    case "T":
      return `T(${columns(body).join(" ")})`;
    case "D":
      return `D(${values(body).join(" ")})`;
    case "C":
      return `C(${body.subarray(0, -1).toString()})`;
    case "Z":
      return `Z(${body.toString()})`;
    case "S":
      return `S(${body.subarray(0, -1).toString().replace("\0", "=")})`;
    case "E":
      return `E(${errorText(body)})`;
    case "K":
      return "K";
    case "I":
      return "I";
    default:
      return body.length === 0 ? tag : `${tag}(${body.toString("hex")})`;
  }
}

function columns(body: Buffer): string[] {
  const list: string[] = [];
  let at = 2;
  for (let index = 0; index < body.readUInt16BE(0); index += 1) {
    const end = body.indexOf(0, at);
    list.push(`${body.toString("utf8", at, end)}:${body.readUInt32BE(end + 7)}`);
    at = end + 19;
  }
  return list;
}

function values(body: Buffer): string[] {
  const list: string[] = [];
  let at = 2;
  for (let index = 0; index < body.readUInt16BE(0); index += 1) {
    const length = body.readInt32BE(at);
    at += 4;
    list.push(length < 0 ? "NULL" : `'${body.toString("utf8", at, at + length)}'`);
    at += Math.max(0, length);
  }
  return list;
}

function errorText(body: Buffer): string {
  const fields = new Map<string, string>();
  for (const field of body.toString("utf8").split("\0"))
    if (field !== "") fields.set(field.charAt(0), field.slice(1));
  const names = [...fields.keys()].filter((name) => !"SVCM".includes(name)).join("");
  return [fields.get("S"), fields.get("C"), fields.get("M"), names === "" ? "" : `+${names}`]
    .join(" ")
    .trim();
}

export function startup(parameters: Readonly<Record<string, string>>): Buffer {
  const text = Object.entries({ user: "test", ...parameters })
    .map(([key, value]) => `${key}\0${value}\0`)
    .join("");
  const body = Buffer.from(`${text}\0`, "utf8");
  const head = Buffer.alloc(8);
  head.writeUInt32BE(body.length + 8, 0);
  head.writeUInt32BE(196_608, 4);
  return Buffer.concat([head, body]);
}

export function frame(tag: string, body: Buffer | string): Buffer {
  const bytes = typeof body === "string" ? Buffer.from(body, "utf8") : body;
  const head = Buffer.alloc(5);
  head.write(tag, 0, "latin1");
  head.writeUInt32BE(bytes.length + 4, 1);
  return Buffer.concat([head, bytes]);
}

export class RawClient {
  readonly #socket: Duplex;
  #received = Buffer.alloc(0);
  #seen = 0;
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(socket: Duplex) {
    this.#socket = socket;
    socket.on("data", (chunk: Uint8Array) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake?.();
    });
    const end = (): void => {
      this.#ended = true;
      this.#wake?.();
    };
    socket.on("end", end).on("close", end).on("error", end);
  }

  write(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** The messages up to and including the next one with that tag, or up to the end of the connection. */
  async until(tag: string): Promise<string[]> {
    for (;;) {
      const list = frames(this.#received).slice(this.#seen);
      const index = list.findIndex((one) => one.tag === tag);
      if (index >= 0 || this.#ended) {
        const taken = index >= 0 ? list.slice(0, index + 1) : list;
        this.#seen += taken.length;
        return taken.map(describe);
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Everything up to the end of the connection, and `end`. */
  async untilEnd(): Promise<string[]> {
    return [...(await this.until("there is no such tag")), "end"];
  }

  async query(text: string): Promise<string[]> {
    this.write(frame("Q", `${text}\0`));
    return await this.until("Z");
  }
}
