//! The executor agrees with a naive evaluator: random expressions over random data, range and instant.
//!
//! `VARVE_SEED` names the first case, `VARVE_NAIVE_CASES` how many are tried (a few thousand by default; 100000 for a
//! long run). A disagreement prints its seed, expression and data; `VARVE_SEED=that VARVE_NAIVE_CASES=1` replays it.
//!
//! Numbers must agree to 1e-12. Where they do not, the naive evaluator runs again with its results moved in their last
//! places: what rounding alone can do is no disagreement, anything beyond it is one.

mod aggregate;
mod binary;
mod evaluate;
mod functions;
mod generate;
mod random;
mod windows;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use varve_model::{Labels, LabelsBuilder, Limits, TenantId};
use varve_query::answer::Cell as Point;
use varve_query::promql::ast::Expr;
use varve_query::promql::{ParseOptions, parse, value_type};
use varve_query::source::memory::MemorySource;
use varve_query::{Budget, Pool, RangeRequest, Value as Answer, run};

use evaluate::{Query, SAME_LABELS, Set, Value};
use generate::{Data, Writer};
use random::Random;

const TENANT: TenantId = TenantId(7);
/// Queries over one set of data.
const PER_DATA: u64 = 16;

/// Series by labels, points by time.
type Series = BTreeMap<Set, BTreeMap<i64, f64>>;

#[derive(Default)]
struct Tally {
    agreed: u64,
    errors: u64,
    ambiguous: u64,
    rounding: u64,
    only_theirs: u64,
    points: u64,
    disagreements: Vec<String>,
}

#[test]
fn the_executor_agrees_with_a_naive_evaluator() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("VARVE_SEED").unwrap_or(1);
    let count = number("VARVE_NAIVE_CASES").unwrap_or(3000);
    let mut tally = Tally::default();
    let mut stored: Option<(u64, i64, Data, MemorySource)> = None;
    for seed in first..first + count {
        // The data depends on the group of the seed alone, so that a case replays by its seed.
        if stored.as_ref().is_none_or(|(group, ..)| *group != seed / PER_DATA) {
            stored = Some(world(seed / PER_DATA));
        }
        let (_, begin, data, source) = stored.as_ref().expect("made above");
        case(seed, *begin, data, source, &mut tally);
        if tally.disagreements.len() >= 8 {
            break;
        }
    }
    assert!(tally.disagreements.is_empty(), "{}", tally.disagreements.join("\n"));
    println!(
        "{count} cases: {} agreed in {} points, {} in an error; {} open by the language, {} within rounding, {} refused by the \
         executor alone",
        tally.agreed, tally.points, tally.errors, tally.ambiguous, tally.rounding, tally.only_theirs
    );
    assert!(tally.agreed * 2 > count, "too little is compared");
    assert!(tally.only_theirs * 20 <= count, "the executor refuses too much");
}

fn world(group: u64) -> (u64, i64, Data, MemorySource) {
    let mut random = Random(group.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let begin = random.of(&[0, 1_700_000_000_000, 1_709_208_000_123, -600_000]);
    let data = generate::data(&mut random, begin);
    let mut source = MemorySource::new();
    for (labels, samples) in &data {
        let labels = stored_labels(labels);
        for (time, value) in samples {
            source.push(TENANT, &labels, *time, *value);
        }
    }
    (group, begin, data, source)
}

fn stored_labels(labels: &Set) -> Labels {
    let mut builder = LabelsBuilder::default();
    for (name, value) in labels {
        builder.push(name, value);
    }
    builder.build().unwrap_or_else(|e| panic!("{labels:?}: {e:?}"))
}

fn case(seed: u64, begin: i64, data: &Data, source: &MemorySource, tally: &mut Tally) {
    let mut random = Random(seed);
    let text = Writer { random: &mut random, begin }.expression();
    let expr = match parse(&text, &ParseOptions::default()) {
        Ok(expr) => expr,
        Err(e) => panic!("seed {seed}: {text}: {e}"),
    };
    assert!(evaluate::is_answerable(&expr), "{text} is {:?}", value_type(&expr));
    let step = random.of(&[15_000, 30_000, 60_000, 7_000, 1]);
    let start = begin + random.between(-2, 21) * 60_000 + random.of(&[0, 0, 1, 12_345]);
    let steps = random.between(1, 12);
    let slack = if random.one_in(4) { step - 1 } else { 0 };
    let range = RangeRequest::range(TENANT, start, start + (steps - 1) * step + slack, step);
    let range = RangeRequest { lookback_ms: random.of(&[300_000, 300_000, 60_000]), ..range };
    let context = || {
        let named = |labels: &Set| labels.values().any(|value| text.contains(value.as_str()) && value.len() > 1);
        let of_text = data.iter().filter(|(labels, _)| named(labels) || labels["__name__"] == "g");
        let series: String = of_text.map(|(labels, samples)| format!("  {labels:?} {samples:?}\n")).collect();
        format!("data:\n{series}^ seed {seed}: {text}")
    };

    let theirs = execute(&expr, &range, source);
    compare(&expr, &text, &range, data, &theirs, tally, &context);

    let last = start + (steps - 1) * step;
    let instant = RangeRequest { lookback_ms: range.lookback_ms, ..RangeRequest::instant(TENANT, last) };
    let at_last = execute(&expr, &instant, source);
    // What speaks of the query's own range differs between the two.
    let own_range = ["start()", "end()", "range()", "step()"].iter().any(|word| text.contains(word));
    if !own_range && let (Ok(theirs), Ok(at_last)) = (&theirs, &at_last) {
        let of_last = |series: &Series| -> BTreeMap<Set, u64> {
            series.iter().filter_map(|(l, points)| Some((l.clone(), plain_bits(*points.get(&last)?)))).collect()
        };
        let (by_range, by_instant) = (of_last(theirs), of_last(at_last));
        if by_range != by_instant && !is_open(&expr, &instant, data) {
            let close = by_range.keys().eq(by_instant.keys())
                && by_range.iter().all(|(l, v)| same(f64::from_bits(*v), f64::from_bits(by_instant[l]), 1e-12));
            if !close {
                tally.disagreements.push(format!(
                    "{}\nrange and instant differ at {last} of {range:?}:\n  {by_range:?}\n  {by_instant:?}\n",
                    context()
                ));
            }
        }
    }
    if !own_range {
        let mut of_instant = Tally::default();
        compare(&expr, &text, &instant, data, &at_last, &mut of_instant, &context);
        tally.disagreements.append(&mut of_instant.disagreements);
    }
}

/// All NaN alike.
fn plain_bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

fn is_open(expr: &Expr, request: &RangeRequest, data: &Data) -> bool {
    let query = query(request, data, None);
    let _ = evaluate(&query, expr);
    query.ambiguous.get()
}

fn query<'a>(request: &RangeRequest, data: &'a Data, jitter: Option<u64>) -> Query<'a> {
    Query {
        data,
        start: request.start,
        end: request.end,
        step: request.step,
        lookback: request.lookback_ms,
        subquery_step: request.subquery_step_ms,
        jitter: jitter.map(|seed| RefCell::new(Random(seed))),
        ambiguous: Cell::new(false),
    }
}

fn evaluate(query: &Query<'_>, expr: &Expr) -> Result<Series, String> {
    let mut series = Series::new();
    let mut time = query.start;
    loop {
        let vector = match query.value(expr, time)? {
            Value::Scalar(value) => vec![(Set::new(), value)],
            Value::Vector(vector) => vector,
            Value::Text(_) => return Err("a text".to_owned()),
        };
        for (labels, value) in vector {
            let before = series.entry(labels).or_default().insert(time, value);
            assert!(before.is_none(), "the naive evaluator gave a label set twice");
        }
        time += query.step;
        if query.step == 0 || time > query.end {
            return Ok(series);
        }
    }
}

fn execute(expr: &Expr, request: &RangeRequest, source: &MemorySource) -> Result<Series, String> {
    let budget = Budget::of_limits(&Limits::default());
    let answer = run(expr, request, source, &budget, &Pool::new()).map_err(|e| e.to_string())?;
    let set = |labels: &Labels| -> Set { labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() };
    let mut series = Series::new();
    let mut push = |labels: Set, time: i64, value: f64| {
        let before = series.entry(labels).or_default().insert(time, value);
        assert!(before.is_none(), "the executor gave a label set twice");
    };
    match answer.value {
        Answer::Scalar(value) => push(Set::new(), request.start, value),
        Answer::String(text) => return Err(format!("a text {text}")),
        Answer::Vector(elements) => {
            for element in elements {
                match element.value {
                    Point::Float(value) => push(set(&element.labels), request.start, value),
                    Point::Histogram(_) => panic!("there are no histograms"),
                }
            }
        }
        Answer::Matrix(all) => {
            for one in all {
                for (time, value) in one.points.times.iter().zip(&one.points.values) {
                    push(set(&one.labels), *time, *value);
                }
            }
        }
    }
    Ok(series)
}

fn compare(
    expr: &Expr,
    text: &str,
    request: &RangeRequest,
    data: &Data,
    theirs: &Result<Series, String>,
    tally: &mut Tally,
    context: &dyn Fn() -> String,
) {
    let plain = query(request, data, None);
    let ours = evaluate(&plain, expr);
    if plain.ambiguous.get() {
        tally.ambiguous += 1;
        return;
    }
    match (&ours, theirs) {
        (Err(_), Err(_)) => tally.errors += 1,
        (Ok(ours), Ok(theirs)) if agree(ours, theirs, 1e-12) => {
            tally.agreed += 1;
            tally.points += ours.values().map(|points| points.len() as u64).sum::<u64>();
        }
        (Ok(_), Ok(_)) if explained_by_rounding(expr, request, data, theirs) => tally.rounding += 1,
        // Series of several names that become one must not, even if they never meet at a step; and a subquery's grid
        // has times between the windows of its steps.
        (Ok(_), Err(error))
            if (error == SAME_LABELS && (text.contains("__name__") || text.contains(" or ")))
                || (error.contains("match") && text.contains(':')) =>
        {
            tally.only_theirs += 1;
        }
        (Err(_), _) | (_, Err(_)) if errors_by_rounding(expr, request, data, theirs.is_err()) => tally.rounding += 1,
        _ => tally.disagreements.push(format!(
            "{}\n{request:?}\nnaive:\n{}executor:\n{}",
            context(),
            show(&ours),
            show(theirs)
        )),
    }
}

fn show(result: &Result<Series, String>) -> String {
    match result {
        Err(error) => format!("  error: {error}\n"),
        Ok(series) => series.iter().map(|(labels, points)| format!("  {labels:?} {points:?}\n")).collect(),
    }
}

fn same(a: f64, b: f64, tolerance: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * a.abs().max(b.abs())
}

fn agree(ours: &Series, theirs: &Series, tolerance: f64) -> bool {
    ours.keys().eq(theirs.keys())
        && ours.iter().zip(theirs).all(|((_, a), (_, b))| {
            a.keys().eq(b.keys()) && a.iter().zip(b).all(|((_, a), (_, b))| same(*a, *b, tolerance))
        })
}

/// Whether each point lies where the naive evaluator gets to when its results are moved in their last places.
fn explained_by_rounding(expr: &Expr, request: &RangeRequest, data: &Data, theirs: &Result<Series, String>) -> bool {
    let Ok(theirs) = theirs else { return false };
    let runs: Vec<Series> = (0..24).filter_map(|seed| evaluate(&query(request, data, Some(seed)), expr).ok()).collect();
    let points = |series: &Series| -> BTreeMap<(Set, i64), f64> {
        series.iter().flat_map(|(l, points)| points.iter().map(|(t, v)| ((l.clone(), *t), *v))).collect()
    };
    let theirs = points(theirs);
    let runs: Vec<_> = runs.iter().map(points).collect();
    let keys: std::collections::BTreeSet<_> = theirs.keys().chain(runs.iter().flat_map(BTreeMap::keys)).collect();
    !runs.is_empty()
        && keys.into_iter().all(|key| {
            let reached: Vec<Option<f64>> = runs.iter().map(|run| run.get(key).copied()).collect();
            match theirs.get(key) {
                None => reached.contains(&None),
                Some(value) => {
                    let numbers: Vec<f64> = reached.iter().flatten().copied().filter(|v| !v.is_nan()).collect();
                    let (low, high) = (
                        numbers.iter().copied().fold(f64::INFINITY, f64::min),
                        numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                    );
                    let slack = (high - low) * 2.0;
                    reached.iter().flatten().any(|v| same(*v, *value, 1e-12))
                        || (*value >= low - slack && *value <= high + slack && low < high)
                }
            }
        })
}

/// Whether the naive evaluator comes to the other outcome when its results are moved in their last places.
fn errors_by_rounding(expr: &Expr, request: &RangeRequest, data: &Data, error: bool) -> bool {
    (0..24).any(|seed| evaluate(&query(request, data, Some(seed)), expr).is_err() == error)
}
