// Installs the workspace's dependencies when, and only when, they are not what the manifests ask for.
//
// A stamp in node_modules holds a hash of everything an install depends on: the lock file, the workspace
// file, every package.json and the Node version. When it matches, this script costs a few milliseconds and
// touches no network; so `npm start` and `npm test` can both begin with it. pnpm comes through npx at the
// version pinned in package.json, so nothing has to be installed globally.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const stampFile = join(root, "node_modules", ".setup-stamp");

function manifests() {
  const found = ["pnpm-lock.yaml", "pnpm-workspace.yaml", "package.json", ".npmrc"];
  for (const group of ["packages", "apps"]) {
    if (!existsSync(join(root, group))) continue;
    for (const name of readdirSync(join(root, group)).sort()) found.push(join(group, name, "package.json"));
  }
  return found.filter((file) => existsSync(join(root, file)));
}

function wanted() {
  const hash = createHash("sha256").update(process.version);
  for (const file of manifests()) hash.update(file).update(readFileSync(join(root, file)));
  return hash.digest("hex");
}

const stamp = wanted();
if (!existsSync(stampFile) || readFileSync(stampFile, "utf8") !== stamp) {
  const { packageManager } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const pnpm = packageManager.split("+")[0];
  // npm's own settings must not leak into pnpm (an npm_config_* variable is read by both).
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([key]) => !/^npm_(config|package)_/.test(key)),
  );
  const install = ["--yes", pnpm, "install", "--frozen-lockfile", "--prefer-offline"];
  const done = spawnSync("npx", install, { cwd: root, stdio: ["ignore", 2, 2], env: { ...env, CI: "1" } });
  if (done.status !== 0) {
    console.error(`setup: \`npx ${install.join(" ")}\` failed${done.error ? `: ${done.error.message}` : ""}`);
    process.exit(done.status ?? 1);
  }
  mkdirSync(dirname(stampFile), { recursive: true });
  writeFileSync(stampFile, stamp);
}
