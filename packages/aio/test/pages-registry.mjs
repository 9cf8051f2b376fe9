// The registry of the tests that need one in several threads: targets that are ranges of blocks, the package's callbacks
// for blocks, and an upper layer that looks at the pages, as a buffer manager would. I/O workers import `createRegistry`;
// the tests, which run from the sources, hand their own classes to `fillPagesRegistry`.
import { AioRegistry, createBlockCallbacks } from "../dist/index.js";

/** Ids, for all. The target's words: descriptor, slot of the lease, first block, blocks. */
export const PAGES = { target: 2, blocks: 2, verify: 3, twist: 4, fail: 5 };
/** Byte that `verify` is registered with: zero the pages that are wrong. */
export const ZERO_ON_ERROR = 1;
/** The counter of bad pages has 7 bits. */
export const BAD_PAGES_MAX = 127;
const ZEROED = 1 << 7;
const BLOCK_BYTES = 8192;

/** What completions of this thread would have written to a log. */
export const pageLog = [];

/** A page of a BlockFile says its own number in every word; one look at the first and the last is enough here. */
function isGood(words, block) {
  return words[0] === block && words[words.length - 1] === block;
}

function verify(io, prior, data) {
  const first = io.target[2];
  let bad = 0;
  let at = 0;
  for (let piece = 0; piece < io.vectorCount && at < prior.result; piece++) {
    const bytes = io.vectorAt(piece);
    for (let page = 0; page < bytes.byteLength && at < prior.result; page += BLOCK_BYTES, at++) {
      const words = new Uint32Array(bytes.buffer, bytes.byteOffset + page, BLOCK_BYTES / 4);
      if (isGood(words, first + at)) continue;
      bad += 1;
      pageLog.push(`invalid page in block ${first + at}`);
      if ((data & ZERO_ON_ERROR) !== 0) words.fill(0);
    }
  }
  if (bad === 0) return prior;
  const zeroed = (data & ZERO_ON_ERROR) !== 0;
  prior.callback = PAGES.verify;
  prior.status = zeroed ? "warning" : "error";
  prior.error = Math.min(bad, BAD_PAGES_MAX) | (zeroed ? ZEROED : 0);
  return prior;
}

function report(result, target, level) {
  const count = result.error & BAD_PAGES_MAX;
  const many = count === BAD_PAGES_MAX ? `at least ${count}` : String(count);
  const message = `${many} invalid pages among blocks from ${target[2]}`;
  if (level === "error") throw new Error(message);
  pageLog.push(`${level}: ${message}`);
}

/** Registers all of it. */
export function fillPagesRegistry(registry, createBlocks) {
  const rangeOf = (target) => ({ file: `file ${target[0]}`, block: target[2], blocks: target[3] });
  const onFailure = (message) => void pageLog.push(message);
  return registry
    .target(PAGES.target, {
      name: "blocks",
      describe: (target) => `blocks from ${target[2]}, ${target[3]} of them`,
      reopen: (_io, lease) => lease,
    })
    .callback(PAGES.blocks, createBlocks(PAGES.blocks, BLOCK_BYTES, { rangeOf, onFailure }))
    .callback(PAGES.verify, { name: "verify", completeShared: verify, report })
    .callback(PAGES.twist, {
      name: "twist",
      completeLocal: (_io, prior, data) => ({ ...prior, result: prior.result + data }),
    })
    .callback(PAGES.fail, {
      name: "fail",
      completeShared: () => {
        throw new Error("on purpose");
      },
    });
}

/** For I/O workers and backend threads. */
export function createRegistry() {
  return fillPagesRegistry(new AioRegistry(), createBlockCallbacks);
}
