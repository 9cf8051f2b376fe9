/**
 * The version of this command, as its package.json says it.
 */
import { readFileSync } from "node:fs";

let version: string | undefined;

/** The version; read once. Both from the sources and from dist the manifest is one directory up. */
export function ownVersion(): string {
  version ??= (
    JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string }
  ).version;
  return version;
}
