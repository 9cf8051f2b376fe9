// Many rounds of a package's test/thread-death-soak.test.ts: `npm run soak:aio -- --rounds 1000 [--seed 7]`, `npm run soak:pool`.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "1000" }, seed: { type: "string", default: "1" } },
});
for (const [name, value] of Object.entries(values)) {
  if (!/^[1-9]\d*$/.test(value)) throw new RangeError(`--${name} takes a number from 1 on, not ${value}`);
}
const [project, ...rest] = positionals;
if (project === undefined || rest.length > 0) throw new TypeError("the name of one package is needed");
const { status } = spawnSync(
  process.execPath,
  ["node_modules/vitest/vitest.mjs", "run", "--project", project, "thread-death-soak"],
  {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    stdio: "inherit",
    env: { ...process.env, MILLRACE_SOAK_ROUNDS: values.rounds, MILLRACE_SOAK_SEED: values.seed },
  },
);
process.exitCode = status ?? 1;
