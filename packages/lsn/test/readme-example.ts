import assert from "node:assert/strict";
import { addBytes, formatLsn, parseLsn, segmentFileName, segmentNumber, segmentOffset } from "@millrace/lsn";

const segmentBytes = 16 * 1024 * 1024;
const lsn = parseLsn("16/B374D848");

assert.equal(segmentFileName(1, segmentNumber(lsn, segmentBytes), segmentBytes), "0000000100000016000000B3");
assert.equal(segmentOffset(lsn, segmentBytes), 0x74d848);
assert.equal(formatLsn(addBytes(lsn, 8192)), "16/B374F848");
