/**
 * A real acceptor that is killed, on a real file system, with a random part of what was not durable taken away.
 *
 * 50 times; `npm run soak:crash -- --rounds 1000 --seed 7` is the long run.
 */
import { mkdirSync, rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { IoEngine } from "@millrace/aio";
import { expect, test } from "vitest";
import { createFileSystem, ENGINE_FILES_MAX } from "../src/file-system.js";
import { CrashLoad } from "./crash-load.js";
import { seededRandom } from "./fixtures.js";
import { loseUnsynced } from "./lost-writes.js";

const KILLS = Number(process.env["MILLRACE_SOAK_ROUNDS"] ?? "50");
const FIRST_SEED = Number(process.env["MILLRACE_SOAK_SEED"] ?? "1");
/** Lives of one directory: later ones recover what earlier ones left. */
const LIVES = 5;
/** Exit code of an acceptor whose disk fails. */
const FAILED_SYNC = 70;
/** Calls to the disk of a life that is long enough to get to the load and through it, about. */
const CALLS = 120;

// Aim: what was acknowledged is there after any kill and any loss of what was not durable, and nothing else is made up.
// Method: an acceptor in a process of its own, under load from a proposer; it kills itself at a random call to the disk, before
// it or with it under way; a random part of what its journal calls undurable is taken back; the log is opened and
// compared. The next life of the process goes on from there with another term and other WAL.
test(
  `${KILLS} kills under load lose nothing that was acknowledged`,
  { timeout: 600_000 + KILLS * 2000 },
  async () => {
    await using engine = IoEngine.create({ filesMax: ENGINE_FILES_MAX, fixBuffers: false });
    const total = { kills: 0, pages: 0, names: 0, acknowledgements: 0 };
    const chain = async (seed: number): Promise<void> => {
      const random = seededRandom(seed);
      const place = await mkdtemp(join(tmpdir(), "millrace-crash-"));
      const load = new CrashLoad(join(place, "data"));
      for (let life = 1; life <= LIVES; life += 1) {
        const journal = join(place, `journal-${life}`);
        const kept = join(place, `kept-${life}`);
        mkdirSync(kept);
        const dieAt = 2 + Math.floor(random() * CALLS);
        await load.live({ journal: { journal, kept, dieAt } }, random);
        const lost = loseUnsynced(place, journal, random);
        rmSync(kept, { recursive: true });
        await load.check(createFileSystem(engine), `seed ${seed}, life ${life}`);
        total.kills += 1;
        total.pages += lost.pages;
        total.names += lost.names;
      }
      total.acknowledgements += load.acknowledgements;
      await rm(place, { recursive: true });
    };
    let next = FIRST_SEED;
    const last = FIRST_SEED + Math.ceil(KILLS / LIVES);
    // Two at a time: a process that starts does not fill a machine.
    const worker = async (): Promise<void> => {
      while (next < last) await chain(next++);
    };
    await Promise.all([worker(), worker()]);
    process.stdout.write(`${JSON.stringify(total)}\n`);
    // It did happen: kills under load, and losses of both kinds.
    expect(total.kills).toBeGreaterThanOrEqual(KILLS);
    expect(total.pages).toBeGreaterThan(KILLS);
    expect(total.names).toBeGreaterThan(0);
    expect(total.acknowledgements).toBeGreaterThan(KILLS);
  },
);

// Aim: what could not be made durable is not tried again and not acknowledged, and what was acknowledged is there after a restart.
// Method: durable writes and syncs fail from a given one on; the process has to end with the code for that; the next one
// takes the whole load.
test.each([12, 18, 25, 40])(
  "a failure of durable call %s ends the process and loses nothing",
  async (failAt) => {
    await using engine = IoEngine.create({ filesMax: ENGINE_FILES_MAX, fixBuffers: false });
    const random = seededRandom(failAt);
    const place = await mkdtemp(join(tmpdir(), "millrace-crash-"));
    const load = new CrashLoad(join(place, "data"));
    expect(await load.live({ failAt }, random)).toBe(FAILED_SYNC);
    await load.check(createFileSystem(engine), "after the failure");
    const before = load.acknowledgements;
    await load.live({}, random);
    await load.check(createFileSystem(engine), "after the next life");
    expect(load.acknowledgements).toBeGreaterThan(before);
    await rm(place, { recursive: true });
  },
);
