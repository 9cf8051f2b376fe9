/**
 * What can be wrong with a pagestream, and which of it ends the stream.
 */

export type PagestreamErrorCode =
  | "ERR_PAGESTREAM_FRAME" // bytes that are no message of the protocol; ends the stream
  | "ERR_PAGESTREAM_REQUEST" // positions that make no sense, or that are not kept any more; an answer
  | "ERR_PAGESTREAM_COMMAND" // a command that is none, or has wrong arguments; an answer
  | "ERR_PAGESTREAM_REMOTE" // the other side answered with an error
  | "ERR_PAGESTREAM_CLOSED"; // the stream is over

/** Any expected failure of this package. Compare `code`. */
export class PagestreamError extends Error {
  override readonly name = "PagestreamError";
  readonly code: PagestreamErrorCode;

  constructor(code: PagestreamErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/**
 * What a page source throws where the stream cannot go on: it is shutting down, or the timeline is served elsewhere now. Any
 * other error of a source is the answer to one request.
 */
export class StreamEnd extends Error {
  override readonly name = "StreamEnd";
}
