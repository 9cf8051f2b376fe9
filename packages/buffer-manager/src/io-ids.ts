/**
 * Numbers of the targets and callbacks of a pool's I/O. Those of plain files and of WAL are @millrace/aio's own.
 */

/** What a pool does I/O on. */
export const POOL_TARGET = { relation: 3 } as const;

/** What completes it. */
export const POOL_CALLBACK = {
  /** Of the file layer: bytes read become blocks. */
  blocksRead: 2,
  /** Of the file layer: a write of blocks is whole, or failed. */
  blocksWritten: 3,
  /** Pages of the pool have been read. */
  sharedRead: 4,
  /** Pages of one backend's own buffers have been read. */
  localRead: 5,
  /** Pages of the pool have been written. */
  sharedWrite: 6,
} as const;
