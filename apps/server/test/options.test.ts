/**
 * Options: where a value comes from, and what a mistake looks like.
 */
import { expect, test } from "vitest";
import fc from "fast-check";

import { ACCEPTOR_OPTIONS } from "../src/configuration/acceptor-options.js";
import { ALL_IN_ONE_OPTIONS, DEMO_OPTIONS } from "../src/configuration/all-in-one-options.js";
import { BRIDGE_OPTIONS } from "../src/configuration/bridge-options.js";
import { flagName, resolveOptions, variableName } from "../src/configuration/option.js";
import { byteCount, formatHostPort, listenAddress, numberBetween, u64 } from "../src/configuration/values.js";
import { ServerError } from "../src/errors.js";

function mistakes(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(ServerError);
    expect((error as ServerError).code).toBe("ERR_SERVER_OPTION");
    return (error as ServerError).message;
  }
  throw new Error("nothing was refused");
}

const environment = { MILLRACE_DATA_DIR: "/from/environment" };
const file = { path: "m.json", values: { dataDir: "/from/file" } };

// Aim: a flag beats the environment, which beats the file, which beats the default.
// Method: every non-empty set of places gives a value; the highest must win.
test("the highest place that has a value wins", () => {
  const resolve = (flags: object, env: object, withFile: boolean): string =>
    resolveOptions(ALL_IN_ONE_OPTIONS, {
      flags: flags as Record<string, unknown>,
      environment: env as Record<string, string>,
      ...(withFile ? { file } : {}),
    }).dataDir;
  const flags = { dataDir: "/from/flag" };
  expect(resolve(flags, environment, true)).toBe("/from/flag");
  expect(resolve({}, environment, true)).toBe("/from/environment");
  expect(resolve({}, {}, true)).toBe("/from/file");
  expect(resolve({}, {}, false)).toBe("./millrace-data");
  expect(resolve({}, { MILLRACE_DATA_DIR: "" }, true)).toBe("/from/file");
});

// Aim: a message names the option, the place, the value and what is allowed, for every mistake at once.
// Method: one wrong value from each place and an unknown key.
test("every mistake is named, with its place, its value and what is allowed", () => {
  const text = mistakes(() =>
    resolveOptions(ACCEPTOR_OPTIONS, {
      flags: { listenPg: "nowhere" },
      environment: { MILLRACE_ID: "0" },
      file: { path: "conf.json", values: { minFlushGapMs: -1, listenHTTP: "127.0.0.1:1" } },
    }),
  );
  expect(text.split("\n")).toEqual([
    '--data-dir is missing: give a path by flag, by MILLRACE_DATA_DIR, or as "dataDir" in the configuration file',
    '--id (from the environment variable MILLRACE_ID): "0" is not allowed; expected a whole number from 1 to 2^64 - 1',
    '--listen-pg (from the command line): "nowhere" is not allowed; expected host:port, for example 127.0.0.1:5454',
    '--min-flush-gap-ms (from "minFlushGapMs" in conf.json): -1 is not allowed; expected a number from 0 to 1000',
    expect.stringMatching(/^unknown key "listenHTTP" in conf\.json; known keys: advertisePg, .*listenHttp/),
  ]);
});

// Aim: a password never shows up in a message. Method: a URL of a wrong scheme with a password in it.
test("a value that may hold a password is not repeated", () => {
  const sources = { flags: { pg: "mysql://u:sesame@h/db" }, environment: {} };
  expect(mistakes(() => resolveOptions(ALL_IN_ONE_OPTIONS, sources))).not.toContain("sesame");
  expect(mistakes(() => resolveOptions(BRIDGE_OPTIONS, sources))).not.toContain("sesame");
});

// Aim: file values keep their JSON types, and lists may be arrays. Method: a bridge configured by file alone.
test("a file may hold numbers, booleans and arrays", () => {
  const found = resolveOptions(BRIDGE_OPTIONS, {
    flags: {},
    environment: {},
    file: {
      path: "b.json",
      values: {
        pg: "postgresql://u@h/db",
        acceptors: ["a:1", "[::1]:2"],
        tenant: "0".repeat(32),
        timeline: "AB".repeat(16),
        ringBytes: 1048576,
        expectSysid: "18446744073709551615",
      },
    },
  });
  expect(found.acceptors.map(formatHostPort)).toEqual(["a:1", "[::1]:2"]);
  expect(found.timeline).toBe("ab".repeat(16));
  expect(found.ringBytes).toBe(1048576);
  expect(found.expectSysid).toBe(2n ** 64n - 1n);
  expect(found.applicationName).toBe("walbridge");
});

// Aim: every option is reachable by flag and by variable, under names that do not collide within a command.
// Method: the names of all tables.
test("flags and variables of a command are distinct", () => {
  for (const table of [ALL_IN_ONE_OPTIONS, DEMO_OPTIONS, ACCEPTOR_OPTIONS, BRIDGE_OPTIONS]) {
    const flags = Object.entries(table).map(([key, spec]) => flagName(key, spec as { flag?: string }));
    expect(new Set(flags).size).toBe(flags.length);
    for (const flag of flags) expect(flag).toMatch(/^[a-z][a-z-]*$/);
  }
  expect(variableName("pgAuthPublicKeyPath", {})).toBe("MILLRACE_PG_AUTH_PUBLIC_KEY_PATH");
});

// Aim: what is printed as an address is read back as the same address, and nothing else passes.
// Method: random hosts and ports, and random text.
test("addresses survive printing and parsing, and other text is refused or harmless", () => {
  const host = fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6());
  fc.assert(
    fc.property(host, fc.nat(65_535), (name, port) => {
      expect(listenAddress.parse(formatHostPort({ host: name, port }))).toEqual({ host: name, port });
    }),
  );
  fc.assert(
    fc.property(fc.string(), (text) => {
      const parsed = listenAddress.safeParse(text);
      if (parsed.success) expect(formatHostPort(parsed.data)).toBe(text.trim().replace(/:0*(\d+)$/, ":$1"));
    }),
  );
});

// Aim: numbers stay exact and within bounds. Method: the borders, and texts that JavaScript would accept as numbers.
test("numbers are taken only in plain notation and within their bounds", () => {
  expect(u64(0n).parse("18446744073709551615")).toBe(18446744073709551615n);
  expect(
    (["18446744073709551616", "-1", "1.5", "0x10", "", " 1", 2 ** 53] as unknown[]).filter(
      (bad) => u64(0n).safeParse(bad).success,
    ),
  ).toEqual([]);
  expect(numberBetween(0, 10).parse("10")).toBe(10);
  expect(
    (["11", "1e1", "1.5", "", "NaN", "Infinity", true, null] as unknown[]).filter(
      (bad) => numberBetween(0, 10).safeParse(bad).success,
    ),
  ).toEqual([]);
  expect(byteCount(0, 1e12).parse("128MiB")).toBe(134217728);
  expect(byteCount(0, 1e12).parse("1 gb")).toBe(1073741824);
  expect(
    (["1.5MiB", "MiB", "-1", "1TiB", "", undefined] as unknown[]).filter(
      (bad) => byteCount(0, 1e12).safeParse(bad).success,
    ),
  ).toEqual([]);
});
