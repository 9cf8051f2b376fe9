/** Every state without a native part: nothing throws at load, each call says what it can still do. */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import * as here from "@millrace/io-uring";
import { Files } from "./fixtures.js";

type Face = typeof here;

/** The package, loaded anew with another setting. */
async function load(setting: string, platform: string = process.platform): Promise<Face> {
  vi.stubEnv("MILLRACE_NATIVE", setting);
  vi.resetModules();
  const before = process.platform;
  Object.defineProperty(process, "platform", { value: platform });
  try {
    const face = await import("@millrace/io-uring");
    face.nativeStatus();
    return face;
  } finally {
    Object.defineProperty(process, "platform", { value: before });
  }
}

afterEach(() => {
  vi.unstubAllEnvs();
  vi.resetModules();
});

function expectFallbacks(face: Face): void {
  using files = new Files();
  const { fd, path } = files.file(new Uint8Array(10).fill(5));
  expect(face.nativeStatus().available).toBe(false);
  expect(face.probeUring()).toMatchObject({ available: false, code: "ERR_URING_UNAVAILABLE" });
  const isUnavailable = expect.objectContaining({ code: "ERR_URING_UNAVAILABLE" }) as Error;
  const view = new Uint8Array(8);
  expect(() => face.Ring.create({ entries: 1 })).toThrow(isUnavailable);
  expect(() => face.ForeignRing.attach(1)).toThrow(isUnavailable);
  expect(() => face.addressOf(view)).toThrow(isUnavailable);
  expect(() => face.preadv(fd, new face.IovecTable(1), 1, 0)).toThrow(isUnavailable);
  expect(() => face.armFault({ operation: "pread", result: -1 })).toThrow(isUnavailable);
  expect(face.orphanedRings()).toEqual([]);
  expect(face.adviseHugePages(view)).toBe(false);
  expect(face.hugePageBytes(view)).toBe(undefined);
  expect(face.directIoAlignment(fd)).toBe(undefined);
  expect([
    face.fadvise(fd, 0, 0, 0),
    face.fallocate(fd, 0, 0, 1),
    face.syncFileRange(fd, 0, 0, 0),
    face.residentPages(fd, 0, 1),
  ]).toEqual(["unsupported", "unsupported", "unsupported", "unsupported"]);
  expect(face.preadInto(fd, view, 1, 4, 8)).toBe(2);
  expect(Array.from(view)).toEqual([0, 5, 5, 0, 0, 0, 0, 0]);
  expect(face.pwriteFrom(fd, new Int32Array([7, 8]), 4, 4, 12)).toBe(4);
  expect(face.preadInto(fd, view, 0, 8, 10)).toBe(6);
  expect(Array.from(view)).toEqual([0, 0, 8, 0, 0, 0, 0, 0]);
  expect([face.fsyncFd(fd), face.fdatasyncFd(fd)]).toEqual([0, 0]);
  const readOnly = files.open(path, 0);
  const bad = here.errno("EBADF");
  expect(face.pwriteFrom(readOnly, view, 0, 1, 0)).toBe(bad);
  const closed = 1_000_000;
  expect([face.preadInto(closed, view, 0, 1, 0), face.fsyncFd(closed), face.fdatasyncFd(closed)]).toEqual([
    bad,
    bad,
    bad,
  ]);
}

describe("without a native part everything loads and says so", () => {
  test("switched off", async () => {
    const face = await load("0");
    expect(face.nativeStatus().reason).toContain("MILLRACE_NATIVE=0");
    expectFallbacks(face);
  });

  test("on another platform", async () => {
    const face = await load("", "darwin");
    expect(face.nativeStatus().reason).toContain("darwin");
    expectFallbacks(face);
  });

  test("with a corrupt binary, a missing one and one of another version", async () => {
    using files = new Files();
    const corrupt = join(files.directory, "corrupt.node");
    writeFileSync(corrupt, "not an ELF file");
    const old = join(files.directory, "old.cjs");
    writeFileSync(old, "exports.version = 99;");
    const reasons: unknown[] = [];
    for (const path of [corrupt, join(files.directory, "missing.node"), old]) {
      const face = await load(path);
      expect(face.nativeStatus().path).toBe(path);
      expectFallbacks(face);
      reasons.push(face.nativeStatus().reason);
    }
    expect(reasons).toEqual([
      expect.stringMatching(/invalid ELF header|file too short/),
      expect.stringContaining("Cannot find module"),
      expect.stringMatching(/^the binary is of version 99, \d+ is needed$/),
    ]);
  });
});

// Where the build must have worked (CI, releases), a machine without rings is an error of its own.
test.runIf(process.env["MILLRACE_NATIVE"] === "require")("the native part is here and io_uring works", () => {
  expect(here.nativeStatus()).toMatchObject({ available: true });
  expect(here.probeUring()).toMatchObject({ available: true });
});

describe.skipIf(process.platform !== "linux")("the build", () => {
  // A copy of the package without node_modules: node-gyp is not found, as where Python is missing, and the bare
  // compiler is what is left.
  function build(environment: Record<string, string>): {
    status: number | null;
    stderr: string;
    built: boolean;
    left: string[];
  } {
    const directory = mkdtempSync(join(tmpdir(), "io-uring-package-"));
    try {
      for (const part of ["csrc", "scripts"])
        cpSync(join(import.meta.dirname, "..", part), join(directory, part), { recursive: true });
      const scratch = join(directory, "scratch");
      mkdirSync(scratch);
      const env = { ...process.env, MILLRACE_NATIVE: "", LD_PRELOAD: "", TMPDIR: scratch, ...environment };
      const script = join(directory, "scripts", "build-native.mjs");
      const done = spawnSync(process.execPath, [script], { env, encoding: "utf8" });
      const binary = join(directory, "prebuilds", `${process.platform}-${process.arch}`, "io-uring.node");
      return {
        status: done.status,
        stderr: done.stderr,
        built: existsSync(binary),
        left: readdirSync(scratch),
      };
    } finally {
      rmSync(directory, { recursive: true });
    }
  }

  test("without a compiler is one warning, and an error only where it is required", () => {
    const failed = build({ CC: "/bin/false" });
    expect(failed).toMatchObject({ status: 0, built: false, left: [] });
    expect(failed.stderr.trim().split("\n")).toEqual([expect.stringContaining("no native part was built")]);
    expect(build({ CC: "/bin/false", MILLRACE_NATIVE: "require" })).toMatchObject({
      status: 1,
      built: false,
    });
    expect(build({ MILLRACE_NATIVE: "0" })).toMatchObject({ status: 0, built: false, stderr: "" });
  });

  const hasCompiler =
    spawnSync("cc", ["--version"], { env: { ...process.env, LD_PRELOAD: "" } }).status === 0;
  test.runIf(hasCompiler)("needs no more than a compiler", () => {
    expect(build({})).toEqual({ status: 0, built: true, stderr: "", left: [] });
  });
});
