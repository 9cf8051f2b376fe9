// `npm start -- <arguments>`: installs what is missing, builds what has changed, then becomes the server.
//
// One process from npm's point of view: the manifest says `exec`, so that no shell stays between npm and this, and
// the program is loaded into this process instead of being its child. A signal sent to `npm start` then reaches the
// server, and not a shell that would die and leave the server behind.

import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const program = join(root, "apps", "server", "dist", "main.js");

function run(command, args) {
  const done = spawnSync(command, args, {
    cwd: root,
    stdio: ["ignore", 2, 2],
    env: { ...process.env, TURBO_TELEMETRY_DISABLED: "1" },
  });
  if (done.signal !== null || done.status !== 0) process.exit(done.status ?? 1);
}

run(process.execPath, [join(root, "scripts", "setup.mjs")]);
// Only the server and what it is built of: another application that does not build must not stop it.
run(join(root, "node_modules", ".bin", "turbo"), [
  "run",
  "build",
  "--filter=@millrace/server...",
  "--output-logs=errors-only",
]);

process.argv[1] = program;
await import(pathToFileURL(program).href);
