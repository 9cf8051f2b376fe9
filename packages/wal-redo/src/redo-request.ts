/**
 * What is asked of the redo manager: one page, as of an LSN, from a base and the changes since.
 */
import type { Lsn } from "@millrace/lsn";
import type { MapEffect } from "./implicit-effects.js";

/** A block of a relation's fork. */
export interface PageKey {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
  readonly block: number;
}

/** One change of the page, in the order of the WAL. */
export type PageModification =
  /** A record that names the page. */
  | {
      readonly kind: "record";
      /** The whole record, header included; borrowed until the request is answered. */
      readonly bytes: Uint8Array;
      readonly endLsn: Lsn;
    }
  /** A change that no block reference names; see `implicitEffects`. */
  | { readonly kind: "effect"; readonly effect: MapEffect; readonly endLsn: Lsn };

/** What the page is for; it decides how often a request is tried again, and who goes first. */
export type RedoPurpose =
  /** Somebody waits for it. */
  | "read"
  /** A layer is written anew. */
  | "compaction"
  /** The same, at the horizon of garbage collection. */
  | "gc-compaction"
  /** Nobody waits yet. */
  | "backlog";

export interface RedoRequest {
  readonly page: PageKey;
  /** Where the page's state is wanted; for messages and for telling requests apart. */
  readonly lsn: Lsn;
  /** The page before the first change, borrowed until the request is answered. Without it: zeros. */
  readonly base?: { readonly lsn: Lsn; readonly bytes: Uint8Array };
  /** At least one. */
  readonly modifications: readonly PageModification[];
  readonly pgMajor: number;
  /** See `RedoEnvironment`. */
  readonly hintLsn: boolean;
  readonly purpose: RedoPurpose;
  /** Requests of different owners take turns. Default: one owner. */
  readonly owner?: string;
}

/** A page's key as text. */
export function pageKeyText({ spc, db, rel, fork, block }: PageKey): string {
  return `${String(spc)}/${String(db)}/${String(rel)}/${String(fork)}/${String(block)}`;
}
