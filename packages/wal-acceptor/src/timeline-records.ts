/**
 * Small durable notes beside a timeline's WAL: slots and PostgreSQL's timelines.
 *
 * Each is one small file that is replaced in one step. They are kept apart from the control file, because nothing in
 * them takes part in consensus and writing them must not wait for, or delay, a vote.
 */

/** File of the consumer slots. */
export const SLOTS_RECORD = "slots.json";
/** File of PostgreSQL's timelines. */
export const PG_TIMELINES_RECORD = "pg_timelines.json";
/** Above what either writes; a longer file is not ours. A thousand history files of 50 kB fit. */
export const RECORD_BYTES_MAX: number = 64 * 1024 * 1024;

/** Reads and replaces named notes of one timeline. */
export interface TimelineRecords {
  /** What was written last under that name, given; undefined if nothing was. @throws {AcceptorError} ERR_ACCEPTOR_IO */
  read(name: string): Promise<Uint8Array | undefined>;
  /**
   * Replaces a note, durably, in one step.
   *
   * @param bytes lent until the promise settles
   * @throws {AcceptorError} ERR_ACCEPTOR_NO_SPACE, ERR_ACCEPTOR_IO
   */
  write(name: string, bytes: Uint8Array): Promise<void>;
}

/** Notes that last as long as the process: for storages that keep none. */
export function createMemoryRecords(): TimelineRecords {
  const notes = new Map<string, Uint8Array>();
  return {
    read: (name) => Promise.resolve(notes.get(name)?.slice()),
    write: (name, bytes) => {
      notes.set(name, bytes.slice());
      return Promise.resolve();
    },
  };
}
