/**
 * How libpq's programs log in to an acceptor, trusted and with a token: what the server reports at login decides
 * whether they go on at all, and under which names they make their temporary slots.
 */
import { generateKeyPairSync, sign } from "node:crypto";
import { once } from "node:events";
import { chown, mkdir, readdir, readFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";

import { parseLsn } from "@millrace/lsn";
import { connect, jwtAuthenticator } from "@millrace/pg-wire";
import {
  postgresOrSkip,
  runPostgresTool,
  spawnIdentity,
  temporaryDirectory,
} from "@millrace/postgres-process";
import { AcceptorNode } from "@millrace/wal-acceptor";
import type { AcceptorNodeOptions } from "@millrace/wal-acceptor";

const SEGMENT_BYTES = 1024 * 1024;
const TENANT = "00000000000000000000000000000001";
const TIMELINE = "00000000000000000000000000000002";
const OPTIONS = `-c tenant_id=${TENANT} timeline_id=${TIMELINE}`;
/** A timeline that begins behind the long header of its first segment. */
const START = parseLsn("0/300028");
const { installation, skip } = postgresOrSkip("system");

/** An acceptor with one timeline, on a free port of this machine. */
class ListeningAcceptor implements AsyncDisposable {
  readonly node: AcceptorNode;
  readonly port: number;
  readonly #stop: () => void;

  private constructor(node: AcceptorNode, port: number, stop: () => void) {
    this.node = node;
    this.port = port;
    this.#stop = stop;
  }

  static async open(
    directory: string,
    pgMajor: number,
    options: Pick<AcceptorNodeOptions, "authenticator"> = {},
  ): Promise<ListeningAcceptor> {
    const onFatal = (error: Error): never => {
      throw error;
    };
    const node = await AcceptorNode.open({ directory, nodeId: 1n, onFatal, ...options });
    await node.timelines.create({
      tenantId: TENANT,
      timelineId: TIMELINE,
      pgVersion: pgMajor * 10_000,
      systemId: 7_000_000_000_000_000_001n,
      segmentBytes: SEGMENT_BYTES,
      startLsn: START,
    });
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      socket.on("error", () => undefined);
      void node.handleConnection(socket);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new ListeningAcceptor(node, (server.address() as AddressInfo).port, () => server.close());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop();
    await this.node.close();
  }
}

const { publicKey, privateKey } = generateKeyPairSync("ed25519");

function token(claims: Readonly<Record<string, unknown>>): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "EdDSA", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${sign(null, Buffer.from(signed), privateKey).toString("base64url")}`;
}

const withToken: Pick<AcceptorNodeOptions, "authenticator"> = {
  authenticator: jwtAuthenticator({ publicKeys: [publicKey], allowedScopes: ["tenant", "safekeeperdata"] }),
};
const good = token({ scope: "tenant", tenant_id: TENANT });
const logins = [
  ["trusted", {}, ""],
  ["with a token", withToken, ` password=${good}`],
] as const;

// Aim: the parameters reported at login satisfy psql and pg_receivewal, whether a token was asked for or not. Method:
// both programs with libpq's defaults; psql also sends the statement with which psycopg2 begins every session. The 40
// bytes that pg_receivewal gets are the header of the first segment; it ends once it is past the position asked for.
test.skipIf(skip !== "").each(logins)(
  "psql and pg_receivewal log in, %s",
  { timeout: 60_000 },
  async (_how, options, password) => {
    if (installation === undefined) return;
    await using directory = await temporaryDirectory();
    const { major } = installation;
    await using acceptor = await ListeningAcceptor.open(join(directory.path, "acceptor"), major, options);
    const conninfo = `host=127.0.0.1 port=${acceptor.port} user=u options='${OPTIONS}'${password}`;

    const statements = ["SET datestyle TO 'ISO'", "TIMELINE_STATUS", "SHOW wal_segment_size"];
    const psql = await runPostgresTool(
      installation,
      "psql",
      ["-X", "-A", "-t", "-w", conninfo, ...statements.flatMap((one) => ["-c", one])],
      { environment: { HOME: "/nonexistent" } },
    );
    expect(psql).toMatchObject({ code: 0, stdout: "SELECT 1\n0/300028|0/300028\n1MB\n", stderr: "" });

    const archive = join(directory.path, "archive");
    await mkdir(archive, { mode: 0o777 });
    const { uid, gid } = spawnIdentity();
    if (uid !== undefined && gid !== undefined) await chown(archive, uid, gid);
    const target = ["--directory", archive, "--dbname", conninfo, "--no-loop", "--no-password"];
    const received = await runPostgresTool(installation, "pg_receivewal", [...target, "--endpos=0/300020"]);
    expect(received).toMatchObject({ code: 0 });
    expect(await readdir(archive)).toEqual(["000000010000000000000003.partial"]);
    const file = await readFile(join(archive, "000000010000000000000003.partial"));
    expect(file.readBigUInt64LE(24)).toBe(7_000_000_000_000_000_001n);
    expect(file.readUInt32LE(32)).toBe(SEGMENT_BYTES);
  },
);

// Aim: a token that is not good for this timeline opens nothing, and the program says so. Method: each kind once.
test.skipIf(skip !== "").each([
  ["no token", "", /no password supplied/],
  ["another key's token", ` password=${good.slice(0, -8)}AAAAAAAA`, /JWT authentication error/],
  ["an expired token", ` password=${token({ scope: "tenant", tenant_id: TENANT, exp: 1 })}`, /JWT/],
  [
    "another tenant's token",
    ` password=${token({ scope: "tenant", tenant_id: "f".repeat(32) })}`,
    /does not give access/,
  ],
] as const)("pg_receivewal with %s gets nothing", { timeout: 60_000 }, async (_what, password, reason) => {
  if (installation === undefined) return;
  await using directory = await temporaryDirectory();
  const { major } = installation;
  await using acceptor = await ListeningAcceptor.open(join(directory.path, "acceptor"), major, withToken);
  const conninfo = `host=127.0.0.1 port=${acceptor.port} user=u options='${OPTIONS}'${password}`;
  const args = ["--slot", "s", "--create-slot", "--dbname", conninfo, "--no-password"];
  const result = await runPostgresTool(installation, "pg_receivewal", args);
  expect(result.code).not.toBe(0);
  expect(result.stderr).toMatch(reason);
  expect(acceptor.node.timelines.get(TENANT, TIMELINE).readers.slots.size).toBe(0);
});

// Aim: standbys that make a temporary slot do not fight for one name. Method: walreceiver names it after the process id
// that the server reported at login; many do so at once, as after a restart of the acceptor, and leave again.
test.each(logins)("standbys name their temporary slots apart, %s", async (_how, options, password) => {
  await using directory = await temporaryDirectory();
  await using acceptor = await ListeningAcceptor.open(join(directory.path, "acceptor"), 15, options);
  const { slots, senders } = acceptor.node.timelines.get(TENANT, TIMELINE).readers;
  const standbys = await Promise.all(
    Array.from({ length: 20 }, () =>
      connect({
        host: "127.0.0.1",
        port: acceptor.port,
        user: "u",
        database: "replication",
        parameters: { replication: "true", options: OPTIONS, application_name: "walreceiver" },
        ...(password === "" ? {} : { password: good }),
      }),
    ),
  );
  const names = standbys.map(({ processId }) => `pg_walreceiver_${processId}`);
  expect(new Set(names).size).toBe(standbys.length);
  expect(names).not.toContain("pg_walreceiver_0");
  await Promise.all(
    standbys.map(async (standby, index) => {
      const command = `CREATE_REPLICATION_SLOT "${names[index]}" TEMPORARY PHYSICAL (RESERVE_WAL)`;
      const [result] = await standby.query(command);
      expect(result?.rows).toEqual([[names[index], "0/0", null, null]]);
    }),
  );
  expect(
    slots
      .list()
      .map(({ name, temporary }) => `${name} ${temporary}`)
      .toSorted(),
  ).toEqual(names.map((name) => `${name} true`).toSorted());
  for (const standby of standbys) await standby.close();
  await acceptor.node.close();
  expect([slots.size, senders.size]).toEqual([0, 0]);
});
