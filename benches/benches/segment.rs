//! Segments: write, open, select, labels, read, merge; 100 000 series of 100 targets, 40 samples at 15 s with jitter.
//!
//! `cargo bench -p varve-benches --bench segment` also prints where the bytes of the file go.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails may panic")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use varve_engine::index::MemoryIndex;
use varve_engine::segment::{BlockCache, ReadScratch, Segment, SegmentHeader, SegmentMeta, SegmentWriter};
use varve_engine::step::merge::{Target, merge};
use varve_model::{Column, Labels, MatchOp, Matcher, TenantId, TimeRange};
use varve_vfs::Env;

const TARGETS: usize = 100;
const METRICS: usize = 200;
const MODES: usize = 5;
const SAMPLES: usize = 40;
const TENANT: TenantId = TenantId(1);

fn random(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Labels in order, each with its target.
fn series() -> Vec<(Labels, usize)> {
    let mut all = Vec::new();
    for metric in 0..METRICS {
        for target in 0..TARGETS {
            for mode in 0..MODES {
                let labels = Labels::from([
                    ("__name__", &*format!("service_subsystem{}_operation{metric}_seconds_total", metric % 13)),
                    ("cluster", "production-eu-1"),
                    ("container", &*format!("app-{}", target % 7)),
                    ("endpoint", "metrics"),
                    ("instance", &*format!("10.{}.{}.17:9100", target / 50, target)),
                    ("job", &*format!("job-{}", target % 10)),
                    ("mode", ["idle", "iowait", "system", "user", "steal"][mode]),
                    ("namespace", &*format!("namespace-{}", target % 5)),
                    ("pod", &*format!("app-{}-{:08x}", target % 7, random(target as u64) as u32)),
                    ("service", &*format!("service-{}", target % 20)),
                ]);
                all.push((labels, target));
            }
        }
    }
    all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    all
}

fn samples(column: &mut Column, target: usize, series: usize, begin: i64, count: usize) {
    column.clear();
    let mut total = random(series as u64) % 100_000;
    for i in 0..count {
        let jitter = random((target * 1_000_003 + i) as u64) % 8;
        column.times.push(begin + i as i64 * 15_000 + jitter as i64);
        let kind = series % 3;
        total += if kind == 0 { 0 } else { random((series * 7 + i) as u64) % 50 };
        column.values.push(if kind == 1 { total as f64 / 100.0 } else { total as f64 });
    }
}

fn write(env: &Env, path: &Path, all: &[(Labels, usize)], begin: i64, count: usize, level: u8) -> SegmentMeta {
    let header = SegmentHeader { id: 1, level, ..SegmentHeader::default() };
    let mut writer = SegmentWriter::create(env, path, header).unwrap();
    let mut column = Column::default();
    for (index, (labels, target)) in all.iter().enumerate() {
        samples(&mut column, *target, index, begin, count);
        writer.add_series(TENANT, labels, &column).unwrap();
    }
    writer.finish().unwrap()
}

fn matcher(op: MatchOp, name: &str, value: &str) -> Matcher {
    Matcher::new(op, name, value, 1 << 20).unwrap()
}

#[expect(clippy::print_stderr, reason = "a figure that criterion has no place for")]
fn report(segment: &Segment) {
    let mut text = Vec::new();
    segment.dump_sections(&mut text).unwrap();
    eprintln!("{}", String::from_utf8_lossy(&text));
}

fn segments(c: &mut Criterion) {
    let env = Env::os();
    let dir = tempfile::tempdir().unwrap();
    let all = series();
    let path = dir.path().join("a.seg");
    let meta = write(&env, &path, &all, 0, SAMPLES, 0);
    let cache = BlockCache::new(256 << 20);
    let segment = Arc::new(Segment::open(&env, &path, cache.clone()).unwrap());
    report(&segment);

    let mut group = c.benchmark_group("segment");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));

    group.throughput(Throughput::Elements(meta.samples));
    let mut number = 0;
    group.bench_function("write_level_0", |b| {
        b.iter_batched(
            || {
                number += 1;
                dir.path().join(format!("w{number}"))
            },
            |path| {
                write(&env, &path, &all, 0, SAMPLES, 0);
                env.vfs.remove(&path).unwrap();
            },
            BatchSize::PerIteration,
        );
    });
    let later = dir.path().join("b.seg");
    write(&env, &later, &all, 600_000, SAMPLES, 0);
    let sources = [segment.clone(), Arc::new(Segment::open(&env, &later, cache.clone()).unwrap())];
    group.bench_function("merge_two", |b| {
        b.iter(|| {
            let path = dir.path().join("merged");
            let header = SegmentHeader { id: 9, level: 1, ..SegmentHeader::default() };
            merge(&env, &sources, &|_| i64::MIN, &[Target { path: path.clone(), header, range: TimeRange::ALL }])
                .unwrap();
            env.vfs.remove(&path).unwrap();
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("open", |b| b.iter(|| Segment::open(&env, &path, cache.clone()).unwrap()));

    let selections = [
        ("name", vec![matcher(MatchOp::Equal, "__name__", "service_subsystem3_operation3_seconds_total")]),
        (
            "name_and_job",
            vec![
                matcher(MatchOp::Equal, "__name__", "service_subsystem3_operation3_seconds_total"),
                matcher(MatchOp::Equal, "job", "job-3"),
                matcher(MatchOp::NotEqual, "mode", "idle"),
            ],
        ),
        ("regex_all_names", vec![matcher(MatchOp::Regex, "__name__", ".*_seconds_total")]),
        ("regex_pods", vec![matcher(MatchOp::Regex, "pod", "app-[0-3]-.*[0-7]")]),
        ("everything", vec![matcher(MatchOp::Equal, "cluster", "production-eu-1")]),
    ];
    for (name, matchers) in &selections {
        group.bench_function(format!("select/{name}"), |b| {
            b.iter(|| black_box(segment.select(TENANT, matchers, TimeRange::ALL).unwrap()));
        });
    }
    let mut index = MemoryIndex::default();
    for (id, (labels, _)) in all.iter().enumerate() {
        index.add(TENANT, id as u32, labels);
    }
    for (name, matchers) in &selections {
        group.bench_function(format!("select_memory/{name}"), |b| b.iter(|| black_box(index.select(TENANT, matchers))));
    }

    group.throughput(Throughput::Elements(all.len() as u64));
    group.bench_function("memory_index_add", |b| {
        b.iter(|| {
            let mut index = MemoryIndex::default();
            for (id, (labels, _)) in all.iter().enumerate() {
                index.add(TENANT, id as u32, labels);
            }
            index
        });
    });
    group.bench_function("labels_and_hash_cold", |b| {
        b.iter_batched(
            || Segment::open(&env, &path, BlockCache::new(0)).unwrap(),
            |segment| {
                let mut scratch = ReadScratch::default();
                for series in 0..all.len() as u32 {
                    black_box(segment.hash_with(&mut scratch, series).unwrap());
                    black_box(segment.labels_with(&mut scratch, series).unwrap());
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("labels_and_hash_warm", |b| {
        b.iter(|| {
            let mut scratch = ReadScratch::default();
            for series in 0..all.len() as u32 {
                black_box(segment.hash_with(&mut scratch, series).unwrap());
                black_box(segment.labels_with(&mut scratch, series).unwrap());
            }
        });
    });
    group.throughput(Throughput::Elements(meta.samples));
    for (name, transient) in [("read_all_cold", true), ("read_all_warm", false)] {
        group.bench_function(name, |b| {
            let mut column = Column::default();
            b.iter(|| {
                let mut scratch = if transient { ReadScratch::transient() } else { ReadScratch::default() };
                for series in 0..all.len() as u32 {
                    column.clear();
                    segment.read_with(&mut scratch, series, TimeRange::ALL, &mut column).unwrap();
                    black_box(&column);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, segments);
criterion_main!(benches);
