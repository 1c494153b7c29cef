//! The executor agrees with a naive evaluator on random data and random queries, and with itself whatever the number
//! of threads.

#[path = "naive/evaluator.rs"]
mod evaluator;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use evaluator::{Data, Naive};
use proptest::prelude::*;
use varve_model::{Labels, Limits, STALE_NAN_BITS, TenantId};
use varve_query::promql::{ParseOptions, parse};
use varve_query::source::memory::MemorySource;
use varve_query::{Budget, Error, Pool, RangeRequest, Value, run};

const TENANT: TenantId = TenantId(1);

fn samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let value = prop_oneof![
        12 => (0i32..40).prop_map(f64::from),
        4 => -1000.0..1000.0f64,
        1 => Just(f64::from_bits(STALE_NAN_BITS)),
    ];
    // Gaps around a minute: some regular, some longer than any window.
    let gap = prop_oneof![6 => Just(60_000i64), 3 => 1_000i64..90_000, 1 => 200_000i64..900_000];
    proptest::collection::vec((gap, value), 5..40).prop_map(|steps| {
        let mut time = 0;
        steps
            .into_iter()
            .map(|(gap, value)| {
                time += gap;
                (time, value)
            })
            .collect()
    })
}

fn data() -> impl Strategy<Value = Data> {
    let label = |values: &'static [&'static str]| proptest::sample::select(values);
    let series = (label(&["m", "n"]), label(&["1", "2", "3"]), label(&["", "x", "y"]), samples());
    proptest::collection::vec(series, 4..10).prop_map(|all| {
        let mut data = Data::new();
        for (name, a, b, samples) in all {
            data.insert(Labels::from([("__name__", name), ("a", a), ("b", b)]), samples.into_iter().collect());
        }
        data
    })
}

fn selector() -> impl Strategy<Value = String> {
    proptest::sample::select(&["m", "n", "m{a=\"1\"}", "n{b!=\"\"}", "{a=~\"1|2\"}", "m{b=\"x\"}"][..])
        .prop_map(str::to_owned)
}

fn modifier() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(
        &["", "", "", " offset 1m", " offset -90s", " @ 600", " @ end()", " @ start() offset 2m"][..],
    )
}

fn query() -> impl Strategy<Value = String> {
    let function = proptest::sample::select(
        &[
            "sum_over_time",
            "avg_over_time",
            "min_over_time",
            "max_over_time",
            "count_over_time",
            "present_over_time",
            "last_over_time",
            "first_over_time",
            "stddev_over_time",
            "stdvar_over_time",
            "changes",
            "resets",
            "idelta",
            "irate",
            "deriv",
            "rate",
            "increase",
            "delta",
        ][..],
    );
    let range = proptest::sample::select(&["90s", "2m", "5m", "13m"][..]);
    let windows = (function.clone(), selector(), range.clone(), modifier())
        .prop_map(|(function, selector, range, modifier)| format!("{function}({selector}[{range}]{modifier})"));
    let quantiles = (0.0..1.0f64, selector(), range.clone())
        .prop_map(|(q, selector, range)| format!("quantile_over_time({q}, {selector}[{range}])"));
    let instants = (selector(), modifier()).prop_map(|(selector, modifier)| format!("{selector}{modifier}"));
    let leaf = prop_oneof![3 => windows, 1 => quantiles, 2 => instants];
    leaf.prop_recursive(3, 12, 2, move |inner| {
        let aggregate = proptest::sample::select(
            &["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "quantile"][..],
        );
        let grouping =
            proptest::sample::select(&["", "by (a) ", "by (a, __name__) ", "without (b) ", "without (a) "][..]);
        let operator = proptest::sample::select(
            &["+", "-", "/", ">", "<=", "!=", "+ on (a)", "* ignoring (b)", "and", "or", "unless on (a)", "or on (b)"]
                [..],
        );
        let scalar_operator = proptest::sample::select(&["+", "*", "<=", ">"][..]);
        prop_oneof![
            3 => (aggregate, grouping, inner.clone()).prop_map(|(op, grouping, inner)| {
                let parameter = if op == "quantile" { "0.3, " } else { "" };
                format!("{op} {grouping}({parameter}{inner})")
            }),
            2 => (inner.clone(), operator, inner.clone()).prop_map(|(l, op, r)| format!("({l}) {op} ({r})")),
            1 => (inner.clone(), scalar_operator.clone()).prop_map(|(l, op)| format!("({l}) {op} 7")),
            1 => (inner.clone(), scalar_operator).prop_map(|(r, op)| format!("7 {op} ({r})")),
            1 => inner.clone().prop_map(|inner| format!("-({inner})")),
            1 => inner.clone().prop_map(|inner| format!("abs({inner})")),
            2 => (function.clone(), inner, range.clone(), modifier())
                .prop_map(|(function, inner, range, modifier)| format!("{function}(({inner})[{range}:30s]{modifier})")),
        ]
    })
}

type Points = Vec<(Labels, Vec<(i64, f64)>)>;

fn ask(data: &Data, query: &str, request: &RangeRequest, pool: &Pool) -> Result<Points, Error> {
    let mut source = MemorySource::new();
    for (labels, samples) in data {
        for (time, value) in samples {
            source.push(TENANT, labels, *time, *value);
        }
    }
    let expr = parse(query, &ParseOptions::default())?;
    let answer = run(&expr, request, &source, &Budget::of_limits(&Limits::default()), pool)?;
    let Value::Matrix(series) = answer.value else { panic!("a range query gives a matrix") };
    Ok(series
        .into_iter()
        .map(|series| (series.labels, series.points.times.into_iter().zip(series.points.values).collect()))
        .collect())
}

/// Differences of large numbers may leave noise of their size: `scale` is the largest number in sight.
fn close(a: f64, b: f64, scale: f64) -> bool {
    (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) + 1e-11 * scale
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_executor_agrees_with_the_definitions(
        data in data(),
        query in query(),
        start in -100_000i64..1_200_000,
        count in 1i64..12,
        step in prop_oneof![Just(60_000i64), 7_000i64..400_000],
    ) {
        let request = RangeRequest::range(TENANT, start, start + (count - 1) * step, step);
        let got = ask(&data, &query, &request, &Pool::new());
        let expr = parse(&query, &ParseOptions::default()).unwrap();
        let naive = Naive { data: &data, start: request.start, end: request.end };
        let steps: Result<Vec<_>, _> =
            (0..count).map(|at| naive.eval(&expr, start + at * step).map(|value| (start + at * step, value))).collect();
        match (got, steps) {
            (Err(Error::Execution(_)), Err(_)) => {}
            // Range functions refuse series that become equal even where no step has both.
            (Err(Error::Execution(text)), _) if text.contains("same labelset") => {}
            (Err(error), _) => prop_assert!(false, "{}: {}", query, error),
            (Ok(got), Err(refused)) => prop_assert!(false, "{}: {:?}, got {:?}", query, refused, got),
            (Ok(got), Ok(steps)) => {
                let scale = 1e6;
                let mut expected = 0;
                for (time, value) in steps {
                    let evaluator::Value::Vector(vector) = value else { panic!("a vector was generated") };
                    for (labels, value) in vector {
                        expected += 1;
                        let found = got.iter().find(|(other, _)| *other == labels);
                        let found = found.and_then(|(_, points)| points.iter().find(|(at, _)| *at == time));
                        prop_assert!(
                            found.is_some_and(|(_, got)| close(*got, value, scale)),
                            "{} at {}: {} want {}, got {:?}", query, time, labels, value, found
                        );
                    }
                }
                prop_assert_eq!(got.iter().map(|(_, points)| points.len()).sum::<usize>(), expected, "{}", query);
            }
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test of what happens across threads")]
fn threads_do_not_change_an_answer() {
    let mut data = Data::new();
    for series in 0..2_000u32 {
        let labels =
            Labels::from([("__name__", "m"), ("a", &*format!("{}", series % 7)), ("b", &*format!("{series}"))]);
        let value = |at: i64| f64::from(series) * 0.1 + (at * i64::from(series % 13)) as f64 / 3.0;
        data.insert(labels, (0..30).map(|at| (at * 15_000, value(at))).collect());
    }
    let request = RangeRequest::range(TENANT, 0, 450_000, 45_000);
    let queries = ["sum by (a) (rate(m[1m]))", "stddev(m)", "avg without (b) (avg_over_time(m[2m]))", "topk(3, m)"];
    let alone: Vec<_> = queries.iter().map(|query| ask(&data, query, &request, &Pool::new()).unwrap()).collect();
    let pool = Pool::new();
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let (pool, stop) = (pool.clone(), Arc::clone(&stop));
            std::thread::spawn(move || pool.worker(&stop))
        })
        .collect();
    for _ in 0..3 {
        for (query, alone) in queries.iter().zip(&alone) {
            assert_eq!(&ask(&data, query, &request, &pool).unwrap(), alone, "{query}");
        }
    }
    stop.store(true, Ordering::SeqCst);
    pool.wake_all();
    for worker in workers {
        worker.join().unwrap();
    }
}
