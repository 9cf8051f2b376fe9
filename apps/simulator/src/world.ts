/**
 * The simulated cluster: who is there, and what everybody shares.
 *
 * Acceptors are endpoints 0 to n-1; proposers, readers and the membership controller have endpoints behind them. The
 * world moves only by events of its virtual time, and what acceptors do by themselves (gossip) is scheduled here.
 */
import type { Lsn } from "@millrace/lsn";
import { initialState } from "@millrace/wal-acceptor";
import type { PersistentState } from "@millrace/wal-acceptor";
import { EMPTY_CONFIGURATION } from "@millrace/wal-protocol";
import type { Configuration } from "@millrace/wal-protocol";
import { AcceptorNode } from "./acceptor-node.js";
import { Coverage } from "./coverage.js";
import { DiskBehaviour } from "./disk-behaviour.js";
import { isDiskTrouble, stackOf } from "./error-text.js";
import { Ledger } from "./ledger.js";
import { CONTROLLER_ENDPOINT, MembershipStore, memberOf } from "./membership-store.js";
import { Network } from "./network.js";
import type { Endpoint } from "./network.js";
import { FileNodeStorage, MemoryNodeStorage } from "./node-storage.js";
import type { NodeStorage } from "./node-storage.js";
import type { Plan } from "./plan.js";
import { ProposerHost } from "./proposer-host.js";
import { Random } from "./random.js";
import { Standby } from "./standby.js";
import { Trace } from "./trace.js";
import { VirtualTime } from "./virtual-time.js";
import { WAL_SHAPE } from "./wal-log.js";

const PROPOSER_ENDPOINTS = 50;
/** Hosts share addresses beyond that, which does no harm: few live at a time. */
const PROPOSER_ENDPOINTS_MAX = 8;
/** Segments that databases leave before their end in one run. */
const SEGMENTS_LEFT_MAX = 2;
const STANDBY_ENDPOINT = 70;
const STANDBYS = 2;

/** One cluster, from its first event to its last. */
export class World {
  readonly plan: Plan;
  readonly tenantId: string = "a".repeat(32);
  readonly timelineId: string = "b".repeat(32);
  readonly startLsn: Lsn;
  readonly time: VirtualTime = new VirtualTime();
  readonly coverage: Coverage = new Coverage();
  readonly trace: Trace;
  readonly network: Network;
  readonly ledger: Ledger;
  readonly acceptors: readonly AcceptorNode[];
  readonly membership: MembershipStore;
  readonly #standbys: readonly Standby[];
  readonly #random: Random;
  readonly #hosts: ProposerHost[] = [];
  #mark = 0;
  #segmentsLeft = 0;

  constructor(plan: Plan, traceListener?: (line: string) => void) {
    this.plan = plan;
    this.startLsn = BigInt(plan.startLsn) as Lsn;
    this.#random = new Random(plan.seed, "world");
    const { time, coverage, startLsn } = this;
    this.trace = new Trace(() => time.nowMs, traceListener);
    this.network = new Network(time, new Random(plan.seed, "network"), plan.latency);
    this.ledger = new Ledger({ nowMs: () => time.nowMs, startLsn, coverage });
    this.acceptors = Array.from({ length: plan.acceptors + plan.spares }, (_, index) => {
      const behaviour = new DiskBehaviour(time, new Random(plan.seed, `disk ${String(index)}`));
      const node = new AcceptorNode(this, index, behaviour);
      this.ledger.logs.add(node.nodeId, node.name);
      return node;
    });
    const members = this.acceptors.slice(0, plan.acceptors).map((node) => memberOf(node));
    this.membership = new MembershipStore({ generation: 1, members, newMembers: [] });
    this.#standbys = Array.from(
      { length: STANDBYS },
      (_, index) => new Standby(this, index, STANDBY_ENDPOINT + index),
    );
    const { elections } = this.ledger;
    if (plan.generations) elections.onConfiguration(this.membership.configuration);
    else elections.setListConfiguration({ generation: 0, members, newMembers: [] });
    coverage.count(plan.acceptors === 3 ? "three-acceptors" : "five-acceptors");
    if (plan.generations) coverage.count("generations");
    if (plan.storage === "files") coverage.count("files");
  }

  /** Every address that somebody has or may get. */
  get endpoints(): readonly Endpoint[] {
    const proposers = Array.from(
      { length: PROPOSER_ENDPOINTS_MAX },
      (_, index) => PROPOSER_ENDPOINTS + index,
    );
    const standbys = this.#standbys.map(({ endpoint }) => endpoint);
    return [...this.acceptors.map(({ index }) => index), ...proposers, ...standbys, CONTROLLER_ENDPOINT];
  }

  isProposer(endpoint: Endpoint): boolean {
    return endpoint >= PROPOSER_ENDPOINTS && endpoint < PROPOSER_ENDPOINTS + PROPOSER_ENDPOINTS_MAX;
  }

  /** Every proposer host there was. */
  get hosts(): readonly ProposerHost[] {
    return this.#hosts;
  }

  /** Puts the timeline on the members and starts everything that goes on by itself. */
  async build(): Promise<void> {
    const configuration = this.plan.generations ? this.membership.configuration : EMPTY_CONFIGURATION;
    for (const node of this.acceptors.slice(0, this.plan.acceptors)) {
      node.install(await this.newStorage(node, this.firstState(configuration)));
    }
    this.addProposer("stream").start();
    for (const standby of this.#standbys) standby.start();
    if (Number.isFinite(this.plan.gossipEveryMs)) this.#scheduleGossip();
  }

  /** The state of a timeline without WAL. */
  firstState(configuration: Configuration): PersistentState {
    const { pgVersion, systemId, segmentBytes } = WAL_SHAPE;
    return initialState({
      tenantId: this.tenantId,
      timelineId: this.timelineId,
      server: { pgVersion, systemId, segmentBytes },
      createdAtMs: 0,
      configuration,
      ...(this.plan.creation === "explicit" ? { startLsn: this.startLsn } : {}),
    });
  }

  /** An empty disk with that state on it. */
  newStorage(node: AcceptorNode, state: PersistentState): Promise<NodeStorage> {
    if (this.plan.storage === "files") return FileNodeStorage.create(state, node.behaviour);
    return Promise.resolve(new MemoryNodeStorage(state, node.behaviour));
  }

  /** Puts another node's timeline on `node` and starts it there; nothing happens if its disk fails meanwhile. */
  async installCopy(node: AcceptorNode, state: PersistentState, bytes: Uint8Array): Promise<void> {
    try {
      const storage = await this.newStorage(node, this.firstState(state.configuration));
      const { control, wal } = await storage.open(() => undefined);
      await wal.initFirstSegment(this.startLsn);
      await wal.truncate(this.startLsn);
      if (bytes.byteLength > 0) await wal.write(this.startLsn, [bytes]);
      await wal.flush();
      await control.persist(state);
      storage.kill(this.#random);
      if (node.hasTimeline) return;
      this.ledger.logs.add(node.nodeId, node.name);
      this.ledger.logs.onCopied(node.nodeId, bytes);
      node.install(storage);
    } catch (error) {
      if (!isDiskTrouble(error))
        this.ledger.violate("Internal", `${node.name} takes a copy: ${stackOf(error)}`);
    }
  }

  /** A host that has not started yet. */
  addProposer(mode: "stream" | "sync"): ProposerHost {
    const index = this.#hosts.length;
    const host = new ProposerHost(this, index, PROPOSER_ENDPOINTS + (index % PROPOSER_ENDPOINTS_MAX), mode);
    this.#hosts.push(host);
    return host;
  }

  /** A number that no database has used. */
  newMark(): number {
    this.#mark += 1;
    return this.#mark;
  }

  /** Whether a database may leave its segment now; a segment is a lot of WAL, so only some do. */
  mayLeaveSegment(): boolean {
    this.#segmentsLeft += 1;
    return this.#segmentsLeft <= SEGMENTS_LEFT_MAX;
  }

  /** One message's way, for calls that are not a proposer's stream; false if it gets lost. */
  async pass(from: Endpoint, to: Endpoint): Promise<boolean> {
    await this.time.sleep(this.network.latencyMs(from, to));
    return !this.network.isBlocked(from, to);
  }

  /** An acceptor is in a new term. */
  onVoted(acceptor: number, term: bigint): void {
    this.#random.pick(this.#standbys).peek(acceptor, term);
  }

  /** Starts what is down and ends every disturbance. */
  heal(): void {
    this.network.heal();
    for (const node of this.acceptors) {
      node.behaviour.heal();
      node.start();
    }
  }

  #scheduleGossip(): void {
    this.time.after(this.plan.gossipEveryMs * (0.5 + this.#random.next()), () => {
      this.time.promisesMoved();
      void this.#gossip().then(() => this.#scheduleGossip());
    });
  }

  // Acceptors tell each other what they know, as they do through a broker: late, and lossy.
  async #gossip(): Promise<void> {
    const teller = this.#random.pick(this.acceptors);
    const listener = this.#random.pick(this.acceptors);
    const state = teller.process?.state;
    if (teller === listener || state === undefined) return;
    const { lastLogTerm, commitLsn, backupLsn, remoteConsistentLsn, peerHorizonLsn } = state;
    if (!(await this.pass(teller.index, listener.index))) return;
    const { process } = listener;
    if (process === undefined) return;
    await process
      .exclusive(async (timeline) => {
        const before = timeline.state.commitLsn;
        await timeline.recordPeer({ lastLogTerm, commitLsn, backupLsn, remoteConsistentLsn, peerHorizonLsn });
        if (timeline.state.commitLsn > before) this.coverage.count("peer-commit");
      })
      .catch(() => undefined); // a disk or a crash; the next round comes
  }
}
