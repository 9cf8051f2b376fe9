/**
 * Who counts: member sets, generations, and which acceptor is which member.
 *
 * With generations members are known by node id and may move between addresses; a node outside the configuration is
 * streamed to and never counted. Without generations the list of addresses is the member set, a member is a place in
 * it, and so the node behind an address must stay the same as long as a term lasts: a stand-in would inherit
 * acknowledgements that it never made. Either way one node is never counted twice.
 *
 * The places of a list are turned into a configuration of their own, so that one piece of quorum arithmetic serves
 * both. The configuration changes only until the campaign begins; the core sees to that.
 */
import { checkConfiguration, EMPTY_CONFIGURATION, isMember } from "@millrace/wal-protocol";
import type { Configuration } from "@millrace/wal-protocol";
import type { AcceptorProgress, AcceptorState } from "./acceptor-progress.js";

/** How an acceptor's configuration relates to ours. */
export type Relation =
  | "same"
  | "higher" // to be adopted, or the end of our term
  | "lower" // it lags behind
  | "foreign" // it uses generations and we do not
  | "conflict"; // the same generation with other members

/** States in which the node id was confirmed on the present connection. */
const GREETED: ReadonlySet<AcceptorState> = new Set([
  "wait-voting",
  "wait-verdict",
  "wait-elected",
  "active",
]);

/** Mutable, owned by one ProposerCore. */
export class Membership {
  readonly #generations: boolean;
  #configuration: Configuration;

  /** @throws {ProtocolError} ERR_PROTOCOL_CONFIGURATION */
  constructor(acceptors: number, configuration: Configuration | "learn" | undefined) {
    this.#generations = configuration !== undefined;
    if (configuration === undefined) this.#configuration = listConfiguration(acceptors);
    else if (configuration === "learn") this.#configuration = EMPTY_CONFIGURATION;
    else {
      checkConfiguration(configuration);
      this.#configuration = configuration;
    }
  }

  /** 0 without generations, and before one has been learnt. */
  get generation(): number {
    return this.#configuration.generation;
  }

  /** For counting only: without generations its members are places in the list. */
  get quorum(): Configuration {
    return this.#configuration;
  }

  /** What may be shown to others; undefined without generations, and before one has been learnt. */
  get known(): Configuration | undefined {
    return this.#generations && this.#configuration.generation !== 0 ? this.#configuration : undefined;
  }

  /** Who this acceptor is in the ledger and in `quorum`; undefined before its first greeting. */
  keyOf({ nodeId, index }: AcceptorProgress): bigint | undefined {
    if (nodeId === undefined) return undefined;
    return this.#generations ? nodeId : placeKey(index);
  }

  counts(acceptor: AcceptorProgress): boolean {
    const key = this.keyOf(acceptor);
    return key !== undefined && isMember(this.#configuration, key);
  }

  compare(theirs: Configuration): Relation {
    const ours = this.#configuration;
    if (!this.#generations) return theirs.generation === 0 ? "same" : "foreign";
    if (theirs.generation > ours.generation) return "higher";
    if (theirs.generation < ours.generation) return "lower";
    return sameSet(theirs.members, ours.members) && sameSet(theirs.newMembers, ours.newMembers)
      ? "same"
      : "conflict";
  }

  adopt(configuration: Configuration): void {
    this.#configuration = configuration;
  }

  /** Says what is wrong with `nodeId` answering at this address; undefined if nothing is. */
  conflict(acceptor: AcceptorProgress, nodeId: bigint, all: readonly AcceptorProgress[]): string | undefined {
    // Acceptors without generations may not know their id; with them it is what everything hangs on.
    if (nodeId === 0n && this.#generations) return "node id 0";
    for (const other of all) {
      if (other === acceptor || other.nodeId !== nodeId || nodeId === 0n) continue;
      if (!this.#generations || GREETED.has(other.state))
        return `node ${String(nodeId)} answers at two addresses`;
    }
    const { nodeId: previous } = acceptor;
    if (!this.#generations && previous !== undefined && previous !== nodeId) {
      return `node ${String(previous)} was replaced by node ${String(nodeId)}`;
    }
    return undefined;
  }

  /**
   * Notes that `nodeId` answers at this address; there is no conflict.
   *
   * @returns the key of a node that is nowhere to be found any more and no member either; nothing about it matters
   */
  identify(acceptor: AcceptorProgress, nodeId: bigint, all: readonly AcceptorProgress[]): bigint | undefined {
    const previous = acceptor.nodeId;
    if (previous === nodeId) return undefined;
    if (this.#generations) {
      for (const other of all) if (other.nodeId === nodeId) other.nodeId = undefined; // it has moved here
    }
    acceptor.nodeId = nodeId;
    const gone = this.#generations && previous !== undefined && !isMember(this.#configuration, previous);
    return gone ? previous : undefined;
  }
}

function placeKey(index: number): bigint {
  return BigInt(index + 1); // 0 is no node
}

function listConfiguration(acceptors: number): Configuration {
  const members = Array.from({ length: acceptors }, (_, index) => ({
    nodeId: placeKey(index),
    host: "",
    port: 0,
  }));
  return { generation: 0, members, newMembers: [] };
}

/** Whether both name the same nodes; addresses and order may differ. */
function sameSet(a: Configuration["members"], b: Configuration["members"]): boolean {
  if (a.length !== b.length) return false;
  const ids = new Set(b.map(({ nodeId }) => nodeId));
  return a.every(({ nodeId }) => ids.has(nodeId));
}
