/**
 * A file system that writes down what is not durable yet, so that somebody else can take it back after a kill.
 *
 * Every write is noted with the bytes that it replaces before it is issued, and as durable once it is: when it has returned,
 * on a descriptor with O_DSYNC, else when a sync that began behind it has. Names are noted the same way; what a rename or
 * an unlink takes away is kept under another name. The notes go through the page cache, which survives the process.
 * At a given call the process kills itself, before the call or with it under way.
 */
import { closeSync, constants, existsSync, linkSync, openSync, readSync, statSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";

/** @param options `journal`: file for the notes; `kept`: directory for what names stood for; `dieAt`: number of a call */
export function journaled(machine, { journal, kept, dieAt }) {
  const notes = openSync(journal, "a");
  const unsynced = new Map();
  let calls = 0;
  let ids = 0;

  const note = (entry) => writeSync(notes, `${JSON.stringify(entry)}\n`);
  const keep = (path) => {
    const { ino } = statSync(path);
    const name = join(kept, String(ino));
    if (!existsSync(name)) linkSync(path, name);
    return name;
  };

  /** Runs a call, or dies of it: with an even number before, with an odd one while it is under way. */
  async function step(call) {
    calls += 1;
    if (calls === dieAt && dieAt % 2 === 0) process.kill(process.pid, "SIGKILL");
    const done = call();
    if (calls === dieAt) {
      // The engine hands over what it has at the end of the current microtasks.
      setImmediate(() => process.kill(process.pid, "SIGKILL"));
    }
    return await done;
  }

  function describe(path, file, ino, isDataSync) {
    const reader = openSync(path, "r");
    const before = (bytes, offset) => {
      const buffer = Buffer.alloc(bytes);
      return buffer.subarray(0, readSync(reader, buffer, 0, bytes, offset)).toString("base64");
    };
    return {
      read: (target, offset) => file.read(target, offset),
      write: async (source, offset) => {
        const id = (ids += 1);
        note({ type: "write", id, ino, offset, bytes: source.length, before: before(source.length, offset) });
        if (!isDataSync) unsynced.set(ino, [...(unsynced.get(ino) ?? []), id]);
        const written = await step(() => file.write(source, offset));
        if (isDataSync) note({ type: "durable", ids: [id] });
        return written;
      },
      sync: async (dataOnly) => {
        const covered = unsynced.get(ino) ?? [];
        await step(() => file.sync(dataOnly));
        note({ type: "durable", ids: covered });
      },
      truncate: () => Promise.reject(new Error("lengths are not journaled")),
      size: () => file.size(),
      close: async () => {
        closeSync(reader);
        await file.close();
      },
    };
  }

  return {
    ...machine,
    open: async (path, flags, mode, alignmentBytes) => {
      if ((flags & constants.O_DIRECTORY) !== 0) {
        const file = await machine.open(path, flags, mode, alignmentBytes);
        const sync = async () => {
          const upTo = (ids += 1);
          await step(() => file.sync(false));
          note({ type: "names", directory: path.replace(/\/$/, ""), upTo });
        };
        return { ...file, sync, close: () => file.close() };
      }
      const isNew = !existsSync(path);
      if (isNew && (flags & constants.O_CREAT) !== 0) note({ type: "create", id: (ids += 1), path });
      const file = await step(() => machine.open(path, flags, mode, alignmentBytes));
      return describe(path, file, statSync(path).ino, (flags & constants.O_DSYNC) === constants.O_DSYNC);
    },
    rename: async (source, target) => {
      const isReplacing = existsSync(target);
      note({ type: "rename", id: (ids += 1), source, target, kept: isReplacing ? keep(target) : "" });
      await step(() => machine.rename(source, target));
    },
    unlink: async (path) => {
      if (existsSync(path)) note({ type: "unlink", id: (ids += 1), path, kept: keep(path) });
      await step(() => machine.unlink(path));
    },
    mkdir: async (path) => {
      if (!existsSync(path)) note({ type: "mkdir", id: (ids += 1), path });
      await step(() => machine.mkdir(path));
    },
    rmdir: (path) => step(() => machine.rmdir(path)),
  };
}

/** A file system whose durable writes and syncs fail with EIO from a given one on. */
export function failing(machine, failAt) {
  let calls = 0;
  const step = async (call) => {
    calls += 1;
    if (calls >= failAt) throw Object.assign(new Error("EIO: i/o error"), { code: "EIO" });
    return await call();
  };
  return {
    ...machine,
    open: async (path, flags, mode, alignmentBytes) => {
      const file = await machine.open(path, flags, mode, alignmentBytes);
      const isDurable = (flags & constants.O_DSYNC) === constants.O_DSYNC;
      return {
        read: (target, offset) => file.read(target, offset),
        write: (source, offset) => {
          const call = () => file.write(source, offset);
          return isDurable ? step(call) : call();
        },
        sync: (dataOnly) => step(() => file.sync(dataOnly)),
        truncate: (length) => file.truncate(length),
        size: () => file.size(),
        close: () => file.close(),
      };
    },
  };
}

/** The directory whose sync makes a change of names durable. */
export function directoryOf(entry) {
  return dirname(entry.type === "rename" ? entry.target : entry.path);
}
