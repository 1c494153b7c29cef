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
        // Shared by the steps of a subquery until each has its own.
        "last_over_time((h @ end())[1h:1s])",
    ] {
        assert!(ask(query, 1 << 30).is_ok(), "{query} is fine otherwise");
        let refused = ask(query, 4 << 20);
        assert!(matches!(refused, Err(Error::Limit { setting: "query_bytes_max", .. })), "{query}: {refused:?}");
    }
    assert!(ask("sum(histogram_count(h))", 4 << 20).is_ok(), "totals are small");
}

#[test]
fn range_vectors_that_are_the_answer_stay_charged() {
    let source = histograms();
    let request = RangeRequest::instant(TENANT, 3_540_000);
    let ask = |query: &str, bytes: u64| {
        let limits = Limits { query_bytes_max: bytes, ..Limits::default() };
        let all = Arc::new(AtomicU64::new(0));
        let budget = Budget::sharing(&limits, Box::new(|| false), Arc::default(), Arc::clone(&all));
        let expr = parse(query, &ParseOptions::default()).unwrap();
        let answer = run(&expr, &request, &source, &budget, &Pool::new());
        let held = all.load(Ordering::Relaxed);
        drop(budget);
        assert_eq!(all.load(Ordering::Relaxed), 0, "{query}: all is given back");
        answer.map(|_| held)
    };
    // 1200 histograms of 8 kB, and 20 of them once a second each.
    for (query, bytes) in [("h[1h]", 9 << 20), ("(h @ end())[1m:1s]", 9 << 20)] {
        let held = ask(query, 1 << 30).unwrap();
        assert!(held >= bytes, "{query}: {held} bytes");
        let refused = ask(query, 4 << 20);
        assert!(matches!(refused, Err(Error::Limit { setting: "query_bytes_max", .. })), "{query}: {refused:?}");
    }
}

/// Sums that grow as wider histograms are added to a narrow one, and groups that are small each.
#[test]
fn histograms_of_groups_are_charged_as_they_grow() {
    let mut source = MemorySource::new();
    for series in 0..200 {
        let (group, member) = (series / 2, series % 2);
        let labels = Labels::from([("__name__", "h"), ("g", &*group.to_string()), ("i", &*member.to_string())]);
        let length = if member == 0 { 1 } else { 4000 };
        let histogram = Histogram {
            count: f64::from(length),
            positive_spans: vec![Span { offset: 0, length }],
            positive: vec![1.0; length as usize],
            ..Histogram::default()
        };
        source.push_sample(TENANT, &labels, 0, MemorySample::Histogram(histogram));
    }
    // 100 groups of 32 kB, and as much for the compensations.
    for query in ["sum by (g) (h)", "avg by (g) (h)", "sum by (g) (h * 1)"] {
        let ask = |bytes: u64| {
            let limits = Limits { query_bytes_max: bytes, ..Limits::default() };
            let expr = parse(query, &ParseOptions::default()).unwrap();
            run(&expr, &RangeRequest::instant(TENANT, 0), &source, &Budget::of_limits(&limits), &Pool::new())
        };
        assert!(ask(64 << 20).is_ok(), "{query}");
        let refused = ask(5 << 20).err();
        assert!(matches!(refused, Some(Error::Limit { setting: "query_bytes_max", .. })), "{query}: {refused:?}");
    }
}

#[test]
fn scalars_are_charged() {
    let request = RangeRequest::instant(TENANT, 20_000 * DAY);
    // 100 of 480 kB at once.
    let power = format!("sum_over_time(vector({}time())[1d:1440ms])", "time() ^ ".repeat(100));
    let round = format!("sum_over_time({}vector(time()){}[1d:1440ms])", "round(".repeat(100), ")".repeat(100));
    let smooth =
        format!("sum_over_time({}vector(time()){}[1d:1440ms])", "clamp_max(".repeat(100), ", time())".repeat(100));
    for query in [&power, &round] {
        let ask = |bytes: u64| {
            ask(query, &request, &Budget::of_limits(&Limits { query_bytes_max: bytes, ..Limits::default() }))
        };
        assert!(ask(1 << 30).is_ok(), "{query}");
        assert!(matches!(ask(16 << 20), Err(Error::Limit { setting: "query_bytes_max", .. })), "{query}");
    }
    // These are gone before the next is there.
    let few = Limits { query_bytes_max: 16 << 20, ..Limits::default() };
    assert!(ask(&smooth, &request, &Budget::of_limits(&few)).is_ok());
}

/// Rows that an operator makes beyond those it was given.
#[test]
fn rows_of_results_are_charged() {
    let mut source = MemorySource::new();
    for series in 0..100 {
        // Each at a time of its own, so that all may match all.
        let labels = Labels::from([("__name__", "x"), ("i", &*series.to_string())]);
        source.push(TENANT, &labels, series * 600_000, 1.0);
        let info = Labels::from([("__name__", "target_info"), ("job", "j"), ("v", &*series.to_string())]);
        source.push(TENANT, &info, series * 600_000, 1.0);
        source.push(TENANT, &Labels::from([("__name__", "y"), ("job", "j")]), series * 600_000, 1.0);
    }
    let ask = |query: &str, bytes: u64| {
        let limits = Limits { query_bytes_max: bytes, ..Limits::default() };
        let expr = parse(query, &ParseOptions::default()).unwrap();
        let request = RangeRequest::range(TENANT, 0, 60_000_000, 60_000);
        run(&expr, &request, &source, &Budget::of_limits(&limits), &Pool::new())
    };
    // 100 rows of 1001 cells are 0.8 MB, twice while they are put together; these make as many more.
    for query in [
        "count(quantile by (i) (0.5, x))",
        "count(topk by (i) (1, x))",
        "count(y * on() group_left(i) x)",
        "count(info(y))",
    ] {
        let (fits, exceeds) = (8 << 20, 1750 << 10);
        assert!(ask(query, fits).is_ok(), "{query} fits: {:?}", ask(query, fits).err());
        let refused = ask(query, exceeds).err();
        assert!(matches!(refused, Some(Error::Limit { setting: "query_bytes_max", .. })), "{query}: {refused:?}");
    }
}

/// What a query asks to be written into labels is charged before it is written.
#[test]
fn made_labels_are_charged_before_they_are_made() {
    let mut source = MemorySource::new();
    for series in 0..4 {
        let labels = Labels::from([("__name__", "x"), ("long", &*"-".repeat(10_000)), ("i", &*series.to_string())]);
        source.push(TENANT, &labels, 0, 1.0);
    }
    let ask = |query: &str, limits: Limits| {
        let expr = parse(query, &ParseOptions::default()).unwrap();
        run(&expr, &RangeRequest::instant(TENANT, 0), &source, &Budget::of_limits(&limits), &Pool::new())
    };
    // Labels of 20 MB, by which series could not be told apart if they were ever made.
    let replaced = format!("label_replace(x, \"i\", \"{}\", \"long\", \"(.*)\")", "$1".repeat(2000));
    let separator = "-".repeat(10_000);
    let joined = format!("label_join(x, \"i\", \"{separator}\"{})", ", \"none\"".repeat(2000));
    for query in [&replaced, &joined] {
        let refused = ask(query, Limits { query_bytes_max: 16 << 20, ..Limits::default() });
        assert!(matches!(refused, Err(Error::Limit { setting: "query_bytes_max", .. })), "{refused:?}");
        let made = ask(query, Limits::default());
        assert!(matches!(made, Err(Error::Execution(_))), "{made:?}");
    }
    // The table of 4000 groups for each of some 16 000 states.
    let groups = |count: usize| format!("label_replace(vector(1), \"a\", \"b\", \"\", \"{}.*\")", "(a)?".repeat(count));
    let refused = ask(&groups(2000), Limits { query_bytes_max: 64 << 20, ..Limits::default() });
    assert!(matches!(refused, Err(Error::Limit { setting: "query_bytes_max", .. })), "{refused:?}");
    assert!(ask(&groups(10), Limits { query_bytes_max: 1 << 20, ..Limits::default() }).is_ok());
    // A search that would copy it for each byte of a long value.
    let slow = format!("label_replace(x, \"a\", \"b\", \"long\", \"{}.*\")", "(a)?".repeat(500));
    match ask(&slow, Limits::default()) {
        Err(Error::Execution(text)) => assert!(text.contains("label value of 10000 bytes"), "{text}"),
        other => panic!("{other:?}"),
    }
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

/// A row whose windows took too long is left half done; it once came out as the answer.
#[test]
fn a_late_query_never_answers_half() {
    let mut source = MemorySource::new();
    for series in 0..2 {
        let labels = Labels::from([("__name__", "x"), ("i", &*series.to_string())]);
        (0..500).for_each(|at| source.push(TENANT, &labels, at * 1000, at as f64));
    }
    // Windows that hold all of few samples, at so many steps that the clock is looked at within a row.
    let mut request = RangeRequest::range(TENANT, 500_000, 1_600_000, 500);
    request.lookback_ms = 3_600_000;
    for query in ["stddev_over_time(x[1h])", "x smoothed", "sum(stddev_over_time(x[1h]))", "sum(x smoothed)"] {
        let expr = parse(query, &ParseOptions::default()).unwrap();
        let answer = |looks_max: u64| {
            let looks = AtomicU64::new(0);
            let expired = Box::new(move || looks.fetch_add(1, Ordering::Relaxed) >= looks_max);
            let budget = Budget::new(&Limits::default(), expired, Arc::default());
            run(&expr, &request, &source, &budget, &Pool::new()).map(|answer| format!("{:?}", answer.value))
        };
        let whole = answer(u64::MAX).unwrap();
        let mut looks = 0;
        loop {
            match answer(looks) {
                Err(Error::Timeout(_)) => looks += 1,
                Ok(answer) => break assert!(answer == whole, "{query}: half an answer after {looks} looks"),
                Err(error) => panic!("{query}: {error}"),
            }
        }
        assert!(looks > 8, "{query}: the clock is looked at within rows: {looks}");
    }
}

/// A name that goes takes type and unit along, so that series of one name can become equal, whatever selects them.
#[test]
fn series_that_differ_in_type_or_unit_alone_do_not_merge() {
    let mut source = MemorySource::new();
    for (series, labels) in [
        Labels::from([("__name__", "x"), ("__type__", "counter"), ("a", "1")]),
        Labels::from([("__name__", "x"), ("__unit__", "s"), ("a", "1")]),
        Labels::from([("__name__", "y"), ("__type__", "counter"), ("A", "1")]),
        Labels::from([("__name__", "y"), ("__type__", "counter"), ("A", "2")]),
        Labels::from([("__name__", "z"), ("a", "1")]),
    ]
    .into_iter()
    .enumerate()
    {
        (0..10).for_each(|minute| source.push(TENANT, &labels, minute * 60_000, (series as i64 + minute) as f64));
    }
    for request in [RangeRequest::instant(TENANT, 540_000), RangeRequest::range(TENANT, 300_000, 540_000, 60_000)] {
        let ask = |query: &str| {
            let expr = parse(query, &ParseOptions::default()).unwrap();
            run(&expr, &request, &source, &Budget::of_limits(&Limits::default()), &Pool::new())
        };
        for query in ["rate(x[5m])", "sum(rate(x[5m]))", "sum by (a) (rate(x[5m]))", "timestamp(x)", "abs(x)"] {
            match ask(query) {
                Err(Error::Execution(text)) => assert_eq!(text, "vector cannot contain metrics with the same labelset"),
                Err(error) => panic!("{query}: {error}"),
                Ok(_) => panic!("{query} answers"),
            }
        }
        for query in ["rate(y[5m])", "sum(rate(y[5m]))", "rate(z[5m])", "sum(rate(z[5m]))", "timestamp(y)", "x"] {
            assert!(ask(query).is_ok(), "{query}: {:?}", ask(query).err());
        }
        assert!(ask("absent_over_time(x[5m])").is_ok());
        assert!(ask("last_over_time(x[5m])").is_ok());
    }
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
