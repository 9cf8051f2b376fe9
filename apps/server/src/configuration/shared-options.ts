/**
 * Options that every command has.
 */
import { LOG_FORMATS, LOG_LEVELS } from "../logging.js";
import type { LogOptions } from "../logging.js";
import type { OptionTable } from "./option.js";
import { oneOf } from "./values.js";

/** What every command's configuration contains. */
export interface SharedConfiguration {
  readonly logLevel: LogOptions["level"];
  readonly logFormat: LogOptions["format"];
}

export const SHARED_OPTIONS: OptionTable<SharedConfiguration> = {
  logLevel: {
    placeholder: "<level>",
    description: "how much is logged to standard error",
    allowed: `one of ${LOG_LEVELS.join(", ")}`,
    schema: oneOf(LOG_LEVELS),
    default: "info",
  },
  logFormat: {
    placeholder: "<format>",
    description: "pretty for people, json for machines; auto is pretty on a terminal",
    allowed: `one of ${LOG_FORMATS.join(", ")}`,
    schema: oneOf(LOG_FORMATS),
    default: "auto",
  },
};
