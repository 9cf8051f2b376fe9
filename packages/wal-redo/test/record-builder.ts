/**
 * Records made by hand, for what no server can be made to write on demand.
 */
import { toLsn } from "@millrace/lsn";
import { WalRecord } from "@millrace/wal-decoder";

export interface BlockSpec {
  readonly id: number;
  readonly rel?: number;
  readonly fork?: number;
  readonly block?: number;
  readonly willInit?: boolean;
  readonly data?: Uint8Array;
  /** A whole page that is to be applied. */
  readonly image?: Uint8Array;
}

export interface RecordSpec {
  readonly rmid: number;
  readonly info: number;
  readonly blocks: readonly BlockSpec[];
  readonly main?: Uint8Array;
  readonly xid?: number;
  readonly pgMajor?: number;
  readonly endLsn?: bigint;
}

/** Decodes a record with these parts; its relations are of tablespace 1663 and database 5. */
export function recordOf(spec: RecordSpec): WalRecord {
  const header: Buffer[] = [];
  const parts: Uint8Array[] = [];
  for (const { id, rel = 16_384, fork = 0, block = 0, willInit = false, data, image } of spec.blocks) {
    const flags = fork | (image ? 0x10 : 0) | (data ? 0x20 : 0) | (willInit ? 0x40 : 0);
    const fixed = Buffer.alloc(4);
    fixed[0] = id;
    fixed[1] = flags;
    fixed.writeUInt16LE(data?.byteLength ?? 0, 2);
    header.push(fixed);
    if (image !== undefined) {
      header.push(Buffer.of(image.byteLength & 255, image.byteLength >> 8, 0, 0, 2));
      parts.push(image);
    }
    const place = Buffer.alloc(16);
    for (const [index, value] of [1663, 5, rel, block].entries()) place.writeUInt32LE(value, 4 * index);
    header.push(place);
    if (data !== undefined) parts.push(data);
  }
  if (spec.main !== undefined) {
    header.push(Buffer.of(255, spec.main.byteLength));
    parts.push(spec.main);
  }
  const bytes = Buffer.concat([Buffer.alloc(24), ...header, ...parts]);
  bytes.writeUInt32LE(bytes.byteLength, 0);
  bytes.writeUInt32LE(spec.xid ?? 700, 4);
  bytes[16] = spec.info;
  bytes[17] = spec.rmid;
  const endLsn = spec.endLsn ?? 0x1_0000_2000n;
  return new WalRecord(spec.pgMajor ?? 15).decodeBytes(bytes, {
    startLsn: toLsn(endLsn - 512n),
    endLsn: toLsn(endLsn),
  });
}
