//! What a query may use is bounded: it is told so at once, and it never takes others down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use varve_model::histogram::{Histogram, Span};
use varve_model::{Labels, Limits, TenantId};
use varve_query::promql::{ParseOptions, parse};
use varve_query::source::memory::{MemorySample, MemorySource};
use varve_query::{Answer, Budget, Error, Pool, RangeRequest, Value, run};

const TENANT: TenantId = TenantId(1);
const DAY: i64 = 86_400_000;

fn source() -> MemorySource {
    let mut source = MemorySource::new();
    for series in 0..20 {
        let labels = Labels::from([("__name__", "x"), ("i", &*series.to_string())]);
        for minute in 0..60 {
            source.push(TENANT, &labels, minute * 60_000, minute as f64);
        }
    }
    source
}

fn ask(query: &str, request: &RangeRequest, budget: &Budget) -> Result<Answer, Error> {
    run(&parse(query, &ParseOptions::default())?, request, &source(), budget, &Pool::new())
}

#[track_caller]
fn check(query: &str, limits: Limits, setting: &str) {
    let request = RangeRequest::range(TENANT, 0, 3_540_000, 60_000);
    assert!(ask(query, &request, &Budget::of_limits(&Limits::default())).is_ok(), "{query} is fine otherwise");
    match ask(query, &request, &Budget::of_limits(&limits)) {
        Err(Error::Limit { setting: named, .. }) => assert_eq!(named, setting, "{query}"),
        other => panic!("{query}: {other:?}"),
    }
}

/// 20 series of 60 histograms of 1000 buckets, 8 kB each.
fn histograms() -> MemorySource {
    let mut source = MemorySource::new();
    for series in 0..20 {
        let labels = Labels::from([("__name__", "h"), ("i", &*series.to_string())]);
        for minute in 0..60 {
            let count = f64::from(minute);
            let histogram = Histogram {
                count: count * 1000.0,
                positive_spans: vec![Span { offset: 0, length: 1000 }],
                positive: vec![count; 1000],
                ..Histogram::default()
            };
            source.push_sample(TENANT, &labels, i64::from(minute) * 60_000, MemorySample::Histogram(histogram));
        }
    }
    source
}

#[test]
fn histograms_are_charged_wherever_they_are_kept() {
    let source = histograms();
    let request = RangeRequest::range(TENANT, 0, 3_540_000, 60_000);
    let ask = |query: &str, bytes: u64| {
        let limits = Limits { query_bytes_max: bytes, ..Limits::default() };
        let expr = parse(query, &ParseOptions::default()).unwrap();
        run(&expr, &request, &source, &Budget::of_limits(&limits), &Pool::new())
    };
    for query in [
        "h",
        "-h",
        "rate(h[5m])",
        "sum_over_time(h[5m])",
        "last_over_time(h[5m:1m])",
        "sum by (i) (h)",
        "avg by (i) (rate(h[5m]))",
        "h + h",
        "h * 2",
        "histogram_quantile(0.5, h * 2)",
    ] {
        assert!(ask(query, 1 << 30).is_ok(), "{query} is fine otherwise");
        let refused = ask(query, 4 << 20);
        assert!(matches!(refused, Err(Error::Limit { setting: "query_bytes_max", .. })), "{query}: {refused:?}");
    }
    assert!(ask("sum(histogram_count(h))", 4 << 20).is_ok(), "totals are small");
}

#[test]
fn every_limit_names_its_setting() {
    let limits = Limits::default;
    check("x", Limits { query_samples_max: 1_000, ..limits() }, "query_samples_max");
    check("sum(rate(x[5m]))", Limits { query_samples_max: 1_000, ..limits() }, "query_samples_max");
    check("x", Limits { query_series_max: 19, ..limits() }, "query_series_max");
    check("x + x", Limits { query_series_max: 39, ..limits() }, "query_series_max");
    check("x", Limits { query_bytes_max: 8 * 20 * 60, ..limits() }, "query_bytes_max");
    check("x", Limits { query_points_max: 20 * 60 - 1, ..limits() }, "query_points_max");
    check("x", Limits { query_steps_max: 58, ..limits() }, "query_steps_max");
    check("sum_over_time(x[10m:1m])", Limits { query_subquery_steps_max: 68, ..limits() }, "query_subquery_steps_max");
}

#[test]
fn steps_of_subqueries_are_counted_before_anything_is_evaluated() {
    for query in [
        "sum_over_time(x[5y:1ms])",
        "x[5y:1ms]",
        "sum_over_time(sum_over_time(x[1m:1ms])[5y:1ms])",
        "sum_over_time(x[1ms:1ms] offset 5y) + max_over_time(vector(1)[9y:1ms])",
    ] {
        let budget = Budget::of_limits(&Limits::default());
        let result = ask(query, &RangeRequest::instant(TENANT, 20_000 * DAY), &budget);
        assert!(matches!(result, Err(Error::Limit { .. })), "{query}: {result:?}");
        assert_eq!(budget.stats().samples, 0, "{query}");
    }
}

#[test]
fn a_query_ends_when_it_is_canceled_or_late() {
    let request = RangeRequest::range(TENANT, 0, 3_540_000, 60_000);
    let canceled = Arc::new(AtomicBool::new(true));
    let budget = Budget::new(&Limits::default(), Box::new(|| false), canceled);
    assert!(matches!(ask("x", &request, &budget), Err(Error::Canceled(_))));
    // The clock is looked at again and again while a query runs.
    let looks = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&looks);
    let budget =
        Budget::new(&Limits::default(), Box::new(move || clock.fetch_add(1, Ordering::Relaxed) >= 3), Arc::default());
    assert!(matches!(ask("sum(x) + sum(x) + sum(x)", &request, &budget), Err(Error::Timeout(_))));
    assert_eq!(looks.load(Ordering::Relaxed), 4);
}

#[test]
fn the_deepest_expression_fits_the_stack() {
    let request = RangeRequest::instant(TENANT, 60_000);
    let budget = Budget::of_limits(&Limits::default());
    let sums = vec!["1"; 500].join(" + ");
    match ask(&sums, &request, &budget).map(|answer| answer.value) {
        Ok(Value::Scalar(sum)) => assert_eq!(sum, 500.0),
        other => panic!("{other:?}"),
    }
    let nested = format!("{}x{}", "abs(".repeat(400), ")".repeat(400));
    match ask(&nested, &request, &budget).map(|answer| answer.value) {
        Ok(Value::Vector(elements)) => assert_eq!(elements.len(), 20),
        other => panic!("{other:?}"),
    }
}

/// What the parser lets through is evaluated, whatever it is nested in; on half the stack that the server gives.
#[test]
fn what_can_be_parsed_can_be_evaluated() {
    let nests = [
        ("(", ")"),
        ("-", ""),
        ("abs(", ")"),
        ("sum by (i) (", ")"),
        ("topk(3, ", ")"),
        ("x ^ ", ""),
        ("", " or x"),
        ("", " * on(i) group_left() x"),
        ("info(", ")"),
        ("label_replace(", ", \"a\", \"b\", \"c\", \"d\")"),
        ("vector(scalar(", "))"),
        ("histogram_quantile(0.5, ", ")"),
        ("max_over_time(", "[1m:1m])"),
        ("timestamp(", ")"),
    ];
    let all = move || {
        let options = ParseOptions::default();
        for (open, close) in nests {
            let nested = |depth: usize| format!("{}x{}", open.repeat(depth), close.repeat(depth));
            let deepest = (1..options.depth_max as usize).rev().find(|depth| parse(&nested(*depth), &options).is_ok());
            let query = nested(deepest.unwrap_or_default());
            assert!(deepest.is_some_and(|depth| depth > 200), "{open}: {deepest:?}");
            for request in [RangeRequest::instant(TENANT, 60_000), RangeRequest::range(TENANT, 0, 60_000, 60_000)] {
                match ask(&query, &request, &Budget::of_limits(&Limits::default())) {
                    Ok(_) | Err(Error::Limit { .. }) => {}
                    Err(error) => panic!("{open}: {error}"),
                }
            }
        }
    };
    std::thread::Builder::new().stack_size(4 << 20).spawn(all).unwrap().join().unwrap();
}

#[test]
fn extreme_times_neither_panic_nor_hang() {
    let budget = Budget::of_limits(&Limits::default());
    for time in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
        for query in
            ["x", "rate(x[5m])", "x offset 1y", "x offset -1y", "x @ 1e9", "sum_over_time(x[10m:1m])", "hour()"]
        {
            let result = ask(query, &RangeRequest::instant(TENANT, time), &budget);
            assert!(!matches!(result, Err(Error::Storage(_))), "{query} at {time}: {result:?}");
        }
    }
}

#[test]
fn long_labels_are_charged() {
    let mut source = MemorySource::new();
    for series in 0..40 {
        let long = format!("{series}{}", "-".repeat(50_000));
        source.push(TENANT, &Labels::from([("__name__", "x"), ("i", &*long)]), 0, 1.0);
    }
    let asks = |query: &str, bytes: u64| {
        let limits = Limits { query_bytes_max: bytes, ..Limits::default() };
        let expr = parse(query, &ParseOptions::default()).unwrap();
        run(&expr, &RangeRequest::instant(TENANT, 0), &source, &Budget::of_limits(&limits), &Pool::new())
    };
    // 40 times 50 kB of labels; matching and relabelling take them once more.
    for (query, fits, exceeds) in [
        ("x", 3 << 20, 1 << 20),
        ("sum by (i) (x)", 12 << 20, 3 << 20),
        ("x + ignoring(j) x", 16 << 20, 6 << 20),
        ("label_replace(x, \"k\", \"$1\", \"i\", \"(.*)\")", 8 << 20, 3 << 20),
    ] {
        assert!(asks(query, fits).is_ok(), "{query} fits");
        assert!(
            matches!(asks(query, exceeds), Err(Error::Limit { setting: "query_bytes_max", .. })),
            "{query} exceeds"
        );
    }
}
