/**
 * Power cuts of a real file system under a real acceptor: an ext4 of its own on a loop device, which is told to stop in the middle of
 * the load, without writing its journal out. What has been acknowledged must be there after the next mount.
 *
 * For root, and only by `npm run soak:power-loss -- --rounds 100 --seed 7`: it mounts. The ioctl is EXT4_IOC_SHUTDOWN with
 * EXT4_GOING_FLAGS_NOLOGFLUSH, which xfstests has for the same purpose.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { IoEngine } from "@millrace/aio";
import { expect, test } from "vitest";
import { createFileSystem, ENGINE_FILES_MAX } from "../src/file-system.js";
import { CrashLoad } from "./crash-load.js";
import { seededRandom } from "./fixtures.js";

const ROUNDS = Number(process.env["MILLRACE_SOAK_POWER_CUTS"] ?? "0");
const SEED = Number(process.env["MILLRACE_SOAK_SEED"] ?? "1");
const IMAGE_BYTES = 2 ** 30;
const UNMOUNT_ATTEMPTS = 1000;
const UNMOUNT_PAUSE_MS = 10;
/** Power cuts of one log: later ones hit what earlier ones have left. */
const CUTS_OF_A_LOG = 10;
/** Acknowledgements before the cut: the load has about as many. */
const ACKNOWLEDGEMENTS_MAX = 30;
const SHUTDOWN = `
import fcntl, os, struct, sys
EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
`;

function run(command: string, ...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error?.message ?? stderr}`);
  return stdout.trim();
}

/** An ext4 that can lose its power. */
class Disk implements AsyncDisposable {
  readonly path: string;
  readonly #directory: string = mkdtempSync(join(tmpdir(), "millrace-power-loss-"));
  readonly #device: string;
  #isMounted = false;

  constructor() {
    const image = join(this.#directory, "disk.img");
    writeFileSync(image, "");
    truncateSync(image, IMAGE_BYTES);
    run("mkfs.ext4", "-q", image);
    this.path = join(this.#directory, "mounted");
    mkdirSync(this.path);
    this.#device = run("losetup", "--find", "--show", "--direct-io=on", image);
    this.mount();
  }

  mount(): void {
    run("mount", this.#device, this.path);
    this.#isMounted = true;
  }

  /** The kernel lets go of a dead ring's files some time after the process has gone, and tells nobody: hence the attempts. */
  async unmount(): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        run("umount", this.path);
        break;
      } catch (error) {
        if (attempt === UNMOUNT_ATTEMPTS) throw error;
        await setTimeout(UNMOUNT_PAUSE_MS);
      }
    }
    this.#isMounted = false;
  }

  cut(): void {
    run("python3", "-c", SHUTDOWN, this.path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isMounted) await this.unmount();
    run("losetup", "--detach", this.#device);
    rmSync(this.#directory, { recursive: true });
  }
}

function problem(): string | undefined {
  if (ROUNDS === 0) return "only by npm run soak:power-loss";
  if (process.getuid?.() !== 0) return "only root may mount";
  const missing = ["mkfs.ext4", "losetup", "mount", "umount", "python3"].filter(
    (tool) => spawnSync(tool, ["--version"]).error !== undefined,
  );
  return missing.length === 0 ? undefined : `no ${missing.join(", ")} here`;
}

// Aim: an acknowledgement outlives a power cut. Method: the file system stops after some acknowledgements, with writes on their way; the
// acceptor ends, as it must when it cannot sync; the file system is mounted again, and the log opened and compared.
test(
  "power cuts lose nothing that was acknowledged",
  { timeout: 60_000 + ROUNDS * 10_000 },
  async ({ skip }) => {
    const reason = problem();
    if (reason !== undefined) skip(reason);
    await using disk = new Disk();
    let [cuts, acknowledgements] = [0, 0];
    for (let seed = SEED; cuts < ROUNDS; seed += 1) {
      const random = seededRandom(seed);
      const load = new CrashLoad(join(disk.path, `log-${seed}`));
      for (let life = 1; life <= CUTS_OF_A_LOG && cuts < ROUNDS; life += 1) {
        let isCut = false;
        const call = (): void => {
          disk.cut();
          isCut = true;
        };
        await load.live(
          { onAcknowledgements: { count: 1 + Math.floor(random() * ACKNOWLEDGEMENTS_MAX), call } },
          random,
        );
        // A load with fewer acknowledgements, each of more, is over before; then the idle acceptor loses its power.
        if (!isCut) call();
        await disk.unmount();
        disk.mount();
        await using engine = IoEngine.create({ filesMax: ENGINE_FILES_MAX, fixBuffers: false });
        await load.check(createFileSystem(engine), `seed ${seed}, life ${life}`);
        cuts += 1;
      }
      acknowledgements += load.acknowledgements;
    }
    expect(acknowledgements).toBeGreaterThan(ROUNDS);
    process.stdout.write(`${cuts} power cuts, ${acknowledgements} acknowledgements\n`);
  },
);
