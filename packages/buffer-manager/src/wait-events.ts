/**
 * What a backend of the pool can be waiting for, as its row in the views names it. Kept as a number in the backend's words.
 *
 * Names are PostgreSQL's wait events where it has one.
 */
const WAIT_EVENTS = [
  "",
  "BufferIo",
  "BufferPin",
  "BufferContent",
  "BufferMapping",
  "BufferHeader",
  "CheckpointWriteDelay",
  "BgWriterMain",
  "BgWriterHibernate",
  "PoolResizeBarrier",
  "RelationExtension",
  "DataFileSync",
] as const;

/** The name of a wait; "" for none. */
export type WaitEvent = (typeof WAIT_EVENTS)[number];

/** Its number. */
export function waitEventNumber(event: WaitEvent): number {
  return WAIT_EVENTS.indexOf(event);
}

/** Its name; "" for a number that is none. */
export function waitEventName(event: number): WaitEvent {
  return WAIT_EVENTS[event] ?? "";
}
