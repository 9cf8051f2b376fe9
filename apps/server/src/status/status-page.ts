/**
 * The status page: one HTML document without any external request, live through GET /v1/status.
 *
 * Text only ever reaches the document through `textContent`, so nothing that a process reports can become markup.
 * While the server does not answer, the page says so and keeps the last picture, dimmed. Colours carry no meaning
 * alone: each state is also a word. Light and dark follow the system.
 */

const STYLE = `
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6470; --paper: #f6f7f9; --card: #fff; --line: #dfe3e8;
  --good: #146c43; --bad: #b02a37; --wait: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebef; --soft: #9aa4b0; --paper: #14171b; --card: #1c2026;
  --line: #303740; --good: #5fd39b; --bad: #ff8a94; --wait: #f0be5a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.45 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 3rem; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; justify-content: space-between; }
h1 { font-size: 1.35rem; margin: 0; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
.soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); } .wait { color: var(--wait); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .75rem; margin-top: 1.25rem; }
.figure, .wide { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem; }
.figure b { display: block; font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.wide { padding: 0; overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .5rem 1rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 500; color: var(--soft); font-size: .875rem; } tr:last-child td { border-bottom: 0; }
.number { text-align: right; } .stale .figures, .stale .wide { opacity: .45; }
`;

const SCRIPT = `
"use strict";
const byId = (id) => document.getElementById(id);
const put = (id, text, kind) => { const node = byId(id); node.textContent = text; node.className = kind || ""; };
const bytes = (n) => {
  if (n === null) return "-";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"]; let unit = 0;
  while (n >= 1000 && unit < 4) { n /= 1024; unit += 1; }
  return n.toFixed(unit === 0 || n >= 100 ? 0 : n >= 10 ? 1 : 2) + " " + units[unit];
};
const kind = (state) => ["ready", "running", "active", "elected", "streaming"].includes(state) ? "good"
  : ["stopped", "halted", "ended"].includes(state) ? "bad" : "wait";
const cell = (row, text, className) => {
  const node = document.createElement("td"); node.textContent = text; if (className) node.className = className; row.append(node);
};
const duration = (ms) => {
  const s = Math.floor(ms / 1000), h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
  return h > 0 ? h + " h " + m + " min" : m > 0 ? m + " min " + (s % 60) + " s" : s + " s";
};
function show(s) {
  const all = s.acceptors.length, quorum = Math.floor(all / 2) + 1;
  put("commit", s.bridge.commit_lsn || "-");
  put("lag", bytes(s.commit_lag_bytes));
  put("rate", bytes(s.commit_bytes_per_second) + "/s");
  put("term", s.bridge.term === null ? "-" : String(s.bridge.term));
  put("up", s.acceptors_up + " of " + all, s.acceptors_up === all ? "good" : s.acceptors_up >= quorum ? "wait" : "bad");
  const ok = s.acceptors_up >= quorum && s.bridge.state !== null && s.bridge.commit_lsn !== "0/0";
  put("verdict", ok ? "Commits return once " + quorum + " of " + all + " acceptors have fsynced them."
    : "Commits wait: there is no quorum at the moment.", ok ? "good" : "bad");
  put("uptime", "up " + duration(s.uptime_ms), "soft");
  const parts = [["PostgreSQL", s.postgres.kind, s.postgres.state, s.postgres.address, "", ""],
    ["Bridge", s.bridge.state || "", s.bridge.process.state, "", s.bridge.process.pid, s.bridge.process.restarts]];
  byId("parts").replaceChildren(...parts.map((part) => {
    const row = document.createElement("tr");
    cell(row, part[0]); cell(row, part[1]); cell(row, part[2], kind(part[2])); cell(row, part[3]);
    cell(row, part[4] === null ? "-" : String(part[4]), "number"); cell(row, String(part[5]), "number");
    return row;
  }));
  byId("acceptors").replaceChildren(...s.acceptors.map((a) => {
    const row = document.createElement("tr");
    cell(row, String(a.id)); cell(row, a.wal_address); cell(row, a.process.state, kind(a.process.state));
    cell(row, a.stream || "-", kind(a.stream)); cell(row, a.flush_lsn || "-"); cell(row, bytes(a.lag_bytes), "number");
    cell(row, a.process.pid === null ? "-" : String(a.process.pid), "number"); cell(row, String(a.process.restarts), "number");
    return row;
  }));
}
async function poll() {
  try {
    const answer = await fetch("/v1/status", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(String(answer.status));
    show(await answer.json());
    document.body.className = "";
  } catch {
    document.body.className = "stale";
    put("verdict", "millrace does not answer; the figures are old.", "bad");
  }
  setTimeout(poll, 1000);
}
poll();
`;

/** The whole document. */
export const STATUS_PAGE: string = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>millrace</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<main>
<header><h1>millrace</h1><span id="uptime" class="soft"></span></header>
<p id="verdict" role="status" class="soft">Loading…</p>
<section class="figures" aria-label="Figures">
<div class="figure"><span class="soft">Commit LSN</span><b id="commit">-</b></div>
<div class="figure"><span class="soft">Lag</span><b id="lag">-</b></div>
<div class="figure"><span class="soft">WAL committed</span><b id="rate">-</b></div>
<div class="figure"><span class="soft">Term</span><b id="term">-</b></div>
<div class="figure"><span class="soft">Acceptors up</span><b id="up">-</b></div>
</section>
<h2>Acceptors</h2>
<div class="wide"><table>
<thead><tr><th>Id</th><th>WAL address</th><th>Process</th><th>Stream</th><th>Flush LSN</th><th class="number">Lag</th><th class="number">Pid</th><th class="number">Restarts</th></tr></thead>
<tbody id="acceptors"></tbody>
</table></div>
<h2>PostgreSQL and bridge</h2>
<div class="wide"><table>
<thead><tr><th>Part</th><th>Kind</th><th>State</th><th>Address</th><th class="number">Pid</th><th class="number">Restarts</th></tr></thead>
<tbody id="parts"></tbody>
</table></div>
<p class="soft">The same figures as JSON: <a href="/v1/status">/v1/status</a></p>
</main>
<script>${SCRIPT}</script>
</body>
</html>
`;
