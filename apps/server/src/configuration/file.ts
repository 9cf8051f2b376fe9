/**
 * Reads a configuration file: one JSON object whose keys are the options' names in camel case.
 *
 * Only the shape is checked here (readable, JSON, an object, not absurdly large); values and unknown keys are
 * checked against the command's options in option.ts, so that one rule holds for every place a value comes from.
 */
import { readFileSync, statSync } from "node:fs";

import { describeError, ServerError } from "../errors.js";

/** A configuration file has a few dozen short lines; a bigger one is the wrong file. */
const FILE_BYTES_MAX = 1024 * 1024;

/**
 * The object in the file at `path`.
 *
 * @throws {ServerError} ERR_SERVER_OPTION when it cannot be read, is too large, or is not a JSON object
 */
export function readConfigurationFile(path: string): { path: string; values: Record<string, unknown> } {
  let text: string;
  try {
    if (statSync(path).size > FILE_BYTES_MAX) {
      throw new ServerError("ERR_SERVER_OPTION", `it is larger than ${FILE_BYTES_MAX} bytes`);
    }
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new ServerError("ERR_SERVER_OPTION", `--config ${path} cannot be read: ${describeError(error)}`);
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new ServerError("ERR_SERVER_OPTION", `--config ${path} is not JSON: ${describeError(error)}`);
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new ServerError("ERR_SERVER_OPTION", `--config ${path} must hold one JSON object`);
  }
  return { path, values: parsed as Record<string, unknown> };
}
