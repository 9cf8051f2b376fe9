/**
 * Opening files that must be new: open(2) makes such a file first and refuses it direct I/O afterwards.
 */
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { constants as os, tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

import { IoEngine } from "../src/engine.js";
import type { IoFile } from "../src/engine-file.js";
import { openIoFile } from "../src/open-file.js";
import type { OpenCall, OpenOptions } from "../src/open-file.js";
import { World } from "./fixture.js";

const DIRECT = (constants as { readonly O_DIRECT?: number }).O_DIRECT ?? 0;

/** Opens as Linux does where the file system has no direct I/O: a file is made before that is found out. */
function refusing(
  code: "EINVAL" | "EOPNOTSUPP" | "EMFILE",
  meanwhile: () => void = () => undefined,
): OpenCall {
  return async (path, flags, mode) => {
    await Promise.resolve();
    if ((flags & DIRECT) === 0) return openSync(path, flags, mode);
    if ((flags & constants.O_CREAT) !== 0) closeSync(openSync(path, flags & ~DIRECT, mode));
    meanwhile();
    throw Object.assign(new Error(`${code}, open`), { code, errno: -os.errno[code] });
  };
}

/** A directory, and what opening needs. Disposing checks that no descriptor is left. */
class Place implements AsyncDisposable {
  readonly directory: string = mkdtempSync(join(tmpdir(), "millrace-open-"));
  readonly path: string = join(this.directory, "new");
  readonly world: World = new World("sync");
  readonly engine: IoEngine = IoEngine.create({ method: "sync", arenaBytes: 65_536 });

  open(options: OpenOptions, call?: OpenCall): Promise<IoFile> {
    return openIoFile(this.engine, this.world.backend, this.path, options, call);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const open = readdirSync("/proc/self/fd").flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/self/fd/${fd}`)];
      } catch {
        return [];
      }
    });
    expect(open.filter((path) => path.startsWith(this.directory))).toEqual([]);
    await this.engine.close();
    await this.world[Symbol.asyncDispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

describe.skipIf(process.platform !== "linux")("a file that must be new", () => {
  // Aim: what the refused call has made is not taken for somebody else's. Method: a kernel that makes it and refuses.
  test.each(["EINVAL", "EOPNOTSUPP"] as const)(
    "is made without direct I/O after %s if that is preferred",
    async (code) => {
      await using place = new Place();
      for (const flags of ["wx", constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL] as const) {
        await using file = await place.open({ flags, direct: "prefer" }, refusing(code));
        expect([file.isDirect, file.alignmentBytes]).toEqual([false, 1]);
        writeFileSync(file.fd, "mine");
        expect(readFileSync(place.path, "utf8")).toBe("mine");
        const again = place.open({ flags, direct: "prefer" }, refusing(code));
        await expect(again).rejects.toMatchObject({ code: "ERR_AIO_IO", errnoName: "EEXIST" });
        expect(readFileSync(place.path, "utf8")).toBe("mine");
        rmSync(place.path);
      }
    },
  );

  test("is not left behind if direct I/O is required, but for one that has taken its name", async () => {
    await using place = new Place();
    const unavailable = { code: "ERR_AIO_UNAVAILABLE" };
    const wish = { flags: "wx+", direct: "require" } as const;
    await expect(place.open(wish, refusing("EINVAL"))).rejects.toMatchObject(unavailable);
    expect(existsSync(place.path)).toBe(false);
    const replace = (): void => {
      writeFileSync(`${place.path}.other`, "other");
      renameSync(`${place.path}.other`, place.path);
    };
    await expect(place.open(wish, refusing("EINVAL", replace))).rejects.toMatchObject(unavailable);
    expect(readFileSync(place.path, "utf8")).toBe("other");
    const rename = (): void => renameSync(place.path, `${place.path}.moved`);
    rmSync(place.path);
    await expect(place.open(wish, refusing("EINVAL", rename))).rejects.toMatchObject(unavailable);
    expect(existsSync(place.path)).toBe(false);
  });

  test("fails with what else the kernel says, and is not left behind", async () => {
    await using place = new Place();
    const wish = { flags: "wx", direct: "prefer" } as const;
    await expect(place.open(wish, refusing("EMFILE"))).rejects.toMatchObject({ errnoName: "EMFILE" });
    expect(existsSync(place.path)).toBe(false);
  });

  // Aim: direct I/O where there is some. Method: the real kernel, the temporary directory's file system.
  test("has direct I/O where its file system has, and its permissions are those that were asked for", async ({
    skip,
  }) => {
    await using place = new Place();
    const { engine } = place;
    const wish = { flags: "wx+", direct: "prefer", mode: 0o600, dataSync: true } as const;
    await using file = await engine.open(place.path, wish);
    if (!file.isDirect) skip("the file system of the temporary directory has no direct I/O");
    const view = engine.arena.alloc(4096, { zeroed: true }).view().fill(7);
    expect(await file.write(view, 0)).toBe(4096);
    expect(readFileSync(place.path).equals(Buffer.alloc(4096, 7))).toBe(true);
    await expect(engine.open(place.path, wish)).rejects.toMatchObject({ errnoName: "EEXIST" });
    const flags = Number.parseInt(
      /^flags:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${file.fd}`, "utf8"))?.[1] ?? "",
      8,
    );
    expect(flags & (DIRECT | constants.O_DSYNC)).toBe(DIRECT | constants.O_DSYNC);
  });
});

test.skipIf(process.platform !== "linux")(
  "a descriptor is not lost when its file cannot be registered",
  async () => {
    await using place = new Place();
    place.world.backend.openLease = () => {
      throw new Error("too many files");
    };
    await expect(place.open({ flags: "w" })).rejects.toThrow("too many files");
  },
);
