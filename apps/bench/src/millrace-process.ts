/**
 * `millrace acceptor` and `millrace bridge` as processes of their own, as their users run them.
 *
 * The children get an IPC channel, which makes them end when this process ends, however it ends, and over which an
 * acceptor tells its real addresses. They get the environment that the all-in-one gives its parts, and the
 * profiling options of this process, so that `node --cpu-prof dist/main.js` profiles them as well. What they print is
 * kept (its end only), for the message of an error.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";

import { BenchError } from "./errors.js";
import { millraceProgram } from "./repository.js";

/** What the all-in-one gives its parts, so that a slow fsync does not starve everything else that needs a thread. */
const THREAD_POOL_SIZE = 16;
/** How long an orderly end may take before the process is killed. */
const STOP_MS = 15_000;
const OUTPUT_KEPT = 4000;

/** A program that was started and will be ended. */
export class Program implements AsyncDisposable {
  readonly name: string;
  readonly child: ChildProcess;
  /** Resolves when the process has ended, with its code or signal. */
  readonly ended: Promise<string>;
  #output = "";

  constructor(name: string, child: ChildProcess) {
    this.name = name;
    this.child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (chunk: Buffer) => {
        this.#output = (this.#output + chunk.toString("utf8")).slice(-OUTPUT_KEPT);
      });
    }
    this.ended = new Promise((resolve) => {
      child.once("error", (error) => resolve(error.message));
      child.once("close", (code, signal) => resolve(code === null ? String(signal) : `code ${code}`));
    });
  }

  /** Rejects when the process ends; for racing against something that needs it alive. */
  async lost(): Promise<never> {
    const how = await this.ended;
    throw new BenchError("ERR_BENCH_PROGRAM", `${this.name} ended (${how}): ${this.#output}`);
  }

  /** Asks the process to end, kills it when that takes long, and waits for its end. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (this.child.connected) this.child.send({ type: "stop" }, () => undefined);
    else this.child.kill(signal);
    const timer = setTimeout(() => this.child.kill("SIGKILL"), STOP_MS);
    await this.ended;
    clearTimeout(timer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

function startPart(name: string, args: readonly string[]): Program {
  const profiling = process.execArgv.filter((option) => /^--(cpu|heap)-prof/.test(option));
  const kept = Object.entries(process.env).filter(([variable]) => !/^(MILLRACE_|PG)/.test(variable));
  const child = spawn(process.execPath, [...profiling, millraceProgram(), ...args], {
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    serialization: "advanced",
    env: {
      UV_THREADPOOL_SIZE: String(THREAD_POOL_SIZE),
      ...Object.fromEntries(kept),
      MILLRACE_PART_OF: String(process.pid),
    },
  });
  return new Program(name, child);
}

/** The first "ready" message of a part. */
async function ready(program: Program): Promise<Readonly<Record<string, unknown>>> {
  const message = new Promise<Readonly<Record<string, unknown>>>((resolve) => {
    const listen = (received: unknown): void => {
      const fields = received as Readonly<Record<string, unknown>> | null;
      if (fields?.["type"] !== "ready") return;
      program.child.off("message", listen);
      resolve(fields);
    };
    program.child.on("message", listen);
  });
  return await Promise.race([message, program.lost()]);
}

/** An acceptor that listens. */
export interface AcceptorProcess extends AsyncDisposable {
  readonly program: Program;
  /** host:port of its WAL port. */
  readonly wal: string;
  /** Base URL of its HTTP API. */
  readonly http: string;
}

/**
 * Starts an acceptor on free ports of the loopback address; resolves once it listens.
 *
 * @throws {BenchError} ERR_BENCH_PROGRAM
 */
export async function startAcceptor(directory: string, id: number): Promise<AcceptorProcess> {
  const program = startPart(`acceptor ${id}`, [
    "acceptor",
    "--data-dir",
    directory,
    "--id",
    String(id),
    "--listen-pg",
    "127.0.0.1:0",
    "--listen-http",
    "127.0.0.1:0",
    "--log-level",
    "warn",
  ]);
  const { listenPg, listenHttp } = await ready(program);
  if (typeof listenPg !== "string" || typeof listenHttp !== "string") {
    await program.stop();
    throw new BenchError("ERR_BENCH_PROGRAM", "the acceptor did not tell its addresses");
  }
  return {
    program,
    wal: listenPg,
    http: `http://${listenHttp}`,
    [Symbol.asyncDispose]: () => program.stop(),
  };
}

/** What a bridge is started with. */
export interface BridgeCommand {
  readonly postgresUrl: string;
  readonly acceptors: readonly AcceptorProcess[];
  /** 32 hexadecimal digits, for tenant and timeline alike. */
  readonly timeline: string;
  readonly applicationName: string;
}

/**
 * Starts a bridge; resolves once the process has connected to PostgreSQL. Whether WAL flows is for PostgreSQL to say.
 *
 * @throws {BenchError} ERR_BENCH_PROGRAM
 */
export async function startBridge(command: BridgeCommand): Promise<Program> {
  const program = startPart(command.applicationName, [
    "bridge",
    "--pg",
    command.postgresUrl,
    "--acceptors",
    command.acceptors.map(({ wal }) => wal).join(","),
    "--acceptor-http",
    command.acceptors.map(({ http }) => http).join(","),
    "--tenant",
    command.timeline,
    "--timeline",
    command.timeline,
    "--application-name",
    command.applicationName,
    "--retain-slot",
    `${command.applicationName}_retain`,
    "--log-level",
    "warn",
  ]);
  await ready(program);
  return program;
}
