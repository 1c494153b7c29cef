//! What a scrape target answers: text 0.0.4, OpenMetrics 1.0, or delimited protobuf of metric families.
//!
//! ```text
//! body ── read ──> Visitor::metadata(family, type | help | unit)
//!            └───> Visitor::sample(Sample { series, time, value, start, exemplars })
//! series ── labels_of ──> names and values            only for a series the visitor has not seen before
//! ```
//! The one idea: a sample is handed over with its *series key*, the bytes that stand in the body (or, for protobuf,
//! its label bytes), so that a target's steady scrape is one table look-up a line and no allocation. Accepts and
//! refuses what Prometheus's own parsers do, unlike [`crate::exposition`], which is lenient: a broken exposition must
//! make `up` 0 here as there. Error texts are Prometheus's where a person would compare them.
//!
//! Invariants: no input panics; one error ends the body; memory is that of the longest series and its exemplars.

mod collate;
mod family;
mod float;
mod histogram;
mod lexer;
mod lines;
#[cfg(test)]
mod tests;

use varve_model::labels::{METRIC_NAME, split_body, split_label};
use varve_model::write::MetricType;
use varve_model::{Histogram, Millis};

pub use collate::ClassicBuckets;
pub use float::{open_metrics_float, parse_float};
pub use histogram::reduce_resolution;
pub(crate) use lexer::quoted;

/// Labels of one series. The limit that stored series have is far lower; this one bounds the work for one line.
const LABELS_MAX: usize = 10_000;

/// Names and values.
pub type Pairs = Vec<(String, String)>;

/// The format of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Media {
    /// `text/plain`
    Text,
    /// `application/openmetrics-text`
    OpenMetrics,
    /// `application/vnd.google.protobuf`, delimited metric families.
    Protobuf,
}

impl Media {
    /// By `Content-Type`; a header that is missing, broken or of another type gives `fallback`, or an error without
    /// one.
    pub fn of(content_type: &str, fallback: Option<Media>) -> Result<Media, String> {
        if content_type.is_empty() {
            return fallback.ok_or_else(|| {
                "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for \
                 target"
                    .to_owned()
            });
        }
        let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media_type.as_str() {
            "application/openmetrics-text" => Ok(Media::OpenMetrics),
            "application/vnd.google.protobuf" => Ok(Media::Protobuf),
            "text/plain" => Ok(Media::Text),
            _ => fallback.ok_or_else(|| {
                format!(
                    "received unsupported Content-Type {} and no fallback_scrape_protocol specified for target",
                    quoted(content_type.as_bytes())
                )
            }),
        }
    }
}

/// What is made of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Take the native part of histograms (protobuf only).
    pub native_histograms: bool,
    /// Give the classic series of a histogram also where a native one is given.
    pub classic_too: bool,
    /// Turn classic histograms into native ones with custom buckets.
    pub to_custom_buckets: bool,
}

/// What is said of a family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part<'a> {
    /// Its type.
    Type(MetricType),
    /// Its help text, unescaped.
    Help(&'a str),
    /// Its unit.
    Unit(&'a str),
}

/// An exemplar of a sample.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Exemplar {
    /// Its own labels, in the order sent.
    pub labels: Pairs,
    /// What.
    pub value: f64,
    /// When, if the target says so.
    pub time: Option<Millis>,
}

/// What was measured.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A number; a NaN is never the stale marker.
    Float(f64),
    /// A native histogram; counts and spans fit each other.
    Histogram(Histogram),
}

/// One sample of a body.
#[derive(Debug)]
pub struct Sample<'a> {
    /// The series as it stands in the body; [`labels_of`] reads it.
    pub series: &'a [u8],
    /// Type of the family that was declared last.
    pub kind: MetricType,
    /// When, if the target says so.
    pub time: Option<Millis>,
    /// What; the visitor may take it.
    pub value: Value,
    /// When counting began; 0 is unknown.
    pub start: Millis,
    /// Its exemplars.
    pub exemplars: &'a [Exemplar],
}

/// Takes what a body holds, in its order.
pub trait Visitor {
    /// Something is said of a family.
    fn metadata(&mut self, family: &str, part: Part<'_>);
    /// A sample; an error ends the reading and becomes its result.
    fn sample(&mut self, sample: Sample<'_>) -> Result<(), String>;
}

/// Reads a body. Text must end with a line break: the caller appends one.
pub fn read(body: &[u8], media: Media, options: Options, visitor: &mut dyn Visitor) -> Result<(), String> {
    match media {
        Media::Protobuf => family::read(body, options, visitor),
        Media::Text | Media::OpenMetrics if options.to_custom_buckets => {
            let mut collator = collate::Collator::new(options.classic_too, visitor);
            lines::read(body, media, &mut collator)?;
            collator.finish()
        }
        Media::Text | Media::OpenMetrics => lines::read(body, media, visitor),
    }
}

/// The labels of a series key in the order written, its name first. `kind` is that of its [`Sample`]: bounds of
/// buckets and quantiles are written as OpenMetrics writes numbers. `pairs` is replaced.
pub fn labels_of(series: &[u8], kind: MetricType, pairs: &mut Pairs) -> Result<(), String> {
    pairs.clear();
    // Text never begins with a line break, label bytes always do.
    if series.first() != Some(&b'\n') {
        return lexer::labels(series, kind, pairs);
    }
    let not_utf8 = |_| "a label is not valid UTF-8".to_owned();
    let mut rest = series;
    while let Some((body, after)) = split_label(rest) {
        let Some((name, value)) = split_body(body) else { break };
        let name = std::str::from_utf8(name).map_err(not_utf8)?;
        let value = std::str::from_utf8(value).map_err(not_utf8)?;
        push_pair(pairs, name.to_owned(), value.to_owned())?;
        rest = after;
    }
    Ok(())
}

fn push_pair(pairs: &mut Pairs, name: String, value: String) -> Result<(), String> {
    if pairs.len() >= LABELS_MAX {
        return Err(format!("more than {LABELS_MAX} labels"));
    }
    pairs.push((name, value));
    Ok(())
}

/// Whether a label holds a number that is written in one way only.
fn holds_number(kind: MetricType, label: &str) -> bool {
    match kind {
        MetricType::Histogram => label == "le",
        MetricType::Summary => label == "quantile",
        _ => false,
    }
}

/// The family name and the role of a series of a classic histogram.
fn histogram_suffix(name: &str) -> Option<(&str, &str)> {
    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| Some((name.strip_suffix(suffix)?, *suffix)))
}

/// The name among pairs, which stands first.
fn name_of(pairs: &Pairs) -> &str {
    pairs.iter().find(|(name, _)| name == METRIC_NAME).map_or("", |(_, value)| value.as_str())
}
