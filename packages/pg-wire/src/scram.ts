/**
 * The client's half of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), and PostgreSQL's md5 scheme.
 *
 * Pure: the nonce comes from outside. The client proves its password without sending it, and then insists on the
 * server's proof: without a verified server signature there is no login. The server's nonce must extend ours, and
 * the iteration count is bounded, since it is the server that chooses how long we compute.
 *
 * Passwords are prepared with SASLprep (saslprep.ts) as libpq does it. The user name is left empty, as PostgreSQL
 * takes it from the startup message.
 */
import { createHash, createHmac, pbkdf2Sync, timingSafeEqual } from "node:crypto";
import { protocolError, WireError } from "./errors.js";
import { saslPrep } from "./saslprep.js";
import { SQLSTATE } from "./sqlstate.js";

/** Mechanism names. */
export const SCRAM_SHA_256 = "SCRAM-SHA-256";
/** The same with channel binding. */
export const SCRAM_SHA_256_PLUS = "SCRAM-SHA-256-PLUS";

/** Most iterations that are computed for a server: about a quarter second, ten times what anybody configures. */
export const SCRAM_ITERATIONS_MAX = 1_000_000;
/** Longest salt that is accepted, in bytes; PostgreSQL's has 16. */
const SALT_BYTES_MAX = 1024;

const HASH_BYTES = 32;
const PRINTABLE_NONCE = /^[\x21-\x2b\x2d-\x7e]+$/; // RFC 5802 "printable": ASCII without the comma
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/**
 * What the client says about channel binding: it has none ("none"), it could but the server did not offer it
 * ("unoffered", which lets the server detect that somebody removed the offer), or its data of type
 * tls-server-end-point.
 */
export type ChannelBinding = "none" | "unoffered" | { readonly tlsServerEndPoint: Uint8Array };

/** One login; the three steps are called in order. */
export class ScramClient {
  readonly #password: string;
  readonly #nonce: string;
  readonly #gs2Header: string;
  readonly #bindingData: Uint8Array;
  readonly #firstBare: string;
  #serverSignature: Buffer | undefined;
  #verified = false;

  /** @param nonce fresh and random for every login, printable ASCII without a comma */
  constructor(options: { password: string; nonce: string; binding: ChannelBinding; user?: string }) {
    if (!PRINTABLE_NONCE.test(options.nonce)) throw new RangeError("nonce is not printable ASCII");
    this.#password = options.password;
    this.#nonce = options.nonce;
    const bound = typeof options.binding === "object" ? options.binding.tlsServerEndPoint : undefined;
    this.#bindingData = bound ?? Buffer.alloc(0);
    this.#gs2Header =
      bound !== undefined ? "p=tls-server-end-point,," : options.binding === "unoffered" ? "y,," : "n,,";
    this.#firstBare = `n=${options.user ?? ""},r=${options.nonce}`;
  }

  /** True once the server has proved that it knows the password. */
  get verified(): boolean {
    return this.#verified;
  }

  /** client-first-message. */
  first(): string {
    return this.#gs2Header + this.#firstBare;
  }

  /**
   * client-final-message for the server-first-message.
   *
   * @throws {WireError} ERR_WIRE_PROTOCOL for a malformed message, a foreign nonce or an absurd iteration count
   */
  final(serverFirst: string): string {
    const { nonce, salt, iterations } = this.#parseServerFirst(serverFirst);
    const binding = Buffer.concat([Buffer.from(this.#gs2Header), this.#bindingData]).toString("base64");
    const withoutProof = `c=${binding},r=${nonce}`;
    const authMessage = `${this.#firstBare},${serverFirst},${withoutProof}`;
    const salted = pbkdf2Sync(saslPrep(this.#password), salt, iterations, HASH_BYTES, "sha256");
    const clientKey = hmac(salted, "Client Key");
    const proof = hmac(createHash("sha256").update(clientKey).digest(), authMessage);
    for (let index = 0; index < HASH_BYTES; index++)
      proof[index] = (proof[index] ?? 0) ^ (clientKey[index] ?? 0);
    this.#serverSignature = hmac(hmac(salted, "Server Key"), authMessage);
    return `${withoutProof},p=${proof.toString("base64")}`;
  }

  /**
   * Checks the server-final-message.
   *
   * @throws {WireError} ERR_WIRE_AUTH if the server reports an error or its signature is wrong; ERR_WIRE_PROTOCOL
   */
  verify(serverFinal: string): void {
    const attribute = serverFinal.split(",")[0] ?? "";
    if (attribute.startsWith("e=")) throw authError(`server refused: ${attribute.slice(2)}`);
    if (this.#serverSignature === undefined || !attribute.startsWith("v=")) {
      throw protocolError("malformed SCRAM server-final-message");
    }
    const signature = decodeBase64(attribute.slice(2));
    if (signature.length !== HASH_BYTES || !timingSafeEqual(signature, this.#serverSignature)) {
      throw authError("the server does not know the password: its signature is wrong");
    }
    this.#verified = true;
  }

  #parseServerFirst(text: string): { nonce: string; salt: Buffer; iterations: number } {
    const [nonceText = "", saltText = "", countText = ""] = text.split(",");
    const nonce = nonceText.slice(2);
    if (!nonceText.startsWith("r=") || !saltText.startsWith("s=") || !countText.startsWith("i=")) {
      throw protocolError("malformed SCRAM server-first-message");
    }
    if (
      !nonce.startsWith(this.#nonce) ||
      nonce.length === this.#nonce.length ||
      !PRINTABLE_NONCE.test(nonce)
    ) {
      throw protocolError("SCRAM nonce of the server does not extend the client's");
    }
    const iterations = /^i=[1-9][0-9]{0,9}$/.test(countText) ? Number(countText.slice(2)) : 0;
    if (iterations < 1 || iterations > SCRAM_ITERATIONS_MAX) {
      throw protocolError(`SCRAM iteration count "${countText.slice(2, 20)}" is not acceptable`);
    }
    const salt = decodeBase64(saltText.slice(2));
    if (salt.length === 0 || salt.length > SALT_BYTES_MAX)
      throw protocolError("SCRAM salt of unacceptable length");
    return { nonce, salt, iterations };
  }
}

/**
 * The answer to AuthenticationMD5Password: md5 over the stored hash and the salt, in PostgreSQL's spelling.
 *
 * @param salt the four bytes of the request
 */
export function md5Password(user: string, password: string, salt: Uint8Array): string {
  const stored = createHash("md5").update(password).update(user).digest("hex");
  return `md5${createHash("md5").update(stored).update(salt).digest("hex")}`;
}

function hmac(key: Uint8Array, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

function decodeBase64(text: string): Buffer {
  if (!BASE64.test(text)) throw protocolError("SCRAM value is not base64");
  return Buffer.from(text, "base64");
}

function authError(message: string): WireError {
  return new WireError("ERR_WIRE_AUTH", message, { sqlstate: SQLSTATE.invalidPassword });
}
