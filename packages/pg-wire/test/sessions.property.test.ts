/**
 * What must hold for any cut of the bytes and for any bytes at all.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { FrameReader, ServerSession, WireError } from "../src/index.js";
import {
  bytes,
  eventText,
  GSSENC_REQUEST,
  loggedInClient,
  loggedInServer,
  message,
  outputText,
  serverSession,
  SSL_REQUEST,
  startup,
} from "./transcript.js";

interface Session {
  receive(chunk: Uint8Array): void;
  nextEvent(): Parameters<typeof eventText>[0] | undefined;
  takeOutput(): readonly Buffer[];
  readonly bufferedBytes: number;
  readonly hasFrame: boolean;
}

/** Cuts at the given places, in fresh memory each, or as adjacent views of one buffer. */
function cut(stream: Buffer, places: readonly number[], adjacent: boolean): readonly Buffer[] {
  const sorted = [...new Set(places.map((place) => place % (stream.length + 1)))].sort((a, b) => a - b);
  const source = Buffer.from(stream);
  return [0, ...sorted].map((start, index) => {
    const piece = source.subarray(start, sorted[index] ?? stream.length);
    return adjacent ? piece : Buffer.from(piece);
  });
}

/** Feeds chunks; after each, takes all events. Events that ask something of a server are answered. */
function play(session: Session, chunks: readonly Buffer[], answer: (text: string) => void): string {
  const log: string[] = [];
  const drain = (): boolean => {
    try {
      for (let event = session.nextEvent(); event !== undefined; event = session.nextEvent()) {
        const text = eventText(event);
        log.push(text);
        if (text.includes('"end"')) return false;
        answer(text);
      }
      return true;
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      log.push(`${error.code}: ${error.message}`);
      return false;
    }
  };
  const output: string[] = [];
  for (const chunk of chunks) {
    session.receive(chunk);
    const more = drain();
    output.push(outputText(session));
    if (!more) break;
  }
  return `${log.join("\n")}\n${output.join("")}`;
}

const places = fc.array(fc.nat(), { maxLength: 200, size: "max" });

const SERVER_DIALOG = Buffer.concat([
  SSL_REQUEST,
  GSSENC_REQUEST,
  startup({ user: "u", options: "-c tenant_id=abc timeline_id=def" }, 0x30001),
  message("p", "token\0"),
  message("Q", "IDENTIFY_SYSTEM\0"),
  message("Q", "START\0"),
  message("d", Buffer.alloc(5000, "x")),
  message("d", ""),
  message("d", "abc"),
  message("c"),
  message("Q", "SHOW é\0"),
  message("X"),
]);

function playServer(chunks: readonly Buffer[]): string {
  const authenticate = { verify: () => ({ scope: "tenant", tenantId: undefined }) };
  const session: ServerSession = serverSession({ authenticate });
  return play(session, chunks, (text) => {
    if (text.includes("START")) session.copyBothResponse();
    else if (text.includes('"query"')) session.readyForQuery();
    else if (text.includes('"done"')) {
      session.copyDone();
      session.readyForQuery();
    }
  });
}

// Aim: a server session sees the same dialog however its bytes were cut. Method: one long dialog, random cuts, whole
// chunks as the reference.
test("any cut of a client's bytes gives the same events and answers", () => {
  const expected = playServer([SERVER_DIALOG]);
  expect(expected).toContain('"reason":"terminate"');
  expect(expected.split("\n").length).toBeGreaterThan(9);
  fc.assert(
    fc.property(places, fc.boolean(), (places, adjacent) => {
      expect(playServer(cut(SERVER_DIALOG, places, adjacent))).toBe(expected);
    }),
  );
  expect(playServer(cut(SERVER_DIALOG, Array.from(SERVER_DIALOG.keys()), false))).toBe(expected);
});

const CLIENT_DIALOG = Buffer.concat([
  message("T", "\0\x01", "a\0", Buffer.alloc(18)),
  message("D", "\0\x01", 5000, Buffer.alloc(5000, "y")),
  message("D", "\0\x01", -1),
  message("N", "SWARNING\0C01000\0Mx\0\0"),
  message("C", "SELECT 2\0"),
  message("W", Buffer.alloc(3)),
  message("d", Buffer.alloc(3000, "w")),
  message("d", "k"),
  message("c"),
]);

function playClient(chunks: readonly Buffer[]): string {
  const session = loggedInClient();
  session.query("x");
  return play(session, chunks, () => undefined);
}

// Aim: the same for a client session. Method: as above.
test("any cut of a server's bytes gives the same events", () => {
  const expected = playClient([CLIENT_DIALOG]);
  expect(expected).toContain('"done"');
  fc.assert(
    fc.property(places, fc.boolean(), (places, adjacent) => {
      expect(playClient(cut(CLIENT_DIALOG, places, adjacent))).toBe(expected);
    }),
  );
});

// Aim: the framing agrees with the dumbest reader. Method: random messages, random cuts, messages taken at random
// times, against a reader that concatenates everything first.
test("framing agrees with reading from one buffer", () => {
  const frames = fc.array(fc.uint8Array({ maxLength: 3000, size: "max" }), { maxLength: 40, size: "max" });
  fc.assert(
    fc.property(frames, places, fc.boolean(), fc.nat(5), (bodies, places, adjacent, lazy) => {
      const stream = Buffer.concat(bodies.map((body) => message("d", body)));
      const reader = new FrameReader(() => 4096);
      const seen: Buffer[] = [];
      cut(stream, places, adjacent).forEach((chunk, index) => {
        reader.push(chunk);
        if (index % (lazy + 1) === 0) while (reader.next()) seen.push(reader.body);
      });
      while (reader.next()) seen.push(reader.body);
      expect(Buffer.concat(seen.map((body) => message("d", body))).equals(stream)).toBe(true);
      expect(seen.length).toBe(bodies.length);
      expect(reader.atBoundary).toBe(true);
    }),
  );
});

const TYPES: readonly string[] = "QXpfdcRSKZTDCIENAGHWv".split("");

/** Bytes that look like messages often enough to get past the header. */
const noise = fc.array(
  fc.oneof(
    fc.uint8Array({ maxLength: 64, size: "max" }).map((body) => Buffer.from(body)),
    fc
      .tuple(fc.constantFrom(...TYPES), fc.uint8Array({ maxLength: 64, size: "max" }))
      .map(([type, body]) => message(type, body)),
    fc.tuple(fc.constantFrom(...TYPES), fc.nat()).map(([type, length]) => bytes(type, length)),
    fc.constantFrom(SSL_REQUEST, GSSENC_REQUEST, startup({ user: "u" }), message("W", Buffer.alloc(3))),
  ),
  { maxLength: 60, size: "max" },
);
const BODY_BYTES_MAX = 16 * 1024 * 1024;

// Aim: no bytes make a session throw anything but WireError, and none is kept beyond the largest message. Method:
// random bytes and random messages for fresh, logged-in and copying sessions of both sides.
test("random bytes only ever end in WireError, within bounds", () => {
  const inCopy = (): ServerSession => {
    const session = loggedInServer();
    session.receive(message("Q", "x\0"));
    session.nextEvent();
    session.copyBothResponse();
    return session;
  };
  const inQuery = (): Session => {
    const session = loggedInClient();
    session.query("x");
    return session;
  };
  const made: readonly (() => Session)[] = [serverSession, loggedInServer, inCopy, loggedInClient, inQuery];
  fc.assert(
    fc.property(fc.constantFrom(...made), noise, (make, chunks) => {
      const session = make();
      const log = play(session, chunks, (text) => {
        if (text.includes('"query"') && session instanceof ServerSession) session.readyForQuery();
      });
      void session.hasFrame;
      expect(log).not.toContain("ERR_WIRE_STATE"); // that is for mistakes of the caller, never of the peer
      expect(session.bufferedBytes).toBeLessThanOrEqual(BODY_BYTES_MAX);
    }),
    { numRuns: 3000 },
  );
});
