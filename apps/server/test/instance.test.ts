/**
 * The record of a data directory and its secrets.
 */
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

import { AllInOne } from "../src/all-in-one.js";
import {
  createInstance,
  keepPostgresUrl,
  ownPassword,
  prepareDataDirectory,
  readInstance,
  readSecret,
} from "../src/instance.js";
import { silentLogger } from "../src/logging.js";
import { chooseInstallation } from "../src/postgres/own-postgres.js";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "millrace-instance-"));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

// Aim: what was recorded is read back, and two directories never share their ids. Method: create two.
test("a record is kept, with ids of its own", () => {
  expect(readInstance(directory)).toBeUndefined();
  const first = createInstance(directory, { kind: "external" });
  expect(readInstance(directory)).toEqual(first);
  const second = createInstance(mkdtempSync(join(directory, "other-")), { kind: "external" });
  expect(new Set([first.tenantId, first.timelineId, second.tenantId, second.timelineId]).size).toBe(4);
});

// Aim: a damaged or newer record is refused and left as it is. Method: several kinds of damage.
test.each([
  "",
  "{",
  '{"version":2}',
  '{"version":1,"tenantId":"x","timelineId":"y","postgres":{"kind":"external"}}',
])("a record that reads %j is refused", (text) => {
  const file = join(directory, "millrace.json");
  writeFileSync(file, text);
  expect(() => readInstance(directory)).toThrow(/not a record of this version/);
  expect(readFileSync(file, "utf8")).toBe(text);
});

// Aim: the password is made once, is only its owner's, and one that others can read is refused. Method: look at modes.
test("secrets are kept from others", () => {
  const password = ownPassword(directory);
  expect(password).toMatch(/^[\w-]{24}$/);
  expect(ownPassword(directory)).toBe(password);
  const file = join(directory, "postgres-password");
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const urlFile = keepPostgresUrl(directory, "postgresql://u:p@h/d");
  expect(statSync(urlFile).mode & 0o777).toBe(0o600);
  expect(readSecret(urlFile)).toBe("postgresql://u:p@h/d");
  chmodSync(file, 0o640);
  expect(() => ownPassword(directory)).toThrow(/can be read by others/);
  writeFileSync(file, "\n", { mode: 0o600 });
  chmodSync(file, 0o600);
  expect(() => ownPassword(directory)).toThrow(/is empty/);
  expect(() => readSecret(`${file}.none`)).toThrow(
    expect.objectContaining({ code: "ERR_SERVER_DATA" }) as Error,
  );
});

// Aim: one directory has one name, however it is reached. Method: through a symbolic link, and one that is missing.
test("the data directory is created and its links are resolved", () => {
  const made = prepareDataDirectory(join(directory, "a", "b"));
  symlinkSync(made, join(directory, "link"));
  expect(prepareDataDirectory(join(directory, "link"))).toBe(made);
  writeFileSync(join(directory, "file"), "");
  expect(() => prepareDataDirectory(join(directory, "file"))).toThrow(/--data-dir/);
});

// Aim: a directory goes on with the PostgreSQL it was made with, and another kind is refused with advice.
// Method: records of each kind against each choice.
test("a data directory is bound to its PostgreSQL", () => {
  const own = createInstance(directory, {
    kind: "own",
    flavour: "system",
    major: 99,
    binDirectory: "/nowhere",
    directory: "/nowhere",
  });
  expect(() => chooseInstallation("embedded", own)).toThrow(
    /belongs to the system PostgreSQL 99.*--data-dir/,
  );
  expect(() => chooseInstallation("auto", own)).toThrow(/not at \/nowhere any more/);
  const external = createInstance(directory, { kind: "external" });
  expect(() => chooseInstallation("auto", external)).toThrow(/give its URL with --pg/);
});

// Aim: asking for what is not started is an error of ours, not a crash. Method: a whole that was never started.
test("an all-in-one that is not started has no addresses", async () => {
  const app = new AllInOne({ dataDir: directory, pg: "auto", logger: silentLogger(), logLevel: "info" });
  expect(() => app.postgresUrl).toThrow(expect.objectContaining({ code: "ERR_SERVER_CHILD" }) as Error);
  expect(app.status().postgres.state).toBe("running");
  await app.stop();
  await expect(app.start()).rejects.toThrow("stopped");
});
