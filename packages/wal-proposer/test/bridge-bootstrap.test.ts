// What a bridge does before the first election, decided from what the acceptors say.
import { INVALID_LSN, toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { AcceptorProbe } from "../src/acceptor-probe.js";
import { checkBeginning, firstConfiguration, nextBootstrapStep } from "../src/bridge-bootstrap.js";
import { checkIdentity } from "../src/bridge-ground.js";

const X1 = toLsn(0x200_0000n);
const X2 = toLsn(0x300_0000n);
const ABSENT: AcceptorProbe = { type: "absent" };
const AWAY: AcceptorProbe = { type: "unreachable", error: new Error("refused") };
const NO: AcceptorProbe = { type: "refused", error: new Error("system id") };

function present(term: bigint, flushLsn: Lsn, commitLsn: Lsn = flushLsn): AcceptorProbe {
  return { type: "present", nodeId: 1n, term, flushLsn, commitLsn };
}

// Aim: a new timeline is created on all, a half-made one is completed where it began. Method: the three cases.
test("missing timelines are created, at the beginning that others have", () => {
  expect(nextBootstrapStep([ABSENT, ABSENT, ABSENT])).toEqual({
    type: "create",
    startLsn: undefined,
    missing: [0, 1, 2],
  });
  expect(nextBootstrapStep([ABSENT, present(0n, X1), ABSENT])).toEqual({
    type: "create",
    startLsn: X1,
    missing: [0, 2],
  });
  expect(nextBootstrapStep([present(0n, X1), present(0n, X1), present(0n, X1)])).toEqual({
    type: "elect",
    missing: [],
  });
});

// Aim: nothing is created and nobody is elected while it is unknown what an absent acceptor holds. Method: examples.
test("before the first election every acceptor must answer", () => {
  expect(nextBootstrapStep([ABSENT, ABSENT, AWAY]).type).toBe("wait");
  expect(nextBootstrapStep([present(0n, X1), present(0n, X1), AWAY]).type).toBe("wait");
  expect(nextBootstrapStep([AWAY, AWAY, AWAY]).type).toBe("wait");
  expect(nextBootstrapStep([NO, ABSENT, ABSENT]).type).toBe("wait");
});

// Aim: an acceptor that has forgotten its votes never gets an empty timeline. Method: one has a term, others have none.
test("after an election a missing timeline is left missing", () => {
  expect(nextBootstrapStep([present(3n, X2, X1), ABSENT, AWAY])).toEqual({ type: "elect", missing: [1] });
  expect(nextBootstrapStep([present(1n, X1), present(0n, X1), ABSENT])).toEqual({
    type: "elect",
    missing: [2],
  });
});

// Aim: beginnings that contradict each other, and logs nobody began, are refused. Method: examples of each.
test("contradictions are refused", () => {
  const conflict = expect.objectContaining({ code: "ERR_BRIDGE_BOOTSTRAP_CONFLICT" });
  expect(() => nextBootstrapStep([present(0n, X1), present(0n, X2), ABSENT])).toThrow(conflict);
  expect(() => nextBootstrapStep([present(0n, X1), present(0n, X2), present(0n, X1)])).toThrow(conflict);
  expect(() => nextBootstrapStep([present(0n, X2, X1), ABSENT, ABSENT])).toThrow(conflict);
  expect(() => nextBootstrapStep([present(0n, INVALID_LSN), ABSENT, ABSENT])).toThrow(conflict);
  const refused = expect.objectContaining({ code: "ERR_BRIDGE_ACCEPTOR" });
  expect(() => nextBootstrapStep([NO, NO, AWAY])).toThrow(refused);
  const nodeId = expect.objectContaining({ code: "ERR_BRIDGE_NODE_ID" });
  expect(() =>
    firstConfiguration([
      { host: "a", port: 1, nodeId: 1n },
      { host: "b", port: 1 },
    ]),
  ).toThrow(nodeId);
  expect(firstConfiguration([{ host: "a", port: 1, nodeId: 7n }])).toEqual({
    generation: 1,
    members: [{ nodeId: 7n, host: "a", port: 1 }],
    newMembers: [],
  });
});

// Aim: creating is only ever proposed when all have answered and nobody has a past, so that it cannot erase a vote.
// Method: random answers.
test("an empty timeline is created only where nobody can have voted", () => {
  const probe = fc.oneof(
    fc.constantFrom(ABSENT, AWAY, NO),
    fc
      .tuple(fc.bigInt({ min: 0n, max: 2n }), fc.constantFrom(X1, X2))
      .map(([term, lsn]) => present(term, lsn)),
  );
  fc.assert(
    fc.property(fc.array(probe, { minLength: 1, maxLength: 5, size: "max" }), (probes) => {
      let step;
      try {
        step = nextBootstrapStep(probes);
      } catch {
        return;
      }
      if (step.type !== "create") return;
      for (const answer of probes) {
        expect(answer.type === "absent" || (answer.type === "present" && answer.term === 0n)).toBe(true);
        if (answer.type === "present") expect(answer.flushLsn).toBe(step.startLsn);
      }
      expect(step.missing).toEqual(probes.flatMap(({ type }, index) => (type === "absent" ? [index] : [])));
    }),
    { numRuns: 2000 },
  );
});

// Aim: only what can be bridged is bridged. Method: another cluster, a promoted standby.
test("another cluster and a changed timeline are refused", () => {
  expect(() => checkIdentity({ systemId: 5n, timelineId: 1 }, undefined)).not.toThrow();
  expect(() => checkIdentity({ systemId: 5n, timelineId: 1 }, 5n)).not.toThrow();
  expect(() => checkIdentity({ systemId: 5n, timelineId: 1 }, 6n)).toThrow(
    expect.objectContaining({ code: "ERR_BRIDGE_SYSTEM_ID" }),
  );
  expect(() => checkIdentity({ systemId: 5n, timelineId: 2 }, 5n, 1)).toThrow(
    expect.objectContaining({ code: "ERR_BRIDGE_TIMELINE_ID" }),
  );
});

// Aim: a log never begins in the middle of a record or of a segment. Method: bytes that are no page, a position that
// is no segment's start; the stream is closed either way.
test("a beginning that is none is refused", async () => {
  const identity = {
    systemId: 1n,
    timelineId: 1,
    flushLsn: X2,
    versionNumber: 150_018,
    major: 15,
    segmentBytes: 1024 * 1024,
  };
  const refused = { code: "ERR_BRIDGE_BOOTSTRAP_POSITION" };
  for (const startLsn of [X1, toLsn(X1 + 8n)]) {
    let closed = 0;
    const stream = {
      next: async () => ({ startLsn, bytes: new Uint8Array(8192) }),
      close: () => {
        closed += 1;
      },
    };
    await expect(checkBeginning(stream, startLsn, identity)).rejects.toMatchObject(refused);
    expect(closed).toBe(1);
  }
});
