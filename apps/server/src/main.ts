#!/usr/bin/env node
/**
 * The entry of the command `millrace`: runs the command line and ends the process with its code.
 *
 * The process is ended explicitly: a socket or a timer that somebody forgot must not keep a server alive that has
 * said good-bye. Expected failures are printed as one message; anything else is a defect and shows its stack.
 */
import { runAllInOne } from "./all-in-one-command.js";
import { runCommandLine } from "./cli.js";
import { runDemo } from "./demo/demo.js";
import { EXIT, ServerError } from "./errors.js";
import { runAcceptor } from "./parts/acceptor-process.js";
import { runBridge } from "./parts/bridge-process.js";
import { runStatus } from "./status/status-command.js";
import { runSync } from "./sync-command.js";
import { ownVersion } from "./version.js";
import { runWaldump } from "./waldump/waldump-command.js";

async function main(): Promise<number> {
  try {
    return await runCommandLine(process.argv.slice(2), process.env, ownVersion(), {
      allInOne: runAllInOne,
      acceptor: runAcceptor,
      bridge: runBridge,
      demo: runDemo,
      status: runStatus,
      sync: runSync,
      waldump: (configuration) => runWaldump(configuration),
    });
  } catch (error) {
    if (error instanceof ServerError) {
      process.stderr.write(`millrace: ${error.message}\n`);
      return error.exitCode;
    }
    process.stderr.write(
      `millrace: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
    return EXIT.failure;
  }
}

void main().then((code) => process.exit(code));
