/** The README's example is a program of its own, so that it runs with real threads on what was built, and is shown unchanged. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

// Aim: the example in the README works. Method: run the file, then look for its text in the README.
test("the example of the README runs", async () => {
  const example = new URL("readme-example.mjs", import.meta.url);
  await expect(promisify(execFile)(process.execPath, [fileURLToPath(example)])).resolves.toMatchObject({
    stderr: "",
  });
  const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
  expect(readme).toContain(`\`\`\`js\n${await readFile(example, "utf8")}\`\`\``);
});
