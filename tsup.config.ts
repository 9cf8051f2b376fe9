// How every package is built; each runs `tsup --config ../../tsup.config.ts` in its own directory.
//
// ESM only, declarations beside the code, sources mapped. A package with a `bin` is an application: one program
// without declarations. What is only a devDependency (the private PostgreSQL launcher) ends up inside the bundle.
import { existsSync, readFileSync } from "node:fs";
import { defineConfig } from "tsup";

const { bin } = JSON.parse(readFileSync("package.json", "utf8")) as { bin?: unknown };
const isApplication = bin !== undefined;

export default defineConfig({
  entry: isApplication
    ? ["src/main.ts"]
    : ["src/index.ts", "src/worker-main.ts"].filter((path) => existsSync(path)),
  format: ["esm"],
  target: "node20",
  tsconfig: "tsconfig.json",
  sourcemap: true,
  clean: true,
  // tsup 8 sets baseUrl, which TypeScript 6 deprecates. Declarations refer to the siblings' built ones.
  dts: isApplication ? false : { compilerOptions: { ignoreDeprecations: "6.0", customConditions: [] } },
});
