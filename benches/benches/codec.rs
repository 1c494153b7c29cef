//! Chunks to bytes and back: values by kind, the head's appender, times. Elements are samples.
//!
//! `cargo bench -p varve-benches --bench codec` also prints the bytes a sample of each kind. Compare in pairs within one
//! run: a shared machine gives no absolute figures.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use varve_engine::codec::values::{self, Effort};
use varve_engine::codec::{gorilla, times};

/// Samples of a chunk.
const COUNT: usize = 1_024;
/// Chunks of a kind: different data each time, so that no branch is learnt by heart.
const CHUNKS: u64 = 16;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> i64 {
        (self.next() % bound) as i64
    }

    /// A bell of standard deviation near `sigma`: the sum of twelve uniform numbers.
    fn bell(&mut self, sigma: f64) -> i64 {
        let sum: f64 = (0..12).map(|_| (self.next() >> 11) as f64 / (1u64 << 53) as f64).sum();
        ((sum - 6.0) * sigma).round() as i64
    }
}

type Kind = (&'static str, fn(&mut Random, &mut i64) -> f64);

/// What metrics look like; each takes the running total along.
const KINDS: [Kind; 8] = [
    ("constant", |_, _| 42.5),
    ("steps", |_, total| {
        *total += 15;
        *total as f64
    }),
    ("counter", |random, total| {
        *total += random.below(500);
        *total as f64
    }),
    ("counter_rare", |random, total| {
        *total += i64::from(random.below(10) == 0) * random.below(4);
        *total as f64
    }),
    ("decimal_gauge", |random, total| {
        *total += random.bell(8.0);
        *total as f64 / 100.0
    }),
    ("byte_gauge", |random, total| {
        *total += random.bell(200.0);
        (*total * 4_096) as f64
    }),
    ("flips", |random, _| random.below(2) as f64),
    ("noise", |random, _| (random.next() >> 11) as f64 / (1u64 << 53) as f64 * 100.0),
];

fn chunks(kind: &Kind, count: usize) -> Vec<Vec<f64>> {
    (0..CHUNKS)
        .map(|seed| {
            let (mut random, mut total) = (Random(seed), 5_000_000);
            (0..count).map(|_| kind.1(&mut random, &mut total)).collect()
        })
        .collect()
}

#[expect(clippy::print_stderr, reason = "a bench reports what criterion cannot: bytes a sample")]
fn report(name: &str, bytes: usize, count: usize) {
    eprintln!("codec/bytes/{name}: {:.3} B/sample", bytes as f64 / (CHUNKS as usize * count) as f64);
}

fn bench_values(criterion: &mut Criterion) {
    for kind in &KINDS {
        for count in [120, COUNT] {
            let chunks = chunks(kind, count);
            for effort in [Effort::Hot, Effort::Cold] {
                let name = format!("{}/{effort:?}/{count}", kind.0).to_lowercase();
                let encoded: Vec<Vec<u8>> = chunks
                    .iter()
                    .map(|chunk| {
                        let mut out = Vec::new();
                        values::encode(chunk, effort, &mut out);
                        out
                    })
                    .collect();
                report(&name, encoded.iter().map(Vec::len).sum(), count);
                let mut group = criterion.benchmark_group("codec");
                group.throughput(Throughput::Elements(CHUNKS * count as u64));
                let mut out = Vec::new();
                group.bench_function(BenchmarkId::new("encode", &name), |bencher| {
                    bencher.iter(|| {
                        for chunk in &chunks {
                            out.clear();
                            values::encode(black_box(chunk), effort, &mut out);
                        }
                    });
                });
                let mut column = Vec::new();
                group.bench_function(BenchmarkId::new("decode", &name), |bencher| {
                    bencher.iter(|| {
                        for bytes in &encoded {
                            column.clear();
                            values::decode(black_box(bytes), count, &mut column).unwrap_or_else(|e| panic!("{e}"));
                        }
                    });
                });
            }
        }
    }
}

fn bench_gorilla(criterion: &mut Criterion) {
    for kind in &KINDS {
        let chunks = chunks(kind, 120);
        let schedule: Vec<i64> = (0..120).map(|i| 1_700_000_000_000 + i * 15_000 + i * i * 7_919 % 31 % 8).collect();
        let append = |chunk: &[f64]| {
            let mut appender = gorilla::Appender::new();
            for (time, value) in schedule.iter().zip(chunk) {
                appender.push(*time, *value);
            }
            appender
        };
        let appenders: Vec<_> = chunks.iter().map(|chunk| append(chunk)).collect();
        let name = format!("gorilla/{}", kind.0);
        report(&name, appenders.iter().map(|appender| appender.bytes().len()).sum(), 120);
        let mut group = criterion.benchmark_group("codec");
        group.throughput(Throughput::Elements(CHUNKS * 120));
        group.bench_function(BenchmarkId::new("encode", &name), |bencher| {
            bencher.iter(|| chunks.iter().for_each(|chunk| drop(black_box(append(black_box(chunk))))));
        });
        let (mut times, mut column) = (Vec::new(), Vec::new());
        group.bench_function(BenchmarkId::new("decode", &name), |bencher| {
            bencher.iter(|| {
                for appender in &appenders {
                    times.clear();
                    column.clear();
                    black_box(appender).decode(&mut times, &mut column).unwrap_or_else(|e| panic!("{e}"));
                }
            });
        });
    }
}

fn bench_times(criterion: &mut Criterion) {
    let jitters: [(&str, u64); 2] = [("regular", 1), ("jitter_8ms", 8)];
    for (name, jitter) in jitters {
        let mut random = Random(1);
        let schedule: Vec<i64> =
            (0..COUNT as i64).map(|i| 1_700_000_000_000 + i * 15_000 + random.below(jitter)).collect();
        let mut encoded = Vec::new();
        times::encode(&schedule, &mut encoded);
        let name = format!("times/{name}");
        report(&name, encoded.len() * CHUNKS as usize, COUNT);
        let mut group = criterion.benchmark_group("codec");
        group.throughput(Throughput::Elements(COUNT as u64));
        let mut out = Vec::new();
        group.bench_function(BenchmarkId::new("encode", &name), |bencher| {
            bencher.iter(|| {
                out.clear();
                times::encode(black_box(&schedule), &mut out);
            });
        });
        let mut column = Vec::new();
        group.bench_function(BenchmarkId::new("decode", &name), |bencher| {
            bencher.iter(|| {
                column.clear();
                times::decode(black_box(&encoded), COUNT, &mut column).unwrap_or_else(|e| panic!("{e}"));
            });
        });
    }
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(150))
        .without_plots()
}

criterion_group! {
    name = codec;
    config = short();
    targets = bench_values, bench_gorilla, bench_times
}
criterion_main!(codec);
