/**
 * What a mutant is built from: everything that simulates, and nothing that builds mutants.
 */
export { runSeed, runSeeds } from "../runner.js";
export { shorten } from "../shrink.js";
