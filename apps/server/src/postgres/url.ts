/**
 * PostgreSQL URLs in logs and on pages: never with their password.
 */

/** Stands for the host that a URL with a login and a unix socket lacks; WHATWG's parser wants one. */
const NO_HOST = "_";

/** Parses a URL of PostgreSQL, with or without a host; undefined when it is none. */
export function parsePostgresUrl(url: string): URL | undefined {
  const text = url.replace(/^(postgres(?:ql)?:\/\/[^/?#]*@)\//, `$1${NO_HOST}/`);
  return /^postgres(ql)?:\/\//.test(text) && URL.canParse(text) ? new URL(text) : undefined;
}

/** The URL without user, password and parameters (a parameter can be a password too). */
export function redactUrl(url: string): string {
  const parsed = parsePostgresUrl(url);
  if (parsed === undefined) return "(not a URL)";
  const host = parsed.host === "" || parsed.host === NO_HOST ? parsed.searchParams.get("host") : parsed.host;
  return `${host ?? ""}${parsed.pathname}`;
}
