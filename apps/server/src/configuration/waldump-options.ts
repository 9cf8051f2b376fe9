/**
 * Options of `millrace waldump`.
 */
import { parseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { z } from "zod";

import type { OptionTable } from "./option.js";
import { flag, numberBetween } from "./values.js";

/** The configuration of a dump. */
export interface WaldumpConfiguration {
  /** Holds segment files: pg_wal, an archive, or an acceptor's directory of a timeline. */
  readonly walDir: string;
  readonly start?: Lsn;
  readonly end?: Lsn;
  readonly timelineId: number;
  readonly rmgr?: string;
  readonly limit: number;
  readonly stats: boolean;
}

/** Far more than anybody reads, and few enough to be counted exactly. */
const LIMIT_MAX: number = 2 ** 40;
const TIMELINE_MAX = 0xffff_ffff;

const position = z
  .string()
  .regex(/^[0-9a-fA-F]{1,8}\/[0-9a-fA-F]{1,8}$/)
  .transform((text) => parseLsn(text));

export const WALDUMP_OPTIONS: OptionTable<WaldumpConfiguration> = {
  walDir: {
    placeholder: "<directory>",
    description: "the directory with the segment files",
    allowed: "a directory",
    schema: z.string().min(1),
    default: ".",
  },
  start: {
    placeholder: "<lsn>",
    description: "where to begin, a record's start or any page's",
    allowed: "a position such as 0/16B3748",
    schema: position,
    defaultText: "the first segment there is",
    optional: true,
  },
  end: {
    placeholder: "<lsn>",
    description: "the first position that is not read",
    allowed: "a position such as 0/16B3748",
    schema: position,
    defaultText: "the end of the WAL",
    optional: true,
  },
  timelineId: {
    flag: "timeline-id",
    placeholder: "<number>",
    description: "the timeline whose segments are read",
    allowed: `a whole number from 1 to ${TIMELINE_MAX}`,
    schema: numberBetween(1, TIMELINE_MAX),
    default: 1,
  },
  rmgr: {
    placeholder: "<name>",
    description: "print records of this resource manager only",
    allowed: "a name as pg_waldump prints it, such as Heap2",
    schema: z.string().min(1),
    optional: true,
  },
  limit: {
    placeholder: "<count>",
    description: "how many records to print at most",
    allowed: `a whole number from 1 to ${LIMIT_MAX}`,
    schema: numberBetween(1, LIMIT_MAX),
    default: LIMIT_MAX,
    defaultText: "all",
  },
  stats: {
    description: "print how many records of each type there are, and their bytes, instead of the records",
    allowed: "on or off",
    schema: flag,
    default: false,
  },
};
