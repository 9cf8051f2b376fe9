/**
 * The public face of @millrace/duplex: bounded channels within one thread (one-way, two-way, merging, for a single
 * value) and between two threads, and the gate that waits for their users at shutdown.
 */
export { CLOSED } from "./ends.js";
export type { CallOptions, Receiver, Sender } from "./ends.js";
export { channel, CHANNEL_CAPACITY_MAX } from "./channel.js";
export { duplex } from "./duplex.js";
export type { DuplexEnd } from "./duplex.js";
export { foldChannel } from "./fold-channel.js";
export type { FoldResult } from "./fold-channel.js";
export { oneshot } from "./oneshot.js";
export type { OneshotReceiver, OneshotSender } from "./oneshot.js";
export { bytesCodec } from "./codec.js";
export type { Codec } from "./codec.js";
export { createSharedDuplex, SHARED_BYTES_MAX, SHARED_SLOTS_MAX } from "./shared-layout.js";
export type { SharedDuplexHandle, SharedDuplexOptions } from "./shared-layout.js";
export { abandonSharedDuplex, attachSharedDuplex } from "./shared-duplex.js";
export type { AttachOptions, CloseReason, SharedDuplexEnd } from "./shared-duplex.js";
export { Gate } from "./gate.js";
export type { GateGuard } from "./gate.js";
export { ChannelClosedError, DuplexError, GateClosedError, MessageTooLargeError } from "./errors.js";
export type { DuplexErrorCode } from "./errors.js";
