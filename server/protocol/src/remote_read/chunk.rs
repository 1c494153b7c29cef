//! Chunks as Prometheus stores them (`tsdb/docs/format/chunks.md`), made of columns.
//!
//! ```text
//! XOR              count (2 bytes)        · time, value · time delta, xor · delta of delta, xor · …
//! histogram        count (2 bytes) reset (1 byte) layout · time, count, zero count, sum, buckets · deltas · …
//! float histogram  the same, numbers as floats and xors of floats
//! ```
//! A histogram joins a chunk when it has the chunk's layout and follows the one before it without a counter reset:
//! readers take it that within a chunk there is none. A stale histogram has no layout and joins any chunk of its kind;
//! only stale ones follow it.

use varve_model::histogram::{ResetHint, Span};
use varve_model::{Column, Histogram, Millis, is_stale};

use super::bits::{BitWriter, fits};

/// Samples of a float chunk, as Prometheus cuts them.
const FLOATS_MAX: usize = 120;
/// A chunk of histograms ends at this size, when it has enough of them.
const HISTOGRAM_BYTES: usize = 1024;
const HISTOGRAMS_MIN: usize = 10;
/// The count has two bytes.
const HISTOGRAMS_MAX: usize = u16::MAX as usize;
/// Schema of custom bounds.
const CUSTOM_SCHEMA: i32 = -53;

/// How a chunk is encoded, by Prometheus's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ChunkEncoding {
    /// Floats.
    Xor = 1,
    /// Histograms with integer counts.
    Histogram = 2,
    /// Histograms with float counts.
    FloatHistogram = 3,
}

/// A run of samples, encoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Time of the first sample.
    pub min_time: Millis,
    /// Time of the last sample.
    pub max_time: Millis,
    /// How `data` is to be read.
    pub encoding: ChunkEncoding,
    /// The chunk without length and checksum.
    pub data: Vec<u8>,
}

/// Appends the chunks of a series in order of time.
pub fn push_chunks(column: &Column, out: &mut Vec<Chunk>) {
    let mut floats = 0;
    let mut histograms = column.histograms.as_slice();
    while floats < column.times.len() || !histograms.is_empty() {
        let until = histograms.first().map_or(Millis::MAX, |(time, _)| *time);
        let times = column.times.get(floats..).unwrap_or_default();
        let values = column.values.get(floats..).unwrap_or_default();
        // Floats up to the next histogram; then histograms up to the next float.
        let count = times.partition_point(|time| *time < until || histograms.is_empty());
        let (now, later) = times.split_at_checked(count).unwrap_or((times, &[]));
        for (times, values) in now.chunks(FLOATS_MAX).zip(values.get(..count).unwrap_or_default().chunks(FLOATS_MAX)) {
            out.extend(xor_chunk(times, values));
        }
        floats += count;
        let until = later.first().copied().unwrap_or(Millis::MAX);
        let count = histograms.partition_point(|(time, _)| *time < until || later.is_empty());
        let (mut now, rest) = histograms.split_at_checked(count).unwrap_or((histograms, &[]));
        histograms = rest;
        while !now.is_empty() {
            now = push_histogram_chunk(now, out);
        }
        // A float and a histogram at one time: cannot be, and must not keep us here.
        if count == 0 && now.is_empty() && floats < column.times.len() && !histograms.is_empty() {
            let (one, rest) = histograms.split_at_checked(1).unwrap_or((histograms, &[]));
            push_histogram_chunk(one, out);
            histograms = rest;
        }
    }
}

/// What the next xor is taken with.
#[derive(Clone, Copy)]
struct Xor {
    value: u64,
    leading: u32,
    trailing: u32,
}

impl Xor {
    fn new(value: f64) -> Xor {
        // More leading zeros than there can be: the first difference brings its own window.
        Xor { value: value.to_bits(), leading: u32::MAX, trailing: 0 }
    }

    #[inline]
    fn write(&mut self, value: f64, out: &mut BitWriter) {
        let value = value.to_bits();
        let delta = value ^ std::mem::replace(&mut self.value, value);
        if delta == 0 {
            return out.bit(false);
        }
        let (leading, trailing) = (delta.leading_zeros().min(31), delta.trailing_zeros());
        if leading >= self.leading && trailing >= self.trailing {
            out.write(0b10, 2);
            return out.write(delta >> self.trailing, 64 - self.leading - self.trailing);
        }
        (self.leading, self.trailing) = (leading, trailing);
        let width = 64 - leading - trailing;
        out.write(0b11, 2);
        out.write(u64::from(leading), 5);
        // 64 does not fit and stands as 0.
        out.write(u64::from(width % 64), 6);
        out.write(delta >> trailing, width);
    }
}

fn xor_chunk(times: &[Millis], values: &[f64]) -> Option<Chunk> {
    let (&min_time, &max_time) = (times.first()?, times.last()?);
    let mut out = BitWriter::behind((times.len() as u16).to_be_bytes().to_vec());
    let (mut time, mut delta, mut xor) = (min_time, 0i64, Xor::new(0.0));
    for (index, (&next, &value)) in times.iter().zip(values).enumerate() {
        let next_delta = next.wrapping_sub(time);
        match index {
            0 => {
                out.varint(next);
                out.write(value.to_bits(), 64);
                xor = Xor::new(value);
                time = next;
                continue;
            }
            1 => out.uvarint(next_delta as u64),
            _ => {
                let dod = next_delta.wrapping_sub(delta);
                match dod {
                    0 => out.bit(false),
                    _ if fits(dod, 14) => out.write(0b10 << 14 | dod as u64 & 0x3fff, 16),
                    _ if fits(dod, 17) => out.write(0b110 << 17 | dod as u64 & 0x1_ffff, 20),
                    _ if fits(dod, 20) => out.write(0b1110 << 20 | dod as u64 & 0xf_ffff, 24),
                    _ => {
                        out.write(0b1111, 4);
                        out.write(dod as u64, 64);
                    }
                }
            }
        }
        xor.write(value, &mut out);
        (time, delta) = (next, next_delta);
    }
    Some(Chunk { min_time, max_time, encoding: ChunkEncoding::Xor, data: out.into_bytes() })
}

/// Encodes as many histograms as go into one chunk, at least the first; gives the rest.
fn push_histogram_chunk<'a>(histograms: &'a [(Millis, Histogram)], out: &mut Vec<Chunk>) -> &'a [(Millis, Histogram)] {
    let Some(((min_time, first), _)) = histograms.split_first() else { return &[] };
    let mut appender = Appender::new(first);
    let mut max_time = *min_time;
    let mut count = 0;
    for (time, histogram) in histograms {
        let full = count >= HISTOGRAMS_MAX || (count >= HISTOGRAMS_MIN && appender.out.len() >= HISTOGRAM_BYTES);
        if count > 0 && (full || !appender.takes(histogram)) {
            break;
        }
        appender.push(*time, histogram, count);
        (max_time, count) = (*time, count + 1);
    }
    let mut data = appender.out.into_bytes();
    for (place, byte) in data.iter_mut().zip((count as u16).to_be_bytes()) {
        *place = byte;
    }
    let encoding = if first.is_float { ChunkEncoding::FloatHistogram } else { ChunkEncoding::Histogram };
    out.push(Chunk { min_time: *min_time, max_time, encoding, data });
    histograms.get(count..).unwrap_or_default()
}

/// State of one integer: what its next difference is taken from.
#[derive(Clone, Copy, Default)]
struct Delta {
    value: i64,
    delta: i64,
}

impl Delta {
    /// Writes the difference of differences.
    fn write(&mut self, value: i64, out: &mut BitWriter) {
        let delta = value.wrapping_sub(self.value);
        out.varbit(delta.wrapping_sub(self.delta));
        *self = Delta { value, delta };
    }
}

struct Appender<'a> {
    out: BitWriter,
    /// The first one, whose layout is the chunk's.
    layout: &'a Histogram,
    last: &'a Histogram,
    time: Delta,
    counts: [Delta; 2],
    sum: Xor,
    buckets: Vec<Delta>,
    float_counts: [Xor; 2],
    float_buckets: Vec<Xor>,
}

/// A stale histogram has nothing but its sum.
static EMPTY: Histogram = Histogram {
    schema: 0,
    is_float: false,
    reset_hint: ResetHint::Unknown,
    zero_threshold: 0.0,
    zero_count: 0.0,
    count: 0.0,
    sum: 0.0,
    positive_spans: Vec::new(),
    positive: Vec::new(),
    negative_spans: Vec::new(),
    negative: Vec::new(),
    custom_bounds: Vec::new(),
};

fn said(histogram: &Histogram) -> &Histogram {
    if is_stale(histogram.sum) { &EMPTY } else { histogram }
}

impl<'a> Appender<'a> {
    fn new(first: &'a Histogram) -> Appender<'a> {
        let reset = match first.reset_hint {
            ResetHint::Unknown => 0,
            ResetHint::Reset => 0x80,
            ResetHint::NoReset => 0x40,
            ResetHint::Gauge => 0xc0,
        };
        let mut out = BitWriter::behind(vec![0, 0, reset]);
        let layout = said(first);
        push_zero_threshold(&mut out, layout.zero_threshold);
        out.varbit(layout.schema.into());
        for spans in [&layout.positive_spans, &layout.negative_spans] {
            out.varbit_unsigned(spans.len() as u64);
            for Span { offset, length } in spans {
                out.varbit_unsigned(u64::from(*length));
                out.varbit(i64::from(*offset));
            }
        }
        if layout.schema == CUSTOM_SCHEMA {
            out.varbit_unsigned(layout.custom_bounds.len() as u64);
            layout.custom_bounds.iter().for_each(|bound| push_bound(&mut out, *bound));
        }
        Appender {
            out,
            layout,
            last: first,
            time: Delta::default(),
            counts: Default::default(),
            sum: Xor::new(first.sum),
            buckets: Vec::new(),
            float_counts: [Xor::new(0.0); 2],
            float_buckets: Vec::new(),
        }
    }

    /// Whether a histogram goes into this chunk after the last one.
    fn takes(&self, next: &Histogram) -> bool {
        let (layout, last) = (self.layout, self.last);
        if next.is_float != last.is_float {
            return false;
        }
        if is_stale(next.sum) {
            // Its kind of counter is that of the chunk.
            return (next.reset_hint == ResetHint::Gauge) == (last.reset_hint == ResetHint::Gauge);
        }
        if is_stale(last.sum) || next.reset_hint == ResetHint::Reset {
            return false;
        }
        let same_bits =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
        let same_layout = next.schema == layout.schema
            && next.zero_threshold.to_bits() == layout.zero_threshold.to_bits()
            && next.positive_spans == layout.positive_spans
            && next.negative_spans == layout.negative_spans
            && next.positive.len() == last.positive.len()
            && next.negative.len() == last.negative.len()
            && same_bits(&next.custom_bounds, &layout.custom_bounds);
        if !same_layout {
            return false;
        }
        if next.reset_hint == ResetHint::Gauge || last.reset_hint == ResetHint::Gauge {
            return next.reset_hint == last.reset_hint;
        }
        let grows = |before: &[f64], after: &[f64]| before.iter().zip(after).all(|(before, after)| before <= after);
        last.count <= next.count
            && last.zero_count <= next.zero_count
            && grows(&last.positive, &next.positive)
            && grows(&last.negative, &next.negative)
    }

    fn push(&mut self, time: Millis, sample: &'a Histogram, index: usize) {
        let histogram = said(sample);
        let out = &mut self.out;
        if index == 0 {
            out.varbit(time);
            self.time.value = time;
        } else {
            self.time.write(time, out);
        }
        let buckets = histogram.positive.iter().chain(&histogram.negative);
        if sample.is_float {
            let counts = [histogram.count, histogram.zero_count];
            if index == 0 {
                counts.iter().for_each(|count| out.write(count.to_bits(), 64));
                self.float_counts = counts.map(Xor::new);
                out.write(sample.sum.to_bits(), 64);
                buckets.clone().for_each(|bucket| out.write(bucket.to_bits(), 64));
                self.float_buckets = buckets.copied().map(Xor::new).collect();
            } else {
                self.float_counts.iter_mut().zip(counts).for_each(|(xor, count)| xor.write(count, out));
                self.sum.write(sample.sum, out);
                self.float_buckets.iter_mut().zip(buckets).for_each(|(xor, bucket)| xor.write(*bucket, out));
            }
        } else {
            let counts = [histogram.count as i64, histogram.zero_count as i64];
            // On the wire a bucket is its difference to the one before it, on each side.
            let differences = |side: &[f64]| {
                let mut before = 0;
                let difference = |&bucket: &f64| bucket as i64 - std::mem::replace(&mut before, bucket as i64);
                side.iter().map(difference).collect::<Vec<_>>()
            };
            let buckets = differences(&histogram.positive).into_iter().chain(differences(&histogram.negative));
            if index == 0 {
                counts.iter().for_each(|count| out.varbit_unsigned(*count as u64));
                self.counts = counts.map(|value| Delta { value, delta: 0 });
                out.write(sample.sum.to_bits(), 64);
                self.buckets = buckets.map(|value| Delta { value, delta: 0 }).collect();
                self.buckets.iter().for_each(|bucket| out.varbit(bucket.value));
            } else if is_stale(sample.sum) {
                // Readers do not look at the counts of what is stale.
                out.write(0, 2);
                self.sum.write(sample.sum, out);
            } else {
                self.counts.iter_mut().zip(counts).for_each(|(delta, count)| delta.write(count, out));
                self.sum.write(sample.sum, out);
                self.buckets.iter_mut().zip(buckets).for_each(|(delta, bucket)| delta.write(bucket, out));
            }
        }
        self.last = sample;
    }
}

/// Powers of two in one byte, as most thresholds are; 255 and eight bytes for others.
fn push_zero_threshold(out: &mut BitWriter, threshold: f64) {
    let bits = threshold.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i64, bits & ((1 << 52) - 1));
    // The exponent of a fraction from a half to one.
    let exponent = exponent - 1022;
    if threshold == 0.0 {
        out.write(0, 8);
    } else if threshold > 0.0 && fraction == 0 && (-242..=11).contains(&exponent) {
        out.write((exponent + 243) as u64, 8);
    } else {
        out.write(0xff, 8);
        out.write(bits, 64);
    }
}

/// Thousandths up to four bytes as whole numbers, others as they are behind a zero bit.
fn push_bound(out: &mut BitWriter, bound: f64) {
    let thousandths = bound * 1000.0;
    let whole = thousandths.round();
    if (0.0..=33_554_430.0).contains(&thousandths)
        && whole / 1000.0 == bound
        && !(bound == 0.0 && bound.is_sign_negative())
    {
        out.varbit_unsigned(whole as u64 + 1);
    } else {
        out.bit(false);
        out.write(bound.to_bits(), 64);
    }
}
