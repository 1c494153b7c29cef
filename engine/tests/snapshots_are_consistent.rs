//! The promise: while one thread writes, one flushes and compacts and others read, every snapshot holds all that was
//! acknowledged before it was taken, each sample once, in order.
//!
//! The only test with threads: the simulation has the order of events in its hand, this one has not. It states no
//! timing; whatever the order, the same must hold.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use varve_engine::{Engine, EngineSettings, Write};
use varve_model::{Column, Limits, TenantName, TimeRange, WriteBatch};
use varve_vfs::Nanos;
use varve_vfs::sim::{SimClock, SimVfs};

const START: i64 = 1_700_000_000_000;
const SERIES: usize = 20;
const ROUNDS: u64 = 6_000;

/// Sample `n` of a series; an hour holds few, so that windows close and are merged.
fn time(n: u64) -> i64 {
    START + n as i64 * 60_000
}

fn batch(n: u64) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for series in 0..SERIES {
        let name = series.to_string();
        batch.push_series([("__name__", "m"), ("series", name.as_str())].into_iter());
        batch.push_sample(time(n), n as f64);
    }
    batch
}

#[test]
fn whatever_goes_on() {
    let clock = SimClock::new(Nanos(time(ROUNDS) * 1_000_000));
    let env = SimVfs::new(7).env(&clock, 7);
    let settings = EngineSettings {
        partitions: 1,
        retention_ms: 0,
        flush_bytes: 64 << 10,
        log_file_bytes: 64 << 10,
        ..EngineSettings::default()
    };
    let (engine, mut shards, _) = Engine::open(env.clone(), Path::new("/data"), settings, Limits::default()).unwrap();
    let tenant = engine.tenant(&TenantName::default()).unwrap();
    let (acknowledged, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut shard = shards.pop().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..ROUNDS {
                let series = (0..SERIES as u32).collect();
                let answers = shard.turn(&[Write { tenant, batch: Arc::new(batch(n)), series }], time(ROUNDS));
                assert!(answers.iter().all(Result::is_ok), "{answers:?}");
                acknowledged.store(n + 1, Ordering::SeqCst);
                if n % 37 == 0 {
                    engine.request_flush();
                }
                if n % 5 == 0 {
                    shard.idle(time(ROUNDS)).unwrap();
                }
            }
            over.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            loop {
                let last = over.load(Ordering::SeqCst);
                while let Some(step) = engine.next_step(time(ROUNDS)) {
                    engine.install(step.run(&env).unwrap()).unwrap();
                }
                if last {
                    break;
                }
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut column = Column::default();
                loop {
                    let last = over.load(Ordering::SeqCst);
                    let least = acknowledged.load(Ordering::SeqCst);
                    let snapshot = engine.snapshot();
                    let selection = snapshot.select(tenant, &[], TimeRange::ALL, 1000).unwrap();
                    assert!(selection.len() == SERIES || least == 0, "{} series", selection.len());
                    for index in 0..selection.len() {
                        let newest = selection.newest(index, TimeRange::ALL);
                        selection.read(index, TimeRange::ALL, &mut column).unwrap();
                        assert!(column.times.len() as u64 >= least, "{} of {least} samples", column.times.len());
                        let expected = |n: usize| (time(n as u64), n as f64);
                        let found = column.times.iter().copied().zip(column.values.iter().copied());
                        assert!(found.enumerate().all(|(n, sample)| sample == expected(n)), "{column:?}");
                        if let Some(Some((time, _))) = newest {
                            assert!(column.times.last().is_some_and(|last| *last >= time));
                        }
                    }
                    if last {
                        break;
                    }
                }
            });
        }
    });
    let steps = engine.status().steps;
    assert!(steps.iter().any(|(name, count)| *name == "compact" && *count > 0), "{steps:?}");
}
