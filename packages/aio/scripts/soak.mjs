// Many rounds of the soak in test/thread-death-soak.test.ts: `npm run soak:aio -- --rounds 1000 [--seed 7]`.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "1000" }, seed: { type: "string", default: "1" } },
});
for (const [name, value] of Object.entries(values)) {
  if (!/^[1-9]\d*$/.test(value)) throw new RangeError(`--${name} takes a number from 1 on, not ${value}`);
}
const root = fileURLToPath(new URL("../../..", import.meta.url));
const { status } = spawnSync(
  process.execPath,
  ["node_modules/vitest/vitest.mjs", "run", "--project", "aio", "thread-death-soak"],
  {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, MILLRACE_SOAK_ROUNDS: values.rounds, MILLRACE_SOAK_SEED: values.seed },
  },
);
process.exitCode = status ?? 1;
