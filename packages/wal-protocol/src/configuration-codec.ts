/**
 * Membership configurations on the wire: u32 generation, then the members and the new members, each as a u32 count
 * of (u64 node id, NUL-terminated host, u16 port). Version 3 only. A parsed configuration has been checked.
 */
import { Buffer } from "node:buffer";
import type { ByteReader } from "./byte-reader.js";
import type { ByteWriter } from "./byte-writer.js";
import { checkConfiguration } from "./configuration.js";
import type { Configuration, Member } from "./configuration.js";

const MEMBER_BYTES_MIN = 8 + 1 + 2; // with an empty host

export function readConfiguration(reader: ByteReader): Configuration {
  const generation = reader.u32();
  const members = readMembers(reader);
  const configuration = { generation, members, newMembers: readMembers(reader) };
  checkConfiguration(configuration);
  return configuration;
}

export function configurationBytes(configuration: Configuration): number {
  let total = 12;
  for (const set of [configuration.members, configuration.newMembers]) {
    for (const member of set) total += MEMBER_BYTES_MIN + Buffer.byteLength(member.host);
  }
  return total;
}

export function writeConfiguration(writer: ByteWriter, configuration: Configuration): void {
  writer.u32(configuration.generation);
  for (const set of [configuration.members, configuration.newMembers]) {
    writer.u32(set.length);
    for (const member of set) {
      if (member.host.includes("\0")) throw new RangeError("a host cannot contain NUL");
      writer.u64(member.nodeId).copy(Buffer.from(member.host)).u8(0).u16(member.port);
    }
  }
}

function readMembers(reader: ByteReader): Member[] {
  const count = reader.count(MEMBER_BYTES_MIN, "members");
  const members: Member[] = [];
  for (let index = 0; index < count; index += 1) {
    members.push({ nodeId: reader.u64(), host: reader.string(), port: reader.u16() });
  }
  return members;
}
