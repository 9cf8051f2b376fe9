/**
 * Feedback from behind the acceptors, merged: hot standbys over acceptors, pageservers over shards.
 *
 * Of hot standbys the oldest transaction wins, among the acceptors that stream now. Of pageservers every acceptor
 * passes on what every shard says, so what counts is the latest word of each shard, whoever carried it. For all
 * shards together a position is the smallest one, the size is what shard 0 knows, and the reply time is the latest.
 * The number of shards is bounded because the shard number comes from the network.
 */
import type { Lsn } from "@millrace/lsn";
import { aggregateHotStandby } from "@millrace/wal-protocol";
import type { HotStandbyFeedback, PageserverFeedback } from "@millrace/wal-protocol";

/** As many shards as a tenant of Neon can have. */
const SHARDS_MAX = 256;

/** Mutable, owned by one ProposerCore. */
export class PageserverMerge {
  readonly #latest = new Map<number, PageserverFeedback>();

  /** Takes one shard's feedback and gives the merged one; undefined if the shard number is out of bounds. */
  add(feedback: PageserverFeedback): PageserverFeedback | undefined {
    if (feedback.shardNumber >= SHARDS_MAX) return undefined;
    this.#latest.set(feedback.shardNumber, feedback);
    let merged = feedback;
    for (const other of this.#latest.values()) {
      if (other === feedback) continue;
      merged = {
        currentTimelineSize: 0n,
        lastReceivedLsn: smaller(merged.lastReceivedLsn, other.lastReceivedLsn),
        diskConsistentLsn: smaller(merged.diskConsistentLsn, other.diskConsistentLsn),
        remoteConsistentLsn: smaller(merged.remoteConsistentLsn, other.remoteConsistentLsn),
        replyTime: merged.replyTime > other.replyTime ? merged.replyTime : other.replyTime,
        shardNumber: 0,
        corruptionDetected: merged.corruptionDetected || other.corruptionDetected,
      };
    }
    const currentTimelineSize = this.#latest.get(0)?.currentTimelineSize ?? 0n;
    return { ...merged, currentTimelineSize, shardNumber: 0 };
  }
}

/** What the hot standbys behind several acceptors ask for together; ids that are no transaction's ask for nothing. */
export function mergeHotStandby(feedbacks: readonly HotStandbyFeedback[]): HotStandbyFeedback {
  return aggregateHotStandby(
    feedbacks.map(({ timestamp, xmin, catalogXmin }) => ({
      timestamp,
      xmin: normalOnly(xmin),
      catalogXmin: normalOnly(catalogXmin),
    })),
  );
}

/** Whether two feedbacks say the same. */
export function sameHotStandby(a: HotStandbyFeedback, b: HotStandbyFeedback): boolean {
  return a.xmin === b.xmin && a.catalogXmin === b.catalogXmin && a.timestamp === b.timestamp;
}

/** The first three ids of every epoch are reserved: invalid, bootstrap, frozen. */
function normalOnly(transactionId: bigint): bigint {
  return (transactionId & 0xffff_ffffn) < 3n ? 0n : transactionId;
}

function smaller(a: Lsn, b: Lsn): Lsn {
  return b < a ? b : a;
}
