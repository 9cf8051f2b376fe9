// What every package's tsup.config.ts says: ESM only, declarations beside the code, sources mapped.
import { defineConfig } from "tsup";
import type { Options } from "tsup";

export function packageBuild(options: Options = {}): ReturnType<typeof defineConfig> {
  return defineConfig({
    entry: ["src/index.ts"],
    format: ["esm"],
    target: "node20",
    sourcemap: true,
    clean: true,
    // tsup 8 sets baseUrl, which TypeScript 6 deprecates. Declarations are built against siblings' dist.
    dts: { compilerOptions: { ignoreDeprecations: "6.0", customConditions: [] } },
    ...options,
  });
}
