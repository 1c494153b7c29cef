//! Targets of what comes over the network.

use varve_model::labels::{LabelsError, METRIC_NAME, push_label, split_body, split_label};
use varve_model::{Labels, Limits, SeriesHash, WriteBatch};
use varve_protocol::exposition::Format;
use varve_protocol::remote_read::{QUERIES_MAX, decode_read_request};
use varve_protocol::{
    Error, exposition as text, inflate as inflation, influx as lines, otlp as otlp_metrics, remote_write as remote,
};

/// Memory a request may take here; small, so that a bomb is found and not survived.
const BYTES_MAX: u64 = 1 << 22;

fn limits() -> Limits {
    Limits { decompressed_bytes_max: BYTES_MAX, series_per_request_max: 10_000, ..Limits::default() }
}

/// What a batch says, without saying where its labels are.
fn content(batch: &WriteBatch) -> Vec<String> {
    let mut out = Vec::new();
    for series in &batch.series {
        let samples = series.samples.start as usize..series.samples.end as usize;
        let bits: Vec<_> = batch.values[samples.clone()].iter().map(|value| value.to_bits()).collect();
        let histograms = &batch.histograms[series.histograms.start as usize..series.histograms.end as usize];
        let labels = batch.label_bytes(series);
        assert_eq!(SeriesHash::of(labels), Some(series.hash), "the hash is that of the label bytes");
        out.push(format!("{:x?} {labels:x?} {:?} {bits:x?} {histograms:?}", series.hash, &batch.times[samples]));
    }
    for exemplar in &batch.exemplars {
        let labels = &batch.bytes[exemplar.labels.start as usize..exemplar.labels.end as usize];
        out.push(format!("{} {labels:x?} {} {:x}", exemplar.series, exemplar.time, exemplar.value.to_bits()));
    }
    out.extend(batch.metadata.iter().map(|metadata| format!("{metadata:?}")));
    out
}

/// A remote-write body after decompression. What is accepted is written and read again.
pub fn remote_write(data: &[u8]) {
    let (mut first, mut second) = (WriteBatch::default(), WriteBatch::default());
    let summary = match remote::decode_v1(data.to_vec(), &limits(), &mut first) {
        Ok(summary) => summary,
        Err(Error::Malformed { at, .. }) => return assert!(at <= data.len() as u64),
        Err(error) => return assert!(matches!(error, Error::Limit { .. })),
    };
    assert!(first.bytes.starts_with(data), "the body is the buffer");
    assert_eq!(summary.samples as usize, first.samples());
    assert_eq!(first.times.len(), first.values.len());
    let mut body = Vec::new();
    remote::encode_v1(&first, &mut body);
    // Padding and default values may make the second form longer than the limit allows.
    let limits = Limits { decompressed_bytes_max: BYTES_MAX * 8, ..limits() };
    let again = remote::decode_v1(body, &limits, &mut second);
    assert_eq!(again.map(|summary| (summary.samples, summary.refused)), Ok((summary.samples, Vec::new())));
    assert_eq!(content(&first), content(&second));
}

/// A remote-write 2.0 body after decompression. What is accepted is written and read again.
pub fn remote_write_v2(data: &[u8]) {
    let (mut first, mut second) = (WriteBatch::default(), WriteBatch::default());
    let summary = match remote::decode_v2(data, &limits(), &mut first) {
        Ok(summary) => summary,
        Err(Error::Malformed { at, .. }) => return assert!(at <= data.len() as u64),
        Err(error) => return assert!(matches!(error, Error::Limit { .. })),
    };
    assert_eq!(summary.samples as usize, first.samples());
    assert_eq!(first.times.len(), first.values.len());
    assert!(first.starts.len() <= first.times.len() && first.histogram_starts.len() <= first.histograms.len());
    let mut body = Vec::new();
    remote::encode_v2(&first, &mut body);
    let limits = Limits { decompressed_bytes_max: BYTES_MAX * 8, ..limits() };
    let again = remote::decode_v2(&body, &limits, &mut second);
    assert_eq!(again.map(|summary| (summary.samples, summary.refused)), Ok((summary.samples, Vec::new())));
    // Of several things said about one family the sender of the second form says one.
    first.metadata.clear();
    second.metadata.clear();
    assert_eq!(content(&first), content(&second));
    let starts = |batch: &WriteBatch| -> Vec<_> { (0..batch.times.len()).map(|at| batch.start(at)).collect() };
    assert_eq!(starts(&first), starts(&second));
}

/// OTLP in both forms, by settings that reach every branch.
pub fn otlp(data: &[u8]) {
    let plain = otlp_metrics::Settings::default();
    let odd = otlp_metrics::Settings {
        strategy: otlp_metrics::Strategy::NoUtf8EscapingWithSuffixes,
        promote: otlp_metrics::Promote::AllBut(Vec::new()),
        custom_buckets: true,
        delta: otlp_metrics::Delta::Native,
        promote_scope: true,
        type_and_unit_labels: true,
        ..plain.clone()
    };
    for settings in [plain, odd] {
        for decode in [otlp_metrics::decode, otlp_metrics::decode_json] {
            let mut batch = WriteBatch::default();
            match decode(data, &settings, &limits(), &mut batch) {
                Ok(summary) => {
                    assert_eq!(summary.samples as usize, batch.samples());
                    assert!(summary.deltas.iter().all(|series| (*series as usize) < batch.series.len()));
                    assert!(summary.warnings.len() <= 32);
                    content(&batch);
                }
                Err(error) => {
                    assert!(matches!(error, Error::Malformed { .. } | Error::Text { .. } | Error::Limit { .. }));
                    assert!(batch.series.is_empty());
                }
            }
        }
    }
}

/// Influx line protocol.
pub fn influx(data: &[u8]) {
    let defaults = lines::Defaults { precision: lines::Precision::Seconds, now: 1_000, db: "fuzz" };
    let mut batch = WriteBatch::default();
    match lines::decode(data, &defaults, &limits(), &mut batch) {
        Ok(summary) => {
            assert_eq!(summary.samples as usize, batch.times.len());
            assert!(summary.rejected as usize <= data.split(|&byte| byte == b'\n').count());
            content(&batch);
        }
        Err(error) => assert!(matches!(error, Error::Limit { .. })),
    }
}

/// A remote-read request after decompression.
pub fn remote_read(data: &[u8]) {
    match decode_read_request(data) {
        Ok(request) => assert!(request.queries.len() <= data.len() && request.queries.len() <= QUERIES_MAX),
        Err(Error::Malformed { at, .. }) => assert!(at <= data.len() as u64),
        Err(error) => panic!("{error}"),
    }
}

/// Text exposition in both formats.
pub fn exposition(data: &[u8]) {
    let extra = [("job", "fuzz"), ("instance", "here")];
    for format in [Format::Text, Format::OpenMetrics] {
        let mut batch = WriteBatch::default();
        match text::decode(data, format, 1_000, &extra, &limits(), &mut batch) {
            Ok(summary) => {
                assert_eq!(summary.samples as usize, batch.times.len());
                for series in &batch.series {
                    assert!(!series.samples.is_empty());
                    match Labels::from_label_bytes(batch.label_bytes(series)) {
                        Ok(labels) => {
                            assert_eq!(labels.get("job"), Some("fuzz"));
                            assert_ne!(labels.metric_name(), "");
                            assert_eq!(labels.hash(), series.hash);
                        }
                        // Left to the engine: the text may name a label twice, or quote an empty name.
                        Err(error) => assert!(matches!(error, LabelsError::DuplicateName | LabelsError::EmptyName)),
                    }
                }
                content(&batch);
            }
            Err(Error::Text { line, .. }) => {
                assert!(line >= 1 && line as usize <= data.split(|&byte| byte == b'\n').count());
            }
            Err(error) => assert!(matches!(error, Error::Limit { .. })),
        }
    }
}

/// A compressed body, by every decompressor.
pub fn inflate(data: &[u8]) {
    const MAX: usize = 1 << 16;
    for inflate in [inflation::snappy, inflation::gzip, inflation::zstd] {
        let mut out = b"of an earlier request".to_vec();
        match inflate(data, MAX, &mut |_| Ok(()), &mut out) {
            Ok(()) => assert!(out.len() <= MAX),
            Err(error) => assert!(out.is_empty() && matches!(error, Error::Limit { .. } | Error::Compressed { .. })),
        }
        assert!(out.capacity() <= 4 * MAX);
    }
}

/// Label bytes, as they stand in records, segments and requests.
pub fn label_bytes(data: &[u8]) {
    let hash = SeriesHash::of(data);
    let Ok(labels) = Labels::from_label_bytes(data) else { return };
    assert!(hash.is_some());
    assert_eq!(Labels::from_label_bytes(labels.as_label_bytes()).as_ref(), Ok(&labels), "canonical bytes read back");
    assert_eq!(SeriesHash::of(labels.as_label_bytes()), Some(labels.hash()));
    let names: Vec<_> = labels.iter().map(|(name, _)| name).collect();
    assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "sorted and unique");
    assert!(labels.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()));
    assert_eq!(labels.get(METRIC_NAME).unwrap_or_default(), labels.metric_name());
    // Every byte is said: what the pairs are written to is what was read, empty values apart.
    let (mut written, mut rest, mut empty) = (Vec::new(), data, false);
    while let Some((body, after)) = split_label(rest) {
        let Some((name, value)) = split_body(body) else { panic!("an accepted label can be split") };
        push_label(&mut written, name, value);
        empty |= value.is_empty();
        rest = after;
    }
    assert_eq!(written, data);
    assert!(empty || hash == Some(labels.hash()));
}
