/**
 * Records that travel with the buffers: filled ahead of time by the callback, read later by the consumer, made once.
 */
import { expect, test } from "vitest";
import { STREAM_FLAG } from "../src/options.js";
import { ReadStream } from "../src/read-stream.js";
import { blocksFrom } from "./calls.js";
import { ModelPool, RELATION } from "./model-pool.js";

interface Note {
  value: number;
  bytes: Uint8Array;
}

/** A stream over `blocks` whose records hold the block number seven times over. */
function noted(
  pool: ModelPool,
  blocks: readonly number[],
  debug: boolean,
): ReadStream<Note> & { made: number } {
  let at = 0;
  const made = { made: 0 };
  const stream = ReadStream.begin<Note>(pool, {
    relation: RELATION,
    flags: STREAM_FLAG.useBatching,
    perBuffer: () => {
      made.made += 1;
      return { value: -1, bytes: new Uint8Array(2) };
    },
    next: (slot) => {
      const block = blocks[at++] ?? -1;
      if (slot !== undefined && block !== -1) {
        slot.value = block * 7;
        slot.bytes = Uint8Array.of(block & 255, block >> 8);
      }
      return block;
    },
    debug,
  });
  return Object.assign(stream, made);
}

test.each([
  ["neighbours", blocksFrom(0, 100)],
  ["far blocks", blocksFrom(0, 300, 3)],
  ["the same blocks again", [1, 2, 2, 3, 9, 9, 9, 10, 11, 4, 4]],
])("every buffer comes with its own record, around a queue of six: %s", (_name, blocks) => {
  for (const debug of [false, true]) {
    const pool = new ModelPool({
      effectiveConcurrency: 4,
      combineLimit: 4,
      isCached: (block) => block % 5 === 0,
    });
    const stream = noted(pool, blocks, debug);
    const small = ReadStream.begin<Note>(pool, {
      relation: RELATION,
      ring: { pinLimit: 5 },
      perBuffer: () => ({ value: -1, bytes: new Uint8Array(2) }),
      next: (() => {
        let at = 0;
        return (slot: Note | undefined) => {
          const block = blocks[at++] ?? -1;
          if (slot !== undefined) slot.value = block * 7;
          return block;
        };
      })(),
      debug,
    });
    expect(small.info.queueSize).toBe(6);
    for (const each of [stream, small]) {
      for (let buffer = each.next(); buffer !== 0; buffer = each.next()) {
        const block = ModelPool.blockOf(buffer);
        expect(each.data.value).toBe(block * 7);
        // Whatever happens to the pool in between, the record is the consumer's until the next call.
        pool.release(buffer);
        expect(each.data.value).toBe(block * 7);
      }
    }
  }
});

test("records are made once for each slot and go round", () => {
  const pool = new ModelPool({ effectiveConcurrency: 1, combineLimit: 2 });
  const stream = noted(pool, blocksFrom(0, 50), false);
  expect(stream.made).toBe(stream.info.queueSize);
  const seen = new Set<Note>();
  for (const { buffer, data } of stream) {
    seen.add(data);
    pool.release(buffer);
  }
  expect(seen.size).toBe(stream.info.queueSize);
});

test("with debug, a record kept for too long is worthless", () => {
  const pool = new ModelPool();
  const stream = noted(pool, blocksFrom(0, 10), true);
  pool.release(stream.next());
  const first = stream.data;
  const { bytes } = first;
  expect(first.value).toBe(0);
  pool.release(stream.next());
  expect(first.value).toBeNaN();
  expect(first.bytes).toBeUndefined();
  // Bytes within are out of reach, not overwritten: they may be anybody's.
  expect([...bytes]).toEqual([0, 0]);
  stream.end();
});

test("with debug, records that are bytes are overwritten", () => {
  const pool = new ModelPool();
  const stream = ReadStream.begin<Uint8Array>(pool, {
    relation: RELATION,
    perBuffer: () => new Uint8Array(4),
    next: (() => {
      let block = 0;
      return (slot: Uint8Array | undefined) => {
        slot?.fill(block);
        return block < 10 ? block++ : -1;
      };
    })(),
    debug: true,
  });
  stream.next();
  stream.next();
  const second = stream.data;
  expect([...second]).toEqual([1, 1, 1, 1]);
  stream.next();
  expect([...second]).toEqual([0x7f, 0x7f, 0x7f, 0x7f]);
  stream.end();
});

test("the callback has no record to fill when a block is only asked for", () => {
  const pool = new ModelPool();
  const slots: unknown[] = [];
  const stream = ReadStream.begin<object>(pool, {
    relation: RELATION,
    perBuffer: () => ({}),
    next: (slot) => {
      slots.push(slot);
      return slots.length;
    },
  });
  stream.nextBlock();
  expect(slots).toEqual([undefined]);
  stream.end();
});
