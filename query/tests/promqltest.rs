//! Runs test scripts (`load`, `eval`, expected answers) over the source in memory: those of `tests/cases`, and those
//! of the directory that `VARVE_PROMQLTEST_DIR` names, if it does. Each instant query is also asked as a range query
//! around its time and must give the same answer.
//!
//! Beside a directory of scripts may lie `<directory>-experimental.json`, which names by file the lines of evals that need
//! experimental features; they are counted apart.

#[path = "promqltest/script.rs"]
mod script;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use script::{Command, Eval, Item, Wanted};
use varve_model::{Column, Histogram, Labels, Limits, TenantId};
use varve_query::answer::Cell;
use varve_query::histogram::buckets;
use varve_query::promql::{ParseOptions, parse};
use varve_query::request::Features;
use varve_query::source::memory::{MemorySample, MemorySource};
use varve_query::{Answer, Budget, Error, Pool, RangeRequest, Value, run};

const TENANT: TenantId = TenantId(7);

/// Everything that is off by default.
const ALL: Features = Features { delayed_name_removal: true, start_timestamps: true, type_and_unit_labels: false };

fn ask(source: &MemorySource, expr: &str, request: &RangeRequest) -> Result<Answer, Error> {
    let parsed = parse(expr, &ParseOptions::default())?;
    run(&parsed, request, source, &Budget::of_limits(&Limits::default()), &Pool::new())
}

fn almost(a: f64, b: f64) -> bool {
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan();
    }
    if a == b {
        return true;
    }
    if a.is_infinite() || b.is_infinite() {
        return false;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < 1e-6 * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < 1e-6
}

/// Whether two histograms would be shown alike.
fn alike(a: &Histogram, b: &Histogram) -> bool {
    let shown = |histogram| buckets(histogram).into_iter().filter(|bucket| bucket.count != 0.0);
    let same_bound = |a: f64, b: f64| a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
    almost(a.count, b.count)
        && almost(a.sum, b.sum)
        && shown(a).count() == shown(b).count()
        && shown(a).zip(shown(b)).all(|(a, b)| {
            same_bound(a.lower, b.lower)
                && same_bound(a.upper, b.upper)
                && (a.lower_inclusive, a.upper_inclusive) == (b.lower_inclusive, b.upper_inclusive)
                && almost(a.count, b.count)
        })
}

fn same(item: &Item, cell: &Cell) -> bool {
    match (item, cell) {
        (Item::Float(a), Cell::Float(b)) => almost(*a, *b),
        (Item::Histogram(a), Cell::Histogram(b)) => alike(a, b),
        _ => false,
    }
}

fn compare_vector(eval: &Eval, got: &[(Labels, Cell)]) -> Result<(), String> {
    if eval.scalar.is_some() {
        return Err("want a scalar, got a vector".to_owned());
    }
    for (at, (labels, value)) in got.iter().enumerate() {
        if got.iter().skip(at + 1).any(|(other, _)| other == labels) {
            return Err(format!("duplicate series {labels}"));
        }
        let position = eval.expected.iter().position(|(other, _)| other == labels);
        let position = position.ok_or_else(|| format!("unexpected series {labels} {value:?}"))?;
        if eval.ordered && position != at {
            return Err(format!("series {labels} at position {at}, want {position}"));
        }
        match eval.expected[position].1.first() {
            Some(item) if same(item, value) => {}
            expected => return Err(format!("{labels}: want {expected:?}, got {value:?}")),
        }
    }
    match eval.expected.iter().find(|(labels, _)| !got.iter().any(|(other, _)| other == labels)) {
        Some((labels, _)) => Err(format!("missing series {labels}")),
        None => Ok(()),
    }
}

/// The points of a series in order of time.
fn points(column: Column) -> Vec<(i64, Cell)> {
    let mut points: Vec<(i64, Cell)> =
        column.times.into_iter().zip(column.values).map(|(time, value)| (time, Cell::Float(value))).collect();
    points.extend(column.histograms.into_iter().map(|(time, histogram)| (time, Cell::Histogram(Box::new(histogram)))));
    points.sort_by_key(|(time, _)| *time);
    points
}

fn compare_matrix(eval: &Eval, got: &[(Labels, Vec<(i64, Cell)>)]) -> Result<(), String> {
    for (labels, points) in got {
        let expected = eval.expected.iter().find(|(other, _)| other == labels);
        let (_, items) = expected.ok_or_else(|| format!("unexpected series {labels}"))?;
        let expected: Vec<(i64, &Item)> = items
            .iter()
            .enumerate()
            .filter(|(_, item)| **item != Item::Omitted)
            .map(|(at, item)| (eval.start + at as i64 * eval.step, item))
            .collect();
        let all_same =
            expected.len() == points.len() && expected.iter().zip(points).all(|(e, g)| e.0 == g.0 && same(e.1, &g.1));
        if !all_same {
            return Err(format!("{labels}: want {expected:?}, got {points:?}"));
        }
    }
    match eval.expected.iter().find(|(labels, _)| !got.iter().any(|(other, _)| other == labels)) {
        Some((labels, items)) if items.iter().any(|item| *item != Item::Omitted) || items.is_empty() => {
            Err(format!("missing series {labels}"))
        }
        _ => Ok(()),
    }
}

fn check_answer(eval: &Eval, answer: Answer) -> Result<(), String> {
    match answer.value {
        Value::Scalar(value) => match eval.scalar {
            Some(expected) if almost(expected, value) => Ok(()),
            expected => Err(format!("want {expected:?}, got scalar {value}")),
        },
        Value::String(text) => {
            let expected = eval.string.clone().unwrap_or_default();
            if text == expected { Ok(()) } else { Err(format!("want {expected:?}, got {text:?}")) }
        }
        Value::Vector(elements) => {
            let elements = elements.into_iter().map(|element| (element.labels, element.value));
            compare_vector(eval, &elements.collect::<Vec<_>>())
        }
        Value::Matrix(series) => {
            let series = series.into_iter().map(|series| (series.labels, points(series.points)));
            compare_matrix(eval, &series.collect::<Vec<_>>())
        }
    }
}

/// The same instant query as the middle step of a range query.
fn check_as_range(eval: &Eval, source: &MemorySource, features: Features) -> Result<(), String> {
    let context = ["start()", "end()", "range()", "step()"].iter().any(|call| eval.expr.contains(call));
    if eval.range || eval.range_vector || eval.string.is_some() || context {
        return Ok(());
    }
    let request = RangeRequest::range(TENANT, eval.start - 60_000, eval.start + 60_000, 60_000);
    let request = RangeRequest { features, ..request };
    let answer = ask(source, &eval.expr, &request).map_err(|error| format!("as range: {error}"))?;
    let Value::Matrix(series) = answer.value else { return Err("as range: no matrix".to_owned()) };
    let mut middle = Vec::new();
    for series in series {
        if let Some((_, cell)) = points(series.points).into_iter().find(|(time, _)| *time == eval.start) {
            middle.push((series.labels, cell));
        }
    }
    if eval.ordered {
        return Ok(());
    }
    match eval.scalar {
        Some(expected) => match middle.first() {
            Some((_, Cell::Float(value))) if almost(expected, *value) => Ok(()),
            other => Err(format!("as range: want {expected}, got {other:?}")),
        },
        None => compare_vector(eval, &middle).map_err(|error| format!("as range: {error}")),
    }
}

/// Each annotation is expected and each expected one is there.
fn check_annotations(name: &str, wanted: &Option<Vec<Wanted>>, got: &[String]) -> Result<(), String> {
    let Some(wanted) = wanted else { return Ok(()) };
    if let Some(missing) = wanted.iter().find(|wanted| !got.iter().any(|text| wanted.is(text))) {
        return Err(format!("want {name} {missing:?}, got {got:?}"));
    }
    match got.iter().find(|text| !wanted.iter().any(|wanted| wanted.is(text))) {
        Some(text) => Err(format!("unexpected {name} {text:?}")),
        None => Ok(()),
    }
}

fn check(eval: &Eval, source: &MemorySource, features: Features) -> Result<(), String> {
    let request = if eval.range {
        RangeRequest::range(TENANT, eval.start, eval.end, eval.step)
    } else {
        RangeRequest::instant(TENANT, eval.end)
    };
    let request = RangeRequest { features, ..request };
    match (ask(source, &eval.expr, &request), eval.fails) {
        (Ok(_), true) => Err("want an error, got an answer".to_owned()),
        (Err(Error::Storage(text)), true) => Err(format!("want a refusal, got {text}")),
        (Err(error), true) => match &eval.message {
            Some(message) if !message.is(&error.to_string()) => Err(format!("want error {message:?}, got {error}")),
            _ => Ok(()),
        },
        (Err(error), false) => Err(format!("refused: {error}")),
        (Ok(answer), false) => {
            let (warnings, infos) = answer.annotations.texts(&eval.expr, 100);
            check_annotations("warning", &eval.warnings, &warnings)?;
            check_annotations("info", &eval.infos, &infos)?;
            check_answer(eval, answer)?;
            check_as_range(eval, source, features)
        }
    }
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failures: Vec<String>,
}

fn run_file(name: &str, text: &str, experimental: &[usize], own: bool, tallies: &mut [Tally; 2]) {
    let blocks = script::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    for block in blocks {
        let mut source = MemorySource::new();
        for command in &block {
            match command {
                Command::Load(load) => {
                    for (labels, items) in &load.series {
                        let starts = load.starts.iter().find(|(other, _)| other == labels);
                        for (at, item) in items.iter().enumerate() {
                            let time = at as i64 * load.gap_ms;
                            let start = starts.and_then(|(_, starts)| starts.get(at).copied().flatten());
                            let start = start.map_or(0, |before| time + before);
                            let sample = match item {
                                Item::Omitted => continue,
                                Item::Float(value) => MemorySample::Float(*value),
                                Item::Histogram(histogram) => MemorySample::Histogram(histogram.as_ref().clone()),
                            };
                            source.push_started(TENANT, labels, start, time, sample);
                        }
                    }
                }
                Command::Eval(eval) => {
                    let experimental = experimental.contains(&eval.line) || (own && name.starts_with("flagged"));
                    let tally = &mut tallies[usize::from(experimental)];
                    // What is stable must hold without features; of the cases from outside all hold with them, too.
                    let result = match experimental {
                        true => Ok(()),
                        false => check(eval, &source, Features::default()),
                    };
                    let with_all = || match experimental || !own {
                        true => check(eval, &source, ALL).map_err(|error| format!("all features on: {error}")),
                        false => Ok(()),
                    };
                    match result.and_then(|()| with_all()) {
                        Ok(()) => tally.passed += 1,
                        Err(error) => tally.failures.push(format!("{name}:{}: {}\n    {error}", eval.line, eval.expr)),
                    }
                }
            }
        }
    }
}

/// `{"file": [line, …], …}`
fn experimental_lines(path: &Path) -> HashMap<String, Vec<usize>> {
    let text = read(path).unwrap_or_default();
    let mut lines = HashMap::new();
    for entry in text.split(']') {
        if let Some((name, numbers)) = entry.split_once('[') {
            let name = name.split('"').nth(1).unwrap_or_default().to_owned();
            lines.insert(name, numbers.split(',').filter_map(|number| number.trim().parse().ok()).collect());
        }
    }
    lines
}

#[expect(clippy::disallowed_methods, reason = "a test reads its cases")]
fn read(path: &Path) -> Option<String> {
    std::fs::read(path).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

#[expect(clippy::disallowed_methods, reason = "a test reads its cases")]
fn files_of(directory: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(error) => panic!("{}: {error}", directory.display()),
    }
}

/// Of our own cases (`own`) those in files named `flagged…` need features that are off by default.
fn run_directory(directory: &Path, own: bool) -> [Tally; 2] {
    let beside = format!("{}-experimental.json", directory.display());
    let experimental = experimental_lines(Path::new(&beside));
    let mut files = files_of(directory);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "test"));
    files.sort();
    assert!(!files.is_empty(), "no cases in {}", directory.display());
    let mut tallies = [Tally::default(), Tally::default()];
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = read(&file).unwrap_or_else(|| panic!("cannot read {}", file.display()));
        let lines = experimental.get(&name).cloned().unwrap_or_default();
        run_file(&name, &text, &lines, own, &mut tallies);
    }
    tallies
}

#[test]
fn our_cases() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    for tally in run_directory(&directory, true) {
        assert!(tally.failures.is_empty(), "{}", tally.failures.join("\n"));
        assert!(tally.passed > 0);
    }
}

#[test]
fn cases_of_the_directory_named_outside() {
    let Some(directory) = std::env::var_os("VARVE_PROMQLTEST_DIR") else {
        eprintln!("SKIPPED: VARVE_PROMQLTEST_DIR names no directory of test scripts");
        return;
    };
    let [core, experimental] = run_directory(Path::new(&directory), false);
    for (name, tally) in [("core", &core), ("experimental", &experimental)] {
        let all = tally.passed + tally.failures.len();
        println!("{name}: {} of {all} pass", tally.passed);
    }
    let failures = [core.failures, experimental.failures].concat();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
