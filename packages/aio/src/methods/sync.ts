/**
 * Method sync: the issuer executes every I/O itself, when it is staged. Nothing is ever in flight between two calls.
 */
import assert from "node:assert/strict";

import type { IoMethod } from "../method.js";

/** The method of one backend. */
export const syncMethod: IoMethod = {
  name: "sync",
  needsSynchronousExecution: () => true,
  submit: () => assert.fail("method sync has nothing to submit"),
  close: () => undefined,
};
