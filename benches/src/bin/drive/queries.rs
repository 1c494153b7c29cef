//! The queries: what dashboards ask, and scans that only a benchmark asks; each once to warm up and then some times.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};

use crate::data::END_MS;
use crate::http::{Client, encode};
use crate::process;

/// What is asked.
enum Ask {
    /// At the end of the data.
    Instant,
    /// Seconds back from the end, step.
    Range(i64, i64),
    /// Values of a label over six hours.
    Values,
    /// Label sets over six hours.
    Series,
}

use Ask::{Instant as At, Range, Series, Values};

const HOUR: i64 = 3600;

/// What the table calls it, what is asked, and how.
const QUERIES: [(&str, &str, Ask); 28] = [
    ("one series, instant", r#"node_load1{instance="host-0003:9100"}"#, At),
    ("one host (500 series), instant", r#"{instance="host-0003:9100"}"#, At),
    ("one series, 6 h", r#"node_load1{instance="host-0003:9100"}"#, Range(6 * HOUR, 15)),
    (
        "`rate` of one series, 6 h, 60 s",
        r#"rate(node_network_receive_bytes_total{instance="host-0003:9100",device="eth0"}[5m])"#,
        Range(6 * HOUR, 60),
    ),
    ("`sum by (mode) (rate(…[5m]))`, 1 h, 60 s", "sum by (mode) (rate(node_cpu_seconds_total[5m]))", Range(HOUR, 60)),
    (
        "`sum by (mode) (rate(…[5m]))`, 6 h, 60 s",
        "sum by (mode) (rate(node_cpu_seconds_total[5m]))",
        Range(6 * HOUR, 60),
    ),
    (
        "`topk(5, 1 - avg by (instance) (rate(…[5m])))`",
        r#"topk(5, 1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m])))"#,
        At,
    ),
    ("`topk(10, …)`", "topk(10, node_filesystem_avail_bytes)", At),
    (
        "`sum by (device) (rate(…{instance=~…, device!~…}[5m]))`, 1 h",
        r#"sum by (device) (rate(node_network_receive_bytes_total{instance=~"host-00[0-4].*",device!~"lo|docker.*"}[5m]))"#,
        Range(HOUR, 60),
    ),
    (
        "`histogram_quantile` over `sum by (le, dc)`, 6 h",
        "histogram_quantile(0.95, sum by (le, dc) (rate(http_request_duration_seconds_bucket[5m])))",
        Range(6 * HOUR, 60),
    ),
    (
        "`sum by (handler, le) (rate(…[5m]))`, 6 h, 60 s",
        "sum by (handler, le) (rate(http_request_duration_seconds_bucket[5m]))",
        Range(6 * HOUR, 60),
    ),
    (
        "`count by (__name__) ({__name__=~…})`",
        r#"count by (__name__) ({__name__=~"node_(network|disk)_.+_bytes_total"})"#,
        At,
    ),
    ("`count({job=~\".+\"})`, all series", r#"count({job=~".+"})"#, At),
    ("`count by (__name__) ({job=~\".+\"})`, all series", r#"count by (__name__) ({job=~".+"})"#, At),
    ("`avg_over_time(…[6h])`, 32 series a host", "avg by (mode) (avg_over_time(node_cpu_seconds_total[6h]))", At),
    (
        "`sum_over_time(…[6h])`, 46 series a host",
        "sum by (collector) (sum_over_time(node_scrape_collector_duration_seconds[6h]))",
        At,
    ),
    (
        "`quantile_over_time(0.99, …[6h])`, 46 series a host",
        "max by (collector) (quantile_over_time(0.99, node_scrape_collector_duration_seconds[6h]))",
        At,
    ),
    (
        "sum of three `sum_over_time(…[6h])`, 100 series a host",
        "sum(sum_over_time(node_cpu_seconds_total[6h])) + sum(sum_over_time(node_scrape_collector_success[6h])) \
         + sum(sum_over_time(http_request_duration_seconds_bucket[6h]))",
        At,
    ),
    ("`last_over_time({job=~\".+\"}[6h])`, all samples", r#"sum by (dc) (last_over_time({job=~".+"}[6h]))"#, At),
    ("`stddev_over_time(…[1h])`, 3 h, 300 s", "avg(stddev_over_time(node_load1[1h]))", Range(3 * HOUR, 300)),
    (
        "subquery `max_over_time(rate(…)[1h:1m])`",
        r#"max by (instance) (max_over_time(rate(node_network_transmit_bytes_total{device="eth0"}[5m])[1h:1m]))"#,
        At,
    ),
    // The name is dropped, so series of several names become one: Prometheus refuses, victoria-metrics answers.
    ("`count_over_time({job=~\".+\"}[6h])`", r#"sum(count_over_time({job=~".+"}[6h]))"#, At),
    ("`sum_over_time` over several names", r#"sum by (dc) (sum_over_time({job="node",__name__=~"node_.+"}[6h]))"#, At),
    (
        "`avg_over_time` over several names",
        r#"sum by (dc) (avg_over_time({job="node",__name__=~"node_.+"}[5m]))"#,
        Range(6 * HOUR, 300),
    ),
    ("`label/instance/values`", "instance", Values),
    ("`label/__name__/values`", "__name__", Values),
    ("`series` of one host over 6 h", r#"{instance="host-0003:9100"}"#, Series),
    ("`series` of one name over 6 h", "node_load1", Series),
];

fn path(expression: &str, ask: &Ask) -> String {
    let (end, text) = (END_MS / 1000, encode(expression));
    let six_hours = end - 6 * HOUR;
    // `nocache` keeps victoria-metrics from answering a range out of its cache of answers; the others ignore it.
    match ask {
        At => format!("/api/v1/query?query={text}&time={end}&nocache=1"),
        Range(back, step) => {
            format!("/api/v1/query_range?query={text}&start={}&end={end}&step={step}&nocache=1", end - back)
        }
        Values => format!("/api/v1/label/{expression}/values?start={six_hours}&end={end}"),
        Series => format!("/api/v1/series?match%5B%5D={text}&start={six_hours}&end={end}"),
    }
}

/// Asks all queries `runs` times each when warm; gives figures and answers.
pub(crate) fn ask_all(url: &str, pid: u32, runs: u32) -> Value {
    let mut client = Client::connect(url);
    let mut all = Vec::new();
    for (title, expression, ask) in &QUERIES {
        let path = path(expression, ask);
        let mut once = || {
            let at = Instant::now();
            let (status, body) = client.request("GET", &path, "", b"");
            (at.elapsed().as_secs_f64() * 1000.0, status, body)
        };
        let (first, status, body) = once();
        let answer = if status == 200 { points(&body) } else { Err(error(status, &body)) };
        let (cpu, _) = process::usage(pid);
        let mut times: Vec<f64> = if answer.is_ok() { (0..runs).map(|_| once().0).collect() } else { Vec::new() };
        let (cpu_end, _) = process::usage(pid);
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied().unwrap_or(first);
        all.push(json!({
            "title": title,
            "first_ms": first,
            "median_ms": median,
            "cpu_ms": (cpu_end - cpu) * 1000.0 / f64::from(runs.max(1)),
            "error": answer.as_ref().err(),
            "points": answer.as_ref().ok(),
        }));
        let told = answer.map_or_else(|error| error, |points| format!("{} points", points.len()));
        println!("{first:>10.1} ms first {median:>10.1} ms median  {title}: {told}");
    }
    let (_, peak) = process::usage(pid);
    json!({ "queries": all, "peak_mib": peak })
}

fn error(status: u16, body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = json["error"].as_str().map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    format!("{status}: {}", text.chars().take(200).collect::<String>())
}

/// An answer as values by label set and time; names of labels and series have no value.
fn points(body: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let json: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let mut out = BTreeMap::new();
    let mut put = |labels: &str, point: &Value| {
        let (time, value) = (point[0].as_f64().unwrap_or_default(), point[1].as_str().unwrap_or_default());
        out.insert(format!("{labels} {time}"), value.to_owned());
    };
    // Maps of this library are sorted, so equal label sets print alike.
    match &json["data"] {
        Value::Array(items) => items.iter().for_each(|item| {
            out.insert(item.to_string(), String::new());
        }),
        data => {
            let series = data["result"].as_array().ok_or("no result")?;
            for series in series {
                let labels = series["metric"].to_string();
                match &series["values"] {
                    Value::Array(values) => values.iter().for_each(|point| put(&labels, point)),
                    _ => put(&labels, &series["value"]),
                }
            }
        }
    }
    if out.is_empty() { Err("nothing; was the data loaded?".to_owned()) } else { Ok(out) }
}
