/**
 * Password proofs against published vectors, and what a client must refuse from a server.
 */
import { readFileSync } from "node:fs";
import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { expect, test } from "vitest";
import { tlsServerEndPoint } from "../src/channel-binding.js";
import { saslPrep } from "../src/saslprep.js";
import { md5Password, SCRAM_ITERATIONS_MAX, ScramClient } from "../src/scram.js";

// The dialog of RFC 7677, section 3 (that of RFC 5802 is for SHA-1, which PostgreSQL does not speak).
const NONCE = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE = `${NONCE}%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0`;
const SERVER_FIRST = `r=${SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`;
const PROOF = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
const example = (): ScramClient =>
  new ScramClient({ password: "pencil", nonce: NONCE, binding: "none", user: "user" });

// Aim: the computation is the standard's. Method: its example dialog, every message.
test("agrees with the example of RFC 7677", () => {
  const client = example();
  expect(client.first()).toBe(`n,,n=user,r=${NONCE}`);
  expect(client.final(SERVER_FIRST)).toBe(`c=biws,r=${SERVER_NONCE},p=${PROOF}`);
  expect(client.verified).toBe(false);
  client.verify(SERVER_FINAL);
  expect(client.verified).toBe(true);
});

// Aim: a server that does not know the password is found out. Method: wrong, short, missing signatures, an error.
test.each([
  ["a wrong signature", "v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "ERR_WIRE_AUTH"],
  ["a short signature", "v=AAAA", "ERR_WIRE_AUTH"],
  ["an error", "e=invalid-proof", "ERR_WIRE_AUTH"],
  ["nothing", "", "ERR_WIRE_PROTOCOL"],
  ["no base64", "v=!", "ERR_WIRE_PROTOCOL"],
])("refuses a server that sends %s", (_what, serverFinal, code) => {
  const client = example();
  client.final(SERVER_FIRST);
  expect(() => client.verify(serverFinal)).toThrow(expect.objectContaining({ code }));
  expect(client.verified).toBe(false);
});

// Aim: a signature before the challenge proves nothing. Method: verify as the first step.
test("refuses a server that skips the challenge", () => {
  expect(() => example().verify(SERVER_FINAL)).toThrow(
    expect.objectContaining({ code: "ERR_WIRE_PROTOCOL" }),
  );
});

// Aim: malformed, replayed or absurd challenges are refused before anything is computed. Method: a table.
test.each([
  ["empty", ""],
  ["a foreign nonce", SERVER_FIRST.replace("r=rO", "r=xx")],
  ["only our nonce", `r=${NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`],
  ["no salt", `r=${SERVER_NONCE},s=,i=4096`],
  ["a salt that is not base64", `r=${SERVER_NONCE},s=*,i=4096`],
  ["a huge salt", `r=${SERVER_NONCE},s=${"AAAA".repeat(500)},i=4096`],
  ["zero iterations", SERVER_FIRST.replace("4096", "0")],
  ["negative iterations", SERVER_FIRST.replace("4096", "-1")],
  ["iterations in words", SERVER_FIRST.replace("4096", "1e3")],
  ["too many iterations", SERVER_FIRST.replace("4096", String(SCRAM_ITERATIONS_MAX + 1))],
  ["a mandatory extension", `m=x,${SERVER_FIRST}`],
])("refuses a challenge: %s", (_what, serverFirst) => {
  expect(() => example().final(serverFirst)).toThrow(expect.objectContaining({ code: "ERR_WIRE_PROTOCOL" }));
});

// Aim: what is said about channel binding, and that it is repeated under the proof. Method: the three cases.
test("repeats the channel binding in the final message", () => {
  const data = Buffer.from("certificate hash");
  const cases = [
    ["none", "n,,", "n,,"],
    ["unoffered", "y,,", "y,,"],
    [{ tlsServerEndPoint: data }, "p=tls-server-end-point,,", `p=tls-server-end-point,,${data.toString()}`],
  ] as const;
  for (const [binding, header, repeated] of cases) {
    const client = new ScramClient({ password: "x", nonce: NONCE, binding });
    expect(client.first()).toBe(`${header}n=,r=${NONCE}`);
    expect(client.final(SERVER_FIRST)).toMatch(`c=${Buffer.from(repeated).toString("base64")},`);
  }
});

// Aim: passwords are prepared as both ends of PostgreSQL do. Method: the examples of RFC 4013 and the fallbacks.
test.each([
  ["I\u00adX", "IX"],
  ["user", "user"],
  ["USER", "USER"],
  ["\u00aa", "a"],
  ["\u2168", "IX"],
  ["a\u00a0b", "a b"],
  ["\u0007", "\u0007"], // prohibited: used as it is
  ["\u0627\u0031", "\u0627\u0031"], // bidirectional rule: used as it is
  ["\u0627\u0031\u0628", "\u0627\u0031\u0628"],
  ["\u0627a\u2168", "\u0627a\u2168"], // right-to-left mixed with left-to-right: as it is, not normalised
  ["\u00ad", "\u00ad"], // nothing would be left: used as it is
  ["\u{1f418}\u2168", "\u{1f418}IX"],
])("prepares %j as %j", (password, prepared) => {
  expect(saslPrep(password)).toBe(prepared);
});

// Aim: md5 as PostgreSQL spells it. Method: a value computed with Python's hashlib.
test("md5 hashes password, user and salt", () => {
  expect(md5Password("user", "pencil", Buffer.from([1, 2, 3, 4]))).toBe(
    "md54376eb6913b38f9aaff38dc7cf19ca76",
  );
});

// Aim: the hash of a certificate follows its signature's. Method: certificates of several kinds, hashes computed with
// the openssl command; Ed25519 has none, and broken DER gives none instead of an error.
test.each([
  ["server.crt", "3f6abe3897e225dff34c33df84ecb92464165d9b91795d952422c0e2e51b9ad9"],
  [
    "rsa-sha384.crt",
    "0600ea9816a9f242756580e46ee6ac5c9a090fea8c089a9d183fe7315c00c00c7688bf52f03a73f29c7008bf60cb02b9",
  ],
  [
    "rsa-pss-sha512.crt",
    "9b37de748a3ae78876fb3f1ae4c9629f7862d0bbe61e72dac571322ba3ff3e1b06f324960caa8c3d6c6cc25b0a458c1beb85c7b2ce19006c57b45ed1f0e25942",
  ],
  ["rsa-sha1.crt", "0ee58589d2381cf93c38ba95ed156c5b11d29acb6502ac8cb86172999abe7195"],
  ["ed25519.crt", undefined],
])("channel binding of %s", (name, expected) => {
  const { raw } = new X509Certificate(readFileSync(join(import.meta.dirname, "fixtures", name)));
  expect(tlsServerEndPoint(raw)?.toString("hex")).toBe(expected);
  for (let cut = 0; cut < 40; cut++) expect(tlsServerEndPoint(raw.subarray(0, cut))).toBeUndefined();
});
