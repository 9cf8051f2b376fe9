/**
 * `millrace` without a subcommand: the all-in-one with its printed addresses, its status line and its signals.
 */
import { AllInOne, StoppedError } from "./all-in-one.js";
import type { AllInOneConfiguration } from "./configuration/all-in-one-options.js";
import { EXIT } from "./errors.js";
import { createLogger } from "./logging.js";
import { installLifetime } from "./parts/lifetime.js";
import { LiveLine, LOG_LINE_MS, REWRITE_MS, statusText } from "./status/status-line.js";

/** What is printed once everything is up. */
function greeting(app: AllInOne): string {
  const rows: [string, string][] = [
    ["psql", app.postgresUrl],
    ...app.places.map((place): [string, string] => [
      `acceptor ${place.id}`,
      `${place.walAddress}   ${place.httpUrl}/v1/status`,
    ]),
    ["status page", app.statusUrl],
    ["data", app.dataDirectory],
  ];
  const lines = rows.map(([name, text]) => `  ${name.padEnd(12)} ${text}`);
  return `\nmillrace is up: ${app.postgresKind}, a commit returns once 2 of 3 acceptors have fsynced it.\n\n${lines.join("\n")}\n\n`;
}

/** Runs the all-in-one until a signal. */
export async function runAllInOne(configuration: AllInOneConfiguration): Promise<number> {
  const { logLevel, logFormat } = configuration;
  // One terminal for both streams: log lines and the status line must know of each other.
  const live = process.stdout.isTTY ? new LiveLine(process.stdout) : undefined;
  const shared = live !== undefined && process.stderr.isTTY;
  const logger = createLogger({
    level: logLevel,
    format: logFormat,
    ...(shared ? { write: (text: string) => live.print(text) } : {}),
  });
  const lifetime = installLifetime();
  logger.info(`starting; data in ${configuration.dataDir}`);
  const app = new AllInOne({ ...configuration, logger });
  lifetime.onSecond(() => {
    void app.kill().finally(() => process.exit(EXIT.interrupted));
  });
  const ended = lifetime.stopped.then(async (reason) => {
    logger.info(`${reason}: ending`);
    await app.stop();
  });
  try {
    await app.start();
  } catch (error) {
    if (!(error instanceof StoppedError)) throw error;
    await ended;
    return EXIT.ok;
  }
  if (live === undefined) process.stdout.write(greeting(app));
  else live.print(greeting(app));
  const timer =
    live === undefined
      ? setInterval(() => logger.info(statusText(app.status())), LOG_LINE_MS)
      : setInterval(() => live.show(statusText(app.status())), REWRITE_MS);
  await lifetime.stopped;
  clearInterval(timer);
  live?.close();
  await ended;
  logger.info("everything has ended");
  return EXIT.ok;
}
