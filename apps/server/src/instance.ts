/**
 * What an all-in-one data directory is: its ids and which PostgreSQL it belongs to. Written once, then only checked.
 *
 * The acceptors' timeline belongs to one PostgreSQL cluster. Pointing the directory at another one would be refused
 * by the acceptors (the system identifier differs), but late and in their words; here it is refused first and in the
 * user's. The password of a PostgreSQL of ours is kept beside it in a file that only its owner can read.
 */
import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, realpathSync, statSync } from "node:fs";
import { join, resolve } from "node:path";

import { z } from "zod";

import { readIfPresent, writeDurably } from "./durable-file.js";
import { describeError, ServerError } from "./errors.js";

const INSTANCE_FILE = "millrace.json";
const PASSWORD_FILE = "postgres-password";
const URL_FILE = "postgres-url";
/** 144 bits, in characters that need no escaping in a URL or a shell. */
const PASSWORD_BYTES = 18;

/** A PostgreSQL that the all-in-one made and runs. */
export interface OwnPostgresRecord {
  readonly kind: "own";
  readonly flavour: "system" | "embedded" | "given";
  readonly major: number;
  readonly binDirectory: string;
  /** Where its cluster is; outside of the data directory only where PostgreSQL's account cannot reach that. */
  readonly directory: string;
}

/** A PostgreSQL that somebody else runs. */
export interface ExternalPostgresRecord {
  readonly kind: "external";
}

/** The content of millrace.json. */
export interface Instance {
  readonly version: 1;
  readonly tenantId: string;
  readonly timelineId: string;
  readonly postgres: OwnPostgresRecord | ExternalPostgresRecord;
}

const id = z.string().regex(/^[0-9a-f]{32}$/);

const instanceSchema: z.ZodType<Instance> = z.strictObject({
  version: z.literal(1),
  tenantId: id,
  timelineId: id,
  postgres: z.discriminatedUnion("kind", [
    z.strictObject({
      kind: z.literal("own"),
      flavour: z.enum(["system", "embedded", "given"]),
      major: z.number().int(),
      binDirectory: z.string(),
      directory: z.string(),
    }),
    z.strictObject({ kind: z.literal("external") }),
  ]),
});

/** Creates the directory when missing and gives its absolute path without symbolic links. */
export function prepareDataDirectory(path: string): string {
  try {
    mkdirSync(path, { recursive: true });
    return realpathSync(resolve(path));
  } catch (error) {
    throw new ServerError("ERR_SERVER_DATA", `--data-dir ${path} cannot be used: ${describeError(error)}`);
  }
}

/**
 * The record in `dataDirectory`, or undefined when the directory is new.
 *
 * @throws {ServerError} ERR_SERVER_DATA when the file is damaged or of a later version; it is never overwritten then
 */
export function readInstance(dataDirectory: string): Instance | undefined {
  const path = join(dataDirectory, INSTANCE_FILE);
  const text = readIfPresent(path);
  if (text === undefined) return undefined;
  try {
    return instanceSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new ServerError("ERR_SERVER_DATA", `${path} is not a record of this version of millrace`, {
      cause,
    });
  }
}

/** Makes and keeps a record with fresh ids. */
export function createInstance(dataDirectory: string, postgres: Instance["postgres"]): Instance {
  const instance: Instance = {
    version: 1,
    tenantId: randomBytes(16).toString("hex"),
    timelineId: randomBytes(16).toString("hex"),
    postgres,
  };
  writeDurably(join(dataDirectory, INSTANCE_FILE), `${JSON.stringify(instance, undefined, 2)}\n`);
  return instance;
}

/**
 * The password of our own PostgreSQL, made at the first call.
 *
 * @throws {ServerError} ERR_SERVER_DATA when the file is empty or others may read it
 */
export function ownPassword(dataDirectory: string): string {
  const path = join(dataDirectory, PASSWORD_FILE);
  if (readIfPresent(path) === undefined) {
    writeSecret(path, `${randomBytes(PASSWORD_BYTES).toString("base64url")}\n`);
  }
  return readSecret(path);
}

/** Keeps PostgreSQL's URL for the bridge in a file only its owner can read, and gives the file's path. */
export function keepPostgresUrl(dataDirectory: string, url: string): string {
  const path = join(dataDirectory, URL_FILE);
  writeSecret(path, `${url}\n`);
  return path;
}

function writeSecret(path: string, text: string): void {
  writeDurably(path, text, 0o600);
  // The mode given at creation is cut by the umask but never widened; this only matters for odd umasks.
  chmodSync(path, 0o600);
}

/**
 * The one line of a secret's file.
 *
 * @throws {ServerError} ERR_SERVER_DATA when it is missing or empty, or when group or others have any right to it
 */
export function readSecret(path: string): string {
  const text = readIfPresent(path);
  if (text === undefined) throw new ServerError("ERR_SERVER_DATA", `${path} does not exist`);
  if ((statSync(path).mode & 0o077) !== 0) {
    throw new ServerError("ERR_SERVER_DATA", `${path} can be read by others; run: chmod 600 ${path}`);
  }
  const secret = text.replace(/\r?\n$/, "");
  if (secret === "") throw new ServerError("ERR_SERVER_DATA", `${path} is empty`);
  return secret;
}
