/**
 * Tokens: one row a way to be right or wrong.
 */
import { createHmac, createPrivateKey, createPublicKey, generateKeyPairSync, sign } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { expect, test } from "vitest";
import { jwtAuthenticator } from "../src/index.js";

const TENANT = "0123456789abcdef0123456789abcdef";
const NOW_SECONDS = 1_700_000_000;

/** A fixed Ed25519 key: PKCS#8 is this prefix and the 32-byte seed. */
function privateKey(seed: number): KeyObject {
  const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), Buffer.alloc(32, seed)]);
  return createPrivateKey({ key: der, format: "der", type: "pkcs8" });
}

const ours = privateKey(1);
const older = privateKey(2);
const foreign = privateKey(3);
const publicKeys = [createPublicKey(ours), createPublicKey(older)];
const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");

function token(
  claims: unknown,
  key: KeyObject = ours,
  header: object = { alg: "EdDSA", typ: "JWT" },
): string {
  const signed = `${part(header)}.${part(claims)}`;
  return `${signed}.${sign(null, Buffer.from(signed), key).toString("base64url")}`;
}

const verify = (text: string, allowedScopes: readonly string[] = ["tenant", "safekeeperdata"]): unknown =>
  jwtAuthenticator({ publicKeys, allowedScopes, clock: () => NOW_SECONDS * 1000 }).verify(text);

// Aim: what is accepted, and what it says about the bearer. Method: a table of claims.
test.each([
  ["a tenant", { scope: "tenant", tenant_id: TENANT }, { scope: "tenant", tenantId: TENANT }],
  [
    "upper-case ids",
    { scope: "tenant", tenant_id: TENANT.toUpperCase() },
    { scope: "tenant", tenantId: TENANT },
  ],
  ["every tenant's data", { scope: "safekeeperdata" }, { scope: "safekeeperdata", tenantId: undefined }],
  [
    "a null tenant",
    { scope: "safekeeperdata", tenant_id: null },
    { scope: "safekeeperdata", tenantId: undefined },
  ],
  [
    "times around now",
    { scope: "safekeeperdata", nbf: NOW_SECONDS, exp: NOW_SECONDS + 1 },
    { scope: "safekeeperdata", tenantId: undefined },
  ],
])("accepts %s", (_what, claims, identity) => {
  expect(verify(token(claims))).toEqual(identity);
  expect(verify(token(claims, older))).toEqual(identity);
});

const good = { scope: "tenant", tenant_id: TENANT };

/** The same bytes in another spelling: of the last letter of a 64-byte signature only two bits count. */
function nonCanonical(text: string): string {
  return text.slice(0, -1) + String.fromCharCode(text.charCodeAt(text.length - 1) + 1);
}
const signedPart = token(good).split(".").slice(0, 2).join(".");
const hmacHeader = part({ alg: "HS256" });
const publicPem = createPublicKey(ours).export({ type: "spki", format: "pem" });
const hmacSignature = createHmac("sha256", publicPem)
  .update(`${hmacHeader}.${part(good)}`)
  .digest("base64url");

// Aim: everything else is refused with one code and 28P01, whatever is wrong. Method: a table of tokens.
test.each([
  ["empty", "", "three parts"],
  ["garbled", "abc", "three parts"],
  ["four parts", `${token(good)}.x`, "three parts"],
  ["a tenant without tenant_id", token({ scope: "tenant" }), "needs a tenant_id"],
  ["a short tenant_id", token({ ...good, tenant_id: TENANT.slice(1) }), "32 hex"],
  ["a numeric tenant_id", token({ ...good, tenant_id: 5 }), "32 hex"],
  ["an admin scope", token({ scope: "admin" }), "scope"],
  ["an upper-case scope", token({ ...good, scope: "Tenant" }), "scope"],
  ["no scope", token({ tenant_id: TENANT }), "scope"],
  ["a list of scopes", token({ ...good, scope: ["tenant"] }), "scope"],
  ["expired this second", token({ ...good, exp: NOW_SECONDS }), "expired"],
  ["not valid yet", token({ ...good, nbf: NOW_SECONDS + 1 }), "not valid yet"],
  ["exp as text", token({ ...good, exp: "9999999999" }), "exp"],
  ["claims that are a list", token([good]), "not an object"],
  ["claims that are not JSON", `${part({ alg: "EdDSA" })}.AAAA.AAAA`, "signature"],
  ["a foreign key", token(good, foreign), "signature"],
  ["no signature", `${signedPart}.`, "base64url"],
  ["a short signature", `${signedPart}.AAAA`, "wrong length"],
  ["alg none", `${part({ alg: "none" })}.${part(good)}.`, "EdDSA"],
  ["alg none, signed", token(good, ours, { alg: "none" }), "EdDSA"],
  ["alg in lower case", token(good, ours, { alg: "eddsa" }), "EdDSA"],
  ["no alg", token(good, ours, {}), "EdDSA"],
  ["the public key as an HMAC secret", `${hmacHeader}.${part(good)}.${hmacSignature}`, "EdDSA"],
  ["a critical extension", token(good, ours, { alg: "EdDSA", crit: ["exp"] }), "critical"],
  ["bits behind the signature's end", nonCanonical(token(good)), "base64url"],
  ["padded base64", `${token(good)}==`, "base64url"],
  ["standard base64 letters", token(good).replace(/^./, "+"), "base64url"],
])("refuses a token: %s", (_what, text, reason) => {
  expect(() => verify(text)).toThrow(expect.objectContaining({ code: "ERR_WIRE_AUTH", sqlstate: "28P01" }));
  expect(() => verify(text)).toThrow(reason);
});

// Aim: changing any one character of a token invalidates it. Method: all of them, one after the other.
test("every character of a token counts", () => {
  const text = token(good);
  for (let index = 0; index < text.length; index++) {
    const replacement = text[index] === "A" ? "B" : "A";
    const changed = text.slice(0, index) + replacement + text.slice(index + 1);
    expect(() => verify(changed), `character ${index}`).toThrow(
      expect.objectContaining({ code: "ERR_WIRE_AUTH" }),
    );
  }
});

// Aim: a listener lets in the scopes it was told and no others. Method: a listener for tenants only.
test("a scope for another listener is refused", () => {
  expect(() => verify(token({ scope: "safekeeperdata" }), ["tenant"])).toThrow("scope is not allowed here");
});

// Aim: misconfiguration is noticed at once. Method: no key, a private key, a key of another kind.
test("refuses keys that cannot verify EdDSA", () => {
  const rsa = generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey;
  for (const keys of [[], [ours], [rsa]]) {
    expect(() => jwtAuthenticator({ publicKeys: keys, allowedScopes: [] })).toThrow(RangeError);
  }
});
