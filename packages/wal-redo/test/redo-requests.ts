/**
 * Requests whose answers are known: heap pages that get a tuple with each record.
 */
import { toLsn } from "@millrace/lsn";
import { applyBlock, Page, RMGR } from "../src/index.js";
import type { PageModification, RedoRequest } from "../src/index.js";
import { recordOf } from "./record-builder.js";

const REL = 16_384;

/** A record that adds the tuple `number`, whose body says which page and tuple it is. */
function insertion(block: number, number: number): PageModification {
  const data = Buffer.alloc(13, 0);
  data.writeUInt16LE(0x0800, 2);
  data[4] = 24;
  data.writeUInt32LE(block, 6);
  data.writeUInt16LE(number, 10);
  const endLsn = BigInt(0x1000 * (number + 1));
  const main = Uint8Array.of(number, 0, 0);
  const record = recordOf({
    rmid: RMGR.heap,
    info: 0,
    blocks: [{ id: 0, rel: REL, block, data }],
    main,
    endLsn,
  });
  return { kind: "record", bytes: Uint8Array.from(record.bytes), endLsn: toLsn(endLsn) };
}

export function emptyPage(): Uint8Array {
  const page = new Page(new Uint8Array(8192));
  page.init(0);
  return page.bytes;
}

/** The block with `count` tuples. */
export function requestFor(block: number, count = 3, more: Partial<RedoRequest> = {}): RedoRequest {
  return {
    page: { spc: 1663, db: 5, rel: REL, fork: 0, block },
    lsn: toLsn(0x10_0000n),
    base: { lsn: toLsn(8n), bytes: emptyPage() },
    modifications: Array.from({ length: count }, (_, index) => insertion(block, index + 1)),
    pgMajor: 15,
    hintLsn: false,
    purpose: "read",
    ...more,
  };
}

/** A request whose only record fits no page. */
export function impossibleRequest(block: number): RedoRequest {
  return requestFor(block, 1, { modifications: [insertion(block, 9)] });
}

/** What the request is to give, replayed here. */
export async function expectedPage(request: RedoRequest): Promise<Uint8Array> {
  const { WalRecord } = await import("@millrace/wal-decoder");
  let page = request.base?.bytes ?? new Uint8Array(8192);
  for (const modification of request.modifications) {
    if (modification.kind !== "record") throw new Error("records only");
    const record = new WalRecord(request.pgMajor).decodeBytes(modification.bytes, {
      startLsn: modification.endLsn,
      endLsn: modification.endLsn,
    });
    const [ref] = record.refs;
    if (ref === undefined) throw new Error("no block");
    page = applyBlock(record, ref, page, request);
  }
  return page;
}
