/** Without the native part: the package works, by worker threads, and says what it does without. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

import { expect, test } from "vitest";

import { BlockFile } from "./fixture.js";

// Aim: "auto" is worker, the reason is there, and I/O works. Method: a child process in which loading it is forbidden.
test("method auto becomes worker and says why", () => {
  using file = new BlockFile(8);
  const script = fileURLToPath(new URL("choice-reporter.mjs", import.meta.url));
  const env = { ...process.env, MILLRACE_NATIVE: "0" };
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, file.path], {
    encoding: "utf8",
    env,
  });
  expect(stderr).toBe("");
  expect(status).toBe(0);
  const said = JSON.parse(stdout) as { fallbacks: { reason: string }[] };
  expect(said).toMatchObject({
    method: "worker",
    fallbacks: [{ method: "io_uring" }],
    result: { status: "ok", result: 8192 },
    words: [5, 5],
  });
  expect(said.fallbacks[0]?.reason).toContain("MILLRACE_NATIVE");
});
