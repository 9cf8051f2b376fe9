/**
 * The last bytes of a stream whose connection ends with it: what the peer is told, and how the socket is closed.
 */
import type { CopyWriter, ServerConnection } from "@millrace/pg-wire";

import { publish } from "./diagnostics.js";
import type { EventPlace } from "./diagnostics.js";
import { streamEndReason, streamEndReport } from "./stream-end.js";
import type { StreamEnd } from "./stream-end.js";

/**
 * Reports `end` to the peer and on the diagnostics channel, and closes the connection as that end wants it.
 *
 * @param connection given: closed when the promise settles
 */
export async function finishStream(
  connection: ServerConnection,
  writer: CopyWriter,
  end: StreamEnd,
  place: EventPlace,
): Promise<void> {
  const { send, close, level } = streamEndReport(end);
  const error = end.kind === "failed" || end.kind === "disconnected" ? end.error : undefined;
  publish(() => ({ ...place, type: "stream-ended", level, reason: streamEndReason(end), error }));
  // Not awaited: closing sends what is queued, and bounds how long that may take.
  if (send === "copy-done") void writer.done()?.catch(() => undefined);
  else if (send !== "nothing") void writer.fail(send)?.catch(() => undefined);
  if (close === "now") connection.destroy();
  else await connection.close();
}
