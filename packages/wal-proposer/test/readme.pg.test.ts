/** The README's example is a file of its own, so that it is compiled, run here and shown unchanged. */
import { unsubscribe } from "node:diagnostics_channel";
import { readFile } from "node:fs/promises";
import { postgresOrSkip } from "@millrace/postgres-process";
import { expect, test } from "vitest";
import { DIAGNOSTICS_CHANNEL } from "../src/index.js";
import { Primary } from "./harness/primary.js";
import { openBridge } from "./readme-example.js";

const { installation, skip } = postgresOrSkip("any");

// Aim: the README shows the example that the next test runs. Method: look for its text.
test("the README shows the example unchanged", async () => {
  const example = await readFile(new URL("readme-example.ts", import.meta.url), "utf8");
  const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
  expect(readme).toContain(`\`\`\`ts\n${example}\`\`\``);
});

// Aim: the example does what it says. Method: run it against a PostgreSQL, commit, close; the notices tell the story.
test.skipIf(skip !== "")(
  `the example of the README bridges a PostgreSQL ${skip}`,
  { timeout: 60_000 },
  async () => {
    if (installation === undefined) throw new Error(skip);
    await using primary = await Primary.start(installation);
    const types = new Set<string>();
    const log = (notice: unknown): void => void types.add((notice as { type: string }).type);
    const { acceptors } = primary.options();
    const create = async (request: Parameters<Primary["create"]>[0]): Promise<void> =>
      primary.create(request);
    const bridge = await openBridge(primary.cluster.url(), acceptors, create, log);
    const sql = await primary.sql();
    await sql.query("CREATE TABLE t (i int)");
    expect(bridge.status().state).toBe("streaming");
    await bridge.close();
    unsubscribe(DIAGNOSTICS_CHANNEL, log);
    expect(await bridge.closed).toMatchObject({ reason: "closed" });
    for (const type of ["acceptor-open", "campaign", "elected", "bridge-state", "ended"])
      expect(types).toContain(type);
  },
);
