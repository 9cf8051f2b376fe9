/** The README's example is a file of its own, so that it is compiled, run here and shown unchanged. */
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";

// Aim: the example in the README works. Method: run the file, then look for its text in the README.
test("the example of the README runs", async () => {
  await import("./readme-example.js");
  const example = await readFile(new URL("readme-example.ts", import.meta.url), "utf8");
  const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
  expect(readme).toContain(`\`\`\`ts\n${example}\`\`\``);
});
