/**
 * The kernel as a module: how it is encoded, how much memory it has, and what happens where it cannot be made.
 */
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import ts from "typescript";
import { expect, test } from "vitest";
import { tryCreateKernel } from "../src/crc32c-kernel.js";
import { INPUT_AT, kernelModule, kernelTables } from "../src/crc32c-module.js";
import { multiply, POLYNOMIAL, powerOfX8 } from "../src/polynomial.js";
import { signed, unsigned } from "../src/wasm-assembler.js";
import { runtimeWebAssembly } from "../src/webassembly.js";
import type { WebAssemblyLike } from "../src/webassembly.js";

// Aim: integers are encoded as the engine reads them. Method: the specification's examples and the borders of a byte.
test("variable-length integers have the specified bytes", () => {
  expect(unsigned(624_485)).toEqual([0xe5, 0x8e, 0x26]);
  expect(unsigned(0)).toEqual([0]);
  expect(unsigned(127)).toEqual([0x7f]);
  expect(unsigned(128)).toEqual([0x80, 0x01]);
  expect(signed(-123_456)).toEqual([0xc0, 0xbb, 0x78]);
  expect(signed(63)).toEqual([0x3f]);
  expect(signed(64)).toEqual([0xc0, 0x00]);
  expect(signed(-64)).toEqual([0x40]);
  expect(signed(-65)).toEqual([0xbf, 0x7f]);
});

// Aim: the kernel keeps to its page. Method: compile the module, ask its memory, and try to grow it.
test("the module compiles to one function and one page that cannot grow", () => {
  interface Memory {
    readonly buffer: ArrayBuffer;
    grow(pages: number): number;
  }
  const webAssembly = runtimeWebAssembly();
  if (webAssembly === undefined) throw new Error("this test needs WebAssembly");
  const { exports } = new webAssembly.Instance(new webAssembly.Module(kernelModule()));
  const { memory, update } = exports as {
    memory: Memory;
    update: (register: number, at: number, length: number) => number;
  };
  expect(Object.keys(exports as object)).toEqual(["memory", "update"]);
  expect(memory.buffer.byteLength).toBe(65_536);
  expect(() => memory.grow(1)).toThrow(RangeError);
  expect(kernelTables().byteLength).toBe(INPUT_AT);
  expect(update(42, INPUT_AT, 0)).toBe(42);
  expect(() => update(0, 65_530, 64)).toThrow("out of bounds");
});

// Aim: no kernel is no error. Method: no WebAssembly, and one that refuses to compile.
test("where WebAssembly is missing or forbidden there is no kernel", () => {
  const refusing: WebAssemblyLike = {
    Module: class {
      readonly refused: never = refuse();
    },
    Instance: class {
      readonly exports = {};
    },
    Memory: class {
      readonly buffer = new ArrayBuffer(0);
    },
  };
  expect(tryCreateKernel(undefined)).toBeUndefined();
  expect(tryCreateKernel(refusing)).toBeUndefined();
  expect(tryCreateKernel(runtimeWebAssembly())).toBeDefined();
});

// Aim: the package works in a process without WebAssembly. Method: the transpiled sources under `node --jitless`.
test("without WebAssembly checksums come from JavaScript and are the same", async () => {
  const directory = await mkdtemp(join(tmpdir(), "checksums-"));
  try {
    const sources = new URL("../src/", import.meta.url);
    for (const file of await readdir(sources)) {
      const text = await readFile(new URL(file, sources), "utf8");
      const options = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
      const { outputText } = ts.transpileModule(text, { compilerOptions: options });
      await writeFile(join(directory, file.replace(/\.ts$/, ".js")), outputText);
    }
    const main = `
      import { crc32c, crc32cMethod, pageChecksum, pageChecksumMethod } from "./index.js";
      const page = Buffer.alloc(8192, "page");
      console.log(crc32cMethod(), crc32c(Buffer.from("123456789".repeat(1000))).toString(16));
      console.log(pageChecksumMethod(), pageChecksum(page, 42).toString(16));`;
    await writeFile(join(directory, "main.js"), main);
    await writeFile(join(directory, "package.json"), '{ "type": "module" }');
    const run = promisify(execFile);
    const plain = await run(process.execPath, [join(directory, "main.js")]);
    const jitless = await run(process.execPath, ["--jitless", join(directory, "main.js")]);
    expect(plain.stdout).toMatch(/^(webassembly [0-9a-f]+\n){2}$/);
    expect(jitless.stdout).toBe(plain.stdout.replaceAll("webassembly", "javascript"));
  } finally {
    await rm(directory, { recursive: true });
  }
});

// Aim: the arithmetic under the tables is a field's. Method: laws on fixed registers, and x^8 from its definition.
test("registers multiply like polynomials", () => {
  const one = 0x8000_0000;
  for (const a of [1, POLYNOMIAL, 0xdeadbeef, one]) {
    expect(multiply(a, one)).toBe(a);
    for (const b of [1, 0x12345678, 0xffffffff]) {
      expect(multiply(a, b)).toBe(multiply(b, a));
      expect(multiply(multiply(a, b), POLYNOMIAL)).toBe(multiply(a, multiply(b, POLYNOMIAL)));
    }
  }
  expect(powerOfX8(0)).toBe(one);
  expect(powerOfX8(1)).toBe(one >>> 8);
  expect(multiply(powerOfX8(1000), powerOfX8(728))).toBe(powerOfX8(1728));
});

function refuse(): never {
  throw new Error("code generation is disallowed");
}
