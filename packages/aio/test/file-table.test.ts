/** Leases: a descriptor that was closed is never taken for the file that has its number now. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { FileTable } from "../src/file-table.js";
import type { FileLease } from "../src/file-table.js";
import { computeLayout } from "../src/layout.js";

const FILES = 3;

function createTables(count: number): FileTable[] {
  const layout = computeLayout({ backends: 1, concurrency: 1, combine: 1, files: FILES });
  const words = new Int32Array(new SharedArrayBuffer(layout.words * 4));
  return Array.from({ length: count }, () => new FileTable(words, layout));
}

describe("leases", () => {
  test("hold until they are ended, once, in every thread's eyes", () => {
    const [here, there] = createTables(2) as [FileTable, FileTable];
    const lease = here.lease(7);
    expect(lease.fd).toBe(7);
    expect(there.holds(lease.slot, lease.generation)).toBe(true);
    expect(there.end(lease)).toBe(true);
    expect(here.holds(lease.slot, lease.generation)).toBe(false);
    expect(here.end(lease)).toBe(false);
  });

  test("of a descriptor that was closed and opened again are different ones", () => {
    const [table] = createTables(1) as [FileTable];
    const first = table.lease(7);
    table.end(first);
    const again = Array.from({ length: FILES }, () => table.lease(7)).find(({ slot }) => slot === first.slot);
    expect(again).toBeDefined();
    expect(again?.generation).toBe(first.generation + 2);
    expect(table.holds(first.slot, first.generation)).toBe(false);
    expect(table.end(first), "the old lease cannot end the new one").toBe(false);
    expect(table.holds(first.slot, again?.generation ?? 0)).toBe(true);
  });

  test("are as many as the system has files", () => {
    const [here, there] = createTables(2) as [FileTable, FileTable];
    const leases = [here.lease(1), there.lease(2), here.lease(3)];
    const full = expect.objectContaining({
      code: "ERR_AIO_LIMIT",
      message: "all 3 files of the system are open",
    });
    expect(() => there.lease(4)).toThrow(full as Error);
    here.end(leases[1] as FileLease);
    expect(there.lease(4).slot).toBe(leases[1]?.slot);
  });

  test("are refused for what is no descriptor, and a slot from nowhere holds nothing", () => {
    const [table] = createTables(1) as [FileTable];
    for (const fd of [-1, 1.5, Number.NaN]) expect(() => table.lease(fd)).toThrow(RangeError);
    for (const slot of [-1, FILES]) expect(table.holds(slot, 0)).toBe(false);
  });

  // Aim: no sequence of opens and closes confuses two leases. Method: random ones on two views, against a Set.
  test("agree with a set of open files", () => {
    const steps = fc.array(fc.record({ table: fc.nat(1), end: fc.option(fc.nat()) }), {
      maxLength: 200,
      size: "max",
    });
    fc.assert(
      fc.property(steps, (steps) => {
        const tables = createTables(2);
        const open = new Set<FileLease>();
        const all: FileLease[] = [];
        for (const [index, step] of steps.entries()) {
          const table = tables[step.table] as FileTable;
          if (step.end === null && open.size < FILES) {
            const lease = table.lease(index);
            expect([...open].some(({ slot }) => slot === lease.slot)).toBe(false);
            open.add(lease);
            all.push(lease);
          } else if (step.end !== null && all.length > 0) {
            const lease = all[step.end % all.length] as FileLease;
            expect(table.end(lease)).toBe(open.delete(lease));
          }
          for (const lease of all) {
            expect((tables[0] as FileTable).holds(lease.slot, lease.generation)).toBe(open.has(lease));
          }
        }
      }),
      { numRuns: 50 },
    );
  });
});
