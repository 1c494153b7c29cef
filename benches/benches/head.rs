//! Writing into a shard (resolve, encode, append, sync, apply), reading the log back, reading the head.
//!
//! The directory is a temporary one of the machine, so the figures hold a real sync a turn; a turn of 20 000 samples
//! makes that small.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark stops where it cannot go on, and prints")]

use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use varve_engine::{Engine, EngineSettings, Shard, Write, route};
use varve_model::{Column, Limits, TenantName, TimeRange, WriteBatch};
use varve_vfs::Env;

const SERIES: usize = 100_000;
const SERIES_OF_REQUEST: usize = 2_000;
const START: i64 = 1_700_000_000_000;

fn settings() -> EngineSettings {
    EngineSettings {
        partitions: 1,
        retention_ms: 0,
        flush_bytes: 1 << 40,
        flush_ms: 1 << 40,
        ..EngineSettings::default()
    }
}

fn open(dir: &Path) -> (Arc<Engine>, Shard) {
    let limits = Limits { head_bytes_max: 1 << 40, future_ms_max: 1 << 40, ..Limits::default() };
    let (engine, mut shards, _) = Engine::open(Env::os(), dir, settings(), limits).expect("the directory opens");
    (engine, shards.pop().expect("one shard"))
}

/// One scrape of all series, in requests.
struct Load {
    batches: Vec<WriteBatch>,
    scrape: i64,
}

impl Load {
    fn new() -> Load {
        let mut batches = Vec::new();
        for first in (0..SERIES).step_by(SERIES_OF_REQUEST) {
            let mut batch = WriteBatch::default();
            for i in first..first + SERIES_OF_REQUEST {
                let (host, metric) =
                    (format!("host-{}.example.org:9100", i / 500), format!("node_metric_{}_total", i % 500));
                let labels = [
                    ("__name__", metric.as_str()),
                    ("cluster", "production"),
                    ("datacenter", "eu-west-1a"),
                    ("instance", host.as_str()),
                    ("job", "node"),
                    ("mode", ["idle", "user", "system"][i % 3]),
                ];
                batch.push_series(labels.into_iter());
                batch.push_sample(0, 0.0);
            }
            batches.push(batch);
        }
        Load { batches, scrape: 0 }
    }

    /// The next scrape: a third counters, a third gauges with decimals, a third constants.
    fn next(&mut self, engine: &Engine) -> Vec<Write> {
        self.scrape += 1;
        let tenant = engine.tenant(&TenantName::default()).expect("a tenant");
        let scrape = self.scrape;
        self.batches
            .iter_mut()
            .enumerate()
            .map(|(number, batch)| {
                batch.times.fill(START + scrape * 15_000);
                for (i, value) in batch.values.iter_mut().enumerate() {
                    let i = (number * SERIES_OF_REQUEST + i) as i64;
                    *value = match i % 3 {
                        0 => (i * 1000 + scrape * (i % 91) * 7) as f64,
                        1 => ((i * 31 + scrape * 17) % 1000) as f64 / 100.0,
                        _ => i as f64,
                    };
                }
                let batch = Arc::new(batch.clone());
                let series = route(&batch, 1).pop().expect("one shard");
                Write { tenant, batch, series }
            })
            .collect()
    }
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard");
    group.sample_size(10).throughput(Throughput::Elements(SERIES as u64));
    let dir = tempfile::tempdir().expect("a directory");
    let (engine, mut shard) = open(dir.path());
    let mut load = Load::new();
    group.bench_function("turns of 20000 samples of 100000 known series", |bench| {
        bench.iter_batched(
            || load.next(&engine),
            |writes| {
                for writes in writes.chunks(10) {
                    assert!(shard.turn(writes, START).iter().all(Result::is_ok));
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("route", |bench| {
        let writes = load.next(&engine);
        bench.iter(|| writes.iter().map(|write| route(&write.batch, 2).len()).sum::<usize>());
    });
    let tenant = engine.tenant(&TenantName::default()).expect("a tenant");
    group.bench_function("select and read all", |bench| {
        let mut column = Column::default();
        bench.iter(|| {
            let selection = engine.snapshot().select(tenant, &[], TimeRange::ALL, u64::MAX).expect("selected");
            let mut samples = 0;
            for index in 0..selection.len() {
                selection.read(index, TimeRange::ALL, &mut column).expect("read");
                samples += column.len();
            }
            samples
        });
    });
    let status = engine.status();
    let (bytes, samples) = (status.shards[0].head_bytes, status.shards[0].head_samples);
    println!(
        "head: {samples} samples, {:.2} bytes each; log {} bytes",
        bytes as f64 / samples as f64,
        status.shards[0].log_bytes_appended
    );
    group.finish();
}

fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    let dir = tempfile::tempdir().expect("a directory");
    let mut load = Load::new();
    let scrapes = 20;
    {
        let (engine, mut shard) = open(dir.path());
        for _ in 0..scrapes {
            for writes in load.next(&engine).chunks(10) {
                assert!(shard.turn(writes, START).iter().all(Result::is_ok));
            }
        }
    }
    group.sample_size(10).throughput(Throughput::Elements(scrapes * SERIES as u64));
    group.bench_function("replay of 2000000 samples of 100000 series", |bench| bench.iter(|| open(dir.path())));
    group.finish();
}

criterion_group!(benches, write, replay);
criterion_main!(benches);
