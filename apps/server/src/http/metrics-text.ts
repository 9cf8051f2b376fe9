/**
 * Metrics in the text format that Prometheus reads (version 0.0.4 of its exposition formats). Pure.
 */
import type { Metric } from "@millrace/wal-acceptor";

/** The exposition: HELP and TYPE of each metric, then a line per sample. */
export function expositionText(metrics: readonly Metric[]): string {
  const lines: string[] = [];
  for (const { name, help, type, samples } of metrics) {
    lines.push(`# HELP ${name} ${help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`);
    lines.push(`# TYPE ${name} ${type}`);
    for (const { labels, value } of samples) {
      const list = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`);
      lines.push(`${name}${list.length === 0 ? "" : `{${list.join(",")}}`} ${value}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function escapeLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
