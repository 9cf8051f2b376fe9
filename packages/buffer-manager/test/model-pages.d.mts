export const CONTROL: {
  readonly operations: 0;
  readonly inserted: 1;
  readonly durable: 2;
  readonly refused: 3;
  readonly words: 16;
};
export function writeVersion(page: Uint8Array, block: number, version: number, lsn: number): void;
export function readVersion(page: Uint8Array, block: number): number;
