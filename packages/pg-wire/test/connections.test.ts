/**
 * The shells on sockets: login, back-pressure, independence of the halves, and every way to end. Streams are pairs in
 * memory, timers fire when told to; real sockets appear where the kernel's behaviour is the subject.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import { expect, test } from "vitest";
import {
  acceptConnection,
  CLOSE_WAIT_MS,
  connect,
  CONNECT_TIMEOUT_MS,
  LOGIN_TIMEOUT_MS,
  READ_HIGH_WATER_BYTES,
  SEND_HIGH_WATER_BYTES,
  WireError,
} from "../src/index.js";
import type {
  AcceptOptions,
  ClientConnection,
  CopyBothStream,
  CopyReader,
  CopyWriter,
  ServerConnection,
} from "../src/index.js";
import { CANCEL_REQUEST, ManualTimers, message, SSL_REQUEST, startup, streamPair } from "./transcript.js";

const KIB = 1024;
const fixture = (name: string): Buffer => readFileSync(join(import.meta.dirname, "fixtures", name));
const tlsKeys = { key: fixture("server.key"), cert: fixture("server.crt") };
const coded = (code: string): unknown => expect.objectContaining({ code });

/** All bytes up to the end of a stream, as latin1. */
async function readAll(stream: Duplex): Promise<string> {
  let text = "";
  for await (const chunk of stream) text += (chunk as Buffer).toString("latin1");
  return text;
}

interface Pair {
  readonly server: ServerConnection;
  readonly client: ClientConnection;
}

/** A client and a server connection on one pair of streams. */
async function pair(
  options: AcceptOptions = {},
  streams: readonly [Duplex, Duplex] = streamPair(),
): Promise<Pair> {
  const [near, far] = streams;
  const accepted = acceptConnection(far, options);
  const timers = options.timers;
  const client = await connect({
    user: "u",
    connectSocket: () => near,
    ...(timers === undefined ? {} : { timers }),
  });
  const server = await accepted;
  if (server === undefined) throw new Error("the peer went away");
  return { server, client };
}

interface Copy {
  readonly stream: CopyBothStream;
  readonly reader: CopyReader;
  readonly writer: CopyWriter;
}

async function startCopy({ server, client }: Pair): Promise<Copy> {
  const started = client.startCopyBoth("START");
  expect(await server.readQuery()).toBe("START");
  const { reader, writer } = await server.startCopyBoth();
  return { stream: await started, reader, writer };
}

// Aim: both shells together: parameters, a query, an error, the end. Method: our client against our server.
test("client and server talk", async () => {
  const { server, client } = await pair({
    serverVersion: (parameters, options) => `${options.get("v")}${parameters.size}`,
  });
  expect(client.processId).toBe(server.processId);
  expect(client.parameters.get("server_version")).toBe("undefined2");
  const answer = client.query("SHOW a");
  expect(await server.readQuery()).toBe("SHOW a");
  await server.sendNotice({ severity: "NOTICE", code: "00000", message: "n" });
  await server.sendRows([{ name: "a" }], [["1"], [null]], "SHOW");
  await server.sendCommandComplete("EXTRA");
  await server.sendReadyForQuery();
  expect(await answer).toEqual([
    { columns: ["a"], rows: [["1"], [null]], tag: "SHOW" },
    { columns: [], rows: [], tag: "EXTRA" },
  ]);
  const refused = client.query("BAD");
  await expect(client.query("second")).rejects.toEqual(coded("ERR_WIRE_BUSY"));
  expect(await server.readQuery()).toBe("BAD");
  await server.sendError({ severity: "ERROR", code: "42601", message: "no", detail: "d" });
  await server.sendReadyForQuery();
  await expect(refused).rejects.toMatchObject({
    fields: { severity: "ERROR", code: "42601", message: "no", detail: "d" },
  });
  const ended = server.readQuery();
  const closed = client.close();
  expect(await ended).toBeUndefined();
  await Promise.all([server.close(), closed]);
  await expect(client.query("x")).rejects.toEqual(coded("ERR_WIRE_CLOSED"));
});

// Aim: two connections never get the same process id. Method: two logins.
test("process ids are unique", async () => {
  const first = await pair();
  const second = await pair();
  expect(first.server.processId).not.toBe(second.server.processId);
  expect((await pair({ processId: 99 })).client.processId).toBe(99);
});

// Aim: a peer that leaves before it is logged in is no error; one that leaves inside a packet is. Method: raw bytes,
// then an end.
test.each([
  ["nothing", Buffer.alloc(0), undefined],
  ["an SSLRequest", SSL_REQUEST, undefined],
  ["a CancelRequest", CANCEL_REQUEST, undefined],
  ["half a startup packet", startup({ user: "u" }).subarray(0, 11), "ERR_WIRE_IO"],
  ["a packet that is no startup", Buffer.from("GET / HTTP/1.0\r\n\r\n"), "ERR_WIRE_PROTOCOL"],
])("a peer that sends %s and leaves", async (_what, input, code) => {
  const [near, far] = streamPair();
  near.end(input);
  const accepted = acceptConnection(far);
  const text = readAll(near);
  if (code === undefined) expect(await accepted).toBeUndefined();
  else await expect(accepted).rejects.toEqual(coded(code));
  expect((await text).includes("FATAL")).toBe(code === "ERR_WIRE_PROTOCOL");
  expect(far.destroyed).toBe(true);
});

// Aim: refused logins leave nothing behind. Method: ten thousand of them, then count timers and listeners.
test("ten thousand refused logins leak no timer and no stream", async () => {
  const timers = new ManualTimers();
  const inputs = [
    Buffer.from([0, 0, 0, 7, 0, 0, 0]),
    Buffer.from([0, 0, 0x27, 0x11]),
    Buffer.concat([Buffer.from([0, 0, 0, 16, 0, 3, 0, 0]), Buffer.from("user\0\xff\0\0", "latin1")]),
    Buffer.concat([Buffer.from([0, 0, 0, 14, 0, 3, 0, 0]), Buffer.from("user\0u", "latin1")]),
    CANCEL_REQUEST,
  ];
  for (let attempt = 0; attempt < 10_000; attempt++) {
    const [near, far] = streamPair();
    near.resume();
    near.end(inputs[attempt % inputs.length]);
    const outcome = await acceptConnection(far, { timers }).catch((error: unknown) => error);
    if (outcome !== undefined) expect(outcome).toBeInstanceOf(WireError);
    if (!far.destroyed) throw new Error(`attempt ${attempt} left its stream open`);
  }
  expect(timers.delays).toEqual([]);
});

// Aim: a silent peer is cut off. Method: fire the login timer; the peer sees the end.
test("a login that takes too long is cut off", async () => {
  const timers = new ManualTimers();
  const [near, far] = streamPair();
  near.resume();
  const accepted = acceptConnection(far, { timers });
  expect(timers.delays).toEqual([LOGIN_TIMEOUT_MS]);
  timers.fire(LOGIN_TIMEOUT_MS);
  await expect(accepted).rejects.toEqual(coded("ERR_WIRE_TIMEOUT"));
  expect(timers.delays).toEqual([]);
  await once(near, "end");
});

// Aim: a client gives up in time, and when told to. Method: fire the timer; abort; a password that never comes.
test("connecting ends by timeout and by signal", async () => {
  const timers = new ManualTimers();
  const [near] = streamPair();
  const slow = connect({ user: "u", connectSocket: () => near, timers });
  expect(timers.delays).toEqual([CONNECT_TIMEOUT_MS]);
  timers.fire(CONNECT_TIMEOUT_MS);
  await expect(slow).rejects.toEqual(coded("ERR_WIRE_TIMEOUT"));
  expect(near.destroyed).toBe(true);

  const abort = new AbortController();
  const [client, server] = streamPair();
  const login = connect({
    user: "u",
    connectSocket: () => client,
    timers,
    signal: abort.signal,
    password: () => {
      abort.abort(new Error("changed my mind"));
      return new Promise<string>(() => undefined);
    },
  });
  server.write(message("R", 3));
  await expect(login).rejects.toThrow("changed my mind");
  await expect(connect({ user: "u", signal: abort.signal })).rejects.toThrow("changed my mind");
  expect(timers.delays).toEqual([]);
});

// Aim: a server that is not there, or goes away, is an I/O error with its cause. Method: a port that was just freed; a
// server that ends at once.
test("a lost or refused connection is an I/O error", async () => {
  const listener = createServer((socket) => socket.resume().end()).listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo;
  for (const ssl of ["disable", "prefer"] as const) {
    await expect(connect({ user: "u", host: "127.0.0.1", port, ssl })).rejects.toEqual(coded("ERR_WIRE_IO"));
  }
  listener.close();
  await once(listener, "close");
  await expect(connect({ user: "u", host: "127.0.0.1", port, ssl: "disable" })).rejects.toMatchObject({
    code: "ERR_WIRE_IO",
    cause: { code: "ECONNREFUSED" },
  });
});

// Aim: an end inside a message is an I/O error, one between messages is not. Method: cut a query.
test("tells a cut message from a clean end", async () => {
  for (const [input, clean] of [
    [message("Q", "SELECT 1\0").subarray(0, 9), false],
    [Buffer.alloc(0), true],
  ] as const) {
    const [near, far] = streamPair();
    near.resume();
    near.end(Buffer.concat([startup({ user: "u" }), input]));
    const server = await acceptConnection(far);
    if (server === undefined) throw new Error("no connection");
    if (clean) expect(await server.readQuery()).toBeUndefined();
    else await expect(server.readQuery()).rejects.toEqual(coded("ERR_WIRE_IO"));
    await server.close();
  }
});

// Aim: broken bytes after the login are told to the peer once. Method: a frame of length 3.
test("a protocol error in the command loop is reported and final", async () => {
  const [near, far] = streamPair();
  near.write(Buffer.concat([startup({ user: "u" }), Buffer.from("Q\0\0\0\x03")]));
  const server = await acceptConnection(far);
  if (server === undefined) throw new Error("no connection");
  await expect(server.readQuery()).rejects.toEqual(coded("ERR_WIRE_PROTOCOL"));
  await expect(server.readQuery()).rejects.toEqual(coded("ERR_WIRE_PROTOCOL"));
  near.end();
  const text = readAll(near);
  await server.close();
  expect((await text).split("SFATAL\0VFATAL\0C08P01").length).toBe(2);
});

// Aim: a reader that does not read stops the socket, within bounds, and loses nothing. Method: send 32 MiB while the
// other side looks at nothing, check what it holds, then read all of it.
test("a slow reader stops the peer and bounds what is buffered", async () => {
  const both = await pair();
  const { stream, reader } = await startCopy(both);
  const part = Buffer.alloc(128 * KIB, "w");
  const count = 256;
  const sent = (async () => {
    for (let index = 0; index < count; index++) {
      const header = Buffer.alloc(4);
      header.writeUInt32BE(index);
      await stream.writer.send(header, part);
    }
    await stream.writer.done();
  })();
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  for (let index = 0; index < count; index++) {
    const event = await reader.next();
    if (event.type !== "data") throw new Error(event.type);
    expect(Buffer.from(event.payload).readUInt32BE(0)).toBe(index);
    expect(event.payload.length).toBe(part.length + 4);
    expect(reader.bufferedBytes).toBeLessThan(READ_HIGH_WATER_BYTES + 256 * KIB);
    expect(stream.writer.queuedBytes).toBeLessThan(SEND_HIGH_WATER_BYTES + 256 * KIB);
    if (index % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  expect(await reader.next()).toEqual({ type: "done" });
  expect(reader.tryNext()).toEqual({ type: "done" });
  await sent;
});

// Aim: a writer whose peer does not read waits, while its reader goes on. Method: fill the queue of a server whose
// client reads nothing, receive from that client all the same, let it read, and at last destroy the connection under a
// waiting send.
test("a full write queue makes the writer wait and not the reader", async () => {
  const [near, far] = streamPair();
  near.write(Buffer.concat([startup({ user: "u" }), message("Q", "START\0")]));
  const server = await acceptConnection(far);
  if (server === undefined) throw new Error("no connection");
  await server.readQuery();
  const started = server.startCopyBoth();
  near.read();
  const { reader, writer } = await started;
  const part = Buffer.alloc(64 * KIB);
  let waiting: Promise<void> | undefined;
  let sentParts = 0;
  while (waiting === undefined) {
    waiting = writer.send(part);
    sentParts += 1;
  }
  expect(writer.queuedBytes).toBeGreaterThanOrEqual(SEND_HIGH_WATER_BYTES - part.length);
  expect(sentParts).toBeLessThanOrEqual(SEND_HIGH_WATER_BYTES / part.length + 1);
  near.write(message("d", "still here"));
  expect(await reader.next()).toEqual({ type: "data", payload: Buffer.from("still here") });
  near.resume();
  await waiting;
  expect(writer.queuedBytes).toBe(0);
  expect(writer.send(part)).toBeUndefined();
  near.pause();
  const hopeless = writer.send(Buffer.alloc(SEND_HIGH_WATER_BYTES));
  server.destroy();
  await expect(hopeless).rejects.toEqual(coded("ERR_WIRE_CLOSED"));
  await expect(writer.send(part)).rejects.toEqual(coded("ERR_WIRE_CLOSED"));
  await expect(reader.next()).rejects.toEqual(coded("ERR_WIRE_CLOSED"));
});

// Aim: broken bytes in a copy end the reading half only. Method: a wrong message; the writer then reports an error,
// which the client gets.
test("a reader in trouble leaves the writer usable", async () => {
  const [near, far] = streamPair();
  near.write(Buffer.concat([startup({ user: "u" }), message("Q", "START\0")]));
  const server = await acceptConnection(far);
  if (server === undefined) throw new Error("no connection");
  await server.readQuery();
  const { reader, writer } = await server.startCopyBoth();
  near.write(message("Q", "inside COPY\0"));
  await expect(reader.next()).rejects.toEqual(coded("ERR_WIRE_PROTOCOL"));
  expect(() => reader.tryNext()).toThrow(expect.objectContaining({ code: "ERR_WIRE_PROTOCOL" }));
  await writer.send(Buffer.from("last words"));
  await writer.fail({ severity: "ERROR", code: "XX000", message: "wrong message" });
  await expect(writer.send(Buffer.from("x"))).rejects.toEqual(coded("ERR_WIRE_STATE"));
  expect(writer.done()).toBeUndefined();
  near.end();
  const text = readAll(near);
  await server.close();
  const expected = Buffer.concat([
    message("d", "last words"),
    message("E", "SERROR\0VERROR\0CXX000\0Mwrong message\0\0"),
  ]).toString("latin1");
  expect((await text).endsWith(expected)).toBe(true);
});

// Aim: WAL is handed to the socket as it is, in one write per turn. Method: a stream that records what it is given.
test("large parts are sent without a copy, small ones with the header", async () => {
  const writes: Buffer[][] = [];
  const [near, far] = streamPair();
  const recorder = new Duplex({
    allowHalfOpen: true,
    read: () => undefined,
    writev: (chunks, callback) => {
      writes.push(chunks.map(({ chunk }) => chunk as Buffer));
      callback();
    },
  });
  near.destroy();
  far.destroy();
  recorder.push(Buffer.concat([startup({ user: "u" }), message("Q", "START\0")]));
  const server = await acceptConnection(recorder);
  if (server === undefined) throw new Error("no connection");
  await server.readQuery();
  const { writer } = await server.startCopyBoth();
  writes.length = 0;
  const wal = Buffer.alloc(8 * KIB, "w");
  const large = Buffer.alloc(2 * KIB, "h");
  expect(writer.send(Buffer.from("head"), wal, Buffer.from("tail"))).toBeUndefined();
  expect(writer.send(large, wal)).toBeUndefined();
  expect(writer.send(Buffer.from("a"), Buffer.from("b"))).toBeUndefined();
  expect(writer.send()).toBeUndefined();
  expect(writes).toEqual([]);
  await writer.done();
  await new Promise((resolve) => process.nextTick(resolve));
  expect(writes.length).toBe(1);
  const given = writes[0] ?? [];
  expect(given.filter((chunk) => chunk.buffer === wal.buffer && chunk.length === wal.length).length).toBe(2);
  expect(given.filter((chunk) => chunk === large).length).toBe(1);
  const expected = [
    message("d", "head", wal, "tail"),
    message("d", large, wal),
    message("d", "ab"),
    message("d"),
    message("c"),
  ];
  expect(Buffer.concat(given).equals(Buffer.concat(expected))).toBe(true);
  server.destroy();
});

// Aim: close() delivers what was sent, waits for the peer, and may be called again. Method: read all at the peer.
test("close flushes, ends, and is idempotent", async () => {
  const timers = new ManualTimers();
  const [near, far] = streamPair();
  near.write(startup({ user: "u" }));
  const server = await acceptConnection(far, { timers });
  if (server === undefined) throw new Error("no connection");
  const waiting = server.readQuery();
  void server.sendError({ severity: "FATAL", code: "57P01", message: "bye" });
  const closed = server.close();
  expect(server.close()).toBe(closed);
  await expect(waiting).rejects.toEqual(coded("ERR_WIRE_CLOSED"));
  await expect(server.sendNotice({ severity: "X", code: "00000", message: "" })).rejects.toEqual(
    coded("ERR_WIRE_CLOSED"),
  );
  near.write(Buffer.alloc(1000)); // thrown away
  expect(await readAll(near)).toContain("bye");
  near.end();
  await closed;
  expect(far.destroyed).toBe(true);
  expect(timers.delays).toEqual([]);
  server.destroy();
});

// Aim: a peer that neither reads nor ends cannot hold close() up. Method: fire its timer.
test("close gives up waiting after a bounded time", async () => {
  const timers = new ManualTimers();
  const [near, far] = streamPair();
  near.write(startup({ user: "u" }));
  const server = await acceptConnection(far, { timers });
  if (server === undefined) throw new Error("no connection");
  const closed = server.close();
  expect(timers.delays).toEqual([CLOSE_WAIT_MS]);
  timers.fire(CLOSE_WAIT_MS);
  await closed;
  expect(far.destroyed).toBe(true);
});

// Aim: the end of a historic timeline as a client sees it: CopyDone both ways and two results, or the results alone.
test("finish() returns the results behind a copy", async () => {
  const both = await pair();
  const { stream, reader, writer } = await startCopy(both);
  void writer.send(Buffer.from("late data"));
  void writer.done();
  const finished = stream.finish();
  expect(await reader.next()).toEqual({ type: "done" });
  const columns = [{ name: "next_tli", type: "int8" }, { name: "next_tli_startpos" }] as const;
  const end = async (): Promise<void> => {
    await both.server.sendRows(columns, [["2", "0/1000"]], "START_STREAMING");
    await both.server.sendCommandComplete("START_REPLICATION");
    await both.server.sendReadyForQuery();
  };
  await end();
  const expected = [
    { columns: ["next_tli", "next_tli_startpos"], rows: [["2", "0/1000"]], tag: "START_STREAMING" },
    { columns: [], rows: [], tag: "START_REPLICATION" },
  ];
  expect(await finished).toEqual(expected);
  await expect(stream.finish()).rejects.toEqual(coded("ERR_WIRE_STATE"));

  const second = both.client.startCopyBoth("START");
  await both.server.readQuery();
  await end();
  const withoutCopy = await second;
  expect(await withoutCopy.reader.next()).toEqual({ type: "done" });
  expect(await withoutCopy.finish()).toEqual(expected);
});

// Aim: an error inside a copy reaches reader and finish(), and the connection goes on. Method: the server fails it.
test("a server's error inside a copy leaves the connection usable", async () => {
  const both = await pair();
  const { stream, writer } = await startCopy(both);
  await expect(both.client.query("x")).rejects.toEqual(coded("ERR_WIRE_BUSY"));
  await writer.fail({ severity: "ERROR", code: "58P01", message: "gone" });
  await both.server.sendReadyForQuery();
  await expect(stream.reader.next()).rejects.toMatchObject({ sqlstate: "58P01" });
  await expect(stream.finish()).rejects.toMatchObject({ sqlstate: "58P01" });
  const answer = both.client.query("again");
  expect(await both.server.readQuery()).toBe("again");
  await both.server.sendCommandComplete("OK");
  await both.server.sendReadyForQuery();
  expect(await answer).toEqual([{ columns: [], rows: [], tag: "OK" }]);
});

// Aim: ends without CopyDone are told apart. Method: the client vanishes; says Terminate; fails the copy.
test.each([
  ["ends", (_copy: Copy, both: Pair) => both.client.close(), { type: "end", reason: "terminate" }],
  ["vanishes", (_copy: Copy, both: Pair) => both.client.destroy(), { type: "end", reason: "eof" }],
  [
    "fails",
    (copy: Copy) => copy.stream.writer.fail({ severity: "ERROR", code: "XX000", message: "why" }),
    { type: "fail", message: "why" },
  ],
])("a client that %s inside a copy", async (_what, act, expected) => {
  const both = await pair();
  const copy = await startCopy(both);
  const event = copy.reader.next();
  void act(copy, both);
  expect(await event).toEqual(expected);
  expect(await copy.reader.next()).toEqual(expected);
  both.server.destroy();
});

// Aim: the command loop does not eat a copy's data unnoticed. Method: ask for a query while a copy runs.
test("a query cannot be read inside a copy", async () => {
  const both = await pair();
  const { stream } = await startCopy(both);
  void stream.writer.send(Buffer.from("data"));
  await expect(both.server.readQuery()).rejects.toEqual(coded("ERR_WIRE_STATE"));
});

// Aim: one consumer at a time. Method: two waits.
test("two waits on one reader are refused", async () => {
  const both = await pair();
  const { reader, stream } = await startCopy(both);
  const first = reader.next();
  await expect(reader.next()).rejects.toEqual(coded("ERR_WIRE_BUSY"));
  void stream.writer.send(Buffer.from("x"));
  expect(await first).toMatchObject({ type: "data" });
});

/** Listens on a free port and accepts one connection with `options`. */
async function listen(
  options: AcceptOptions,
): Promise<{ port: number; accepted: Promise<ServerConnection | undefined>; [Symbol.dispose](): void }> {
  const listener = createServer({ allowHalfOpen: true });
  const accepted = once(listener, "connection").then(([socket]) =>
    acceptConnection(socket as Socket, options),
  );
  accepted.catch(() => undefined);
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  return {
    port: (listener.address() as AddressInfo).port,
    accepted,
    [Symbol.dispose]: () => listener.close(),
  };
}

// Aim: over real sockets, with and without TLS, payloads arrive whole and stay as they are while more arrives. Method:
// messages of many sizes in both directions, all kept and compared at the end.
test.each([
  ["plain", undefined, "disable"],
  ["TLS", tlsKeys, { ca: tlsKeys.cert, servername: "localhost" }],
] as const)("payloads over a real socket stay valid: %s", async (_what, tls, ssl) => {
  using listening = await listen(tls === undefined ? {} : { tls });
  await using client = await connect({ user: "u", host: "127.0.0.1", port: listening.port, ssl });
  const server = await listening.accepted;
  if (server === undefined) throw new Error("no connection");
  const { stream, reader, writer } = await startCopy({ server, client });
  const messages = Array.from({ length: 400 }, (_value, index) =>
    Buffer.alloc(1 + ((index * 7919) % (200 * KIB)), String.fromCharCode(33 + (index % 90))),
  );
  const exchange = async (source: CopyWriter, target: CopyReader): Promise<readonly Uint8Array[]> => {
    const kept: Uint8Array[] = [];
    const sending = (async () => {
      for (const payload of messages) await source.send(payload);
      await source.done();
    })();
    for (let event = await target.next(); event.type === "data"; event = await target.next())
      kept.push(event.payload);
    await sending;
    return kept;
  };
  const [toServer, toClient] = await Promise.all([
    exchange(stream.writer, reader),
    exchange(writer, stream.reader),
  ]);
  for (const kept of [toServer, toClient]) {
    expect(kept.length).toBe(messages.length);
    messages.forEach((payload, index) => {
      if (!payload.equals(kept[index] ?? Buffer.alloc(0))) throw new Error(`message ${index} differs`);
    });
  }
  await server.sendReadyForQuery();
  expect(await stream.finish()).toEqual([]);
  const closed = server.close();
  await client.close();
  await closed;
});

// Aim: TLS as newer clients open it, without an SSLRequest. Method: a TLS socket with the protocol's ALPN name.
test("accepts direct TLS", async () => {
  using listening = await listen({ tls: tlsKeys });
  const options = { port: listening.port, host: "127.0.0.1", ca: tlsKeys.cert, servername: "localhost" };
  const socket = connectTls({ ...options, ALPNProtocols: ["postgresql"] });
  await once(socket, "secureConnect");
  expect(socket.alpnProtocol).toBe("postgresql");
  socket.write(startup({ user: "direct" }));
  const server = await listening.accepted;
  expect(server?.parameters.get("user")).toBe("direct");
  socket.destroy();
  server?.destroy();
});

// Aim: what can go wrong around TLS. Method: a client that demands it of a server without; a client that does not
// trust the certificate; a peer that talks nonsense in the handshake; one that stays silent in it.
test("TLS failures are told apart", async () => {
  using without = await listen({});
  const demanded = connect({ user: "u", host: "127.0.0.1", port: without.port, ssl: "require" });
  await expect(demanded).rejects.toEqual(coded("ERR_WIRE_TLS"));

  using distrusted = await listen({ tls: tlsKeys });
  const verified = connect({ user: "u", host: "localhost", port: distrusted.port, ssl: {} });
  await expect(verified).rejects.toEqual(coded("ERR_WIRE_TLS"));
  expect(await distrusted.accepted.catch((error: unknown) => error)).toEqual(coded("ERR_WIRE_TLS"));

  const timers = new ManualTimers();
  for (const silent of [false, true]) {
    const [near, far] = streamPair();
    const accepted = acceptConnection(far, { tls: tlsKeys, timers });
    near.write(SSL_REQUEST);
    const [answer] = (await once(near, "data")) as [Buffer];
    expect(answer.toString()).toBe("S");
    if (silent) timers.fire(LOGIN_TIMEOUT_MS);
    else near.write("this is not a ClientHello, and it is long enough to be noticed as such");
    await expect(accepted).rejects.toEqual(coded(silent ? "ERR_WIRE_TIMEOUT" : "ERR_WIRE_TLS"));
  }
  expect(timers.delays).toEqual([]);
});
