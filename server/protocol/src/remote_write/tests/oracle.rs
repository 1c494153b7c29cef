//! The messages of remote write 1.0 as prost reads and writes them, and how they map to the model: an oracle that
//! shares no code with ours. Label texts are bytes here, so that the oracle does not judge UTF-8.

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub metadata: Vec<MetricMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Label {
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Sample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(double, tag = "2")]
    pub value: f64,
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricMetadata {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub family: String,
    #[prost(string, tag = "4")]
    pub help: String,
    #[prost(string, tag = "5")]
    pub unit: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct BucketSpan {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub(super) enum Count {
    #[prost(uint64, tag = "1")]
    Int(u64),
    #[prost(double, tag = "2")]
    Float(f64),
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub(super) enum ZeroCount {
    #[prost(uint64, tag = "6")]
    Int(u64),
    #[prost(double, tag = "7")]
    Float(f64),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(oneof = "Count", tags = "1, 2")]
    pub count: Option<Count>,
    #[prost(double, tag = "3")]
    pub sum: f64,
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    #[prost(oneof = "ZeroCount", tags = "6, 7")]
    pub zero_count: Option<ZeroCount>,
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
}

/// What a valid histogram is in the model.
pub(super) fn to_model(sent: &Histogram) -> varve_model::Histogram {
    let is_float = matches!(sent.count, Some(Count::Float(_)));
    let counts = |deltas: &[i64], floats: &[f64]| -> Vec<f64> {
        let mut sum = 0;
        let integers = deltas.iter().map(|delta| {
            sum += delta;
            sum as f64
        });
        if is_float { floats.to_vec() } else { integers.collect() }
    };
    let spans = |spans: &[BucketSpan]| {
        spans.iter().map(|s| varve_model::histogram::Span { offset: s.offset, length: s.length }).collect()
    };
    use varve_model::histogram::ResetHint::*;
    varve_model::Histogram {
        schema: sent.schema,
        is_float,
        reset_hint: [Unknown, Reset, NoReset, Gauge][sent.reset_hint as usize],
        zero_threshold: sent.zero_threshold,
        zero_count: match sent.zero_count {
            Some(ZeroCount::Int(count)) => count as f64,
            Some(ZeroCount::Float(count)) => count,
            None => 0.0,
        },
        count: match sent.count {
            Some(Count::Int(count)) => count as f64,
            Some(Count::Float(count)) => count,
            None => 0.0,
        },
        sum: sent.sum,
        positive_spans: spans(&sent.positive_spans),
        positive: counts(&sent.positive_deltas, &sent.positive_counts),
        negative_spans: spans(&sent.negative_spans),
        negative: counts(&sent.negative_deltas, &sent.negative_counts),
        custom_bounds: sent.custom_values.clone(),
    }
}

/// Any float but NaN, which `==` of the messages would not find equal to itself, and -0.0, which prost leaves out.
fn float() -> impl Strategy<Value = f64> {
    let sent_whole = |v: &f64| !v.is_nan() && v.to_bits() != (-0.0f64).to_bits();
    prop_oneof![any::<f64>().prop_filter("sent whole", sent_whole), Just(0.0), Just(f64::INFINITY)]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), 0..2_000_000_000_000i64, Just(0)]
}

/// Names are unique; some values are empty, some texts are longer than a one-byte length can say.
fn labels() -> impl Strategy<Value = Vec<Label>> {
    let value = prop_oneof![8 => "[a-zé]{1,12}", 1 => "[a-z]{120,140}", 1 => Just(String::new())];
    let pairs = proptest::collection::btree_map("[a-z_]{1,8}", value, 0..6);
    pairs.prop_map(|pairs: BTreeMap<String, String>| {
        pairs.into_iter().map(|(name, value)| Label { name: name.into(), value: value.into() }).collect()
    })
}

fn spans() -> impl Strategy<Value = (Vec<BucketSpan>, Vec<u32>)> {
    proptest::collection::vec((0i32..5, 0u32..4), 0..4).prop_flat_map(|spans| {
        let spans: Vec<_> = spans.into_iter().map(|(offset, length)| BucketSpan { offset, length }).collect();
        let buckets = spans.iter().map(|span| span.length as usize).sum::<usize>();
        (Just(spans), proptest::collection::vec(0u32..1000, buckets))
    })
}

fn histogram() -> impl Strategy<Value = Histogram> {
    let rest = (float(), -4i32..=8, 0.0..1.0f64, 0u32..100, 0i32..4, time(), any::<bool>());
    (spans(), spans(), rest).prop_map(|((positive_spans, positive), (negative_spans, negative), rest)| {
        let (sum, schema, zero_threshold, zero, reset_hint, timestamp, is_float) = rest;
        let deltas = |counts: &[u32]| -> Vec<i64> {
            let mut last = 0;
            counts.iter().map(|&count| i64::from(count) - std::mem::replace(&mut last, i64::from(count))).collect()
        };
        let count = u64::from(positive.iter().chain(&negative).sum::<u32>() + zero);
        let floats = |counts: &[u32]| counts.iter().map(|&count| f64::from(count) + 0.5).collect();
        let mut histogram = Histogram {
            count: Some(Count::Int(count)),
            zero_count: Some(ZeroCount::Int(zero.into())),
            positive_deltas: deltas(&positive),
            negative_deltas: deltas(&negative),
            sum,
            schema,
            zero_threshold,
            positive_spans,
            negative_spans,
            reset_hint,
            timestamp,
            ..Histogram::default()
        };
        if is_float {
            histogram.count = Some(Count::Float(count as f64 + 0.25));
            histogram.zero_count = Some(ZeroCount::Float(zero.into()));
            histogram.positive_counts = floats(&positive);
            histogram.negative_counts = floats(&negative);
            (histogram.positive_deltas, histogram.negative_deltas) = (Vec::new(), Vec::new());
        }
        histogram
    })
}

fn series() -> impl Strategy<Value = TimeSeries> {
    use proptest::collection::vec;
    let sample = (float(), time()).prop_map(|(value, timestamp)| Sample { value, timestamp });
    let exemplar =
        (labels(), float(), time()).prop_map(|(labels, value, timestamp)| Exemplar { labels, value, timestamp });
    (labels(), vec(sample, 0..4), vec(exemplar, 0..2), vec(histogram(), 0..2))
        .prop_map(|(labels, samples, exemplars, histograms)| TimeSeries { labels, samples, exemplars, histograms })
}

/// A request whose every histogram is valid.
pub(super) fn request() -> impl Strategy<Value = WriteRequest> {
    let metadata = (0i32..8, "[a-z]{0,9}", "[a-zé\n]{0,30}", "[a-z]{0,3}")
        .prop_map(|(kind, family, help, unit)| MetricMetadata { kind, family, help, unit });
    (proptest::collection::vec(series(), 0..5), proptest::collection::vec(metadata, 0..3))
        .prop_map(|(timeseries, metadata)| WriteRequest { timeseries, metadata })
}
