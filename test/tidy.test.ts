/**
 * What no other tool checks about the tree: floors, headers, faces, bans.
 *
 * The floors are the order in which packages may import each other (always a lower one) and the order in which
 * to read them. They stand here once, as data; turbo enforces the same through each package's tag.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

const FLOORS: Readonly<Record<string, number>> = {
  lsn: 0,
  duplex: 0,
  "aligned-buffers": 0,
  checksums: 0,
  "postgres-process": 0,
  "io-uring": 1,
  "wal-decoder": 1,
  "wal-protocol": 1,
  "pg-wire": 1,
  aio: 2,
  "virtual-file": 3,
  "buffer-manager": 3,
  "buffered-writer": 4,
  "read-stream": 4,
  "ephemeral-file": 5,
  "wal-redo": 5,
  "wal-acceptor": 6,
  "wal-proposer": 6,
  "page-service": 6,
  server: 7,
  simulator: 7,
  bench: 7,
};
const INDEX_LINES_MAX = 160;
const README_LINES_MAX = 200;
const HEADER_LINES_MIN = 3;

interface Manifest {
  readonly name: string;
  readonly private?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly [key: string]: unknown;
}

const root = join(import.meta.dirname, "..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");
const tracked = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8",
})
  .split("\n")
  .filter((path) => path !== "" && existsSync(join(root, path)));
const workspaces = ["packages", "apps"].flatMap((group) =>
  readdirSync(join(root, group)).map((name) => {
    const directory = `${group}/${name}`;
    return { name, directory, manifest: JSON.parse(read(`${directory}/package.json`)) as Manifest };
  }),
);
const sources = tracked.filter((path) => /^(packages|apps)\/[^/]+\/src\/.*\.ts$/.test(path));

test("every package stands on its floor and depends on lower floors only", () => {
  for (const { name, directory, manifest } of workspaces) {
    const floor = FLOORS[name];
    expect(floor, `${name} has no floor`).toBeDefined();
    expect(JSON.parse(read(`${directory}/turbo.json`))).toMatchObject({ tags: [`floor-${floor}`] });
    const wanted = {
      ...manifest.dependencies,
      ...manifest.optionalDependencies,
      ...manifest.devDependencies,
    };
    for (const [dependency, range] of Object.entries(wanted)) {
      if (!dependency.startsWith("@millrace/")) continue;
      expect(range).toBe("workspace:^");
      expect(FLOORS[dependency.slice("@millrace/".length)], `${name} needs ${dependency}`).toBeLessThan(
        floor ?? 0,
      );
    }
  }
});

test("the lower floors have no runtime dependency from outside", () => {
  for (const { name, manifest } of workspaces) {
    if ((FLOORS[name] ?? 0) > 5 || manifest.private === true) continue;
    for (const dependency of Object.keys(manifest.dependencies ?? {}))
      expect(dependency).toMatch(/^@millrace\//);
  }
});

test("sources import only what their manifest declares as a dependency", () => {
  for (const { directory, manifest } of workspaces) {
    const isBundled = manifest["bin"] !== undefined; // an application's bundle holds its private devDependencies
    for (const path of sources.filter((source) => source.startsWith(`${directory}/`))) {
      for (const [, specifier] of read(path).matchAll(/^(?:import|export)\b[^;]*? from "([^"]+)";/gm)) {
        if (specifier === undefined || /^(\.|node:)/.test(specifier)) continue;
        const dependency = specifier
          .split("/")
          .slice(0, specifier.startsWith("@") ? 2 : 1)
          .join("/");
        const declared = { ...manifest.dependencies, ...(isBundled ? manifest.devDependencies : {}) };
        expect(Object.keys(declared), `${path} imports ${specifier}`).toContain(dependency);
      }
    }
  }
});

test("every source file begins with a header that says what it keeps true", () => {
  const bare = sources.filter((path) => {
    if (path.endsWith("/index.ts")) return !/^\/(\*\*|\/)/.test(read(path));
    const header = /^(?:#!.*\n)?(\/\*\*[\s\S]*?\*\/|(?:\/\/.*\n)+)/.exec(read(path))?.[1] ?? "";
    return header.trimEnd().split("\n").length < HEADER_LINES_MIN;
  });
  expect(bare).toEqual([]);
});

test("an index.ts is a face: named re-exports, no logic, not long", () => {
  for (const path of sources.filter((source) => source.endsWith("/src/index.ts"))) {
    const text = read(path);
    expect(text.split("\n").length, path).toBeLessThanOrEqual(INDEX_LINES_MAX);
    const code = text.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, "");
    const rest = code.replaceAll(/export (?:type )?\{[^}]*\} from "\.\/[^"]+";/g, "").trim();
    expect(rest, path).toBe("");
  }
});

test("every package has a README of bearable length, a license and tests", () => {
  for (const { directory, manifest } of workspaces) {
    expect(existsSync(join(root, directory, "README.md")), directory).toBe(true);
    expect(read(`${directory}/README.md`).split("\n").length, directory).toBeLessThanOrEqual(
      README_LINES_MAX,
    );
    expect(existsSync(join(root, directory, "LICENSE")), directory).toBe(true);
    expect(
      tracked.some((path) => path.startsWith(`${directory}/test/`) && path.endsWith(".test.ts")),
      directory,
    ).toBe(true);
    expect(manifest).toMatchObject({ type: "module", license: "Apache-2.0", engines: { node: ">=20.19.0" } });
  }
});

test("every error code has a row in its package's README and a test that meets it", () => {
  for (const { directory } of workspaces) {
    const codes = new Set(
      sources
        .filter((path) => path.startsWith(`${directory}/src/`) && path.endsWith("errors.ts"))
        .flatMap((path) => read(path).match(/"ERR_[A-Z0-9_]+"/g) ?? []),
    );
    const readme = read(`${directory}/README.md`);
    const tests = tracked
      .filter((path) => path.startsWith(`${directory}/test/`))
      .map(read)
      .join("\n");
    for (const code of codes) {
      expect(readme.includes(code.slice(1, -1)), `${directory}/README.md lacks ${code}`).toBe(true);
      expect(tests.includes(code.slice(1, -1)), `${directory}/test lacks ${code}`).toBe(true);
    }
  }
});

test("libraries do not print, and nothing unfinished or private to a machine is in the tree", () => {
  // Written in pieces, so that this file does not contain what it looks for.
  const banned = [
    ["TO", "DO"],
    ["FIX", "ME"],
    ["X", "XX\\b"],
    ["/wo", "rk/"],
    ["\\.\\./sha", "red"],
  ].map(([a, b]) => new RegExp(`(^|[^A-Za-z])${a}${b}`));
  for (const path of tracked.filter((file) => /\.(ts|mjs|c|md|json|yaml)$/.test(file))) {
    for (const pattern of banned) expect(read(path), path).not.toMatch(pattern);
  }
  for (const path of sources.filter((source) => source.startsWith("packages/"))) {
    expect(read(path), path).not.toMatch(/\bconsole\./);
  }
});

test("the root manifest's scripts are the ones the README promises", () => {
  const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
  for (const name of ["start", "test", "check"]) {
    expect(scripts[name]).toMatch(/^(exec node scripts\/start\.mjs$|node scripts\/setup\.mjs && )/);
    expect(read("README.md")).toContain(name === "check" ? "npm run check" : `npm ${name}`);
  }
});
