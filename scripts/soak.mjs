// Many rounds of a test that npm test runs only a few of, or none: `npm run soak:aio -- --rounds 1000 [--seed 7]`, soak:pool,
// soak:crash, soak:power-loss. Takes the package and the beginning of the test's name.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "1000" }, seed: { type: "string", default: "1" } },
});
for (const [option, value] of Object.entries(values)) {
  if (!/^[1-9]\d*$/.test(value)) throw new RangeError(`--${option} takes a number from 1 on, not ${value}`);
}
const [project, name, ...rest] = positionals;
if (project === undefined || name === undefined || rest.length > 0)
  throw new TypeError("the name of a package and of a test are needed");
const { status } = spawnSync(
  process.execPath,
  ["node_modules/vitest/vitest.mjs", "run", "--project", project, name],
  {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    stdio: "inherit",
    env: {
      ...process.env,
      MILLRACE_SOAK_ROUNDS: values.rounds,
      // Its own variable, as it mounts: nobody gets it who only wants more rounds.
      ...(name === "power-loss" ? { MILLRACE_SOAK_POWER_CUTS: values.rounds } : {}),
      MILLRACE_SOAK_SEED: values.seed,
    },
  },
);
process.exitCode = status ?? 1;
