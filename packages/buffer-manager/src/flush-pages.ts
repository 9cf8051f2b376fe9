/**
 * Writing all dirty pages of a relation or of a database, because their files are about to be read past the pool or copied.
 *
 * What is dirty when the call begins is written when it ends. After FlushRelationBuffers and FlushDatabaseBuffers of
 * PostgreSQL 18, in the order of the files and several at a time.
 */
import { STATE } from "./buffer-state.js";
import { CheckpointList } from "./checkpoint-list.js";
import { DESCRIPTOR, HEADER } from "./layout.js";
import { listBuffer, SortedWrites } from "./sorted-writes.js";
import type { WriteParts } from "./sorted-writes.js";
import type { Relation } from "./tag.js";
import type { Waiting } from "./waiting.js";
import { WriteBack } from "./write-back.js";

const WANTED: number = STATE.valid | STATE.dirty;

/**
 * Writes the dirty pages of all forks of a relation.
 *
 * @returns pages written
 * @throws {BufferError} ERR_BUFFER_WRITE
 */
export function flushRelation(parts: WriteParts, relation: Relation): Waiting<number> {
  const { headers } = parts.context;
  return flushMatching(parts, (buffer) => headers.isOfRelation(buffer, relation));
}

/** As `flushRelation`, of all relations of a database. @param database its number, unsigned */
export function flushDatabase(parts: WriteParts, database: number): Waiting<number> {
  const { headers, words } = parts.context;
  return flushMatching(parts, (buffer) => words[headers.at(buffer) + DESCRIPTOR.database] === (database | 0));
}

function* flushMatching(parts: WriteParts, matches: (buffer: number) => boolean): Waiting<number> {
  const { headers, words, files, counters } = parts.context;
  const list = new CheckpointList();
  const buffers = words[HEADER.high] as number;
  for (let buffer = 0; buffer < buffers; buffer++) {
    if ((headers.state(buffer) & WANTED) !== WANTED || !matches(buffer)) continue;
    const state = headers.lock(buffer);
    if ((state & WANTED) === WANTED && matches(buffer)) listBuffer(parts.context, list, buffer);
    headers.unlock(buffer, state);
  }
  list.sort();
  const writes = new SortedWrites(parts, list, STATE.dirty, new WriteBack(files, counters, 0));
  yield* writes.run();
  return writes.written;
}
