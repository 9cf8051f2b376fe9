/**
 * SQLSTATE codes that a WAL acceptor or its clients send or compare. Names follow PostgreSQL's errcodes.txt; only
 * the codes in use here are listed, as a complete list would be three hundred lines nobody reads.
 */

/** Five-character SQLSTATE values by condition. */
export const SQLSTATE = {
  successfulCompletion: "00000",
  connectionFailure: "08006",
  protocolViolation: "08P01",
  featureNotSupported: "0A000",
  invalidAuthorization: "28000",
  invalidPassword: "28P01",
  syntaxError: "42601",
  insufficientPrivilege: "42501",
  undefinedObject: "42704",
  duplicateObject: "42710",
  objectInUse: "55006",
  objectNotInPrerequisiteState: "55000",
  tooManyConnections: "53300",
  diskFull: "53100",
  configurationLimitExceeded: "53400",
  adminShutdown: "57P01",
  cannotConnectNow: "57P03",
  ioError: "58030",
  undefinedFile: "58P01",
  internalError: "XX000",
  dataCorrupted: "XX001",
} as const;
