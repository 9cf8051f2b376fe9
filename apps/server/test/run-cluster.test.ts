/**
 * PostgreSQL under the supervisor's interface: its end at every point of its start. No server runs here.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { PostgresCluster } from "@millrace/postgres-process";
import type { PostgresInstallation, StopMode } from "@millrace/postgres-process";
import { expect, test } from "vitest";

import { openOwnPostgres, runCluster } from "../src/postgres/own-postgres.js";
import type { RunnableCluster } from "../src/postgres/own-postgres.js";

/** A cluster whose start takes until somebody stops it: a recovery without end. */
class RecoveringCluster implements RunnableCluster {
  readonly pid = 1;
  readonly stops: StopMode[] = [];
  running: boolean;
  #fail: (error: Error) => void = () => undefined;

  /** @param hasPostmaster false while the start is still busy with what comes before the process */
  constructor(hasPostmaster: boolean) {
    this.running = hasPostmaster;
  }

  start(signal?: AbortSignal): Promise<void> {
    return new Promise((_resolve, reject) => {
      this.#fail = reject;
      signal?.addEventListener("abort", () => {
        if (!this.running) reject(new Error("called off"));
      });
    });
  }

  stop(mode: StopMode = "fast"): Promise<void> {
    if (!this.running) return Promise.resolve();
    this.stops.push(mode);
    this.running = false;
    this.#fail(new Error("it did not start"));
    return Promise.resolve();
  }

  kill(): Promise<void> {
    return Promise.resolve();
  }
}

// Aim: the end does not wait for a recovery. Method: both ways to end, during a start that would never be over by itself.
test.each([
  ["requestStop", "fast"],
  ["kill", "immediate"],
] as const)("%s ends a server that is still recovering", async (method, mode) => {
  const cluster = new RecoveringCluster(true);
  let isReady = false;
  const ended = new Promise<string>((resolve) => {
    runCluster(cluster, { ready: () => (isReady = true), ended: resolve })[method]();
  });
  await ended;
  expect(cluster.stops).toEqual([mode]);
  expect(isReady).toBe(false);
});

// Aim: a start without a process yet is called off. Method: the same with a cluster that has none.
test("a stop calls off a start that has no process yet", async () => {
  const cluster = new RecoveringCluster(false);
  const ended = new Promise<string>((resolve) => {
    runCluster(cluster, { ready: () => undefined, ended: resolve }).requestStop();
  });
  expect(await ended).toBe("called off");
  expect(cluster.stops).toEqual([]);
});

// Aim: a database that has gone is never replaced by an empty one. Method: a recorded cluster in an empty directory,
// with programs that do not exist: had initdb been tried, the message would be another one.
test("a recorded cluster that is not there is reported, not made anew", async () => {
  const directory = mkdtempSync(join(tmpdir(), "millrace-recorded-"));
  try {
    const installation: PostgresInstallation = {
      flavour: "given",
      binDirectory: "/nowhere",
      version: "15.0",
      major: 15,
      tool: () => undefined,
    };
    const options = { installation, directory, port: 1, password: "secret", settings: {} };
    await expect(openOwnPostgres(options, true)).rejects.toMatchObject({
      code: "ERR_SERVER_DATA",
      message: expect.stringContaining(directory) as string,
    });
    expect(await PostgresCluster.open(options)).toBeUndefined();
  } finally {
    rmSync(directory, { recursive: true });
  }
});
