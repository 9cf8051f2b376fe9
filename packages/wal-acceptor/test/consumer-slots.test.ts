import type { Lsn } from "@millrace/lsn";
import { formatLsn } from "@millrace/lsn";
import { expect, test } from "vitest";

import { ConsumerSlots, SLOTS_PER_TIMELINE_MAX } from "../src/consumer-slots.js";
import { parseSlots, serializeSlots } from "../src/slot-file.js";
import { createMemoryRecords, SLOTS_RECORD } from "../src/timeline-records.js";
import type { TimelineRecords } from "../src/timeline-records.js";
import { Harness, START, walOf } from "./acceptor-harness.js";
import { FakeClock } from "./fake-clock.js";
import { at, codeOf, TENANT, thrownCode, TIMELINE } from "./fixtures.js";
import { RawClient, startup } from "./raw-client.js";
import { Source, TestReader } from "./test-reader.js";

const DAY_MS = 24 * 3600 * 1000;

async function open(records: TimelineRecords = createMemoryRecords()): Promise<{
  readonly slots: ConsumerSlots;
  readonly clock: FakeClock;
  readonly reopen: () => Promise<ConsumerSlots>;
}> {
  const clock = new FakeClock();
  const slots = await ConsumerSlots.open({ records, clock });
  return { slots, clock, reopen: () => ConsumerSlots.open({ records, clock }) };
}

// Aim: a permanent slot outlives the process, a temporary one does not outlive its connection. Method: both kinds, a
// reopening, and the end of the connection.
test("permanent slots are kept, temporary ones end with their connection", async () => {
  const { slots, reopen } = await open();
  await slots.create("archive", at(4096));
  await slots.create("temporary", at(2048), 7);
  expect(slots.horizons()).toEqual([at(4096), at(2048)]);
  expect((await reopen()).list()).toMatchObject([
    { name: "archive", restartLsn: at(4096), temporary: false },
  ]);
  slots.dropTemporary(8);
  expect(slots.size).toBe(2);
  slots.dropTemporary(7);
  expect(slots.list()).toMatchObject([{ name: "archive" }]);
  await slots.drop("archive");
  expect((await reopen()).size).toBe(0);
});

// Aim: WAL is let go only by what is on disk. Method: a consumer reports; what holds WAL back stays until the save, and
// what a crash would find is never ahead of it.
test("a reported position holds nothing back less before it is saved", async () => {
  const { slots, reopen } = await open();
  const lease = await slots.acquire("s", 1, at(1000));
  lease.advance(at(5000));
  lease.advance(at(0)); // a consumer that does not sync
  lease.advance(at(3000)); // an old report
  expect(slots.get("s")).toMatchObject({ restartLsn: at(5000), activeConnectionId: 1 });
  expect(slots.horizons()).toEqual([at(1000)]);
  expect((await reopen()).get("s")?.restartLsn).toBe(at(1000));
  expect([slots.movedBy(4001n), slots.movedBy(4000n)]).toEqual([false, true]);
  await slots.save();
  expect(slots.horizons()).toEqual([at(5000)]);
  expect((await reopen()).get("s")?.restartLsn).toBe(at(5000));
});

// Aim: a failed write changes nothing that others rely on. Method: records that fail; the slot is then not there, still
// there, or where the file says.
test("a slot changes only when its file has", async () => {
  const memory = createMemoryRecords();
  let failing = false;
  const { slots } = await open({
    read: (name) => memory.read(name),
    write: (name, bytes) => (failing ? Promise.reject(new Error("disk")) : memory.write(name, bytes)),
  });
  await slots.create("kept", at(100));
  const lease = await slots.acquire("kept", 1, at(100));
  lease.advance(at(200));
  failing = true;
  await expect(slots.create("new", at(100))).rejects.toThrow("disk");
  await expect(slots.save()).rejects.toThrow("disk");
  lease[Symbol.dispose]();
  await expect(slots.drop("kept")).rejects.toThrow("disk");
  expect(slots.list().map(({ name }) => name)).toEqual(["kept"]);
  expect(slots.horizons()).toEqual([at(100)]);
  failing = false;
  await slots.save();
  expect(slots.horizons()).toEqual([at(200)]);
});

// Aim: one connection a slot, and names that PostgreSQL would take. Method: every refusal with its code.
test("a slot in use, unknown, taken, badly named or one too many is refused", async () => {
  const { slots } = await open();
  const lease = await slots.acquire("s", 1, at(1));
  expect(await codeOf(slots.acquire("s", 2, at(1)))).toBe("ERR_ACCEPTOR_SLOT_IN_USE");
  expect(await codeOf(slots.drop("s"))).toBe("ERR_ACCEPTOR_SLOT_IN_USE");
  expect(await codeOf(slots.create("s", at(1)))).toBe("ERR_ACCEPTOR_SLOT_EXISTS");
  lease[Symbol.dispose]();
  lease[Symbol.dispose]();
  (await slots.acquire("s", 2, at(1)))[Symbol.dispose]();
  await slots.create("mine", at(1), 3);
  expect(await codeOf(slots.acquire("mine", 4, at(1)))).toBe("ERR_ACCEPTOR_SLOT_IN_USE");
  expect(await codeOf(slots.drop("mine", 4))).toBe("ERR_ACCEPTOR_SLOT_IN_USE");
  (await slots.acquire("mine", 3, at(1)))[Symbol.dispose]();
  await slots.drop("mine", 3);
  expect(await codeOf(slots.drop("none"))).toBe("ERR_ACCEPTOR_SLOT_NOT_FOUND");
  for (const name of ["", "Upper", "a-b", "x".repeat(64), "ä"])
    expect(await codeOf(slots.create(name, at(1)))).toBe("ERR_ACCEPTOR_SLOT_NAME");
  while (slots.size < SLOTS_PER_TIMELINE_MAX) await slots.create(`s${slots.size}`, at(1), 5);
  expect(await codeOf(slots.create("one_more", at(1)))).toBe("ERR_ACCEPTOR_SLOT_LIMIT");
});

// Aim: a consumer that is gone for good does not fill the disk, one that is connected keeps its place. Method: the
// clock passes seven days for an idle slot, one in use, one of a connection, and one that was used in between.
test("a slot that nobody uses for seven days is dropped", async () => {
  const { slots, clock, reopen } = await open();
  await slots.create("idle", at(1));
  await slots.create("touched", at(1));
  await slots.create("temporary", at(1), 9);
  const lease = await slots.acquire("used", 1, at(1));
  clock.advance(6 * DAY_MS);
  (await slots.acquire("touched", 2, at(1)))[Symbol.dispose]();
  expect(slots.nextExpiryMs()).toBe(3600 * 1000);
  clock.advance(DAY_MS - 1);
  expect(await slots.expire()).toEqual([]);
  expect(slots.nextExpiryMs()).toBe(1);
  clock.advance(1);
  expect(await slots.expire()).toEqual(["idle"]);
  clock.advance(30 * DAY_MS);
  expect(await slots.expire()).toEqual(["touched"]);
  expect(slots.list().map(({ name }) => name)).toEqual(["temporary", "used"]);
  expect(slots.nextExpiryMs()).toBeUndefined();
  lease[Symbol.dispose]();
  expect((await reopen()).list().map(({ name }) => name)).toEqual(["used"]);
});

// Aim: an operator's request can be repeated and never gives WAL away. Method: create, raise, repeat, lower.
test("put makes a slot or moves it forward", async () => {
  const { slots, reopen } = await open();
  for (const [lsn, expected] of [
    [100, 100],
    [300, 300],
    [300, 300],
    [200, 300],
  ] as const) {
    expect((await slots.put("s", at(lsn))).restartLsn).toBe(at(expected));
    expect((await reopen()).horizons()).toEqual([at(expected)]);
  }
});

// Aim: a damaged file is noticed. Method: what was written comes back; every other document is refused.
test("the file of slots reads back what was written, and nothing else", async () => {
  const records = [
    { name: "a", restartLsn: at(2n ** 63n), lastActiveMs: 12 },
    { name: "b", restartLsn: at(0), lastActiveMs: 0 },
  ];
  expect(parseSlots(serializeSlots(records))).toEqual(records);
  for (const text of [
    "",
    "[]",
    "null",
    '{"version":2,"slots":[]}',
    '{"version":1,"slots":{}}',
    '{"version":1,"slots":[1]}',
    '{"version":1,"slots":[{"name":"a","restart_lsn":"x","last_active_ms":1}]}',
    '{"version":1,"slots":[{"name":"a","restart_lsn":"0/1"}]}',
  ]) {
    expect(thrownCode(() => parseSlots(Buffer.from(text)))).toBe("ERR_ACCEPTOR_RECORDS_CORRUPT");
  }
  const damaged = createMemoryRecords();
  await damaged.write(SLOTS_RECORD, Buffer.from("x"));
  expect(await codeOf(open(damaged))).toBe("ERR_ACCEPTOR_RECORDS_CORRUPT");
});

async function login(harness: Harness): Promise<RawClient> {
  const client = new RawClient(harness.raw().client);
  client.write(startup({ options: `-c tenant_id=${TENANT} timeline_id=${TIMELINE}` }));
  await client.until("Z");
  return client;
}

// Aim: stock clients get the answers they check column by column, and slots are on disk when they have. Method: both
// syntaxes of creation, every message; a restart of the node; what a stream reports is there after it.
test("slots are made, read, used and dropped by command, and survive a restart", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(10));
  await source.write(source.wal.endLsn, source.wal.endLsn);
  const end = formatLsn(source.wal.endLsn);
  const client = await login(harness);
  const made = (name: string): string[] => [
    "T(slot_name:25 consistent_point:25 snapshot_name:25 output_plugin:25)",
    `D('${name}' '0/0' NULL NULL)`,
    "C(CREATE_REPLICATION_SLOT)",
    "Z(I)",
  ];
  expect(await client.query('CREATE_REPLICATION_SLOT "kept" PHYSICAL (RESERVE_WAL)')).toEqual(made("kept"));
  expect(await client.query("CREATE_REPLICATION_SLOT lazy PHYSICAL")).toEqual(made("lazy"));
  expect(await client.query("CREATE_REPLICATION_SLOT t TEMPORARY PHYSICAL RESERVE_WAL")).toEqual(made("t"));
  expect(await client.query("CREATE_REPLICATION_SLOT kept PHYSICAL")).toEqual([
    'E(ERROR 42710 replication slot "kept" already exists)',
    "Z(I)",
  ]);
  const row = async (name: string): Promise<string | undefined> =>
    (await client.query(`READ_REPLICATION_SLOT ${name}`))[1];
  expect(await row("kept")).toBe(`D('physical' '${end}' '1')`);
  expect(await row("lazy")).toBe("D('physical' NULL NULL)");
  expect(await row("t")).toBe(`D('physical' '${end}' '1')`);
  expect(await row("none")).toBe("D(NULL NULL NULL)");
  expect(await client.query("DROP_REPLICATION_SLOT t")).toEqual(["C(DROP_REPLICATION_SLOT)", "Z(I)"]);
  expect(await client.query("DROP_REPLICATION_SLOT t")).toEqual([
    'E(ERROR 42704 replication slot "t" does not exist)',
    "Z(I)",
  ]);

  const reader = await TestReader.start(
    harness,
    `START_REPLICATION SLOT "lazy" ${formatLsn(START)} TIMELINE 1`,
  );
  await reader.data();
  expect(await client.query(`START_REPLICATION SLOT lazy ${formatLsn(START)}`)).toEqual([
    expect.stringMatching(/^E\(ERROR 55006 replication slot "lazy" is active for PID \d+\)$/),
    "Z(I)",
  ]);
  const { slots, senders } = source.timeline.readers;
  const reported = source.wal.boundaries[5] as Lsn;
  const { version } = senders.changes;
  reader.status(reported);
  await senders.changes.changed(version);
  expect(slots.get("lazy")?.restartLsn).toBe(reported);
  // More than there is here: the report of a confused client, or of one from a diverged log.
  const again = senders.changes.version;
  reader.status((source.wal.endLsn + 8n) as Lsn);
  await senders.changes.changed(again);
  expect(slots.get("lazy")?.restartLsn).toBe(reported);
  await reader.close();
  await source.proposer.client.close();
  await harness.reopen();
  const reopened = harness.node.timelines.get(TENANT, TIMELINE).readers.slots.list();
  expect(reopened).toMatchObject([
    { name: "kept", restartLsn: source.wal.endLsn },
    { name: "lazy", restartLsn: reported, activeConnectionId: undefined },
  ]);
});

// Aim: a temporary slot needs no clean-up by its user. Method: a connection makes one and goes, in each way to go.
test.each(["close", "destroy"] as const)(
  "a temporary slot is gone after %s of its connection",
  async (how) => {
    await using harness = await Harness.open();
    const source = await Source.open(harness, walOf(2));
    const { client, served } = await harness.connect();
    await client.query("CREATE_REPLICATION_SLOT t TEMPORARY PHYSICAL (RESERVE_WAL)");
    expect(source.timeline.readers.slots.size).toBe(1);
    await client[how]();
    await served;
    expect(source.timeline.readers.slots.size).toBe(0);
  },
);
