/**
 * The bridge as a part of the all-in-one: what is kept of its words, and after which ends it is started again. Driven
 * without processes and without waiting.
 */
import { expect, test } from "vitest";

import { toLsn } from "@millrace/lsn";

import { EXIT } from "../src/errors.js";
import { silentLogger } from "../src/logging.js";
import { BridgePart } from "../src/parts/bridge-part.js";
import type { ChildMessage } from "../src/parts/messages.js";
import type { ChildEvents, Timers } from "../src/parts/supervisor.js";
import type { BridgeReport } from "../src/status/cluster-status.js";

const REPORT: BridgeReport = {
  state: "streaming",
  term: 5n,
  termStartLsn: toLsn(1000n),
  reconnects: 0,
  receivedLsn: toLsn(5000n),
  commitLsn: toLsn(900n),
  reportedLsn: toLsn(900n),
  divergence: undefined,
  acceptors: [],
};

interface Life {
  readonly tell: (message: ChildMessage) => void;
  readonly events: ChildEvents;
}

/** A bridge whose restarts come when the test says so. */
function world(): { readonly part: BridgePart; readonly lives: Life[]; readonly restart: () => void } {
  const lives: Life[] = [];
  let due: (() => void) | undefined;
  const timers: Timers = {
    nowMs: () => 0,
    after: (_delayMs, callback) => {
      due = callback;
      return () => {
        due = undefined;
      };
    },
  };
  const part = new BridgePart({
    postgres: {
      urlFile: "url",
      instance: { version: 1, tenantId: "1", timelineId: "2", postgres: { kind: "external" } },
      process: undefined,
    },
    places: [],
    logger: silentLogger(),
    logLevel: "info",
    timers,
    spawn: (tell, events) => {
      lives.push({ tell, events });
      return { pid: lives.length, requestStop: () => undefined, kill: () => undefined };
    },
  });
  part.process.start();
  return { part, lives, restart: () => due?.() };
}

// Aim: only the two ends that a restart cannot help are final, and they say why. Method: each code as a life's end.
test("a bridge that was fenced or refused stays down with its reason", () => {
  for (const code of [EXIT.termLost, EXIT.refused]) {
    const { part, lives, restart } = world();
    lives[0]?.events.ready();
    lives[0]?.tell({
      type: "bridge-ended",
      reason: "higher_term",
      detail: "acceptor 1 is in term 9",
      divergence: "equal",
    });
    lives[0]?.events.ended(`exit code ${code}`, code);
    restart();
    expect(lives.length).toBe(1);
    expect(part.process.state).toBe("halted");
    expect(part.process.lastEnd).toBe(`exit code ${code}: acceptor 1 is in term 9`);
    expect(part.ends.get("higher_term")).toBe(1);
    expect(part.divergenceChecks.get("equal")).toBe(1);
  }
  for (const code of [EXIT.failure, EXIT.unavailable, undefined]) {
    const { part, lives, restart } = world();
    lives[0]?.events.ended("it ended", code);
    restart();
    expect(lives.length).toBe(2);
    expect(part.process.lastEnd).toBe("it ended");
  }
});

// Aim: what one life said is not said of the next, and its positions go with it. Method: two lives, the second silent.
test("reports and last words belong to one life", async () => {
  const { part, lives, restart } = world();
  lives[0]?.events.ready();
  const committed = part.firstCommit();
  lives[0]?.tell({ type: "bridge-status", status: REPORT });
  expect(part.report).toBe(REPORT);
  lives[0]?.tell({ type: "bridge-status", status: { ...REPORT, commitLsn: toLsn(1000n) } });
  await committed;
  lives[0]?.tell({
    type: "bridge-ended",
    reason: "pg_lost",
    detail: "PostgreSQL is gone",
    divergence: "lost",
  });
  lives[0]?.events.ended("exit code 69", EXIT.unavailable);
  expect(part.report).toBeUndefined();
  restart();
  lives[1]?.events.ended("signal SIGKILL", undefined);
  expect(part.process.lastEnd).toBe("signal SIGKILL");
  expect([part.divergenceChecks.get("lost"), part.divergenceChecks.get("equal")]).toEqual([1, 0]);
  expect([part.ends.get("pg_lost"), part.ends.get("signal")]).toEqual([1, 1]);
});
