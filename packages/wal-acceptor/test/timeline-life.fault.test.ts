/**
 * Timelines as directories over a disk that loses unsynced names and bytes, or fails one call: after every crash and
 * every error a timeline is there as a whole or not at all, what was reported holds, and nothing else is harmed.
 */
import type { Lsn } from "@millrace/lsn";
import { expect, test } from "vitest";

import { AcceptorNode } from "../src/acceptor-node.js";
import type { AcceptorError } from "../src/errors.js";
import type { Timeline } from "../src/timeline.js";
import { FakeClock } from "./fake-clock.js";
import { codeOf, seededRandom, SYSTEM_ID, TENANT, TIMELINE } from "./fixtures.js";
import { MemoryFileSystem, systemError } from "./memory-file-system.js";
import type { Call } from "./memory-file-system.js";
import { MIB } from "./wal-stream.js";

const DIRECTORY = "/data";
const NEIGHBOUR = "0000000000000000000000000000000b";
const START = BigInt(3 * MIB + 40) as Lsn;
const SEEDS = [1, 2, 3, 4];

/** A disk with a node on it, and what the node said about failed syncs. */
class World implements AsyncDisposable {
  readonly fileSystem: MemoryFileSystem = new MemoryFileSystem(DIRECTORY);
  readonly fatal: Error[] = [];
  node: AcceptorNode | undefined;

  get timelines(): AcceptorNode["timelines"] {
    if (this.node === undefined) throw new Error("no node is open");
    return this.node.timelines;
  }

  async open(): Promise<void> {
    this.node = await AcceptorNode.open({
      directory: DIRECTORY,
      nodeId: 1n,
      clock: new FakeClock(),
      fileSystem: this.fileSystem.face,
      onFatal: (error) => this.fatal.push(error),
    });
    await this.timelines.whenLoaded();
  }

  /** The process has died and the power with it; the next one opens what is left. */
  async crash(seed: number): Promise<void> {
    this.fileSystem.onCall = undefined;
    this.fileSystem.crash(seededRandom(seed));
    await this.open();
  }

  /** The process alone has died: the next one sees everything, durable or not. */
  async kill(): Promise<void> {
    this.fileSystem.onCall = undefined;
    this.fileSystem.restart();
    await this.open();
  }

  create(timelineId: string, tenantId: string = TENANT): Promise<Timeline> {
    return this.timelines.create({
      tenantId,
      timelineId,
      pgVersion: 150_018,
      systemId: SYSTEM_ID,
      segmentBytes: MIB,
      startLsn: START,
    });
  }

  /** The neighbour of the timeline that is created or removed. */
  expectNeighbour(): void {
    expect(this.timelines.get(TENANT, NEIGHBOUR).state.term).toBe(7n);
  }

  /** What is loaded besides the neighbour. Nothing may be unloadable, and no leftovers may be there. */
  loaded(): readonly Timeline[] {
    expect(this.timelines.unloadable()).toEqual([]);
    expect(this.fileSystem.names(DIRECTORY)).not.toContain("tmp");
    return this.timelines.list().filter(({ timelineId }) => timelineId !== NEIGHBOUR);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.fileSystem.onCall = undefined;
    await this.node?.close().catch(() => undefined); // one that has died, or was poisoned, has nothing to save
  }
}

/** With a neighbour whose tenant is the same, or with nothing at all. */
async function world(kind: "empty" | "neighbour"): Promise<World> {
  const made = new World();
  await made.open();
  if (kind === "neighbour") await (await made.create(NEIGHBOUR)).bumpTerm(7n);
  return made;
}

/** Counts the calls of an action that nothing disturbs. */
async function callsOf(made: World, action: () => Promise<unknown>): Promise<readonly Call["name"][]> {
  const names: Call["name"][] = [];
  made.fileSystem.onCall = ({ name }) => void names.push(name);
  await action();
  made.fileSystem.onCall = undefined;
  return names;
}

/** Lets the process die at its `step`-th call from now on. */
function dieAt(made: World, step: number): void {
  const first = made.fileSystem.calls;
  made.fileSystem.onCall = ({ index }) => {
    if (index === first + step) made.fileSystem.kill();
  };
}

/** Lets only the `step`-th call from now on fail. */
function failAt(made: World, step: number): void {
  const first = made.fileSystem.calls;
  made.fileSystem.onCall = ({ index }) => {
    if (index === first + step) throw systemError("EIO");
  };
}

const isSync = (name: string | undefined): boolean => /sync/i.test(name ?? "");

// Aim: a power cut in a creation leaves a whole timeline or none, and one that was reported is there. Method: it dies at
// each call in turn, the last one included, and loses random names and bytes, or, with the first seeds, only the process
// dies; what is left is used, and the power is cut then.
test.each(["empty", "neighbour"] as const)(
  "a creation beside %s survives a power cut at any call",
  async (kind) => {
    await using probe = await world(kind);
    const calls = await callsOf(probe, () => probe.create(TIMELINE));
    expect(calls.length).toBeGreaterThan(12);
    const outcomes = new Set<string>();
    for (let step = 0; step <= calls.length; step += 1) {
      for (const seed of SEEDS) {
        await using made = await world(kind);
        dieAt(made, step);
        const code = await codeOf(made.create(TIMELINE));
        await (seed <= 2 ? made.kill() : made.crash(seed * 1000 + step));
        const [found, ...more] = made.loaded();
        expect(more).toEqual([]);
        if (code === "resolved") expect(found).toBeDefined();
        if (found !== undefined) expect(found.state).toMatchObject({ commitLsn: START, flushLsn: START });
        outcomes.add(found === undefined ? "none" : "whole");
        if (kind === "neighbour") made.expectNeighbour();
        await made.create(TIMELINE);
        await made.crash(seed * 2000 + step);
        expect(made.loaded(), `call ${step}, seed ${seed}`).toHaveLength(1);
      }
    }
    expect([...outcomes].toSorted()).toEqual(["none", "whole"]);
  },
);

// Aim: one failing call costs at most the creation. Method: each fails in turn, without a crash. A failed sync ends the
// process; after any other error the name is free, or the timeline is there. A restart finds it whole or not at all.
test.each(["empty", "neighbour"] as const)(
  "a creation beside %s survives an error of any call",
  async (kind) => {
    await using probe = await world(kind);
    const calls = await callsOf(probe, () => probe.create(TIMELINE));
    for (let step = 0; step < calls.length; step += 1) {
      await using made = await world(kind);
      const where = `call ${step}, ${String(calls[step])}`;
      failAt(made, step);
      const code = await codeOf(made.create(TIMELINE));
      made.fileSystem.onCall = undefined;
      if (isSync(calls[step])) {
        expect(code, where).toBe("ERR_ACCEPTOR_POISONED");
        expect(made.fatal, where).toHaveLength(1);
      } else {
        expect(["resolved", "ERR_ACCEPTOR_IO", "ERR_ACCEPTOR_POISONED"], where).toContain(code);
        const again = await codeOf(made.create(TIMELINE));
        // Created and not opened: it waits for a restart.
        expect(["resolved", "ERR_ACCEPTOR_BROKEN"], where).toContain(again);
        if (kind === "neighbour") made.expectNeighbour();
      }
      await made.crash(step);
      expect(made.loaded().length, where).toBeLessThanOrEqual(1);
      await made.create(TIMELINE);
      if (kind === "neighbour") made.expectNeighbour();
    }
  },
);

// Aim: a deletion that was reported, or announced, is carried out; before that nothing is touched. Method: it dies at
// each call in turn and loses random names; a second life must not bring anything back.
test("a deletion survives a power cut at any call", async () => {
  await using probe = await world("neighbour");
  await probe.create(TIMELINE);
  const calls = await callsOf(probe, () => probe.timelines.delete(TENANT, TIMELINE));
  expect(calls.length).toBeGreaterThan(8);
  const outcomes = new Set<string>();
  for (let step = 0; step <= calls.length; step += 1) {
    for (const seed of SEEDS) {
      await using made = await world("neighbour");
      await made.create(TIMELINE);
      dieAt(made, step);
      const code = await codeOf(made.timelines.delete(TENANT, TIMELINE));
      if (seed <= 2) await made.kill();
      await made.crash(seed * 1000 + step);
      const isThere = made.loaded().length === 1;
      outcomes.add(isThere ? "untouched" : "gone");
      if (code === "resolved") expect(isThere).toBe(false);
      made.expectNeighbour();
      if (isThere) {
        await made.timelines.delete(TENANT, TIMELINE);
        await made.crash(seed * 2000 + step);
      }
      expect(made.loaded()).toEqual([]);
      expect(await codeOf(made.create(TIMELINE))).toBe("ERR_ACCEPTOR_TIMELINE_DELETED");
      expect(made.fileSystem.names(`${DIRECTORY}/${TENANT}`)).toEqual([NEIGHBOUR]);
    }
  }
  expect([...outcomes].toSorted()).toEqual(["gone", "untouched"]);
});

// Aim: a deletion that one call has stopped is finished by the next one. Method: each call fails in turn, without a
// crash. A failed sync ends the process, and its successor finds the timeline untouched or gone.
test("a deletion survives an error of any call", async () => {
  await using probe = await world("neighbour");
  await probe.create(TIMELINE);
  const calls = await callsOf(probe, () => probe.timelines.delete(TENANT, TIMELINE));
  for (let step = 0; step < calls.length; step += 1) {
    await using made = await world("neighbour");
    await made.create(TIMELINE);
    const where = `call ${step}, ${String(calls[step])}`;
    failAt(made, step);
    const code = await codeOf(made.timelines.delete(TENANT, TIMELINE));
    made.fileSystem.onCall = undefined;
    if (isSync(calls[step])) {
      expect(code, where).toBe("ERR_ACCEPTOR_POISONED");
      expect(
        made.fatal.map((error) => (error as AcceptorError).code),
        where,
      ).toEqual(["ERR_ACCEPTOR_POISONED"]);
    } else {
      expect(["resolved", "ERR_ACCEPTOR_IO"], where).toContain(code);
      await made.timelines.delete(TENANT, TIMELINE);
      expect(made.timelines.unloadable(), where).toEqual([]);
    }
    made.expectNeighbour();
    await made.crash(step);
    if (made.loaded().length === 1) {
      expect(isSync(calls[step]), where).toBe(true);
      await made.timelines.delete(TENANT, TIMELINE);
    }
    expect(await codeOf(made.create(TIMELINE)), where).toBe("ERR_ACCEPTOR_TIMELINE_DELETED");
    made.expectNeighbour();
  }
});

// Aim: a start can be cut short anywhere, too: what it removes and syncs is removed and synced by the next. Method: a
// directory with leftovers of a creation and a deletion that was announced; the start dies at each of its calls.
test("a start that dies at any call leaves the next one the same timelines", async () => {
  const prepare = async (): Promise<World> => {
    const made = await world("neighbour");
    await made.create(TIMELINE);
    let removed = 0;
    made.fileSystem.onCall = ({ name, path }) => {
      const isAnnounced = !path.includes("tombstones");
      if (name === "unlink" && isAnnounced && (removed += 1) === 1) made.fileSystem.kill();
    };
    await codeOf(made.timelines.delete(TENANT, TIMELINE));
    made.fileSystem.onCall = undefined;
    made.fileSystem.restart();
    await made.fileSystem.face.mkdir(`${DIRECTORY}/tmp/half`);
    made.fileSystem.setBytes(`${DIRECTORY}/tmp/half/safekeeper.control`, new Uint8Array(10));
    return made;
  };
  await using probe = await prepare();
  const calls = await callsOf(probe, () => probe.open());
  expect(calls.length).toBeGreaterThan(20);
  for (let step = 0; step <= calls.length; step += 1) {
    await using made = await prepare();
    dieAt(made, step);
    await codeOf(made.open());
    await made.crash(step);
    expect(made.loaded()).toEqual([]);
    made.expectNeighbour();
    expect(await codeOf(made.create(TIMELINE))).toBe("ERR_ACCEPTOR_TIMELINE_DELETED");
  }
});
