/**
 * Where WAL comes from that is no longer in memory: PostgreSQL while it has it, then another acceptor.
 *
 * PostgreSQL comes first: it is next door, and acceptors have other work. Its slot keeps what listed acceptors need,
 * but may be given a limit (max_slot_wal_keep_size) and be invalidated. Only when PostgreSQL says that the segment is
 * gone is the donor asked that the core names at this moment. A donor that is lost or has no more ends the stream;
 * the next attempt looks at both again.
 */
import { formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { CatchUpSource, CatchUpStream, WalChunk } from "./catch-up.js";
import { publishNotice } from "./diagnostics.js";
import { ProposerError } from "./errors.js";

/** An acceptor that can give WAL away, as the core sees it. */
export interface Donor {
  readonly acceptor: number;
  /** End of the WAL that it is known to have. */
  readonly endLsn: Lsn;
}

/** See the members. */
export interface CatchUpSourceOptions {
  /** A stream from PostgreSQL; says ERR_BRIDGE_WAL_REMOVED when opened or at the first `next` if that WAL is gone. */
  readonly fromPostgres: CatchUpSource;
  readonly fromDonor: (donor: Donor, fromLsn: Lsn, signal: AbortSignal) => Promise<CatchUpStream>;
  readonly donor: () => Donor | undefined;
}

/** A source for `CatchUp` that asks PostgreSQL first and a donor second. */
export function catchUpSource(options: CatchUpSourceOptions): CatchUpSource {
  return async (fromLsn, signal) => {
    let stream: CatchUpStream;
    try {
      const postgres = await options.fromPostgres(fromLsn, signal);
      stream = await withFirst(postgres);
    } catch (error) {
      if (!isRemoved(error) || signal.aborted) throw error;
      stream = await openDonor(options, fromLsn, signal);
    }
    return stream;
  };
}

/**
 * A source whose streams also end, and are refused, while the signal that `lost` gives at their opening is aborted.
 *
 * For streams from PostgreSQL: they acknowledge nothing, so a PostgreSQL that shuts down would wait for them for ever.
 */
export function endedWith(source: CatchUpSource, lost: () => AbortSignal): CatchUpSource {
  return async (fromLsn, signal) => {
    const either = new AbortController();
    const stop = (): void => either.abort();
    const signals = [signal, lost()];
    if (signals.some(({ aborted }) => aborted)) stop();
    for (const one of signals) one.addEventListener("abort", stop);
    const release = (): void => {
      for (const one of signals) one.removeEventListener("abort", stop);
    };
    try {
      const stream = await source(fromLsn, either.signal);
      const close = (): void => {
        release();
        stream.close();
      };
      either.signal.addEventListener("abort", close);
      if (either.signal.aborted) close();
      return { next: () => stream.next(), close };
    } catch (error) {
      release();
      throw error;
    }
  };
}

/** Waits for the first piece, which may be a refusal instead. */
async function withFirst(stream: CatchUpStream): Promise<CatchUpStream> {
  let first: WalChunk | undefined;
  try {
    first = await stream.next();
  } catch (error) {
    stream.close();
    throw error;
  }
  return {
    next: async () => {
      const chunk = first;
      first = undefined;
      return chunk ?? (await stream.next());
    },
    close: () => stream.close(),
  };
}

async function openDonor(
  options: CatchUpSourceOptions,
  fromLsn: Lsn,
  signal: AbortSignal,
): Promise<CatchUpStream> {
  const donor = options.donor();
  if (donor === undefined || donor.endLsn <= fromLsn) {
    const message = `no acceptor is known to have the WAL at ${formatLsn(fromLsn)} that PostgreSQL has removed`;
    throw new ProposerError("ERR_BRIDGE_DONOR", message);
  }
  publishNotice({ type: "donor", acceptor: donor.acceptor, fromLsn });
  return await options.fromDonor(donor, fromLsn, signal);
}

function isRemoved(error: unknown): boolean {
  return error instanceof ProposerError && error.code === "ERR_BRIDGE_WAL_REMOVED";
}
