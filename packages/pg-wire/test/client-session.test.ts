/**
 * Dialogs with the pure client session, byte for byte.
 */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { ClientSession } from "../src/index.js";
import type { ClientEvent } from "../src/index.js";
import { loggedInClient, message, outputText, packet, SSL_REQUEST, startup, WELCOME } from "./transcript.js";

const latin = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
const protocol = expect.objectContaining({ code: "ERR_WIRE_PROTOCOL" });
const auth = expect.objectContaining({ code: "ERR_WIRE_AUTH" });

function fresh(askTls = false): ClientSession {
  const session = new ClientSession({
    parameters: new Map([["user", "user"]]),
    askTls,
    nonce: "rOprNGfwEbeRWgbNEkqO",
  });
  expect(outputText(session)).toBe(latin(askTls ? SSL_REQUEST : startup({ user: "user" })));
  return session;
}

function all(session: ClientSession): readonly ClientEvent[] {
  const events: ClientEvent[] = [];
  for (let event = session.nextEvent(); event !== undefined; event = session.nextEvent()) events.push(event);
  return events;
}

// Aim: a login by trust, what the server tells about itself. Method: the whole welcome in one chunk.
test("logs in by trust", () => {
  const session = fresh();
  session.receive(Buffer.concat([message("v", 0x30000, 0), WELCOME]));
  expect(all(session)).toEqual([{ type: "ready" }]);
  expect(session.processId).toBe(4711);
  expect(Object.fromEntries(session.parameters)).toEqual({
    client_encoding: "UTF8",
    integer_datetimes: "on",
    server_version: "15.0",
    standard_conforming_strings: "on",
  });
  expect(session.isIdle).toBe(true);
});

// Aim: the answers to an SSLRequest. Method: N, S, an error byte, and bytes smuggled in behind the S.
test("asks for TLS first", () => {
  const refused = fresh(true);
  refused.receive(Buffer.from("N"));
  expect(all(refused)).toEqual([{ type: "tls", accepted: false }]);
  refused.stayInClear();
  expect(outputText(refused)).toBe(latin(startup({ user: "user" })));

  const accepted = fresh(true);
  accepted.receive(Buffer.from("S"));
  expect(all(accepted)).toEqual([{ type: "tls", accepted: true }]);
  expect(outputText(accepted)).toBe("");
  accepted.secured(undefined);
  expect(outputText(accepted)).toBe(latin(startup({ user: "user" })));

  const error = fresh(true);
  error.receive(message("E", "SFATAL\0\0"));
  expect(() => error.nextEvent()).toThrow(expect.objectContaining({ code: "ERR_WIRE_TLS" }));

  const stuffed = fresh(true);
  stuffed.receive(Buffer.concat([Buffer.from("S"), WELCOME]));
  expect(() => stuffed.nextEvent()).toThrow(protocol);
});

// Aim: cleartext and md5 answers. Method: exact bytes; the md5 value is computed independently here.
test("answers cleartext and md5 requests", () => {
  const clear = fresh();
  clear.receive(message("R", 3));
  expect(all(clear)).toEqual([{ type: "password" }]);
  clear.providePassword("pencil");
  expect(outputText(clear)).toBe(latin(message("p", "pencil\0")));

  const md5 = fresh();
  md5.receive(message("R", 5, 0x01020304));
  expect(all(md5)).toEqual([{ type: "password" }]);
  md5.providePassword("pencil");
  const inner = createHash("md5").update("penciluser").digest("hex");
  const outer = createHash("md5")
    .update(Buffer.concat([Buffer.from(inner), Buffer.from([1, 2, 3, 4])]))
    .digest("hex");
  expect(outputText(md5)).toBe(latin(message("p", `md5${outer}\0`)));
  md5.receive(WELCOME);
  expect(all(md5)).toEqual([{ type: "ready" }]);
});

const SERVER_FIRST = "r=rOprNGfwEbeRWgbNEkqO%hvY,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

// Aim: the SASL messages around SCRAM. Method: the frames of a login whose server then skips its own proof, which
// must not pass for a login.
test("a server that skips its proof is refused", () => {
  const session = fresh();
  session.receive(message("R", 10, "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"));
  expect(all(session)).toEqual([{ type: "password" }]);
  session.providePassword("pencil");
  const first = "n,,n=,r=rOprNGfwEbeRWgbNEkqO";
  expect(outputText(session)).toBe(latin(message("p", "SCRAM-SHA-256\0", first.length, first)));
  session.receive(message("R", 11, SERVER_FIRST));
  expect(all(session)).toEqual([]);
  expect(outputText(session)).toMatch(/^p....c=biws,r=rOprNGfwEbeRWgbNEkqO%hvY,p=[A-Za-z0-9+/]{43}=$/s);
  session.receive(WELCOME);
  expect(() => session.nextEvent()).toThrow(auth);
  expect(session.isIdle).toBe(false);
});

// Aim: which mechanism is chosen. Method: offers with and without PLUS, with and without a certificate hash.
test.each([
  ["SCRAM-SHA-256", undefined, "SCRAM-SHA-256", "n,,"],
  ["SCRAM-SHA-256", Buffer.from("hash"), "SCRAM-SHA-256", "y,,"],
  [
    "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256",
    Buffer.from("hash"),
    "SCRAM-SHA-256-PLUS",
    "p=tls-server-end-point,,",
  ],
  ["SCRAM-SHA-256-PLUS\0SCRAM-SHA-256", undefined, "SCRAM-SHA-256", "n,,"],
])("of %j with certificate hash %s takes %s", (offer, binding, mechanism, header) => {
  const session = fresh(true);
  session.receive(Buffer.from("S"));
  session.nextEvent();
  session.secured(binding);
  session.takeOutput();
  session.receive(message("R", 10, `${offer}\0\0`));
  session.nextEvent();
  session.providePassword("x");
  const first = `${header}n=,r=rOprNGfwEbeRWgbNEkqO`;
  expect(outputText(session)).toBe(latin(message("p", `${mechanism}\0`, first.length, first)));
});

// Aim: a login that makes no sense is refused. Method: a table of server messages.
test.each([
  ["Kerberos", message("R", 2), auth],
  ["an unknown method", message("R", 77), auth],
  ["SASL data without SASL", message("R", 11, SERVER_FIRST), protocol],
  ["a SASL end without SASL", message("R", 12, "v="), protocol],
  ["a short md5 salt", message("R", 5, "abc"), protocol],
  ["an empty authentication message", message("R"), protocol],
  ["an unterminated mechanism list", message("R", 10, "SCRAM-SHA-256"), protocol],
  ["a row", message("D", "\0\0"), protocol],
  ["ready at once", message("Z", "I"), protocol],
  ["a megabyte of error", Buffer.concat([Buffer.from("E"), Buffer.from([0, 1, 0, 10])]), protocol],
  ["HTTP", Buffer.from("HTTP/1.1 400 Bad Request\r\n"), protocol],
])("refuses a login with %s", (_what, input, error) => {
  const session = fresh();
  session.receive(input);
  expect(() => session.nextEvent()).toThrow(error);
  expect(() => session.nextEvent()).toThrow(error);
});

// Aim: no mechanism in common. Method: an offer of something else.
test("refuses unknown SASL mechanisms", () => {
  const session = fresh();
  session.receive(message("R", 10, "OAUTHBEARER\0\0"));
  session.nextEvent();
  expect(() => session.providePassword("x")).toThrow(auth);
});

// Aim: the answer to a query as events. Method: two statements, a notice, a parameter, an error, in one chunk.
test("reports the answers to a query", () => {
  const session = loggedInClient();
  expect(latin(session.query("SELECT 1; x"))).toBe(latin(message("Q", "SELECT 1; x\0")));
  expect(() => session.query("again")).toThrow(expect.objectContaining({ code: "ERR_WIRE_BUSY" }));
  const field = Buffer.concat([
    Buffer.alloc(6),
    Buffer.from([0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
  ]);
  session.receive(
    Buffer.concat([
      message("T", "\0\x02", "a\0", field, "b\0", field),
      message("D", "\0\x02", 3, "x\0y", -1),
      message("C", "SELECT 1\0"),
      message("N", "SWARNUNG\0VWARNING\0C01000\0Mcareful\0Zunknown\0\0"),
      message("S", "TimeZone\0UTC\0"),
      message("A", 1, "channel\0payload\0"),
      message("I"),
      message("E", "SFEHLER\0VERROR\0C42601\0Mno\0P11\0Hhint\0\0"),
      message("Z", "E"),
    ]),
  );
  expect(all(session)).toEqual([
    { type: "columns", names: ["a", "b"] },
    { type: "row", values: ["x\0y", null], bytes: 13 },
    { type: "complete", tag: "SELECT 1" },
    { type: "notice", fields: { severity: "WARNING", code: "01000", message: "careful" } },
    { type: "complete", tag: "" },
    {
      type: "error",
      fields: { severity: "ERROR", code: "42601", message: "no", position: "11", hint: "hint" },
    },
    { type: "ready" },
  ]);
  expect(session.parameters.get("TimeZone")).toBe("UTC");
  expect(() => session.query("a\0b")).toThrow(TypeError);
});

// Aim: malformed answers are protocol errors. Method: a table.
test.each([
  ["a row shorter than it says", message("D", "\0\x01", 5, "abc")],
  ["a row with a negative length", message("D", "\0\x01", -2)],
  ["a row without its values", message("D", "\0\x02", -1)],
  ["an empty row message", message("D")],
  ["a description shorter than it says", message("T", "\0\x01", "a\0")],
  ["an empty description", message("T")],
  ["a tag without an end", message("C", "SELECT")],
  ["an error without an end", message("E", "SERROR")],
  ["an error without its last NUL", message("E", "SERROR\0")],
  ["a parameter without a value", message("S", "a\0")],
  ["COPY OUT", message("H", "\0\0\0")],
  ["CopyData outside COPY", message("d", "x")],
  ["an authentication request", message("R", 0)],
  ["an unknown type", message("y")],
])("refuses %s", (_what, input) => {
  const session = loggedInClient();
  session.query("x");
  session.receive(input);
  expect(() => session.nextEvent()).toThrow(protocol);
});

function copyingClient(): ClientSession {
  const session = loggedInClient();
  session.query("START_REPLICATION");
  session.receive(message("W", Buffer.alloc(3)));
  expect(session.nextEvent()).toEqual({ type: "copy-both" });
  return session;
}

// Aim: a copy that both sides end, in either order, and the results behind it. Method: exact bytes.
test.each(["client first", "server first"])("ends COPY BOTH: %s", (order) => {
  const session = copyingClient();
  if (order === "client first") expect(session.copyDone()).toEqual(message("c"));
  session.receive(Buffer.concat([message("d", "abc"), message("N", "MHi\0\0"), message("c")]));
  expect(session.nextCopyEvent()).toEqual({ type: "data", payload: Buffer.from("abc") });
  expect(session.nextCopyEvent()).toEqual({ type: "done" });
  expect(session.nextCopyEvent()).toEqual({ type: "done" });
  expect(session.takeNotices()).toEqual([{ severity: "ERROR", code: "XX000", message: "Hi" }]);
  expect(session.takeNotices()).toEqual([]);
  if (order === "server first") expect(session.copyDone()).toEqual(message("c"));
  expect(session.copyDone()).toBeUndefined();
  session.receive(Buffer.concat([message("C", "START_REPLICATION\0"), message("Z", "I")]));
  expect(all(session)).toEqual([{ type: "complete", tag: "START_REPLICATION" }, { type: "ready" }]);
});

// Aim: the other ways a copy can end. Method: an error, a CommandComplete of a server that shuts down, our CopyFail.
test("a copy ends with an error, with a last CommandComplete, or with our CopyFail", () => {
  const failed = copyingClient();
  failed.receive(Buffer.concat([message("E", "SERROR\0C58P01\0Mgone\0\0"), message("Z", "I")]));
  expect(() => failed.nextCopyEvent()).toThrow(
    expect.objectContaining({ code: "ERR_WIRE_SERVER", sqlstate: "58P01" }),
  );
  expect(failed.copySendOpen).toBe(false);
  expect(all(failed)).toEqual([{ type: "ready" }]);

  const shutDown = copyingClient();
  shutDown.receive(message("C", "COPY 0\0"));
  expect(shutDown.nextCopyEvent()).toEqual({ type: "done" });
  expect(shutDown.copyDone()).toBeUndefined();
  expect(all(shutDown)).toEqual([{ type: "complete", tag: "COPY 0" }]);

  const ours = copyingClient();
  expect(ours.copyFail({ severity: "ERROR", code: "XX000", message: "enough" })).toEqual(
    message("f", "enough\0"),
  );
  expect(ours.copyFail({ severity: "ERROR", code: "XX000", message: "enough" })).toBeUndefined();
});

// Aim: a client refuses COPY FROM STDIN by failing it, so that the server's error comes back. Method: exact bytes.
test("fails COPY FROM STDIN", () => {
  const session = loggedInClient();
  session.query("COPY t FROM STDIN");
  session.receive(message("G", "\0\0\0"));
  expect(session.nextEvent()).toBeUndefined();
  expect(outputText(session)).toBe(latin(message("f", "COPY FROM STDIN is not supported by this client\0")));
});

// Aim: a server cannot make the client keep any number of parameters. Method: more than the bound.
test("bounds the number of reported parameters", () => {
  const session = loggedInClient();
  for (let index = 0; index < 1000; index++) session.receive(message("S", `name${index}\0v\0`));
  expect(() => session.nextEvent()).toThrow(protocol);
});

// Aim: startup parameters cannot smuggle others. Method: a NUL in a value.
test("refuses NUL in startup parameters", () => {
  const parameters = new Map([["user", "a\0database\0x"]]);
  expect(() => new ClientSession({ parameters, askTls: false, nonce: "n" })).toThrow(RangeError);
  expect(packet(0x30000, "user\0user\0\0")).toEqual(startup({ user: "user" }));
});
