//! Answers do not depend on how many threads help, nor on which of them does what.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use varve_model::{Labels, Limits, TenantId};
use varve_query::promql::{ParseOptions, parse};
use varve_query::source::memory::MemorySource;
use varve_query::{Budget, Error, Pool, RangeRequest, Value, run};

const TENANT: TenantId = TenantId(1);

/// Labels and points, values by their bits.
type Points = Vec<(Labels, Vec<(i64, u64)>)>;

fn ask(source: &MemorySource, query: &str, request: &RangeRequest, pool: &Pool) -> Result<Points, Error> {
    let expr = parse(query, &ParseOptions::default())?;
    let answer = run(&expr, request, source, &Budget::of_limits(&Limits::default()), pool)?;
    let Value::Matrix(series) = answer.value else { panic!("a range query gives a matrix") };
    let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits);
    let points = series.into_iter().map(|series| (series.labels, series.points));
    Ok(points.map(|(labels, points)| (labels, points.times.into_iter().zip(bits(points.values)).collect())).collect())
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test of what happens across threads")]
fn threads_do_not_change_an_answer() {
    let mut source = MemorySource::new();
    for series in 0..2_000u32 {
        let labels =
            Labels::from([("__name__", "m"), ("a", &*format!("{}", series % 7)), ("b", &*format!("{series}"))]);
        let value = |at: i64| f64::from(series) * 0.1 + (at * i64::from(series % 13)) as f64 / 3.0;
        for at in 0..30 {
            source.push(TENANT, &labels, at * 15_000, value(at));
        }
    }
    let request = RangeRequest::range(TENANT, 0, 450_000, 45_000);
    let queries = ["sum by (a) (rate(m[1m]))", "stddev(m)", "avg without (b) (avg_over_time(m[2m]))", "topk(3, m)"];
    let alone: Vec<_> = queries.iter().map(|query| ask(&source, query, &request, &Pool::new()).unwrap()).collect();
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
            assert_eq!(&ask(&source, query, &request, &pool).unwrap(), alone, "{query}");
        }
    }
    stop.store(true, Ordering::SeqCst);
    pool.wake_all();
    for worker in workers {
        worker.join().unwrap();
    }
}
