/**
 * Dialogs with the pure server session, byte for byte.
 */
import { expect, test } from "vitest";
import { SQLSTATE, WireError } from "../src/index.js";
import type { ServerSession } from "../src/index.js";
import {
  bytes,
  CANCEL_REQUEST,
  eventText,
  GSSENC_REQUEST,
  loggedInServer,
  message,
  outputText,
  packet,
  serverSession,
  SSL_REQUEST,
  startup,
  WELCOME,
} from "./transcript.js";

const fatal = (code: string, text: string): string =>
  message("E", `SFATAL\0VFATAL\0C${code}\0M${text}\0\0`).toString("latin1");

function nextText(session: ServerSession): string | undefined {
  const event = session.nextEvent();
  return event === undefined ? undefined : eventText(event);
}

function failure(session: ServerSession): WireError {
  try {
    while (session.nextEvent() !== undefined);
  } catch (error) {
    if (error instanceof WireError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

// Aim: encryption requests are answered N without TLS, in any order, and the login goes on. Method: both in sequence,
// then a startup; the exact answer of a login by trust.
test("answers N to encryption requests and logs in", () => {
  for (const requests of [
    [],
    [SSL_REQUEST],
    [GSSENC_REQUEST],
    [SSL_REQUEST, GSSENC_REQUEST],
    [GSSENC_REQUEST, SSL_REQUEST],
  ]) {
    const session = serverSession();
    for (const request of requests) {
      session.receive(request);
      expect(session.nextEvent()).toBeUndefined();
      expect(outputText(session)).toBe("N");
    }
    session.receive(startup({ user: "u", database: "d" }));
    expect(nextText(session)).toBe('{"type":"ready"}');
    expect(outputText(session)).toBe(WELCOME.toString("latin1"));
    expect([...session.request.parameters]).toEqual([
      ["user", "u"],
      ["database", "d"],
    ]);
    expect(session.identity).toBeUndefined();
  }
});

// Aim: with TLS configured, a login in clear is refused, S starts TLS, and the login goes on behind it. Method: both
// dialogs; bytes sent before the S are an attack and end the connection.
test("requires TLS when it is configured", () => {
  const clear = serverSession({ tls: true });
  clear.receive(startup({ user: "u" }));
  expect(failure(clear)).toMatchObject({ code: "ERR_WIRE_TLS" });
  expect(outputText(clear)).toBe(fatal("28000", "must connect with TLS"));

  const secure = serverSession({ tls: true });
  secure.receive(SSL_REQUEST);
  expect(nextText(secure)).toBe('{"type":"tls","direct":false}');
  expect(outputText(secure)).toBe("S");
  expect(secure.nextEvent()).toBeUndefined();
  secure.secured();
  secure.receive(startup({ user: "u" }));
  expect(nextText(secure)).toBe('{"type":"ready"}');

  const stuffed = serverSession({ tls: true });
  stuffed.receive(Buffer.concat([SSL_REQUEST, startup({ user: "u" })]));
  expect(failure(stuffed)).toMatchObject({ code: "ERR_WIRE_PROTOCOL" });
  expect(outputText(stuffed)).not.toContain("S\0");
});

// Aim: a ClientHello as the first bytes starts TLS, but only as the very first bytes. Method: with and without TLS,
// and after a refused SSLRequest.
test("recognises direct TLS", () => {
  const hello = Buffer.from([0x16, 3, 1, 0, 5, 1]);
  const session = serverSession({ tls: true });
  session.receive(hello);
  expect(nextText(session)).toBe('{"type":"tls","direct":true}');
  expect(session.takeRest()).toEqual(hello);
  session.secured();
  session.receive(startup({ user: "u" }));
  expect(nextText(session)).toBe('{"type":"ready"}');

  const without = serverSession();
  without.receive(hello);
  expect(failure(without).code).toBe("ERR_WIRE_TLS");

  const later = serverSession();
  later.receive(Buffer.concat([SSL_REQUEST, hello]));
  expect(failure(later).code).toBe("ERR_WIRE_PROTOCOL");
});

// Aim: a CancelRequest is told apart and never answered. Method: alone and after an encryption request.
test("reports a cancel request", () => {
  const session = serverSession();
  session.receive(Buffer.concat([SSL_REQUEST, CANCEL_REQUEST]));
  expect(nextText(session)).toBe('{"type":"cancel-request","processId":77,"secretKey":88}');
  expect(outputText(session)).toBe("N");
});

// Aim: whatever is wrong with a startup packet is told as a FATAL error and ends the session. Method: a table.
test.each([
  ["length 7", bytes(7, "\0\0\0"), "08P01"],
  ["length 10001", bytes(10_001), "08P01"],
  ["no terminator after the pairs", packet(0x30000, "user\0u\0"), "08P01"],
  ["an unterminated value", packet(0x30000, "user\0u"), "08P01"],
  ["bytes after the terminator", packet(0x30000, "user\0u\0\0x"), "08P01"],
  ["no parameters and no terminator", packet(0x30000), "08P01"],
  ["invalid UTF-8", packet(0x30000, "user\0", Buffer.from([0xff, 0xfe]), "\0\0"), "08P01"],
  ["overlong UTF-8", packet(0x30000, "user\0", Buffer.from([0xc0, 0x80]), "\0\0"), "08P01"],
  ["protocol 2.0", packet(0x20000, "\0"), "0A000"],
  ["an HTTP request", Buffer.from("GET / HTTP/1.1\r\n"), "08P01"],
  ["an unknown request code", packet((1234 << 16) | 9999), "08P01"],
  ["a long SSLRequest", packet(80877103, "x"), "08P01"],
  ["a short CancelRequest", packet(80877102, 1), "08P01"],
  ["a second SSLRequest", Buffer.concat([SSL_REQUEST, SSL_REQUEST]), "08P01"],
  ["a second GSSENCRequest", Buffer.concat([GSSENC_REQUEST, GSSENC_REQUEST]), "08P01"],
])("refuses a startup with %s", (_what, input, sqlstate) => {
  const session = serverSession();
  session.receive(input);
  const error = failure(session);
  expect(error).toMatchObject({ code: "ERR_WIRE_PROTOCOL", sqlstate });
  expect(outputText(session)).toContain(fatal(sqlstate, error.message));
  expect(() => session.nextEvent()).toThrow(error);
});

// Aim: newer minor versions and unknown protocol options are negotiated down as PostgreSQL does. Method: exact bytes.
test("negotiates newer protocol minors and _pq_ options", () => {
  const session = serverSession();
  session.receive(startup({ user: "u", "_pq_.foo": "1", "_pq_.bar": "2" }, 0x30002));
  expect(nextText(session)).toBe('{"type":"ready"}');
  const negotiation = message("v", 0x30000, 2, "_pq_.foo\0_pq_.bar\0");
  expect(outputText(session)).toBe(Buffer.concat([negotiation, WELCOME]).toString("latin1"));
});

// Aim: the owner can refuse a startup, and the peer is told so before anything else. Method: a check that throws.
test("reports what the startup check refuses", () => {
  const session = serverSession({
    checkStartup: ({ options }) => {
      if (options.get("tenant_id")?.length !== 32) {
        throw new WireError("ERR_WIRE_PROTOCOL", "invalid tenant_id", {
          sqlstate: SQLSTATE.protocolViolation,
        });
      }
    },
  });
  session.receive(startup({ user: "u", options: "-c tenant_id=123" }));
  expect(failure(session).message).toBe("invalid tenant_id");
  expect(outputText(session)).toBe(fatal("08P01", "invalid tenant_id"));
});

// Aim: the password exchange; the peer learns nothing about why a token is refused. Method: exact dialogs.
test("asks for a token and accepts or refuses it", () => {
  const authenticate = {
    verify: (token: string) => {
      if (token !== "good") throw new WireError("ERR_WIRE_AUTH", `secret reason`, { sqlstate: "28P01" });
      return { scope: "tenant", tenantId: "00".repeat(16) };
    },
  };
  const good = serverSession({ authenticate });
  good.receive(startup({ user: "u" }));
  expect(good.nextEvent()).toBeUndefined();
  expect(outputText(good)).toBe(message("R", 3).toString("latin1"));
  good.receive(message("p", "good\0"));
  expect(nextText(good)).toBe('{"type":"ready"}');
  expect(outputText(good)).toBe(WELCOME.toString("latin1"));
  expect(good.identity).toEqual({ scope: "tenant", tenantId: "00".repeat(16) });

  const bad = serverSession({ authenticate });
  bad.receive(Buffer.concat([startup({ user: "u" }), message("p", "bad\0")]));
  expect(failure(bad)).toMatchObject({ code: "ERR_WIRE_AUTH", message: "secret reason" });
  expect(outputText(bad)).toBe(
    message("R", 3).toString("latin1") + fatal("28P01", "JWT authentication error"),
  );

  for (const wrong of [
    message("Q", "SELECT 1\0"),
    message("p", "good"),
    bytes("p", 8 * 1024 + 5),
    bytes("d", 100),
  ]) {
    const session = serverSession({ authenticate });
    session.receive(Buffer.concat([startup({ user: "u" }), wrong]));
    expect(failure(session).code).toBe("ERR_WIRE_PROTOCOL");
    expect(session.identity).toBeUndefined();
  }
});

// Aim: a simple query and its answer, the empty query, and Terminate. Method: exact bytes of each message.
test("answers simple queries", () => {
  const session = loggedInServer();
  session.receive(message("Q", "SHOW x\0"));
  expect(nextText(session)).toBe('{"type":"query","text":"SHOW x"}');
  const columns = [{ name: "x" }, { name: "n", type: "int8" }] as const;
  expect(Buffer.concat([...session.rows(columns, [["16MB", null]], "SHOW")])).toEqual(
    Buffer.concat([
      message(
        "T",
        Buffer.from([0, 2]),
        bytes("x\0", 0, Buffer.from([0, 0]), 25, Buffer.from([0xff, 0xff]), -1, Buffer.from([0, 0])),
        bytes("n\0", 0, Buffer.from([0, 0]), 20, Buffer.from([0, 8]), -1, Buffer.from([0, 0])),
      ),
      message("D", Buffer.from([0, 2]), 4, "16MB", -1),
      message("C", "SHOW\0"),
    ]),
  );
  expect(session.readyForQuery()).toEqual(message("Z", "I"));
  session.receive(Buffer.concat([message("Q", "\0"), message("X")]));
  expect(nextText(session)).toBe('{"type":"query","text":""}');
  expect(session.emptyQueryResponse()).toEqual(message("I"));
  expect(() => session.nextEvent()).toThrow(expect.objectContaining({ code: "ERR_WIRE_STATE" }));
  session.readyForQuery();
  expect(nextText(session)).toBe('{"type":"end","reason":"terminate"}');
  expect(nextText(session)).toBe('{"type":"end","reason":"terminate"}');
});

// Aim: what may not be sent now is refused on our side too. Method: each builder in a wrong state; a ragged row.
test("refuses answers that the protocol does not allow now", () => {
  const session = loggedInServer();
  const state = expect.objectContaining({ code: "ERR_WIRE_STATE" });
  expect(() => session.commandComplete("X")).toThrow(state);
  expect(() => session.rows([], [], "X")).toThrow(state);
  expect(() => session.emptyQueryResponse()).toThrow(state);
  expect(() => session.readyForQuery()).toThrow(state);
  expect(() => session.copyBothResponse()).toThrow(state);
  expect(session.copyDone()).toBeUndefined();
  session.receive(message("Q", "\0"));
  session.nextEvent();
  expect(() => session.rows([{ name: "a" }], [["1", "2"]], "X")).toThrow(RangeError);
});

// Aim: messages of the wrong state, of the extended protocol, malformed and oversized ones end the connection.
test.each([
  ["CopyData outside COPY", message("d", "x")],
  ["CopyDone outside COPY", message("c")],
  ["a password after the login", message("p", "x\0")],
  ["Parse", message("P", "\0\0\0\0")],
  ["Sync", message("S")],
  ["a query without terminator", message("Q", "SELECT 1")],
  ["a query with a NUL inside", message("Q", "a\0b\0")],
  ["a query that is not UTF-8", message("Q", Buffer.from([0xff, 0]))],
  ["a query over the limit", bytes("Q", 64 * 1024 + 5)],
  ["a Terminate with a body", message("X", "x")],
  ["a frame of length 3", bytes("Q", 3)],
  ["a frame of length 2^31", bytes("Q", 2 ** 31)],
])("refuses %s", (_what, input) => {
  const session = loggedInServer();
  session.receive(input);
  expect(failure(session).code).toBe("ERR_WIRE_PROTOCOL");
});

function copyingServer(): ServerSession {
  const session = loggedInServer();
  session.receive(message("Q", "START\0"));
  session.nextEvent();
  expect(session.copyBothResponse()).toEqual(message("W", Buffer.alloc(3)));
  return session;
}

// Aim: COPY BOTH ends when both sides have said so, in either order, and the command goes on. Method: exact bytes.
test.each(["client first", "server first"])("ends COPY BOTH: %s", (order) => {
  const session = copyingServer();
  session.receive(Buffer.concat([message("d", "abc"), message("d", ""), message("c")]));
  if (order === "server first") expect(session.copyDone()).toEqual(message("c"));
  expect(eventText(session.nextCopyEvent() ?? { type: "ready" })).toBe('{"type":"data","payload":"616263"}');
  expect(session.nextCopyEvent()).toMatchObject({ type: "data" });
  expect(session.nextCopyEvent()).toEqual({ type: "done" });
  if (order === "client first") expect(session.copyDone()).toEqual(message("c"));
  expect(session.copyDone()).toBeUndefined();
  expect(session.nextCopyEvent()).toEqual({ type: "done" });
  session.rows([{ name: "next_tli", type: "int8" }], [["2"]], "START_STREAMING");
  session.commandComplete("START_REPLICATION");
  session.readyForQuery();
  session.receive(message("Q", "again\0"));
  expect(nextText(session)).toBe('{"type":"query","text":"again"}');
});

// Aim: an error of ours ends the copy at once; what the client had sent of it is skipped. Method: data after the
// error, then CopyDone, then a query; without an error the same data is a protocol error.
test("skips the rest of a copy that ended with an error", () => {
  const session = copyingServer();
  const fields = { severity: "ERROR", code: "XX000", message: "no" };
  expect(session.copyFail(fields)).toEqual(message("E", "SERROR\0VERROR\0CXX000\0Mno\0\0"));
  expect(session.copyFail(fields)).toBeUndefined();
  session.readyForQuery();
  session.receive(Buffer.concat([message("d", "late"), message("c"), message("Q", "next\0")]));
  expect(nextText(session)).toBe('{"type":"query","text":"next"}');
  session.readyForQuery();
  session.receive(message("d", "x"));
  expect(failure(session).code).toBe("ERR_WIRE_PROTOCOL");
});

// Aim: CopyFail and Terminate inside a copy are told apart; other messages are refused but leave sending possible.
test("reports CopyFail, Terminate and wrong messages inside COPY", () => {
  const failed = copyingServer();
  failed.receive(message("f", "client says no\0"));
  expect(failed.nextCopyEvent()).toEqual({ type: "fail", message: "client says no" });
  const terminated = copyingServer();
  terminated.receive(message("X"));
  expect(terminated.nextCopyEvent()).toEqual({ type: "end", reason: "terminate" });
  const wrong = copyingServer();
  wrong.receive(message("Q", "x\0"));
  expect(() => wrong.nextCopyEvent()).toThrow(expect.objectContaining({ code: "ERR_WIRE_PROTOCOL" }));
  expect(() => wrong.nextCopyEvent()).toThrow(expect.objectContaining({ code: "ERR_WIRE_PROTOCOL" }));
  expect(wrong.copySendOpen).toBe(true);
});
