// One vitest process for the whole workspace, one project for each package (`--project lsn` runs one).
//
// Workspace packages are read from their sources (the `@millrace/source` export condition), so that no test
// needs a build of a sibling; only what a test spawns as a program runs from `dist`.
import { readdirSync } from "node:fs";
import { defineConfig } from "vitest/config";
import type { TestProjectInlineConfiguration } from "vitest/config";

// vitest hands these to Node itself. "import" and "default" apply anyway; named here, they would also make
// `require` take the ES module of a package that has both (pg-pool under pg).
const conditions = ["@millrace/source", "node"];

function project(name: string, root: string): TestProjectInlineConfiguration {
  return {
    resolve: { conditions },
    ssr: { resolve: { conditions } },
    test: { name, root, include: ["test/**/*.test.ts"], testTimeout: 30_000, hookTimeout: 60_000 },
  };
}

const workspaces = ["packages", "apps"].flatMap((group) =>
  readdirSync(group).map((name) => project(name, `${group}/${name}`)),
);

export default defineConfig({
  test: {
    projects: [...workspaces, project("repository", ".")],
    reporters: ["default", "./scripts/hang-watch.ts", "./scripts/closing-line.ts"],
    coverage: { provider: "v8", include: ["packages/*/src/**", "apps/*/src/**"] },
  },
});
