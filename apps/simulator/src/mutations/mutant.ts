/**
 * Builds a simulator around wrong cores: the sources of the packages with named snippets replaced, in memory.
 *
 * Production code has no hooks for this. A bundler reads the workspace's sources as they are, replaces each snippet in
 * the text of its file, and insists that it stood there exactly once: code that has changed under a mutation makes the
 * mutation fail loudly instead of quietly testing nothing. Nothing is written to disk.
 */
import { existsSync, readFileSync } from "node:fs";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import type { Plugin } from "esbuild";
import type * as MutantEntry from "./mutant-entry.js";

/** One replacement in one source file. */
export interface Patch {
  /** From the repository's root. */
  readonly file: string;
  /** Stands in the file exactly once. */
  readonly find: string;
  readonly replace: string;
}

/** One way in which the cores could be wrong. */
export interface Mutation {
  readonly name: string;
  /** What goes wrong, in a sentence. */
  readonly what: string;
  readonly patches: readonly Patch[];
}

/** A simulator with other cores. */
export type Mutant = typeof MutantEntry;

/**
 * Builds the simulator with `mutation` applied.
 *
 * @throws {Error} a snippet does not stand exactly once in its file, or the result does not build
 */
export async function buildMutant(mutation: Mutation): Promise<Mutant> {
  const root = repositoryRoot();
  const applied = new Set<string>();
  const result = await build({
    entryPoints: [path.join(root, "apps/simulator/src/mutations/mutant-entry.ts")],
    bundle: true,
    write: false,
    platform: "node",
    format: "esm",
    target: "node20",
    conditions: ["@millrace/source"],
    logLevel: "silent",
    plugins: [patching(root, mutation, applied)],
  });
  for (const { file } of mutation.patches) {
    if (!applied.has(file)) throw new Error(`mutation ${mutation.name}: ${file} is no part of the simulator`);
  }
  const [output] = result.outputFiles;
  if (output === undefined) throw new Error(`mutation ${mutation.name}: nothing was built`);
  const url = `data:text/javascript;base64,${Buffer.from(output.contents).toString("base64")}`;
  return (await import(/* @vite-ignore */ url)) as Mutant;
}

function patching(root: string, mutation: Mutation, applied: Set<string>): Plugin {
  return {
    name: "mutation",
    setup(pluginBuild) {
      pluginBuild.onLoad({ filter: /\.ts$/ }, ({ path: file }) => {
        const name = path.relative(root, file).split(path.sep).join("/");
        const patches = mutation.patches.filter((patch) => patch.file === name);
        if (patches.length === 0) return undefined;
        applied.add(name);
        const text = readFileSync(file, "utf8");
        return { contents: applyPatches(text, patches, mutation.name), loader: "ts" };
      });
    },
  };
}

/**
 * Replaces every snippet.
 *
 * @throws {Error} a snippet does not stand there exactly once
 */
export function applyPatches(text: string, patches: readonly Patch[], name: string): string {
  let patched = text;
  for (const { file, find, replace } of patches) {
    const parts = patched.split(find);
    if (parts.length !== 2) {
      throw new Error(
        `mutation ${name}: ${file} has this ${String(parts.length - 1)} times instead of once:\n${find}`,
      );
    }
    patched = parts.join(replace);
  }
  return patched;
}

// Works from src and from dist.
function repositoryRoot(): string {
  for (
    let directory = path.dirname(fileURLToPath(import.meta.url));
    path.dirname(directory) !== directory;
    directory = path.dirname(directory)
  ) {
    if (existsSync(path.join(directory, "pnpm-workspace.yaml"))) return directory;
  }
  throw new Error("mutations need the repository's sources");
}
