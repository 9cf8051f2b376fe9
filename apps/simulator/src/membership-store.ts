/**
 * The durable truth about who the members are, outside the cluster: a register with compare and swap by generation.
 */
import type { Configuration, Member } from "@millrace/wal-protocol";

/** Where the controller is in the simulated network. */
export const CONTROLLER_ENDPOINT = 91;

/** One register. */
export class MembershipStore {
  #configuration: Configuration;

  constructor(configuration: Configuration) {
    this.#configuration = configuration;
  }

  get configuration(): Configuration {
    return this.#configuration;
  }

  /** Replaces the configuration if it is still that of generation `expected`. */
  swap(expected: number, next: Configuration): boolean {
    if (this.#configuration.generation !== expected) return false;
    this.#configuration = next;
    return true;
  }
}

/** How a node is named in configurations. */
export function memberOf(node: { readonly nodeId: bigint; readonly index: number }): Member {
  return { nodeId: node.nodeId, host: `acceptor-${String(node.index)}`, port: 5454 };
}
