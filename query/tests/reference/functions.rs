//! Functions of instant vectors and scalars, and the doors to those of range vectors.

use std::collections::{BTreeMap, BTreeSet};

use regex_automata::meta::Regex;
use varve_model::MatchOp;
use varve_query::promql::ast::{Expr, ExprKind};

use crate::evaluate::{METRIC_NAME, Outcome, Query, Set, Value, Vector, nameless, unique};
use crate::windows;

pub(crate) fn call(query: &Query<'_>, function: &str, args: &[Expr], time: i64) -> Outcome<Value> {
    if let Some(value) = over_range(query, function, args, time) {
        return value;
    }
    let vector = |n: usize| query.vector(&args[n], time);
    let scalar = |n: usize| query.scalar(&args[n], time);
    let map = |f: &dyn Fn(f64) -> f64| -> Outcome<Value> {
        unique(vector(0)?.into_iter().map(|(labels, v)| (nameless(labels), query.rounded(f(v)))).collect())
    };
    match function {
        "time" => Ok(Value::Scalar(time as f64 / 1000.0)),
        "pi" => Ok(Value::Scalar(std::f64::consts::PI)),
        "start" => Ok(Value::Scalar(query.start as f64 / 1000.0)),
        "end" => Ok(Value::Scalar(query.end as f64 / 1000.0)),
        "step" => Ok(Value::Scalar(if query.start == query.end { 0.0 } else { query.step as f64 / 1000.0 })),
        "range" => Ok(Value::Scalar((query.end - query.start) as f64 / 1000.0)),
        "max_of" => Ok(Value::Scalar(go_max(scalar(0)?, scalar(1)?))),
        "min_of" => Ok(Value::Scalar(go_min(scalar(0)?, scalar(1)?))),
        "scalar" => Ok(Value::Scalar(match vector(0)?.as_slice() {
            [(_, value)] => *value,
            _ => f64::NAN,
        })),
        "vector" => Ok(Value::Vector(vec![(Set::new(), scalar(0)?)])),
        "abs" => map(&f64::abs),
        "ceil" => map(&f64::ceil),
        "floor" => map(&f64::floor),
        "exp" => map(&f64::exp),
        "sqrt" => map(&f64::sqrt),
        "ln" => map(&f64::ln),
        "log2" => map(&f64::log2),
        "log10" => map(&f64::log10),
        "sin" => map(&f64::sin),
        "cos" => map(&f64::cos),
        "atan" => map(&f64::atan),
        "deg" => map(&|v| v * 180.0 / std::f64::consts::PI),
        "rad" => map(&|v| v * std::f64::consts::PI / 180.0),
        "sgn" => map(&|v| {
            if v > 0.0 {
                1.0
            } else if v < 0.0 {
                -1.0
            } else {
                v
            }
        }),
        "round" => {
            let nearest = if args.len() > 1 { scalar(1)? } else { 1.0 };
            let inverse = 1.0 / nearest;
            map(&|v| (v * inverse + 0.5).floor() / inverse)
        }
        "clamp" | "clamp_min" | "clamp_max" => {
            let low = if function == "clamp_max" { f64::NEG_INFINITY } else { scalar(1)? };
            let high = match function {
                "clamp" => scalar(2)?,
                "clamp_max" => scalar(1)?,
                _ => f64::INFINITY,
            };
            if high < low {
                return vector(0).map(|_| Value::Vector(Vec::new()));
            }
            map(&|v| go_max(low, go_min(high, v)))
        }
        "timestamp" => {
            let found: Vector = match &args[0].kind {
                ExprKind::VectorSelector(selector) => {
                    // Prometheus forgets the offset here when there is an `@`.
                    let mut selector = selector.clone();
                    selector.offset = selector.offset.filter(|_| selector.at.is_none());
                    query
                        .newest(&selector, time)?
                        .into_iter()
                        .map(|(labels, at, _)| (labels, at as f64 / 1000.0))
                        .collect()
                }
                _ => vector(0)?.into_iter().map(|(labels, _)| (labels, time as f64 / 1000.0)).collect(),
            };
            unique(found.into_iter().map(|(labels, value)| (nameless(labels), value)).collect())
        }
        "minute" | "hour" | "day_of_week" | "day_of_month" | "day_of_year" | "days_in_month" | "month" | "year" => {
            if args.is_empty() {
                let value = date(function, time.div_euclid(1000));
                return Ok(Value::Vector(vec![(Set::new(), value)]));
            }
            map(&|v| {
                // What has no date: the language does not say.
                if v.is_nan() || v.abs() >= 1e11 {
                    query.ambiguous.set(true);
                    return f64::NAN;
                }
                date(function, v as i64)
            })
        }
        "sort" | "sort_desc" => Ok(Value::Vector(vector(0)?)),
        "absent" => {
            Ok(Value::Vector(if vector(0)?.is_empty() { vec![(absent_labels(&args[0]), 1.0)] } else { vec![] }))
        }
        "label_replace" => {
            let text = |n: usize| query.text(&args[n]);
            let (target, replacement, source, pattern) = (text(1)?, text(2)?, text(3)?, text(4)?);
            let regex = Regex::new(&format!("^(?s:{pattern})$")).map_err(|e| e.to_string())?;
            let replace = |(mut labels, value): (Set, f64)| {
                let found = labels.get(&source).cloned().unwrap_or_default();
                let mut captures = regex.create_captures();
                regex.captures(&found, &mut captures);
                if captures.is_match() {
                    let mut new = String::new();
                    captures.interpolate_string_into(&found, &replacement, &mut new);
                    set(&mut labels, &target, new);
                }
                (labels, value)
            };
            unique(vector(0)?.into_iter().map(replace).collect())
        }
        "label_join" => {
            let texts = (1..args.len()).map(|n| query.text(&args[n])).collect::<Outcome<Vec<_>>>()?;
            let join = |(mut labels, value): (Set, f64)| {
                let parts: Vec<String> =
                    texts[2..].iter().map(|name| labels.get(name).cloned().unwrap_or_default()).collect();
                set(&mut labels, &texts[0], parts.join(&texts[1]));
                (labels, value)
            };
            unique(vector(0)?.into_iter().map(join).collect())
        }
        "histogram_quantile" => {
            let phi = scalar(0)?;
            unique(
                buckets(vector(1)?)
                    .into_iter()
                    .map(|(l, b)| (l, query.rounded(bucket_quantile(query, phi, b))))
                    .collect(),
            )
        }
        "histogram_fraction" => {
            let (lower, upper) = (scalar(0)?, scalar(1)?);
            let fraction = |b| query.moved(bucket_fraction(lower, upper, b), 1e-15);
            unique(buckets(vector(2)?).into_iter().map(|(l, b)| (l, fraction(b))).collect())
        }
        other => Err(format!("{other}() is not compared")),
    }
}

/// Functions over range vectors; `None` for all others.
fn over_range(query: &Query<'_>, function: &str, args: &[Expr], time: i64) -> Option<Outcome<Value>> {
    let over = |n: usize, f: &windows::OfWindow| {
        let keep = matches!(function, "last_over_time" | "first_over_time");
        Some(query.over_windows(&args[n], time, keep, f))
    };
    let values = |f: &dyn Fn(&[f64]) -> f64| {
        over(0, &|points, _| Some(query.rounded(f(&points.iter().map(|(_, v)| *v).collect::<Vec<_>>()))))
    };
    match function {
        "rate" => over(0, &|p, w| windows::extrapolated(p, w, true, true).map(|v| query.rounded(v))),
        "increase" => over(0, &|p, w| windows::extrapolated(p, w, true, false).map(|v| query.rounded(v))),
        "delta" => over(0, &|p, w| windows::extrapolated(p, w, false, false).map(|v| query.rounded(v))),
        "irate" => over(0, &|p, _| windows::instant(p, true).map(|v| query.rounded(v))),
        "idelta" => over(0, &|p, _| windows::instant(p, false).map(|v| query.rounded(v))),
        "changes" => over(0, &|p, _| windows::changes(p)),
        "resets" => over(0, &|p, _| windows::resets(p)),
        "deriv" => over(0, &|p, _| {
            windows::regression(p, p[0].0).map(|(slope, _)| query.moved(slope, windows::slope_error(p, slope)))
        }),
        "predict_linear" => {
            let ahead = match query.scalar(&args[1], time) {
                Ok(ahead) => ahead,
                Err(e) => return Some(Err(e)),
            };
            over(0, &|p, w| {
                windows::regression(p, w.time).map(|(slope, now)| {
                    // The line is followed from the samples to the time ahead.
                    let way = ((w.time - p[0].0) as f64 / 1000.0 + ahead).abs();
                    query.moved(slope * ahead + now, windows::slope_error(p, slope) * way + now.abs() * 1e-14)
                })
            })
        }
        "double_exponential_smoothing" => {
            let (sf, tf) = match (query.scalar(&args[1], time), query.scalar(&args[2], time)) {
                (Ok(sf), Ok(tf)) => (sf, tf),
                _ => return Some(Err("factor".to_owned())),
            };
            over(0, &|p, _| windows::smoothed(p, sf, tf).map(|v| query.moved(v, 1e-13 * v.abs())))
        }
        "count_over_time" => values(&|v| v.len() as f64),
        "sum_over_time" => values(&|v| windows::sum(v.iter().copied())),
        "avg_over_time" => values(&windows::average),
        "min_over_time" => values(&|v| windows::extreme(v, false)),
        "max_over_time" => values(&|v| windows::extreme(v, true)),
        "stddev_over_time" => values(&|v| windows::spread(query, v).sqrt()),
        "stdvar_over_time" => values(&|v| windows::spread(query, v)),
        "mad_over_time" => values(&windows::deviation),
        "present_over_time" => values(&|_| 1.0),
        "first_over_time" => values(&|v| v[0]),
        "last_over_time" => values(&|v| v[v.len() - 1]),
        "ts_of_first_over_time" => over(0, &|p, _| p.first().map(|(t, _)| *t as f64 / 1000.0)),
        "ts_of_last_over_time" => over(0, &|p, _| p.last().map(|(t, _)| *t as f64 / 1000.0)),
        "ts_of_max_over_time" => over(0, &|p, _| Some(windows::time_of_extreme(p, true))),
        "ts_of_min_over_time" => over(0, &|p, _| Some(windows::time_of_extreme(p, false))),
        "quantile_over_time" => {
            let phi = match query.scalar(&args[0], time) {
                Ok(phi) => phi,
                Err(e) => return Some(Err(e)),
            };
            over(1, &|p, _| Some(query.rounded(windows::quantile(phi, &p.iter().map(|(_, v)| *v).collect::<Vec<_>>()))))
        }
        "absent_over_time" => Some(query.matrix(&args[0], time).map(|matrix| {
            Value::Vector(if matrix.series.is_empty() { vec![(absent_labels(&args[0]), 1.0)] } else { vec![] })
        })),
        _ => None,
    }
}

fn set(labels: &mut Set, name: &str, value: String) {
    if value.is_empty() {
        labels.remove(name);
    } else {
        labels.insert(name.to_owned(), value);
    }
}

/// Go's: an infinity of the right sign wins over NaN, NaN over all else.
fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

fn go_min(a: f64, b: f64) -> f64 {
    -go_max(-a, -b)
}

/// The labels that the matchers fix.
fn absent_labels(expr: &Expr) -> Set {
    let (ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. }) = &expr.kind else {
        return Set::new();
    };
    let (mut fixed, mut seen) = (Set::new(), BTreeSet::new());
    for matcher in selector.matchers.iter().filter(|m| *m.name != *METRIC_NAME) {
        let first = !seen.contains(&*matcher.name);
        if matcher.op == MatchOp::Equal && first {
            set(&mut fixed, &matcher.name, matcher.value.to_string());
            seen.insert(matcher.name.to_string());
        } else {
            fixed.remove(&*matcher.name);
        }
    }
    fixed
}

/// Classic histograms of a vector: buckets by bound, for each set of other labels.
fn buckets(vector: Vector) -> Vec<(Set, Vec<(f64, f64)>)> {
    let mut histograms: BTreeMap<Set, Vec<(f64, f64)>> = BTreeMap::new();
    for (mut labels, count) in vector {
        let bound = labels.remove("le").and_then(|le| le.parse::<f64>().ok());
        if let Some(bound) = bound {
            // Histograms of different names are different histograms here; their names are dropped only then.
            histograms.entry(labels).or_default().push((bound, count));
        }
    }
    let mut out: Vec<_> = histograms.into_iter().map(|(labels, buckets)| (nameless(labels), buckets)).collect();
    for (_, buckets) in &mut out {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut merged: Vec<(f64, f64)> = Vec::new();
        for (bound, count) in buckets.drain(..) {
            match merged.last_mut() {
                Some(last) if last.0 == bound => last.1 += count,
                _ => merged.push((bound, count)),
            }
        }
        *buckets = merged;
    }
    out
}

fn bucket_quantile(query: &Query<'_>, phi: f64, mut buckets: Vec<(f64, f64)>) -> f64 {
    if phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    if buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
        return f64::NAN;
    }
    // Among NaN nothing can be found, and it is open what is.
    if buckets.iter().any(|(_, count)| count.is_nan()) {
        query.ambiguous.set(true);
        return f64::NAN;
    }
    // Counts never fall from bucket to bucket, and do not rise by rounding errors.
    let mut highest = buckets[0].1;
    for (_, count) in &mut buckets[1..] {
        let close = (*count - highest).abs() / (count.abs() + highest.abs()).min(f64::MAX) < 1e-12;
        if *count < highest || close {
            *count = highest;
        } else if *count != highest {
            highest = *count;
        }
    }
    let last = buckets.len() - 1;
    let observations = buckets[last].1;
    if buckets.len() < 2 || observations == 0.0 {
        return f64::NAN;
    }
    let rank = phi * observations;
    let index = buckets[..last].partition_point(|(_, count)| *count < rank);
    if index == last {
        return buckets[last - 1].0;
    }
    if index == 0 && buckets[0].0 <= 0.0 {
        return buckets[0].0;
    }
    let (begin, below) = if index == 0 { (0.0, 0.0) } else { buckets[index - 1] };
    let (end, count) = buckets[index];
    begin + (end - begin) * ((rank - below) / (count - below))
}

fn bucket_fraction(lower: f64, upper: f64, buckets: Vec<(f64, f64)>) -> f64 {
    let Some((f64::INFINITY, total)) = buckets.last().copied() else { return f64::NAN };
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    // The cumulative count at a value: linear inside a bucket, flat in those without end.
    let rank = |value: f64| {
        let mut begin = if buckets[0].0 <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
        let mut below = 0.0;
        for (end, count) in &buckets {
            if value <= begin {
                return below;
            }
            if value < *end {
                return if begin == f64::NEG_INFINITY {
                    *count
                } else {
                    below + (count - below) * (value - begin) / (end - begin)
                };
            }
            (begin, below) = (*end, *count);
        }
        total
    };
    let rank = |value: f64| {
        let rank = rank(value);
        if rank > total { total } else { rank }
    };
    (rank(upper) - rank(lower)) / total
}

/// Parts of a UTC date, by counting days.
fn date(part: &str, unix: i64) -> f64 {
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days = unix.div_euclid(86_400);
    let (mut year, mut day) = (1970, days);
    while day < 0 {
        year -= 1;
        day += if leap(year) { 366 } else { 365 };
    }
    while day >= if leap(year) { 366 } else { 365 } {
        day -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    let day_of_year = day + 1;
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    (match part {
        "minute" => unix.rem_euclid(3600) / 60,
        "hour" => unix.rem_euclid(86_400) / 3600,
        "day_of_week" => (days + 4).rem_euclid(7),
        "day_of_month" => day + 1,
        "day_of_year" => day_of_year,
        "days_in_month" => lengths[month],
        "month" => month as i64 + 1,
        _ => year,
    }) as f64
}
