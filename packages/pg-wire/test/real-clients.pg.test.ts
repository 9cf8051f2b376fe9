/**
 * The server side against PostgreSQL's own clients: psql for the login and queries, pg_receivewal for a stream.
 */
import { once } from "node:events";
import { chmod, mkdir, readFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { createPublicKey, generateKeyPairSync, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { addBytes, formatLsn, parseLsn } from "@millrace/lsn";
import {
  postgresOrSkip,
  runPostgresTool,
  spawnIdentity,
  temporaryDirectory,
} from "@millrace/postgres-process";
import { describe, expect, test } from "vitest";
import {
  acceptConnection,
  jwtAuthenticator,
  parseStandbyMessage,
  serializeXLogDataHeader,
} from "../src/index.js";
import type { AcceptOptions, ServerConnection } from "../src/index.js";

const SEGMENT_BYTES = 1024 * 1024;
const START = parseLsn("0/1000000");
const fixture = (name: string): Buffer => readFileSync(join(import.meta.dirname, "fixtures", name));

/** A listener that runs `serve` for each connection and keeps what was thrown. */
async function listen(
  options: AcceptOptions,
  serve: (connection: ServerConnection) => Promise<void>,
): Promise<{ port: number; failures: unknown[]; closed(): Promise<void> } & AsyncDisposable> {
  const failures: unknown[] = [];
  const running: Promise<void>[] = [];
  const handle = async (socket: Socket): Promise<void> => {
    try {
      const connection = await acceptConnection(socket, options);
      if (connection === undefined) return;
      await serve(connection);
      await connection.close();
    } catch (error) {
      failures.push(error);
    }
  };
  const listener = createServer({ allowHalfOpen: true }, (socket) => running.push(handle(socket)));
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const closed = async (): Promise<void> => {
    listener.close();
    await Promise.all(running);
  };
  return { port: (listener.address() as AddressInfo).port, failures, closed, [Symbol.asyncDispose]: closed };
}

const settings: Readonly<Record<string, string>> = { wal_segment_size: "1MB", data_directory_mode: "0700" };

async function answer(connection: ServerConnection, query: string): Promise<void> {
  const setting = /^SHOW (\w+);?$/i.exec(query)?.[1];
  if (query === "") await connection.sendEmptyQueryResponse();
  else if (setting !== undefined) {
    await connection.sendRows([{ name: setting }], [[settings[setting] ?? null]], "SHOW");
  } else if (query === "IDENTIFY_SYSTEM") {
    const columns = [
      { name: "systemid" },
      { name: "timeline", type: "int4" },
      { name: "xlogpos" },
      { name: "dbname" },
    ] as const;
    await connection.sendRows(
      columns,
      [["7000000000000000001", "1", formatLsn(START), null]],
      "IDENTIFY_SYSTEM",
    );
  } else
    await connection.sendError({ severity: "ERROR", code: "42601", message: `no such command: ${query}` });
}

async function commandLoop(connection: ServerConnection): Promise<void> {
  for (let query = await connection.readQuery(); query !== undefined; query = await connection.readQuery()) {
    await answer(connection, query);
    await connection.sendReadyForQuery();
  }
}

const { installation, skip } = postgresOrSkip("system");

describe.skipIf(skip !== "")(`clients of the system's PostgreSQL ${skip}`, () => {
  const psql = async (
    conninfo: string,
    ...commands: readonly string[]
  ): Promise<{ stdout: string; stderr: string }> => {
    if (installation === undefined) throw new Error("no installation");
    const args = commands.flatMap((command) => ["-c", command]);
    const environment = { HOME: "/nonexistent" }; // no certificates and passwords of whoever runs the tests
    return await runPostgresTool(installation, "psql", ["-X", "-A", "-t", "-w", conninfo, ...args], {
      environment,
    });
  };

  // Aim: libpq logs in, asks and understands. Method: psql with its default sslmode, options with escaped blanks.
  test("psql logs in, queries, and sees errors", async () => {
    let options: ReadonlyMap<string, string> = new Map();
    await using listening = await listen({ serverVersion: "15.0" }, (connection) => {
      options = connection.options;
      return commandLoop(connection);
    });
    const conninfo = `host=127.0.0.1 port=${listening.port} user=u dbname=d options='-c timeline_id=ab tenant_id=c\\\\ d'`;
    const { stdout, stderr } = await psql(
      conninfo,
      "SHOW wal_segment_size",
      "nonsense",
      "SHOW data_directory_mode",
    );
    expect(stdout).toBe("1MB\n0700\n");
    expect(stderr).toContain("ERROR:  no such command: nonsense");
    expect(Object.fromEntries(options)).toEqual({ timeline_id: "ab", tenant_id: "c d" });
    await listening.closed();
    expect(listening.failures).toEqual([]);
  });

  // Aim: TLS through libpq, and its refusal in clear. Method: psql with sslmode require, verify-full and disable.
  test("psql speaks TLS and is refused without", async () => {
    const tls = { key: fixture("server.key"), cert: fixture("server.crt") };
    await using listening = await listen({ tls }, commandLoop);
    const conninfo = `host=localhost hostaddr=127.0.0.1 port=${listening.port} user=u`;
    expect((await psql(`${conninfo} sslmode=require`, "SHOW wal_segment_size")).stdout).toBe("1MB\n");
    expect((await psql(`${conninfo} sslmode=disable`, "SHOW wal_segment_size")).stderr).toContain(
      "must connect with TLS",
    );
    await listening.closed();
    expect(listening.failures).toEqual([expect.objectContaining({ code: "ERR_WIRE_TLS" })]);
  });

  // Aim: a token as libpq's password. Method: psql with a good and a bad one in the connection string.
  test("psql logs in with a JWT as its password", async () => {
    const { publicKey, privateKey } = generateKeyPairSync("ed25519");
    const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const signed = `${part({ alg: "EdDSA" })}.${part({ scope: "safekeeperdata" })}`;
    const token = `${signed}.${sign(null, Buffer.from(signed), privateKey).toString("base64url")}`;
    const publicKeys = [createPublicKey(publicKey.export({ type: "spki", format: "pem" }))];
    const authenticate = jwtAuthenticator({ publicKeys, allowedScopes: ["safekeeperdata"] });
    await using listening = await listen({ authenticate }, (connection) => {
      expect(connection.identity).toEqual({ scope: "safekeeperdata", tenantId: undefined });
      return commandLoop(connection);
    });
    const conninfo = `host=127.0.0.1 port=${listening.port} user=u`;
    expect((await psql(`${conninfo} password=${token}`, "SHOW wal_segment_size")).stdout).toBe("1MB\n");
    const refused = await psql(`${conninfo} password=${token}x`, "SHOW wal_segment_size");
    expect(refused.stderr).toContain("JWT authentication error");
    await listening.closed();
    expect(listening.failures).toEqual([expect.objectContaining({ code: "ERR_WIRE_AUTH" })]);
  });

  // Aim: a whole stream to a stock client: parameters it insists on, WAL, its status messages, the end. Method: send a
  // made-up segment to pg_receivewal and compare the file it writes.
  test("pg_receivewal receives a segment byte for byte", async () => {
    if (installation === undefined) return;
    await using place = await temporaryDirectory();
    const target = join(place.path, "wal");
    await mkdir(target);
    await chmod(target, spawnIdentity().uid === undefined ? 0o700 : 0o777);
    const wal = Buffer.alloc(SEGMENT_BYTES + 8192);
    for (let index = 0; index < wal.length; index++) wal[index] = (index * 31 + (index >> 8)) & 0xff;
    const end = addBytes(START, wal.length);
    const statuses: string[] = [];
    await using listening = await listen({ serverVersion: "15.0" }, async (connection) => {
      expect(connection.parameters.get("replication")).toBe("true");
      for (
        let query = await connection.readQuery();
        query !== undefined;
        query = await connection.readQuery()
      ) {
        if (!query.startsWith("START_REPLICATION")) {
          await answer(connection, query);
          await connection.sendReadyForQuery();
          continue;
        }
        expect(query).toBe("START_REPLICATION 0/1000000 TIMELINE 1");
        const { reader, writer } = await connection.startCopyBoth();
        for (let offset = 0; offset < wal.length; offset += 128 * 1024) {
          const piece = wal.subarray(offset, offset + 128 * 1024);
          const header = { startLsn: addBytes(START, offset), endLsn: end, timestamp: 0n };
          await writer.send(serializeXLogDataHeader(header), piece);
        }
        for (let event = await reader.next(); ; event = await reader.next()) {
          if (event.type === "data") statuses.push(parseStandbyMessage(event.payload).type);
          else {
            expect(event).toEqual({ type: "done" });
            break;
          }
        }
        await writer.done();
        await connection.sendCommandComplete("START_REPLICATION");
        await connection.sendReadyForQuery();
      }
    });
    const endpos = formatLsn(addBytes(START, SEGMENT_BYTES + 100));
    const args = [
      "-D",
      target,
      "-h",
      "127.0.0.1",
      "-p",
      String(listening.port),
      "-U",
      "u",
      "-w",
      "--no-loop",
    ];
    const result = await runPostgresTool(installation, "pg_receivewal", [...args, `--endpos=${endpos}`]);
    expect(result).toMatchObject({ code: 0 });
    await listening.closed();
    expect(listening.failures).toEqual([]);
    expect(statuses).toContain("standby-status");
    const file = await readFile(join(target, "000000010000000000000010"));
    expect(file.equals(wal.subarray(0, SEGMENT_BYTES))).toBe(true);
  });
});
