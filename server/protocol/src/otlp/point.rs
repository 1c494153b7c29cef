//! Data points: one each of five kinds, and what series they become.

use std::mem::size_of;

use varve_model::histogram::ResetHint;
use varve_model::labels::push_label;
use varve_model::write::{MetricType, WriteExemplar};
use varve_model::{Histogram, Millis, RefusalReason, STALE_NAN_BITS};

use super::buckets::{Dense, Sparse};
use super::label::attributes;
use super::value::plain;
use super::{Decoder, Delta, Metric, Refused};
use crate::Error;
use crate::protobuf::{Reader, Value, zigzag};
use crate::remote_write::{check_integers, check_schema};

/// Prometheus's scales.
const SCALE_MIN: i32 = -4;
const SCALE_MAX: i32 = 8;
/// Schema of custom bounds.
const CUSTOM_SCHEMA: i32 = -53;
/// Width of the zero bucket, as Prometheus sets it whatever the point says.
const ZERO_THRESHOLD: f64 = 1e-128;
/// Characters of an exemplar's labels, by the specification of OpenMetrics.
const EXEMPLAR_CHARS_MAX: usize = 128;

/// What all kinds have.
#[derive(Clone, Copy, Default)]
struct Head {
    start: Millis,
    time: Millis,
    /// Nothing was recorded: the series ends here.
    is_stale: bool,
}

impl Head {
    /// The value, or the marker that there is none.
    fn value(self, value: f64) -> f64 {
        if self.is_stale { f64::from_bits(STALE_NAN_BITS) } else { value }
    }
}

/// Nanoseconds as sent, cut to milliseconds.
fn millis(nanos: u64) -> Millis {
    (nanos as i64) / 1_000_000
}

fn flags_are_stale(flags: u64) -> bool {
    flags & 1 != 0
}

/// A series' worth of exemplars, parsed as far as it takes to put them into buckets.
struct Exemplar<'a> {
    time: Millis,
    value: f64,
    message: Reader<'a>,
}

impl<'a> Decoder<'a, '_> {
    /// The data points of a metric of the kind `number` of `Metric`'s fields.
    pub(super) fn points(&mut self, number: u32, mut data: Reader<'a>, metric: &Metric) -> Result<(), Error> {
        let attributes_number = match number {
            5 | 7 | 11 => 7,
            9 => 9,
            _ => 1,
        };
        while let Some(field) = data.field()? {
            let (1, Value::Bytes(point)) = (field.number, field.value) else { continue };
            let labelled = match attributes(point, attributes_number, self.attributes_max())? {
                Ok(all) => self.label(all, metric),
                Err(what) => Err(what),
            };
            if let Err(what) = labelled {
                self.reject_point(|| format!("metric {:?}: {what}", metric.given))?;
                continue;
            }
            let first_series = self.batch.series.len() as u32;
            match number {
                5 => self.number(point, metric, false)?,
                7 => self.number(point, metric, true)?,
                9 => self.histogram(point, metric)?,
                10 => self.exponential(point, metric)?,
                _ => self.summary(point, metric)?,
            }
            if metric.is_delta && self.settings.delta == Delta::Cumulative {
                let series = first_series..self.batch.series.len() as u32;
                self.budget.spend(series.len() * size_of::<u32>())?;
                self.summary.deltas.extend(series);
            }
        }
        Ok(())
    }

    /// Sets the labels of a data point.
    fn label(
        &mut self,
        mut all: Vec<(&'a str, std::borrow::Cow<'a, str>)>,
        metric: &Metric,
    ) -> Result<(), &'static str> {
        all.retain(|(name, _)| *name != varve_model::labels::METRIC_NAME);
        self.labels.clear();
        self.labels.add(all, self.names)?;
        self.resource.add_to(&mut self.labels);
        for (name, value) in &self.scope.0 {
            self.labels.set(name.clone(), value.clone());
        }
        if self.settings.type_and_unit_labels {
            if metric.kind != MetricType::Unknown {
                self.labels.set("__type__".into(), metric.kind.as_str().into());
            }
            if !metric.unit.is_empty() {
                self.labels.set("__unit__".into(), metric.unit.clone().into());
            }
        }
        Ok(())
    }

    fn seen(&mut self, time: Millis) {
        self.times = Some(self.times.map_or((time, time), |(first, last)| (first.min(time), last.max(time))));
    }

    /// `NumberDataPoint { start = 2, time = 3, as_double = 4, exemplars = 5, as_int = 6, attributes = 7, flags = 8 }`.
    fn number(&mut self, point: Reader<'a>, metric: &Metric, has_exemplars: bool) -> Result<(), Error> {
        let (mut head, mut value, mut fields) = (Head::default(), 0.0, point);
        while let Some(field) = fields.field()? {
            match (field.number, field.value) {
                (2, Value::Fixed64(nanos)) => head.start = millis(nanos),
                (3, Value::Fixed64(nanos)) => head.time = millis(nanos),
                (4, Value::Fixed64(bits)) => value = f64::from_bits(bits),
                (6, Value::Fixed64(int)) => value = int as i64 as f64,
                (8, Value::Varint(flags)) => head.is_stale = flags_are_stale(flags),
                (2..=4 | 6 | 8, _) => return Err(fields.malformed("field of NumberDataPoint with a wrong type")),
                _ => {}
            }
        }
        self.seen(head.time);
        self.begin_series(&metric.name, None)?;
        self.push_sample(head.time, head.value(value), head.start)?;
        if has_exemplars {
            for exemplar in self.exemplars(point, 5)? {
                self.push_exemplar(&exemplar, head.time)?;
            }
        }
        Ok(())
    }

    /// `HistogramDataPoint { start = 2, time = 3, count = 4, sum = 5, bucket_counts = 6, explicit_bounds = 7,
    /// exemplars = 8, attributes = 9, flags = 10 }`.
    fn histogram(&mut self, point: Reader<'a>, metric: &Metric) -> Result<(), Error> {
        let (mut head, mut count, mut sum, mut fields) = (Head::default(), 0, None, point);
        let (mut dense, mut bounds) = (Dense::default(), Vec::new());
        while let Some(field) = fields.field()? {
            match (field.number, field.value) {
                (2, Value::Fixed64(nanos)) => head.start = millis(nanos),
                (3, Value::Fixed64(nanos)) => head.time = millis(nanos),
                (4, Value::Fixed64(number)) => count = number,
                (5, Value::Fixed64(bits)) => sum = Some(f64::from_bits(bits)),
                (6, Value::Fixed64(count)) => dense.push(count, &mut self.budget)?,
                (6, Value::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        dense.push(packed.fixed64()?, &mut self.budget)?;
                    }
                }
                (7, Value::Fixed64(bits)) => bounds.push(f64::from_bits(bits)),
                (7, Value::Bytes(mut packed)) => {
                    self.budget.spend(packed.rest().len())?;
                    while !packed.is_empty() {
                        bounds.push(f64::from_bits(packed.fixed64()?));
                    }
                }
                (10, Value::Varint(flags)) => head.is_stale = flags_are_stale(flags),
                (2..=7 | 10, _) => return Err(fields.malformed("field of HistogramDataPoint with a wrong type")),
                _ => {}
            }
        }
        self.seen(head.time);
        if self.settings.custom_buckets {
            return self.custom_histogram(point, metric, head, count, sum, &dense, bounds);
        }
        if let Some(sum) = sum {
            self.begin_series(&format!("{}_sum", metric.name), None)?;
            self.push_sample(head.time, head.value(sum), head.start)?;
        }
        self.begin_series(&format!("{}_count", metric.name), None)?;
        self.push_sample(head.time, head.value(count as f64), head.start)?;
        let mut exemplars = self.exemplars(point, 8)?.into_iter().peekable();
        let name = format!("{}_bucket", metric.name);
        let mut below = 0u64;
        for (bound, count) in bounds.iter().zip(&dense.counts) {
            below = below.saturating_add(*count);
            self.begin_series(&name, Some(("le", &plain(*bound))))?;
            self.push_sample(head.time, head.value(below as f64), head.start)?;
            while let Some(exemplar) = exemplars.next_if(|exemplar| exemplar.value <= *bound) {
                self.push_exemplar(&exemplar, head.time)?;
            }
        }
        self.begin_series(&name, Some(("le", "+Inf")))?;
        self.push_sample(head.time, head.value(count as f64), head.start)?;
        for exemplar in exemplars {
            self.push_exemplar(&exemplar, head.time)?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "what one message said, taken apart by its reader")]
    fn custom_histogram(
        &mut self,
        point: Reader<'a>,
        metric: &Metric,
        head: Head,
        count: u64,
        sum: Option<f64>,
        dense: &Dense,
        bounds: Vec<f64>,
    ) -> Result<(), Error> {
        let histogram = dense.sparse(0, 0).and_then(|Sparse { spans, counts, sum: observed, end }| {
            let histogram = Histogram {
                schema: CUSTOM_SCHEMA,
                count: count as f64,
                sum: sum.unwrap_or(0.0),
                positive_spans: spans,
                positive: counts,
                custom_bounds: bounds,
                ..Histogram::default()
            };
            check_integers(count, 0, observed, 0, histogram.sum)?;
            check_schema(&histogram, end.max(0) as u64)?;
            Ok(histogram)
        });
        self.push_native(point, 8, metric, head, histogram)
    }

    /// `ExponentialHistogramDataPoint { attributes = 1, start = 2, time = 3, count = 4, sum = 5, scale = 6,
    /// zero_count = 7, positive = 8, negative = 9, flags = 10, exemplars = 11 }`.
    fn exponential(&mut self, point: Reader<'a>, metric: &Metric) -> Result<(), Error> {
        let (mut head, mut count, mut sum, mut fields) = (Head::default(), 0, 0.0, point);
        let (mut scale, mut zero_count) = (0, 0);
        let (mut positive, mut negative) = (Dense::default(), Dense::default());
        while let Some(field) = fields.field()? {
            match (field.number, field.value) {
                (2, Value::Fixed64(nanos)) => head.start = millis(nanos),
                (3, Value::Fixed64(nanos)) => head.time = millis(nanos),
                (4, Value::Fixed64(number)) => count = number,
                (5, Value::Fixed64(bits)) => sum = f64::from_bits(bits),
                (6, Value::Varint(number)) => scale = zigzag(number & u64::from(u32::MAX)) as i32,
                (7, Value::Fixed64(number)) => zero_count = number,
                (8, Value::Bytes(buckets)) => positive = Dense::read(buckets, &mut self.budget)?,
                (9, Value::Bytes(buckets)) => negative = Dense::read(buckets, &mut self.budget)?,
                (10, Value::Varint(flags)) => head.is_stale = flags_are_stale(flags),
                (2..=10, _) => {
                    return Err(fields.malformed("field of ExponentialHistogramDataPoint with a wrong type"));
                }
                _ => {}
            }
        }
        self.seen(head.time);
        if scale < SCALE_MIN {
            return self.reject_point(|| format!("metric {:?}: its scale {scale} is below {SCALE_MIN}", metric.given));
        }
        let scale_down = scale.saturating_sub(SCALE_MAX).max(0) as u32;
        let sides = positive.sparse(scale_down, 1).and_then(|positive| Ok((positive, negative.sparse(scale_down, 1)?)));
        let histogram = sides.and_then(|(positive, negative)| {
            check_integers(count, zero_count, positive.sum, negative.sum, sum)?;
            Ok(Histogram {
                schema: scale.min(SCALE_MAX),
                zero_threshold: ZERO_THRESHOLD,
                zero_count: zero_count as f64,
                count: count as f64,
                sum,
                positive_spans: positive.spans,
                positive: positive.counts,
                negative_spans: negative.spans,
                negative: negative.counts,
                ..Histogram::default()
            })
        });
        self.push_native(point, 11, metric, head, histogram)
    }

    /// A series of one native histogram, or the reason why there is none.
    fn push_native(
        &mut self,
        point: Reader<'a>,
        exemplars_number: u32,
        metric: &Metric,
        head: Head,
        histogram: Result<Histogram, &'static str>,
    ) -> Result<(), Error> {
        self.begin_series(&metric.name, None)?;
        let histogram = if head.is_stale {
            Ok(Histogram { sum: f64::from_bits(STALE_NAN_BITS), ..Histogram::default() })
        } else {
            histogram
        };
        let mut histogram = match histogram {
            Ok(histogram) => histogram,
            Err(what) => {
                let series = self.batch.series.len() as u32 - 1;
                let reason = RefusalReason::InvalidHistogram;
                self.summary.refused.push(Refused { series, samples: 1, reason, what });
                return Ok(());
            }
        };
        if metric.is_delta && self.settings.delta == Delta::Native {
            histogram.reset_hint = ResetHint::Gauge;
        }
        self.budget.spend(size_of::<(Millis, Histogram)>() + size_of::<Millis>())?;
        self.batch.push_histogram(head.time, histogram);
        self.batch.set_histogram_start(head.start);
        for exemplar in self.exemplars(point, exemplars_number)? {
            self.push_exemplar(&exemplar, head.time)?;
        }
        Ok(())
    }

    /// `SummaryDataPoint { start = 2, time = 3, count = 4, sum = 5, quantile_values = 6 { quantile = 1, value = 2 },
    /// attributes = 7, flags = 8 }`.
    fn summary(&mut self, point: Reader<'a>, metric: &Metric) -> Result<(), Error> {
        let (mut head, mut count, mut sum, mut fields) = (Head::default(), 0, 0.0, point);
        while let Some(field) = fields.field()? {
            match (field.number, field.value) {
                (2, Value::Fixed64(nanos)) => head.start = millis(nanos),
                (3, Value::Fixed64(nanos)) => head.time = millis(nanos),
                (4, Value::Fixed64(number)) => count = number,
                (5, Value::Fixed64(bits)) => sum = f64::from_bits(bits),
                (6, Value::Bytes(_)) => {}
                (8, Value::Varint(flags)) => head.is_stale = flags_are_stale(flags),
                (2..=6 | 8, _) => return Err(fields.malformed("field of SummaryDataPoint with a wrong type")),
                _ => {}
            }
        }
        self.seen(head.time);
        for (suffix, value) in [("_sum", sum), ("_count", count as f64)] {
            self.begin_series(&format!("{}{suffix}", metric.name), None)?;
            self.push_sample(head.time, head.value(value), head.start)?;
        }
        let mut fields = point;
        while let Some(field) = fields.field()? {
            let (6, Value::Bytes(mut at)) = (field.number, field.value) else { continue };
            let (mut quantile, mut value) = (0.0, 0.0);
            while let Some(field) = at.field()? {
                match (field.number, field.value) {
                    (1, Value::Fixed64(bits)) => quantile = f64::from_bits(bits),
                    (2, Value::Fixed64(bits)) => value = f64::from_bits(bits),
                    (1 | 2, _) => return Err(at.malformed("field of ValueAtQuantile with a wrong type")),
                    _ => {}
                }
            }
            self.begin_series(&metric.name, Some(("quantile", &plain(quantile))))?;
            self.push_sample(head.time, head.value(value), head.start)?;
        }
        Ok(())
    }

    /// The exemplars in the fields `number` of a data point.
    fn exemplars(&mut self, mut point: Reader<'a>, number: u32) -> Result<Vec<Exemplar<'a>>, Error> {
        let mut found = Vec::new();
        while let Some(field) = point.field()? {
            if field.number != number {
                continue;
            }
            let Value::Bytes(message) = field.value else { return Err(point.malformed("exemplar with a wrong type")) };
            self.budget.spend(size_of::<Exemplar<'_>>() + size_of::<WriteExemplar>())?;
            let (mut time, mut value, mut fields) = (0, None, message);
            while let Some(field) = fields.field()? {
                match (field.number, field.value) {
                    (2, Value::Fixed64(nanos)) => time = millis(nanos),
                    (3, Value::Fixed64(bits)) => value = Some(f64::from_bits(bits)),
                    (6, Value::Fixed64(int)) => value = Some(int as i64 as f64),
                    (2 | 3 | 6, _) => return Err(fields.malformed("field of Exemplar with a wrong type")),
                    _ => {}
                }
            }
            // One without a value says nothing.
            found.extend(value.map(|value| Exemplar { time, value, message }));
        }
        Ok(found)
    }

    /// Adds an exemplar to the series begun last: `Exemplar { span_id = 4, trace_id = 5, filtered_attributes = 7 }`.
    fn push_exemplar(&mut self, exemplar: &Exemplar<'a>, point_time: Millis) -> Result<(), Error> {
        let (mut span, mut trace, mut fields) = (&[][..], &[][..], exemplar.message);
        while let Some(field) = fields.field()? {
            match (field.number, field.value) {
                (4, Value::Bytes(id)) => span = id.rest(),
                (5, Value::Bytes(id)) => trace = id.rest(),
                (4 | 5, _) => return Err(fields.malformed("field of Exemplar with a wrong type")),
                _ => {}
            }
        }
        let begin = self.batch.bytes.len() as u32;
        let mut chars = 0;
        for (name, id, len) in [("trace_id", trace, 16), ("span_id", span, 8)] {
            if id.len() == len && id.iter().any(|byte| *byte != 0) {
                let text: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
                chars += name.len() + text.len();
                self.budget.spend(12 + name.len() + text.len())?;
                push_label(&mut self.batch.bytes, name.as_bytes(), text.as_bytes());
            }
        }
        // More of them than there are characters cannot be taken anyway.
        if let Ok(mut all) = attributes(exemplar.message, 7, EXEMPLAR_CHARS_MAX)? {
            all.retain(|(name, value)| !name.is_empty() && !value.is_empty());
            all.sort_by_key(|(name, _)| *name);
            all.dedup_by_key(|(name, _)| *name);
            chars += all.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum::<usize>();
            for (name, value) in all.iter().filter(|_| chars <= EXEMPLAR_CHARS_MAX) {
                push_label(&mut self.batch.bytes, name.as_bytes(), value.as_bytes());
            }
        }
        let labels = begin..self.batch.bytes.len() as u32;
        let series = (self.batch.series.len() as u32).saturating_sub(1);
        let time = if exemplar.time == 0 { point_time } else { exemplar.time };
        self.batch.exemplars.push(WriteExemplar { series, labels, time, value: exemplar.value });
        Ok(())
    }
}
