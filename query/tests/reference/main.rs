//! The executor agrees with a naive evaluator: random expressions over random data, range and instant.
//!
//! `VARVE_SEED` names the first case, `VARVE_NAIVE_CASES` how many are tried (a few thousand by default; 100000 for a
//! long run). A disagreement prints its seed, expression and data; `VARVE_SEED=that VARVE_NAIVE_CASES=1` replays it.
//! What agreement means is in `compare.rs`. A run of some length also checks that every function, operator and
//! aggregation gave results often enough to have been compared (`coverage.rs`).

mod aggregate;
mod binary;
mod buckets;
mod classic;
mod compare;
mod coverage;
mod data;
mod date;
mod evaluate;
mod executor;
mod functions;
mod generate;
mod hash;
mod histogram;
mod info;
mod note;
mod numbers;
mod order;
mod random;
mod rates;
mod selector;
mod statistics;
mod windows;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use varve_query::RangeRequest;
use varve_query::promql::ast::{Expr, ExprKind};
use varve_query::promql::{ParseOptions, parse, value_type};
use varve_query::request::Features;

use compare::{Points, agree, is_reached, points, same};
use coverage::Coverage;
use evaluate::{Data, Query, SAME_LABELS, Series};
use executor::{Answer, Executor, TENANT};
use generate::Writer;
use note::{Note, Notes, disagreement};
use random::Random;

/// Queries over one set of data.
const PER_DATA: u64 = 16;
/// Points of an answer that are told when two differ.
const DIFFERENCES_SHOWN: usize = 2;
/// Threads that share the cases.
const THREADS: u64 = 2;

/// Data, and how it is asked.
struct World {
    begin: i64,
    data: Data,
    executor: Executor,
    features: Features,
}

#[derive(Default)]
struct Tally {
    agreed: u64,
    errors: u64,
    ambiguous: u64,
    rounding: u64,
    only_theirs: u64,
    points: u64,
    coverage: Coverage,
    disagreements: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.agreed += other.agreed;
        self.errors += other.errors;
        self.ambiguous += other.ambiguous;
        self.rounding += other.rounding;
        self.only_theirs += other.only_theirs;
        self.points += other.points;
        self.coverage.add(&other.coverage);
        self.disagreements.extend(other.disagreements);
    }
}

#[test]
fn the_executor_agrees_with_a_naive_evaluator() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("VARVE_SEED").unwrap_or(1);
    let count = number("VARVE_NAIVE_CASES").unwrap_or(6000);
    let mut tally = Tally::default();
    let (begin, end) = (first / PER_DATA, (first + count).div_ceil(PER_DATA));
    std::thread::scope(|scope| {
        let work = |thread: u64| {
            let mut tally = Tally::default();
            // The data depends on the group of the seed alone, so that a case replays by its seed.
            for group in (begin..end).filter(|group| group % THREADS == thread) {
                let world = World::of(group);
                for seed in (group * PER_DATA).max(first)..((group + 1) * PER_DATA).min(first + count) {
                    case(seed, &world, &mut tally);
                }
                if tally.disagreements.len() >= 8 {
                    break;
                }
            }
            tally
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
        threads.into_iter().for_each(|thread| match thread.join() {
            Ok(of_thread) => tally.add(of_thread),
            Err(panic) => std::panic::resume_unwind(panic),
        });
    });
    println!(
        "{count} cases: {} agreed in {} points, {} in an error; {} open by the language, {} within rounding, {} refused \
         by the executor alone",
        tally.agreed, tally.points, tally.errors, tally.ambiguous, tally.rounding, tally.only_theirs
    );
    if std::env::var_os("VARVE_NAIVE_COVERAGE").is_some() {
        println!("{}", tally.coverage);
    }
    assert!(tally.disagreements.is_empty(), "{}", tally.disagreements.join("\n"));
    if count >= 5000 {
        assert!(tally.agreed * 2 > count, "too little is compared");
        assert!(tally.only_theirs * 20 <= count, "the executor refuses too much");
        let missing = tally.coverage.missing(count);
        assert!(missing.is_empty(), "compared too seldom with a result: {missing:?}");
    }
}

impl World {
    fn of(group: u64) -> World {
        let mut random = Random(group.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let begin = random.of(&[0, 1_700_000_000_000, 1_709_208_000_123, -600_000]);
        let mut data = data::data(&mut random, begin);
        let executor = Executor::over(&data);
        data::forget_hints(&mut data);
        let features = executor::features(&mut random);
        World { begin, data, executor, features }
    }

    fn query(&self, request: &RangeRequest, jitter: Option<u64>) -> Query<'_> {
        Query {
            data: &self.data,
            start: request.start,
            end: request.end,
            step: request.step,
            lookback: request.lookback_ms,
            subquery_step: request.subquery_step_ms,
            delayed_names: self.features.delayed_name_removal,
            type_labels: self.features.type_and_unit_labels,
            start_times: self.features.start_timestamps,
            jitter: jitter.map(|seed| RefCell::new(Random(seed))),
            wants_totals: Cell::new(0),
            wants_buckets: Cell::new(0),
            ambiguous: Cell::new(false),
            notes: Notes::default(),
            reached: RefCell::new(BTreeSet::new()),
        }
    }
}

/// What the naive evaluator comes to.
struct Ours {
    series: Result<Vec<Series>, String>,
    notes: BTreeMap<String, Note>,
    ambiguous: bool,
    reached: BTreeSet<String>,
}

fn evaluate(world: &World, expr: &Expr, request: &RangeRequest, jitter: Option<u64>) -> Ours {
    let query = world.query(request, jitter);
    let series = query.answer(expr);
    let ambiguous = query.ambiguous.get();
    Ours { series, ambiguous, reached: query.reached.into_inner(), notes: query.notes.into_inner() }
}

fn case(seed: u64, world: &World, tally: &mut Tally) {
    let mut random = Random(seed);
    let range_vector = random.one_in(40);
    let text = Writer { random: &mut random, begin: world.begin, in_parameter: 0 }.expression(range_vector);
    // Another expression over the same data, to find out what a disagreement is about.
    let text = std::env::var("VARVE_NAIVE_EXPRESSION").unwrap_or(text);
    let expr = match parse(&text, &ParseOptions::default()) {
        Ok(expr) => expr,
        Err(e) => panic!("seed {seed}: {text}: {e}"),
    };
    assert!(evaluate::is_answerable(&expr, range_vector), "{text} is {:?}", value_type(&expr));
    let step = random.of(&[15_000, 30_000, 60_000, 7_000, 1]);
    let start = world.begin + random.between(-2, 21) * 60_000 + random.of(&[0, 0, 1, 12_345]);
    let steps = random.between(1, 12);
    let slack = if random.one_in(4) { step - 1 } else { 0 };
    let range = RangeRequest::range(TENANT, start, start + (steps - 1) * step + slack, step);
    let lookback_ms = random.of(&[300_000, 300_000, 60_000]);
    let range = RangeRequest { lookback_ms, features: world.features, ..range };
    let last = start + (steps - 1) * step;
    let instant = RangeRequest { lookback_ms, features: world.features, ..RangeRequest::instant(TENANT, last) };
    let case = Case { seed, world, expr: &expr, text: &text };
    let before = tally.disagreements.len();

    let at_last = world.executor.answer(&expr, &text, &instant);
    if !range_vector {
        let theirs = world.executor.answer(&expr, &text, &range);
        // What speaks of the query's own range differs between the two.
        let own_range = ["start()", "end()", "range()", "step()"].iter().any(|word| text.contains(word));
        if !own_range {
            case.instant_is_last_of_range(&theirs, &at_last, last, &instant, tally);
        }
        case.compare(&range, &theirs, tally);
    }
    if tally.disagreements.len() > before {
        return;
    }
    let mut of_instant = Tally::default();
    case.compare(&instant, &at_last, &mut of_instant);
    tally.coverage.add(&of_instant.coverage);
    tally.disagreements.append(&mut of_instant.disagreements);
    if range_vector {
        tally.add(of_instant);
    }
}

struct Case<'a> {
    seed: u64,
    world: &'a World,
    expr: &'a Expr,
    text: &'a str,
}

impl Case<'_> {
    fn disagree(&self, what: &str, request: &RangeRequest, tally: &mut Tally) {
        let named = |labels: &evaluate::Set| {
            let name = evaluate::name_of(labels);
            self.text.contains(name) || (name.ends_with("_info") && self.text.contains("info("))
        };
        let of_text = self.world.data.iter().filter(|(labels, _)| named(labels));
        let series: String = match std::env::var_os("VARVE_NAIVE_DATA") {
            Some(_) => of_text.map(|(labels, samples)| format!("  {labels:?} {samples:?}\n")).collect(),
            None => String::new(),
        };
        tally.disagreements.push(format!("data:\n{series}^ seed {}: {}\n{request:?}\n{what}", self.seed, self.text));
    }

    /// Whether an instant query gives what a range query does at its last step.
    fn instant_is_last_of_range(
        &self,
        range: &Answer,
        instant: &Answer,
        last: i64,
        request: &RangeRequest,
        tally: &mut Tally,
    ) {
        let (Ok(range), Ok(instant)) = (&range.series, &instant.series) else { return };
        let (Ok(range), Ok(instant)) = (points(range), points(instant)) else { return };
        let at_last: Points = range.into_iter().filter(|((_, time), _)| *time == last).collect();
        let close =
            at_last.keys().eq(instant.keys()) && at_last.values().zip(instant.values()).all(|(a, b)| same(a, b));
        if !close && !evaluate(self.world, self.expr, request, None).ambiguous {
            let what = format!("range and instant differ at {last}:\n  {at_last:?}\n  {instant:?}\n");
            self.disagree(&what, request, tally);
        }
    }

    fn compare(&self, request: &RangeRequest, theirs: &Answer, tally: &mut Tally) {
        let ours = evaluate(self.world, self.expr, request, None);
        if ours.ambiguous {
            tally.ambiguous += 1;
            return;
        }
        let runs = || (0..24).map(|seed| evaluate(self.world, self.expr, request, Some(seed)));
        match (&ours.series, &theirs.series) {
            (Err(_), Err(_)) => tally.errors += 1,
            (Ok(our_series), Ok(their_series)) => {
                let (our_points, their_points) = match (points(our_series), points(their_series)) {
                    (Ok(ours), Ok(theirs)) => (ours, theirs),
                    (ours, theirs) => {
                        return self.disagree(&format!("naive {ours:?}\nexecutor {theirs:?}"), request, tally);
                    }
                };
                if agree(&our_points, &their_points) {
                    tally.agreed += 1;
                    tally.points += our_points.len() as u64;
                    tally.coverage.count(self.expr, &ours.reached);
                    if let Some(what) = self.wrong_order(request, our_series, their_series) {
                        self.disagree(&what, request, tally);
                    } else if let Some(what) = disagreement(&ours.notes, &theirs.annotations) {
                        let notes = format!("{what}\nnaive {:?}\nexecutor {:?}\n", ours.notes, theirs.annotations);
                        self.disagree(&notes, request, tally);
                    }
                    return;
                }
                let runs: Vec<Points> =
                    runs().filter_map(|ours| ours.series.ok()).filter_map(|series| points(&series).ok()).collect();
                if is_reached(&their_points, &runs) {
                    tally.rounding += 1;
                } else {
                    let what = format!(
                        "naive:\n{}executor:\n{}",
                        show(&our_points, &their_points),
                        show(&their_points, &our_points)
                    );
                    self.disagree(&what, request, tally);
                }
            }
            (_, Err(error)) if error.ends_with("is not supported") => tally.only_theirs += 1,
            // While names are only marked, Prometheus lets equal label sets pass within an instant query, and trips over
            // them at the next operator or at the end, or not at all when nothing is left of them.
            (Ok(_), Err(error))
                if error == SAME_LABELS && request.step == 0 && request.features.delayed_name_removal =>
            {
                tally.only_theirs += 1;
            }
            (ours, theirs) => {
                // The other outcome may be within rounding.
                if runs().any(|ours| ours.series.is_err() == theirs.is_err()) {
                    tally.rounding += 1;
                } else {
                    let brief = |result: &Result<Vec<Series>, String>| match result {
                        Ok(series) => format!("{} series {series:?}", series.len()),
                        Err(error) => format!("error: {error}"),
                    };
                    let what = format!("naive {}\nexecutor {}\n", brief(ours), brief(theirs));
                    self.disagree(&what, request, tally);
                }
            }
        }
    }

    /// Where the expression says in which order an instant query has its elements.
    fn wrong_order(&self, request: &RangeRequest, ours: &[Series], theirs: &[Series]) -> Option<String> {
        let sorts = match &evaluate::strip(self.expr).kind {
            ExprKind::Call { function, .. } => function.starts_with("sort"),
            _ => false,
        };
        if request.step != 0 || !sorts {
            return None;
        }
        // Equal values may be in any order.
        let by_label = self.text.contains("sort_by_label");
        let alike = |(a, b): (&Series, &Series)| match by_label {
            true => a.labels == b.labels,
            false => a.samples.values().zip(b.samples.values()).all(|(a, b)| same(a, b)),
        };
        let labels = |series: &[Series]| series.iter().map(|one| one.labels.clone()).collect::<Vec<_>>();
        (!ours.iter().zip(theirs).all(alike))
            .then(|| format!("order:\nnaive {:?}\nexecutor {:?}\n", labels(ours), labels(theirs)))
    }
}

/// The points that differ from the others.
fn show(points: &Points, others: &Points) -> String {
    let differs = |(key, sample): &(&(evaluate::Set, i64), &evaluate::Sample)| {
        others.get(key).is_none_or(|other| !same(sample, other))
    };
    let shown = points.iter().filter(differs).take(DIFFERENCES_SHOWN);
    shown.map(|((labels, time), sample)| format!("  {labels:?} {time} {sample:?}\n")).collect()
}
