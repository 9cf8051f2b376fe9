import { expect, test } from "vitest";

import { commandName, parseCommand } from "../src/command-grammar.js";
import { thrownCode } from "./fixtures.js";

const push = (protocolVersion: 2 | 3, allowTimelineCreation: boolean): unknown => ({
  type: "start-wal-push",
  protocolVersion,
  allowTimelineCreation,
});

// Aim: every form of START_WAL_PUSH that proposers have ever sent means what it did. Method: a table.
test.each([
  ["START_WAL_PUSH", push(2, true)],
  ["START_WAL_PUSH;", push(2, true)],
  ["  START_WAL_PUSH  ", push(2, true)],
  ["START_WAL_PUSH postgresql://no_user:@localhost:50052", push(2, true)],
  ["START_WAL_PUSH (proto_version '2')", push(2, true)],
  ["START_WAL_PUSH (proto_version '3', allow_timeline_creation 'false')", push(3, false)],
  ["START_WAL_PUSH(proto_version '3',allow_timeline_creation 'true');", push(3, true)],
  ["START_WAL_PUSH (allow_timeline_creation false, proto_version 3)", push(3, false)],
  ["START_WAL_PUSH (proto_version '3', allow_timeline_creation 'false', unknown 'x')", push(3, false)],
])("%s is understood", (text, expected) => {
  expect(parseCommand(text)).toEqual(expected);
});

// Aim: a stream is never opened on a misread option. Method: one text for each way to be wrong, with its code.
test.each([
  ["START_WAL_PUSH (proto_version abc)", "ERR_ACCEPTOR_COMMAND_VALUE"],
  ["START_WAL_PUSH (proto_version '-3')", "ERR_ACCEPTOR_COMMAND_VALUE"],
  ["START_WAL_PUSH (proto_version '4294967296')", "ERR_ACCEPTOR_COMMAND_VALUE"],
  ["START_WAL_PUSH (proto_version '')", "ERR_ACCEPTOR_COMMAND_VALUE"],
  ["START_WAL_PUSH (proto_version '4')", "ERR_ACCEPTOR_UNSUPPORTED"],
  ["START_WAL_PUSH (proto_version '1')", "ERR_ACCEPTOR_UNSUPPORTED"],
  ["START_WAL_PUSH (allow_timeline_creation 'yes')", "ERR_ACCEPTOR_COMMAND_VALUE"],
  ["START_WAL_PUSH (proto_version)", "ERR_ACCEPTOR_COMMAND_SYNTAX"],
  ["START_WAL_PUSH ()", "ERR_ACCEPTOR_COMMAND_SYNTAX"],
  ["START_WAL_PUSH (proto_version '3',)", "ERR_ACCEPTOR_COMMAND_SYNTAX"],
  ["START_WAL_PUSH (proto_version '3'", "ERR_ACCEPTOR_COMMAND_SYNTAX"],
  ["START_WAL_PUSH (proto_version '3' '2')", "ERR_ACCEPTOR_COMMAND_SYNTAX"],
  ["start_wal_push", "ERR_ACCEPTOR_COMMAND_SYNTAX"],
])("%s is refused", (text, code) => {
  expect(thrownCode(() => parseCommand(text))).toBe(code);
});

// Aim: what stock clients and drivers send is understood in any case, with or without a semicolon. Method: a table.
test.each([
  ["IDENTIFY_SYSTEM", { type: "identify-system" }],
  ["identify_system;", { type: "identify-system" }],
  ["TIMELINE_STATUS", { type: "timeline-status" }],
  ["SHOW data_directory_mode", { type: "show", name: "data_directory_mode" }],
  ["show WAL_SEGMENT_SIZE ;", { type: "show", name: "WAL_SEGMENT_SIZE" }],
  ['SHOW "wal_segment_size"', { type: "show", name: "wal_segment_size" }],
  ["TIMELINE_HISTORY 1", { type: "timeline-history", timelineId: 1 }],
  ["timeline_history 4294967295", { type: "timeline-history", timelineId: 4294967295 }],
  ["READ_REPLICATION_SLOT s1", { type: "read-replication-slot", slot: "s1" }],
  ['READ_REPLICATION_SLOT "odd ""name"""', { type: "read-replication-slot", slot: 'odd "name"' }],
  ["SET datestyle TO 'ISO'", { type: "set-datestyle" }],
  ["set DateStyle = 'ISO, MDY'", { type: "set-datestyle" }],
  ["SELECT pg_catalog.set_config('search_path', '', false);", { type: "set-search-path" }],
  ["", { type: "empty" }],
  [" ; ", { type: "empty" }],
  [
    "BASE_BACKUP ( LABEL 'pg_basebackup base backup', PROGRESS, CHECKPOINT 'fast' )",
    { type: "unsupported", command: "BASE_BACKUP", hint: expect.stringContaining("primary") as unknown },
  ],
  ["DROP_REPLICATION_SLOT s WAIT", { type: "drop-replication-slot", slot: "s" }],
  ["drop_replication_slot S;", { type: "drop-replication-slot", slot: "s" }],
])("%s is understood", (text, expected) => {
  expect(parseCommand(text)).toEqual(expected);
});

const replication = (change: Readonly<Record<string, unknown>>): unknown => ({
  type: "start-replication",
  slot: undefined,
  startLsn: 0x3000000n,
  timelineId: undefined,
  term: undefined,
  ...change,
});

// Aim: every form of START_REPLICATION means what its sender means, above all a term behind a timeline, without which
// a reader would be served by another rule. Method: what walreceiver, pg_receivewal, walproposer and others send.
test.each([
  ["START_REPLICATION 0/3000000 TIMELINE 1", replication({ timelineId: 1 })],
  ["START_REPLICATION PHYSICAL 0/3000000", replication({})],
  [
    'START_REPLICATION SLOT "s" 0/3000000 TIMELINE 4294967295',
    replication({ slot: "s", timelineId: 4294967295 }),
  ],
  ["START_REPLICATION SLOT Slot_1 PHYSICAL 0/3000000", replication({ slot: "slot_1" })],
  ['START_REPLICATION SLOT "a ""b""" 0/3000000', replication({ slot: 'a "b"' })],
  ["START_REPLICATION 0/3000000 (term='7')", replication({ term: 7n })],
  [
    "START_REPLICATION PHYSICAL 0/3000000 (term='18446744073709551615')",
    replication({ term: 2n ** 64n - 1n }),
  ],
  ["START_REPLICATION 0/3000000 TIMELINE 2 (term='7');", replication({ timelineId: 2, term: 7n })],
  [
    "start_replication physical A/FFFFFFFF timeline 1",
    replication({ startLsn: 0xaffffffffn, timelineId: 1 }),
  ],
  ["START_REPLICATION 1a/b", replication({ startLsn: 0x1a0000000bn })],
])("%s is understood", (text, expected) => {
  expect(parseCommand(text)).toEqual(expected);
});

const creation = (temporary: boolean, reserveWal: boolean): unknown => ({
  type: "create-replication-slot",
  slot: "s",
  temporary,
  reserveWal,
});

// Aim: both syntaxes of slot creation. Method: what clients of 14 and before, and of 15 and later send.
test.each([
  ['CREATE_REPLICATION_SLOT "s" TEMPORARY PHYSICAL (RESERVE_WAL)', creation(true, true)],
  ['CREATE_REPLICATION_SLOT "s" TEMPORARY PHYSICAL RESERVE_WAL', creation(true, true)],
  ["CREATE_REPLICATION_SLOT s PHYSICAL", creation(false, false)],
  ["CREATE_REPLICATION_SLOT S PHYSICAL (RESERVE_WAL false)", creation(false, false)],
  ["CREATE_REPLICATION_SLOT s PHYSICAL ( reserve_wal on );", creation(false, true)],
])("%s is understood", (text, expected) => {
  expect(parseCommand(text)).toEqual(expected);
});

// Aim: logical decoding is told apart from nonsense. Method: both commands that ask for it.
test.each([
  "CREATE_REPLICATION_SLOT s LOGICAL pgoutput (SNAPSHOT 'nothing')",
  "START_REPLICATION SLOT s LOGICAL 0/0 (proto_version '1')",
])("%s is not supported", (text) => {
  expect(parseCommand(text)).toMatchObject({ type: "unsupported", hint: expect.any(String) as unknown });
});

// Aim: anything else is a syntax error, whatever it contains. Method: near misses, and bytes that fit no token.
test.each([
  "SELECT 1",
  "IDENTIFY_SYSTEM now",
  "IDENTIFY_SYSTEM; IDENTIFY_SYSTEM",
  "SHOW",
  "SHOW a b",
  "SHOW 'a'",
  "TIMELINE_HISTORY",
  "TIMELINE_HISTORY 0",
  "TIMELINE_HISTORY 4294967296",
  "TIMELINE_HISTORY x",
  "READ_REPLICATION_SLOT",
  "SET search_path TO x",
  "SELECT pg_catalog.set_config('search_path', 'x', false)",
  "SELECT pg_catalog.set_config('search_path', '', false) FROM t",
  "HELLO",
  "START_REPLICATION",
  "START_REPLICATION 0/3000000 TIMELINE",
  "START_REPLICATION 0/3000000 TIMELINE 0",
  "START_REPLICATION 0/3000000 (term=7)",
  "START_REPLICATION 0/3000000 (term='18446744073709551616')",
  "START_REPLICATION 0/3000000 (term='7'",
  "START_REPLICATION 0/3000000 (epoch='7')",
  "START_REPLICATION 0/3000000 (term='7') TIMELINE 1",
  "START_REPLICATION 0/123456789",
  "START_REPLICATION SLOT 0/3000000",
  "START_REPLICATION 0/3000000 0/4000000",
  "CREATE_REPLICATION_SLOT s",
  "CREATE_REPLICATION_SLOT s PHYSICAL (TWO_PHASE)",
  "CREATE_REPLICATION_SLOT s PHYSICAL TEMPORARY",
  "DROP_REPLICATION_SLOT",
  "DROP_REPLICATION_SLOT s NOW",
  '"IDENTIFY_SYSTEM"',
  "'unterminated",
  "\u0000\u0001",
  "(".repeat(1000),
])("%j is refused", (text) => {
  expect(thrownCode(() => parseCommand(text))).toBe("ERR_ACCEPTOR_COMMAND_SYNTAX");
});

// Aim: a counter labelled by command cannot be blown up by a peer. Method: names come from the grammar alone, and an
// error repeats a bounded part of the text.
test("command names and error texts do not grow with what a peer sends", () => {
  expect(commandName(parseCommand('READ_REPLICATION_SLOT "anything"'))).toBe("READ_REPLICATION_SLOT");
  expect(commandName(parseCommand("BASE_BACKUP (x)"))).toBe("BASE_BACKUP");
  expect(commandName(parseCommand("START_WAL_PUSH"))).toBe("START_WAL_PUSH");
  try {
    parseCommand(`x${"y".repeat(60_000)}`);
    expect.unreachable();
  } catch (error) {
    expect((error as Error).message.length).toBeLessThan(300);
  }
});
