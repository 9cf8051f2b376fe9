import assert from "node:assert/strict";
import { toLsn } from "@millrace/lsn";
import {
  parseProposerMessage,
  quorumLsn,
  serializeProposerMessage,
  streamingStart,
} from "@millrace/wal-protocol";

const bytes = serializeProposerMessage({ type: "vote-request", generation: 1, term: 5n }, 3);
assert.equal(Buffer.from(bytes).toString("hex"), "76000000010000000000000005");
assert.deepEqual(parseProposerMessage(bytes, 3), { type: "vote-request", generation: 1, term: 5n });

// Where two logs part: the acceptor followed term 3, the proposer's log goes on in term 4 instead.
const at = (term: bigint, lsn: bigint) => ({ term, lsn: toLsn(lsn) });
const proposer = [at(1n, 10n), at(2n, 20n), at(4n, 40n)];
const acceptor = [at(1n, 10n), at(2n, 20n), at(3n, 30n)];
assert.deepEqual(streamingStart(proposer, acceptor, toLsn(40n)), at(2n, 30n));

const members = [1n, 2n, 3n].map((nodeId) => ({ nodeId, host: "h", port: 5454 }));
const configuration = { generation: 1, members, newMembers: [] };
assert.equal(
  quorumLsn(configuration, (nodeId) => toLsn(nodeId * 100n)),
  200n,
);
