// Pastes benchmark results into READMEs: no figure stands there that is not in a results file.
//
//   node scripts/readme-numbers.mjs [--check] [--root DIR]
//
// A README says where a suite's table belongs with `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`. What stands
// between them is made here from the newest file of apps/bench/results that has this suite, and formatted like
// everything else in the repository. With --check nothing is written, and the exit code is 1 if anything would change.
// Results of a smoke run are refused: their figures mean nothing.

import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { format, resolveConfig } from "prettier";

const { values } = parseArgs({
  options: {
    check: { type: "boolean", default: false },
    root: { type: "string", default: dirname(dirname(fileURLToPath(import.meta.url))) },
  },
});
const { root } = values;
const MARKERS = /<!-- bench:([a-z0-9-]+) -->\n[\s\S]*?<!-- \/bench:\1 -->/g;

function fail(message) {
  console.error(`readme-numbers: ${message}`);
  process.exit(1);
}

function directories(group) {
  const parent = join(root, group);
  return existsSync(parent) ? readdirSync(parent).map((name) => join(parent, name)) : [];
}

/** Suite name -> its newest results, the machine they come from, and the file. */
function newestSuites() {
  const directory = join(root, "apps", "bench", "results");
  const names = existsSync(directory) ? readdirSync(directory).filter((name) => name.endsWith(".json")) : [];
  const files = names.map((name) => {
    const path = join(directory, name);
    const { machine, suites } = JSON.parse(readFileSync(path, "utf8"));
    return { path, machine, suites };
  });
  files.sort((a, b) => a.machine.date.localeCompare(b.machine.date));
  const suites = new Map();
  for (const { path, machine, suites: found } of files) {
    for (const suite of found) {
      if (suite.rows.some(({ verdict }) => verdict === "smoke")) fail(`${path} has results of a smoke run`);
      if (suite.rows.length > 0) suites.set(suite.name, { suite, machine, path });
    }
  }
  return suites;
}

/** Three significant digits, with a thousands separator. */
function rate(value) {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 4;
  const rounded = value >= 1000 ? Number(value.toPrecision(3)) : value;
  return rounded.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const ratio = (value) => `${value.toFixed(value >= 10 ? 1 : 2)}x`;

function bound(wanted, unit) {
  if (wanted === undefined) return "-";
  const parts = [];
  if (wanted.ratio !== undefined) parts.push(ratio(wanted.ratio));
  if (wanted.rate !== undefined) parts.push(`${rate(wanted.rate)} ${unit}`);
  return parts.join(" and ");
}

function side({ name, median, max, details }, { judge, unit }) {
  const figure = `${rate(judge === "best" ? max : median)} ${unit}`;
  const unit99 = details.p99Ms === undefined ? "µs" : "ms";
  const p99 = details.p99Ms ?? details.p99Us;
  const latency = p99 === undefined ? "" : `, p99 ${rate(p99)} ${unit99}`;
  return `${name}: ${figure}${latency}`;
}

function table({ suite, machine, path }, readme) {
  const rows = suite.rows.map((row) => [
    row.id,
    row.name,
    side(row.candidate, row),
    side(row.reference, row),
    `**${ratio(row.ratio.judged)}** (${ratio(row.ratio.min)} to ${ratio(row.ratio.max)})`,
    `${bound(row.gate, row.unit)}; ${bound(row.goal, row.unit)}`,
    row.verdict,
  ]);
  const head = ["id", "what", "here", "reference", "ratio (by round)", "gate; goal", "verdict"];
  const lines = [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`);
  const rounds = suite.rows[0].reference.rounds.length;
  const memory = `${Math.round(machine.memoryBytes / 1024 ** 3)} GiB`;
  const place = `${machine.cpu}, ${machine.cores} cores, ${memory}, ${machine.kernel}, ${machine.fileSystem} on ${machine.device}`;
  const link = relative(dirname(readme), path);
  return [
    `${suite.question} ${suite.method.map((line) => `${line[0].toUpperCase()}${line.slice(1)}.`).join(" ")}`,
    "",
    ...lines,
    "",
    `\`npm run bench -- ${suite.name}\`; ${rounds} alternating rounds; ${place}; Node ${machine.node}; ` +
      `commit ${machine.commit}; all rounds in [${machine.date.slice(0, 10)}](${link}).`,
  ].join("\n");
}

const suites = newestSuites();
const readmes = [root, ...directories("apps"), ...directories("packages")]
  .map((directory) => join(directory, "README.md"))
  .filter((path) => existsSync(path));
const stale = [];
for (const readme of readmes) {
  const before = readFileSync(readme, "utf8");
  const pasted = before.replaceAll(MARKERS, (_, name) => {
    const found =
      suites.get(name) ?? fail(`${relative(root, readme)}: no results file has the suite ${name}`);
    return `<!-- bench:${name} -->\n\n${table(found, readme)}\n\n<!-- /bench:${name} -->`;
  });
  if (pasted === before) continue;
  const config = await resolveConfig(readme);
  const after = await format(pasted, { ...config, filepath: readme });
  if (after === before) continue;
  stale.push(relative(root, readme));
  if (!values.check) writeFileSync(readme, after);
}
if (values.check && stale.length > 0)
  fail(`not what the results say (run it without --check): ${stale.join(", ")}`);
for (const name of stale) console.log(`${name}: written`);
