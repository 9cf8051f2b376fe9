// Runs this package's tests against an addon built with AddressSanitizer and UndefinedBehaviorSanitizer, and with
// LeakSanitizer looking at every process's end. Arguments are passed on to vitest.
//
// Node itself is not instrumented, so the sanitizers' runtime is preloaded. Every process writes its findings to a
// file of its own: the exit code of a test's worker or child may get lost, a file does not. Anything found fails. A
// compiler without these runtimes is told and passes, unless REQUIRE_SANITIZERS=1 (CI) forbids that.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const repository = dirname(dirname(root));
const work = mkdtempSync(join(tmpdir(), "io-uring-sanitizers-"));
const compiler = process.env.CC ?? "cc";

function library(name) {
  const asked = spawnSync(compiler, [`-print-file-name=${name}`], { encoding: "utf8" });
  return asked.error === undefined ? asked.stdout.trim() : "";
}

/** Leaks of other addons in the same processes: vitest's bundler. */
function suppressions() {
  const path = join(work, "suppressions");
  writeFileSync(path, "leak:rolldown-binding\n");
  return path;
}

function check() {
  const binary = join(work, "io-uring.node");
  const flags = "-g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -Wall -Wextra -Werror";
  const build = join(root, "scripts", "build-native.mjs");
  const built = spawnSync(process.execPath, [build, "--output", binary], {
    env: { ...process.env, CC: compiler, CFLAGS: flags, MILLRACE_NATIVE: "" },
    stdio: "inherit",
  });
  if (built.status !== 0) return false;
  const vitest = join(repository, "node_modules", "vitest", "vitest.mjs");
  const tests = spawnSync(
    process.execPath,
    [vitest, "run", "--project", "io-uring", ...process.argv.slice(2)],
    {
      cwd: repository,
      stdio: "inherit",
      env: {
        ...process.env,
        MILLRACE_NATIVE: binary,
        LD_PRELOAD: `${library("libasan.so")} ${library("libubsan.so")}`,
        ASAN_OPTIONS: `detect_leaks=1:log_path=${join(work, "report")}`,
        LSAN_OPTIONS: `suppressions=${suppressions()}:print_suppressions=0`,
        UBSAN_OPTIONS: `print_stacktrace=1:log_path=${join(work, "report")}`,
      },
    },
  );
  const reports = readdirSync(work).filter((name) => name.startsWith("report"));
  for (const name of reports) process.stderr.write(`${readFileSync(join(work, name), "utf8")}\n`);
  process.stdout.write(`sanitizers: ${reports.length} reports\n`);
  return tests.status === 0 && reports.length === 0;
}

try {
  // A compiler that has no such library answers with the bare name.
  const missing = ["libasan.so", "libubsan.so"].filter((name) => !isAbsolute(library(name)));
  if (missing.length > 0) {
    process.stdout.write(`sanitizers: skipped, ${compiler} has no ${missing.join(" and no ")}\n`);
    if (process.env.REQUIRE_SANITIZERS === "1") process.exitCode = 1;
  } else if (!check()) process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}
