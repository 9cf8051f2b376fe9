/**
 * A vitest reporter whose one job is the last line of a run: `N passed, N failed[, N skipped]`.
 *
 * A file that does not load, a hook that fails and an unhandled error each count as a failure, so the line
 * cannot say "0 failed" for a run that did not work. It is written synchronously when the process exits, which
 * puts it behind everything that other reporters print.
 */
import { writeSync } from "node:fs";
import type { Reporter, SerializedError, TestModule } from "vitest/node";

export default class ClosingLine implements Reporter {
  #line = "0 passed, 1 failed";

  onInit(): void {
    process.once("exit", () => {
      writeSync(1, `${this.#line}\n`);
    });
  }

  onTestRunEnd(modules: readonly TestModule[], errors: readonly SerializedError[]): void {
    let passed = 0;
    let failed = errors.length;
    let skipped = 0;
    for (const module of modules) {
      failed += module.errors().length;
      for (const suite of module.children.allSuites()) failed += suite.errors().length;
      for (const test of module.children.allTests()) {
        const state = test.result().state;
        if (state === "passed") passed += 1;
        else if (state === "failed") failed += 1;
        else skipped += 1;
      }
    }
    this.#line = `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
  }
}
