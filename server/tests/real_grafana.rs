//! Grafana's own data source, the npm package `@grafana/prometheus`, driven in node against a running server: every
//! flow of metadata and queries it has (`clients/grafana.cjs`).
//!
//! The packages (300 MB) are installed once below `target/clients`. Skips loudly where node or the packages cannot be had.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod house;

use std::process::Command;

use house::real::{node, run};
use house::{directory, now_ms, start};
use varve_model::histogram::Span;
use varve_model::write::{Metadata, MetricType};
use varve_model::{Histogram, WriteBatch};

const PACKAGES: [&str; 7] = [
    "@grafana/prometheus@13.1.4",
    "@grafana/data@13.1.1",
    "@grafana/schema@13.1.1",
    "@grafana/i18n@13.1.1",
    "@grafana/e2e-selectors@13.1.1",
    "react@18.3.1",
    "react-dom@18.3.1",
];

/// An hour before `end` (milliseconds), a sample every 15 s.
fn data(end: i64) -> WriteBatch {
    let mut batch = WriteBatch::default();
    let times = || (0..=240i64).map(move |i| (i, end - 3_600_000 + i * 15_000));
    let mut counter = |labels: &[(&str, &str)], speed: f64| {
        batch.push_series(labels.iter().copied());
        for (i, time) in times() {
            batch.push_sample(time, i as f64 * speed);
        }
    };
    for job in ["api", "web"] {
        for instance in ["i1", "i2"] {
            for (code, speed) in [("200", 30.0), ("500", 1.0)] {
                let labels = [("__name__", "requests_total"), ("job", job), ("instance", instance), ("code", code)];
                counter(&labels, speed);
            }
        }
        for (le, speed) in [("0.1", 10.0), ("1", 20.0), ("+Inf", 31.0)] {
            counter(&[("__name__", "latency_bucket"), ("job", job), ("le", le)], speed);
        }
        counter(&[("__name__", "latency_count"), ("job", job)], 31.0);
        counter(&[("__name__", "latency_sum"), ("job", job)], 12.5);
    }
    counter(&[("__name__", "my.metric"), ("http.status:code", "200")], 1.0);
    batch.push_series([("__name__", "native"), ("job", "api")].into_iter());
    for (i, time) in times() {
        let grown = (i + 1) as f64;
        batch.push_histogram(
            time,
            Histogram {
                schema: 2,
                count: 4.0 * grown,
                sum: 5.0 * grown,
                zero_threshold: 0.001,
                zero_count: grown,
                positive_spans: vec![Span { offset: 0, length: 2 }],
                positive: vec![grown, 2.0 * grown],
                ..Histogram::default()
            },
        );
    }
    batch.series.push(batch.series.first().unwrap().clone());
    let series = batch.series.last_mut().unwrap();
    series.samples = 0..0;
    batch.push_exemplar([("trace_id", "abc123")].into_iter(), end - 60_000, 0.7);
    for (family, kind, help) in [
        ("requests_total", MetricType::Counter, "Requests served."),
        ("latency", MetricType::Histogram, "Latency in seconds."),
    ] {
        batch.metadata.push(Metadata { family: family.into(), kind, help: help.into(), unit: String::new() });
    }
    batch
}

#[test]
fn every_flow_of_grafanas_data_source_works() {
    let Some(modules) = node("grafana", &PACKAGES) else { return };
    let dir = directory();
    let house = start(dir.path(), &[]);
    let end = now_ms() / 15_000 * 15_000;
    let answer = house.write(&data(end));
    assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/grafana.cjs");
    let url = format!("http://{}", house.address);
    let said = run(Command::new("node").arg(script).args([&url, &format!("{}", end / 1000)]).env("NODE_PATH", modules));
    println!("{said}");
    for kind in ["query", "query_range", "query_exemplars", "labels", "series"] {
        assert!(said.contains(&format!("POST /api/v1/{kind}")), "{kind} was not called: {said}");
    }
    for kind in ["metadata", "rules", "label/job/values", "label/U__http_2e_status:code/values", "status/buildinfo"] {
        assert!(said.contains(&format!("GET /api/v1/{kind}")), "{kind} was not called: {said}");
    }
}
