/**
 * Metrics in the text format that Prometheus reads (version 0.0.4 of its exposition formats).
 *
 * prom-client writes the text. What is ours gets a registry that lives for one scrape and is filled from a snapshot: no
 * metric is updated on the path of a write, and none of a timeline or an acceptor that has gone is left over. What Node
 * tells of the process (memory, CPU, garbage collection, lateness of the event loop) is in a registry that lives as long
 * as the process, because some of it is sampled.
 *
 * Histograms come as counts: they were made where the work is done, by classes that know nothing of Prometheus. prom-client's
 * own can only observe value by value, so an object in the shape that its registry reads takes their place.
 *
 * Values become JavaScript numbers. An LSN above 2^53 loses its last bits here instead of in the monitoring system,
 * which keeps doubles.
 */
import { collectDefaultMetrics, Counter, Gauge, Registry } from "prom-client";

import type { HistogramMetric, Metric } from "@millrace/wal-acceptor";

type RegistrableMetric = Parameters<Registry["registerMetric"]>[0];

/** What Node tells of this process. */
export type ProcessMetrics = Pick<Registry, "metrics">;

/** Starts to watch this process; once per process. */
export function watchProcess(): ProcessMetrics {
  const register = new Registry();
  collectDefaultMetrics({ register });
  return register;
}

/**
 * The exposition: HELP and TYPE of each metric that has samples, then a line per sample; then what Node tells, where that
 * is given.
 */
export async function expositionText(
  metrics: readonly Metric[],
  processMetrics?: ProcessMetrics,
  histograms: readonly HistogramMetric[] = [],
): Promise<string> {
  const registry = new Registry();
  for (const { name, help, type, samples } of metrics) {
    // prom-client would make up a 0, which is a value that nobody has measured.
    if (samples.length === 0) continue;
    const labelNames = [...new Set(samples.flatMap(({ labels }) => Object.keys(labels)))];
    const options = { name, help, labelNames, registers: [registry] };
    if (type === "counter") {
      const counter = new Counter(options);
      for (const { labels, value } of samples) counter.inc(labels, Number(value));
    } else {
      const gauge = new Gauge(options);
      for (const { labels, value } of samples) gauge.set(labels, Number(value));
    }
  }
  for (const histogram of histograms) registry.registerMetric(registrable(histogram));
  return `${await registry.metrics()}${(await processMetrics?.metrics()) ?? ""}`;
}

interface BucketValue {
  readonly metricName: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

// A registry asks a metric for its name when it is registered, and for everything else when it is written.
function registrable({ name, help, samples }: HistogramMetric): RegistrableMetric {
  const values = samples.flatMap(({ labels, upperBounds, cumulativeCounts, count, sum }): BucketValue[] => {
    const bucket = (le: number | string, value: number): BucketValue => ({
      metricName: `${name}_bucket`,
      labels: { ...labels, le },
      value,
    });
    return [
      ...upperBounds.map((le, index) => bucket(le, cumulativeCounts[index] ?? 0)),
      bucket("+Inf", count),
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: count },
    ];
  });
  const shape = { name, get: () => Promise.resolve({ name, help, type: "histogram", values }) };
  return shape as unknown as RegistrableMetric;
}

/** The answer to a scrape. */
export async function metricsResponse(
  metrics: readonly Metric[],
  processMetrics?: ProcessMetrics,
  histograms: readonly HistogramMetric[] = [],
): Promise<Response> {
  return new Response(await expositionText(metrics, processMetrics, histograms), {
    headers: { "content-type": Registry.PROMETHEUS_CONTENT_TYPE, "cache-control": "no-store" },
  });
}
