import { defineConfig } from "vitest/config";

// One vitest process for the whole workspace. Packages are read from their sources (the `@millrace/source`
// export condition), so that no test needs a build of a sibling; only what is spawned runs from `dist`.
export default defineConfig({
  test: {
    projects: [
      "packages/*",
      "apps/*",
      { test: { name: "repository", include: ["test/**/*.test.ts"], testTimeout: 60_000 } },
    ],
    reporters: ["default", "./scripts/closing-line.ts"],
    coverage: { provider: "v8", include: ["packages/*/src/**", "apps/*/src/**"] },
  },
});
