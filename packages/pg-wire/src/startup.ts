/**
 * The packets before a protocol is agreed on: no type byte, a length, and a code whose upper half is the protocol's
 * major version, or 1234 for the requests that are not a startup. Parsing for a server, building for a client.
 *
 * Parameters are name/value pairs of NUL-terminated UTF-8, closed by one more NUL that must be the packet's last
 * byte, as PostgreSQL's ProcessStartupPacket wants it. The caller has bounded the packet (framing.ts).
 */
import { decodeUtf8 } from "./byte-views.js";
import { protocolError } from "./errors.js";

/** Protocol 3.0 as the code of a StartupMessage. */
export const PROTOCOL_3_0 = 0x0003_0000;

const SPECIAL_MAJOR = 1234;
const CANCEL_MINOR = 5678;
const SSL_MINOR = 5679;
const GSS_MINOR = 5680;
const REQUEST_BODY_BYTES = 4; // the code alone
const CANCEL_BODY_BYTES = 12;

/** A parsed startup packet. */
export type StartupPacket =
  | { readonly type: "ssl-request" }
  | { readonly type: "gssenc-request" }
  | { readonly type: "cancel-request"; readonly processId: number; readonly secretKey: number }
  | {
      readonly type: "startup";
      readonly major: number;
      readonly minor: number;
      /** In the order of the packet; of a repeated name the last value counts. */
      readonly parameters: ReadonlyMap<string, string>;
    };

/**
 * Parses what follows the length word of a startup packet. The parameters of a major version other than 3 are not
 * looked at, as their layout is unknown.
 *
 * @param body at least 4 bytes; borrowed
 * @throws {WireError} ERR_WIRE_PROTOCOL: unknown request code, wrong length, missing terminator, invalid UTF-8
 */
export function parseStartupPacket(body: Buffer): StartupPacket {
  const major = body.readUInt16BE(0);
  const minor = body.readUInt16BE(2);
  if (major !== SPECIAL_MAJOR) {
    return { type: "startup", major, minor, parameters: major === 3 ? parseParameters(body) : new Map() };
  }
  if (minor === CANCEL_MINOR) {
    if (body.length !== CANCEL_BODY_BYTES) throw protocolError("cancel request of wrong length");
    return { type: "cancel-request", processId: body.readInt32BE(4), secretKey: body.readInt32BE(8) };
  }
  if (minor !== SSL_MINOR && minor !== GSS_MINOR) throw protocolError(`unknown request code 1234.${minor}`);
  if (body.length !== REQUEST_BODY_BYTES) throw protocolError("encryption request of wrong length");
  return { type: minor === SSL_MINOR ? "ssl-request" : "gssenc-request" };
}

/** The SSLRequest of a client. */
export function serializeSslRequest(): Buffer {
  return serializePacket(SPECIAL_MAJOR * 0x1_0000 + SSL_MINOR, Buffer.alloc(0));
}

/**
 * The StartupMessage of a client, protocol 3.0.
 *
 * @throws {RangeError} if a name or value contains a NUL
 */
export function serializeStartupMessage(parameters: ReadonlyMap<string, string>): Buffer {
  const parts: string[] = [];
  for (const [name, value] of parameters) {
    if (name === "" || `${name}${value}`.includes("\0")) throw new RangeError(`startup parameter "${name}"`);
    parts.push(name, "\0", value, "\0");
  }
  parts.push("\0");
  return serializePacket(PROTOCOL_3_0, Buffer.from(parts.join("")));
}

function serializePacket(code: number, rest: Buffer): Buffer {
  const packet = Buffer.alloc(8 + rest.length);
  packet.writeUInt32BE(packet.length, 0);
  packet.writeUInt32BE(code, 4);
  packet.set(rest, 8);
  return packet;
}

function parseParameters(body: Buffer): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>();
  let offset = REQUEST_BODY_BYTES;
  const text = (what: string): string => {
    const end = body.indexOf(0, offset);
    if (end < 0) throw protocolError(`startup packet: ${what} is not terminated`);
    const value = decodeUtf8(body.subarray(offset, end), `startup packet: ${what}`);
    offset = end + 1;
    return value;
  };
  for (;;) {
    const name = text("parameter name");
    if (name === "") break;
    parameters.set(name, text(`value of "${name}"`));
  }
  if (offset !== body.length) throw protocolError("startup packet: terminator is not the last byte");
  return parameters;
}
