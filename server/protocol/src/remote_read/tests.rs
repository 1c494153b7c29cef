//! What is written is what Prometheus reads: messages against prost, chunks against the reader of Prometheus's blocks.

use proptest::prelude::*;
use prost::Message;
use varve_model::histogram::{ResetHint, Span};
use varve_model::{Histogram, LabelsBuilder, Millis, STALE_NAN_BITS};

use super::*;

#[derive(Clone, PartialEq, Message)]
struct ChunkedReadResponse {
    #[prost(message, repeated, tag = "1")]
    chunked_series: Vec<ChunkedSeries>,
    #[prost(int64, tag = "2")]
    query_index: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkedSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    chunks: Vec<WireChunk>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct WireChunk {
    #[prost(int64, tag = "1")]
    min_time_ms: i64,
    #[prost(int64, tag = "2")]
    max_time_ms: i64,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(bytes = "vec", tag = "4")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct WireRequest {
    #[prost(message, repeated, tag = "1")]
    queries: Vec<WireQuery>,
    #[prost(int32, repeated, tag = "2")]
    accepted: Vec<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct WireQuery {
    #[prost(int64, tag = "1")]
    start: i64,
    #[prost(int64, tag = "2")]
    end: i64,
    #[prost(message, repeated, tag = "3")]
    matchers: Vec<WireMatcher>,
    #[prost(bytes = "vec", tag = "4")]
    hints: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct WireMatcher {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    value: String,
}

#[test]
fn requests_are_read_as_prost_writes_them() {
    let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
    let matcher = |kind: i32| WireMatcher { kind, name: "a".to_owned(), value: format!("é{kind}") };
    let query = WireQuery { start: -5, end: 1 << 41, matchers: (0..4).map(matcher).collect(), hints: vec![0x08, 1] };
    let mut request = WireRequest { queries: vec![query.clone(), WireQuery::default()], accepted: vec![7, 1, 0] };
    let read = decode_read_request(&request.encode_to_vec()).unwrap();
    assert_eq!(read.form, Form::StreamedChunks);
    assert_eq!(read.queries[0].range, TimeRange { min: -5, max: 1 << 41 });
    let expected = ops.iter().enumerate().map(|(kind, op)| (*op, "a".to_owned(), format!("é{kind}")));
    assert_eq!(read.queries[0].matchers, expected.collect::<Vec<_>>());
    request.accepted.clear();
    assert_eq!(decode_read_request(&request.encode_to_vec()).unwrap().form, Form::Samples);
    request.accepted = vec![7];
    assert!(decode_read_request(&request.encode_to_vec()).is_err());
    request.accepted.clear();
    request.queries[0].matchers[0].kind = 4;
    assert!(decode_read_request(&request.encode_to_vec()).is_err());
    request.queries = vec![WireQuery::default(); QUERIES_MAX + 1];
    assert!(decode_read_request(&request.encode_to_vec()).is_err());
}

/// Every chunk read back by the reader of Prometheus's blocks.
fn read_back(chunks: &[Chunk]) -> Column {
    let mut column = Column::default();
    for chunk in chunks {
        let begin = column.len();
        let encoding = crate::tsdb::Encoding::from_number(chunk.encoding as u8).unwrap();
        crate::tsdb::decode_chunk(encoding, &chunk.data, &mut column).unwrap();
        assert!(column.len() > begin);
    }
    column
}

/// What readers make of a histogram: hints but that of a gauge are their own, what is stale has a sum alone.
fn comparable(column: &Column) -> Vec<(Millis, String)> {
    let floats = column.times.iter().zip(&column.values).map(|(time, value)| (*time, format!("{:x}", value.to_bits())));
    let histograms = column.histograms.iter().map(|(time, histogram)| {
        let mut histogram = histogram.clone();
        if varve_model::is_stale(histogram.sum) {
            histogram = Histogram { sum: histogram.sum, is_float: histogram.is_float, ..Histogram::default() };
        } else if histogram.reset_hint != ResetHint::Gauge {
            histogram.reset_hint = ResetHint::Unknown;
        }
        let sum = histogram.sum.to_bits();
        histogram.sum = 0.0;
        (*time, format!("{histogram:?} {sum:x}"))
    });
    floats.chain(histograms).collect()
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (0i32..1000).prop_map(f64::from),
        Just(f64::from_bits(STALE_NAN_BITS)),
        (0i32..100).prop_map(|v| f64::from(v) / 8.0),
    ]
}

fn gap() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(15_000i64), 2 => 14_900i64..15_100, 1 => 1i64..300_000, 1 => 1i64..(1 << 40)]
}

fn histogram() -> impl Strategy<Value = Histogram> {
    let counts = proptest::collection::vec(0u32..50, 5);
    (counts, any::<bool>(), 0u32..6, 0u32..4, 0u32..10).prop_map(|(counts, is_float, kind, hint, zero)| {
        let counts: Vec<f64> = counts.into_iter().map(f64::from).collect();
        let mut histogram = Histogram {
            is_float,
            schema: 3,
            zero_threshold: if kind == 0 { 0.1 } else { 2f64.powi(-128) },
            zero_count: zero.into(),
            count: counts.iter().sum::<f64>() + f64::from(zero),
            sum: counts[0] * 1.5,
            positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 70_000, length: 1 }],
            positive: counts[..3].to_vec(),
            negative_spans: vec![Span { offset: 5, length: 2 }],
            negative: counts[3..].to_vec(),
            reset_hint: [ResetHint::Unknown, ResetHint::Reset, ResetHint::NoReset, ResetHint::Gauge][hint as usize],
            custom_bounds: Vec::new(),
        };
        match kind {
            1 => {
                histogram.schema = -53;
                histogram.custom_bounds = vec![-1.0, 0.25, 33_554.43, 1e9];
                (histogram.zero_threshold, histogram.zero_count) = (0.0, 0.0);
                (histogram.negative_spans, histogram.negative) = (Vec::new(), Vec::new());
                histogram.positive_spans = vec![Span { offset: 1, length: 3 }];
                histogram.count = counts[..3].iter().sum();
            }
            2 => histogram.sum = f64::from_bits(STALE_NAN_BITS),
            _ => {}
        }
        histogram
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn chunks_are_read_back_bit_for_bit(
        samples in proptest::collection::vec((gap(), value(), proptest::option::weighted(0.3, histogram())), 0..300),
        grow in any::<bool>(),
    ) {
        let mut column = Column::default();
        let mut time = -40_000i64;
        let mut before: Option<Histogram> = None;
        for (gap, value, histogram) in samples {
            time += gap;
            let Some(mut histogram) = histogram else {
                column.times.push(time);
                column.values.push(value);
                continue;
            };
            // Growing ones share chunks.
            if let Some(before) = before.filter(|b| grow && b.is_float == histogram.is_float && b.schema == histogram.schema) {
                histogram.positive.iter_mut().zip(&before.positive).for_each(|(a, b)| *a += b);
                histogram.negative.iter_mut().zip(&before.negative).for_each(|(a, b)| *a += b);
                histogram.count += before.count;
                histogram.zero_count += before.zero_count;
                if histogram.reset_hint != ResetHint::Gauge {
                    histogram.reset_hint = ResetHint::NoReset;
                }
            }
            before = Some(histogram.clone());
            column.histograms.push((time, histogram));
        }
        let mut chunks = Vec::new();
        push_chunks(&column, &mut chunks);
        prop_assert!(chunks.windows(2).all(|pair| pair[0].max_time < pair[1].min_time));
        let read = read_back(&chunks);
        prop_assert_eq!(comparable(&read), comparable(&column));
    }
}

#[test]
fn regular_histograms_share_a_chunk() {
    let histogram = |n: u32| Histogram {
        count: f64::from(n),
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive: vec![f64::from(n)],
        ..Histogram::default()
    };
    let histograms = (0..40).map(|n| (i64::from(n) * 15_000, histogram(n))).collect();
    let mut chunks = Vec::new();
    push_chunks(&Column { histograms, ..Column::default() }, &mut chunks);
    assert_eq!(chunks.len(), 1, "{chunks:?}");
}

#[test]
fn frames_are_checked_and_cut_by_size() {
    let mut builder = LabelsBuilder::default();
    builder.push("__name__", "up");
    builder.push("job", "a");
    let labels = builder.build().unwrap();
    let times: Vec<Millis> = (0..1000).map(|i| 1_700_000_000_000 + i * 15_000).collect();
    let column = Column { values: times.iter().map(|t| (*t as f64).sqrt()).collect(), times, ..Column::default() };
    let mut chunks = Vec::new();
    push_chunks(&column, &mut chunks);
    assert_eq!(chunks.len(), 9);
    for (frame_bytes, frames_expected) in [(1, 9), (1 << 20, 1), (3000, 2)] {
        let mut out = Vec::new();
        push_frames(&mut out, &labels, &chunks, 3, frame_bytes);
        let (mut rest, mut frames, mut found) = (&out[..], 0, Vec::new());
        while !rest.is_empty() {
            let mut reader = Reader::new(rest);
            let len = reader.varint().unwrap() as usize;
            let (crc, after) = reader.rest().split_first_chunk::<4>().unwrap();
            let (message, after) = after.split_at(len);
            assert_eq!(u32::from_be_bytes(*crc), crc32c(message));
            let read = ChunkedReadResponse::decode(message).unwrap();
            assert_eq!((read.query_index, read.chunked_series.len()), (3, 1));
            assert_eq!(read.chunked_series[0].labels[1], Label { name: "job".to_owned(), value: "a".to_owned() });
            found.extend(read.chunked_series[0].chunks.clone());
            (rest, frames) = (after, frames + 1);
        }
        assert_eq!(frames, frames_expected, "{frame_bytes}");
        let same = |a: &WireChunk, b: &Chunk| {
            a.data == b.data
                && a.min_time_ms == b.min_time
                && a.max_time_ms == b.max_time
                && a.kind == b.encoding as i32
        };
        assert!(found.iter().zip(&chunks).all(|(a, b)| same(a, b)) && found.len() == chunks.len());
    }
}
