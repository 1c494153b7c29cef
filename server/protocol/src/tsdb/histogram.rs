//! Chunks of native histograms: one layout (schema, spans, bounds) for all, then counts as deltas of deltas (integers)
//! or as XOR (floats).
//!
//! ```text
//! layout:  zero threshold │ schema │ positive spans │ negative spans │ custom bounds
//! sample:  time │ count │ zero count │ sum │ positive buckets │ negative buckets │ start timestamp, in some encodings
//! ```
//! The second sample needs no case of its own: its deltas are deltas of deltas to none. A stale marker is a sum, and no
//! buckets follow it. Whether a histogram contradicts itself is not decided here: who stores it does that.

use std::mem::size_of;

use varve_model::histogram::{ResetHint, Span};
use varve_model::{Column, Histogram};

use super::bits::{Bits, Xor};
use super::chunk::{CHUNK_BYTES_MAX, Encoding, Starts, histogram_bytes, push_histogram};

const CUSTOM_SCHEMA: i64 = -53;
const TOO_LARGE: &str = "a chunk of histograms is too large";

/// Decodes a chunk from its third byte on; `count` are the first two. `Ok(None)`: the bits end too early.
pub(super) fn decode(
    encoding: Encoding,
    count: u16,
    data: &[u8],
    out: &mut Column,
) -> Result<Option<()>, &'static str> {
    let Some((&flags, data)) = data.split_first() else { return Ok(None) };
    let with_starts = matches!(encoding, Encoding::HistogramStart | Encoding::FloatHistogramStart);
    // With start timestamps the reset bits moved to the count, and the third byte tells of the starts.
    let (reset, count, starts) =
        if with_starts { ((count >> 8) as u8 & 0xc0, count & 0x3fff, flags) } else { (flags & 0xc0, count, 0) };
    let is_float = matches!(encoding, Encoding::FloatHistogram | Encoding::FloatHistogramStart);
    let mut bits = Bits::new(data);
    if count == 0 {
        return Ok(Some(()));
    }
    let Some(layout) = layout(&mut bits, is_float) else { return Ok(None) };
    let layout = layout?;
    let Some(mut state) = State::new(&layout, is_float) else { return Err(TOO_LARGE) };
    let mut starts = Starts::new(starts);
    let mut left = CHUNK_BYTES_MAX;
    for index in 0..count {
        let before = state.time;
        if state.next(&mut bits, index == 0).is_none() {
            return Ok(None);
        }
        let Some(start) = starts.next(&mut bits, index, state.time, before) else { return Ok(None) };
        left = left.checked_sub(histogram_bytes(&layout)).ok_or(TOO_LARGE)?;
        let mut histogram = if state.sum.is_stale() {
            Histogram { is_float, sum: state.sum.value(), ..Histogram::default() }
        } else {
            left = left.checked_sub(state.buckets() * size_of::<f64>()).ok_or(TOO_LARGE)?;
            state.histogram(&layout)
        };
        histogram.reset_hint = match reset {
            0xc0 => ResetHint::Gauge,
            // Within a chunk there is no reset, or a new one had been begun; of its first sample nothing is known,
            // because the chunk before it may be another one today.
            _ if index > 0 => ResetHint::NoReset,
            _ => ResetHint::Unknown,
        };
        if state.sum.is_stale() {
            histogram.reset_hint = ResetHint::Unknown;
        }
        push_histogram(out, state.time, histogram, start);
    }
    Ok(Some(()))
}

/// What all histograms of the chunk share, as a histogram without counts. `None`: the bits end.
fn layout(bits: &mut Bits<'_>, is_float: bool) -> Option<Result<Histogram, &'static str>> {
    let zero_threshold = match bits.read(8)? {
        0 => 0.0,
        255 => f64::from_bits(bits.read(64)?),
        // A power of two, 2^-243 to 2^10, by its biased exponent.
        power => f64::from_bits((power + 1023 - 244) << 52),
    };
    let schema = bits.varbit()?;
    let positive_spans = spans(bits)?;
    let negative_spans = spans(bits)?;
    let mut custom_bounds = Vec::new();
    if schema == CUSTOM_SCHEMA {
        for _ in 0..counted(bits)? {
            custom_bounds.push(match bits.varbit_unsigned()? {
                0 => f64::from_bits(bits.read(64)?),
                thousandths => (thousandths - 1) as f64 / 1000.0,
            });
        }
    }
    Some(match i32::try_from(schema) {
        Ok(schema) => Ok(Histogram {
            schema,
            is_float,
            zero_threshold,
            positive_spans,
            negative_spans,
            custom_bounds,
            ..Histogram::default()
        }),
        Err(_) => Err("a histogram with an impossible schema"),
    })
}

/// A count of entries of at least one bit each.
fn counted(bits: &mut Bits<'_>) -> Option<usize> {
    let count = bits.varbit_unsigned()?;
    usize::try_from(count).ok().filter(|&count| count <= bits.left())
}

fn spans(bits: &mut Bits<'_>) -> Option<Vec<Span>> {
    let count = counted(bits)?;
    let mut spans = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let length = u32::try_from(bits.varbit_unsigned()?).ok()?;
        let offset = i32::try_from(bits.varbit()?).ok()?;
        spans.push(Span { offset, length });
    }
    Some(spans)
}

fn buckets_of(spans: &[Span]) -> u64 {
    spans.iter().map(|span| u64::from(span.length)).sum()
}

/// Numbers that go from sample to sample.
struct State {
    time: i64,
    time_delta: i64,
    count: Counter,
    zero_count: Counter,
    sum: Xor,
    positive: Vec<Counter>,
    negative: Vec<Counter>,
    is_float: bool,
}

/// A count in either form.
#[derive(Clone, Copy, Default)]
struct Counter {
    /// Integers: the value and its last change. Buckets: the difference to the bucket before.
    value: i64,
    delta: i64,
    float: Xor,
}

impl Counter {
    fn next(&mut self, bits: &mut Bits<'_>, is_float: bool) -> Option<()> {
        if is_float {
            return self.float.next(bits);
        }
        self.delta = self.delta.wrapping_add(bits.varbit()?);
        self.value = self.value.wrapping_add(self.delta);
        Some(())
    }
}

impl State {
    /// `None`: more buckets than a chunk may have.
    fn new(layout: &Histogram, is_float: bool) -> Option<State> {
        let room = |spans: &[Span]| {
            let count = usize::try_from(buckets_of(spans)).ok()?;
            (count <= CHUNK_BYTES_MAX / 16 / size_of::<Counter>()).then(|| vec![Counter::default(); count])
        };
        Some(State {
            time: 0,
            time_delta: 0,
            count: Counter::default(),
            zero_count: Counter::default(),
            sum: Xor::default(),
            positive: room(&layout.positive_spans)?,
            negative: room(&layout.negative_spans)?,
            is_float,
        })
    }

    fn buckets(&self) -> usize {
        self.positive.len() + self.negative.len()
    }

    fn next(&mut self, bits: &mut Bits<'_>, first: bool) -> Option<()> {
        let is_float = self.is_float;
        if first {
            self.time = bits.varbit()?;
            for counter in [&mut self.count, &mut self.zero_count] {
                if is_float {
                    counter.float = Xor::of(bits.read(64)?);
                } else {
                    counter.value = bits.varbit_unsigned()? as i64;
                }
            }
            self.sum = Xor::of(bits.read(64)?);
            for counter in self.positive.iter_mut().chain(&mut self.negative) {
                if is_float {
                    counter.float = Xor::of(bits.read(64)?);
                } else {
                    counter.value = bits.varbit()?;
                }
            }
            return Some(());
        }
        self.time_delta = self.time_delta.wrapping_add(bits.varbit()?);
        self.time = self.time.wrapping_add(self.time_delta);
        self.count.next(bits, is_float)?;
        self.zero_count.next(bits, is_float)?;
        self.sum.next(bits)?;
        if !self.sum.is_stale() {
            for counter in self.positive.iter_mut().chain(&mut self.negative) {
                counter.next(bits, is_float)?;
            }
        }
        Some(())
    }

    fn histogram(&self, layout: &Histogram) -> Histogram {
        let number =
            |counter: &Counter| if self.is_float { counter.float.value() } else { counter.value as u64 as f64 };
        let side = |counters: &[Counter]| {
            let mut last = 0i64;
            let absolute = |counter: &Counter| {
                if self.is_float {
                    return counter.float.value();
                }
                last = last.wrapping_add(counter.value);
                last as f64
            };
            counters.iter().map(absolute).collect()
        };
        Histogram {
            count: number(&self.count),
            zero_count: number(&self.zero_count),
            sum: self.sum.value(),
            positive: side(&self.positive),
            negative: side(&self.negative),
            ..layout.clone()
        }
    }
}
