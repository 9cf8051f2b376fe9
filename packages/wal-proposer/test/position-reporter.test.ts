// The rules by which positions are reported to PostgreSQL, on a time line made of plain numbers.
import { INVALID_LSN, toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import fc from "fast-check";
import { expect, test } from "vitest";
import { checkReport, PositionReporter } from "../src/index.js";
import type { PositionReport } from "../src/index.js";

const at = (value: number): Lsn => toLsn(BigInt(value));
const positions = (lsn: Lsn): PositionReport => ({ writeLsn: lsn, flushLsn: lsn, applyLsn: lsn });

// Aim: before the first commit of its own term a proposer promises nothing. Method: commits just below the start.
test("nothing is reported until the commit reaches the term's start", () => {
  const reporter = new PositionReporter({ startLsn: at(500), floorLsn: at(1000), nowMs: 0 });
  reporter.received(at(5000));
  reporter.committed(at(999));
  expect(reporter.dueAtMs()).toBe(10_000);
  expect(reporter.take(10_000)).toEqual(positions(INVALID_LSN));
  reporter.committed(at(1000));
  expect(reporter.take(10_000)).toEqual(positions(at(1000)));
});

// Aim: acceptors may already hold more than this connection has delivered. Method: commit ahead of received.
test("the report stops at what was received on this connection", () => {
  const reporter = new PositionReporter({ startLsn: at(500), floorLsn: at(1000), nowMs: 0 });
  reporter.committed(at(4000));
  expect(reporter.take(0)).toBeUndefined();
  reporter.received(at(1500));
  expect(reporter.take(0)).toEqual(positions(at(1500)));
  reporter.received(at(6000));
  expect(reporter.take(0)).toEqual(positions(at(4000)));
});

// Aim: a commit is passed on at once, the quiet stream every ten seconds. Method: ask when the next one is due.
test("an advance is due at once and silence is broken at the interval", () => {
  const reporter = new PositionReporter({ startLsn: at(1000), floorLsn: at(1000), nowMs: 0 });
  reporter.received(at(9000));
  reporter.committed(at(2000));
  expect(reporter.take(5)).toEqual(positions(at(2000)));
  expect(reporter.take(5)).toBeUndefined();
  reporter.committed(at(2001));
  expect(reporter.dueAtMs()).toBe(5);
  expect(reporter.take(6)).toEqual(positions(at(2001)));
  expect(reporter.dueAtMs()).toBe(10_006);
  expect(reporter.take(10_005)).toBeUndefined();
  expect(reporter.take(10_006)).toEqual(positions(at(2001)));
});

// Aim: a walsender that shuts down answers every reply with a request; that must not become a storm.
// Method: request a reply after each report and count the reports of one simulated second.
test("replies that say nothing new go out at most every 50 ms", () => {
  const reporter = new PositionReporter({ startLsn: at(1000), floorLsn: at(1000), nowMs: 0 });
  reporter.committed(at(1000));
  expect(reporter.take(0)).toEqual(positions(at(1000)));
  const sentAt: number[] = [];
  for (let nowMs = 0; nowMs < 1000; nowMs += 1) {
    reporter.replyRequested();
    if (reporter.take(nowMs) !== undefined) sentAt.push(nowMs);
  }
  expect(sentAt.length).toBe(19);
  expect(sentAt[0]).toBe(50);
});

// Aim: the first request of a fresh connection is answered without delay. Method: ask before anything was sent.
test("the first requested reply is due at once", () => {
  const reporter = new PositionReporter({ startLsn: at(1000), floorLsn: at(1000), nowMs: 70 });
  reporter.replyRequested();
  expect(reporter.take(70)).toEqual(positions(INVALID_LSN));
});

// Aim: the retain slot moves rarely and never backwards. Method: a floor above the first positions, a gap of 1 s.
test("advances wait for the gap, and nothing below the floor goes out", () => {
  const reporter = new PositionReporter({
    startLsn: at(9000),
    floorLsn: at(3000),
    nowMs: 0,
    advanceGapMs: 1000,
  });
  reporter.committed(at(2000));
  expect(reporter.dueAtMs()).toBe(10_000);
  reporter.committed(at(3500));
  expect(reporter.take(0)).toEqual(positions(at(3500)));
  reporter.committed(at(3600));
  expect(reporter.take(999)).toBeUndefined();
  expect(reporter.take(1000)).toEqual(positions(at(3600)));
});

// Aim: with apply withheld, remote_apply waits honestly. Method: read the three positions of one report.
test("apply can be withheld", () => {
  const reporter = new PositionReporter({
    startLsn: at(1000),
    floorLsn: at(1000),
    nowMs: 0,
    reportApply: "none",
  });
  reporter.received(at(1200));
  reporter.committed(at(1100));
  expect(reporter.take(0)).toEqual({ writeLsn: at(1100), flushLsn: at(1100), applyLsn: INVALID_LSN });
  expect(reporter.takeFinal(1)).toEqual({ writeLsn: at(1100), flushLsn: at(1100), applyLsn: INVALID_LSN });
});

// Aim: whatever arrives in whatever order, no report exceeds the truth or goes back. Method: random events, with
// truth kept beside the reporter; every report also passes the independent check that guards the socket.
test("reports never exceed what was received and committed and never go back", () => {
  const event = fc.oneof(
    fc.record({ type: fc.constant("received" as const), lsn: fc.nat(5000) }),
    fc.record({ type: fc.constant("committed" as const), lsn: fc.nat(5000) }),
    fc.record({ type: fc.constant("requested" as const), lsn: fc.constant(0) }),
  );
  const steps = fc.array(fc.tuple(event, fc.nat(120)), { maxLength: 200, size: "max" });
  fc.assert(
    fc.property(fc.nat(2000), fc.nat(2000), steps, (start, floor, events) => {
      const reporter = new PositionReporter({ startLsn: at(start), floorLsn: at(floor), nowMs: 0 });
      let nowMs = 0;
      let receivedLsn = at(start);
      let committedLsn = INVALID_LSN;
      let reportedLsn = INVALID_LSN;
      for (const [step, waitMs] of events) {
        const lsn = at(step.lsn);
        if (step.type === "received") {
          reporter.received(lsn);
          if (lsn > receivedLsn) receivedLsn = lsn;
        } else if (step.type === "committed") {
          reporter.committed(lsn);
          if (lsn > committedLsn) committedLsn = lsn;
        } else {
          reporter.replyRequested();
        }
        nowMs += waitMs;
        const report = reporter.take(nowMs);
        if (report === undefined) continue;
        checkReport(report, { receivedLsn, committedLsn, reportedLsn });
        expect(report.flushLsn === INVALID_LSN || report.flushLsn >= at(floor)).toBe(true);
        reportedLsn = report.flushLsn;
      }
    }),
  );
});

// Aim: the guard in front of the socket stops each kind of wrong report. Method: one violation at a time.
test("the guard refuses positions above received, above committed and below the last report", () => {
  const limits = { receivedLsn: at(100), committedLsn: at(90), reportedLsn: at(50) };
  expect(() => checkReport(positions(at(90)), limits)).not.toThrow();
  const refused = expect.objectContaining({ code: "ERR_BRIDGE_OVERREPORT" });
  expect(() => checkReport(positions(at(91)), limits)).toThrow(refused);
  expect(() =>
    checkReport(positions(at(95)), { ...limits, committedLsn: at(200), receivedLsn: at(94) }),
  ).toThrow(refused);
  expect(() => checkReport({ ...positions(at(60)), applyLsn: at(91) }, limits)).toThrow(refused);
  expect(() => checkReport(positions(at(49)), limits)).toThrow(refused);
});
