/**
 * Who may connect: the interface between a server session and whatever checks its tokens.
 *
 * A token travels where PostgreSQL expects a password (AuthenticationCleartextPassword), which is how Neon's compute
 * hands its JWT to a safekeeper. What a scope may do is decided by the commands, not here.
 */

/** What a verified token says about its bearer. */
export interface Identity {
  /** Such as `tenant` (one tenant's data) or `safekeeperdata` (every tenant's). */
  readonly scope: string;
  /** 32 lower-case hex digits; always present for scope `tenant`. */
  readonly tenantId: string | undefined;
}

/** Checks the password message of a connection. Must not block for long: it runs inside the login. */
export interface Authenticator {
  /**
   * @param token what the peer sent, without the terminating NUL
   * @throws {WireError} ERR_WIRE_AUTH with the reason, which the peer is not told
   */
  verify(token: string): Identity;
}
