// Builds the addon into prebuilds/<platform>-<arch>/io-uring.node, with the headers that lie beside the running Node.
//
// Never an install script: packages ship the binary, and a repository builds it with `npm run build`. A failure is
// one warning and exit code 0, since everything works without the addon, only slower. MILLRACE_NATIVE=0 skips the
// build, MILLRACE_NATIVE=require makes a failure fatal (CI, releases).
//
// node-gyp first, then the bare compiler: node-gyp needs Python and make, the compiler line needs neither. The build
// runs in a directory of its own and the result is renamed into place, so a process that has the old binary mapped
// keeps it whole, and no build rests in csrc, which is published.
//
// `--output <file>` builds with the bare compiler and CFLAGS into that file instead, for binaries of a special kind.

import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const mode = process.env.MILLRACE_NATIVE ?? "";
const output = process.argv[2] === "--output" ? process.argv[3] : undefined;
const target = output ?? join(root, "prebuilds", `${process.platform}-${process.arch}`, "io-uring.node");

function headers() {
  const prefix = dirname(dirname(realpathSync(process.execPath)));
  const found = existsSync(join(prefix, "include", "node", "node_api.h"));
  if (!found) throw new Error(`no Node headers beside ${process.execPath}`);
  return prefix;
}

function run(command, args, cwd) {
  const done = spawnSync(command, args, { cwd, encoding: "utf8" });
  if (done.error !== undefined) throw done.error;
  if (done.status === 0) return;
  const lines = `${done.stdout}${done.stderr}`.trim().split("\n");
  const reason = lines.find((line) => /error|ERR!.*(?:not|fail)/i.test(line)) ?? lines.at(-1);
  throw new Error(reason === "" ? `${command} failed` : reason);
}

function withNodeGyp(source, prefix) {
  const script = createRequire(import.meta.url).resolve("node-gyp/bin/node-gyp.js");
  run(process.execPath, [script, "rebuild", `--nodedir=${prefix}`], source);
  return join(source, "build", "Release", "io-uring.node");
}

function withCompiler(source, prefix) {
  const built = join(source, "io-uring.node");
  const extra = (process.env.CFLAGS ?? "").split(" ").filter((flag) => flag !== "");
  const files = readdirSync(source).filter((name) => name.endsWith(".c"));
  const fixed = ["-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wl,-z,nodelete"];
  const include = `-I${join(prefix, "include", "node")}`;
  run(process.env.CC ?? "cc", [...fixed, ...extra, include, "-o", built, ...files], source);
  return built;
}

function build() {
  const prefix = headers();
  const work = mkdtempSync(join(tmpdir(), "io-uring-build-"));
  try {
    const reasons = [];
    for (const attempt of output === undefined ? [withNodeGyp, withCompiler] : [withCompiler]) {
      const source = join(work, attempt.name);
      cpSync(join(root, "csrc"), source, { recursive: true });
      try {
        const built = attempt(source, prefix);
        mkdirSync(dirname(target), { recursive: true });
        cpSync(built, `${target}.${process.pid}`);
        renameSync(`${target}.${process.pid}`, target);
        return;
      } catch (error) {
        reasons.push(error.message.split("\n")[0]);
      }
    }
    throw new Error(reasons.join("; "));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

if (process.platform !== "linux" || mode === "0") {
  // Nothing to build: io_uring is Linux, and every other function of the package has its answer without the addon.
} else {
  try {
    build();
  } catch (error) {
    rmSync(target, { force: true }); // rather none than one of older sources
    process.stderr.write(
      `io-uring: no native part was built (${error.message}); everything falls back to node:fs\n`,
    );
    if (mode === "require" || output !== undefined) process.exitCode = 1;
  }
}
