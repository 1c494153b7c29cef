//! decode_v1 against prost: what both read is the same, in every legal encoding, and what one refuses so does the
//! other.

mod oracle;
mod scramble;
mod v2;

use std::mem::size_of_val;

use proptest::prelude::*;
use prost::Message;
use varve_model::labels::{push_label, split_body, split_label};

use super::*;
use oracle::{Count, ZeroCount, to_model};
use scramble::{Dice, scramble};

fn decode(body: &[u8]) -> Result<(WriteBatch, Summary), Error> {
    let mut batch = WriteBatch::default();
    let summary = decode_v1(body.to_vec(), &Limits::default(), &mut batch)?;
    Ok((batch, summary))
}

fn pairs(mut label_bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut pairs = Vec::new();
    while !label_bytes.is_empty() {
        let (body, rest) = split_label(label_bytes).expect("a label");
        let (name, value) = split_body(body).expect("a name and a value");
        pairs.push((name.to_vec(), value.to_vec()));
        label_bytes = rest;
    }
    pairs
}

fn expected_pairs(labels: &[oracle::Label]) -> Vec<(Vec<u8>, Vec<u8>)> {
    labels.iter().filter(|l| !l.value.is_empty()).map(|l| (l.name.clone(), l.value.clone())).collect()
}

/// Compares a batch with the request that prost knows.
fn check(request: &oracle::WriteRequest, batch: &WriteBatch) -> Result<(), TestCaseError> {
    prop_assert_eq!(batch.series.len(), request.timeseries.len());
    let mut exemplars = batch.exemplars.iter();
    for (index, (series, sent)) in batch.series.iter().zip(&request.timeseries).enumerate() {
        let labels = expected_pairs(&sent.labels);
        prop_assert_eq!(pairs(batch.label_bytes(series)), labels.clone());
        let mut canonical = Vec::new();
        for (name, value) in &labels {
            push_label(&mut canonical, name, value);
        }
        prop_assert_eq!(Some(series.hash), SeriesHash::of(&canonical));
        let samples = series.samples.start as usize..series.samples.end as usize;
        let (times, values) = (&batch.times[samples.clone()], &batch.values[samples]);
        prop_assert_eq!(times, sent.samples.iter().map(|s| s.timestamp).collect::<Vec<_>>());
        let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect::<Vec<_>>();
        prop_assert_eq!(bits(values.to_vec()), bits(sent.samples.iter().map(|s| s.value).collect()));
        let histograms = &batch.histograms[series.histograms.start as usize..series.histograms.end as usize];
        let expected: Vec<_> = sent.histograms.iter().map(|h| (h.timestamp, to_model(h))).collect();
        prop_assert_eq!(histograms, &expected[..]);
        for sent in &sent.exemplars {
            let exemplar = exemplars.next().expect("an exemplar");
            prop_assert_eq!(exemplar.series, index as u32);
            prop_assert_eq!((exemplar.time, exemplar.value), (sent.timestamp, sent.value));
            let bytes = &batch.bytes[exemplar.labels.start as usize..exemplar.labels.end as usize];
            prop_assert_eq!(pairs(bytes), expected_pairs(&sent.labels));
        }
    }
    prop_assert!(exemplars.next().is_none());
    prop_assert_eq!(batch.metadata.len(), request.metadata.len());
    for (metadata, sent) in batch.metadata.iter().zip(&request.metadata) {
        prop_assert_eq!(metadata.kind as i32, sent.kind);
        prop_assert_eq!((&metadata.family, &metadata.help, &metadata.unit), (&sent.family, &sent.help, &sent.unit));
    }
    Ok(())
}

/// Bytes a batch holds on the heap, by content.
fn held(batch: &WriteBatch) -> usize {
    let inner = |h: &Histogram| {
        size_of_val(&h.positive_spans[..])
            + size_of_val(&h.negative_spans[..])
            + 8 * (h.positive.len() + h.negative.len() + h.custom_bounds.len())
    };
    let text = |m: &Metadata| m.family.len() + m.help.len() + m.unit.len();
    batch.bytes.len()
        + size_of_val(&batch.series[..])
        + size_of_val(&batch.times[..])
        + size_of_val(&batch.values[..])
        + size_of_val(&batch.histograms[..])
        + batch.histograms.iter().map(|(_, h)| inner(h)).sum::<usize>()
        + size_of_val(&batch.exemplars[..])
        + size_of_val(&batch.metadata[..])
        + batch.metadata.iter().map(text).sum::<usize>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_prost_writes_is_read(request in oracle::request()) {
        let body = request.encode_to_vec();
        let (batch, summary) = decode(&body).unwrap();
        check(&request, &batch)?;
        prop_assert_eq!(summary, Summary { samples: batch.samples() as u64, ..Summary::default() });
    }

    #[test]
    fn every_legal_encoding_says_the_same(request in oracle::request(), seed in any::<u64>()) {
        let body = scramble(&request, seed);
        prop_assert_eq!(&oracle::WriteRequest::decode(&body[..]).unwrap(), &request);
        check(&request, &decode(&body).unwrap().0)?;
    }

    #[test]
    fn what_we_write_prost_reads(request in oracle::request()) {
        let (batch, _) = decode(&request.encode_to_vec()).unwrap();
        let mut body = Vec::new();
        encode_v1(&batch, &mut body);
        let mut expected = request;
        for series in &mut expected.timeseries {
            series.labels.retain(|label| !label.value.is_empty());
            for exemplar in &mut series.exemplars {
                exemplar.labels.retain(|label| !label.value.is_empty());
            }
        }
        prop_assert_eq!(oracle::WriteRequest::decode(&body[..]).unwrap(), expected);
    }

    #[test]
    fn damaged_bodies_are_read_as_prost_reads_them_or_refused(request in oracle::request(), seed in any::<u64>()) {
        let mut body = scramble(&request, seed);
        let dice = &mut Dice(seed);
        for _ in 0..dice.roll(4) {
            if body.is_empty() {
                break;
            }
            let at = dice.roll(body.len() as u64) as usize;
            match dice.roll(3) {
                0 => body.truncate(at),
                1 => body[at] = dice.roll(256) as u8,
                _ => body.insert(at, dice.roll(256) as u8),
            }
        }
        let ours = decode(&body);
        let theirs = oracle::WriteRequest::decode(&body[..]);
        match (&ours, &theirs) {
            (Ok((batch, _)), Ok(request)) => {
                prop_assert_eq!(batch.series.len(), request.timeseries.len());
                prop_assert_eq!(batch.times.len(), request.timeseries.iter().map(|s| s.samples.len()).sum::<usize>());
                for (series, sent) in batch.series.iter().zip(&request.timeseries) {
                    prop_assert_eq!(pairs(batch.label_bytes(series)), expected_pairs(&sent.labels));
                }
            }
            (Err(_), Err(_)) => {}
            // Prost skips unknown groups, which Protobuf itself has given up.
            (Err(Error::Malformed { what: "groups are not supported", .. }), Ok(_)) => {}
            _ => prop_assert!(false, "ours {:?}, prost {:?}", ours.is_ok(), theirs),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_take_at_most_100_times_their_size(
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..0x30], 0..300),
    ) {
        if let Ok((batch, _)) = decode(&bytes) {
            prop_assert!(held(&batch) <= 100 * bytes.len());
        }
    }
}

/// A message of field `number`.
fn wrap(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    crate::protobuf::push_varint(&mut out, content.len() as u64);
    out.extend_from_slice(content);
    out
}

#[test]
fn small_messages_that_swell_end_at_the_limit() {
    let limits = Limits { decompressed_bytes_max: 1 << 20, ..Limits::default() };
    let empty = [wrap(2, &[]), wrap(3, &[]), wrap(4, &[])];
    let packed_deltas = wrap(4, &wrap(12, &vec![0; 900_000]));
    let metadata = wrap(3, &[]).repeat(400_000);
    let bodies = empty.iter().map(|message| wrap(1, &message.repeat(400_000)));
    for body in bodies.chain([wrap(1, &packed_deltas), metadata, wrap(1, &[]).repeat(400_000)]) {
        let mut batch = WriteBatch::default();
        let error = decode_v1(body, &limits, &mut batch).unwrap_err();
        assert!(matches!(error, Error::Limit { setting: "decompressed_bytes_max", .. }), "{error}");
        assert_eq!(held(&batch), 0);
        let columns = 16 * batch.times.capacity() + 48 * batch.series.capacity();
        assert!(columns <= 2 << 20, "{columns}");
    }
}

#[test]
fn the_number_of_series_is_limited() {
    let limits = Limits { series_per_request_max: 3, ..Limits::default() };
    let mut batch = WriteBatch::default();
    decode_v1(wrap(1, &[]).repeat(3), &limits, &mut batch).unwrap();
    let error = decode_v1(wrap(1, &[]).repeat(4), &limits, &mut batch).unwrap_err();
    assert_eq!(
        error.to_string(),
        "series in one request of 3 exceeded (4); raise `series_per_request_max` to allow more"
    );
    assert!(batch.series.is_empty());
}

#[test]
fn ordinary_labels_stay_where_they_are() {
    let mut labels = Vec::new();
    push_label(&mut labels, b"__name__", b"up");
    push_label(&mut labels, b"job", b"varve");
    let body = wrap(1, &[&labels[..], &wrap(2, &[0x10, 7])].concat());
    let (batch, _) = decode(&body).unwrap();
    assert_eq!(batch.bytes, body, "nothing is written anew");
    assert_eq!(batch.series[0].labels, 2..2 + labels.len() as u32);
    assert_eq!((batch.times[0], batch.values[0]), (7, 0.0));
}

#[test]
fn labels_after_samples_are_written_anew_and_hash_alike() {
    let (mut name, mut job) = (Vec::new(), Vec::new());
    push_label(&mut name, b"__name__", b"up");
    push_label(&mut job, b"job", b"varve");
    let sample = wrap(2, &[0x10, 7]);
    let ordinary = decode(&wrap(1, &[&name[..], &job, &sample].concat())).unwrap().0;
    let odd_body = wrap(1, &[&name[..], &sample, &job].concat());
    let odd = decode(&odd_body).unwrap().0;
    assert!(odd.series[0].labels.start as usize >= odd_body.len());
    assert_eq!(odd.label_bytes(&odd.series[0]), ordinary.label_bytes(&ordinary.series[0]));
    assert_eq!(odd.series[0].hash, ordinary.series[0].hash);
}

#[test]
fn an_empty_name_with_a_value_is_kept_for_the_engine_to_refuse() {
    let body = wrap(1, &wrap(1, &wrap(2, b"x")));
    let (batch, _) = decode(&body).unwrap();
    assert_eq!(pairs(batch.label_bytes(&batch.series[0])), [(Vec::new(), b"x".to_vec())]);
}

fn integer() -> oracle::Histogram {
    oracle::Histogram {
        count: Some(Count::Int(6)),
        zero_count: Some(ZeroCount::Int(1)),
        positive_spans: vec![oracle::BucketSpan { offset: -1, length: 2 }],
        positive_deltas: vec![2, 1],
        sum: 5.0,
        timestamp: 1,
        ..oracle::Histogram::default()
    }
}

#[track_caller]
fn refused(what: &str, change: impl Fn(&mut oracle::Histogram)) {
    let mut wrong = integer();
    change(&mut wrong);
    let series = oracle::TimeSeries { histograms: vec![integer(), wrong, integer()], ..Default::default() };
    let request = oracle::WriteRequest { timeseries: vec![Default::default(), series], metadata: Vec::new() };
    let (batch, summary) = decode(&request.encode_to_vec()).unwrap();
    let found: Vec<_> = summary.refused.iter().map(|r| (r.series, r.samples, r.reason, r.what)).collect();
    assert_eq!(found, [(1, 1, RefusalReason::InvalidHistogram, what)].map(|(s, n, r, w)| (s, n, r, w)));
    assert_eq!(batch.histograms, [(1, to_model(&integer())), (1, to_model(&integer()))], "the neighbours stay");
    assert_eq!(summary.samples, 2);
}

#[test]
fn a_histogram_that_contradicts_itself_is_refused_alone() {
    let span = |offset, length| oracle::BucketSpan { offset, length };
    refused("the observations in the buckets do not add up to the count", |h| h.count = Some(Count::Int(7)));
    refused("the buckets hold more observations than the count", |h| {
        (h.sum, h.count) = (f64::NAN, Some(Count::Int(5)));
    });
    refused("a bucket has a negative count", |h| h.positive_deltas = vec![2, -3]);
    refused("a bucket has a negative count", |h| h.positive_deltas = vec![i64::MAX, i64::MAX]);
    refused("the spans do not add up to the number of buckets", |h| h.positive_spans = vec![span(0, 3)]);
    refused("the spans do not add up to the number of buckets", |h| h.positive_spans = vec![span(0, u32::MAX >> 1)]);
    refused("the spans do not add up to the number of buckets", |h| h.negative_spans = vec![span(0, 1)]);
    refused("the spans reach beyond any bucket", |h| h.positive_spans = vec![span(i32::MAX, 2)]);
    refused("a span other than the first has a negative offset", |h| {
        h.positive_spans = vec![span(0, 1), span(-1, 1)];
    });
    refused("a count of 2^53 or more", |h| h.count = Some(Count::Int(1 << 53)));
    refused("unknown schema", |h| h.schema = 9);
    refused("unknown schema", |h| h.schema = -5);
    refused("custom bounds with exponential buckets", |h| h.custom_values = vec![1.0]);
    let custom = |h: &mut oracle::Histogram, bounds: &[f64]| {
        (h.schema, h.zero_count, h.count) = (-53, None, Some(Count::Int(5)));
        (h.positive_spans, h.custom_values) = (vec![span(0, 2)], bounds.to_vec());
    };
    refused("custom bounds are not ascending finite numbers", |h| custom(h, &[2.0, 2.0]));
    refused("custom bounds are not ascending finite numbers", |h| custom(h, &[f64::NAN]));
    refused("custom bounds are not ascending finite numbers", |h| custom(h, &[1.0, f64::INFINITY]));
    refused("more custom buckets than bounds", |h| custom(h, &[]));
    refused("custom buckets with a negative index", |h| {
        custom(h, &[1.0]);
        h.positive_spans = vec![span(-1, 2)];
    });
    refused("custom buckets with a zero bucket", |h| {
        custom(h, &[1.0]);
        h.zero_threshold = 0.1;
    });
    refused("custom buckets with negative buckets", |h| {
        custom(h, &[1.0]);
        h.negative_spans = vec![span(0, 0)];
    });
    refused("a negative count", |h| h.count = Some(Count::Float(-1.0)));
    refused("a bucket has a negative count", |h| {
        (h.count, h.positive_counts) = (Some(Count::Float(3.0)), vec![1.0, -1.0]);
    });
}

#[test]
fn custom_bounds_and_stale_histograms_are_taken() {
    let mut custom = integer();
    (custom.schema, custom.zero_count, custom.count) = (-53, None, Some(Count::Int(5)));
    (custom.positive_spans, custom.custom_values) = (vec![oracle::BucketSpan { offset: 0, length: 2 }], vec![1.5]);
    let stale = oracle::Histogram { sum: f64::from_bits(varve_model::STALE_NAN_BITS), ..Default::default() };
    let histograms = vec![custom.clone(), stale];
    let series = oracle::TimeSeries { histograms, ..Default::default() };
    let request = oracle::WriteRequest { timeseries: vec![series], metadata: Vec::new() };
    let (batch, summary) = decode(&request.encode_to_vec()).unwrap();
    assert_eq!(summary.refused, []);
    assert_eq!(batch.histograms[0], (1, to_model(&custom)));
    assert!(varve_model::is_stale(batch.histograms[1].1.sum));
}
