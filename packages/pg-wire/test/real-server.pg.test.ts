/**
 * The client against real PostgreSQL servers, of the system and of the embedded distribution: every way to log in,
 * queries, and a physical replication stream from its start to the results after it.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { chmod, chown, copyFile, stat, writeFile } from "node:fs/promises";
import { connect as connectNet } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import {
  addBytes,
  distanceBytes,
  formatLsn,
  parseLsn,
  segmentFileName,
  segmentNumber,
  segmentStart,
} from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { PostgresCluster, postgresOrSkip, temporaryDirectory } from "@millrace/postgres-process";
import type { PostgresInstallation } from "@millrace/postgres-process";
import { describe, expect, test } from "vitest";
import {
  ClientSession,
  connect,
  parseConnectionUrl,
  parseReplicationMessage,
  quoteIdentifier,
  quoteLiteral,
  serializeStandbyStatus,
} from "../src/index.js";
import type { ClientEvent, ClientOptions } from "../src/index.js";

const fixture = (name: string): string => join(import.meta.dirname, "fixtures", name);
const SEGMENT_BYTES = 1024 * 1024;
const PASSWORD = "pencil Ⅸ ª\u00a0x"; // SASLprep changes it: a wrong preparation fails the login
const HBA = `
local all all trust
local replication all trust
hostssl all tlsonly 127.0.0.1/32 scram-sha-256
hostnossl all tlsonly 127.0.0.1/32 reject
host all md5user 127.0.0.1/32 md5
host all clear 127.0.0.1/32 password
host all scram 127.0.0.1/32 scram-sha-256
host all trusted,postgres 127.0.0.1/32 trust
`;

/** The events of a session that is fed from a stream, which may change after an event. */
async function* events(session: ClientSession, stream: () => Duplex): AsyncGenerator<ClientEvent> {
  for (;;) {
    const event = session.nextEvent();
    if (event !== undefined) yield event;
    else {
      session.takeOutput().forEach((bytes) => stream().write(bytes));
      stream().resume();
      const [chunk] = (await once(stream(), "data")) as [Buffer];
      stream().pause();
      session.receive(chunk);
    }
  }
}

/** A running server that has one account for each way to log in. */
async function server(
  installation: PostgresInstallation,
): Promise<{ cluster: PostgresCluster; local: ClientOptions } & AsyncDisposable> {
  const place = await temporaryDirectory();
  const cluster = await PostgresCluster.create({
    installation,
    directory: join(place.path, "pg"),
    port: 0,
    segmentBytes: SEGMENT_BYTES,
    settings: { fsync: "off", ssl: "on", ssl_cert_file: "server.crt", ssl_key_file: "server.key" },
    initdbArguments: ["--no-sync"],
  });
  const owner = await stat(cluster.dataDirectory);
  for (const name of ["server.crt", "server.key"]) {
    const copy = join(cluster.dataDirectory, name);
    await copyFile(fixture(name), copy);
    await chmod(copy, 0o600);
    await chown(copy, owner.uid, owner.gid);
  }
  await writeFile(join(cluster.dataDirectory, "pg_hba.conf"), HBA);
  await cluster.start();
  const local: ClientOptions = { path: cluster.socketDirectory, port: cluster.port, user: "postgres" };
  await using admin = await connect(local);
  await admin.query("CREATE ROLE trusted LOGIN");
  for (const [user, encryption] of [
    ["clear", "scram-sha-256"],
    ["scram", "scram-sha-256"],
    ["tlsonly", "scram-sha-256"],
    ["md5user", "md5"],
  ] as const) {
    await admin.query(`SET password_encryption = '${encryption}'`);
    await admin.query(`CREATE ROLE ${user} LOGIN PASSWORD ${quoteLiteral(PASSWORD)}`);
  }
  return {
    cluster,
    local,
    async [Symbol.asyncDispose]() {
      await cluster[Symbol.asyncDispose]();
      await place[Symbol.asyncDispose]();
    },
  };
}

for (const flavour of ["system", "embedded"] as const) {
  const { installation, skip } = postgresOrSkip(flavour);

  describe.skipIf(skip !== "")(`PostgreSQL (${flavour}) ${skip}`, () => {
    // Aim: every authentication method PostgreSQL may ask for ends in a usable connection, with and without TLS, and
    // a wrong password in a server error. Method: one account per method in pg_hba.conf; pg_stat_ssl tells about TLS.
    test("logs in by trust, cleartext, md5, SCRAM and SCRAM with channel binding", async () => {
      if (installation === undefined) return;
      await using running = await server(installation);
      const tcp = { host: "127.0.0.1", port: running.cluster.port, database: "postgres" };
      const verified = { ca: readFileSync(fixture("server.crt")), servername: "localhost" };
      for (const ssl of ["disable", "prefer", "require", verified] as const) {
        for (const user of ["trusted", "clear", "md5user", "scram", "tlsonly"]) {
          if (user === "tlsonly" && ssl === "disable") continue;
          await using client = await connect({
            ...tcp,
            user,
            password: () => Promise.resolve(PASSWORD),
            ssl,
          });
          const [result] = await client.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
          expect(result?.rows, `${user} ${JSON.stringify(ssl)}`).toEqual([[ssl === "disable" ? "f" : "t"]]);
          expect(Math.floor(client.serverVersion / 10_000)).toBe(installation.major);
        }
      }
      for (const user of ["clear", "md5user", "scram"]) {
        const login = connect({ ...tcp, user, password: "wrong" });
        await expect(login).rejects.toMatchObject({ code: "ERR_WIRE_SERVER", sqlstate: "28P01" });
      }
      await expect(connect({ ...tcp, user: "scram" })).rejects.toMatchObject({ code: "ERR_WIRE_AUTH" });
      const unverifiable = connect({ ...tcp, user: "trusted", ssl: { servername: "localhost" } });
      await expect(unverifiable).rejects.toMatchObject({ code: "ERR_WIRE_TLS" });
    });

    // Aim: over TLS the login really is bound to the channel. Method: drive a session by hand and give it the binding
    // of another certificate; a server only notices that if the client chose SCRAM-SHA-256-PLUS.
    test("refuses a login that is bound to another certificate", async () => {
      if (installation === undefined) return;
      await using running = await server(installation);
      const socket = connectNet(running.cluster.port, "127.0.0.1");
      const parameters = new Map([["user", "scram"]]);
      const session = new ClientSession({ parameters, askTls: true, nonce: "fixed+nonce" });
      let stream: Duplex = socket;
      const send = (): void => session.takeOutput().forEach((bytes) => stream.write(bytes));
      send();
      for await (const event of events(session, () => stream)) {
        if (event.type === "tls") {
          stream = connectTls({ socket, rejectUnauthorized: false });
          await once(stream, "secureConnect");
          session.secured(Buffer.alloc(32, 7));
        } else if (event.type === "password") session.providePassword(PASSWORD);
        else {
          expect(event).toMatchObject({
            type: "error",
            fields: { message: "SCRAM channel binding check failed" },
          });
          break;
        }
        send();
      }
      stream.destroy();
    });

    // Aim: an answer is what the server sent, errors leave the connection usable, a FATAL one ends it with the
    // server's own reason. Method: several statements, NULLs, an error in the middle, pg_terminate_backend.
    test("queries return each statement's result and survive errors", async () => {
      if (installation === undefined) return;
      await using running = await server(installation);
      const notices: string[] = [];
      const url = parseConnectionUrl(
        `${running.cluster.url()}?application_name=${encodeURIComponent("a b/ü")}`,
      );
      await using client = await connect({ ...url, onNotice: (fields) => notices.push(fields.message) });
      const [name] = await client.query("SHOW application_name");
      expect(name?.rows[0]?.[0]).toMatch(/^a b\/(\?\?|\\xc3\\xbc)$/); // the server replaces what is not ASCII
      const results = await client.query(
        "SELECT 1 AS one, NULL AS none; CREATE TABLE t (a int); SELECT 'é' WHERE false",
      );
      expect(results).toEqual([
        { columns: ["one", "none"], rows: [["1", null]], tag: "SELECT 1" },
        { columns: [], rows: [], tag: "CREATE TABLE" },
        { columns: ["?column?"], rows: [], tag: "SELECT 0" },
      ]);
      expect(await client.query("")).toEqual([{ columns: [], rows: [], tag: "" }]);
      await expect(client.query("SELECT 1; SELECT 1/0")).rejects.toMatchObject({
        sqlstate: "22012",
        fields: { severity: "ERROR", message: "division by zero" },
      });
      await client.query("DO $$ BEGIN RAISE NOTICE 'hello'; END $$");
      expect(notices).toEqual(["hello"]);
      const [quoted] = await client.query(`SELECT ${quoteLiteral("a'b\\c")} AS ${quoteIdentifier('x"y')}`);
      expect(quoted).toEqual({ columns: ['x"y'], rows: [["a'b\\c"]], tag: "SELECT 1" });
      await expect(client.query("COPY t FROM STDIN")).rejects.toMatchObject({ sqlstate: "57014" });
      const [mine] = await client.query("SELECT pg_backend_pid()");
      expect(mine?.rows).toEqual([[String(client.processId)]]);
      const death = client.query("SELECT pg_terminate_backend(pg_backend_pid())");
      await expect(death).rejects.toMatchObject({ sqlstate: "57P01", fields: { severity: "FATAL" } });
      await expect(client.query("SELECT 1")).rejects.toMatchObject({ name: "ServerError" });
    });

    // Aim: a physical stream delivers exactly the bytes of the WAL, and ends so that the connection can be used
    // again. Method: stream what a table load wrote, compare with the segment file, CopyDone both ways, query again.
    test("streams WAL byte-exactly and returns to queries after CopyDone", async () => {
      if (installation === undefined) return;
      await using running = await server(installation);
      await using sql = await connect(running.local);
      const position = async (): Promise<Lsn> => {
        const [result] = await sql.query("SELECT pg_current_wal_flush_lsn()");
        return parseLsn(result?.rows[0]?.[0] ?? "");
      };
      await sql.query("CREATE TABLE filler AS SELECT repeat('x', 500) FROM generate_series(1, 20000)");
      const end = await position();
      await using client = await connect({ ...running.local, parameters: { replication: "true" } });
      const [system] = await client.query("IDENTIFY_SYSTEM");
      expect(system?.columns).toEqual(["systemid", "timeline", "xlogpos", "dbname"]);
      const from = segmentStart(segmentNumber(end, SEGMENT_BYTES), SEGMENT_BYTES);
      const segmentName = segmentFileName(1, segmentNumber(end, SEGMENT_BYTES), SEGMENT_BYTES);
      const stream = await client.startCopyBoth(`START_REPLICATION PHYSICAL ${formatLsn(from)} TIMELINE 1`);
      const pieces: Uint8Array[] = [];
      let next: Lsn = from;
      while (next < end) {
        const event = await stream.reader.next();
        if (event.type !== "data") throw new Error(`unexpected ${event.type}`);
        const message = parseReplicationMessage(event.payload);
        if (message.type === "keepalive") continue;
        expect(message.startLsn).toBe(next);
        pieces.push(message.walData);
        next = addBytes(next, message.walData.length);
      }
      await stream.writer.send(
        serializeStandbyStatus({
          writeLsn: next,
          flushLsn: next,
          applyLsn: next,
          timestamp: 0n,
          replyRequested: true,
        }),
      );
      const streamed = Buffer.concat(pieces).subarray(0, Number(distanceBytes(from, end)));
      const file = readFileSync(join(running.cluster.dataDirectory, "pg_wal", segmentName)).subarray(
        0,
        streamed.length,
      );
      expect(streamed.equals(file)).toBe(true);
      const results = await stream.finish();
      expect(results.map((result) => result.tag)).toEqual(["START_STREAMING", "START_REPLICATION"]);
      const [again] = await client.query("IDENTIFY_SYSTEM");
      expect(again?.rows[0]?.[0]).toBe(system?.rows[0]?.[0]);
      await expect(client.startCopyBoth("START_REPLICATION PHYSICAL 0/0 TIMELINE 99")).rejects.toMatchObject({
        name: "ServerError",
      });
      expect((await client.query("IDENTIFY_SYSTEM"))[0]?.tag).toBe("IDENTIFY_SYSTEM");
    });

    // Aim: a server's fast shutdown is seen as its own end of the stream. Method: stop the cluster while a confirmed
    // stream waits; a walsender then sends CommandComplete without CopyDone and closes.
    test("a server that shuts down ends the stream", async () => {
      if (installation === undefined) return;
      await using running = await server(installation);
      await using client = await connect({ ...running.local, parameters: { replication: "true" } });
      const [system] = await client.query("IDENTIFY_SYSTEM");
      const from = system?.rows[0]?.[2] ?? "";
      const stream = await client.startCopyBoth(`START_REPLICATION PHYSICAL ${from} TIMELINE 1`);
      const stopped = running.cluster.stop("fast");
      for (;;) {
        const event = await stream.reader.next();
        if (event.type !== "data") {
          expect(event).toEqual({ type: "done" });
          break;
        }
        const message = parseReplicationMessage(event.payload);
        // Nothing but the one reply that it asks for: it closes once that has come, and a second could find it gone.
        if (message.type !== "keepalive" || !message.replyRequested) continue;
        const lsn = message.endLsn;
        void stream.writer.send(
          serializeStandbyStatus({
            writeLsn: lsn,
            flushLsn: lsn,
            applyLsn: lsn,
            timestamp: 0n,
            replyRequested: false,
          }),
        );
      }
      expect((await stream.finish()).map((result) => result.tag)).toEqual(["COPY 0"]);
      await stopped;
    });
  });
}
