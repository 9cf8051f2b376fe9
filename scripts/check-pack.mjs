// Packs every published package as npm would get it and checks the result: publint and attw find nothing wrong
// with the manifests and declarations, and an empty project that installs all tarballs can import each of them.
//
// What this catches that no other check does: a file missing from `files`, an export that points at nothing, a
// `workspace:` range or the source condition left in a published manifest, a dependency that is only a devDependency.

import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const work = mkdtempSync(join(tmpdir(), "check-pack-"));
const bin = (name) => join(root, "node_modules", ".bin", name);
const failures = [];

function run(what, command, args, cwd) {
  const done = spawnSync(command, args, { cwd, encoding: "utf8", env: { ...process.env, NO_COLOR: "1" } });
  if (done.status !== 0) failures.push(`${what}:\n${done.stdout}${done.stderr}`);
  return done;
}

function published() {
  const found = [];
  for (const group of ["packages", "apps"]) {
    for (const name of readdirSync(join(root, group))) {
      const directory = join(root, group, name);
      const manifest = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
      if (manifest.private !== true) found.push({ directory, manifest });
    }
  }
  return found;
}

const packed = published().map(({ directory, manifest }) => {
  const output = execFileSync(bin("pnpm"), ["pack", "--json", "--pack-destination", work], {
    cwd: directory,
    encoding: "utf8",
  });
  return {
    name: manifest.name,
    tarball: JSON.parse(output).filename,
    isProgram: manifest.bin !== undefined,
    manifest,
  };
});

for (const { name, tarball, isProgram } of packed) {
  run(`publint ${name}`, bin("publint"), ["run", tarball, "--strict"], root);
  if (!isProgram) run(`attw ${name}`, bin("attw"), [tarball, "--profile", "esm-only"], root);
  const manifest = JSON.parse(
    execFileSync("tar", ["-xzOf", tarball, "package/package.json"], { encoding: "utf8" }),
  );
  const text = JSON.stringify([
    manifest.exports,
    manifest.dependencies ?? {},
    manifest.optionalDependencies ?? {},
  ]);
  for (const leftover of ["@millrace/source", "workspace:", "catalog:"]) {
    if (text.includes(leftover)) failures.push(`${name}: the packed manifest still says ${leftover}`);
  }
  for (const script of ["preinstall", "install", "postinstall"]) {
    if (manifest.scripts?.[script] !== undefined) failures.push(`${name}: has an install script`);
  }
  const files = execFileSync("tar", ["-tzf", tarball], { encoding: "utf8" });
  for (const wanted of ["package/README.md", "package/LICENSE"]) {
    if (!files.includes(wanted)) failures.push(`${name}: the tarball has no ${wanted}`);
  }
}

// One install of everything together, as a user of several packages would have it.
const consumer = join(work, "consumer");
mkdirSync(consumer);
const dependencies = Object.fromEntries(packed.map(({ name, tarball }) => [name, `file:${tarball}`]));
writeFileSync(
  join(consumer, "package.json"),
  JSON.stringify({ private: true, type: "module", dependencies }),
);
run(
  "npm install",
  "npm",
  ["install", "--prefer-offline", "--no-audit", "--no-fund", "--omit=optional", "--ignore-scripts"],
  consumer,
);
for (const { name, isProgram, manifest } of packed) {
  if (isProgram) {
    const program = join(consumer, "node_modules", name, Object.values(manifest.bin)[0]);
    run(`run ${name}`, process.execPath, [program, "--version"], consumer);
  } else {
    run(
      `import ${name}`,
      process.execPath,
      ["--input-type=module", "-e", `await import(${JSON.stringify(name)})`],
      consumer,
    );
    run(
      `require ${name}`,
      process.execPath,
      ["--input-type=commonjs", "-e", `require(${JSON.stringify(name)})`],
      consumer,
    );
  }
}

rmSync(work, { recursive: true, force: true });
if (failures.length > 0) {
  console.error(failures.join("\n"));
  process.exit(1);
}
console.log(`pack checks: ${packed.length} packages, nothing found`);
