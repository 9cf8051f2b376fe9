import type { FileSystem } from "../src/file-system.js";

export type NameEntry =
  | { readonly type: "create"; readonly id: number; readonly path: string }
  | { readonly type: "mkdir"; readonly id: number; readonly path: string }
  | { readonly type: "unlink"; readonly id: number; readonly path: string; readonly kept: string }
  | {
      readonly type: "rename";
      readonly id: number;
      readonly source: string;
      readonly target: string;
      readonly kept: string;
    };

export type JournalEntry =
  | NameEntry
  | {
      readonly type: "write";
      readonly id: number;
      readonly ino: number;
      readonly offset: number;
      readonly bytes: number;
      readonly before: string;
    }
  | { readonly type: "durable"; readonly ids: readonly number[] }
  | { readonly type: "names"; readonly directory: string; readonly upTo: number };

export function journaled(
  machine: FileSystem,
  options: { readonly journal: string; readonly kept: string; readonly dieAt: number },
): FileSystem;

export function failing(machine: FileSystem, failAt: number): FileSystem;

export function directoryOf(entry: NameEntry): string;
