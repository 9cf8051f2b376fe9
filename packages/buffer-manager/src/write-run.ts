/**
 * One write of neighbouring blocks, from the first page that is copied for it to its end.
 *
 * Whoever has it written sees which blocks and buffers it is for; the rest is the page writer's (page-writer.ts).
 */
import { createIoReturn } from "@millrace/aio";
import type { IoReturn, WaitRef } from "@millrace/aio";

import type { Fork, Relation } from "./tag.js";

/** One write of neighbouring blocks. */
export interface WriteRun {
  readonly relation: Relation;
  readonly fork: Fork;
  /** The first block. */
  readonly block: number;
  /** Buffers in it, from 0, in the order of their blocks. */
  readonly buffers: number[];
  /** Whether it is over. */
  readonly isDone: boolean;
}

/** What the writer knows of it. */
export class Run implements WriteRun {
  readonly buffers: number[] = [];
  isDone = false;
  lsn = 0n;
  hadFailed = false;
  /** Entry of the fork among those to sync; -1 while the write is not about to start. */
  sync = -1;
  ref: WaitRef | undefined;
  /** That the write is charged to, of `CONTEXT`; set when it is started. */
  context = 0;
  readonly slot: IoReturn;
  readonly frame: number;
  frames: number;
  readonly relation: Relation;
  readonly fork: Fork;
  readonly block: number;

  constructor(
    frame: number,
    frames: number,
    relation: Relation,
    fork: Fork,
    block: number,
    onReturn: (run: Run) => void,
  ) {
    this.frame = frame;
    this.frames = frames;
    this.relation = relation;
    this.fork = fork;
    this.block = block;
    this.slot = createIoReturn(() => onReturn(this));
  }
}

/** The writer's own view of a run that it has made. */
export function asRun(run: WriteRun): Run {
  return run as Run;
}
