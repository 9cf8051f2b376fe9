import { expect, test } from "vitest";
import { CONTROL_FILE_NAME, CONTROL_FILE_PARTIAL_NAME } from "../src/control-file.js";
import { createDiskControlFile, openDiskControlStore } from "../src/disk-control-store.js";
import type { AcceptorError } from "../src/errors.js";
import { createMemoryControlStore } from "../src/memory-control-store.js";
import { at, codeOf, freshState, seededRandom } from "./fixtures.js";
import { MemoryFileSystem, systemError } from "./memory-file-system.js";
import type { Call } from "./memory-file-system.js";

const DIRECTORY = "/data/timeline";
const FILE = `${DIRECTORY}/${CONTROL_FILE_NAME}`;
const PARTIAL = `${DIRECTORY}/${CONTROL_FILE_PARTIAL_NAME}`;

const before = freshState({ startLsn: at(0x3000060n) });
const after = { ...before, term: 9n };

async function created(): Promise<MemoryFileSystem> {
  const fileSystem = new MemoryFileSystem(DIRECTORY);
  await createDiskControlFile({ directory: DIRECTORY, fileSystem: fileSystem.face, state: before });
  return fileSystem;
}

function open(fileSystem: MemoryFileSystem, onFatal?: (error: AcceptorError) => void) {
  return openDiskControlStore({
    directory: DIRECTORY,
    fileSystem: fileSystem.face,
    ...(onFatal === undefined ? {} : { onFatal }),
  });
}

/** Runs `use` and gives the calls it makes. */
async function traced(fileSystem: MemoryFileSystem, use: () => Promise<unknown>): Promise<readonly Call[]> {
  const calls: Call[] = [];
  fileSystem.onCall = (call) => void calls.push(call);
  await use();
  fileSystem.onCall = undefined;
  return calls;
}

// Aim: the state survives, and the store reads what it wrote. Method: create, persist, reopen after a power cut.
test("a persisted state is found again after a power cut", async () => {
  const fileSystem = await created();
  const store = await open(fileSystem);
  expect(store.get()).toEqual(before);
  await store.persist(after);
  expect(store.get()).toEqual(after);
  fileSystem.crash(() => 0);
  expect((await open(fileSystem)).get()).toEqual(after);
  expect(fileSystem.openFiles).toBe(0);
});

// Aim: an unchanged state costs no disk access. Method: count calls while persisting an equal copy.
test("nothing is written when nothing changed", async () => {
  const fileSystem = await created();
  const store = await open(fileSystem);
  const calls = await traced(fileSystem, () => store.persist(structuredClone(before)));
  expect(calls).toEqual([]);
});

// Aim: an overwrite is atomic over a power cut at any step, and over a process kill. Method: die at each call of
// persist in turn, lose a random subset of what was unsynced, reopen: old or new, and new once persist had resolved.
test("a crash at any step of an overwrite leaves the old or the new state", async () => {
  const probe = await created();
  const probeStore = await open(probe);
  const calls = await traced(probe, () => probeStore.persist(after));
  const found = new Set<bigint>();
  for (let step = 0; step <= calls.length; step += 1) {
    for (let seed = 0; seed < 40; seed += 1) {
      const fileSystem = await created();
      const store = await open(fileSystem);
      const start = fileSystem.calls;
      fileSystem.onCall = (call) => {
        if (call.index === start + step) fileSystem.kill();
      };
      const outcome = await codeOf(store.persist(after));
      fileSystem.onCall = undefined;
      if (seed % 4 === 0) fileSystem.restart();
      else fileSystem.crash(seededRandom(seed * 1000 + step));
      const { term } = (await open(fileSystem)).get();
      found.add(term);
      if (outcome === "resolved") expect(term).toBe(9n);
      else expect([0n, 9n]).toContain(term);
      // What was read is durable at once: a second power cut changes nothing.
      fileSystem.crash(() => 0);
      expect((await open(fileSystem)).get().term).toBe(term);
    }
  }
  expect(found).toEqual(new Set([0n, 9n]));
});

// Aim: the order of steps that makes it atomic. Method: the trace of one overwrite.
test("the new file is synced before it is renamed, and the directory after", async () => {
  const fileSystem = await created();
  const store = await open(fileSystem);
  const calls = await traced(fileSystem, () => store.persist(after));
  expect(calls.map(({ name, path }) => [name, path])).toEqual([
    ["unlink", PARTIAL],
    ["open", PARTIAL],
    ["pwrite", PARTIAL],
    ["fsync", PARTIAL],
    ["close", PARTIAL],
    ["rename", PARTIAL],
    ["fsyncDirectory", DIRECTORY],
  ]);
});

// Aim: what is read is not trusted before it is durable. Method: the syncs of an opening after a process kill.
test("opening syncs the file and its directory", async () => {
  const fileSystem = await created();
  fileSystem.restart();
  const calls = await traced(fileSystem, () => open(fileSystem));
  const syncs = calls.filter(({ name }) => name === "fsync" || name === "fsyncDirectory");
  expect(syncs.map(({ name, path }) => [name, path])).toEqual([
    ["fsync", FILE],
    ["fsyncDirectory", DIRECTORY],
  ]);
});

// Aim: a full disk costs nothing but the attempt. Method: ENOSPC at each call that may give it; then space returns.
test.each(["open", "pwrite", "rename"] as const)(
  "a full disk at %s keeps the old state usable",
  async (name) => {
    const fileSystem = await created();
    const store = await open(fileSystem);
    fileSystem.onCall = (call) => {
      if (call.name === name) throw systemError("ENOSPC");
    };
    expect(await codeOf(store.persist(after))).toBe("ERR_ACCEPTOR_NO_SPACE");
    expect(store.get()).toEqual(before);
    fileSystem.onCall = undefined;
    await store.persist(after);
    expect(store.get()).toEqual(after);
    fileSystem.crash(() => 0);
    expect((await open(fileSystem)).get()).toEqual(after);
  },
);

// Aim: a failed sync ends the store and tells the owner. Method: fail each sync, and a rename with an unclear outcome.
test.each([
  ["fsync", "EIO"],
  ["fsyncDirectory", "EIO"],
  ["rename", "EIO"],
  ["fsync", "ENOSPC"],
] as const)("a failing %s (%s) poisons the store", async (name, errno) => {
  const fileSystem = await created();
  const fatal: AcceptorError[] = [];
  const store = await open(fileSystem, (error) => fatal.push(error));
  fileSystem.onCall = (call) => {
    if (call.name === name) throw systemError(errno);
  };
  expect(await codeOf(store.persist(after))).toBe("ERR_ACCEPTOR_POISONED");
  fileSystem.onCall = undefined;
  expect(fatal.map(({ code }) => code)).toEqual(["ERR_ACCEPTOR_POISONED"]);
  expect(store.get()).toEqual(before);
  expect(await codeOf(store.persist(after))).toBe("ERR_ACCEPTOR_POISONED");
  fileSystem.crash(seededRandom(1));
  expect([0n, 9n]).toContain((await open(fileSystem)).get().term);
});

// Aim: writes that the kernel takes in pieces are finished. Method: seven bytes a call.
test("short writes are continued", async () => {
  const fileSystem = await created();
  fileSystem.shortWrite = (bytes) => Math.min(bytes, 7);
  const store = await open(fileSystem);
  await store.persist(after);
  fileSystem.crash(() => 0);
  expect((await open(fileSystem)).get()).toEqual(after);
});

// Aim: nothing is made up. Method: no file, a damaged file; both directories stay as they are.
test("a missing or damaged file is an error and is not replaced", async () => {
  const empty = new MemoryFileSystem(DIRECTORY);
  expect(await codeOf(open(empty))).toBe("ERR_ACCEPTOR_CONTROL_MISSING");
  expect(empty.names(DIRECTORY)).toEqual([]);
  const damaged = await created();
  const bytes = damaged.bytes(FILE);
  bytes[40] = (bytes[40] ?? 0) ^ 1;
  damaged.setBytes(FILE, bytes);
  expect(await codeOf(open(damaged))).toBe("ERR_ACCEPTOR_CONTROL_CORRUPT");
  expect(damaged.bytes(FILE)).toEqual(bytes);
  expect(damaged.openFiles).toBe(0);
});

// Aim: leftovers of a crash are cleaned. Method: a partial file beside a good one.
test("a left-over partial file is removed at opening", async () => {
  const fileSystem = await created();
  fileSystem.setBytes(PARTIAL, new Uint8Array(3));
  const store = await open(fileSystem);
  expect(fileSystem.names(DIRECTORY)).toEqual([CONTROL_FILE_NAME]);
  expect(store.get()).toEqual(before);
});

// Aim: without sync there is none. Method: count sync calls over creation, opening and overwriting.
test("noSync skips every sync", async () => {
  const fileSystem = new MemoryFileSystem(DIRECTORY);
  const calls = await traced(fileSystem, async () => {
    const options = { directory: DIRECTORY, fileSystem: fileSystem.face, noSync: true };
    await createDiskControlFile({ ...options, state: before });
    const store = await openDiskControlStore(options);
    await store.persist(after);
  });
  expect(calls.filter(({ name }) => name.startsWith("fsync") || name === "fdatasync")).toEqual([]);
});

// Aim: the memory twin keeps the same promises. Method: crash before, during and after persist.
test("a memory store's crash during persist keeps either state, and afterwards the new one", async () => {
  for (const [draw, term] of [
    [0.1, 9n],
    [0.9, 0n],
  ] as const) {
    const store = createMemoryControlStore(before, { beforePersist: () => store.crash(() => draw) });
    expect(await codeOf(store.persist(after))).toBe("ERR_ACCEPTOR_CLOSED");
    expect(store.durable.term).toBe(term);
  }
  const store = createMemoryControlStore(before);
  await store.persist(after);
  await store.persist({ ...after });
  store.crash(() => 0);
  expect(store.durable).toEqual(after);
  expect(store.persists).toBe(1);
  expect(await codeOf(store.persist(before))).toBe("ERR_ACCEPTOR_CLOSED");
});

// Aim: an injected failure leaves the memory store as it was. Method: reject once, then let it pass.
test("a memory store whose persist fails is unchanged", async () => {
  let full = true;
  const store = createMemoryControlStore(before, {
    beforePersist: () => {
      if (full) throw systemError("ENOSPC");
    },
  });
  expect(await codeOf(store.persist(after))).toBe("ENOSPC");
  expect(store.get()).toBe(before);
  full = false;
  await store.persist(after);
  expect(store.get()).toBe(after);
});
