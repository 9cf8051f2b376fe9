/**
 * Checks JSON Web Tokens (RFC 7519, compact JWS of RFC 7515) signed with Ed25519, through node:crypto alone.
 *
 * Exactly one algorithm is accepted, EdDSA of RFC 8037, and it is decided by the keys and not by the token: `none`,
 * HMAC with a public key as the secret, and any other confusion end before a signature is looked at. Every part must
 * be canonical base64url, so that a token has one spelling. Claims are those of Neon's safekeeper: `scope`,
 * `tenant_id`, and the registered `exp` and `nbf`; a token without `exp` does not expire, as service tokens there do
 * not.
 */
import { verify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import type { Authenticator, Identity } from "./authenticator.js";
import { WireError } from "./errors.js";
import { SQLSTATE } from "./sqlstate.js";

/** How a token is checked. */
export interface JwtOptions {
  /** Ed25519 public keys; a token passes if any of them made its signature, so that keys can be rotated. */
  readonly publicKeys: readonly KeyObject[];
  /** Scopes this listener lets in; all others are refused. */
  readonly allowedScopes: readonly string[];
  /** Unix milliseconds; Date.now by default. */
  readonly clock?: () => number;
}

const SIGNATURE_BYTES = 64; // Ed25519, RFC 8032
const TENANT_SCOPE = "tenant";
const TENANT_ID = /^[0-9a-f]{32}$/i;
const BASE64URL = /^[A-Za-z0-9_-]+$/;

/**
 * An authenticator for connections whose password is a JWT.
 *
 * @throws {RangeError} without a key, or with a key that is not an Ed25519 public key
 */
export function jwtAuthenticator(options: JwtOptions): Authenticator {
  const keys = [...options.publicKeys];
  const scopes = new Set(options.allowedScopes);
  const clock = options.clock ?? Date.now;
  if (keys.length === 0) throw new RangeError("at least one public key is needed");
  for (const key of keys) {
    if (key.type !== "public" || key.asymmetricKeyType !== "ed25519") {
      throw new RangeError("a JWT key must be an Ed25519 public key");
    }
  }
  return {
    verify: (token: string): Identity => {
      const claims = verifiedClaims(token, keys);
      checkTimes(claims, clock() / 1000);
      return identityOf(claims, scopes);
    },
  };
}

/** The claims of a token whose algorithm and signature are right. */
function verifiedClaims(token: string, keys: readonly KeyObject[]): Record<string, unknown> {
  const parts = token.split(".");
  const [headerText, claimsText, signatureText] = parts;
  if (
    parts.length !== 3 ||
    headerText === undefined ||
    claimsText === undefined ||
    signatureText === undefined
  ) {
    throw refused("not a compact JWS of three parts");
  }
  const header = parseObject(headerText, "header");
  if (header["alg"] !== "EdDSA") throw refused("algorithm is not EdDSA");
  if ("crit" in header) throw refused("critical header extensions are not supported");
  const signature = decodePart(signatureText, "signature");
  if (signature.length !== SIGNATURE_BYTES) throw refused("signature has the wrong length");
  const signed = Buffer.from(`${headerText}.${claimsText}`);
  if (!keys.some((key) => verify(null, signed, key, signature))) throw refused("signature does not match");
  return parseObject(claimsText, "claims");
}

function checkTimes(claims: Record<string, unknown>, nowSeconds: number): void {
  const expires = numericDate(claims, "exp");
  const notBefore = numericDate(claims, "nbf");
  if (expires !== undefined && nowSeconds >= expires) throw refused("token has expired");
  if (notBefore !== undefined && nowSeconds < notBefore) throw refused("token is not valid yet");
}

function identityOf(claims: Record<string, unknown>, scopes: ReadonlySet<string>): Identity {
  const scope = claims["scope"];
  const tenantId = claims["tenant_id"];
  if (typeof scope !== "string" || !scopes.has(scope)) throw refused("scope is not allowed here");
  if (tenantId === undefined || tenantId === null) {
    if (scope === TENANT_SCOPE) throw refused("scope tenant needs a tenant_id");
    return { scope, tenantId: undefined };
  }
  if (typeof tenantId !== "string" || !TENANT_ID.test(tenantId))
    throw refused("tenant_id is not 32 hex digits");
  return { scope, tenantId: tenantId.toLowerCase() };
}

function numericDate(claims: Record<string, unknown>, name: string): number | undefined {
  const value = claims[name];
  if (value === undefined) return undefined;
  if (typeof value !== "number" || !Number.isFinite(value)) throw refused(`${name} is not a number`);
  return value;
}

function parseObject(part: string, what: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(decodePart(part, what)));
  } catch (error) {
    if (error instanceof WireError) throw error;
    throw refused(`${what} is not JSON`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw refused(`${what} is not an object`);
  return { ...value };
}

function decodePart(part: string, what: string): Buffer {
  const bytes = BASE64URL.test(part) ? Buffer.from(part, "base64url") : undefined;
  if (bytes === undefined || bytes.toString("base64url") !== part) throw refused(`${what} is not base64url`);
  return bytes;
}

function refused(reason: string): WireError {
  return new WireError("ERR_WIRE_AUTH", `token refused: ${reason}`, { sqlstate: SQLSTATE.invalidPassword });
}
