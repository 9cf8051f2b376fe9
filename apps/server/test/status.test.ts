/**
 * Status: the line, the document, the page and who may ask for them.
 */
import { expect, test } from "vitest";

import { toLsn } from "@millrace/lsn";

import { createStatusApi } from "../src/http/status-api.js";
import { CommitRate, commitLagBytes, statusDocument } from "../src/status/cluster-status.js";
import type { AcceptorReport, ClusterStatus } from "../src/status/cluster-status.js";
import { formatBytes, LiveLine, statusText } from "../src/status/status-line.js";
import { STATUS_PAGE } from "../src/status/status-page.js";

function acceptor(id: number, state: AcceptorReport["state"], stream: string): AcceptorReport {
  const walAddress = `127.0.0.1:${5000 + id}`;
  return {
    id,
    walAddress,
    httpUrl: `http://127.0.0.1:${6000 + id}`,
    state,
    pid: state === "ready" ? 100 + id : undefined,
    restarts: id,
    lastEnd: undefined,
    stream: {
      address: walAddress,
      state: stream,
      nodeId: BigInt(id),
      flushLsn: toLsn(0x1_0000_0000n + BigInt(id)),
      voted: true,
    },
  };
}

const STATUS: ClusterStatus = {
  uptimeMs: 1234.5,
  dataDirectory: "/data",
  postgres: { kind: "system PostgreSQL 15.18", address: "127.0.0.1:5432/postgres", state: "running" },
  bridge: {
    state: "ready",
    pid: 99,
    restarts: 0,
    lastEnd: undefined,
    ends: new Map([["signal", 3]]),
    divergenceChecks: new Map([["equal", 1]]),
    report: {
      state: "streaming",
      term: 2n ** 60n,
      termStartLsn: toLsn(0x1_0000_0000n),
      reconnects: 2,
      receivedLsn: toLsn(0x1_0000_0000n + 5000n),
      commitLsn: toLsn(0x1_0000_0000n + 904n),
      reportedLsn: toLsn(0x1_0000_0000n + 904n),
      divergence: "equal",
      acceptors: [],
    },
  },
  acceptors: [
    acceptor(1, "ready", "active"),
    acceptor(2, "waiting", "offline"),
    acceptor(3, "ready", "active"),
  ],
  commitBytesPerSecond: 3_500_000,
};

// Aim: the line says commit LSN, lag, rate, term and acceptors up. Method: one status with and one without a bridge.
test("the line says where the quorum is", () => {
  expect(statusText(STATUS)).toBe(
    "commit 1/388  lag 4.00 KiB  3.34 MiB/s  term 1152921504606846976 streaming  acceptors 2/3 up",
  );
  const down: ClusterStatus = {
    ...STATUS,
    postgres: { ...STATUS.postgres, state: "waiting" },
    bridge: { ...STATUS.bridge, state: "waiting", report: undefined },
    commitBytesPerSecond: 0,
  };
  expect(statusText(down)).toBe(
    "commit -  lag 0 B  0 B/s  bridge waiting  acceptors 2/3 up  PostgreSQL waiting",
  );
  expect(commitLagBytes(down)).toBe(0);
});

// Aim: sizes read well at every magnitude. Method: the borders between units.
test.each([
  [0, "0 B"],
  [999, "999 B"],
  [1000, "0.98 KiB"],
  [1024 * 20, "20.0 KiB"],
  [1024 * 1024 * 700, "700 MiB"],
  [1024 ** 5 * 3, "3072 TiB"],
])("%d bytes are %s", (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

// Aim: on a terminal, log lines and the line never mix, and a long line does not wrap.
// Method: replay what was written on a screen of one line plus a scrolled log.
test("printing above the line keeps both whole", () => {
  let written = "";
  const live = new LiveLine({ columns: 10, write: (text: string) => (written += text) });
  live.print("first");
  live.show("0123456789abc");
  live.print("second\n");
  live.show("short");
  live.close();
  live.print("last");
  const clear = "\r\u001B[2K";
  const unknown: string[] = [];
  new LiveLine({ columns: 0, write: (text: string) => unknown.push(text) }).show("x".repeat(100));
  expect(unknown[0]?.length).toBe(79 + "\r\u001B[2K".length);
  expect(written).toBe(`first\n${clear}012345678${clear}second\n012345678${clear}short${clear}last\n`);
});

// Aim: no position is no rate, and the first one is no burst. Method: nothing, then a bridge's first report.
test("there is no rate before there are two positions", () => {
  const rate = new CommitRate();
  expect(rate.bytesPerSecond()).toBe(0);
  rate.note(0, 0n);
  rate.note(0, 2n ** 60n);
  expect(rate.bytesPerSecond()).toBe(0);
});

// Aim: the rate follows the last seconds only and stops when commits stop. Method: steady, then nothing.
test("the rate is that of the last seconds", () => {
  const rate = new CommitRate();
  rate.note(0, 0n);
  for (let second = 0; second <= 20; second += 1) rate.note(second * 1000, 5000n + BigInt(second) * 1000n);
  expect(rate.bytesPerSecond()).toBe(1000);
  for (let second = 21; second <= 40; second += 1) rate.note(second * 1000, 25_000n);
  expect(rate.bytesPerSecond()).toBe(0);
});

// Aim: the document keeps every digit of 64-bit numbers and writes LSNs as PostgreSQL does. Method: ask the API.
test("the status is served as JSON with all digits", async () => {
  const response = await createStatusApi(() => STATUS, "127.0.0.1").request("/v1/status", {
    headers: { host: "127.0.0.1:7680" },
  });
  const text = await response.text();
  expect(response.status).toBe(200);
  expect(text).toContain('"term":1152921504606846976');
  expect(text).toContain('"commit_lsn":"1/388"');
  expect(statusDocument(STATUS)).toMatchObject({ acceptors_up: 2, commit_lag_bytes: 4096 });
});

// Aim: the page is self-contained and cannot be read through a foreign name. Method: its text, its headers, a
// request as a browser makes it after DNS rebinding.
test("the page loads nothing from elsewhere and answers only to local names", async () => {
  const api = createStatusApi(() => STATUS, "status.internal");
  const page = await api.request("/", { headers: { host: "[::1]:7680" } });
  expect(page.status).toBe(200);
  expect(page.headers.get("content-security-policy")).toContain("default-src 'none'");
  expect(await page.text()).toBe(STATUS_PAGE);
  expect(STATUS_PAGE).not.toMatch(/https?:\/\//);
  expect(STATUS_PAGE).not.toContain("innerHTML");
  for (const host of ["localhost:1", "status.internal", "10.0.0.7:80"]) {
    expect((await api.request("/", { headers: { host } })).status).toBe(200);
  }
  expect((await api.request("/v1/status", { headers: { host: "evil.example" } })).status).toBe(421);
  expect((await api.request("/nothing", { headers: { host: "localhost" } })).status).toBe(404);
});

// Aim: the script in the page is valid and shows what the document says. Method: run it against the document with a
// minimal document model; every id that the script writes to must exist in the page.
test("the page's script fills every place with the document's figures", async () => {
  const script = /<script>([\s\S]*)<\/script>/.exec(STATUS_PAGE)?.[1] ?? "";
  const ids = [...STATUS_PAGE.matchAll(/ id="([a-z]+)"/g)].map((match) => match[1]);
  type FakeNode = {
    textContent: string;
    className: string;
    children: FakeNode[];
    append(child: FakeNode): void;
    replaceChildren(...children: FakeNode[]): void;
  };
  const node = (): FakeNode => {
    const made: FakeNode = {
      textContent: "",
      className: "",
      children: [],
      append: (child) => made.children.push(child),
      replaceChildren: (...children) => {
        made.children = children;
      },
    };
    return made;
  };
  const nodes = new Map(ids.map((id) => [id, node()]));
  const document = { body: node(), getElementById: (id: string) => nodes.get(id), createElement: node };
  const json = JSON.parse(
    JSON.stringify(statusDocument(STATUS), (_key, value: unknown) =>
      typeof value === "bigint" ? Number(value) : value,
    ),
  ) as unknown;
  let polled: () => void = () => undefined;
  const done = new Promise<void>((resolve) => {
    polled = resolve;
  });
  // eslint-disable-next-line no-new-func, typescript/no-implied-eval -- the page's own script, as a browser runs it
  const run = new Function("document", "fetch", "setTimeout", script) as (...args: unknown[]) => void;
  run(document, () => Promise.resolve({ ok: true, json: () => Promise.resolve(json) }), polled);
  await done;
  expect(document.body.className).toBe("");
  expect(nodes.get("commit")?.textContent).toBe("1/388");
  expect(nodes.get("up")?.textContent).toBe("2 of 3");
  expect(nodes.get("verdict")?.textContent).toContain("2 of 3 acceptors");
  expect(nodes.get("acceptors")?.children.map((row) => row.children[2]?.textContent)).toEqual([
    "ready",
    "waiting",
    "ready",
  ]);
});
