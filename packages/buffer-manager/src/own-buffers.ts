/**
 * What reads need of the buffers that a backend has for its temporary relations.
 *
 * They are the business of one thread; only their frames are in the pool's memory. The I/O under way on one is its I/O lock.
 */
import type { WaitRef } from "@millrace/aio";

import type { Fork, Relation } from "./tag.js";
import type { Waiting } from "./waiting.js";

/** A backend's own buffers; numbers are from 0. */
export interface OwnBuffers {
  lookupAndPin(relation: Relation, fork: Fork, block: number): number;
  allocate(relation: Relation, fork: Fork, block: number): Waiting<number>;
  lookup(relation: Relation, fork: Fork, block: number): number;
  hasTag(buffer: number, relation: Relation, fork: Fork, block: number): boolean;
  pin(buffer: number): void;
  unpin(buffer: number): void;
  isValid(buffer: number): boolean;
  frame(buffer: number): number;
  /** The I/O under way; it is their I/O lock. */
  io(buffer: number): WaitRef | undefined;
  stageIo(buffer: number, ref: WaitRef): void;
  terminateIo(buffer: number, clearDirty: boolean, setFlags: number, releaseIo: boolean): void;
}

/** Where the callbacks of a thread find them: they are made with the first temporary relation. */
export class OwnBuffersHolder {
  buffers: OwnBuffers | undefined;
}
