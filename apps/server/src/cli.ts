/**
 * The command line: which commands there are, and how an option table becomes flags and a configuration.
 *
 * commander parses and prints help; it decides nothing. Values go raw into configuration/option.ts together with
 * the environment and the file, so that the same rules and the same messages hold for all three. Commands are given in,
 * so that tests parse without running anything.
 */
import { Command, CommanderError, Option } from "commander";

import { ACCEPTOR_OPTIONS } from "./configuration/acceptor-options.js";
import type { AcceptorConfiguration } from "./configuration/acceptor-options.js";
import { ALL_IN_ONE_OPTIONS, DEMO_OPTIONS, STATUS_OPTIONS } from "./configuration/all-in-one-options.js";
import type {
  AllInOneConfiguration,
  DemoConfiguration,
  StatusConfiguration,
} from "./configuration/all-in-one-options.js";
import { BRIDGE_OPTIONS } from "./configuration/bridge-options.js";
import type { BridgeConfiguration } from "./configuration/bridge-options.js";
import { readConfigurationFile } from "./configuration/file.js";
import { flagName, resolveOptions, variableName } from "./configuration/option.js";
import type { OptionSpec, OptionTable } from "./configuration/option.js";
import { SYNC_OPTIONS } from "./configuration/sync-options.js";
import type { SyncConfiguration } from "./configuration/sync-options.js";
import { WALDUMP_OPTIONS } from "./configuration/waldump-options.js";
import type { WaldumpConfiguration } from "./configuration/waldump-options.js";
import { EXIT } from "./errors.js";

/** What the commands do; each gives the process's exit code. */
export interface Commands {
  allInOne(configuration: AllInOneConfiguration): Promise<number>;
  acceptor(configuration: AcceptorConfiguration): Promise<number>;
  bridge(configuration: BridgeConfiguration): Promise<number>;
  demo(configuration: DemoConfiguration): Promise<number>;
  status(configuration: StatusConfiguration): Promise<number>;
  sync(configuration: SyncConfiguration): Promise<number>;
  waldump(configuration: WaldumpConfiguration): Promise<number>;
}

function helpText(key: string, spec: OptionSpec<unknown>): string {
  const { default: value, defaultText } = spec;
  const isPlain = typeof value === "string" || typeof value === "number";
  const fallback = defaultText ?? (isPlain ? String(value) : undefined);
  const parts = [
    ...(fallback === undefined ? [] : [`default: ${fallback}`]),
    `env: ${variableName(key, spec)}`,
  ];
  return `${spec.description} (${parts.join("; ")})`;
}

function addOptions<T extends object>(
  command: Command,
  table: OptionTable<T>,
  environment: NodeJS.ProcessEnv,
  run: (configuration: T) => Promise<number>,
  done: (code: number) => void,
): void {
  const options = new Map<string, Option>();
  for (const [key, spec] of Object.entries<OptionSpec<unknown>>(table)) {
    const name = `--${flagName(key, spec)}`;
    const option = new Option(
      spec.placeholder === undefined ? name : `${name} ${spec.placeholder}`,
      helpText(key, spec),
    );
    options.set(key, option);
    command.addOption(option);
  }
  command.option("--config <file>", "JSON file with these options in camel case (env: MILLRACE_CONFIG)");
  command.action(async () => {
    const given = command.opts<Record<string, unknown>>();
    const flags: Record<string, unknown> = {};
    for (const [key, option] of options) {
      const attribute = option.attributeName();
      if (command.getOptionValueSource(attribute) !== "cli") continue;
      // commander reads --no-x as x = false; our key is noX.
      flags[key] = option.negate ? given[attribute] === false : given[attribute];
    }
    const file = (given["config"] as string | undefined) ?? environment["MILLRACE_CONFIG"];
    const sources = {
      flags,
      environment,
      ...(file === undefined || file === "" ? {} : { file: readConfigurationFile(file) }),
    };
    done(await run(resolveOptions(table, sources)));
  });
}

/**
 * Parses `argv` (without node and script), runs the command and gives the exit code.
 *
 * @throws {ServerError} ERR_SERVER_OPTION, and whatever a command throws; help and commander's own complaints are
 *   printed and give a code
 */
export async function runCommandLine(
  argv: readonly string[],
  environment: NodeJS.ProcessEnv,
  version: string,
  commands: Commands,
): Promise<number> {
  let code: number = EXIT.ok;
  const done = (result: number): void => {
    code = result;
  };
  const program = new Command("millrace")
    .description(
      "A quorum of WAL acceptors for a stock PostgreSQL. Without a command: everything on this machine,\n" +
        "PostgreSQL included, with data in ./millrace-data.",
    )
    .version(version)
    .enablePositionalOptions()
    .showHelpAfterError("(millrace --help shows what there is)");
  addOptions(program, ALL_IN_ONE_OPTIONS, environment, (found) => commands.allInOne(found), done);
  const acceptor = program.command("acceptor").description("run one acceptor in the foreground");
  addOptions(acceptor, ACCEPTOR_OPTIONS, environment, (found) => commands.acceptor(found), done);
  const bridge = program.command("bridge").description("run the bridge of one PostgreSQL in the foreground");
  addOptions(bridge, BRIDGE_OPTIONS, environment, (found) => commands.bridge(found), done);
  const demo = program
    .command("demo")
    .description(
      "run everything under load for a while, kill an acceptor, the bridge and PostgreSQL, and prove that nothing is lost",
    );
  addOptions(demo, DEMO_OPTIONS, environment, (found) => commands.demo(found), done);
  const status = program
    .command("status")
    .description(
      "show terms, positions, lag and who is missing of the millrace that runs on a data directory",
    );
  addOptions(status, STATUS_OPTIONS, environment, (found) => commands.status(found), done);
  const sync = program
    .command("sync")
    .description(
      "bring acceptors into agreement for a failover: fence older bridges, print where the log ends",
    );
  addOptions(sync, SYNC_OPTIONS, environment, (found) => commands.sync(found), done);
  const waldump = program
    .command("waldump")
    .description("print the records of WAL files as pg_waldump does, of PostgreSQL 15 to 18");
  addOptions(waldump, WALDUMP_OPTIONS, environment, (found) => commands.waldump(found), done);
  for (const command of [program, ...program.commands]) command.exitOverride();
  try {
    await program.parseAsync(argv, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  }
  return code;
}
