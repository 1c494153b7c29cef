//! Functions of instant vectors and scalars, and the doors to those of range vectors.

use std::collections::BTreeSet;

use regex_automata::meta::Regex;
use varve_model::MatchOp;
use varve_query::promql::ast::{Expr, ExprKind, Span, ValueType};
use varve_query::promql::value_type;

use crate::evaluate::{
    Element, Frame, METRIC_NAME, Outcome, Query, Sample, Series, Set, Value, at, place, strip, text,
};
use crate::histogram::Histogram;
use crate::numbers::{open_metrics, shortest};
use crate::{buckets, classic, date, info, order, selector};

pub(crate) fn call(query: &Query<'_>, function: &str, args: &[Expr], span: Span, frame: Frame) -> Outcome<Value> {
    let evaluate = || evaluated(query, function, args, span, frame);
    match function {
        "histogram_count" | "histogram_sum" | "histogram_avg" => query.wanting(&query.wants_totals, evaluate),
        "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
            query.wanting(&query.wants_buckets, evaluate)
        }
        _ => evaluate(),
    }
}

fn evaluated(query: &Query<'_>, function: &str, args: &[Expr], span: Span, frame: Frame) -> Outcome<Value> {
    let is_range = |arg: &Expr| value_type(arg) == ValueType::Matrix;
    if let Some(range) = args.iter().find(|arg| is_range(arg)) {
        let series = selector::over_windows(query, function, args, frame)?;
        return Ok(Value::Vector(match function {
            "absent_over_time" => absent(&series, range, frame, true),
            _ => series,
        }));
    }
    let vector = |n: usize| query.vector(&args[n], frame);
    let scalar = |n: usize| query.scalar(&args[n], frame);
    let every = |value: f64| Ok(Value::Scalar(frame.times().map(|_| value).collect()));
    let own_step = if query.start == query.end { 0.0 } else { query.step as f64 / 1000.0 };

    let floats = |f: &dyn Fn(f64) -> f64| -> Outcome<Value> {
        let f = |element: &Sample, _: usize| match element {
            Sample::Float(value) => Some(query.rounded(f(*value))),
            Sample::Histogram(_) => None,
        };
        map(query, vector(0)?, frame, &f)
    };
    let histograms = |f: &dyn Fn(&Histogram) -> f64| -> Outcome<Value> {
        let f = |element: &Sample, _: usize| buckets::of(element).map(|h| query.moved(f(h), 1e-13 * f(h).abs()));
        map(query, vector(0)?, frame, &f)
    };
    match function {
        "time" => Ok(Value::Scalar(frame.times().map(|time| time as f64 / 1000.0).collect())),
        "pi" => every(std::f64::consts::PI),
        "start" => every(query.start as f64 / 1000.0),
        "end" => every(query.end as f64 / 1000.0),
        "step" => every(own_step),
        "range" => every((query.end - query.start) as f64 / 1000.0),
        "max_of" => Ok(Value::Scalar(scalar(0)?.into_iter().zip(scalar(1)?).map(|(a, b)| go_max(a, b)).collect())),
        "min_of" => Ok(Value::Scalar(scalar(0)?.into_iter().zip(scalar(1)?).map(|(a, b)| go_min(a, b)).collect())),
        "scalar" => {
            let input = vector(0)?;
            let one = |time: i64| {
                let floats = at(&input, time).into_iter().filter_map(|element| match element.sample {
                    Sample::Float(value) => Some(value),
                    Sample::Histogram(_) => None,
                });
                match floats.collect::<Vec<_>>().as_slice() {
                    [value] => *value,
                    _ => f64::NAN,
                }
            };
            Ok(Value::Scalar(frame.times().map(one).collect()))
        }
        "vector" => {
            let samples = frame.times().zip(scalar(0)?.into_iter().map(Sample::Float)).collect();
            Ok(Value::Vector(vec![Series { labels: Set::new(), drops_name: false, samples }]))
        }
        "abs" => floats(&f64::abs),
        "ceil" => floats(&f64::ceil),
        "floor" => floats(&f64::floor),
        "exp" => floats(&f64::exp),
        "sqrt" => floats(&f64::sqrt),
        "ln" => floats(&f64::ln),
        "log2" => floats(&f64::log2),
        "log10" => floats(&f64::log10),
        "sin" => floats(&f64::sin),
        "cos" => floats(&f64::cos),
        "tan" => floats(&f64::tan),
        "asin" => floats(&f64::asin),
        "acos" => floats(&f64::acos),
        "atan" => floats(&f64::atan),
        "sinh" => floats(&f64::sinh),
        "cosh" => floats(&f64::cosh),
        "tanh" => floats(&f64::tanh),
        "asinh" => floats(&f64::asinh),
        "acosh" => floats(&f64::acosh),
        "atanh" => floats(&f64::atanh),
        "deg" => floats(&|v| v * 180.0 / std::f64::consts::PI),
        "rad" => floats(&|v| v * std::f64::consts::PI / 180.0),
        "sgn" => floats(&|v| {
            if v > 0.0 {
                1.0
            } else if v < 0.0 {
                -1.0
            } else {
                v
            }
        }),
        "round" => {
            let nearest = if args.len() > 1 { scalar(1)? } else { frame.times().map(|_| 1.0).collect() };
            let f = |sample: &Sample, step: usize| match sample {
                Sample::Float(value) => {
                    let inverse = 1.0 / nearest[step];
                    Some(query.rounded((value * inverse + 0.5).floor() / inverse))
                }
                Sample::Histogram(_) => None,
            };
            map(query, vector(0)?, frame, &f)
        }
        "clamp" | "clamp_min" | "clamp_max" => {
            let input = vector(0)?;
            let bounds: Vec<Vec<f64>> = (1..args.len()).map(scalar).collect::<Outcome<_>>()?;
            let f = |sample: &Sample, step: usize| match sample {
                Sample::Float(value) => {
                    let low = if function == "clamp_max" { f64::NEG_INFINITY } else { bounds[0][step] };
                    let high = match function {
                        "clamp" => bounds[1][step],
                        "clamp_max" => bounds[0][step],
                        _ => f64::INFINITY,
                    };
                    if high < low { None } else { Some(go_max(low, go_min(high, *value))) }
                }
                Sample::Histogram(_) => None,
            };
            map(query, input, frame, &f)
        }
        "timestamp" | "start_timestamp" => {
            let starts = function == "start_timestamp";
            if starts && !query.start_times {
                return vector(0).map(|_| Value::Vector(Vec::new()));
            }
            if let ExprKind::VectorSelector(node) = &strip(&args[0]).kind {
                let found = selector::times(query, node, frame, starts)?;
                let seconds = |sample: &Sample, _: usize| match sample {
                    Sample::Float(ms) => Some(ms / 1000.0),
                    Sample::Histogram(_) => None,
                };
                return map(query, found, frame, &seconds);
            }
            let times: Vec<i64> = frame.times().collect();
            let f = |_: &Sample, step: usize| (!starts).then(|| times[step] as f64 / 1000.0);
            map(query, vector(0)?, frame, &f)
        }
        "minute" | "hour" | "day_of_week" | "day_of_month" | "day_of_year" | "days_in_month" | "month" | "year" => {
            if args.is_empty() {
                // Cut towards zero, as Go divides.
                let value = |time: i64| (time, Sample::Float(date::part(function, time / 1000)));
                let samples = frame.times().map(value).collect();
                return Ok(Value::Vector(vec![Series { labels: Set::new(), drops_name: false, samples }]));
            }
            floats(&|v| {
                // What has no date: the language does not say.
                if v.is_nan() || v.abs() >= 1e11 {
                    query.ambiguous.set(true);
                    return f64::NAN;
                }
                date::part(function, v as i64)
            })
        }
        "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => {
            if !frame.is_once() {
                let text = "sort is ineffective for range queries since results are always ordered by labels";
                // An end between steps makes a range of one step.
                query.notes.add(format!("PromQL warning: {text}"), span, frame.last() > frame.start);
            }
            let labels = args[1..].iter().map(text).collect::<Outcome<Vec<_>>>()?;
            order::sort(query, function, vector(0)?, &labels, frame).map(Value::Vector)
        }
        "absent" => Ok(Value::Vector(absent(&vector(0)?, &args[0], frame, false))),
        "info" => info::info(query, args, frame).map(Value::Vector),
        "label_replace" | "label_join" => {
            let texts = args[1..].iter().map(text).collect::<Outcome<Vec<_>>>()?;
            let rewrite = if function == "label_replace" { replacement(&texts)? } else { joint(&texts)? };
            let mut series = vector(0)?;
            for one in &mut series {
                if let Some(value) = rewrite(&one.labels) {
                    if value.is_empty() {
                        one.labels.remove(texts[0]);
                    } else {
                        one.labels.insert(texts[0].to_owned(), value);
                    }
                    one.drops_name &= texts[0] != METRIC_NAME;
                }
            }
            query.merged(series).map(Value::Vector)
        }
        "histogram_count" => histograms(&|h| h.count),
        "histogram_sum" => histograms(&|h| h.sum),
        "histogram_avg" => histograms(&|h| h.sum / h.count),
        "histogram_stdvar" => histograms(&buckets::variance),
        "histogram_stddev" => histograms(&|h| buckets::variance(h).sqrt()),
        "histogram_quantile" => {
            let (phi, input) = (scalar(0)?, vector(1)?);
            let series = query.each_step(frame, |step, time| {
                check_quantile(query, phi[step], &args[0]);
                let split = classic::split(query, at(&input, time), place(&args[1]));
                Ok(classic::quantiles(query, &split, phi[step], place(&args[1]), time))
            });
            series.map(Value::Vector)
        }
        "histogram_quantiles" => {
            let (input, label) = (vector(0)?, text(&args[1])?);
            let phis: Vec<Vec<f64>> = (2..args.len()).map(scalar).collect::<Outcome<_>>()?;
            let series = query.each_step(frame, |step, time| {
                let split = classic::split(query, at(&input, time), place(&args[0]));
                let mut out: Vec<Element> = Vec::new();
                for (phi, arg) in phis.iter().zip(&args[2..]) {
                    check_quantile(query, phi[step], arg);
                    let mut of_phi = classic::quantiles(query, &split, phi[step], place(&args[0]), time);
                    for element in &mut of_phi {
                        element.labels.insert(label.to_owned(), open_metrics(phi[step]));
                    }
                    out.extend(of_phi);
                }
                Ok(out)
            });
            series.map(Value::Vector)
        }
        "histogram_fraction" => {
            let (lower, upper, input) = (scalar(0)?, scalar(1)?, vector(2)?);
            let series = query.each_step(frame, |step, time| {
                let split = classic::split(query, at(&input, time), place(&args[2]));
                Ok(classic::fractions(query, &split, lower[step], upper[step], place(&args[2])))
            });
            series.map(Value::Vector)
        }
        other => Err(format!("{other}() is not known")),
    }
}

fn check_quantile(query: &Query<'_>, phi: f64, arg: &Expr) {
    if !(0.0..=1.0).contains(&phi) {
        query.notes.warn(format!("quantile value should be between 0 and 1, got {}", shortest(phi)), place(arg));
    }
}

/// A function of one element; `None` leaves it out. Names go.
fn map(
    query: &Query<'_>,
    input: Vec<Series>,
    frame: Frame,
    f: &dyn Fn(&Sample, usize) -> Option<f64>,
) -> Outcome<Value> {
    let series = query.each_step(frame, |step, time| {
        let elements = at(&input, time).into_iter().filter_map(|mut element| {
            element.sample = Sample::Float(f(&element.sample, step)?);
            query.drop_name(&mut element.labels, &mut element.drops_name);
            Some(element)
        });
        Ok(elements.collect())
    });
    series.map(Value::Vector)
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

/// 1 at the steps at which nothing is there.
fn absent(series: &[Series], arg: &Expr, frame: Frame, drops_name: bool) -> Vec<Series> {
    let missing = frame.times().filter(|time| series.iter().all(|one| !one.samples.contains_key(time)));
    let samples: std::collections::BTreeMap<_, _> = missing.map(|time| (time, Sample::Float(1.0))).collect();
    if samples.is_empty() {
        return Vec::new();
    }
    vec![Series { labels: absent_labels(arg), drops_name, samples }]
}

/// The labels that the matchers fix.
fn absent_labels(expr: &Expr) -> Set {
    let (ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. }) = &strip(expr).kind else {
        return Set::new();
    };
    let (mut fixed, mut seen) = (Set::new(), BTreeSet::new());
    for matcher in selector.matchers.iter().filter(|m| *m.name != *METRIC_NAME) {
        let first = !seen.contains(&*matcher.name);
        if matcher.op == MatchOp::Equal && first {
            seen.insert(matcher.name.to_string());
            if !matcher.value.is_empty() {
                fixed.insert(matcher.name.to_string(), matcher.value.to_string());
            }
        } else {
            fixed.remove(&*matcher.name);
        }
    }
    fixed
}

/// The new value of a label, if it gets one; empty takes it away.
type Rewrite<'t> = Box<dyn Fn(&Set) -> Option<String> + 't>;

fn replacement<'t>(texts: &[&'t str]) -> Outcome<Rewrite<'t>> {
    let [target, replacement, source, pattern] = *texts else { return Err("label_replace has five".to_owned()) };
    let regex = Regex::new(&format!("^(?s:{pattern})$")).map_err(|e| e.to_string())?;
    if target.is_empty() {
        return Err("invalid destination label name".to_owned());
    }
    Ok(Box::new(move |labels: &Set| {
        let found = labels.get(source).cloned().unwrap_or_default();
        let mut captures = regex.create_captures();
        regex.captures(&found, &mut captures);
        captures.is_match().then(|| {
            let mut new = String::new();
            captures.interpolate_string_into(&found, replacement, &mut new);
            new
        })
    }))
}

fn joint<'t>(texts: &[&'t str]) -> Outcome<Rewrite<'t>> {
    let (names, separator) = (texts[2..].to_vec(), texts[1]);
    if texts[0].is_empty() || names.contains(&"") {
        return Err("invalid label name".to_owned());
    }
    Ok(Box::new(move |labels: &Set| {
        let parts: Vec<&str> = names.iter().map(|name| labels.get(*name).map_or("", String::as_str)).collect();
        Some(parts.join(separator))
    }))
}
