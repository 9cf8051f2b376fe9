/**
 * What must be on disk, by name, before a timeline is used: the entries of its directory, its tenant's and the
 * root's. A directory that was renamed but whose parent was never synced exists until the next power cut.
 */
import { constants } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { IoEngine } from "@millrace/aio";
import { parseLsn, SEGMENT_BYTES_MIN } from "@millrace/lsn";
import { EMPTY_CONFIGURATION } from "@millrace/wal-protocol";
import { afterAll, expect, test } from "vitest";
import { systemClock } from "../src/clock.js";
import { createFileSystem, overDescriptor } from "../src/file-system.js";
import type { FileSystem } from "../src/file-system.js";
import { initialState } from "../src/persistent-state.js";
import { createDiskTimelineStorage } from "../src/timeline-storage.js";
import type { TimelineStorage } from "../src/timeline-storage.js";

const TENANT = "11".repeat(16);
const TIMELINES = ["22".repeat(16), "33".repeat(16)] as const;

const engine = IoEngine.create({ fixBuffers: false });
afterAll(() => engine.close());

async function temporaryDirectory(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "timeline-storage-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

function stateOf(timelineId: string): ReturnType<typeof initialState> {
  return initialState({
    tenantId: TENANT,
    timelineId,
    configuration: EMPTY_CONFIGURATION,
    server: { pgVersion: 150_018, systemId: 7n, segmentBytes: SEGMENT_BYTES_MIN },
    startLsn: parseLsn("0/100000"),
    createdAtMs: 0,
  });
}

/** The machine's file system, which writes down renames, directory syncs and opened files, and can die at a sync. */
function recording(log: string[], dieAtSync = Number.POSITIVE_INFINITY): FileSystem {
  let syncs = 0;
  const machine = createFileSystem(engine);
  return {
    ...machine,
    open: async (path, flags, mode, alignmentBytes) => {
      const isDirectory = (flags & constants.O_DIRECTORY) !== 0;
      if (!isDirectory) log.push(`open ${path}`);
      const file = await machine.open(path, flags, mode, alignmentBytes);
      if (!isDirectory) return file;
      return overDescriptor(file, {
        sync: async (dataOnly) => {
          syncs += 1;
          if (syncs > dieAtSync) throw Object.assign(new Error("the process is dead"), { code: "EDEAD" });
          await file.sync(dataOnly);
          log.push(`sync ${path.replace(/\/$/, "")}`);
        },
      });
    },
    rename: async (from, to) => {
      await machine.rename(from, to);
      log.push(`rename ${to}`);
    },
  };
}

function storage(directory: string, fileSystem: FileSystem): TimelineStorage {
  return createDiskTimelineStorage({
    directory,
    fileSystem,
    noSync: false,
    clock: systemClock,
    onFatal: () => undefined,
  });
}

// Aim: a creation is durable when it is reported. Method: the calls of a first and of a second creation.
test("a timeline's name and its tenant's name are synced before its creation is reported", async () => {
  await using home = await temporaryDirectory();
  const log: string[] = [];
  const timelines = storage(home.path, recording(log));
  for (const timelineId of TIMELINES) {
    log.length = 0;
    await timelines.create(stateOf(timelineId));
    const renamed = log.indexOf(`rename ${join(home.path, TENANT, timelineId)}`);
    expect(renamed).toBeGreaterThan(0);
    expect(log.slice(0, renamed)).toContain(`sync ${home.path}`);
    expect(log.slice(renamed)).toContain(`sync ${join(home.path, TENANT)}`);
  }
});

// Aim: a process that is killed between a rename and the sync behind it leaves nothing that the next one trusts
// unsynced. Method: a creation dies at each of its directory syncs in turn; a new storage lists and opens.
test("names are synced at start before a timeline is opened, wherever a creation was cut short", async () => {
  for (let dieAtSync = 0; dieAtSync < 12; dieAtSync += 1) {
    await using home = await temporaryDirectory();
    const died = await storage(home.path, recording([], dieAtSync))
      .create(stateOf(TIMELINES[0]))
      .then(
        () => false,
        () => true,
      );
    const log: string[] = [];
    const restarted = storage(home.path, recording(log));
    const keys = await restarted.list();
    if (!died) expect(keys).toHaveLength(1);
    if (keys[0] === undefined) continue;
    const stores = await restarted.open(keys[0]);
    const opened = log.findIndex((line) => line.startsWith("open "));
    expect(opened).toBeGreaterThan(0);
    expect(log.slice(0, opened)).toContain(`sync ${join(home.path, TENANT)}`);
    expect(log.slice(0, opened)).toContain(`sync ${home.path}`);
    expect(stores.control.get().timelineId).toBe(TIMELINES[0]);
    await stores.wal.close();
  }
});
