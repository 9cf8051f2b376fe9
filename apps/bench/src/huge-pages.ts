/**
 * Reserved huge pages for a reference that asks for them (fio's `--iomem=shmhuge`), given back afterwards.
 *
 * The number is the whole machine's, so it is only ever raised, by root, and set back to what was found.
 */
import { readFileSync, writeFileSync } from "node:fs";

const SETTING = "/proc/sys/vm/nr_hugepages";
/** What fio needs for the deepest of the jobs here, 2 MiB each. */
export const HUGE_PAGES_NEEDED = 64;

function freePages(): number {
  return Number(/^HugePages_Free: +(\d+)/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1] ?? 0);
}

/** Either a reservation, which disposing gives back, or why there is none. */
export type HugePageReservation = Disposable & { readonly refused: string | undefined };

/**
 * Sees to it that enough huge pages are free.
 *
 * @param mayChange whether the machine's setting may be changed for that
 */
export function reserveHugePages(mayChange: boolean): HugePageReservation {
  const nothing = (refused: string | undefined): HugePageReservation => ({
    refused,
    [Symbol.dispose]: () => undefined,
  });
  try {
    const free = freePages();
    if (free >= HUGE_PAGES_NEEDED) return nothing(undefined);
    const hint = `fewer than ${HUGE_PAGES_NEEDED} huge pages are free (sysctl vm.nr_hugepages, as root)`;
    if (!mayChange || process.getuid?.() !== 0) return nothing(hint);
    const before = readFileSync(SETTING, "utf8").trim();
    writeFileSync(SETTING, String(Number(before) + HUGE_PAGES_NEEDED - free));
    const restore = (): void => writeFileSync(SETTING, before);
    if (freePages() < HUGE_PAGES_NEEDED) {
      restore();
      return nothing("the kernel found no room for huge pages");
    }
    return { refused: undefined, [Symbol.dispose]: restore };
  } catch (error) {
    return nothing(`no huge pages: ${error instanceof Error ? error.message : String(error)}`);
  }
}
