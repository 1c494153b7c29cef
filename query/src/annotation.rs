//! Annotations: what a query's owner should know about its answer: warnings and infos, in Prometheus's words, with the
//! place in the query that they are about.
//!
//! A set shared by all operators of one query and the threads that work for them. Equal texts are one annotation,
//! whoever adds them and in whatever order: merging commutes but for the place, and all who work at the same time work
//! at the same place. So an answer's annotations do not depend on threads. Of equal texts at several places the place
//! added last is told.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use varve_model::Millis;

use crate::promql::ast::Span;
use crate::promql::{position, quoted};

/// How many distinct annotations of one query are kept; what comes later is lost, so that a query over a million
/// oddly named metrics does not carry a million remarks.
const KEPT_MAX: usize = 10_000;

/// How much an annotation matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// The answer may not be what was meant.
    Warning,
    /// A remark.
    Info,
}

/// What histogram arithmetic was at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// `+`, and counter resets added up.
    Addition,
    /// `-`, and differences within `rate`.
    Subtraction,
    /// `sum`, `avg`, and their kin over time.
    Aggregation,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Operation::Addition => "addition",
            Operation::Subtraction => "subtraction",
            Operation::Aggregation => "aggregation",
        }
    }
}

/// One annotation. `metric` is the metric name, empty where the series has none or must not tell it.
#[derive(Clone, PartialEq, Debug)]
pub enum Annotation {
    /// A ratio outside [-1, 1], and what it was taken for.
    InvalidRatio {
        /// As given.
        given: f64,
        /// As taken.
        taken: f64,
    },
    /// A quantile outside [0, 1].
    InvalidQuantile(f64),
    /// A series among the buckets of a classic histogram without a bound.
    BadBucketLabel {
        /// Metric name; may be empty.
        metric: String,
        /// What stands for `le`.
        label: String,
    },
    /// Floats and histograms in one range.
    MixedFloatsHistograms(String),
    /// Floats and histograms in one aggregated group.
    MixedFloatsHistogramsAggregation,
    /// Classic and native histograms of one name and labels.
    MixedClassicNativeHistograms(String),
    /// `rate`, `irate`, `increase` of gauge histograms.
    NativeHistogramNotCounter(String),
    /// `delta` or `idelta` of counter histograms.
    NativeHistogramNotGauge(String),
    /// Exponential and custom buckets together.
    MixedExponentialCustomHistograms(String),
    /// Histograms that a binary operator cannot bring together.
    IncompatibleBucketLayout(&'static str),
    /// Histograms combined of which one says that the counter was reset and the other that it was not.
    CounterResetCollision(Operation),
    /// A start time that lies before the sample before.
    StartTimeOverlap(String),
    /// The order of a range query cannot be chosen.
    SortInRangeQuery,
    /// `rate` or `increase` of something whose name is no counter's.
    PossibleNonCounter(String),
    /// `rate` or `increase` of something whose type is no counter's.
    PossibleNonCounterLabel {
        /// Metric name.
        metric: String,
        /// The label `__type__`.
        kind: String,
    },
    /// Buckets of a classic histogram whose counts fell.
    ForcedMonotonicity {
        /// Metric name; may be empty.
        metric: String,
        /// What was levelled.
        levelled: Levelled,
    },
    /// A binary operator over a float and a histogram, or two histograms, that is not defined.
    IncompatibleTypes {
        /// `float` or `histogram`.
        left: &'static str,
        /// The operator.
        op: &'static str,
        /// `float` or `histogram`.
        right: &'static str,
    },
    /// An aggregation that leaves histograms out.
    HistogramIgnoredInAggregation(&'static str),
    /// A function over time that leaves histograms out.
    HistogramIgnoredInMixedRange(String),
    /// A quantile that is NaN for NaN observations.
    QuantileNaNResult(String),
    /// A quantile that is too high for NaN observations.
    QuantileNaNSkew(String),
    /// Fractions that leave NaN observations out.
    FractionNaNs(String),
    /// Custom buckets with different bounds.
    MismatchedCustomBuckets(Operation),
}

/// Which buckets were levelled, by how much and when.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Levelled {
    /// Earliest time.
    pub time_min: Millis,
    /// Latest time.
    pub time_max: Millis,
    /// Smallest upper bound.
    pub bound_min: f64,
    /// Largest upper bound.
    pub bound_max: f64,
    /// Largest difference.
    pub difference_max: f64,
    /// How many times.
    pub count: u64,
}

impl Levelled {
    /// Takes in what was levelled elsewhere.
    pub(crate) fn merge(&mut self, other: &Levelled) {
        self.time_min = self.time_min.min(other.time_min);
        self.time_max = self.time_max.max(other.time_max);
        self.bound_min = self.bound_min.min(other.bound_min);
        self.bound_max = self.bound_max.max(other.bound_max);
        self.difference_max = self.difference_max.max(other.difference_max);
        self.count = self.count.saturating_add(other.count);
    }
}

fn of_metric(text: &str, metric: &str) -> String {
    if metric.is_empty() { text.to_owned() } else { format!("{text} for metric name {}", quoted(metric)) }
}

impl Annotation {
    /// Whether it is a warning or an info.
    pub fn level(&self) -> Level {
        match self {
            Annotation::InvalidRatio { .. }
            | Annotation::InvalidQuantile(_)
            | Annotation::BadBucketLabel { .. }
            | Annotation::MixedFloatsHistograms(_)
            | Annotation::MixedFloatsHistogramsAggregation
            | Annotation::MixedClassicNativeHistograms(_)
            | Annotation::NativeHistogramNotCounter(_)
            | Annotation::NativeHistogramNotGauge(_)
            | Annotation::MixedExponentialCustomHistograms(_)
            | Annotation::IncompatibleBucketLayout(_)
            | Annotation::CounterResetCollision(_)
            | Annotation::StartTimeOverlap(_)
            | Annotation::SortInRangeQuery => Level::Warning,
            Annotation::PossibleNonCounter(_)
            | Annotation::PossibleNonCounterLabel { .. }
            | Annotation::ForcedMonotonicity { .. }
            | Annotation::IncompatibleTypes { .. }
            | Annotation::HistogramIgnoredInAggregation(_)
            | Annotation::HistogramIgnoredInMixedRange(_)
            | Annotation::QuantileNaNResult(_)
            | Annotation::QuantileNaNSkew(_)
            | Annotation::FractionNaNs(_)
            | Annotation::MismatchedCustomBuckets(_) => Level::Info,
        }
    }

    /// What it says, without level, place and figures that are merged: annotations with equal ones are one.
    fn text(&self) -> String {
        const MIXED: &str = "encountered a mix of histograms and floats for";
        match self {
            Annotation::InvalidRatio { given, taken } => format!(
                "ratio value should be between -1 and 1, got {}, capping to {}",
                shortest(*given),
                shortest(*taken)
            ),
            Annotation::InvalidQuantile(q) => {
                format!("quantile value should be between 0 and 1, got {}", shortest(*q))
            }
            Annotation::BadBucketLabel { metric, label } => of_metric(
                &format!("bucket label \"le\" is missing or has a malformed value of {}", quoted(label)),
                metric,
            ),
            Annotation::MixedFloatsHistograms(metric) => format!("{MIXED} metric name {}", quoted(metric)),
            Annotation::MixedFloatsHistogramsAggregation => format!("{MIXED} aggregation"),
            Annotation::MixedClassicNativeHistograms(metric) => {
                of_metric("vector contains a mix of classic and native histograms", metric)
            }
            Annotation::NativeHistogramNotCounter(metric) => {
                format!("this native histogram metric is not a counter: {}", quoted(metric))
            }
            Annotation::NativeHistogramNotGauge(metric) => {
                format!("this native histogram metric is not a gauge: {}", quoted(metric))
            }
            Annotation::MixedExponentialCustomHistograms(metric) => format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
                quoted(metric)
            ),
            Annotation::IncompatibleBucketLayout(op) => {
                format!("incompatible bucket layout encountered for binary operator {op}")
            }
            Annotation::CounterResetCollision(operation) => {
                format!("conflicting counter resets during histogram {}", operation.as_str())
            }
            Annotation::StartTimeOverlap(metric) => format!(
                "sample has start time that overlaps with previous sample timestamp for metric {}",
                quoted(metric)
            ),
            Annotation::SortInRangeQuery => {
                "sort is ineffective for range queries since results are always ordered by labels".to_owned()
            }
            Annotation::PossibleNonCounter(metric) => format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
                quoted(metric)
            ),
            Annotation::PossibleNonCounterLabel { metric, kind } => format!(
                "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {}: {}",
                quoted(kind),
                quoted(metric)
            ),
            Annotation::ForcedMonotonicity { metric, .. } => of_metric(
                "input to histogram_quantile needed to be fixed for monotonicity (see \
                 https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)",
                metric,
            ),
            Annotation::IncompatibleTypes { left, op, right } => {
                format!("incompatible sample types encountered for binary operator {}: {left} {op} {right}", quoted(op))
            }
            Annotation::HistogramIgnoredInAggregation(op) => format!("ignored histogram in {op} aggregation"),
            Annotation::HistogramIgnoredInMixedRange(metric) => format!(
                "ignored histograms in a range containing both floats and histograms for metric name {}",
                quoted(metric)
            ),
            Annotation::QuantileNaNResult(metric) => {
                of_metric("input to histogram_quantile has NaN observations, result is NaN", metric)
            }
            Annotation::QuantileNaNSkew(metric) => {
                of_metric("input to histogram_quantile has NaN observations, result is skewed higher", metric)
            }
            Annotation::FractionNaNs(metric) => of_metric(
                "input to histogram_fraction has NaN observations, which are excluded from all fractions",
                metric,
            ),
            Annotation::MismatchedCustomBuckets(operation) => {
                format!("mismatched custom buckets were reconciled during {}", operation.as_str())
            }
        }
    }
}

/// What was added under one text.
#[derive(Clone, Debug)]
struct Entry {
    span: Span,
    count: u64,
    levelled: Option<Levelled>,
}

/// The annotations of one query; clones are the same set.
#[derive(Clone, Debug, Default)]
pub struct Annotations(Arc<Mutex<BTreeMap<(Level, String), Entry>>>);

impl Annotations {
    /// No annotation.
    pub fn new() -> Annotations {
        Annotations::default()
    }

    /// Adds one that is about the part of the query at `span`. Locks the set and writes the text: not for loops over
    /// samples, which should remember that they have something to say.
    pub fn add(&self, annotation: &Annotation, span: Span) {
        self.add_times(annotation, span, 1);
    }

    fn add_times(&self, annotation: &Annotation, span: Span, times: u64) {
        let levelled = match annotation {
            Annotation::ForcedMonotonicity { levelled, .. } => Some(*levelled),
            _ => None,
        };
        let key = (annotation.level(), annotation.text());
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&key) {
            entry.span = span;
            entry.count = entry.count.saturating_add(times);
            if let (Some(into), Some(from)) = (&mut entry.levelled, &levelled) {
                into.merge(from);
            }
        } else if entries.len() < KEPT_MAX {
            entries.insert(key, Entry { span, count: times, levelled });
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Warnings and infos as Prometheus shows them for the query `text`, sorted; at most `max` of each and then how
    /// many more there are.
    pub fn texts(&self, text: &str, max: usize) -> (Vec<String>, Vec<String>) {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |level: Level, word: &str| {
            let mut shown = Vec::new();
            let mut omitted = 0;
            for ((_, message), entry) in entries.iter().filter(|((other, _), _)| *other == level) {
                if shown.len() < max {
                    shown.push(format!("PromQL {word}: {}", entry.show(message, text)));
                } else {
                    omitted += 1;
                }
            }
            if omitted > 0 {
                shown.push(format!("{omitted} more {word} annotations omitted"));
            }
            shown
        };
        (of(Level::Warning, "warning"), of(Level::Info, "info"))
    }
}

impl Entry {
    fn show(&self, message: &str, query: &str) -> String {
        let mut out = message.to_owned();
        if let Some(levelled) = &self.levelled {
            let _ = write!(
                out,
                ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
                shortest(levelled.bound_min),
                shortest(levelled.bound_max),
                two_digits(levelled.difference_max),
                levelled.count,
                seconds_text(levelled.time_min),
                seconds_text(levelled.time_max),
            );
        } else if self.count > 1 && message.starts_with("sample has start time") {
            let _ = write!(out, " ({} occurrences)", self.count);
        }
        let (line, column) = position(query, self.span.begin);
        let _ = write!(out, " ({line}:{column})");
        out
    }
}

/// Where an operator puts its annotations: the query's set, and the part of the query they are about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    annotations: Annotations,
    span: Span,
}

impl Notes {
    /// Notes about the part at `span`.
    pub(crate) fn new(annotations: &Annotations, span: Span) -> Notes {
        Notes { annotations: annotations.clone(), span }
    }

    /// Adds an annotation; see [`Annotations::add`].
    pub(crate) fn add(&self, annotation: &Annotation) {
        self.annotations.add(annotation, self.span);
    }

    /// Adds an annotation that is to be counted so many times.
    pub(crate) fn add_times(&self, annotation: &Annotation, times: u64) {
        self.annotations.add_times(annotation, self.span, times);
    }
}

/// A float as Go's `%g`: the shortest digits that read back, with an exponent below 1e-4 and from 1e6 on.
pub(crate) fn shortest(value: f64) -> String {
    if value.is_finite() && value != 0.0 { exponential(&format!("{value:e}"), 6) } else { special(value) }
}

/// A float as Go's `%.2g`.
fn two_digits(value: f64) -> String {
    if value.is_finite() && value != 0.0 { exponential(&format!("{value:.1e}"), 2) } else { special(value) }
}

fn special(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        (if value > 0.0 { "+Inf" } else { "-Inf" }).to_owned()
    } else {
        format!("{value}")
    }
}

/// `text` is `d.ddde±x`; decides between that form and plain digits as Go does.
fn exponential(text: &str, exponent_max: i32) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let (sign, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => ("-", digits.replace('.', "")),
        None => ("", mantissa.replace('.', "")),
    };
    if exponent < -4 || exponent >= exponent_max {
        let direction = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{direction}{:02}", exponent.unsigned_abs());
    }
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1));
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        return format!("{sign}{digits}{}", "0".repeat(whole - digits.len()));
    }
    let (whole, fraction) = digits.split_at(whole);
    format!("{sign}{whole}.{fraction}")
}

/// A time to the second, as RFC 3339 has it in UTC.
fn seconds_text(time: Millis) -> String {
    // Towards zero, as Go divides.
    let seconds = time / 1000;
    crate::exec::date_text(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(begin: u32) -> Span {
        Span { begin, end: begin + 1 }
    }

    #[test]
    fn equal_texts_are_one_and_the_rest_is_counted() {
        let annotations = Annotations::new();
        assert!(annotations.is_empty());
        for name in ["b", "a", "b"] {
            annotations.add(&Annotation::PossibleNonCounter(name.to_owned()), span(5));
        }
        annotations.add(&Annotation::SortInRangeQuery, span(0));
        let (warnings, infos) = annotations.texts("rate(\nx)", 1);
        assert_eq!(
            warnings,
            ["PromQL warning: sort is ineffective for range queries since results are always ordered by labels (1:1)"]
        );
        assert_eq!(
            infos,
            [
                "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"a\" \
                 (1:6)",
                "1 more info annotations omitted"
            ]
        );
    }

    #[test]
    fn what_was_levelled_is_merged() {
        let annotations = Annotations::new();
        for (time, bound, difference) in [(1_000, 0.5, 0.25), (61_500, 10.0, 3.0)] {
            let levelled = Levelled {
                time_min: time,
                time_max: time,
                bound_min: bound,
                bound_max: bound,
                difference_max: difference,
                count: 1,
            };
            annotations.add(&Annotation::ForcedMonotonicity { metric: "x_bucket".to_owned(), levelled }, span(2));
        }
        let (_, infos) = annotations.texts("12345", 10);
        assert_eq!(infos.len(), 1);
        assert!(
            infos[0].ends_with(
                "for metric name \"x_bucket\", from buckets 0.5 to 10, with a max diff of 3, over 2 samples from \
                 1970-01-01T00:00:01Z to 1970-01-01T00:01:01Z (1:3)"
            ),
            "{infos:?}"
        );
    }

    #[test]
    fn floats_are_written_as_go_does() {
        for (value, text) in [
            (1.5, "1.5"),
            (-0.1, "-0.1"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (100.0, "100"),
            (1e6, "1e+06"),
            (0.0, "0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(shortest(value), text);
        }
        for (value, text) in [(0.12345, "0.12"), (1.0, "1"), (12.0, "12"), (100.0, "1e+02"), (0.000_012, "1.2e-05")] {
            assert_eq!(two_digits(value), text);
        }
    }
}
