/**
 * The blocking calls of the native part: negative numbers instead of exceptions, no objects for each call.
 */
import { fdatasyncFd, fsyncFd, IovecTable, preadInto, preadv, pwriteFrom, pwritev } from "@millrace/io-uring";

import { COMBINE_MAX, VECTOR } from "./layout.js";
import type { SynchronousCalls } from "./synchronous-calls.js";

/** One for the thread: the kernel has read it when the call returns. */
let table: IovecTable | undefined;

/** The calls of @millrace/io-uring. Only where the native part is available. */
export const nativeCalls: SynchronousCalls = {
  name: "native",
  read: (fd, segments, segment, offset, length, position) =>
    preadInto(fd, segments.view(segment), offset, length, position),
  write: (fd, segments, segment, offset, length, position) =>
    pwriteFrom(fd, segments.view(segment), offset, length, position),
  vectored(isWrite, fd, segments, words, first, count, position) {
    table ??= new IovecTable(COMBINE_MAX);
    for (let index = 0; index < count; index++) {
      const at = first + index * VECTOR.words;
      const base = segments.address(words[at + VECTOR.segment] as number);
      table.set(index, base + (words[at + VECTOR.offset] as number), words[at + VECTOR.length] as number);
    }
    return isWrite ? pwritev(fd, table, count, position) : preadv(fd, table, count, position);
  },
  sync: (fd, dataOnly) => (dataOnly ? fdatasyncFd(fd) : fsyncFd(fd)),
};
