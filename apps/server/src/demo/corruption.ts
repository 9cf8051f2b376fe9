/**
 * The demo's check on itself: damages one byte of an acceptor's WAL when a variable asks for it.
 *
 * A proof that cannot fail proves nothing. With MILLRACE_DEMO_CORRUPT=2 a byte in the first segment of acceptor 2
 * is flipped on disk after the load and before the comparison; the demo must then end with a failing row and
 * a code other than 0, and a test holds it to that. Without the variable nothing is touched.
 */
import { open } from "node:fs/promises";
import { join } from "node:path";

import { segmentFileName, segmentNumber } from "@millrace/lsn";

import type { AllInOne } from "../all-in-one.js";
import { ServerError } from "../errors.js";
import { fetchTimeline } from "../http/acceptor-client.js";

/** Names the acceptor (1 to 3) whose WAL is damaged. */
export const CORRUPT_VARIABLE = "MILLRACE_DEMO_CORRUPT";
/** Behind the segment's page header, inside the first record. */
const OFFSET = 100;

/** Flips all bits of the byte at `offset` of the file at `path`. */
export async function flipByte(path: string, offset: number): Promise<void> {
  const file = await open(path, "r+");
  try {
    const byte = Buffer.alloc(1);
    const { bytesRead } = await file.read(byte, 0, 1, offset);
    if (bytesRead !== 1) throw new RangeError(`${path} has no byte ${offset}`);
    byte[0] = (byte[0] ?? 0) ^ 0xff;
    await file.write(byte, 0, 1, offset);
  } finally {
    await file.close();
  }
}

/** Damages the acceptor that the variable names; nothing without it. */
export async function corruptIfAsked(app: AllInOne, say: (line: string) => void): Promise<void> {
  const asked = process.env[CORRUPT_VARIABLE];
  if (asked === undefined || asked === "") return;
  const place = app.places.find(({ id }) => String(id) === asked);
  if (place === undefined)
    throw new ServerError("ERR_SERVER_OPTION", `${CORRUPT_VARIABLE}: there is no acceptor ${asked}`);
  const { tenantId, timelineId } = app.instance;
  const { timelineStartLsn, segmentBytes } = await fetchTimeline(place.httpUrl, tenantId, timelineId);
  const name = segmentFileName(1, segmentNumber(timelineStartLsn, segmentBytes), segmentBytes);
  const path = join(place.directory, tenantId, timelineId, name);
  await flipByte(path, OFFSET).catch(() => flipByte(`${path}.partial`, OFFSET));
  say(`${CORRUPT_VARIABLE}: one byte of acceptor ${asked} was damaged on purpose`);
}
