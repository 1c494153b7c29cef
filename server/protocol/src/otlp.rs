//! OTLP metrics (`ExportMetricsServiceRequest`), as Prometheus 3 translates them.
//!
//! ```text
//! resource  service.namespace/service.name -> job, service.instance.id -> instance, the others -> target_info
//! scope     name, version, schema, attributes -> otel_scope_… (by setting)
//! metric    gauge, sum                float samples
//!           histogram                 _bucket, _sum, _count; by setting one native histogram with custom bounds
//!           exponential histogram     native histogram
//!           summary                   quantiles, _sum, _count
//! ```
//! The body is read where it is. A message inside another is read as often as something is wanted of it, which costs
//! less than to keep it. What cannot be told as Prometheus tells it is left out by data points
//! ([`Summary::rejected`]), its neighbours stay; a body that cannot be read is an error of the whole.
//!
//! JSON is rewritten as protobuf first (`json.rs`).

mod buckets;
mod json;
mod label;
mod name;
mod point;
#[cfg(test)]
mod tests;
mod value;

use std::mem::size_of;

use varve_model::write::{Metadata, MetricType};
use varve_model::{Limits, Millis, WriteBatch};

use crate::budget::Budget;
use crate::metadata::merge;
use crate::protobuf::{Reader, Value};
use crate::{Error, Refused, Summary};
use label::{LabelSet, Resource};
use name::{LabelNames, NameKind};
use value::utf8;

/// How names are translated, by Prometheus's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Strategy {
    /// Underscores for what is no letter, digit or colon; unit and type are appended.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// The same without unit and type.
    UnderscoreEscapingWithoutSuffixes,
    /// Names as they are; unit and type are appended.
    NoUtf8EscapingWithSuffixes,
    /// Names as they are.
    NoTranslation,
}

impl Strategy {
    /// By its word; `None` when there is no such strategy.
    pub fn parse(word: &str) -> Option<Strategy> {
        Some(match word {
            "UnderscoreEscapingWithSuffixes" => Strategy::UnderscoreEscapingWithSuffixes,
            "UnderscoreEscapingWithoutSuffixes" => Strategy::UnderscoreEscapingWithoutSuffixes,
            "NoUTF8EscapingWithSuffixes" => Strategy::NoUtf8EscapingWithSuffixes,
            "NoTranslation" => Strategy::NoTranslation,
            _ => return None,
        })
    }

    fn escapes(self) -> bool {
        matches!(self, Strategy::UnderscoreEscapingWithSuffixes | Strategy::UnderscoreEscapingWithoutSuffixes)
    }

    fn has_suffixes(self) -> bool {
        matches!(self, Strategy::UnderscoreEscapingWithSuffixes | Strategy::NoUtf8EscapingWithSuffixes)
    }
}

/// What becomes of samples with delta temporality.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Delta {
    /// They are left out.
    Refuse,
    /// They are stored as they are, their type unknown.
    Native,
    /// They are taken as they are and named in [`Summary::deltas`], for the caller to sum up.
    #[default]
    Cumulative,
}

/// Which attributes of the resource become labels of every series.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Promote {
    /// These.
    Some(Vec<String>),
    /// All but these.
    AllBut(Vec<String>),
}

/// How metrics are translated; the defaults are Prometheus's, but for deltas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Names.
    pub strategy: Strategy,
    /// Attributes of the resource as labels.
    pub promote: Promote,
    /// Whether `target_info` also has `service.name`, `service.namespace` and `service.instance.id`.
    pub keep_identifying: bool,
    /// Whether histograms become native ones with custom bounds.
    pub custom_buckets: bool,
    /// Delta temporality.
    pub delta: Delta,
    /// Whether the scope becomes labels.
    pub promote_scope: bool,
    /// Whether type and unit become the labels `__type__` and `__unit__`.
    pub type_and_unit_labels: bool,
    /// Whether a label `_a` becomes `key_a`.
    pub label_underscore_sanitization: bool,
    /// Whether a label `a__b` keeps both underscores.
    pub label_multiple_underscores: bool,
    /// How far back a query looks; `target_info` has a sample every half of it.
    pub lookback_ms: Millis,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            strategy: Strategy::default(),
            promote: Promote::Some(Vec::new()),
            keep_identifying: false,
            custom_buckets: false,
            delta: Delta::default(),
            promote_scope: false,
            type_and_unit_labels: false,
            label_underscore_sanitization: true,
            label_multiple_underscores: true,
            lookback_ms: 300_000,
        }
    }
}

/// Samples of one `target_info` in one request.
const TARGET_INFO_MAX: i64 = 1000;
/// Sentences about what was left out, and how often one is made to see whether it is new.
const WARNINGS_MAX: usize = 20;
const WARNINGS_TRIED_MAX: usize = 1000;
/// Bytes of a name in a sentence.
const NAME_BYTES_MAX: usize = 100;

/// Reads a decompressed request in JSON into `batch`, replacing what it holds.
pub fn decode_json(
    body: &[u8],
    settings: &Settings,
    limits: &Limits,
    batch: &mut WriteBatch,
) -> Result<Summary, Error> {
    batch.clear();
    let mut message = Vec::with_capacity(body.len().min(1 << 20));
    let bytes_max = usize::try_from(limits.decompressed_bytes_max).unwrap_or(usize::MAX);
    json::to_protobuf(body, bytes_max, &mut message)?;
    decode(&message, settings, limits, batch)
}

/// Reads a decompressed request in protobuf into `batch`, replacing what it holds.
///
/// Memory: at most `decompressed_bytes_max` bytes (vectors twice that, as they double). On an error the batch is empty.
pub fn decode(body: &[u8], settings: &Settings, limits: &Limits, batch: &mut WriteBatch) -> Result<Summary, Error> {
    batch.clear();
    let bytes_max = limits.decompressed_bytes_max.min(u64::from(u32::MAX) / 4);
    let names = LabelNames {
        escapes: settings.strategy.escapes(),
        marks_underscore: settings.label_underscore_sanitization,
        keeps_underscores: settings.label_multiple_underscores,
    };
    let mut decoder = Decoder {
        settings,
        limits,
        names,
        batch,
        budget: Budget::new(bytes_max),
        summary: Summary::default(),
        warnings_tried: 0,
        resource: Resource::default(),
        scope: LabelSet::default(),
        labels: LabelSet::default(),
        times: None,
    };
    let result = decoder.request(Reader::new(body));
    let summary = decoder.summary;
    match result {
        Ok(()) => {
            merge(&mut batch.metadata);
            Ok(Summary { samples: batch.samples() as u64, ..summary })
        }
        Err(error) => {
            batch.clear();
            Err(error)
        }
    }
}

struct Decoder<'a, 'b> {
    settings: &'b Settings,
    limits: &'b Limits,
    names: LabelNames,
    batch: &'b mut WriteBatch,
    budget: Budget,
    summary: Summary,
    warnings_tried: usize,
    resource: Resource<'a>,
    /// Labels of the scope.
    scope: LabelSet<'a>,
    /// Labels of the data point, without its name; reused.
    labels: LabelSet<'a>,
    /// Earliest and latest data point of the resource.
    times: Option<(Millis, Millis)>,
}

/// A metric as far as all kinds have it.
struct Metric {
    /// The beginning of its name as the client has it, for sentences.
    given: String,
    /// Its name as a series has it.
    name: String,
    kind: MetricType,
    unit: String,
    /// Whether its samples are differences.
    is_delta: bool,
}

/// Aggregation temporality by its number.
const DELTA: u64 = 1;
const CUMULATIVE: u64 = 2;

impl<'a> Decoder<'a, '_> {
    fn request(&mut self, mut request: Reader<'a>) -> Result<(), Error> {
        while let Some(field) = request.field()? {
            match (field.number, field.value) {
                (1, Value::Bytes(metrics)) => self.resource_metrics(metrics)?,
                (1, _) => return Err(request.malformed("field of the request with a wrong type")),
                _ => {}
            }
        }
        Ok(())
    }

    /// `ResourceMetrics { resource = 1, scope_metrics = 2, schema_url = 3 }`.
    fn resource_metrics(&mut self, whole: Reader<'a>) -> Result<(), Error> {
        let resource = find_message(whole, 1)?;
        self.times = None;
        match Resource::read(resource, self.settings, self.names, self.attributes_max())? {
            Ok(resource) => self.resource = resource,
            Err(what) => {
                let points = count_points(whole)?;
                self.reject(points, || format!("a resource with {what}"));
                return Ok(());
            }
        }
        let mut message = whole;
        while let Some(field) = message.field()? {
            match (field.number, field.value) {
                (2, Value::Bytes(metrics)) => self.scope_metrics(metrics)?,
                (2, _) => return Err(message.malformed("field of ResourceMetrics with a wrong type")),
                _ => {}
            }
        }
        self.target_info()
    }

    /// Attributes of one thing that are looked at: what has more is refused by its labels anyway.
    fn attributes_max(&self) -> usize {
        self.limits.labels_per_series_max as usize + 16
    }

    /// `ScopeMetrics { scope = 1, metrics = 2, schema_url = 3 }`.
    fn scope_metrics(&mut self, whole: Reader<'a>) -> Result<(), Error> {
        self.scope.clear();
        if self.settings.promote_scope {
            let attributes_max = self.attributes_max();
            let scope = label::read_scope(whole, &mut self.scope, self.names, attributes_max)?;
            if let Err(what) = scope {
                let points = count_metrics(whole)?;
                self.reject(points, || format!("a scope with {what}"));
                return Ok(());
            }
        }
        let mut message = whole;
        while let Some(field) = message.field()? {
            match (field.number, field.value) {
                (2, Value::Bytes(metric)) => self.metric(metric)?,
                (2, _) => return Err(message.malformed("field of ScopeMetrics with a wrong type")),
                _ => {}
            }
        }
        Ok(())
    }

    /// `Metric { name = 1, description = 2, unit = 3, gauge = 5, sum = 7, histogram = 9, exponential_histogram = 10,
    /// summary = 11 }`.
    fn metric(&mut self, mut message: Reader<'a>) -> Result<(), Error> {
        let (mut given, mut help, mut unit, mut data) = ("", "", "", None);
        while let Some(field) = message.field()? {
            match (field.number, field.value) {
                (1, Value::Bytes(text)) => given = utf8(text)?,
                (2, Value::Bytes(text)) => help = utf8(text)?,
                (3, Value::Bytes(text)) => unit = utf8(text)?,
                (5 | 7 | 9 | 10 | 11, Value::Bytes(message)) => data = Some((field.number, message)),
                (1..=3 | 5 | 7 | 9..=11, _) => return Err(message.malformed("field of Metric with a wrong type")),
                _ => {}
            }
        }
        // Sentences are made by the point, so what goes into them is short before.
        let short = short(given);
        let Some((number, data)) = data else {
            self.warn(|| format!("metric {short:?} has no data"));
            return Ok(());
        };
        let (mut temporality, mut is_monotonic) = (0, false);
        let mut fields = data;
        while let Some(field) = fields.field()? {
            match (field.number, field.value) {
                (2, Value::Varint(number)) => temporality = number,
                (3, Value::Varint(bool)) => is_monotonic = bool != 0,
                (1, Value::Bytes(_)) => {}
                (1..=3, _) => return Err(fields.malformed("data of a metric with a wrong type")),
                _ => {}
            }
        }
        let (mut kind, name_kind) = match number {
            5 => (MetricType::Gauge, NameKind::Gauge),
            7 if is_monotonic => (MetricType::Counter, NameKind::Counter),
            7 => (MetricType::Gauge, NameKind::Other),
            11 => (MetricType::Summary, NameKind::Other),
            _ => (MetricType::Histogram, NameKind::Other),
        };
        let has_temporality = matches!(number, 7 | 9 | 10);
        let is_delta = has_temporality && temporality == DELTA;
        let told = match temporality {
            DELTA if is_delta && self.settings.delta == Delta::Refuse => Err("its temporality is delta"),
            CUMULATIVE | DELTA => Ok(()),
            _ if has_temporality => Err("its temporality is not told"),
            _ => Ok(()),
        };
        let name = told.and_then(|()| name::metric(given, unit, name_kind, self.settings.strategy));
        let name = match name {
            Ok(name) => name,
            Err(what) => {
                let points = count_fields(data, 1)?;
                self.reject(points, || format!("metric {short:?}: {what}"));
                return Ok(());
            }
        };
        if is_delta && self.settings.delta == Delta::Native {
            kind = MetricType::Unknown;
        }
        let metric = Metric { given: short.to_owned(), name, kind, unit: name::unit(unit), is_delta };
        let before = (self.batch.series.len(), self.summary.rejected);
        self.points(number, data, &metric)?;
        if before == (self.batch.series.len(), self.summary.rejected) {
            self.warn(|| format!("metric {short:?} has no data points"));
            return Ok(());
        }
        self.budget.spend(size_of::<Metadata>() + metric.name.len() + help.len() + metric.unit.len())?;
        let Metric { name: family, kind, unit, .. } = metric;
        self.batch.metadata.push(Metadata { family, kind, help: help.to_owned(), unit });
        Ok(())
    }

    /// Counts data points that are left out, and says why.
    #[cold]
    fn reject(&mut self, points: u64, what: impl FnOnce() -> String) {
        self.summary.rejected += points;
        self.warn(what);
    }

    /// Leaves out a data point whose labels have been set: that work is paid for as if it were kept.
    #[cold]
    fn reject_point(&mut self, what: impl FnOnce() -> String) -> Result<(), Error> {
        self.reject(1, what);
        self.budget.spend(size_of::<varve_model::write::WriteSeries>() + self.labels.bytes())
    }

    /// Keeps a sentence that is new. What is sent a million times is not put into words as often.
    #[cold]
    fn warn(&mut self, what: impl FnOnce() -> String) {
        let warnings = &mut self.summary.warnings;
        if warnings.len() >= WARNINGS_MAX || self.warnings_tried >= WARNINGS_TRIED_MAX {
            return;
        }
        self.warnings_tried += 1;
        let what = what();
        if !warnings.contains(&what) {
            warnings.push(what);
        }
    }

    /// `target_info` of the resource, over the time its data points are of.
    fn target_info(&mut self) -> Result<(), Error> {
        let Some((first, last)) = self.times else { return Ok(()) };
        if !self.resource.is_told {
            return Ok(());
        }
        self.labels.clear();
        std::mem::swap(&mut self.labels, &mut self.resource.info);
        self.begin_series("target_info", None)?;
        let step = (self.settings.lookback_ms / 2).max(1);
        // A time that was never set must not become a million samples.
        let mut time = first.max(last.saturating_sub(step.saturating_mul(TARGET_INFO_MAX)));
        while time < last {
            self.push_sample(time, 1.0, 0)?;
            time = time.saturating_add(step);
        }
        self.push_sample(last, 1.0, 0)?;
        let help = "Target metadata".to_owned();
        self.batch.metadata.push(Metadata {
            family: "target_info".to_owned(),
            kind: MetricType::Gauge,
            help,
            unit: String::new(),
        });
        self.budget.spend(size_of::<Metadata>() + 30)
    }

    /// Begins a series with the labels of the data point, its name and perhaps one label more.
    fn begin_series(&mut self, name: &str, extra: Option<(&str, &str)>) -> Result<(), Error> {
        let series = self.batch.series.len() as u64;
        if series >= u64::from(self.limits.series_per_request_max) {
            return Err(Error::Limit {
                limit: "series in one request",
                max: u64::from(self.limits.series_per_request_max),
                got: series + 1,
                setting: "series_per_request_max",
            });
        }
        self.budget.spend(size_of::<varve_model::write::WriteSeries>())?;
        label::push_series(self.batch, &mut self.budget, &self.labels, name, extra)
    }

    fn push_sample(&mut self, time: Millis, value: f64, start: Millis) -> Result<(), Error> {
        self.budget.spend(24)?;
        self.batch.push_sample(time, value);
        self.batch.set_start(start);
        Ok(())
    }
}

/// The beginning of a name.
fn short(name: &str) -> &str {
    name.get(..name.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or_default()
}

/// The last field of this number, as messages are merged by those who send them once.
fn find_message<'a>(mut message: Reader<'a>, number: u32) -> Result<Option<Reader<'a>>, Error> {
    let mut found = None;
    while let Some(field) = message.field()? {
        if let (true, Value::Bytes(inner)) = (field.number == number, field.value) {
            found = Some(inner);
        }
    }
    Ok(found)
}

fn count_fields(mut message: Reader<'_>, number: u32) -> Result<u64, Error> {
    let mut count = 0;
    while let Some(field) = message.field()? {
        count += u64::from(field.number == number);
    }
    Ok(count)
}

/// Data points of all metrics in a `ScopeMetrics`.
fn count_metrics(mut message: Reader<'_>) -> Result<u64, Error> {
    let mut count = 0;
    while let Some(field) = message.field()? {
        let (2, Value::Bytes(mut metric)) = (field.number, field.value) else { continue };
        while let Some(field) = metric.field()? {
            if let (5 | 7 | 9..=11, Value::Bytes(data)) = (field.number, field.value) {
                count += count_fields(data, 1)?;
            }
        }
    }
    Ok(count)
}

/// Data points in a `ResourceMetrics`.
fn count_points(mut message: Reader<'_>) -> Result<u64, Error> {
    let mut count = 0;
    while let Some(field) = message.field()? {
        if let (2, Value::Bytes(scope)) = (field.number, field.value) {
            count += count_metrics(scope)?;
        }
    }
    Ok(count)
}
