/**
 * The channel binding data tls-server-end-point (RFC 5929): a hash of the server's certificate, by the hash function
 * of the certificate's own signature, or SHA-256 where that is MD5 or SHA-1.
 *
 * Node 20 does not tell a certificate's signature algorithm, so the outermost two levels of its DER are read here.
 * Nothing is trusted: the bytes come from TLS, which has parsed them already, and a shape that is not understood gives
 * no channel binding rather than an error.
 */
import { createHash } from "node:crypto";

const TAG_SEQUENCE = 0x30;
const TAG_OID = 0x06;

/** Object identifiers, DER-encoded, as hex. */
const HASH_BY_SIGNATURE: ReadonlyMap<string, string> = new Map([
  ["2a864886f70d010104", "sha256"], // RSA with MD5, replaced
  ["2a864886f70d010105", "sha256"], // RSA with SHA-1, replaced
  ["2a864886f70d01010e", "sha224"],
  ["2a864886f70d01010b", "sha256"],
  ["2a864886f70d01010c", "sha384"],
  ["2a864886f70d01010d", "sha512"],
  ["2a8648ce3d0401", "sha256"], // ECDSA with SHA-1, replaced
  ["2a8648ce3d040301", "sha224"],
  ["2a8648ce3d040302", "sha256"],
  ["2a8648ce3d040303", "sha384"],
  ["2a8648ce3d040304", "sha512"],
]);
const RSA_PSS = "2a864886f70d01010a";
/** Hash functions as parameters of RSA-PSS; each is preceded by its tag and length. */
const HASH_BY_PSS_PARAMETER: readonly (readonly [string, string])[] = [
  ["0609608648016503040201", "sha256"],
  ["0609608648016503040202", "sha384"],
  ["0609608648016503040203", "sha512"],
  ["0609608648016503040204", "sha224"],
];

/**
 * The binding data for a server's certificate.
 *
 * @param certificate DER; borrowed
 * @returns undefined where none is defined (Ed25519 has no hash of its own) or the DER is not understood
 */
export function tlsServerEndPoint(certificate: Uint8Array): Buffer | undefined {
  const hash = signatureHash(Buffer.from(certificate));
  return hash === undefined ? undefined : createHash(hash).update(certificate).digest();
}

function signatureHash(der: Buffer): string | undefined {
  const outer = element(der, TAG_SEQUENCE);
  const toBeSigned = outer && element(outer.content, TAG_SEQUENCE);
  const algorithm = toBeSigned && element(toBeSigned.rest, TAG_SEQUENCE);
  const oid = algorithm && element(algorithm.content, TAG_OID);
  if (oid === undefined) return undefined;
  const name = oid.content.toString("hex");
  if (name !== RSA_PSS) return HASH_BY_SIGNATURE.get(name);
  const parameters = oid.rest.toString("hex");
  return HASH_BY_PSS_PARAMETER.find(([identifier]) => parameters.includes(identifier))?.[1] ?? "sha256";
}

interface DerElement {
  readonly content: Buffer;
  readonly rest: Buffer;
}

/** The element at the start of `bytes` if it has the tag and lies within them. */
function element(bytes: Buffer, tag: number): DerElement | undefined {
  const first = bytes[1];
  if (bytes[0] !== tag || first === undefined) return undefined;
  const lengthDigits = first & 0x80 ? first & 0x7f : 0;
  if (lengthDigits > 3 || bytes.length < 2 + lengthDigits || first === 0x80) return undefined;
  const start = 2 + lengthDigits;
  const lengthBytes = lengthDigits === 0 ? first : bytes.readUIntBE(2, lengthDigits);
  if (bytes.length < start + lengthBytes) return undefined;
  return { content: bytes.subarray(start, start + lengthBytes), rest: bytes.subarray(start + lengthBytes) };
}
