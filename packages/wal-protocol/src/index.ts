/**
 * The public face of the package: messages, their codecs, membership configurations and term histories.
 */
export {
  checkConfiguration,
  EMPTY_CONFIGURATION,
  hasQuorum,
  isJoint,
  isMember,
  majority,
  quorumLsn,
} from "./configuration.js";
export type { Configuration, Member } from "./configuration.js";
export { ProtocolError } from "./errors.js";
export type { ProtocolErrorCode } from "./errors.js";
export { aggregateHotStandby, fullTransactionId, NO_HOT_STANDBY_FEEDBACK } from "./hot-standby.js";
export type { HotStandbyFeedback } from "./hot-standby.js";
export { MAX_APPEND_BYTES } from "./messages.js";
export type {
  AcceptorGreeting,
  AcceptorMessage,
  AppendRequest,
  AppendRequestFields,
  AppendResponse,
  ProposerElected,
  ProposerGreeting,
  ProposerMessage,
  ProtocolVersion,
  VoteRequest,
  VoteResponse,
} from "./messages.js";
export { parsePageserverFeedback, serializePageserverFeedback } from "./pageserver-feedback.js";
export type { PageserverFeedback } from "./pageserver-feedback.js";
export { parseAcceptorMessage, serializeAcceptorMessage } from "./acceptor-message-codec.js";
export {
  appendRequestHeader,
  parseProposerMessage,
  serializeProposerMessage,
} from "./proposer-message-codec.js";
export {
  checkTermHistory,
  compareLogPosition,
  effectiveHistory,
  highestCommonPoint,
  lastLogTerm,
  streamingStart,
} from "./term-history.js";
export type { LogPosition, TermHistory, TermLsn } from "./term-history.js";
