//! Queries: text to checked syntax tree and back. `cargo bench -p varve-benches --bench promql`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use varve_query::promql::{ParseOptions, parse, pretty, print};

/// What dashboards ask, from short to long.
const QUERIES: [(&str, &str); 3] = [
    ("rate", "sum by (job) (rate(http_requests_total{status=\"500\"}[5m]))"),
    (
        "quantile",
        "histogram_quantile(0.99, sum by (le, route) (rate(http_request_duration_seconds_bucket{job=\"api\", \
         route!=\"\"}[5m]))) > 0.5 and on (route) sum by (route) (rate(http_requests_total[5m] offset 1h)) > 10",
    ),
    ("regex", "node_cpu_seconds_total{mode=~\"user|system|iowait\", instance=~\"web-[0-9]+:9100\"}"),
];

fn text_and_back(c: &mut Criterion) {
    let options = ParseOptions::default();
    let mut group = c.benchmark_group("promql");
    for (name, query) in QUERIES {
        let Ok(expr) = parse(query, &options) else { panic!("{query} is no query") };
        group.throughput(Throughput::Bytes(query.len() as u64));
        group.bench_function(format!("parse/{name}"), |b| b.iter(|| parse(black_box(query), &options)));
        group.bench_function(format!("print/{name}"), |b| b.iter(|| print(black_box(&expr))));
        group.bench_function(format!("pretty/{name}"), |b| b.iter(|| pretty(black_box(&expr))));
    }
    let long = vec!["sum(rate(a{b=\"c\"}[5m]))"; 400].join(" + ");
    group.throughput(Throughput::Bytes(long.len() as u64));
    group.bench_function("parse/sum of 400", |b| b.iter(|| parse(black_box(&long), &options)));
    group.finish();
}

criterion_group!(benches, text_and_back);
criterion_main!(benches);
