import type { createBlockCallbacks } from "../src/block-callbacks.js";
import type { AioRegistry } from "../src/registry.js";

export const PAGES: {
  readonly target: number;
  readonly blocks: number;
  readonly verify: number;
  readonly twist: number;
  readonly fail: number;
};
export const ZERO_ON_ERROR: number;
export const BAD_PAGES_MAX: number;
export const pageLog: string[];
export function fillPagesRegistry(
  registry: AioRegistry,
  createBlocks: typeof createBlockCallbacks,
): AioRegistry;
export function createRegistry(): AioRegistry;
