/**
 * Bodies of the messages that a server sends, as far as they have a structure. Every function throws a protocol error
 * for a body that is shorter than it says; bytes after the last field are ignored, as libpq does. Bodies are borrowed:
 * the strings are copies. The counterparts that write these bodies are in messages.ts; errors have a file of their
 * own, error-response.ts.
 */
import { protocolError } from "./errors.js";

/** Bytes of a column after its name: table, column number, type, length, modifier, format. */
const COLUMN_TAIL_BYTES = 18;

/** The names of an AuthenticationSASL request. */
export function parseMechanisms(data: Buffer): readonly string[] {
  const names: string[] = [];
  for (let offset = 0; data[offset] !== 0;) {
    const name = cString(data, offset);
    names.push(name.text);
    offset = name.next;
  }
  return names;
}

/** The column names of a RowDescription; types and formats are not looked at, as all text is. */
export function parseRowDescription(body: Buffer): readonly string[] {
  if (body.length < 2) throw protocolError("RowDescription is too short");
  const names: string[] = [];
  let offset = 2;
  for (let left = body.readUInt16BE(0); left > 0; left--) {
    const name = cString(body, offset);
    names.push(name.text);
    offset = name.next + COLUMN_TAIL_BYTES;
    if (offset > body.length) throw protocolError("RowDescription is too short");
  }
  return names;
}

/** The values of a DataRow in text format; bytes that are not UTF-8 become replacement characters. */
export function parseDataRow(body: Buffer): readonly (string | null)[] {
  if (body.length < 2) throw protocolError("DataRow is too short");
  const values: (string | null)[] = [];
  let offset = 2;
  for (let left = body.readUInt16BE(0); left > 0; left--) {
    if (offset + 4 > body.length) throw protocolError("DataRow is too short");
    const lengthBytes = body.readInt32BE(offset);
    offset += 4;
    if (lengthBytes === -1) {
      values.push(null);
      continue;
    }
    if (lengthBytes < 0 || offset + lengthBytes > body.length)
      throw protocolError("DataRow value is too long");
    values.push(body.toString("utf8", offset, offset + lengthBytes));
    offset += lengthBytes;
  }
  return values;
}

/** The NUL-terminated string at `offset`, and where the next one starts. */
export function cString(body: Buffer, offset: number): { readonly text: string; readonly next: number } {
  const end = offset > body.length ? -1 : body.indexOf(0, offset);
  if (end < 0) throw protocolError("string is not terminated");
  return { text: body.toString("utf8", offset, end), next: end + 1 };
}
