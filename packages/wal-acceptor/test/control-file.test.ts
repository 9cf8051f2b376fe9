import { crc32c } from "@millrace/checksums";
import fc from "fast-check";
import { expect, test } from "vitest";
import { decodeControlFile, encodeControlFile } from "../src/control-file.js";
import type { PersistentState } from "../src/persistent-state.js";
import { at, freshState, thrownCode } from "./fixtures.js";

const U64_MAX = 2n ** 64n - 1n;

const extreme: PersistentState = {
  ...freshState({ startLsn: at(0x3000060n) }),
  term: 2n ** 64n - 2n,
  termHistory: [
    { term: 0n, lsn: at(0x3000060n) },
    { term: 2n ** 64n - 2n, lsn: at(0xffff_ffff_ffff_fff8n) },
  ],
  commitLsn: at(0xffff_ffff_ffff_fff8n),
  server: { pgVersion: 180_004, systemId: U64_MAX, segmentBytes: 2 ** 30 },
  configuration: {
    generation: 0xffff_ffff,
    members: [
      { nodeId: 2n ** 63n, host: "näme", port: 65_535 },
      { nodeId: 1n, host: "", port: 0 },
    ],
    newMembers: [{ nodeId: 7n, host: "h", port: 5454 }],
  },
};

// Aim: a hand-edited or foreign body with a correct checksum is still checked. Method: replace text in the body.
function withBody(change: (body: string) => string): Uint8Array {
  const file = encodeControlFile(freshState({ startLsn: at(0x3000060n) }));
  const body = new TextDecoder().decode(file.subarray(16, -4));
  const changed = new TextEncoder().encode(change(body));
  const made = new Uint8Array(20 + changed.byteLength);
  made.set(file.subarray(0, 16));
  new DataView(made.buffer).setUint32(12, changed.byteLength, true);
  made.set(changed, 16);
  return sealed(made);
}

function sealed(file: Uint8Array): Uint8Array {
  new DataView(file.buffer).setUint32(file.byteLength - 4, crc32c(file.subarray(0, -4)), true);
  return file;
}

// Aim: no value of the protocol's range is rounded or lost. Method: the largest of each, there and back.
test("the largest terms, positions, ids and configurations survive the file", () => {
  expect(decodeControlFile(encodeControlFile(extreme))).toEqual(extreme);
});

// Aim: any state is read back as written, and equal states give equal bytes. Method: random states.
test("what is written is what is read", () => {
  const u64 = fc.bigInt({ min: 0n, max: U64_MAX });
  const lsn = u64.map(at);
  const terms = fc.uniqueArray(u64, { maxLength: 300, size: "max" });
  const states = fc.record({
    term: u64,
    terms,
    starts: fc.array(lsn, { minLength: 300, maxLength: 300 }),
    lsn,
  });
  fc.assert(
    fc.property(states, ({ term, terms: unordered, starts, lsn: position }) => {
      const ordered = unordered.toSorted((a, b) => (a < b ? -1 : 1));
      const sortedStarts = starts.toSorted((a, b) => (a < b ? -1 : 1));
      const state: PersistentState = {
        ...freshState(),
        term,
        termHistory: ordered.map((entry, index) => ({ term: entry, lsn: sortedStarts[index] ?? position })),
        peerHorizonLsn: position,
        remoteConsistentLsn: position,
      };
      expect(decodeControlFile(encodeControlFile(state))).toEqual(state);
      expect(encodeControlFile(structuredClone(state))).toEqual(encodeControlFile(state));
    }),
    { numRuns: 50 },
  );
});

// Aim: no damaged file is ever believed. Method: flip every single bit of a file, one at a time.
test("a flipped bit anywhere is detected", () => {
  const file = encodeControlFile(extreme);
  for (let bit = 0; bit < file.byteLength * 8; bit += 1) {
    const damaged = file.slice();
    damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    expect(thrownCode(() => decodeControlFile(damaged))).toBe("ERR_ACCEPTOR_CONTROL_CORRUPT");
  }
});

// Aim: a torn file is detected. Method: every proper prefix, and bytes after the end.
test("a shortened or lengthened file is detected", () => {
  const file = encodeControlFile(extreme);
  for (let length = 0; length < file.byteLength; length += 1) {
    expect(thrownCode(() => decodeControlFile(file.subarray(0, length)))).toBe(
      "ERR_ACCEPTOR_CONTROL_CORRUPT",
    );
  }
  const longer = new Uint8Array(file.byteLength + 8);
  longer.set(file);
  expect(thrownCode(() => decodeControlFile(longer))).toBe("ERR_ACCEPTOR_CONTROL_CORRUPT");
});

// Aim: a file of a later version is not misread and not called corrupt. Method: version 2 with a right checksum.
test("an intact file of an unknown version has its own error", () => {
  const file = encodeControlFile(freshState());
  new DataView(file.buffer).setUint32(8, 2, true);
  expect(thrownCode(() => decodeControlFile(sealed(file)))).toBe("ERR_ACCEPTOR_CONTROL_VERSION");
});

// Aim: each member's type and range is checked, with its name in the message. Method: one wrong value at a time.
test.each([
  ["tenantId", /"tenantId": "[^"]*"/, '"tenantId": "xyz"'],
  ["timelineId", /"timelineId": "[^"]*"/, '"timelineId": 5'],
  ["createdAtMs", /"createdAtMs": \d+/, '"createdAtMs": -1'],
  ["pgVersion", /"pgVersion": \d+/, '"pgVersion": 1.5'],
  ["systemId", /"systemId": "\d+"/, '"systemId": "18446744073709551616"'],
  ["segment size", /"segmentBytes": \d+/, '"segmentBytes": 1000000'],
  ["generation", /"generation": \d+/, '"generation": 4294967296'],
  ["no members", /"generation": \d+/, '"generation": 1'],
  ["members", /"members": \[\]/, '"members": {}'],
  ["port", /"members": \[\]/, '"members": [{"nodeId":"1","host":"h","port":65536}]'],
  ["nodeId", /"members": \[\]/, '"members": [{"nodeId":1,"host":"h","port":1}]'],
  ["term ", /"term": "0",\n {2}"termHistory"/, '"term": "01",\n  "termHistory"'],
  ["term", /"term": "0",/, '"term": "-0",'],
  ["termHistory", /"termHistory": \[[^\]]*\]/, '"termHistory": null'],
  [
    "not ordered",
    /"termHistory": \[[^\]]*\]/,
    '"termHistory": [{"term":"2","lsn":"1"},{"term":"1","lsn":"2"}]',
  ],
  ["commitLsn", /"commitLsn": "\d+"/, '"commitLsn": 5'],
  ["server", /"server": \{[^}]*\}/, '"server": []'],
  ["not JSON", /^\{/, "["],
])("a wrong %s is refused", (name, pattern, replacement) => {
  const file = withBody((body) => {
    const changed = body.replace(pattern, replacement);
    expect(changed === body && name !== "term ").toBe(false);
    return name === "term " ? body.replace('"term": "0"', '"term": "01"') : changed;
  });
  let message = "";
  try {
    decodeControlFile(file);
  } catch (error) {
    expect((error as { code?: string }).code).toBe("ERR_ACCEPTOR_CONTROL_CORRUPT");
    message = (error as Error).message;
  }
  expect(message).toContain(name.trim());
});

// Aim: bytes that are not ours but checksum right are refused. Method: foreign magic, wrong inner length, bad UTF-8.
test("foreign magic, a wrong length and broken text are refused", () => {
  const magic = encodeControlFile(freshState());
  magic[0] = 0x58;
  const length = encodeControlFile(freshState());
  new DataView(length.buffer).setUint32(12, 3, true);
  const text = encodeControlFile(freshState());
  text[30] = 0xff;
  for (const file of [magic, length, text]) {
    expect(thrownCode(() => decodeControlFile(sealed(file)))).toBe("ERR_ACCEPTOR_CONTROL_CORRUPT");
  }
});
