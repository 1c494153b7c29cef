//! The executor over columns in memory: what queries cost besides finding and decoding samples.
//! `cargo bench -p varve-benches --bench exec`
//!
//! 10 000 series of one metric (20 groups), six hours at 15 s: 14.4 million samples.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use varve_model::{Column, Labels, Limits, Matcher, Millis, TenantId, TimeRange};
use varve_query::promql::{ParseOptions, parse};
use varve_query::source::{SeriesSet, Source};
use varve_query::{Budget, Error, Pool, RangeRequest, run};

const SERIES: usize = 10_000;
const STEP: i64 = 15_000;
const END: i64 = 6 * 3_600_000;

/// All series, whatever the matchers.
struct Columns(Arc<Vec<Series>>);

/// Labels, times, values.
type Series = (Labels, Arc<[Millis]>, Arc<[f64]>);

impl Source for Columns {
    fn select(&self, _: TenantId, _: &[Matcher], _: TimeRange, _: u64) -> Result<Arc<dyn SeriesSet>, Error> {
        Ok(Arc::new(Columns(Arc::clone(&self.0))))
    }
}

impl SeriesSet for Columns {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.0[index].0.clone()
    }

    fn read(&self, index: usize, range: TimeRange, column: &mut Column) -> Result<(), Error> {
        column.clear();
        let (_, times, values) = &self.0[index];
        let begin = times.partition_point(|time| *time < range.min);
        let end = times.partition_point(|time| *time <= range.max);
        if begin < end {
            column.times.extend_from_slice(&times[begin..end]);
            column.values.extend_from_slice(&values[begin..end]);
        }
        Ok(())
    }

    fn newest(&self, index: usize, range: TimeRange) -> Option<Option<(Millis, f64)>> {
        let (_, times, values) = &self.0[index];
        let end = times.partition_point(|time| *time <= range.max);
        Some(end.checked_sub(1).map(|at| (times[at], values[at])).filter(|(time, _)| *time >= range.min))
    }
}

fn columns() -> Columns {
    let times: Arc<[Millis]> = (0..=END / STEP).map(|i| i * STEP).collect();
    let series = (0..SERIES).map(|series| {
        let labels = Labels::from([
            ("__name__", "node_cpu_seconds_total"),
            ("cpu", &(series % 64).to_string()),
            ("dc", &format!("dc-{}", series % 3)),
            ("instance", &format!("host-{:04}:9100", series / 20)),
            ("job", "node"),
            ("mode", &format!("mode-{}", series % 20)),
        ]);
        let values = (0..times.len()).map(|i| ((i * (7 + series % 13)) as f64 + (i * series % 17) as f64) / 100.0);
        (labels, Arc::clone(&times), values.collect())
    });
    Columns(Arc::new(series.collect()))
}

fn queries(c: &mut Criterion) {
    let source = columns();
    let budget = || Budget::of_limits(&Limits::default());
    let pool = Pool::new();
    let tenant = TenantId(1);
    let mut group = c.benchmark_group("exec");
    group.sample_size(10).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    let instant = RangeRequest::instant(tenant, END);
    let hours = |hours: i64, step: i64| RangeRequest::range(tenant, END - hours * 3_600_000, END, step);
    for (name, query, request) in [
        ("count", "count(x)", instant.clone()),
        ("count by", "count by (__name__) (x)", instant.clone()),
        ("last by", "sum by (dc) (last_over_time(x[6h]))", instant.clone()),
        ("sum 6h", "sum by (mode) (sum_over_time(x[6h]))", instant.clone()),
        ("avg 6h", "avg by (mode) (avg_over_time(x[6h]))", instant.clone()),
        ("quantile 6h", "max by (mode) (quantile_over_time(0.99, x[6h]))", instant.clone()),
        ("stddev 6h", "max by (mode) (stddev_over_time(x[6h]))", instant.clone()),
        ("topk rate", "topk(5, rate(x[5m]))", instant),
        ("rate 6h", "sum by (mode) (rate(x[5m]))", hours(6, 60_000)),
        ("rate many groups 1h", "sum by (instance) (rate(x[5m]))", hours(1, 60_000)),
        ("subquery", "max by (instance) (max_over_time(rate(x[5m])[1h:1m]))", hours(0, 60_000)),
        ("binary 1h", "sum(x * 2 + on (cpu, instance, mode) group_left x)", hours(1, 60_000)),
    ] {
        let Ok(expr) = parse(query, &ParseOptions::default()) else { panic!("{query} is no query") };
        if let Err(error) = run(&expr, &request, &source, &budget(), &pool) {
            panic!("{query}: {error}");
        }
        group.bench_function(name, |b| b.iter(|| run(black_box(&expr), &request, &source, &budget(), &pool)));
    }
    group.finish();
}

criterion_group!(benches, queries);
criterion_main!(benches);
