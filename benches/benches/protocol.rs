//! Decoding of request bodies: 2,000 series x 1 sample x 10 labels as Prometheus sends them, and the same as text.
//! Throughput is in samples.

#![expect(clippy::expect_used, reason = "a benchmark whose input is wrong has nothing to measure")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use varve_model::{Labels, Limits, WriteBatch};
use varve_protocol::exposition::{self, Format};
use varve_protocol::{inflate, remote_write};

const SERIES: usize = 2_000;

/// What a sender with `SERIES` series sends: about 300 bytes a sample.
fn batch() -> WriteBatch {
    let mut batch = WriteBatch::default();
    for i in 0..SERIES {
        let (instance, pod) = (format!("10.0.{}.{}:9100", i / 250, i % 250), format!("checkout-7d9f8b6c5-{i:05x}"));
        let labels = [
            ("__name__", "http_request_duration_seconds_bucket"),
            ("cluster", "production-eu-west-1"),
            ("code", ["200", "404", "500"][i % 3]),
            ("handler", "/api/v1/orders/checkout"),
            ("instance", &instance),
            ("job", "kubernetes-service-endpoints"),
            ("le", ["0.005", "0.01", "0.025", "0.05", "0.1", "+Inf"][i % 6]),
            ("method", ["GET", "POST"][i % 2]),
            ("namespace", "online-shop"),
            ("pod", &pod),
        ];
        batch.push_series(labels.into_iter());
        batch.push_sample(1_790_000_000_000 + i as i64, i as f64 * 1.5);
    }
    batch
}

/// The batch as text exposition.
fn text(batch: &WriteBatch) -> String {
    let mut out = String::new();
    for (series, value) in batch.series.iter().zip(&batch.values) {
        let labels = Labels::from_label_bytes(batch.label_bytes(series)).expect("valid labels");
        let pairs: Vec<_> = labels.iter().skip(1).map(|(name, value)| format!("{name}={value:?}")).collect();
        out.push_str(&format!("{}{{{}}} {value}\n", labels.metric_name(), pairs.join(",")));
    }
    out
}

fn protocol(criterion: &mut Criterion) {
    let limits = Limits::default();
    let sent = batch();
    let (mut plain, text) = (Vec::new(), text(&sent));
    remote_write::encode_v1(&sent, &mut plain);
    let packed = snap::raw::Encoder::new().compress_vec(&plain).expect("compresses");
    let zstd = zstd::stream::encode_all(&plain[..], 1).expect("compresses");
    let mut group = criterion.benchmark_group(format!("remote_write_{}_bytes", plain.len() / SERIES));
    group.throughput(Throughput::Elements(SERIES as u64));

    let mut batch = WriteBatch::default();
    group.bench_function("decode", |b| {
        b.iter_batched(
            || plain.clone(),
            |body| remote_write::decode_v1(body, &limits, &mut batch).expect("decodes"),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("snappy", |b| {
        let mut out = Vec::new();
        b.iter(|| inflate::snappy(&packed, 1 << 27, &mut |_| Ok(()), &mut out).expect("inflates"));
    });
    group.bench_function("snappy+decode", |b| {
        b.iter(|| {
            // The buffer of the request before, as the server keeps it.
            let mut body = std::mem::take(&mut batch.bytes);
            inflate::snappy(&packed, 1 << 27, &mut |_| Ok(()), &mut body).expect("inflates");
            remote_write::decode_v1(body, &limits, &mut batch).expect("decodes")
        });
    });
    group.bench_function("zstd+decode", |b| {
        b.iter(|| {
            let mut body = std::mem::take(&mut batch.bytes);
            inflate::zstd(&zstd, 1 << 27, &mut |_| Ok(()), &mut body).expect("inflates");
            remote_write::decode_v1(body, &limits, &mut batch).expect("decodes")
        });
    });
    group.bench_function("hash_alone", |b| {
        let labels: Vec<_> = sent.series.iter().map(|series| sent.label_bytes(series)).collect();
        b.iter(|| {
            labels
                .iter()
                .filter_map(|bytes| varve_model::SeriesHash::of(bytes))
                .map(|h| h.low())
                .fold(0, u64::wrapping_add)
        });
    });
    group.bench_function("exposition", |b| {
        let mut batch = WriteBatch::default();
        b.iter(|| exposition::decode(text.as_bytes(), Format::Text, 0, &[], &limits, &mut batch).expect("decodes"));
    });
    group.finish();
}

criterion_group!(benches, protocol);
criterion_main!(benches);
