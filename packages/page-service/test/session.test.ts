/**
 * Sessions: order, batches, waits, what ends them and what does not, with a source whose answers the tests decide.
 */
import { toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { describe, expect, test } from "vitest";
import { PagestreamClient, PagestreamError, PagestreamSession, StreamEnd } from "../src/index.js";
import type { PageSource, PagestreamVersion, RelTag } from "../src/index.js";

const REL: RelTag = { spc: 1663, db: 5, rel: 16_384, fork: 0 };
const ago = (request: bigint, since = 1n) => ({
  requestLsn: toLsn(request),
  notModifiedSinceLsn: toLsn(since),
});

/** Pages that say which they are and as of when; requests stop at `gate` as long as it is closed. */
class Source implements PageSource {
  lastRecordLsn: Lsn = toLsn(1000n);
  gcCutoffLsn: Lsn = toLsn(10n);
  gate: Promise<void> = Promise.resolve();
  underWay = 0;
  most = 0;
  waits: { lsn: bigint; resolve: () => void; reject: (error: Error) => void }[] = [];

  isLeased(): boolean {
    return false;
  }

  async waitFor(lsn: Lsn, signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.waits.push({ lsn, resolve, reject });
      signal.addEventListener("abort", () => reject(signal.reason as Error));
    });
  }

  /** More WAL has come. */
  advance(lsn: bigint): void {
    this.lastRecordLsn = toLsn(lsn);
    for (const wait of this.waits.splice(0)) {
      if (wait.lsn <= lsn) wait.resolve();
      else this.waits.push(wait);
    }
  }

  async page(rel: RelTag, block: number, lsn: Lsn): Promise<Uint8Array> {
    this.underWay += 1;
    this.most = Math.max(this.most, this.underWay);
    await this.gate;
    this.underWay -= 1;
    if (block === 0xbad) throw new Error("no such block");
    if (block === 0xdead) throw new StreamEnd("shutting down");
    const page = Buffer.alloc(8192);
    page.writeUInt32BE(block, 0);
    page.writeBigUInt64BE(lsn, 8);
    page.writeUInt32BE(rel.rel, 16);
    return page;
  }

  async exists(rel: RelTag): Promise<boolean> {
    await this.gate;
    return rel.rel === REL.rel;
  }

  async relationBlocks(): Promise<number> {
    await this.gate;
    return 77;
  }

  async databaseBytes(): Promise<bigint> {
    await this.gate;
    return 2n ** 40n;
  }

  async slruSegment(): Promise<Uint8Array> {
    await this.gate;
    return new Uint8Array(2 * 8192).fill(3);
  }
}

interface Pair {
  readonly source: Source;
  readonly session: PagestreamSession;
  readonly client: PagestreamClient;
}

function pair(version: PagestreamVersion = 3, batchMax = 32): Pair {
  const source = new Source();
  const clientHolder: { client?: PagestreamClient } = {};
  const session = new PagestreamSession({
    version,
    source,
    batchMax,
    send: (message) => clientHolder.client?.receive(message),
  });
  const client = new PagestreamClient(version, (message) => session.receive(message));
  clientHolder.client = client;
  return { source, session, client };
}

const blockOf = (page: Uint8Array): number => Buffer.from(page).readUInt32BE(0);
const lsnOf = (page: Uint8Array): bigint => Buffer.from(page).readBigUInt64BE(8);
const getpage = (block: number) => ({ kind: "getpage", rel: REL, block }) as const;
const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test.each([2, 3] as const)("version %i answers every kind of question", async (version) => {
  const { client, session } = pair(version);
  expect(await client.ask({ kind: "exists", rel: REL }, ago(900n))).toEqual({ kind: "exists", exists: true });
  expect(await client.ask({ kind: "exists", rel: { ...REL, rel: 1 } }, ago(900n))).toEqual({
    kind: "exists",
    exists: false,
  });
  expect((await client.ask({ kind: "nblocks", rel: REL }, ago(900n))).blocks).toBe(77);
  expect((await client.ask({ kind: "dbsize", db: 5 }, ago(900n))).bytes).toBe(2n ** 40n);
  const slru = await client.ask({ kind: "slru", slru: 0, segment: 1 }, ago(900n));
  expect([slru.blocks, slru.data.byteLength]).toEqual([2, 16_384]);
  const { page } = await client.ask(getpage(5), ago(900n));
  expect([blockOf(page), lsnOf(page)]).toEqual([5, 900n]);
  session.finish();
  await session.done;
  expect(client.pending).toBe(0);
});

// Aim: answers come in the order of the questions, pages in batches. Method: a thousand questions at once, kinds mixed.
test("a thousand questions are answered in order, in batches of at most 32", async () => {
  const { client, session, source } = pair();
  const order: number[] = [];
  const answers = Array.from({ length: 1000 }, async (_, index) => {
    if (index % 50 === 49) await client.ask({ kind: "nblocks", rel: REL }, ago(900n));
    else expect(blockOf((await client.ask(getpage(index), ago(900n))).page)).toBe(index);
    order.push(index);
  });
  await Promise.all(answers);
  expect(order).toEqual(order.map((_, index) => index));
  expect(session.status).toEqual({ queued: 0, largestBatch: 32 });
  expect(source.most).toBe(32);
});

test("the same page as of two positions is asked for one after the other", async () => {
  const { client, session } = pair();
  const pages = await Promise.all([
    client.ask(getpage(1), ago(800n)),
    client.ask(getpage(1), ago(800n)),
    client.ask(getpage(2), ago(850n)),
    client.ask(getpage(1), ago(900n)),
    client.ask(getpage(1), ago(2000n, 950n)),
  ]);
  expect(pages.map(({ page }) => lsnOf(page))).toEqual([800n, 800n, 850n, 900n, 1000n]);
  expect(session.status.largestBatch).toBe(3);
});

describe("a request ahead of the WAL", () => {
  test("waits, is answered when the WAL comes, and lets those before it go", async () => {
    const { client, source } = pair();
    const before = client.ask(getpage(1), ago(900n));
    const ahead = client.ask(getpage(2), ago(3000n, 2000n));
    const after = client.ask(getpage(3), ago(900n));
    expect(blockOf((await before).page)).toBe(1);
    await tick();
    expect([source.waits.map(({ lsn }) => lsn), source.underWay, client.pending]).toEqual([[2000n], 0, 2]);
    source.advance(1999n);
    await tick();
    expect(client.pending).toBe(2);
    source.advance(2500n);
    expect(lsnOf((await ahead).page)).toBe(2500n);
    expect(blockOf((await after).page)).toBe(3);
  });

  test("that waits too long is an error, and the stream goes on", async () => {
    const { client, source } = pair();
    const ahead = client
      .ask(getpage(2), ago(3000n, 2000n))
      .catch((error: unknown) => (error as Error).message);
    await tick();
    source.waits[0]?.reject(new Error("timed out waiting for 0/7D0"));
    expect(await ahead).toBe("timed out waiting for 0/7D0");
    expect(blockOf((await client.ask(getpage(4), ago(900n))).page)).toBe(4);
  });

  // Aim: whoever goes away leaves nobody waiting. Method: a session that is aborted while its request waits.
  test("does not keep a session that is ended", async () => {
    const { client, session } = pair();
    const ahead = client.ask(getpage(2), ago(3000n, 2000n)).catch(() => "gone");
    await tick();
    session.abort(new Error("the client is gone"));
    await expect(session.done).rejects.toThrow("the client is gone");
    client.close();
    expect(await ahead).toBe("gone");
    expect(() => session.receive(Buffer.alloc(1))).toThrow(
      expect.objectContaining({ code: "ERR_PAGESTREAM_CLOSED" }),
    );
  });
});

test("a request that cannot be answered is an error, and the others of its batch are not", async () => {
  const { client } = pair();
  const answers = await Promise.allSettled([
    client.ask(getpage(1), ago(900n)),
    client.ask(getpage(0xbad), ago(900n)),
    client.ask(getpage(3), ago(900n)),
    client.ask(getpage(4), ago(5n)),
    client.ask(getpage(5), ago(900n, 950n)),
    client.ask(getpage(6), ago(900n)),
  ]);
  expect(answers.map(({ status }) => status)).toEqual([
    "fulfilled",
    "rejected",
    "fulfilled",
    "rejected",
    "rejected",
    "fulfilled",
  ]);
  expect(answers[1]).toMatchObject({ reason: { code: "ERR_PAGESTREAM_REMOTE" } });
  const reasons = answers.flatMap((each) =>
    each.status === "rejected" ? [(each.reason as PagestreamError).message] : [],
  );
  expect(reasons).toEqual([
    "no such block",
    expect.stringMatching(/garbage collected/),
    expect.stringMatching(/not modified since/),
  ]);
});

test("a source that cannot go on ends the stream, after the answers before", async () => {
  const { client, session } = pair();
  const first = client.ask(getpage(1), ago(900n));
  const last = client.ask(getpage(0xdead), ago(900n)).catch(() => "gone");
  expect(blockOf((await first).page)).toBe(1);
  await expect(session.done).rejects.toThrow(StreamEnd);
  client.close();
  expect(await last).toBe("gone");
});

test("what is no message ends its session and no other", async () => {
  const [bad, good] = [pair(), pair()];
  expect(() => bad.session.receive(Buffer.of(9, 9, 9))).toThrow(PagestreamError);
  await expect(bad.session.done).rejects.toThrow(PagestreamError);
  expect(blockOf((await good.client.ask(getpage(1), ago(900n))).page)).toBe(1);
});

test("a session that is behind says so, and says when it is not any more", async () => {
  const source = new Source();
  let open = (): void => undefined;
  source.gate = new Promise((resolve) => {
    open = resolve;
  });
  let drained = 0;
  let sent = 0;
  const session = new PagestreamSession({
    version: 2,
    source,
    send: () => void (sent += 1),
    onDrain: () => (drained += 1),
  });
  const asked: Buffer[] = [];
  const client = new PagestreamClient(2, (message) => asked.push(message));
  for (let block = 0; block < 300; block += 1)
    void client.ask(getpage(block), ago(900n)).catch(() => undefined);
  let taken = 0;
  while (taken < asked.length && session.receive(asked[taken] ?? Buffer.alloc(0))) taken += 1;
  expect([taken, drained]).toEqual([255, 0]);
  open();
  session.finish();
  await session.done;
  expect([sent, drained]).toEqual([256, 1]);
  client.close();
});

test("an answer that is another's is noticed", async () => {
  const sent: Buffer[] = [];
  const client = new PagestreamClient(3, (message) => sent.push(message));
  const asked = client.ask(getpage(1), ago(900n)).catch((error: unknown) => (error as PagestreamError).code);
  const source = new Source();
  const answers: Buffer[] = [];
  const session = new PagestreamSession({
    version: 3,
    source,
    send: (message) => void answers.push(message),
  });
  const other = new PagestreamClient(3, (message) => void session.receive(message));
  void other.ask(getpage(2), ago(900n)).catch(() => undefined);
  session.finish();
  await session.done;
  expect(() => client.receive(answers[0] ?? Buffer.alloc(0))).toThrow(PagestreamError);
  expect(await asked).toBe("ERR_PAGESTREAM_FRAME");
  await expect(client.ask(getpage(1), ago(900n))).rejects.toThrow(PagestreamError);
  other.close();
});

test.each([0, 33, 1.5])("batches of %f pages are refused", (batchMax) => {
  expect(() => pair(3, batchMax)).toThrow(RangeError);
});
