//! `prometheus.Histogram`: from deltas or floats on the wire to the absolute counts of the model.
//!
//! Two kinds of wrong: bytes that are no histogram fail the request ([`Error`]); a histogram that contradicts itself
//! is refused alone, as a sample, by the rules that Prometheus validates by. Beyond those, an integer histogram with
//! a count of 2^53 or more is refused, because the model holds counts as floats and would not hold that one exactly.

use varve_model::histogram::{ResetHint, Span};
use varve_model::{Histogram, Millis};

use crate::Error;
use crate::budget::Budget;
use crate::protobuf::{Reader, Value, zigzag};

/// Schema of custom bounds.
const CUSTOM_SCHEMA: i32 = -53;
/// Above, a float does not hold every integer.
const COUNT_MAX: u64 = 1 << 53;

/// One side of a histogram as sent: both forms, of which the kind of the histogram chooses.
#[derive(Default)]
struct Side {
    spans: Vec<Span>,
    /// Absolute integer counts, from the deltas.
    counts: Vec<f64>,
    /// The count of the last bucket.
    last: i64,
    /// Sum of the integer counts.
    sum: u64,
    /// Why the deltas cannot be.
    invalid: Option<&'static str>,
    floats: Vec<f64>,
}

#[derive(Default)]
struct Fields {
    time: Millis,
    start: Millis,
    is_float: bool,
    count: u64,
    count_float: f64,
    zero_count: u64,
    zero_count_float: f64,
    histogram: Histogram,
    positive: Side,
    negative: Side,
}

/// A histogram sample as sent.
pub(super) struct Sent {
    pub(super) time: Millis,
    /// Start timestamp, of remote write 2.0 only; 0 when it is unknown.
    pub(super) start: Millis,
    /// The histogram, or why it is refused.
    pub(super) histogram: Result<Histogram, &'static str>,
}

/// Reads a histogram sample.
pub(super) fn read(mut message: Reader<'_>, budget: &mut Budget) -> Result<Sent, Error> {
    let mut fields = Fields::default();
    let histogram = &mut fields.histogram;
    while let Some(field) = message.field()? {
        match (field.number, field.value) {
            (1, Value::Varint(count)) => (fields.is_float, fields.count) = (false, count),
            (2, Value::Fixed64(bits)) => (fields.is_float, fields.count_float) = (true, f64::from_bits(bits)),
            (3, Value::Fixed64(bits)) => histogram.sum = f64::from_bits(bits),
            (4, Value::Varint(schema)) => histogram.schema = sint32(schema),
            (5, Value::Fixed64(bits)) => histogram.zero_threshold = f64::from_bits(bits),
            (6, Value::Varint(count)) => (fields.zero_count, fields.zero_count_float) = (count, 0.0),
            (7, Value::Fixed64(bits)) => {
                (fields.zero_count, fields.zero_count_float) = (0, f64::from_bits(bits));
            }
            (8, Value::Bytes(span)) => push_span(&mut fields.negative, span, budget)?,
            (9, value) => push_deltas(&mut fields.negative, value, &message, budget)?,
            (10, value) => push_floats(&mut fields.negative.floats, value, &message, budget)?,
            (11, Value::Bytes(span)) => push_span(&mut fields.positive, span, budget)?,
            (12, value) => push_deltas(&mut fields.positive, value, &message, budget)?,
            (13, value) => push_floats(&mut fields.positive.floats, value, &message, budget)?,
            (14, Value::Varint(hint)) => {
                histogram.reset_hint = match hint {
                    1 => ResetHint::Reset,
                    2 => ResetHint::NoReset,
                    3 => ResetHint::Gauge,
                    _ => ResetHint::Unknown,
                }
            }
            (15, Value::Varint(millis)) => fields.time = millis as i64,
            (16, value) => push_floats(&mut histogram.custom_bounds, value, &message, budget)?,
            (17, Value::Varint(millis)) => fields.start = millis as i64,
            (1..=15, _) => return Err(message.malformed("field of Histogram with a wrong type")),
            _ => {}
        }
    }
    Ok(Sent { time: fields.time, start: fields.start, histogram: assemble(fields) })
}

/// `sint32` as protobuf reads it: the low 32 bits, then zigzag.
fn sint32(value: u64) -> i32 {
    zigzag(value & u64::from(u32::MAX)) as i32
}

/// `BucketSpan { offset = 1 (sint32), length = 2 (uint32) }`.
fn push_span(side: &mut Side, mut message: Reader<'_>, budget: &mut Budget) -> Result<(), Error> {
    budget.spend(size_of::<Span>())?;
    let mut span = Span::default();
    while let Some(field) = message.field()? {
        match (field.number, field.value) {
            (1, Value::Varint(offset)) => span.offset = sint32(offset),
            (2, Value::Varint(length)) => span.length = length as u32,
            (1 | 2, _) => return Err(message.malformed("field of BucketSpan with a wrong type")),
            _ => {}
        }
    }
    side.spans.push(span);
    Ok(())
}

/// Repeated `sint64`, packed or not.
fn push_deltas(side: &mut Side, value: Value<'_>, at: &Reader<'_>, budget: &mut Budget) -> Result<(), Error> {
    match value {
        Value::Varint(delta) => side.push_delta(zigzag(delta), budget),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                side.push_delta(zigzag(packed.varint()?), budget)?;
            }
            Ok(())
        }
        _ => Err(at.malformed("deltas of Histogram with a wrong type")),
    }
}

/// Repeated `double`, packed or not.
fn push_floats(out: &mut Vec<f64>, value: Value<'_>, at: &Reader<'_>, budget: &mut Budget) -> Result<(), Error> {
    match value {
        Value::Fixed64(bits) => {
            budget.spend(size_of::<f64>())?;
            out.push(f64::from_bits(bits));
        }
        Value::Bytes(mut packed) => {
            budget.spend(packed.rest().len())?;
            while !packed.is_empty() {
                out.push(f64::from_bits(packed.fixed64()?));
            }
        }
        _ => return Err(at.malformed("numbers of Histogram with a wrong type")),
    }
    Ok(())
}

impl Side {
    fn push_delta(&mut self, delta: i64, budget: &mut Budget) -> Result<(), Error> {
        budget.spend(size_of::<f64>())?;
        let count = self.last.checked_add(delta).filter(|&count| count >= 0);
        self.last = count.unwrap_or_else(|| {
            self.invalid = Some("a bucket has a negative count");
            0
        });
        self.sum = self.sum.saturating_add(self.last as u64);
        self.counts.push(self.last as f64);
        Ok(())
    }

    /// Checks spans against the number of buckets; gives the number of buckets they span, gaps included.
    fn check_spans(&self, buckets: usize) -> Result<u64, &'static str> {
        let (mut index, mut total, mut width) = (0i64, 0u64, 0u64);
        for (i, span) in self.spans.iter().enumerate() {
            if i > 0 && span.offset < 0 {
                return Err("a span other than the first has a negative offset");
            }
            index += i64::from(span.offset) + i64::from(span.length);
            // A negative index here can only be the first span's own.
            width += u64::from(span.length) + u64::try_from(span.offset).unwrap_or(0);
            total += u64::from(span.length);
            if i32::try_from(index).is_err() {
                return Err("the spans reach beyond any bucket");
            }
        }
        if total == buckets as u64 { Ok(width) } else { Err("the spans do not add up to the number of buckets") }
    }
}

fn assemble(fields: Fields) -> Result<Histogram, &'static str> {
    let Fields {
        is_float, count, count_float, zero_count, zero_count_float, mut histogram, positive, negative, ..
    } = fields;
    if is_float {
        check_floats(count_float, zero_count_float, &positive.floats, &negative.floats)?;
    } else {
        if let Some(what) = positive.invalid.or(negative.invalid) {
            return Err(what);
        }
        check_integers(count, zero_count, positive.sum, negative.sum, histogram.sum)?;
    }
    histogram.is_float = is_float;
    histogram.count = if is_float { count_float } else { count as f64 };
    histogram.zero_count = if is_float { zero_count_float } else { zero_count as f64 };
    let buckets = |side: &Side| if is_float { side.floats.len() } else { side.counts.len() };
    let width = positive.check_spans(buckets(&positive))?;
    negative.check_spans(buckets(&negative))?;
    histogram.positive = if is_float { positive.floats } else { positive.counts };
    histogram.negative = if is_float { negative.floats } else { negative.counts };
    histogram.positive_spans = positive.spans;
    histogram.negative_spans = negative.spans;
    check_schema(&histogram, width)?;
    Ok(histogram)
}

/// Whether integer counts add up, by the rules of Prometheus.
pub(crate) fn check_integers(
    count: u64,
    zero: u64,
    positive: u64,
    negative: u64,
    sum: f64,
) -> Result<(), &'static str> {
    let observed = zero.saturating_add(positive).saturating_add(negative);
    if count >= COUNT_MAX || observed >= COUNT_MAX {
        return Err("a count of 2^53 or more");
    }
    // Observations of NaN are in no bucket, and they make the sum NaN.
    if sum.is_nan() && observed > count {
        return Err("the buckets hold more observations than the count");
    }
    if !sum.is_nan() && observed != count {
        return Err("the observations in the buckets do not add up to the count");
    }
    Ok(())
}

fn check_floats(count: f64, zero: f64, positive: &[f64], negative: &[f64]) -> Result<(), &'static str> {
    if count < 0.0 || zero < 0.0 {
        return Err("a negative count");
    }
    if positive.iter().chain(negative).any(|&bucket| bucket < 0.0) {
        return Err("a bucket has a negative count");
    }
    Ok(())
}

/// `width`: buckets that the positive spans cover, gaps included.
pub(crate) fn check_schema(histogram: &Histogram, width: u64) -> Result<(), &'static str> {
    match histogram.schema {
        -4..=8 if histogram.custom_bounds.is_empty() => Ok(()),
        -4..=8 => Err("custom bounds with exponential buckets"),
        CUSTOM_SCHEMA => {
            let bounds = &histogram.custom_bounds;
            let ascending = bounds.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
            if !ascending || bounds.iter().any(|bound| bound.is_nan() || *bound == f64::INFINITY) {
                return Err("custom bounds are not ascending finite numbers");
            }
            if width > bounds.len() as u64 + 1 {
                return Err("more custom buckets than bounds");
            }
            if histogram.positive_spans.first().is_some_and(|span| span.offset < 0) {
                return Err("custom buckets with a negative index");
            }
            if histogram.zero_count != 0.0 || histogram.zero_threshold != 0.0 {
                return Err("custom buckets with a zero bucket");
            }
            if !histogram.negative_spans.is_empty() || !histogram.negative.is_empty() {
                return Err("custom buckets with negative buckets");
            }
            Ok(())
        }
        _ => Err("unknown schema"),
    }
}
