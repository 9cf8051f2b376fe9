/**
 * What a thread can be seen to wait for: numbers for its shared record, PostgreSQL's names for people.
 */
export const WAIT_EVENT = {
  none: 0,
  ioCompletion: 1,
  uringSubmit: 2,
  uringExecution: 3,
  workerMain: 4,
  uringLock: 5,
} as const;

/** Names for people, by number. */
export const WAIT_EVENT_NAMES: readonly string[] = [
  "",
  "AioIoCompletion",
  "AioIoUringSubmit",
  "AioIoUringExecution",
  "IoWorkerMain",
  "AioUringCompletion",
];
