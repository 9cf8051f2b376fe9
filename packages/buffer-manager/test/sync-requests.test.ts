/**
 * Which forks a checkpoint syncs: all that anybody has written to, and not before their writes.
 */
import { rmSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { checkpoint } from "../src/checkpoint.js";
import { Extender } from "../src/extend.js";
import { SYNC_SETS, SYNC_WAYS } from "../src/layout.js";
import { releaseSyncs, SyncRequests } from "../src/sync-requests.js";
import { FORK, hashTag } from "../src/tag.js";
import type { Relation } from "../src/tag.js";
import type { Waiting } from "../src/waiting.js";
import { OTHER, TABLE, WriteWorld } from "./write-world.js";

const options = { aio: { method: "sync" } } as const;

function run(world: WriteWorld): number {
  return world.context.waiter.run(checkpoint(world.parts, { isImmediate: true })).syncs;
}

function syncs(world: WriteWorld): string[] {
  return world.take().filter((event) => event.startsWith("sync"));
}

/** So many relations whose forks share a set. */
function crowd(count: number): Relation[] {
  const set = (relation: Relation): number => hashTag(relation, FORK.main, 0) & (SYNC_SETS - 1);
  const relations: Relation[] = [];
  for (let number = 30_000; relations.length < count; number++) {
    const relation = { ...TABLE, relation: number };
    if (set(relation) === 5) relations.push(relation);
  }
  return relations;
}

describe("a checkpoint", () => {
  test("syncs what it and others have written and extended, after the writes, once", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 4);
    world.create(OTHER, 4);
    world.create(OTHER, 1, FORK.vm);
    world.touch(OTHER, 3);
    const { context, allocator, locks, ioLocks, writer } = world.attach();
    world.flush(world.dirty(OTHER, 1, 1), world.backends[1]);
    const extender = new Extender({ context, allocator, locks, ioLocks, writer, additionalPins: () => 1 });
    const { buffers } = context.waiter.run(extender.extend(OTHER, { count: 1, fork: FORK.vm }));
    for (const buffer of buffers) context.pins.unpin(buffer);
    world.dirty(TABLE, 2, 2);
    world.take();
    expect(run(world)).toBe(3);
    const events = world.take();
    expect(events.slice(0, 2)).toEqual([`wal ${world.log.end}`, `write ${TABLE.relation}:2`]);
    expect(new Set(events.slice(2))).toEqual(
      new Set([`sync ${TABLE.relation}`, `sync ${OTHER.relation}`, `sync ${OTHER.relation}/2`]),
    );
    expect(run(world)).toBe(0);
    expect(syncs(world)).toEqual([]);
  });

  test("syncs a fork with a write that has not come back, now and after it has", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 1);
    const { syncs } = world.backend.writer;
    const entry = world.context.waiter.run(syncs.begin(TABLE, FORK.main));
    expect([run(world), run(world)]).toEqual([1, 1]);
    syncs.end(entry);
    expect([run(world), run(world)]).toEqual([1, 0]);
  });

  test("passes over forks that are gone, and stops for good when a sync fails", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 1);
    world.create(OTHER, 1);
    world.flush(world.dirty(OTHER, 0, 1));
    rmSync(world.directory.segment(OTHER, 0));
    run(world);
    expect(syncs(world)).toEqual([]);
    world.flush(world.dirty(TABLE, 0, 1));
    const { files } = world.context;
    const sync = files.sync.bind(files);
    files.sync = () => {
      throw new Error("the disk has lost it");
    };
    expect(() => run(world)).toThrow("the disk has lost it");
    files.sync = sync;
    expect(run(world), "what could not be synced is not forgotten").toBe(1);
  });
});

test("a full set makes room by syncing, and waits while all of it is being written to", async () => {
  await using world = new WriteWorld(options);
  const relations = crowd(SYNC_WAYS + 2);
  for (const relation of relations) world.create(relation, 1);
  const { waiter } = world.context;
  const { syncs: requests } = world.backend.writer;
  const begin = (index: number): number => waiter.run(requests.begin(relations[index] ?? TABLE, FORK.main));
  const entries = relations.slice(0, SYNC_WAYS).map((_, index) => begin(index));
  const flow = requests.begin(relations[SYNC_WAYS] ?? TABLE, FORK.main);
  expect(flow.next().value).toMatchObject({ kind: "word", timeoutMs: 1 });
  requests.end(entries[3] ?? -1);
  const late = waiter.run(flow);
  expect(syncs(world)).toEqual([`sync ${relations[3]?.relation}`]);
  for (const entry of [...entries.filter((_, index) => index !== 3), late]) requests.end(entry);
  expect(run(world)).toBe(SYNC_WAYS);
});

/** A write of the model. */
interface Write {
  readonly relation: Relation;
  readonly entry: number;
  readonly by: number;
  state: "begun" | "arrived" | "durable";
}

/** A sync of all that is under way, and the writes that have to be durable when it is over. */
interface Syncing {
  readonly flow: Waiting<number>;
  readonly owed: readonly Write[];
  /** What the sync of a fork that runs now will have made durable. */
  covered: readonly Write[];
}

// Aim: whatever the order, what had been written when a sync of all began is durable when it ends, also if several sync at a
// time. Method: writes begin, reach the file, and come back, of two backends; syncs go on step by step; the sync of a fork makes
// durable what had reached the file when it began, and only when it ends.
test("no write that reached its file is left out of a sync that began later", async () => {
  const step = fc.record({
    do: fc.constantFrom("begin", "begin", "arrive", "return", "sync", "go on", "go on"),
    relation: fc.nat(SYNC_WAYS + 1),
    pick: fc.nat(),
  });
  await using world = new WriteWorld(options);
  const relations = crowd(SYNC_WAYS + 2);
  const other = world.attach();
  const requests = [world.backend.writer.syncs, new SyncRequests(other.context)];
  let writes: Write[] = [];
  for (const { context } of world.backends) context.files.exists = () => true;
  const arrivedOf = ({ relation }: Relation): Write[] =>
    writes.filter((write) => write.relation.relation === relation && write.state === "arrived");
  /** Goes one step on. @returns whether the sync is over */
  const advance = (syncing: Syncing): boolean => {
    for (const write of syncing.covered) write.state = "durable";
    const next = syncing.flow.next();
    syncing.covered = next.done !== true && next.value.kind === "sync" ? arrivedOf(next.value.relation) : [];
    if (next.done !== true) return false;
    expect(syncing.owed.filter(({ state }) => state !== "durable")).toEqual([]);
    return true;
  };
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200, size: "max" }), (steps) => {
      writes = [];
      const open = new Set<number>();
      const syncs: (Syncing | undefined)[] = [undefined, undefined];
      const goOn = (by: number): void => {
        const syncing = syncs[by];
        if (syncing !== undefined && advance(syncing)) syncs[by] = undefined;
      };
      for (const { do: what, relation: at, pick } of steps) {
        const relation = relations[at] ?? TABLE;
        const by = pick & 1;
        const some = [...open][pick % Math.max(1, open.size)] ?? -1;
        const write = writes[some];
        if (what === "begin") {
          const flow = (requests[by] as SyncRequests).begin(relation, FORK.main);
          let first = flow.next();
          // Room is made by a sync, at once here.
          while (first.done !== true && first.value.kind === "sync") {
            for (const each of arrivedOf(first.value.relation)) each.state = "durable";
            first = flow.next();
          }
          // The set is full of writes, or the fork to make room is being synced: whoever begins would wait.
          if (first.done !== true) continue;
          open.add(writes.length);
          writes.push({ relation, entry: first.value, by, state: "begun" });
        } else if (what === "arrive" && write?.state === "begun") write.state = "arrived";
        else if (what === "return" && write !== undefined && write.state !== "begun") {
          requests[write.by]?.end(write.entry);
          open.delete(some);
        } else if (what === "sync" && syncs[by] === undefined) {
          const owed = writes.filter(({ state }) => state === "arrived");
          syncs[by] = { flow: (requests[by] as SyncRequests).syncAll(), owed, covered: [] };
        } else if (what === "go on") goOn(by);
      }
      while (syncs.some((syncing) => syncing !== undefined)) [0, 1].forEach(goOn);
      for (const at of open) requests[writes[at]?.by ?? 0]?.end(writes[at]?.entry ?? -1);
      world.context.waiter.run((requests[0] as SyncRequests).syncAll());
    }),
  );
});

describe("a fork that is being synced", () => {
  test("is waited for by other backends, and by a flow of the same thread that does not block it", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 1);
    const other = world.attach();
    world.flush(world.dirty(TABLE, 0, 1));
    const first = world.backend.writer.syncs.syncAll();
    expect(first.next().value).toEqual({
      kind: "sync",
      relation: expect.objectContaining(TABLE) as Relation,
      fork: 0,
    });
    const second = other.writer.syncs.syncAll();
    expect(second.next().value).toMatchObject({ kind: "word", event: "DataFileSync", isOwn: false });
    const refused = expect.objectContaining({ code: "ERR_BUFFER_WOULD_BLOCK" });
    expect(() => world.context.waiter.run(world.backend.writer.syncs.syncAll())).toThrow(refused);
    expect(second.next().value, "it still is").toMatchObject({ kind: "word" });
    expect(first.next()).toEqual({ done: true, value: 1 });
    expect(second.next(), "nothing is left to do").toEqual({ done: true, value: 0 });
  });

  test("is still to be synced if that fails, or if the thread dies", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 1);
    const other = world.attach();
    world.flush(world.dirty(TABLE, 0, 1));
    const failing = world.backend.writer.syncs.syncAll();
    failing.next();
    expect(() => failing.throw(new Error("no"))).toThrow("no");
    const dying = other.writer.syncs.syncAll();
    expect(dying.next().value).toMatchObject({ kind: "sync" });
    const { words, layout } = world.context;
    releaseSyncs(words, layout, other.context.id);
    expect([run(world), run(world)]).toEqual([1, 0]);
  });
});
