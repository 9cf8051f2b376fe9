/**
 * The side that asks: questions in, answers out, matched in their order. No socket here either.
 */
import { PagestreamError } from "./errors.js";
import { encodePagestreamRequest, parsePagestreamResponse } from "./messages.js";
import type {
  PagestreamAnswer,
  PagestreamHeader,
  PagestreamQuestion,
  PagestreamRequest,
  PagestreamVersion,
} from "./messages.js";

/** Positions of a request; the number is the client's. */
export type PagestreamPositions = Omit<PagestreamHeader, "requestId">;

interface Asked {
  readonly request: PagestreamRequest;
  readonly resolve: (answer: PagestreamAnswer) => void;
  readonly reject: (error: Error) => void;
}

/** Answers that are no error, by what was asked. */
export type AnswerTo<K extends PagestreamQuestion["kind"]> = Extract<PagestreamAnswer, { readonly kind: K }>;

export class PagestreamClient {
  readonly #version: PagestreamVersion;
  readonly #send: (message: Buffer) => void;
  readonly #asked: Asked[] = [];
  #nextId = 1n;
  #end: Error | undefined;

  /** @param send takes a request's message, which is the receiver's */
  constructor(version: PagestreamVersion, send: (message: Buffer) => void) {
    this.#version = version;
    this.#send = send;
  }

  /** Questions without an answer. */
  get pending(): number {
    return this.#asked.length;
  }

  /**
   * Asks; several questions may be under way.
   *
   * @throws {PagestreamError} ERR_PAGESTREAM_REMOTE: the answer is an error; ERR_PAGESTREAM_FRAME: it is none, or that of
   *   another question; ERR_PAGESTREAM_CLOSED
   */
  async ask<Q extends PagestreamQuestion>(
    question: Q,
    positions: PagestreamPositions,
  ): Promise<AnswerTo<Q["kind"]>> {
    if (this.#end !== undefined) throw this.#end;
    const requestId = this.#version === 3 ? this.#nextId++ : 0n;
    const request: PagestreamRequest = { ...positions, requestId, question };
    const answer = await new Promise<PagestreamAnswer>((resolve, reject) => {
      this.#asked.push({ request, resolve, reject });
      this.#send(encodePagestreamRequest(request, this.#version));
    });
    if (answer.kind === "error") throw new PagestreamError("ERR_PAGESTREAM_REMOTE", answer.message);
    return answer as AnswerTo<Q["kind"]>;
  }

  /**
   * Takes an answer's message.
   *
   * @param message borrowed for the call
   * @throws {PagestreamError} ERR_PAGESTREAM_FRAME: the stream is of no use any more, and everybody who waits is told
   */
  receive(message: Uint8Array): void {
    try {
      this.#take(message);
    } catch (error) {
      this.close(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
  }

  #take(message: Uint8Array): void {
    const { request, answer } = parsePagestreamResponse(message, this.#version);
    const [asked] = this.#asked;
    if (asked === undefined) throw wrongAnswer("nothing was asked");
    if (request !== undefined) checkEcho(asked.request, request, answer.kind);
    if (answer.kind !== "error" && answer.kind !== asked.request.question.kind) {
      throw wrongAnswer(`${answer.kind} instead of ${asked.request.question.kind}`);
    }
    this.#asked.shift();
    asked.resolve(answer);
  }

  /** The stream is over; everybody who waits gets `reason`. */
  close(reason: Error = new PagestreamError("ERR_PAGESTREAM_CLOSED", "the pagestream is over")): void {
    this.#end ??= reason;
    for (const { reject } of this.#asked.splice(0)) reject(this.#end);
  }
}

/** An answer of version 3 names its question; each part of it must be the one that was asked. */
function checkEcho(asked: PagestreamRequest, echo: PagestreamRequest, kind: PagestreamAnswer["kind"]): void {
  const isSameHeader =
    asked.requestId === echo.requestId &&
    asked.requestLsn === echo.requestLsn &&
    asked.notModifiedSinceLsn === echo.notModifiedSinceLsn;
  if (!isSameHeader || (kind !== "error" && textOf(asked.question) !== textOf(echo.question))) {
    throw wrongAnswer("it names another request");
  }
}

function textOf(question: PagestreamQuestion): string {
  const place = "rel" in question ? Object.values({ ...relParts(question.rel) }) : [];
  const rest = Object.entries(question).filter(([name]) => name !== "rel");
  return `${place.join("/")} ${rest
    .map(([name, value]) => `${name}=${String(value)}`)
    .sort()
    .join(" ")}`;
}

function relParts({
  spc,
  db,
  rel,
  fork,
}: Extract<PagestreamQuestion, { kind: "exists" }>["rel"]): Record<string, number> {
  return { spc, db, rel, fork };
}

function wrongAnswer(problem: string): PagestreamError {
  return new PagestreamError("ERR_PAGESTREAM_FRAME", `not the answer: ${problem}`);
}
