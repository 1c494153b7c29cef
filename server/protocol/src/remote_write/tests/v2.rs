//! decode_v2 against prost: a request of 1.0 that prost knows, said in the words of 2.0, is the same batch.

use std::collections::BTreeMap;

use super::oracle::{self, BucketSpan, Count, ZeroCount};
use super::*;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(bytes = "vec", repeated, tag = "4")]
    symbols: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<Histogram>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<Exemplar>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<Metadata>,
    #[prost(int64, tag = "6")]
    created_timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
    #[prost(int64, tag = "3")]
    start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "3")]
    help_ref: u32,
    #[prost(uint32, tag = "4")]
    unit_ref: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(oneof = "Count", tags = "1, 2")]
    count: Option<Count>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(oneof = "ZeroCount", tags = "6, 7")]
    zero_count: Option<ZeroCount>,
    #[prost(message, repeated, tag = "8")]
    negative_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "9")]
    negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    reset_hint: i32,
    #[prost(int64, tag = "15")]
    timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    custom_values: Vec<f64>,
    #[prost(int64, tag = "17")]
    start_timestamp: i64,
}

struct Symbols(Vec<Vec<u8>>, BTreeMap<Vec<u8>, u32>);

impl Symbols {
    fn index(&mut self, text: &[u8]) -> u32 {
        *self.1.entry(text.to_vec()).or_insert_with(|| {
            self.0.push(text.to_vec());
            self.0.len() as u32 - 1
        })
    }

    fn refs(&mut self, labels: &[oracle::Label]) -> Vec<u32> {
        labels.iter().flat_map(|label| [self.index(&label.name), self.index(&label.value)]).collect()
    }
}

/// The same request in the words of 2.0; every sample begins `start` before its time, where `start` is not 0.
fn in_v2(request: &oracle::WriteRequest, start: i64) -> Request {
    let mut symbols = Symbols(Vec::new(), BTreeMap::new());
    symbols.index(b"");
    let begin = |time: i64| if start == 0 { 0 } else { time.wrapping_sub(start) };
    let mut timeseries = Vec::new();
    for series in &request.timeseries {
        let sample =
            |s: &oracle::Sample| Sample { value: s.value, timestamp: s.timestamp, start_timestamp: begin(s.timestamp) };
        let exemplars = series.exemplars.iter().map(|e| Exemplar {
            labels_refs: symbols.refs(&e.labels),
            value: e.value,
            timestamp: e.timestamp,
        });
        let exemplars = exemplars.collect();
        // Fields 1 to 16 are those of 1.0.
        let histogram = |h: &oracle::Histogram| {
            let mut histogram = Histogram::decode(&h.encode_to_vec()[..]).unwrap();
            histogram.start_timestamp = begin(h.timestamp);
            histogram
        };
        timeseries.push(TimeSeries {
            labels_refs: symbols.refs(&series.labels),
            samples: series.samples.iter().map(sample).collect(),
            histograms: series.histograms.iter().map(histogram).collect(),
            exemplars,
            metadata: Some(Metadata::default()),
            created_timestamp: 0,
        });
    }
    Request { symbols: symbols.0, timeseries }
}

fn decode(body: &[u8]) -> Result<(WriteBatch, Summary), Error> {
    let mut batch = WriteBatch::default();
    batch.bytes.extend_from_slice(b"of an earlier request");
    let summary = decode_v2(body, &Limits::default(), &mut batch)?;
    Ok((batch, summary))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_prost_writes_is_read(mut request in oracle::request(), start in prop_oneof![Just(0i64), 1i64..1000]) {
        request.metadata.clear();
        let (batch, summary) = decode(&in_v2(&request, start).encode_to_vec()).unwrap();
        check(&request, &batch)?;
        prop_assert_eq!(summary, Summary { samples: batch.samples() as u64, ..Summary::default() });
        let expected = |time: i64| if start == 0 { 0 } else { time.wrapping_sub(start) };
        for (at, time) in batch.times.iter().enumerate() {
            prop_assert_eq!(batch.start(at), expected(*time));
        }
        for (at, (time, _)) in batch.histograms.iter().enumerate() {
            prop_assert_eq!(batch.histogram_start(at), expected(*time));
        }
        prop_assert!(start != 0 || batch.starts.is_empty() && batch.histogram_starts.is_empty());
    }

    #[test]
    fn what_we_write_prost_reads(mut request in oracle::request(), start in 0i64..3) {
        request.metadata.clear();
        let (batch, _) = decode(&in_v2(&request, start).encode_to_vec()).unwrap();
        let mut body = Vec::new();
        encode_v2(&batch, &mut body);
        let theirs = Request::decode(&body[..]).unwrap();
        prop_assert_eq!(theirs.timeseries.len(), request.timeseries.len());
        let (again, _) = decode(&body).unwrap();
        prop_assert_eq!(again.times, batch.times);
        prop_assert_eq!(again.histograms, batch.histograms);
        prop_assert_eq!(again.series.iter().map(|s| s.hash).collect::<Vec<_>>(),
            batch.series.iter().map(|s| s.hash).collect::<Vec<_>>());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..0x30], 0..300)) {
        if let Ok((batch, summary)) = decode(&bytes) {
            prop_assert_eq!(summary.samples as usize, batch.samples());
            prop_assert!(batch.starts.len() <= batch.times.len());
        }
    }
}

fn up(symbols: &[&str], series: TimeSeries) -> Request {
    Request { symbols: symbols.iter().map(|s| s.as_bytes().to_vec()).collect(), timeseries: vec![series] }
}

fn sample(start_timestamp: i64) -> Sample {
    Sample { value: 1.0, timestamp: 7, start_timestamp }
}

#[test]
fn a_reference_that_leads_nowhere_leaves_its_series_out_alone() {
    let symbols = ["", "__name__", "up"];
    let good = TimeSeries { labels_refs: vec![1, 2], samples: vec![sample(3)], ..Default::default() };
    for (refs, what) in
        [(vec![1, 9], "a reference to a symbol that is not there"), (vec![1, 2, 1], "an odd number of references")]
    {
        let bad = TimeSeries { labels_refs: refs, samples: vec![sample(0), sample(5)], ..good.clone() };
        let mut request = up(&symbols, good.clone());
        request.timeseries.extend([bad, good.clone()]);
        let (batch, summary) = decode(&request.encode_to_vec()).unwrap();
        assert_eq!((batch.series.len(), &batch.starts[..]), (2, &[3, 3][..]));
        let [refused] = &summary.refused[..] else { panic!("{summary:?}") };
        assert_eq!((refused.samples, refused.reason, refused.what), (2, RefusalReason::InvalidLabels, what));
    }
    let mut exemplar = good.clone();
    exemplar.exemplars = vec![
        Exemplar { labels_refs: vec![1, 2], ..Default::default() },
        Exemplar { labels_refs: vec![7, 2], ..Default::default() },
    ];
    let (batch, summary) = decode(&up(&symbols, exemplar).encode_to_vec()).unwrap();
    assert_eq!((batch.times.len(), batch.exemplars.len(), summary.refused.len()), (1, 1, 1));
}

#[test]
fn metadata_is_of_the_family_and_said_once() {
    let symbols = ["", "__name__", "d_bucket", "le", "1", "2", "Help.", "s"];
    let metadata = Some(Metadata { kind: 3, help_ref: 6, unit_ref: 7 });
    let bucket =
        |le| TimeSeries { labels_refs: vec![1, 2, 3, le], metadata, samples: vec![sample(0)], ..Default::default() };
    let mut request = up(&symbols, bucket(4));
    request.timeseries.push(bucket(5));
    let (batch, _) = decode(&request.encode_to_vec()).unwrap();
    let [metadata] = &batch.metadata[..] else { panic!("{:?}", batch.metadata) };
    assert_eq!((metadata.family.as_str(), metadata.kind), ("d", MetricType::Histogram));
    assert_eq!((metadata.help.as_str(), metadata.unit.as_str()), ("Help.", "s"));
}

#[test]
fn a_created_timestamp_starts_the_samples_that_name_none() {
    let series = TimeSeries {
        labels_refs: vec![1, 2],
        samples: vec![sample(0), sample(4), sample(0)],
        created_timestamp: 2,
        ..Default::default()
    };
    let (batch, _) = decode(&up(&["", "__name__", "up"], series).encode_to_vec()).unwrap();
    assert_eq!(batch.starts, [2, 4, 2]);
}

#[test]
fn a_series_may_carry_metadata_or_exemplars_alone() {
    let mut series = TimeSeries { labels_refs: vec![1, 2], ..Default::default() };
    series.exemplars = vec![Exemplar { labels_refs: vec![], value: 2.0, timestamp: 9 }];
    let (batch, summary) = decode(&up(&["", "__name__", "up"], series).encode_to_vec()).unwrap();
    assert_eq!((batch.series.len(), batch.exemplars.len(), summary.refused.len()), (1, 1, 0));
}

#[test]
fn a_symbol_that_every_series_names_ends_at_the_limit() {
    let limits = Limits { decompressed_bytes_max: 1 << 20, ..Limits::default() };
    let long = "x".repeat(1000);
    let series = TimeSeries { labels_refs: vec![1, 2], ..Default::default() };
    let mut request = up(&["", "__name__", &long], series.clone());
    request.timeseries = vec![series; 5000];
    let mut batch = WriteBatch::default();
    let error = decode_v2(&request.encode_to_vec(), &limits, &mut batch).unwrap_err();
    assert!(matches!(error, Error::Limit { setting: "decompressed_bytes_max", .. }), "{error}");
    assert!(batch.series.is_empty() && batch.bytes.is_empty());
    assert!(batch.bytes.capacity() <= 2 << 20);
}

#[test]
fn a_message_of_1_0_is_not_taken_for_one_of_2_0() {
    let body = wrap(1, &wrap(2, &[0x10, 7]));
    assert!(matches!(decode(&body), Err(Error::Malformed { .. })));
    assert!(decode(b"").is_ok());
}
