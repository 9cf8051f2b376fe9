/**
 * The body of a request that creates a timeline, checked before anything is believed.
 *
 * Member names are those of Neon's safekeeper API, so that its tools can create timelines here. 64-bit numbers come as
 * JSON numbers of any size (the parser keeps their digits) or as decimal text. Unknown members are ignored: newer
 * tools send more than this version knows.
 */
import { isSegmentBytes, SEGMENT_BYTES_DEFAULT, tryParseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { parseJson } from "@millrace/wal-acceptor";
import type { CreateTimelineRequest } from "@millrace/wal-acceptor";
import type { Configuration, Member } from "@millrace/wal-protocol";
import { z } from "zod";

import { describeError } from "../errors.js";

/** Sixty members with long host names stay far below. */
export const BODY_BYTES_MAX: number = 64 * 1024;

const hexId = z
  .string()
  .regex(/^[0-9a-fA-F]{32}$/, "must be 32 hexadecimal digits")
  .transform((text) => text.toLowerCase());

const u64 = z
  .union([z.number().int(), z.bigint(), z.string().regex(/^\d{1,20}$/)])
  .transform(BigInt)
  .refine((value) => value >= 0n && value < 1n << 64n, "must be an unsigned 64-bit number");

const lsn = z.string().transform((text, context): Lsn => {
  const parsed = tryParseLsn(text);
  if (parsed !== undefined) return parsed;
  context.addIssue({ code: "custom", message: 'must look like "16/B374D848"' });
  return z.NEVER;
});

const member = z
  .looseObject({
    id: u64.refine((id) => id > 0n, "must not be 0"),
    host: z.string().min(1).max(255),
    pg_port: z.number().int().min(1).max(65_535),
  })
  .transform((found): Member => ({ nodeId: found.id, host: found.host, port: found.pg_port }));

const configuration = z
  .looseObject({
    generation: z.number().int().min(0).max(0xffff_ffff),
    members: z.array(member).max(31),
    new_members: z.array(member).max(31).nullish(),
  })
  .transform((found): Configuration => ({
    generation: found.generation,
    members: found.members,
    newMembers: found.new_members ?? [],
  }));

const body = z.looseObject({
  tenant_id: hexId,
  timeline_id: hexId,
  mconf: configuration.optional(),
  pg_version: z.number().int().positive(),
  system_id: u64.optional(),
  wal_seg_size: z
    .number()
    .refine((bytes) => isSegmentBytes(bytes), "must be a power of two from 1 MiB to 1 GiB")
    .optional(),
  start_lsn: lsn,
  commit_lsn: lsn.optional(),
});

/** What is wrong with a body; the message is for the client. */
export class BadRequestError extends Error {
  override readonly name = "BadRequestError";
}

/** 32 hexadecimal digits from a path, in lower case; undefined when it is something else. */
export function parseId(text: string): string | undefined {
  const parsed = hexId.safeParse(text);
  return parsed.success ? parsed.data : undefined;
}

/**
 * Reads a creation request.
 *
 * @throws {BadRequestError} for text that is not JSON or a member that is not allowed, which is named
 */
export function parseTimelineRequest(text: string): CreateTimelineRequest {
  let json: unknown;
  try {
    json = parseJson(text);
  } catch (error) {
    throw new BadRequestError(`the body is not JSON: ${describeError(error)}`);
  }
  const parsed = body.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new BadRequestError(`${issue?.path.join(".") || "the body"}: ${issue?.message ?? "not allowed"}`);
  }
  const found = parsed.data;
  // The acceptor would vote with a log that it does not have.
  if (found.commit_lsn !== undefined && found.commit_lsn > found.start_lsn) {
    throw new BadRequestError("a commit LSN above the start LSN: the new timeline has no WAL in between");
  }
  return {
    tenantId: found.tenant_id,
    timelineId: found.timeline_id,
    ...(found.mconf === undefined ? {} : { configuration: found.mconf }),
    pgVersion: found.pg_version,
    systemId: found.system_id ?? 0n,
    segmentBytes: found.wal_seg_size ?? SEGMENT_BYTES_DEFAULT,
    startLsn: found.start_lsn,
    ...(found.commit_lsn === undefined ? {} : { commitLsn: found.commit_lsn }),
  };
}
