// A bridge with three acceptors and a PostgreSQL, all in memory, on a clock that stands.
import type { Duplex } from "node:stream";
import { addBytes, toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { Bridge } from "../../src/index.js";
import type { AcceptorAddress, BridgeOptions } from "../../src/index.js";
import { FakeClock } from "./fake-clock.js";
import { FakePostgres } from "./fake-postgres.js";
import { socketPair } from "./socket-pair.js";
import { configurationOf, TestAcceptor } from "./test-acceptor.js";

export const START: Lsn = toLsn(0x300_0000n);
export const at = (bytes: number): Lsn => addBytes(START, bytes);

export interface World {
  readonly clock: FakeClock;
  readonly postgres: FakePostgres;
  readonly acceptors: readonly TestAcceptor[];
  open(options?: Partial<BridgeOptions>): Promise<Bridge>;
}

/** Three acceptors whose timeline begins at START and has been elected once; PostgreSQL stands at the same place. */
export function world(): World {
  const clock = new FakeClock();
  const postgres = new FakePostgres(START, START);
  const acceptors = [new TestAcceptor(1n), new TestAcceptor(2n), new TestAcceptor(3n)];
  const configuration = configurationOf(acceptors);
  for (const acceptor of acceptors) {
    acceptor.createTimeline({ startLsn: START, configuration });
    acceptor.bumpTerm(1n);
  }
  return {
    clock,
    postgres,
    acceptors,
    open: (options = {}) =>
      Bridge.open({
        postgres: { host: "memory", user: "postgres", connectSocket: postgres.connectSocket },
        acceptors: acceptors.map(({ nodeId }, port) => ({ host: "memory", port, nodeId })),
        tenantId: "0".repeat(32),
        timelineId: "1".repeat(32),
        createTimeline: async () => undefined,
        clock,
        random: () => 0.5,
        connectSocket: ({ port }: AcceptorAddress): Duplex => {
          const [ours, theirs] = socketPair();
          void acceptors[port]?.accept(theirs);
          return ours;
        },
        ...options,
      }),
  };
}
