/**
 * Who gets which request: no page with two workers, nothing lost, and a full worker in nobody's way.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Dispatcher } from "../src/dispatcher.js";
import type { Job, WorkerPlace } from "../src/dispatcher.js";
import { requestFor } from "./redo-requests.js";

const ROOM = 3;

/** A worker that has room for three, and answers when it is told to. */
class FakeWorker implements WorkerPlace {
  readonly state = "ready";
  readonly jobs: Job[] = [];

  get inFlight(): number {
    return this.jobs.length;
  }

  hasRoomFor(): boolean {
    return this.jobs.length < ROOM;
  }

  send(job: Job): void {
    this.jobs.push(job);
  }

  async ensure(): Promise<void> {
    await Promise.resolve();
  }
}

function job(key: string): Job {
  const settle = (): void => undefined;
  const { request, base, records } = { request: requestFor(1), base: undefined, records: [] };
  const queued = { owner: "", cost: 1, isDemand: true };
  return {
    request,
    base,
    records,
    bytes: 1,
    key,
    ...queued,
    done: settle,
    failed: settle,
  };
}

// Aim: as long as a request for a page is under way, no other worker gets that page. Method: random arrivals, answers and
// withdrawals over few pages and three workers, all of which are looked at after each step.
test("a page is with one worker at a time, and every request gets its turn", () => {
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("add" as const), page: fc.nat(6) }) },
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant("answer" as const), worker: fc.nat(2), at: fc.nat(2) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("remove" as const), at: fc.nat(20) }) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 150, size: "max" }), (steps) => {
      const workers = [new FakeWorker(), new FakeWorker(), new FakeWorker()] as const;
      let freed = 0;
      const dispatcher = new Dispatcher(
        workers,
        () => 0,
        () => (freed += 1),
      );
      const waiting = new Set<Job>();
      const check = (): void => {
        const places = new Map<string, FakeWorker>();
        for (const worker of workers) {
          expect(worker.jobs.length).toBeLessThanOrEqual(ROOM);
          for (const each of worker.jobs) {
            waiting.delete(each);
            expect(places.get(each.key) ?? worker).toBe(worker);
            places.set(each.key, worker);
          }
        }
        expect(dispatcher.size).toBe(waiting.size);
      };
      const answer = (worker: FakeWorker, at: number): void => {
        const [done] = worker.jobs.splice(at, 1);
        if (done === undefined) return;
        dispatcher.leave(done);
        dispatcher.dispatch();
      };
      let added = 0;
      let removed = 0;
      for (const each of steps) {
        if (each.kind === "add") {
          const next = job(String(each.page));
          added += 1;
          waiting.add(next);
          dispatcher.add(next);
        } else if (each.kind === "answer") {
          const worker = workers[each.worker];
          if (worker !== undefined) answer(worker, each.at);
        } else {
          const gone = [...waiting][each.at];
          if (gone !== undefined) {
            expect([dispatcher.remove(gone), dispatcher.remove(gone)]).toEqual([true, false]);
            waiting.delete(gone);
            removed += 1;
          }
        }
        check();
      }
      for (let turn = 0; turn < 1000 && workers.some(({ jobs }) => jobs.length > 0); turn += 1) {
        for (const worker of workers) answer(worker, 0);
        check();
      }
      expect(dispatcher.size).toBe(0);
      expect(freed).toBe(added - removed);
    }),
  );
});

test("a page whose worker is full does not keep other pages from the others", () => {
  const workers = [new FakeWorker(), new FakeWorker()] as const;
  const dispatcher = new Dispatcher(
    workers,
    () => 0,
    () => undefined,
  );
  for (let count = 0; count < 6; count += 1) dispatcher.add(job("hot"));
  dispatcher.add(job("cold"));
  expect(workers.map(({ jobs }) => jobs.map(({ key }) => key))).toEqual([["hot", "hot", "hot"], ["cold"]]);
  expect(dispatcher.size).toBe(3);
  expect(dispatcher.stop().length).toBe(3);
  dispatcher.dispatch();
  expect(dispatcher.size).toBe(0);
});
