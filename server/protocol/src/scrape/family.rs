//! Delimited protobuf: `io.prometheus.client.MetricFamily` messages, each behind its length.
//!
//! A family is read twice: its name and type may stand behind its metrics. The key of a series is its label bytes.
//! Histograms and summaries are given as the series the text format has for them, in Prometheus's order.

use varve_model::histogram::{ResetHint, Span};
use varve_model::labels::{METRIC_NAME, push_label};
use varve_model::write::MetricType;
use varve_model::{Histogram, Millis};

use super::collate::ClassicBuckets;
use super::float::NAN_BITS;
use super::histogram::compact;
use super::{Exemplar, LABELS_MAX, Options, Pairs, Part, Sample, Visitor, open_metrics_float, quoted};
use crate::protobuf::{Reader, Value, zigzag};

/// Buckets of one side of a histogram, so that a packed byte each does not become sixteen of memory without end.
const BUCKETS_MAX: usize = 1 << 20;

/// Reads a body to its end.
pub(super) fn read(body: &[u8], options: Options, visitor: &mut dyn Visitor) -> Result<(), String> {
    let mut reader = Reader::new(body);
    let mut scratch = Scratch::default();
    while !reader.is_empty() {
        let family = reader.bytes().map_err(text)?;
        Family::read(family)?.visit(family, options, &mut scratch, visitor)?;
    }
    Ok(())
}

fn text(error: crate::Error) -> String {
    error.to_string()
}

/// Memory that metrics hand on to each other.
#[derive(Default)]
struct Scratch {
    /// Label bytes of the metric without its name.
    labels: Vec<u8>,
    /// Label bytes of the series.
    series: Vec<u8>,
    /// A name with its suffix.
    name: String,
    exemplars: Vec<Exemplar>,
    buckets: ClassicBuckets,
}

/// What is said of a family.
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    unit: &'a str,
    kind: MetricType,
}

impl<'a> Family<'a> {
    fn read(mut message: Reader<'a>) -> Result<Family<'a>, String> {
        let mut family = Family { name: "", help: "", unit: "", kind: MetricType::Counter };
        while let Some(field) = message.field().map_err(text)? {
            match (field.number, field.value) {
                (1, Value::Bytes(name)) => family.name = utf8(name, "metric name")?,
                (2, Value::Bytes(help)) => family.help = utf8(help, "help")?,
                (3, Value::Varint(kind)) => {
                    family.kind = match kind {
                        0 => MetricType::Counter,
                        1 => MetricType::Gauge,
                        2 => MetricType::Summary,
                        3 => MetricType::Unknown,
                        4 => MetricType::Histogram,
                        5 => MetricType::GaugeHistogram,
                        _ => {
                            return Err(format!(
                                "unknown metric type for metric {}: {kind}",
                                quoted(family.name.as_bytes())
                            ));
                        }
                    }
                }
                (5, Value::Bytes(unit)) => family.unit = utf8(unit, "unit")?,
                _ => {}
            }
        }
        Ok(family)
    }

    fn visit(
        &self,
        mut message: Reader<'a>,
        options: Options,
        scratch: &mut Scratch,
        visitor: &mut dyn Visitor,
    ) -> Result<(), String> {
        let mut first = true;
        while let Some(field) = message.field().map_err(text)? {
            let (4, Value::Bytes(metric)) = (field.number, field.value) else { continue };
            if first {
                first = false;
                if self.name.is_empty() {
                    return Err("invalid metric name: ".to_owned());
                }
                visitor.metadata(self.name, Part::Help(self.help));
                if !self.unit.is_empty() {
                    visitor.metadata(self.name, Part::Unit(self.unit));
                }
                visitor.metadata(self.name, Part::Type(self.kind));
            }
            self.metric(metric, options, scratch, visitor)?;
        }
        Ok(())
    }

    fn metric(
        &self,
        mut message: Reader<'a>,
        options: Options,
        scratch: &mut Scratch,
        visitor: &mut dyn Visitor,
    ) -> Result<(), String> {
        scratch.labels.clear();
        let (mut labels, mut time, mut value) = (0, 0i64, None);
        // The field that holds the value of each type.
        let wanted = match self.kind {
            MetricType::Gauge => 2,
            MetricType::Counter => 3,
            MetricType::Summary => 4,
            MetricType::Histogram | MetricType::GaugeHistogram => 7,
            _ => 5,
        };
        while let Some(field) = message.field().map_err(text)? {
            match (field.number, field.value) {
                (1, Value::Bytes(pair)) => {
                    labels += 1;
                    if labels > LABELS_MAX {
                        return Err(format!("more than {LABELS_MAX} labels"));
                    }
                    let (name, text) = label_pair(pair)?;
                    // An empty value is no label.
                    if !text.is_empty() {
                        push_label(&mut scratch.labels, name.as_bytes(), text.as_bytes());
                    }
                }
                (6, Value::Varint(millis)) => time = millis as i64,
                (number, Value::Bytes(inner)) if number == wanted => value = Some(inner),
                _ => {}
            }
        }
        let mut out = Out {
            family: self.name,
            kind: self.kind,
            // Zero is how the format says that there is none.
            time: (time != 0).then_some(time),
            start: 0,
            scratch,
            visitor,
        };
        let value = value.unwrap_or(Reader::new(&[]));
        match self.kind {
            MetricType::Summary => out.summary(value),
            MetricType::Histogram | MetricType::GaugeHistogram => out.histogram(value, options),
            _ => out.simple(value),
        }
    }
}

/// Where the samples of a metric go.
struct Out<'a> {
    family: &'a str,
    kind: MetricType,
    time: Option<Millis>,
    start: Millis,
    scratch: &'a mut Scratch,
    visitor: &'a mut dyn Visitor,
}

impl Out<'_> {
    /// Gives a sample of the series with this suffix and label.
    fn give(
        &mut self,
        suffix: &str,
        label: Option<(&str, &str)>,
        value: super::Value,
        exemplars: &[Exemplar],
    ) -> Result<(), String> {
        let Scratch { labels, series, name, .. } = &mut *self.scratch;
        name.clear();
        name.push_str(self.family);
        name.push_str(suffix);
        series.clear();
        push_label(series, METRIC_NAME.as_bytes(), name.as_bytes());
        series.extend_from_slice(labels);
        if let Some((name, value)) = label {
            push_label(series, name.as_bytes(), value.as_bytes());
        }
        let (kind, time, start) = (self.kind, self.time, self.start);
        self.visitor.sample(Sample { series, kind, time, value, start, exemplars })
    }

    fn give_float(
        &mut self,
        suffix: &str,
        label: Option<(&str, &str)>,
        value: f64,
        exemplars: &[Exemplar],
    ) -> Result<(), String> {
        let value = if value.is_nan() { f64::from_bits(NAN_BITS) } else { value };
        self.give(suffix, label, super::Value::Float(value), exemplars)
    }

    /// `Gauge`, `Untyped { value = 1 }`, `Counter { value = 1, exemplar = 2, start_timestamp = 3 }`.
    fn simple(&mut self, mut message: Reader<'_>) -> Result<(), String> {
        let mut value = 0.0;
        let mut exemplars = std::mem::take(&mut self.scratch.exemplars);
        exemplars.clear();
        while let Some(field) = message.field().map_err(text)? {
            match (field.number, field.value) {
                (1, Value::Fixed64(bits)) => value = f64::from_bits(bits),
                (2, Value::Bytes(inner)) if self.kind == MetricType::Counter => exemplars.push(exemplar(inner)?),
                (3, Value::Bytes(inner)) if self.kind == MetricType::Counter => self.start = timestamp(inner)?,
                _ => {}
            }
        }
        let result = self.give_float("", None, value, &exemplars);
        self.scratch.exemplars = exemplars;
        result
    }

    /// `Summary { sample_count = 1, sample_sum = 2, quantile = 3, start_timestamp = 4 }`.
    fn summary(&mut self, message: Reader<'_>) -> Result<(), String> {
        let (mut count, mut sum) = (0u64, 0.0);
        let mut fields = message;
        while let Some(field) = fields.field().map_err(text)? {
            match (field.number, field.value) {
                (1, Value::Varint(number)) => count = number,
                (2, Value::Fixed64(bits)) => sum = f64::from_bits(bits),
                (4, Value::Bytes(inner)) => self.start = timestamp(inner)?,
                _ => {}
            }
        }
        self.give_float("_count", None, count as f64, &[])?;
        self.give_float("_sum", None, sum, &[])?;
        let mut fields = message;
        while let Some(field) = fields.field().map_err(text)? {
            if let (3, Value::Bytes(mut quantile)) = (field.number, field.value) {
                let (mut at, mut value) = (0.0, 0.0);
                while let Some(field) = quantile.field().map_err(text)? {
                    match (field.number, field.value) {
                        (1, Value::Fixed64(bits)) => at = f64::from_bits(bits),
                        (2, Value::Fixed64(bits)) => value = f64::from_bits(bits),
                        _ => {}
                    }
                }
                self.give_float("", Some(("quantile", &open_metrics_float(at))), value, &[])?;
            }
        }
        Ok(())
    }

    fn histogram(&mut self, message: Reader<'_>, options: Options) -> Result<(), String> {
        let wire = Wire::read(message)?;
        self.start = wire.start;
        if options.native_histograms && wire.is_native() {
            let exemplars = wire.native_exemplars(message)?;
            let native = wire
                .native(self.kind)
                .map_err(|what| format!("histogram {}: {what}", quoted(self.family.as_bytes())))?;
            self.give("", None, super::Value::Histogram(native), &exemplars)?;
            return if options.classic_too && wire.buckets > 0 { self.classic(&wire, message) } else { Ok(()) };
        }
        if !options.to_custom_buckets || options.classic_too {
            self.classic(&wire, message)?;
        }
        if !options.to_custom_buckets {
            return Ok(());
        }
        let mut buckets = std::mem::take(&mut self.scratch.buckets);
        buckets.clear();
        buckets.count(wire.observations());
        buckets.sum(wire.sum);
        each_bucket(message, &mut |bucket| {
            buckets.bucket(bucket.bound, bucket.count);
            Ok(())
        })?;
        let converted = buckets.convert();
        self.scratch.buckets = buckets;
        let mut native = converted.ok_or_else(|| {
            format!("histogram {}: the classic buckets contradict each other", quoted(self.family.as_bytes()))
        })?;
        if self.kind == MetricType::GaugeHistogram {
            native.reset_hint = ResetHint::Gauge;
        }
        let exemplars = wire.native_exemplars(message)?;
        self.give("", None, super::Value::Histogram(native), &exemplars)
    }

    /// The series of a classic histogram; a bucket `+Inf` is added where it is missing.
    fn classic(&mut self, wire: &Wire, message: Reader<'_>) -> Result<(), String> {
        self.give_float("_count", None, wire.observations(), &[])?;
        self.give_float("_sum", None, wire.sum, &[])?;
        let mut ended = false;
        each_bucket(message, &mut |bucket| {
            if ended {
                return Ok(());
            }
            ended = bucket.bound == f64::INFINITY;
            let exemplars: Vec<Exemplar> = bucket.exemplar.map(exemplar).transpose()?.into_iter().collect();
            self.give_float("_bucket", Some(("le", &open_metrics_float(bucket.bound))), bucket.count, &exemplars)
        })?;
        if ended { Ok(()) } else { self.give_float("_bucket", Some(("le", "+Inf")), wire.observations(), &[]) }
    }
}

/// One classic bucket.
struct Bucket<'a> {
    bound: f64,
    count: f64,
    exemplar: Option<Reader<'a>>,
}

/// `Bucket { cumulative_count = 1, upper_bound = 2, exemplar = 3, cumulative_count_float = 4 }`, each of a histogram.
fn each_bucket<'a>(
    mut message: Reader<'a>,
    take: &mut dyn FnMut(Bucket<'a>) -> Result<(), String>,
) -> Result<(), String> {
    while let Some(field) = message.field().map_err(text)? {
        let (3, Value::Bytes(mut inner)) = (field.number, field.value) else { continue };
        let (mut count, mut float) = (0u64, 0.0);
        let mut bucket = Bucket { bound: 0.0, count: 0.0, exemplar: None };
        while let Some(field) = inner.field().map_err(text)? {
            match (field.number, field.value) {
                (1, Value::Varint(number)) => count = number,
                (2, Value::Fixed64(bits)) => bucket.bound = f64::from_bits(bits),
                (3, Value::Bytes(exemplar)) => bucket.exemplar = Some(exemplar),
                (4, Value::Fixed64(bits)) => float = f64::from_bits(bits),
                _ => {}
            }
        }
        bucket.count = if float == 0.0 { count as f64 } else { float };
        take(bucket)?;
    }
    Ok(())
}

/// A `Histogram` message but for its classic buckets.
#[derive(Default)]
struct Wire {
    count: u64,
    count_float: f64,
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    zero_count: u64,
    zero_count_float: f64,
    start: Millis,
    /// Number of classic buckets.
    buckets: usize,
    negative: Side,
    positive: Side,
}

#[derive(Default)]
struct Side {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Wire {
    fn read(mut message: Reader<'_>) -> Result<Wire, String> {
        let mut wire = Wire::default();
        while let Some(field) = message.field().map_err(text)? {
            match (field.number, field.value) {
                (1, Value::Varint(count)) => wire.count = count,
                (2, Value::Fixed64(bits)) => wire.sum = f64::from_bits(bits),
                (3, Value::Bytes(_)) => wire.buckets += 1,
                (4, Value::Fixed64(bits)) => wire.count_float = f64::from_bits(bits),
                (5, Value::Varint(schema)) => wire.schema = sint32(schema),
                (6, Value::Fixed64(bits)) => wire.zero_threshold = f64::from_bits(bits),
                (7, Value::Varint(count)) => wire.zero_count = count,
                (8, Value::Fixed64(bits)) => wire.zero_count_float = f64::from_bits(bits),
                (9, Value::Bytes(span)) => wire.negative.span(span)?,
                (10, value) => wire.negative.delta(value)?,
                (11, value) => wire.negative.count(value)?,
                (12, Value::Bytes(span)) => wire.positive.span(span)?,
                (13, value) => wire.positive.delta(value)?,
                (14, value) => wire.positive.count(value)?,
                (15, Value::Bytes(start)) => wire.start = timestamp(start)?,
                _ => {}
            }
        }
        Ok(wire)
    }

    /// All observations, as classic series count them.
    fn observations(&self) -> f64 {
        if self.count_float == 0.0 { self.count as f64 } else { self.count_float }
    }

    /// Whether there is anything native in it. Libraries add an empty span where there would not be.
    fn is_native(&self) -> bool {
        !self.positive.spans.is_empty()
            || !self.negative.spans.is_empty()
            || self.zero_threshold > 0.0
            || self.zero_count > 0
    }

    fn native(&self, kind: MetricType) -> Result<Histogram, String> {
        let is_float = self.count_float > 0.0 || self.zero_count_float > 0.0;
        let mut histogram = Histogram {
            schema: self.schema,
            is_float,
            zero_threshold: self.zero_threshold,
            zero_count: if is_float { self.zero_count_float } else { self.zero_count as f64 },
            count: if is_float { self.count_float } else { self.count as f64 },
            sum: self.sum,
            positive_spans: self.positive.spans.clone(),
            positive: self.positive.absolute(is_float)?,
            negative_spans: self.negative.spans.clone(),
            negative: self.negative.absolute(is_float)?,
            ..Histogram::default()
        };
        if kind == MetricType::GaugeHistogram {
            histogram.reset_hint = ResetHint::Gauge;
        }
        if !(-4..=8).contains(&self.schema) {
            return Err(format!("invalid histogram schema {}", self.schema));
        }
        compact(&mut histogram, 0).ok_or("the spans do not fit the number of buckets")?;
        let buckets = histogram.positive.iter().chain(&histogram.negative);
        if buckets.clone().any(|count| *count < 0.0) || histogram.count < 0.0 || histogram.zero_count < 0.0 {
            return Err("a bucket has a negative observation count".to_owned());
        }
        let observed: f64 = buckets.sum::<f64>() + histogram.zero_count;
        let fits = if self.sum.is_nan() { observed <= histogram.count } else { observed == histogram.count };
        if !is_float && !fits {
            return Err(format!(
                "{observed} observations found in buckets, but the Count field is {}: histogram's observation count \
                 should equal the number of observations found in the buckets",
                self.count
            ));
        }
        Ok(histogram)
    }

    /// Exemplars of the native histogram, else those of its buckets; only those that say when.
    fn native_exemplars(&self, message: Reader<'_>) -> Result<Vec<Exemplar>, String> {
        let mut out = Vec::new();
        let mut own = false;
        let mut fields = message;
        while let Some(field) = fields.field().map_err(text)? {
            if let (16, Value::Bytes(inner)) = (field.number, field.value) {
                own = true;
                out.push(exemplar(inner)?);
            }
        }
        if !own {
            each_bucket(message, &mut |bucket| {
                out.extend(bucket.exemplar.map(exemplar).transpose()?);
                Ok(())
            })?;
        }
        out.retain(|exemplar| exemplar.time.is_some());
        Ok(out)
    }
}

impl Side {
    fn span(&mut self, mut message: Reader<'_>) -> Result<(), String> {
        let mut span = Span::default();
        while let Some(field) = message.field().map_err(text)? {
            match (field.number, field.value) {
                (1, Value::Varint(offset)) => span.offset = sint32(offset),
                (2, Value::Varint(length)) => span.length = length as u32,
                _ => {}
            }
        }
        self.spans.push(span);
        bounded(self.spans.len())
    }

    fn delta(&mut self, value: Value<'_>) -> Result<(), String> {
        match value {
            Value::Varint(delta) => self.deltas.push(zigzag(delta)),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    self.deltas.push(zigzag(packed.varint().map_err(text)?));
                    bounded(self.deltas.len())?;
                }
            }
            _ => return Err("deltas of a histogram with a wrong type".to_owned()),
        }
        bounded(self.deltas.len())
    }

    fn count(&mut self, value: Value<'_>) -> Result<(), String> {
        match value {
            Value::Fixed64(bits) => self.counts.push(f64::from_bits(bits)),
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    self.counts.push(f64::from_bits(packed.fixed64().map_err(text)?));
                }
            }
            _ => return Err("counts of a histogram with a wrong type".to_owned()),
        }
        bounded(self.counts.len())
    }

    fn absolute(&self, is_float: bool) -> Result<Vec<f64>, String> {
        if is_float {
            return Ok(self.counts.clone());
        }
        let mut count = 0i64;
        let absolute = self.deltas.iter().map(|delta| {
            count = count.checked_add(*delta)?;
            Some(count as f64)
        });
        absolute.collect::<Option<Vec<f64>>>().ok_or_else(|| "a bucket's count overflows".to_owned())
    }
}

fn bounded(len: usize) -> Result<(), String> {
    if len > BUCKETS_MAX { Err(format!("a histogram with more than {BUCKETS_MAX} buckets")) } else { Ok(()) }
}

/// `sint32` as protobuf reads it: the low 32 bits, then zigzag.
fn sint32(value: u64) -> i32 {
    zigzag(value & u64::from(u32::MAX)) as i32
}

fn utf8<'a>(bytes: Reader<'a>, what: &str) -> Result<&'a str, String> {
    std::str::from_utf8(bytes.rest()).map_err(|_| format!("invalid UTF-8 in {what}: {}", quoted(bytes.rest())))
}

/// `LabelPair { name = 1, value = 2 }`.
fn label_pair(mut message: Reader<'_>) -> Result<(&str, &str), String> {
    let mut pair = ("", "");
    while let Some(field) = message.field().map_err(text)? {
        match (field.number, field.value) {
            (1, Value::Bytes(name)) => pair.0 = utf8(name, "label name")?,
            (2, Value::Bytes(value)) => pair.1 = utf8(value, "label value")?,
            _ => {}
        }
    }
    Ok(pair)
}

/// `Timestamp { seconds = 1, nanos = 2 }` in milliseconds.
fn timestamp(mut message: Reader<'_>) -> Result<Millis, String> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    while let Some(field) = message.field().map_err(text)? {
        match (field.number, field.value) {
            (1, Value::Varint(value)) => seconds = value as i64,
            (2, Value::Varint(value)) => nanos = i64::from(value as i32),
            _ => {}
        }
    }
    Ok(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}

/// `Exemplar { label = 1, value = 2, timestamp = 3 }`.
fn exemplar(mut message: Reader<'_>) -> Result<Exemplar, String> {
    let mut exemplar = Exemplar::default();
    while let Some(field) = message.field().map_err(text)? {
        match (field.number, field.value) {
            (1, Value::Bytes(pair)) => {
                let (name, value) = label_pair(pair)?;
                push(&mut exemplar.labels, name, value)?;
            }
            (2, Value::Fixed64(bits)) => exemplar.value = f64::from_bits(bits),
            (3, Value::Bytes(time)) => exemplar.time = Some(timestamp(time)?),
            _ => {}
        }
    }
    Ok(exemplar)
}

fn push(labels: &mut Pairs, name: &str, value: &str) -> Result<(), String> {
    super::push_pair(labels, name.to_owned(), value.to_owned())
}
