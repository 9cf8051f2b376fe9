/**
 * Public keys for JSON Web Tokens, and the check of an Authorization header.
 *
 * What a token must look like is pg-wire's business, so that the WAL port and the HTTP port accept the same tokens; here
 * is where keys are read from and what a bearer may do: a token of scope `tenant` reads its own tenant's timelines,
 * one of scope `safekeeperdata` does everything.
 */
import { createPublicKey } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

import { jwtAuthenticator } from "@millrace/pg-wire";
import type { Authenticator, Identity } from "@millrace/pg-wire";

import { describeError, ServerError } from "../errors.js";

/** May create, list and delete timelines of every tenant. */
const OPERATOR_SCOPE = "safekeeperdata";
const TENANT_SCOPE = "tenant";
/** Rotation needs two keys; a directory with more than this is not a directory of keys. */
const KEYS_MAX = 32;

function readKey(path: string): KeyObject {
  const key = createPublicKey(readFileSync(path));
  if (key.asymmetricKeyType !== "ed25519") throw new TypeError("it is not an Ed25519 key");
  return key;
}

/**
 * The keys in the PEM file at `path`, or in all files of the directory at `path`.
 *
 * @param option the option's flag, for the message
 * @throws {ServerError} ERR_SERVER_OPTION when one cannot be read or there is none
 */
export function loadPublicKeys(option: string, path: string): KeyObject[] {
  try {
    if (!statSync(path).isDirectory()) return [readKey(path)];
    const names = readdirSync(path).sort();
    if (names.length === 0 || names.length > KEYS_MAX) {
      throw new RangeError(`the directory holds ${names.length} files; 1 to ${KEYS_MAX} keys are expected`);
    }
    return names.map((name) => readKey(join(path, name)));
  } catch (cause) {
    throw new ServerError("ERR_SERVER_OPTION", `--${option} ${path}: ${describeError(cause)}`, { cause });
  }
}

/** Checks tokens against the keys at `path`; undefined without a path: everybody is trusted. */
export function authenticatorFor(option: string, path: string | undefined): Authenticator | undefined {
  if (path === undefined) return undefined;
  return jwtAuthenticator({
    publicKeys: loadPublicKeys(option, path),
    allowedScopes: [OPERATOR_SCOPE, TENANT_SCOPE],
  });
}

/** The bearer of a header, or undefined when there is no valid token. */
export function identify(authenticator: Authenticator, header: string | undefined): Identity | undefined {
  const token = /^Bearer ([A-Za-z0-9_.-]+)$/.exec(header ?? "")?.[1];
  if (token === undefined) return undefined;
  try {
    return authenticator.verify(token);
  } catch {
    return undefined;
  }
}

/** Whether the bearer may read this tenant's timelines. */
export function mayRead(identity: Identity, tenantId: string): boolean {
  return identity.scope === OPERATOR_SCOPE || identity.tenantId === tenantId;
}

/** Whether the bearer may see every tenant and change anything. */
export function mayOperate(identity: Identity): boolean {
  return identity.scope === OPERATOR_SCOPE;
}
