//! Native histograms of a chunk: runs of equal layout, each bucket of a run a column of values.
//!
//! A series keeps its layout (schema, spans, bounds) for long, and a bucket over time is a counter like any other, so
//! the codecs of `values.rs` do the work, exact for integer and float histograms, stale sums and whatever else.
//!
//! ```text
//! hints     runs of equal reset hints that cover the chunk: hint | length << 2
//! run …     until the chunk is full:
//!   count          varint, histograms in the run, at least 1
//!   schema         zigzag << 1 | is_float
//!   zero_threshold 8 bytes
//!   spans          positive, then negative: count; each: offset zigzag, length
//!   bounds         count; each 8 bytes; none for exponential buckets
//!   buckets        positive, then negative: count
//!   columns        count, zero_count, sum, positive buckets, negative buckets: each its length and its bytes
//! ```
//! Counts, lengths and hints are varints. Bounds stay raw, so that a few bytes cannot claim many of them.

use super::varint::{Bytes, unzigzag, write_i64, write_u64, zigzag};
use super::{Malformed, values};
use values::Effort;
use varve_model::Histogram;
use varve_model::histogram::{ResetHint, Span};

/// Fewest bytes of a column: its length, a tag and a value.
const COLUMN_BYTES_MIN: usize = 3;

/// Appends the histograms; nothing when there are none.
pub fn encode(histograms: &[Histogram], out: &mut Vec<u8>) {
    for run in histograms.chunk_by(|a, b| a.reset_hint == b.reset_hint) {
        let Some(first) = run.first() else { continue };
        write_u64(out, (run.len() as u64) << 2 | first.reset_hint as u64);
    }
    let (mut column, mut scratch) = (Vec::new(), Vec::new());
    for run in histograms.chunk_by(same_layout) {
        let Some(first) = run.first() else { continue };
        write_u64(out, run.len() as u64);
        write_layout(first, out);
        let mut write = |value_of: &dyn Fn(&Histogram) -> f64| {
            column.clear();
            column.extend(run.iter().map(value_of));
            write_column(&column, &mut scratch, out);
        };
        write(&|histogram| histogram.count);
        write(&|histogram| histogram.zero_count);
        write(&|histogram| histogram.sum);
        for i in 0..first.positive.len() {
            write(&|histogram| histogram.positive.get(i).copied().unwrap_or_default());
        }
        for i in 0..first.negative.len() {
            write(&|histogram| histogram.negative.get(i).copied().unwrap_or_default());
        }
    }
}

/// Appends the `count` histograms that `bytes` holds, exactly as [`encode`] wrote them; on an error `histograms` is as
/// it was. A bucket costs three bytes of input at least, so what is allocated is bounded by `count` times the input:
/// the caller bounds both.
pub fn decode(bytes: &[u8], count: usize, histograms: &mut Vec<Histogram>) -> Result<(), Malformed> {
    let start = histograms.len();
    let result = decode_into(Bytes::new(bytes), count, histograms);
    if result.is_err() {
        histograms.truncate(start);
    }
    result
}

fn decode_into(mut bytes: Bytes<'_>, count: usize, histograms: &mut Vec<Histogram>) -> Result<(), Malformed> {
    let start = histograms.len();
    let mut hints = bytes;
    let mut left = count;
    while left > 0 {
        left -= read_hint(&mut bytes, left)?.1;
    }
    let mut left = count;
    let mut column = Vec::new();
    while left > 0 {
        let run_len = bytes.count(left)?;
        if run_len == 0 {
            return Err(Malformed("empty run of histograms"));
        }
        left -= run_len;
        let layout = read_layout(&mut bytes)?;
        let positive = bytes.count(bytes.rest().len() / COLUMN_BYTES_MIN)?;
        let negative = bytes.count(bytes.rest().len() / COLUMN_BYTES_MIN)?;
        if positive + negative > bytes.rest().len() / COLUMN_BYTES_MIN {
            return Err(Malformed("more buckets than bytes"));
        }
        let at = histograms.len();
        histograms.resize_with(at + run_len, || {
            let mut histogram = layout.clone();
            histogram.positive.reserve_exact(positive);
            histogram.negative.reserve_exact(negative);
            histogram
        });
        let run = histograms.get_mut(at..).unwrap_or_default();
        let mut read = |store: &mut dyn FnMut(&mut Histogram, f64)| {
            read_column(&mut bytes, run_len, &mut column)?;
            for (histogram, value) in run.iter_mut().zip(&column) {
                store(histogram, *value);
            }
            Ok(())
        };
        read(&mut |histogram, value| histogram.count = value)?;
        read(&mut |histogram, value| histogram.zero_count = value)?;
        read(&mut |histogram, value| histogram.sum = value)?;
        for _ in 0..positive {
            read(&mut |histogram, value| histogram.positive.push(value))?;
        }
        for _ in 0..negative {
            read(&mut |histogram, value| histogram.negative.push(value))?;
        }
    }
    let mut rest = histograms.get_mut(start..).unwrap_or_default().iter_mut();
    while rest.len() > 0 {
        let (hint, length) = read_hint(&mut hints, rest.len())?;
        rest.by_ref().take(length).for_each(|histogram| histogram.reset_hint = hint);
    }
    bytes.end()
}

fn same_layout(a: &Histogram, b: &Histogram) -> bool {
    a.schema == b.schema
        && a.is_float == b.is_float
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && a.positive.len() == b.positive.len()
        && a.negative.len() == b.negative.len()
        && a.custom_bounds.len() == b.custom_bounds.len()
        && a.custom_bounds.iter().zip(&b.custom_bounds).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn write_layout(histogram: &Histogram, out: &mut Vec<u8>) {
    write_u64(out, zigzag(i64::from(histogram.schema)) << 1 | u64::from(histogram.is_float));
    out.extend_from_slice(&histogram.zero_threshold.to_bits().to_le_bytes());
    for spans in [&histogram.positive_spans, &histogram.negative_spans] {
        write_u64(out, spans.len() as u64);
        for span in spans {
            write_i64(out, i64::from(span.offset));
            write_u64(out, u64::from(span.length));
        }
    }
    write_u64(out, histogram.custom_bounds.len() as u64);
    out.extend(histogram.custom_bounds.iter().flat_map(|bound| bound.to_bits().to_le_bytes()));
    write_u64(out, histogram.positive.len() as u64);
    write_u64(out, histogram.negative.len() as u64);
}

/// Reads all that the histograms of a run share, but the counts of their buckets.
fn read_layout(bytes: &mut Bytes<'_>) -> Result<Histogram, Malformed> {
    let head = bytes.u64()?;
    let schema = i32::try_from(unzigzag(head >> 1)).map_err(|_| Malformed("schema of a histogram"))?;
    let zero_threshold = f64::from_bits(bytes.fixed_u64()?);
    let positive_spans = read_spans(bytes)?;
    let negative_spans = read_spans(bytes)?;
    let bound_count = bytes.count(bytes.rest().len() / 8)?;
    let mut custom_bounds = Vec::with_capacity(bound_count);
    for _ in 0..bound_count {
        custom_bounds.push(f64::from_bits(bytes.fixed_u64()?));
    }
    let is_float = head & 1 == 1;
    Ok(Histogram {
        schema,
        is_float,
        zero_threshold,
        positive_spans,
        negative_spans,
        custom_bounds,
        ..Histogram::default()
    })
}

fn read_spans(bytes: &mut Bytes<'_>) -> Result<Vec<Span>, Malformed> {
    const BAD: Malformed = Malformed("span of a histogram");
    let count = bytes.count(bytes.rest().len() / 2)?;
    let mut spans = Vec::with_capacity(count);
    for _ in 0..count {
        let offset = i32::try_from(bytes.i64()?).map_err(|_| BAD)?;
        let length = u32::try_from(bytes.u64()?).map_err(|_| BAD)?;
        spans.push(Span { offset, length });
    }
    Ok(spans)
}

/// Reads a run of at most `max` equal hints, at least one.
fn read_hint(bytes: &mut Bytes<'_>, max: usize) -> Result<(ResetHint, usize), Malformed> {
    let head = bytes.u64()?;
    let hint = match head & 3 {
        0 => ResetHint::Unknown,
        1 => ResetHint::Reset,
        2 => ResetHint::NoReset,
        _ => ResetHint::Gauge,
    };
    match usize::try_from(head >> 2) {
        Ok(length) if (1..=max).contains(&length) => Ok((hint, length)),
        _ => Err(Malformed("run of reset hints")),
    }
}

fn write_column(column: &[f64], scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    scratch.clear();
    values::encode(column, Effort::Hot, scratch);
    write_u64(out, scratch.len() as u64);
    out.extend_from_slice(scratch);
}

fn read_column(bytes: &mut Bytes<'_>, count: usize, column: &mut Vec<f64>) -> Result<(), Malformed> {
    let length = bytes.count(bytes.rest().len())?;
    column.clear();
    values::decode(bytes.take(length)?, count, column)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::samples::{Kind, generate};
    use crate::codec::{hex, unhex};
    use proptest::prelude::*;

    /// Compares bit for bit, where `==` would lose NaN and -0.0.
    fn bits(histograms: &[Histogram]) -> Vec<(Histogram, Vec<u64>)> {
        let floats = |h: &Histogram| {
            let lists = [&h.positive, &h.negative, &h.custom_bounds].into_iter().flatten();
            [h.zero_threshold, h.zero_count, h.count, h.sum].iter().chain(lists).map(|value| value.to_bits()).collect()
        };
        let rest = |h: &Histogram| Histogram {
            schema: h.schema,
            is_float: h.is_float,
            reset_hint: h.reset_hint,
            positive_spans: h.positive_spans.clone(),
            negative_spans: h.negative_spans.clone(),
            ..Histogram::default()
        };
        histograms.iter().map(|h| (rest(h), floats(h))).collect()
    }

    #[track_caller]
    fn check(histograms: &[Histogram]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(histograms, &mut out);
        check_bytes(&out, histograms);
        out
    }

    #[track_caller]
    fn check_bytes(bytes: &[u8], histograms: &[Histogram]) {
        let mut got = vec![Histogram::default()];
        decode(bytes, histograms.len(), &mut got).unwrap();
        assert_eq!(bits(&got[1..]), bits(histograms));
    }

    /// `count` scrapes of one integer histogram.
    fn scrapes(count: usize, buckets: usize) -> Vec<Histogram> {
        (0..count as u64)
            .map(|i| Histogram {
                schema: 3,
                reset_hint: if i == 0 { ResetHint::Unknown } else { ResetHint::NoReset },
                zero_threshold: 2.938_735_877_055_719e-39,
                zero_count: 2.0,
                count: (i * 10 * buckets as u64) as f64,
                sum: i as f64 * 0.25,
                positive_spans: vec![Span { offset: -2, length: 1 }, Span { offset: 3, length: buckets as u32 - 1 }],
                positive: (0..buckets as u64).map(|bucket| (i * (bucket + 1) + i * i * 7 % 5) as f64).collect(),
                ..Histogram::default()
            })
            .collect()
    }

    #[test]
    fn golden_bytes() {
        let mut histograms = scrapes(6, 2);
        histograms[5] = Histogram { sum: f64::from_bits(varve_model::STALE_NAN_BITS), ..Histogram::default() };
        histograms.push(Histogram {
            schema: -53,
            is_float: true,
            reset_hint: ResetHint::Gauge,
            count: 1.5,
            negative_spans: vec![Span { offset: 0, length: 2 }],
            negative: vec![0.5, 1.0],
            custom_bounds: vec![0.1, 0.5, 1.0],
            ..Histogram::default()
        });
        let golden = concat!(
            "04120407050c000000000000f037020301060100000200050200000028020004050220000032070201000300586d08020200",
            "0702026f000100000000000000000000000000000200000200000901020000000000f07f01d3010000000000000000000100",
            "02039a9999999999b93f000000000000e03f000000000000f03f00020901000000000000f83f020000020000090100000000",
            "0000e03f020002"
        );
        assert_eq!(hex(&check(&histograms)), golden);
        check_bytes(&unhex(golden), &histograms);
    }

    #[test]
    fn a_layout_is_written_once() {
        let histograms = scrapes(120, 20);
        let raw = 120 * 23 * 8;
        assert!(check(&histograms).len() * 8 < raw, "{}", check(&histograms).len());
        assert_eq!(check(&[]), []);
    }

    fn histogram() -> impl Strategy<Value = Histogram> {
        let spans = || {
            prop::collection::vec((any::<i32>(), any::<u32>()), 0..3)
                .prop_map(|spans| spans.into_iter().map(|(offset, length)| Span { offset, length }).collect())
        };
        let values = |count: usize| {
            (any::<u64>(), 0u64..3, 0..count).prop_map(|(seed, odd, count)| generate(Kind::Counter, count, seed, odd))
        };
        (any::<(i32, bool, f64)>(), 0usize..4, spans(), spans(), values(9), values(5), values(4), any::<[f64; 3]>())
            .prop_map(
                |(
                    (schema, is_float, zero_threshold),
                    hint,
                    positive_spans,
                    negative_spans,
                    positive,
                    negative,
                    custom_bounds,
                    [count, zero_count, sum],
                )| {
                    let reset_hint = [ResetHint::Unknown, ResetHint::Reset, ResetHint::NoReset, ResetHint::Gauge][hint];
                    Histogram {
                        schema,
                        is_float,
                        reset_hint,
                        zero_threshold,
                        zero_count,
                        count,
                        sum,
                        positive_spans,
                        positive,
                        negative_spans,
                        negative,
                        custom_bounds,
                    }
                },
            )
    }

    /// Histograms that keep their layout for a while.
    fn histograms() -> impl Strategy<Value = Vec<Histogram>> {
        prop::collection::vec((histogram(), 1usize..20, any::<u64>()), 0..4).prop_map(|runs| {
            let mut all = Vec::new();
            for (first, count, seed) in runs {
                for i in 0..count as u64 {
                    let mut next = first.clone();
                    let fresh = generate(Kind::Counter, next.positive.len() + 2, seed.wrapping_add(i), i % 4);
                    next.count = fresh[0];
                    next.sum = fresh[1];
                    next.positive.copy_from_slice(&fresh[2..]);
                    all.push(next);
                }
            }
            all
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn histograms_round_trip(histograms in histograms()) {
            check(&histograms);
        }

        #[test]
        fn damaged_bytes_are_refused_or_read(histograms in histograms(), at in any::<prop::sample::Index>(), flip in 1u8..=255) {
            let mut bytes = check(&histograms);
            prop_assume!(!bytes.is_empty());
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let mut got = Vec::new();
            let ok = decode(&bytes, histograms.len(), &mut got).is_ok();
            prop_assert_eq!(got.len(), if ok { histograms.len() } else { 0 });
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 0usize..100) {
            let mut got = Vec::new();
            let ok = decode(&bytes, count, &mut got).is_ok();
            prop_assert_eq!(got.len(), if ok { count } else { 0 });
        }
    }
}
