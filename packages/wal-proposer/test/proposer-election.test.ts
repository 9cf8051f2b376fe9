/**
 * Terms, votes, the log that is adopted, and everything that ends a term.
 */
import { expect, test } from "vitest";
import { decideElection, historyProblem } from "../src/election.js";
import type { ProposerEffect } from "../src/proposer-core.js";
import { configuration, Harness, only, sentTo, START, terms } from "./core-harness.js";
import { lsn } from "./model-acceptor.js";

// Aim: a fresh cluster whose log was created at one LSN. Method: two of three acceptors answer; the third joins late.
test("a fresh cluster is elected in term 1 at the start of its log", () => {
  const harness = new Harness();
  harness.open([0, 1]);
  expect(harness.greet(0)).not.toContainEqual(expect.objectContaining({ type: "campaign" }));
  const campaign = harness.greet(1);
  expect(only(campaign, "campaign")).toEqual([{ type: "campaign", term: 1n }]);
  expect(sentTo(campaign, 0)).toEqual(["vote-request"]);
  expect(sentTo(campaign, 1)).toEqual(["vote-request"]);
  expect(only(harness.vote(0), "elected")).toEqual([]);
  const elected = harness.vote(1);
  const history = terms([0, START], [1, START]);
  expect(only(elected, "elected")).toEqual([
    { type: "elected", term: 1n, termStartLsn: lsn(START), truncateLsn: lsn(0), history, donor: 0 },
  ]);
  const message = { type: "elected", generation: 0, term: 1n, startStreamingAt: lsn(START), history };
  expect(only(elected, "send")).toEqual([
    { type: "send", acceptor: 0, message },
    { type: "send", acceptor: 1, message },
  ]);
  expect(sentTo(harness.join(2), 2)).toEqual(["elected"]);
});

// Aim: the term is above all terms heard, also those of acceptors that are gone again. Method: the highest leaves.
test("the campaign's term is above every term that was shown", () => {
  const harness = new Harness();
  harness.open([0, 1, 2]);
  harness.greet(2, { term: 40n });
  harness.disconnected(2);
  harness.greet(0, { term: 7n });
  harness.greet(1, { term: 3n });
  expect(harness.core.term).toBe(41n);
});

// Aim: an acceptor that was away gets exactly what it lacks. Method: logs (3, 500) and (3, 300) as in the text books.
test("a lagging acceptor starts at its own end and does not count before the term's start", () => {
  const harness = new Harness();
  const history = terms([0, 100], [3, 100]);
  const effects = harness.elect([0, 2], { term: 3n }, { flush: 500, history });
  expect(only(effects, "elected")[0]).toMatchObject({ term: 4n, termStartLsn: 500n });
  const late = harness.join(1, {}, { flush: 300, history, given: true });
  expect(only(late, "send")[0]?.message).toMatchObject({
    startStreamingAt: 300n,
    history: [...history, ...terms([4, 500])],
  });
  harness.sendAll(0, 600);
  harness.sendAll(1, 600);
  harness.ack(0, 600);
  expect(only(harness.ack(1, 499), "commit")).toEqual([]);
  expect(harness.core.commitLsn).toBe(0n);
  expect(only(harness.ack(1, 500), "commit")).toEqual([{ type: "commit", commitLsn: lsn(500) }]);
});

// Aim: a tail that another proposer left is cut where the histories part. Method: term 2 against term 3, same start.
test("a divergent tail is cut back to the last common term, even below the new term's start", () => {
  const harness = new Harness();
  harness.elect([0, 1], { term: 3n }, { flush: 300, history: terms([0, 100], [3, 100]) });
  const late = harness.join(2, {}, { flush: 450, history: terms([0, 100], [2, 100]) });
  expect(harness.core.wantsLsn(2)).toBe(100n);
  expect(only(late, "send")[0]?.message).toMatchObject({ startStreamingAt: 100n });
});

// Aim: the log whose last term is highest wins, however short it is. Method: permuted ballots.
test("the most advanced log is adopted: last term first, then length", () => {
  const ballot = (acceptor: number, flush: number, history: ReturnType<typeof terms>, truncate = 0) => ({
    acceptor,
    vote: {
      type: "vote-response" as const,
      generation: 0,
      term: 9n,
      voteGiven: true,
      flushLsn: lsn(flush),
      truncateLsn: lsn(truncate),
      history,
    },
  });
  const short = ballot(0, 200, terms([0, 100], [5, 150]), 120);
  const long = ballot(1, 900, terms([0, 100], [4, 150]), 140);
  const unfilled = ballot(2, 300, terms([0, 100], [8, 400]), 130);
  for (const ballots of [
    [short, long, unfilled],
    [unfilled, long, short],
    [long, short, unfilled],
  ]) {
    expect(decideElection(ballots, 9n, lsn(0))).toEqual({
      donor: 0,
      termStartLsn: 200n,
      truncateLsn: 140n,
      history: terms([0, 100], [5, 150], [9, 200]),
    });
  }
  expect(decideElection([], 9n, lsn(100))).toBeUndefined();
});

// Aim: a cluster that knows of no log begins where the database does. Method: empty votes, and a forbidden bootstrap.
test("empty acceptors begin a log at the bootstrap LSN, or none at all", () => {
  const empty = { flush: 0, history: [] };
  const harness = new Harness();
  expect(only(harness.elect([0, 1], {}, empty), "elected")[0]).toMatchObject({
    termStartLsn: BigInt(START),
    truncateLsn: BigInt(START),
    history: terms([1, START]),
  });
  const refusing = new Harness({ bootstrapLsn: lsn(0) });
  expect(only(refusing.elect([0, 1], {}, empty), "restart")[0]).toMatchObject({ reason: "empty_timeline" });
  expect(refusing.core.state).toBe("campaign");
});

// Aim: one empty acceptor does not make a cluster empty. Method: an empty vote first, a log second.
test("one log among empty acceptors is adopted", () => {
  const harness = new Harness();
  harness.open([0, 1]);
  harness.greet(0);
  harness.greet(1);
  harness.vote(0, { flush: 0, history: [] });
  const effects = harness.vote(1);
  expect(only(effects, "elected")[0]).toMatchObject({ donor: 1, termStartLsn: BigInt(START) });
  expect(harness.core.wantsLsn(0)).toBe(BigInt(START));
});

// Aim: a vote outlives the connection it came over. Method: the voter leaves before the second vote arrives.
test("the vote of an acceptor that has gone still counts", () => {
  const harness = new Harness();
  harness.open([0, 1]);
  harness.greet(0);
  harness.greet(1);
  harness.vote(0, { flush: START + 50 });
  harness.disconnected(0);
  const effects = harness.vote(1);
  expect(only(effects, "elected")[0]).toMatchObject({ donor: 0, termStartLsn: BigInt(START + 50) });
});

// Aim: answers that end the term. Method: each in a campaign of its own.
test("a campaign ends when a vote is refused or a higher term shows up", () => {
  const campaign = (): Harness => {
    const harness = new Harness();
    harness.open([0, 1]);
    harness.greet(0);
    harness.greet(1);
    return harness;
  };
  const equal = campaign();
  expect(only(equal.vote(0, { given: false }), "restart")[0]).toMatchObject({ reason: "refused_vote" });
  const higher = campaign();
  expect(only(higher.vote(0, { given: false, term: 5n }), "restart")[0]).toMatchObject({
    reason: "higher_term",
  });
  const greeting = campaign();
  greeting.connected(2);
  expect(only(greeting.greet(2, { term: 2n }), "restart")[0]).toMatchObject({ reason: "higher_term" });
  expect(greeting.core.finished).toBe(true);
  expect(greeting.vote(0)).toEqual([]);
  expect(greeting.tick(60_000)).toEqual([]);
  expect(greeting.core.deadlineMs).toBe(Number.POSITIVE_INFINITY);
});

// Aim: after the election an acceptor that cannot vote twice is welcome. Method: refusal with an equal term.
test("a refusal with our own term is no obstacle once we are elected", () => {
  const harness = new Harness();
  harness.elect();
  harness.reconnect(0);
  harness.greet(0, { term: 1n });
  expect(sentTo(harness.vote(0, { given: false }), 0)).toEqual(["elected"]);
  expect(harness.core.acceptorView(0).state).toBe("active");
});

// Aim: nobody counts for two. Method: one acceptor votes, leaves, and comes back with a refusal.
test("a reconnecting voter is not counted twice", () => {
  const harness = new Harness({ acceptors: 5 });
  harness.open([0, 1, 2]);
  for (const acceptor of [0, 1, 2]) harness.greet(acceptor);
  harness.vote(0);
  harness.reconnect(0);
  harness.greet(0, { term: 0n });
  const effects = harness.vote(0);
  expect(only(effects, "elected")).toEqual([]);
  harness.vote(1);
  expect(harness.core.state).toBe("campaign");
  harness.vote(2);
  expect(harness.core.state).toBe("elected");
});

// Aim: nobody is told to cut anything before the owner agrees. Method: hold, wait past every timeout, release.
test("a held election tells no acceptor until it is released", () => {
  const harness = new Harness({ holdAfterElection: true });
  const effects = harness.elect();
  expect(only(effects, "elected")).toHaveLength(1);
  expect(only(effects, "send").map(({ message }) => message.type)).not.toContain("elected");
  expect(harness.core.wantsLsn(0)).toBe(BigInt(START));
  expect(harness.core.nextAppend(0, lsn(START + 10))).toBeUndefined();
  const waiting = harness.tick(60_000);
  expect(only(waiting, "disconnect").map(({ acceptor }) => acceptor)).toEqual([2]); // never answered the connect
  harness.disconnected(2);
  expect(sentTo(harness.join(2), 2)).not.toContain("elected");
  const released = harness.event({ type: "start-streaming" });
  for (const acceptor of [0, 1, 2]) expect(sentTo(released, acceptor)).toEqual(["elected"]);
  expect(harness.event({ type: "start-streaming" })).toEqual([]);
});

// Aim: histories that cannot be cost the acceptor its connection, not us our process. Method: each defect once.
test("a corrupt history is refused with an alarm", () => {
  for (const history of [
    terms([0, START], [0, START + 1]),
    terms([0, START], [1, START - 1]),
    terms([0, 0]),
    terms([0, START], [1, START]),
    terms([0, START], [2, START]),
  ]) {
    const harness = new Harness();
    harness.open([0, 1]);
    harness.greet(0);
    harness.greet(1);
    const effects = harness.vote(0, { history });
    expect(only(effects, "alarm")).toMatchObject([{ acceptor: 0, code: "corrupt_history" }]);
    expect(only(effects, "disconnect")).toMatchObject([{ acceptor: 0, reason: "corrupt_history" }]);
    expect(harness.core.state).toBe("campaign");
  }
});

// Aim: one term cannot start at two places. Method: a late joiner whose term 0 starts elsewhere.
test("a history that contradicts ours is refused with an alarm", () => {
  const harness = new Harness();
  harness.elect();
  const effects = harness.join(2, {}, { history: terms([0, START - 10]) });
  expect(only(effects, "disconnect")).toMatchObject([{ acceptor: 2, reason: "corrupt_history" }]);
  expect(harness.core.acceptorView(2).state).toBe("closing");
});

// Aim: our own term in a history is right after the election and wrong before. Method: both.
test("our own term in a history is possible only once we are elected", () => {
  const vote = {
    type: "vote-response" as const,
    generation: 0,
    term: 3n,
    voteGiven: false,
    flushLsn: lsn(20),
    truncateLsn: lsn(0),
    history: terms([0, 10], [3, 20]),
  };
  expect(historyProblem(vote, 3n, true)).toBeUndefined();
  expect(historyProblem(vote, 3n, false)).toMatch("knows term 3");
});

// Aim: the end of the number range is no way to stop us with an exception. Method: the largest term there is.
test("an acceptor in the last possible term is left alone", () => {
  const harness = new Harness();
  harness.open([0, 1, 2]);
  expect(only(harness.greet(0, { term: 2n ** 64n - 1n }), "disconnect")).toHaveLength(1);
  harness.greet(1);
  harness.greet(2);
  expect(harness.core.term).toBe(1n);
});

// Aim: sync mode leaves no trace on empty acceptors. Method: a quorum without any WAL.
test("sync mode ends at once when there is no log", () => {
  const empty = new Harness({ mode: "sync", systemId: 0n, bootstrapLsn: lsn(0) });
  const nothing = empty.elect([0, 1], {}, { flush: 0, history: [] });
  expect(only(nothing, "restart")[0]).toMatchObject({ reason: "empty_timeline" });
  expect(only(nothing, "send").map(({ message }) => message.type)).not.toContain("elected");
});

// Aim: that everybody has all WAL is not enough: the commit position has to be on disk, too. Method: acceptors of which
// the first vote says that nobody needs anything below the end.
test("sync mode waits for persisted commits where nobody lacks WAL", () => {
  const done = new Harness({ mode: "sync", systemId: 0n, bootstrapLsn: lsn(0) });
  const effects = done.elect([0, 1], {}, { truncate: START });
  expect(only(effects, "synced")).toEqual([]);
  for (const acceptor of [0, 1]) expect(only(done.ack(acceptor, START), "synced")).toEqual([]);
  expect(only(done.ack(0, START, { commitLsn: lsn(START) }), "synced")).toEqual([]);
  expect(done.ack(1, START, { commitLsn: lsn(START) }).at(-1)).toEqual({ type: "synced", lsn: lsn(START) });
});

// Aim: sync mode waits for persisted commits of a quorum and of every connected acceptor. Method: one after another.
test("sync mode ends when a quorum has persisted the commit and no connected acceptor lags", () => {
  const harness = new Harness({ mode: "sync", systemId: 0n, bootstrapLsn: lsn(0) });
  harness.elect([0, 1, 2]);
  expect(only(harness.ack(0, START), "synced")).toEqual([]);
  expect(only(harness.ack(1, START), "commit")).toHaveLength(1);
  expect(only(harness.ack(0, START, { commitLsn: lsn(START) }), "synced")).toEqual([]);
  expect(only(harness.ack(1, START, { commitLsn: lsn(START) }), "synced")).toEqual([]);
  for (const acceptor of [0, 1, 2]) harness.sendAll(acceptor, START);
  const effects = harness.disconnected(2);
  expect(effects.at(-1)).toEqual({ type: "synced", lsn: lsn(START) });
  // One last word to those who stay.
  expect(only(effects, "pump").map(({ acceptor }) => acceptor)).toEqual([0, 1]);
  expect(harness.core.nextAppend(0, lsn(START))).toMatchObject({
    beginLsn: BigInt(START),
    commitLsn: BigInt(START),
  });
});

// Aim: sync mode waits for an acceptor that is on its way, too. Method: one that has not even greeted, then leaves.
test("sync mode waits for an acceptor that is about to greet", () => {
  const harness = new Harness({ mode: "sync", systemId: 0n, bootstrapLsn: lsn(0) });
  harness.elect([0, 1]);
  harness.connected(2);
  for (const acceptor of [0, 1]) harness.ack(acceptor, START, { commitLsn: lsn(START) });
  expect(harness.core.finished).toBe(false);
  expect(harness.disconnected(2).at(-1)).toEqual({ type: "synced", lsn: lsn(START) });
});

// Aim: a quorum of a joint configuration is one of both sets. Method: who must vote before we are elected.
test("a joint configuration needs votes of both sets", () => {
  const harness = new Harness({ acceptors: 4, configuration: configuration(2, [1, 2, 3], [4]) });
  harness.open([0, 1, 2, 3]);
  for (const acceptor of [0, 1, 2]) harness.greet(acceptor);
  expect(harness.core.state).toBe("collecting-terms");
  harness.greet(3);
  for (const acceptor of [0, 1, 2]) harness.vote(acceptor);
  expect(harness.core.state).toBe("campaign");
  harness.vote(3);
  expect(harness.core.state).toBe("elected");
});

// Aim: a campaign is not waited for in a configuration that is over. Method: the members of a joint configuration whose
// change is completed elsewhere, while the replaced members are gone; only another greeting can tell. Without
// generations nobody has anything to tell, and idle connections stay as they are.
test("acceptors that wait for the campaign are greeted again, and tell of a newer configuration", () => {
  const joint = configuration(2, [1, 2, 3], [3, 4, 5]);
  const harness = new Harness({ acceptors: 5, configuration: "learn", connectionTimeoutMs: 3000 });
  harness.open([2, 3, 4]);
  for (const acceptor of [2, 3]) harness.greet(acceptor, { configuration: joint });
  harness.greet(4, { configuration: joint });
  expect(harness.core.state).toBe("collecting-terms");
  expect(harness.core.deadlineMs).toBeLessThanOrEqual(3000);
  expect(greeted(harness.tick(2999))).toEqual([]);
  expect(greeted(harness.tick(1))).toEqual([2, 3, 4]);
  const final = configuration(3, [3, 4, 5]);
  expect(greeted(harness.greet(3, { configuration: final }))).toEqual([]);
  for (const acceptor of [2, 4]) harness.greet(acceptor, { configuration: final });
  expect(harness.core.state).toBe("campaign");
  expect(harness.core.configuration).toEqual(final);

  const listed = new Harness({ connectionTimeoutMs: 3000 });
  listed.open([0]);
  listed.greet(0);
  expect(greeted(listed.tick(60_000))).toEqual([]);
});

function greeted(effects: readonly ProposerEffect[]): readonly number[] {
  return effects.flatMap((effect) =>
    effect.type === "send" && effect.message.type === "greeting" ? [effect.acceptor] : [],
  );
}
