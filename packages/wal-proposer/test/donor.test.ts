// Where catch-up WAL comes from, and how a donor's stream ends, with acceptors in memory.
import type { Duplex } from "node:stream";
import { addBytes, toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { expect, test } from "vitest";
import { catchUpSource } from "../src/catch-up-source.js";
import type { Donor } from "../src/catch-up-source.js";
import type { CatchUpStream } from "../src/catch-up.js";
import { DonorReader } from "../src/donor-reader.js";
import { ProposerError } from "../src/errors.js";
import { FakeClock } from "./harness/fake-clock.js";
import { socketPair } from "./harness/socket-pair.js";
import { configurationOf, TestAcceptor } from "./harness/test-acceptor.js";

const START = toLsn(0x300_0000n);
const at = (bytes: number): Lsn => addBytes(START, bytes);
const NEVER = new AbortController().signal;
const LOG = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 253));

function donorAcceptor(): TestAcceptor {
  const acceptor = new TestAcceptor(1n);
  acceptor.createTimeline({ startLsn: START, configuration: configurationOf([acceptor]) });
  acceptor.preload(LOG);
  acceptor.bumpTerm(7n);
  return acceptor;
}

function openDonor(
  acceptor: TestAcceptor,
  fromLsn: Lsn,
  term: bigint,
  clock: FakeClock,
): Promise<DonorReader> {
  return DonorReader.open({
    address: { host: "memory", port: 0 },
    tenantId: "0".repeat(32),
    timelineId: "1".repeat(32),
    term,
    fromLsn,
    reportIntervalMs: 1000,
    clock,
    connectSocket: (): Duplex => {
      const [ours, theirs] = socketPair();
      void acceptor.accept(theirs);
      return ours;
    },
  });
}

// Aim: a donor gives its WAL to the last byte and then says that there is no more. Method: read to the end.
test("a donor's stream ends where its WAL ends", async () => {
  const clock = new FakeClock();
  const reader = await openDonor(donorAcceptor(), at(1000), 7n, clock);
  const pieces: Uint8Array[] = [];
  let ended: unknown;
  while (ended === undefined) {
    try {
      const { startLsn, bytes } = await reader.next();
      expect(startLsn).toBe(at(1000 + Buffer.concat(pieces).byteLength));
      pieces.push(bytes);
    } catch (error) {
      ended = error;
    }
  }
  expect(ended).toMatchObject({ code: "ERR_BRIDGE_DONOR", message: /memory:0: the log ends at 0\/30493E0/ });
  expect(Buffer.concat(pieces).equals(LOG.subarray(1000))).toBe(true);
  reader.close();
  expect(clock.pendingTimers).toBe(0);
});

// Aim: WAL of another term is not taken. Method: ask in a term that the acceptor is not in.
test("a donor in another term gives nothing", async () => {
  const clock = new FakeClock();
  const reader = await openDonor(donorAcceptor(), START, 6n, clock);
  await expect(reader.next()).rejects.toMatchObject({ code: "ERR_BRIDGE_DONOR" });
  reader.close();
  expect(clock.pendingTimers).toBe(0);
});

/** A stream of one piece, or of one failure. */
function stream(name: string, failure?: ProposerError): CatchUpStream & { closed: boolean } {
  return {
    closed: false,
    async next() {
      if (failure !== undefined) throw failure;
      return { startLsn: START, bytes: Buffer.from(name) };
    },
    close() {
      this.closed = true;
    },
  };
}

const removed = new ProposerError("ERR_BRIDGE_WAL_REMOVED", "gone");

// Aim: PostgreSQL is asked first, a donor only for what PostgreSQL has removed, and none that is behind. Method: each case.
test("a donor is asked for what PostgreSQL has removed, and for nothing else", async () => {
  const asked: Donor[] = [];
  let fromPostgres = stream("postgres");
  let donor: Donor | undefined = { acceptor: 2, endLsn: at(1) };
  const source = catchUpSource({
    fromPostgres: async () => fromPostgres,
    fromDonor: async (chosen) => {
      asked.push(chosen);
      return stream("donor");
    },
    donor: () => donor,
  });
  const read = async (): Promise<string> => {
    const { bytes } = await (await source(START, NEVER)).next();
    return Buffer.from(bytes).toString();
  };
  expect(await read()).toBe("postgres");
  expect(asked).toEqual([]);

  fromPostgres = stream("", removed);
  expect(await read()).toBe("donor");
  expect(asked).toEqual([donor]);
  expect(fromPostgres.closed).toBe(true);

  donor = { acceptor: 2, endLsn: START };
  await expect(read()).rejects.toMatchObject({ code: "ERR_BRIDGE_DONOR" });
  donor = undefined;
  await expect(read()).rejects.toMatchObject({ code: "ERR_BRIDGE_DONOR" });
  fromPostgres = stream("", new ProposerError("ERR_BRIDGE_POSTGRES", "away"));
  await expect(read()).rejects.toMatchObject({ code: "ERR_BRIDGE_POSTGRES" });
  expect(asked.length).toBe(1);
});
