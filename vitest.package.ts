// What every package's vitest.config.ts says: where tests are, how long they may take, and that workspace
// packages are taken from their sources.
import { defineConfig } from "vitest/config";
import type { ViteUserConfig } from "vitest/config";

const conditions = ["@millrace/source", "node", "import", "default"];

export function packageTests(name: string): ViteUserConfig {
  return defineConfig({
    resolve: { conditions },
    ssr: { resolve: { conditions } },
    test: { name, include: ["test/**/*.test.ts"], testTimeout: 20_000, hookTimeout: 60_000 },
  });
}
