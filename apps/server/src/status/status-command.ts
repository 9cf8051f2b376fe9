/**
 * `millrace status`: asks a running all-in-one and each of its acceptors, and prints what they say.
 *
 * The acceptors are asked themselves, because the bridge only knows those that talk to it: one that is up and not
 * connected, or that follows another term, shows here. Nothing is written, and nothing is waited for longer than a
 * moment: an acceptor that hangs is a finding.
 */
import { realpathSync } from "node:fs";

import { formatLsn } from "@millrace/lsn";
import { parseJson, stringifyJson } from "@millrace/wal-acceptor";

import type { StatusConfiguration } from "../configuration/all-in-one-options.js";
import { describeError, EXIT, ServerError } from "../errors.js";
import { fetchText, fetchTimeline } from "../http/acceptor-client.js";
import { readInstance } from "../instance.js";
import { readStatusUrl } from "./status-address.js";
import { commitsReturn, formatStatus, parseStatusDocument } from "./status-report.js";
import type { AcceptorAnswer, StatusPicture } from "./status-report.js";

/** Everything is on this machine and answers from memory. */
const ANSWER_MS = 2000;

function notRunning(dataDir: string, why: string, cause?: unknown): ServerError {
  return new ServerError(
    "ERR_SERVER_NOT_RUNNING",
    `no millrace runs on ${dataDir} (${why}). Start it with: millrace --data-dir ${dataDir}`,
    { cause },
  );
}

/**
 * The present picture of the all-in-one on `dataDir`.
 *
 * @throws {ServerError} ERR_SERVER_NOT_RUNNING, ERR_SERVER_DATA
 */
export async function collectStatus(dataDir: string): Promise<StatusPicture> {
  let directory: string;
  try {
    directory = realpathSync(dataDir);
  } catch (error) {
    throw notRunning(dataDir, "there is no such directory", error);
  }
  const instance = readInstance(directory);
  const url = readStatusUrl(directory);
  if (instance === undefined || url === undefined) throw notRunning(dataDir, "it never ran there");
  let text: string;
  try {
    text = await fetchText(`${url}/v1/status`, { timeoutMs: ANSWER_MS });
  } catch (error) {
    throw notRunning(dataDir, `nothing answers at ${url}`, error);
  }
  const document = readDocument(text);
  if (document?.data_directory !== directory) {
    throw notRunning(dataDir, `${url} belongs to something else now`);
  }
  const answers = await Promise.all(
    document.acceptors.map(async ({ http_url: httpUrl }): Promise<AcceptorAnswer> => {
      try {
        const { tenantId, timelineId } = instance;
        const options = { timeoutMs: ANSWER_MS };
        return { timeline: await fetchTimeline(httpUrl, tenantId, timelineId, options) };
      } catch (error) {
        return { reason: describeError(error) };
      }
    }),
  );
  return { document, answers };
}

function readDocument(text: string): ReturnType<typeof parseStatusDocument> {
  try {
    return parseStatusDocument(parseJson(text));
  } catch {
    return undefined;
  }
}

/** Prints the status; the code is 0 while commits return, 1 while they wait for a quorum or a bridge. */
export async function runStatus(configuration: StatusConfiguration): Promise<number> {
  const picture = await collectStatus(configuration.dataDir);
  const { document, answers } = picture;
  if (configuration.json) {
    const acceptors = document.acceptors.map((acceptor, index) => {
      const answer = answers[index];
      const { timeline } = answer ?? {};
      const own =
        timeline === undefined
          ? { reason: answer?.reason ?? null }
          : {
              term: timeline.term,
              last_log_term: timeline.lastLogTerm,
              commit_lsn: formatLsn(timeline.commitLsn),
              flush_lsn: formatLsn(timeline.flushLsn),
            };
      return { ...acceptor, own };
    });
    const shown = { ...document, acceptors, commits_return: commitsReturn(document) };
    process.stdout.write(`${stringifyJson(shown)}\n`);
  } else {
    process.stdout.write(formatStatus(picture));
  }
  return commitsReturn(document) ? EXIT.ok : EXIT.failure;
}
