/**
 * Which position a request is answered at, and what is refused.
 */
import { toLsn } from "@millrace/lsn";
import { expect, test } from "vitest";
import { effectiveLsn, LATEST_LSN, PagestreamError, parseCommand, positionToAwait } from "../src/index.js";

const timeline = {
  lastRecordLsn: toLsn(1000n),
  gcCutoffLsn: toLsn(500n),
  isLeased: (lsn: bigint) => lsn === 300n,
};
const header = (request: bigint, since: bigint) => ({
  requestId: 0n,
  requestLsn: toLsn(request),
  notModifiedSinceLsn: toLsn(since),
});

test.each([
  ["before the last record", 800n, 600n, undefined, 800n],
  ["at the last record", 1000n, 1000n, undefined, 1000n],
  ["ahead, unchanged since before", 2000n, 900n, undefined, 1000n],
  ["the latest", LATEST_LSN, 1n, undefined, 1000n],
  ["ahead, changed since", 2000n, 1500n, 1500n, 1500n],
  ["leased below the cutoff", 300n, 300n, undefined, 300n],
  ["at the cutoff", 500n, 0n, undefined, 500n],
] as const)("a request %s", (_what, request, since, wait, effective) => {
  expect(positionToAwait(header(request, since), timeline)).toBe(wait);
  expect(effectiveLsn(header(request, since), timeline)).toBe(effective);
});

test.each([
  ["not modified after it was asked for", 700n, 701n],
  ["at no position", 0n, 0n],
  ["below the cutoff", 499n, 400n],
])("a request %s is refused", (_what, request, since) => {
  let code: string | undefined;
  try {
    positionToAwait(header(request, since), timeline);
  } catch (error) {
    code = error instanceof PagestreamError ? error.code : String(error);
  }
  expect(code).toBe("ERR_PAGESTREAM_REQUEST");
});

const T = "0123456789abcdef0123456789abcdef";
const U = "fedcba9876543210fedcba9876543210";

test("commands are understood", () => {
  expect(parseCommand(`pagestream_v2 ${T} ${U}`)).toEqual({
    kind: "pagestream",
    version: 2,
    tenant: T,
    timeline: U,
  });
  expect(parseCommand(` pagestream_v3  ${T.toUpperCase()} ${U}; `)).toEqual({
    kind: "pagestream",
    version: 3,
    tenant: T,
    timeline: U,
  });
  expect(parseCommand(`lease lsn ${T} ${U} 0/16B3748`)).toEqual({
    kind: "lease",
    tenant: T,
    timeline: U,
    lsn: 0x16b3748n,
  });
  expect(parseCommand("set statement_timeout = 0")).toEqual({ kind: "set" });
});

test.each([
  "",
  "select 1",
  "pagestream_v1 a b",
  `pagestream_v2 ${T}`,
  `pagestream_v2 ${T} ${U} more`,
  `pagestream_v2 ${T} nonsense`,
  `lease lsn ${T} ${U}`,
  `lease lsn ${T} ${U} nowhere`,
  `lease ${T} ${U} 0/1`,
])("the command %j is refused", (query) => {
  expect(() => parseCommand(query)).toThrow(expect.objectContaining({ code: "ERR_PAGESTREAM_COMMAND" }));
});
