/**
 * Text that configures a connection: the `options` startup parameter, connection URLs, quoting.
 */
import { expect, test } from "vitest";
import { parseConnectionUrl, parseOptions, quoteIdentifier, quoteLiteral } from "../src/index.js";

const ID = "0123456789abcdef0123456789abcdef";

// Aim: every spelling that clients use for settings in `options`. Method: a table of texts and pairs.
test.each([
  [`-c timeline_id=${ID} tenant_id=abc`, { timeline_id: ID, tenant_id: "abc" }],
  [`-c tenant_id=abc timeline_id=${ID}`, { tenant_id: "abc", timeline_id: ID }],
  ["-c a=b -c c=d", { a: "b", c: "d" }],
  ["-ca=b --c-d=e", { a: "b", c_d: "e" }],
  ["a=b", { a: "b" }],
  ["  \t\n a=b \v\f\r ", { a: "b" }],
  ["a=b\\ c d=\\\\", { a: "b c", d: "\\" }],
  ["a=x=y", { a: "x=y" }],
  ["a=", { a: "" }],
  ["a=1 a=2", { a: "2" }],
  ["-c walacceptor.tenant_id=abc", { "walacceptor.tenant_id": "abc" }],
  ["ztenantid=a ztimelineid=b", { ztenantid: "a", ztimelineid: "b" }],
  ["-c =b -d word -- --x", {}],
  ['protocol={"type":"interpreted"}', { protocol: '{"type":"interpreted"}' }],
  ["a=b\\", { a: "b" }],
  ["a=ü\u00a0ö", { a: "ü\u00a0ö" }],
  ["", {}],
])("options %j", (text, pairs) => {
  expect(Object.fromEntries(parseOptions(text))).toEqual(pairs);
});

// Aim: no `options` is no pairs. Method: undefined.
test("absent options are empty", () => {
  expect(parseOptions(undefined).size).toBe(0);
});

// Aim: URLs as libpq reads them. Method: a table.
test.each([
  ["postgres://", { user: "postgres", host: "localhost", parameters: {} }],
  [
    "postgresql://me:p%40s%3As@db.example:6543/my%20db?application_name=a%26b&sslmode=require",
    {
      user: "me",
      password: "p@s:s",
      host: "db.example",
      port: 6543,
      database: "my db",
      ssl: "require",
      parameters: { application_name: "a&b" },
    },
  ],
  ["postgres://u:@h/", { user: "u", password: "", host: "h", parameters: {} }],
  ["postgres://u@[::1]:1/d", { user: "u", host: "::1", port: 1, database: "d", parameters: {} }],
  [
    "postgres://u@/d?host=/run/pg&port=5433",
    { user: "u", path: "/run/pg", port: 5433, database: "d", parameters: {} },
  ],
  ["postgres://u@%2Frun%2Fpg/d", { user: "u", path: "/run/pg", database: "d", parameters: {} }],
  [
    "postgres://h?user=x&password=y&dbname=z&replication=true&options=-c%20a%3Db&client_encoding=UTF8",
    {
      user: "x",
      password: "y",
      host: "h",
      database: "z",
      parameters: { replication: "true", options: "-c a=b", client_encoding: "UTF8" },
    },
  ],
  [
    "postgres://h?connect_timeout=3&sslmode=disable",
    { user: "postgres", host: "h", ssl: "disable", connectTimeoutMs: 3000, parameters: {} },
  ],
  ["postgres://h?sslmode=allow", { user: "postgres", host: "h", ssl: "prefer", parameters: {} }],
  ["postgres://h?sslmode=verify-full", { user: "postgres", host: "h", ssl: {}, parameters: {} }],
])("URL %s", (url, options) => {
  expect(parseConnectionUrl(url)).toEqual(options);
});

// Aim: verify-ca checks the chain and not the name. Method: the option's function accepts any name.
test("sslmode=verify-ca does not check the host name", () => {
  const { ssl } = parseConnectionUrl("postgres://h?sslmode=verify-ca");
  if (typeof ssl !== "object") throw new Error("no options for TLS");
  expect(ssl.rejectUnauthorized).toBeUndefined();
  expect(ssl.checkServerIdentity?.("x", {} as never)).toBeUndefined();
});

// Aim: what is not understood is refused, and the message never repeats a password. Method: a table.
test.each([
  "mysql://secret@h",
  "postgres:/secret",
  "postgres://u:secret@h:0/d",
  "postgres://u:secret@h:99999/d",
  "postgres://u:secret@h:x/d",
  "postgres://u:%zz-secret@h/d",
  "postgres://u:secret@h/d?sslmode=sometimes",
  "postgres://u:secret@h/d?sslrootcert=/x",
  "postgres://u:secret@h/d?application_name",
  "postgres://u:secret@h/d?connect_timeout=0",
  "postgres://u:secret@h1,h2/d",
  "postgres://u:secret@h/d#fragment",
  "postgres://u:sec@ret@h/d",
])("refuses the URL %s", (url) => {
  expect(() => parseConnectionUrl(url)).toThrow(expect.objectContaining({ code: "ERR_WIRE_URL" }));
  expect(() => parseConnectionUrl(url)).not.toThrow(/secret/);
});

// Aim: quoting as libpq does it. Method: a table; the real server's view is tested with the client.
test("quotes identifiers and literals", () => {
  expect(quoteIdentifier('a"b c')).toBe('"a""b c"');
  expect(quoteLiteral("it's")).toBe("'it''s'");
  expect(quoteLiteral("a\\b'")).toBe(" E'a\\\\b'''");
  expect(() => quoteIdentifier("a\0")).toThrow(TypeError);
  expect(() => quoteLiteral("a\0")).toThrow(TypeError);
});
