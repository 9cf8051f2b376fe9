/**
 * A vitest reporter that ends test files which hang where no timeout of vitest's reaches: in a wait of the kernel's or on a word
 * of shared memory, with the event loop blocked. The file fails, by its name, and the run goes on.
 *
 * Works where a run has to end (`CI`), and on Linux, whose /proc knows the children of a process; long runs by script are
 * left alone.
 */
import { readdirSync, readFileSync, writeSync } from "node:fs";
import type { Reporter, TestModule } from "vitest/node";

/** Ten times the slowest file on two busy cores. */
const HANG_MS = 400_000;
const LOOK_EVERY_MS = 5000;

export default class HangWatch implements Reporter {
  readonly #running: Map<TestModule, number> = new Map();
  readonly #limitMs: number = Number(process.env["MILLRACE_HANG_MS"] ?? HANG_MS);
  readonly #isOn: boolean = process.platform === "linux" && (process.env["CI"] ?? "") !== "";

  onInit(): void {
    if (this.#isOn) setInterval(() => this.#look(), LOOK_EVERY_MS).unref();
  }

  onTestModuleStart(module: TestModule): void {
    this.#running.set(module, performance.now());
  }

  onTestModuleEnd(module: TestModule): void {
    this.#running.delete(module);
  }

  #look(): void {
    const now = performance.now();
    const hung = [...this.#running].filter(([, since]) => now - since > this.#limitMs);
    if (hung.length === 0) return;
    for (const [module] of hung) {
      writeSync(
        2,
        `${module.moduleId} hangs since ${Math.round(this.#limitMs / 1000)} s: its process is ended\n`,
      );
      this.#running.delete(module);
    }
    // Nothing says which process runs which file, so all of them are ended: each fails the file it is in.
    for (const pid of children()) process.kill(pid, "SIGKILL");
  }
}

/** Processes that this one has started and that still run. */
function children(): number[] {
  return readdirSync("/proc/self/task").flatMap((thread) =>
    readFileSync(`/proc/self/task/${thread}/children`, "latin1").split(" ").filter(Boolean).map(Number),
  );
}
