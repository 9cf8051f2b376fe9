/**
 * Where an acceptor keeps the part of its state that a vote or an acknowledgement promises: the interface.
 *
 * `persist` is atomic over any crash: afterwards the store opens with either the old or the new state, and once
 * the promise has resolved, only with the new one. Idea: the control file of Neon's safekeeper.
 */
import type { PersistentState } from "./persistent-state.js";

/** The durable state of one timeline. Calls to `persist` come one at a time, under the timeline's lock. */
export interface ControlStore {
  /** What is durable. The object is never changed, only replaced. */
  get(): PersistentState;

  /**
   * Replaces the state, durably. Nothing is written when `next` says the same as `get()`.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_NO_SPACE or _IO: `get()` and the disk are unchanged and the store stays
   *   usable. ERR_ACCEPTOR_POISONED: a sync failed, the state on disk is the old or the new one, and every later
   *   call rejects
   */
  persist(next: PersistentState): Promise<void>;
}
