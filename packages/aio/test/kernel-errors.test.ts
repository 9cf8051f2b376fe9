/**
 * Errors that the kernel really gives, by every method: no hook, a disk that is full, a limit, a wrong descriptor.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, constants as fsConstants, mkdtempSync, openSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { AioIoError } from "../src/errors.js";
import { FILE_CALLBACK, FILE_TARGET } from "../src/file-registry.js";
import type { FileLease } from "../src/file-table.js";
import type { WriteSync } from "../src/io-handle.js";
import type { IoResult, IoReturn } from "../src/result.js";
import { createIoReturn } from "../src/result.js";
import { BLOCK_BYTES, METHODS, World } from "./fixture.js";

const { EBADF, EINVAL, ENOSPC } = constants.errno;

interface Transfer {
  readonly isWrite: boolean;
  readonly lease: FileLease;
  readonly memory?: number;
  readonly length?: number;
  readonly offset?: number;
  readonly pieces?: number;
  readonly sync?: WriteSync;
}

async function transfer(world: World, how: Transfer): Promise<IoReturn> {
  const { isWrite, lease, memory = 0, length = BLOCK_BYTES, offset = 0, pieces = 1, sync } = how;
  const { backend } = world;
  const slot = createIoReturn();
  const scope = backend.openScope();
  const handle = backend.acquire(scope, slot);
  const ref = handle.ref();
  handle.setTarget(FILE_TARGET, [lease.fd, lease.slot]).addCallback(FILE_CALLBACK);
  const lengthBytes = length / pieces;
  const vectors = Array.from({ length: pieces }, (_, piece) => {
    return { segment: 0, offsetBytes: memory + piece * lengthBytes, lengthBytes };
  });
  if (isWrite) handle.startWritev(lease, vectors, offset, sync);
  else handle.startReadv(lease, vectors, offset);
  await backend.waitAsync(ref);
  scope.end();
  return slot;
}

/** A descriptor for direct I/O; -1 where the file system refuses it. */
function openDirect(path: string): number {
  try {
    return openSync(path, fsConstants.O_RDWR | fsConstants.O_DIRECT);
  } catch {
    return -1;
  }
}

const failure = (error: number): IoResult => ({ callback: FILE_CALLBACK, status: "error", error, result: 0 });

describe.each(METHODS)("method %s", (method) => {
  // Aim: a descriptor that does not allow it is refused by the kernel. Method: opened for reading, written to.
  test("a write to a file that is open for reading is EBADF", async () => {
    await using world = new World(method);
    const fd = openSync(world.file.path, "r");
    const lease = world.backend.openLease(fd);
    const slot = await transfer(world, { isWrite: true, lease });
    expect(slot.result).toEqual(failure(EBADF));
    expect(() => world.backend.report(slot, "error")).toThrow(AioIoError);
    await world.backend.closingFileAsync(lease);
    closeSync(fd);
  });

  // Aim: direct I/O of a size or position that the device cannot do is the kernel's EINVAL, not ours. Method: O_DIRECT.
  test("misaligned direct I/O is EINVAL", async ({ skip }) => {
    await using world = new World(method);
    const fd = openDirect(world.file.path);
    skip(fd < 0, "the file system of the temporary directory has no direct I/O");
    const lease = world.backend.openLease(fd);
    expect((await transfer(world, { isWrite: false, lease })).result.status).toBe("ok");
    for (const wrong of [{ memory: 16 }, { offset: 100 }, { length: 1000 }]) {
      for (const isWrite of [false, true]) {
        expect((await transfer(world, { isWrite, lease, ...wrong })).result).toEqual(failure(EINVAL));
      }
    }
    await world.backend.closingFileAsync(lease);
    closeSync(fd);
  });

  // Aim: the end of the file is a short read, and beyond it nothing. Method: reads across and behind it.
  test("reads at the end of a file are short", async () => {
    await using world = new World(method);
    const { lease } = world;
    const end = 64 * BLOCK_BYTES;
    const across = { isWrite: false, lease, offset: end - 4096 };
    expect((await transfer(world, across)).result).toMatchObject({ status: "ok", result: 4096 });
    expect((await transfer(world, { ...across, pieces: 2 })).result).toMatchObject({
      status: "ok",
      result: 4096,
    });
    expect((await transfer(world, { ...across, offset: end })).result).toMatchObject({
      status: "ok",
      result: 0,
    });
  });
});

/** Whether this process may mount, so that a file system can be filled without harm. */
const isRoot = process.getuid?.() === 0;

describe.skipIf(!isRoot)("a full file system (only root can mount a small one)", () => {
  const directory = mkdtempSync(join(tmpdir(), "millrace-full-"));
  let mountError: string | undefined;

  beforeAll(() => {
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", directory], {
      encoding: "utf8",
    });
    if (mounted.status !== 0) mountError = `mount: ${mounted.stderr || String(mounted.error)}`;
  });
  afterAll(() => {
    if (mountError === undefined) execFileSync("umount", [directory]);
    rmSync(directory, { recursive: true, force: true });
  });

  // Aim: what fits is written, then ENOSPC; a synced write says so too. Method: 64 KiB of space, writes of 32 KiB.
  describe.each(METHODS)("method %s", (method) => {
    test("gives short writes, then ENOSPC", async ({ skip }) => {
      skip(mountError !== undefined, mountError);
      await using world = new World(method);
      const path = join(directory, method);
      const fd = openSync(path, "w+");
      const lease = world.backend.openLease(fd);
      const length = 48 * 1024;
      expect((await transfer(world, { isWrite: true, lease, length })).result).toMatchObject({
        result: length,
      });
      const second = (await transfer(world, { isWrite: true, lease, length, offset: length })).result;
      expect(second).toMatchObject({ status: "ok", result: 16 * 1024 });
      for (const sync of [undefined, "data", "full"] as const) {
        const slot = await transfer(world, { isWrite: true, lease, offset: 2 ** 20, ...(sync && { sync }) });
        expect(slot.result).toEqual(failure(ENOSPC));
        expect(() => world.backend.report(slot, "error")).toThrow("ENOSPC");
      }
      await world.backend.closingFileAsync(lease);
      closeSync(fd);
      rmSync(path);
    });
  });
});

// Aim: a limit on file sizes gives a short write, then EFBIG, and no signal ends the process. Method: a child process
// with a limit of 8 KiB, from the shell's ulimit, and SIGXFSZ ignored as Node has it.
test.each(METHODS)("a limit on file sizes is a short write, then EFBIG, with method %s", (method) => {
  const directory = mkdtempSync(join(tmpdir(), "millrace-limit-"));
  const path = join(directory, "limited");
  try {
    closeSync(openSync(path, "w"));
    const script = new URL("limited-writer.mjs", import.meta.url).pathname;
    const command = `trap '' XFSZ; ulimit -f 16; exec "$0" "$@"`;
    const { status, stdout, stderr } = spawnSync(
      "sh",
      ["-c", command, process.execPath, script, method, path],
      { encoding: "utf8" },
    );
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual([
      { callback: 0, status: "ok", error: 0, result: 8192 },
      failure(constants.errno.EFBIG),
    ]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
