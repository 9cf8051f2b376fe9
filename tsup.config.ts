// How every package is built; each runs `tsup --config ../../tsup.config.ts` in its own directory.
//
// ESM only, declarations beside the code, sources mapped. A package with a `bin` is an application: one program
// without declarations. What is only a devDependency (the private PostgreSQL launcher) ends up inside the bundle.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig } from "tsup";
import type { Options } from "tsup";

const { bin } = JSON.parse(readFileSync("package.json", "utf8")) as { bin?: unknown };
const isApplication = bin !== undefined;

/** Names that some source file declares with `let` at its top: they may change. */
function changingNames(directory: string): Set<string> {
  const names = new Set<string>();
  for (const file of readdirSync(directory, { recursive: true, encoding: "utf8" })) {
    if (!file.endsWith(".ts")) continue;
    const source = readFileSync(join(directory, file), "utf8");
    for (const [, name] of source.matchAll(/^(?:export )?let (\w+)/gm))
      if (name !== undefined) names.add(name);
  }
  return names;
}

/**
 * Makes constants constant again. The bundler turns every `const` at the top into a `var`, and V8 then looks up at run
 * time what it would otherwise fold into the code: an offset in a layout, a state's number. In paths of a few hundred
 * nanoseconds that is a sixth of the time (a handle's life in @millrace/aio, Node 20). The bundler numbers a name that
 * two files use, so the digits at its end are not looked at.
 */
const constants: NonNullable<Options["plugins"]>[number] = {
  name: "constants",
  renderChunk(code) {
    const changing = changingNames("src");
    const isFixed = (name: string): boolean => !changing.has(name) && !changing.has(name.replace(/\d+$/, ""));
    return {
      code: code.replaceAll(/^var (\w+) = /gm, (text, name: string) =>
        isFixed(name) ? `const ${name} = ` : text,
      ),
    };
  },
};

export default defineConfig({
  entry: isApplication
    ? ["src/main.ts"]
    : ["src/index.ts", "src/worker-main.ts"].filter((path) => existsSync(path)),
  format: ["esm"],
  target: "node20",
  tsconfig: "tsconfig.json",
  sourcemap: true,
  clean: true,
  // Each entry holds all it needs: what two of them share would be a third file, and its constants no constants there.
  splitting: false,
  plugins: [constants],
  // tsup 8 sets baseUrl, which TypeScript 6 deprecates. Declarations refer to the siblings' built ones.
  dts: isApplication ? false : { compilerOptions: { ignoreDeprecations: "6.0", customConditions: [] } },
});
