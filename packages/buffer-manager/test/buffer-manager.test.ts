/**
 * What a thread calls: pins and their scopes, locks in both forms, limits, rings, and leaving the pool.
 */
import { describe, expect, test } from "vitest";

import { refcountOf } from "../src/buffer-state.js";
import { CachedPool } from "./cached-pool.js";
import { RELATION } from "./replacement.js";

const code = (code: string): unknown => expect.objectContaining({ code });
const blocks = Array.from({ length: 40 }, (_, block) => block);

describe("a page", () => {
  test("that is cached is pinned, looked at and let go of", async () => {
    await using world = new CachedPool(blocks);
    const manager = world.attach();
    const buffer = manager.tryRead(RELATION, 7);
    expect(buffer).toBe(8);
    expect(manager.page(buffer)[0]).toBe(7);
    expect(manager.page(buffer)).toBe(manager.page(buffer));
    expect(manager.tag(buffer)).toEqual({
      tablespace: 1663,
      database: 5,
      relation: 16_384,
      fork: 0,
      block: 7,
    });
    manager.pinAgain(buffer);
    manager.release(buffer);
    expect(refcountOf(world.state(buffer))).toBe(1);
    manager.release(buffer);
    expect(refcountOf(world.state(buffer))).toBe(0);
    expect(manager.tryRead(RELATION, 40)).toBe(0);
    expect(manager.tryRead({ ...RELATION, relation: 1 }, 7)).toBe(0);
    expect(manager.tryRead(RELATION, 7, 1)).toBe(0);
  });

  test("that this backend has not pinned is out of its reach", async () => {
    await using world = new CachedPool(blocks);
    const manager = world.attach();
    for (const buffer of [1, 0, -1, 65, 1000, Number.NaN]) {
      expect(() => manager.page(buffer)).toThrow(code("ERR_BUFFER_BAD_ID"));
      expect(() => manager.tag(buffer)).toThrow(code("ERR_BUFFER_BAD_ID"));
      expect(() => manager.release(buffer)).toThrow(code("ERR_BUFFER_BAD_ID"));
      expect(() => manager.pinAgain(buffer)).toThrow(code("ERR_BUFFER_BAD_ID"));
      expect(() => manager.tryLock(buffer, "shared")).toThrow(code("ERR_BUFFER_BAD_ID"));
      expect(() => manager.unlock(buffer)).toThrow(code("ERR_BUFFER_BAD_ID"));
    }
  });
});

describe("a scope", () => {
  test("that fails gives back what was pinned and locked in it, and nothing else", async () => {
    await using world = new CachedPool(blocks);
    const [manager, other] = [world.attach(), world.attach()];
    const outside = manager.tryRead(RELATION, 1);
    expect(() =>
      manager.scope((scope) => {
        const inside = manager.tryRead(RELATION, 2);
        manager.pinAgain(inside);
        manager.lock(inside, "exclusive");
        manager.pinAgain(outside);
        manager.release(manager.tryRead(RELATION, 3));
        expect(scope.pinCount).toBe(3);
        throw new Error("failed");
      }),
    ).toThrow("failed");
    expect([1, 2, 3, 4].map((buffer) => refcountOf(world.state(buffer)))).toEqual([0, 1, 0, 0]);
    expect(world.warnings).toEqual([]);
    const again = other.tryRead(RELATION, 2);
    expect(other.tryLock(again, "exclusive")).toBe(true);
    other.unlock(again);
    other.release(again);
    manager.release(outside);
  });

  test("that ends well with a pin warns of it", async () => {
    await using world = new CachedPool(blocks);
    const manager = world.attach();
    const scope = manager.openScope();
    const buffer = manager.tryRead(RELATION, 1);
    manager.tryRead(RELATION, 2);
    manager.release(buffer);
    scope.end();
    scope.end();
    expect(world.warnings).toEqual(["BUFFER_LEAKED_PIN"]);
    expect(refcountOf(world.state(3))).toBe(0);
  });

  test("of one flow is not that of another that runs in between", async () => {
    await using world = new CachedPool(blocks);
    const manager = world.attach();
    const [one, two] = [manager.openScope(), manager.openScope()];
    const first = one.use(() => manager.tryRead(RELATION, 1));
    const second = two.use(() => manager.tryRead(RELATION, 2));
    expect([one.pinCount, two.pinCount]).toEqual([1, 1]);
    one.end(true);
    expect([first, second].map((buffer) => refcountOf(world.state(buffer)))).toEqual([0, 1]);
    manager.release(second);
    expect(two.pinCount).toBe(0);
    two.end();
    expect(world.warnings).toEqual([]);
  });

  test("strikes out a pin that is let go of while another scope is current", async () => {
    await using world = new CachedPool(blocks);
    const manager = world.attach();
    const outer = manager.openScope();
    const buffer = manager.tryRead(RELATION, 1);
    manager.scope(() => {
      manager.release(buffer);
    });
    expect(outer.pinCount).toBe(0);
    outer.end();
    expect(world.warnings).toEqual([]);
  });
});

describe("a lock", () => {
  test("that is taken lets the event loop turn in its asynchronous form and is refused in the other", async () => {
    await using world = new CachedPool(blocks);
    const [main, other] = [world.attach(false), world.attach()];
    const buffer = main.tryRead(RELATION, 1);
    other.tryRead(RELATION, 1);
    other.lock(buffer, "exclusive");
    expect(() => main.lock(buffer, "shared")).toThrow(code("ERR_BUFFER_WOULD_BLOCK"));
    expect(main.tryLock(buffer, "shared")).toBe(false);
    const locked = main.lockAsync(buffer, "shared");
    other.unlock(buffer);
    await locked;
    expect(other.tryLock(buffer, "exclusive")).toBe(false);
    main.unlock(buffer);
  });

  test("that this backend has itself is not waited for by sleeping, also on a thread that may", async () => {
    await using world = new CachedPool(blocks);
    const manager = world.attach(true);
    const buffer = manager.tryRead(RELATION, 1);
    manager.lock(buffer, "exclusive");
    expect(() => manager.lock(buffer, "shared")).toThrow(code("ERR_BUFFER_WOULD_BLOCK"));
    expect(() => manager.lockForCleanup(buffer)).toThrow(code("ERR_BUFFER_WOULD_BLOCK"));
    manager.unlock(buffer);
    manager.lockForCleanup(buffer);
    expect(manager.isCleanupOk(buffer)).toBe(true);
    manager.unlock(buffer);
  });

  test("for cleanup waits for another backend's pin", async () => {
    await using world = new CachedPool(blocks);
    const [main, other] = [world.attach(false), world.attach()];
    const buffer = main.tryRead(RELATION, 1);
    other.tryRead(RELATION, 1);
    expect(main.tryLockForCleanup(buffer)).toBe(false);
    expect(() => main.lockForCleanup(buffer)).toThrow(code("ERR_BUFFER_WOULD_BLOCK"));
    const cleanup = main.lockForCleanupAsync(buffer);
    other.release(buffer);
    await cleanup;
    expect(main.isCleanupOk(buffer)).toBe(true);
    main.unlock(buffer);
  });
});

describe("limits", () => {
  test("leave the pins beside the first eight", async () => {
    await using world = new CachedPool(
      Array.from({ length: 100 }, (_, block) => block),
      { buffers: 16_384, pinBackends: 136 },
    );
    const manager = world.attach();
    expect([manager.pinLimit(), manager.additionalPins()]).toEqual([94, 86]);
    for (let block = 0; block < 100; block++) {
      manager.tryRead(RELATION, block);
      if (block === 8) expect(manager.additionalPins()).toBe(85);
    }
    expect(manager.additionalPins()).toBe(0);
    await manager.detachAsync();
    expect(world.warnings.length, "each leaked pin is told of").toBe(100);
  });

  test("of rings follow the settings, the session and what is asked for", async () => {
    const rings = { bulkread: -1, bulkwrite: 0, vacuum: 512 };
    await using world = new CachedPool([], { buffers: 16_384, pinBackends: 136, rings });
    const manager = world.attach();
    expect([manager.ring("bulkread")?.size, manager.ring("bulkwrite"), manager.ring("vacuum")?.size]).toEqual(
      [94, null, 64],
    );
    expect(manager.ring("bulkwrite", -1)?.size).toBe(2048);
    expect(manager.ring("bulkwrite", -1)?.pinLimit).toBe(1024);
    expect(manager.ring("vacuum", 7)).toBeNull();
    manager.session.effectiveConcurrency = 1;
    expect(manager.scanRing(4097)?.size).toBe(48);
    expect(manager.scanRing(4096)).toBeNull();
    expect(() => manager.ring("vacuum", -2)).toThrow(RangeError);
  });

  test("of a session are its own, within the pool's", async () => {
    await using world = new CachedPool([], { combineLimit: 32 });
    const { session } = world.attach();
    session.combineLimit = 128;
    expect(session.combineLimit).toBe(32);
    session.setTablespace(7, { effective: 3 });
    expect([
      session.concurrencyOf(7, false),
      session.concurrencyOf(7, true),
      session.concurrencyOf(8, false),
    ]).toEqual([3, 16, 16]);
    expect(() => (session.combineLimit = 0)).toThrow(RangeError);
    expect(() => (session.effectiveConcurrency = 1001)).toThrow(RangeError);
    expect(() => session.setTablespace(7, { maintenance: -1 })).toThrow(RangeError);
  });
});

describe("leaving the pool", () => {
  test("is final, can be done twice, and gives back what was pinned", async () => {
    await using world = new CachedPool(blocks);
    const manager = world.attach();
    const buffer = manager.tryRead(RELATION, 1);
    manager.lock(buffer, "exclusive");
    manager[Symbol.dispose]();
    await manager[Symbol.asyncDispose]();
    expect(world.warnings).toEqual(["BUFFER_LEAKED_PIN"]);
    expect(refcountOf(world.state(buffer))).toBe(0);
    expect(() => manager.tryRead(RELATION, 1)).toThrow(code("ERR_BUFFER_CLOSED"));
    expect(() => manager.openScope()).toThrow(code("ERR_BUFFER_CLOSED"));
    const next = world.attach();
    expect(next.tryLock(next.tryRead(RELATION, 1), "exclusive")).toBe(true);
  });
});
