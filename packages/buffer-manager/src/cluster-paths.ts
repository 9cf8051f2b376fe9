/**
 * Paths of forks in the data directory of one cluster: which directory of a tablespace is the cluster's own.
 *
 * Several versions may share a tablespace, each with a directory that is named after its version; the cluster says which it
 * is in PG_VERSION. What was found once is remembered.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { BufferError } from "./errors.js";
import { DEFAULT_TABLESPACE, GLOBAL_TABLESPACE, relationPath } from "./relation-path.js";
import type { Fork, Relation } from "./tag.js";

/** The paths of a data directory. */
export class ClusterPaths {
  readonly #directory: string;
  readonly #versionDirectories = new Map<number, string>();

  /** @param directory a data directory, or one that is laid out like it */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /**
   * Path of a fork's first segment below the data directory.
   *
   * @throws {BufferError} ERR_BUFFER_FILE: its tablespace has no directory for this version, or several
   */
  pathOf(relation: Relation, fork: Fork): string {
    const { tablespace } = relation;
    const isOwn = tablespace === DEFAULT_TABLESPACE || tablespace === GLOBAL_TABLESPACE;
    return relationPath(relation, fork, isOwn ? "" : this.#versionDirectory(tablespace));
  }

  #versionDirectory(tablespace: number): string {
    const known = this.#versionDirectories.get(tablespace);
    if (known !== undefined) return known;
    const place = join(this.#directory, "pg_tblspc", String(tablespace));
    const prefix = `PG_${this.#majorVersion()}`;
    const names = existsSync(place) ? readdirSync(place).filter((name) => name.startsWith(prefix)) : [];
    const [name] = names;
    if (name === undefined || names.length > 1) {
      const why = names.length === 0 ? "there is none" : `there are ${names.length}`;
      throw new BufferError("ERR_BUFFER_FILE", `no one version's directory in "${place}": ${why}`);
    }
    this.#versionDirectories.set(tablespace, name);
    return name;
  }

  /** The cluster's major version with a "_" behind it; empty if the directory does not say. */
  #majorVersion(): string {
    const path = join(this.#directory, "PG_VERSION");
    return existsSync(path) ? `${readFileSync(path, "latin1").trim()}_` : "";
  }
}
