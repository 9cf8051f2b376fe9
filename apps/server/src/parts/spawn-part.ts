/**
 * Starts `millrace acceptor` or `millrace bridge` as a child process of the all-in-one.
 *
 * The child runs the same file with the same Node. It gets every option by flag and none of our MILLRACE_*
 * variables, so that what was meant for the all-in-one does not reconfigure its parts; secrets travel in files
 * that only the owner reads, never in arguments or variables that `ps` shows. Its output is piped and logged line by
 * line. The IPC channel is its lifeline: it ends itself when the channel closes, however we ended.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

import { readLines } from "../process-lines.js";
import { relayLine } from "../logging.js";
import type { Logger } from "../logging.js";
import { SUPERVISED_VARIABLE } from "./lifetime.js";
import { isChildMessage } from "./messages.js";
import type { ChildMessage, ExpectEndMessage, StopMessage } from "./messages.js";
import type { ChildEvents, RunningChild } from "./supervisor.js";

/**
 * libuv's default of 4 threads lets one slow fsync starve everything else that needs a thread (other timelines,
 * name look-ups).
 */
const THREAD_POOL_SIZE = 16;

/** What to start and where its news go. */
export interface PartOptions {
  readonly name: string;
  /** The subcommand and its flags. */
  readonly args: readonly string[];
  readonly logger: Logger;
  readonly onMessage: (message: ChildMessage) => void;
}

/** The built command: this very file once bundled, the build's result when run from the sources (tests). */
export function commandFile(): string {
  const here = fileURLToPath(import.meta.url);
  return here.endsWith(".ts") ? fileURLToPath(new URL("../../dist/main.js", import.meta.url)) : here;
}

/** A command line: the subcommand and one flag for each entry. */
export function partArguments(command: string, options: Readonly<Record<string, string>>): string[] {
  return [command, ...Object.entries(options).flatMap(([flag, value]) => [`--${flag}`, value])];
}

/** The environment of a child: ours without what configures this process. */
export function childEnvironment(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept = Object.entries(environment).filter(([name]) => !/^(MILLRACE_|PG)/.test(name));
  return {
    UV_THREADPOOL_SIZE: String(THREAD_POOL_SIZE),
    ...Object.fromEntries(kept),
    [SUPERVISED_VARIABLE]: String(process.pid),
  };
}

/** Starts one part; its ready message, its end and everything else are reported through `events` and `onMessage`. */
export function spawnPart(options: PartOptions, events: ChildEvents): RunningChild {
  const { logger } = options;
  const child = spawn(process.execPath, [...process.execArgv, commandFile(), ...options.args], {
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    serialization: "advanced",
    env: childEnvironment(process.env),
  });
  if (child.stdout !== null) readLines(child.stdout, (line) => relayLine(logger, line));
  if (child.stderr !== null) readLines(child.stderr, (line) => relayLine(logger, line));
  child.on("message", (message: unknown) => {
    if (!isChildMessage(message)) {
      logger.warn({ message }, `${options.name} sent a message that is not understood`);
      return;
    }
    if (message.type === "ready") events.ready();
    options.onMessage(message);
  });
  child.once("error", (error) => {
    events.ended(error.message, undefined);
  });
  child.once("exit", (code, signal) => {
    events.ended(signal === null ? `exit code ${code}` : `signal ${signal}`, code ?? undefined);
  });
  const send = (message: StopMessage | ExpectEndMessage): void => {
    // A child that is just ending has no channel any more; its exit is on the way.
    if (child.connected) child.send(message, () => undefined);
  };
  return {
    pid: child.pid,
    requestStop() {
      send({ type: "stop" });
    },
    expectEnd() {
      send({ type: "expect-end" });
    },
    kill() {
      child.kill("SIGKILL");
    },
  };
}
