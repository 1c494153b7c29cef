//! Targets of what the engine reads back from its log: records, deletions and manifest edits behind valid checksums.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use varve_engine::manifest::edit;
use varve_engine::record::{KIND_DELETION, KIND_METRICS};
use varve_engine::{DeletionSpec, Engine, EngineSettings, Shard, Write, route};
use varve_model::{Column, Labels, Limits, TenantId, TenantName, TimeRange, WriteBatch};
use varve_vfs::sim::{SimClock, SimVfs};
use varve_vfs::{Env, Nanos};
use varve_wal::{From, Log, LogSettings, PartitionId, RecordHeader, TopicName};

const DIR: &str = "/data";
const NOW: i64 = 1_790_000_000_000;
const P0: PartitionId = PartitionId(0);

fn env(disk: &SimVfs) -> Env {
    disk.env(&SimClock::new(Nanos(NOW * 1_000_000)), 11)
}

fn open(disk: &SimVfs) -> (Arc<Engine>, Vec<Shard>) {
    let settings = EngineSettings {
        partitions: 1,
        log_file_bytes: 64 << 10,
        retention_ms: 0,
        replay_threads: 1,
        block_cache_bytes: 1 << 20,
        ..EngineSettings::default()
    };
    match Engine::open(env(disk), Path::new(DIR), settings, Limits::default()) {
        Ok((engine, shards, _)) => (engine, shards),
        Err(error) => panic!("a damaged record keeps the engine from opening: {error}"),
    }
}

fn topic() -> TopicName {
    TopicName::new("metrics").unwrap_or_else(|error| panic!("{error}"))
}

fn open_log(disk: &SimVfs) -> Log {
    let log = Log::open(env(disk), &Path::new(DIR).join("log"), LogSettings::default());
    log.map(|(log, _)| log).unwrap_or_else(|error| panic!("{error}"))
}

/// A data directory that holds `batch`, of one tenant.
fn directory(batch: WriteBatch) -> (SimVfs, TenantId) {
    let disk = SimVfs::new(7);
    let (engine, mut shards) = open(&disk);
    let tenant = engine.tenant(&TenantName::default()).unwrap_or_else(|error| panic!("{error}"));
    let batch = Arc::new(batch);
    for (shard, series) in shards.iter_mut().zip(route(&batch, 1)) {
        for applied in shard.turn(&[Write { tenant, batch: Arc::clone(&batch), series }], NOW) {
            assert!(applied.is_ok_and(|applied| applied.refused.is_empty()));
        }
        assert!(shard.idle(NOW).is_ok());
    }
    drop((engine, shards));
    (disk, tenant)
}

/// The records that the engine makes of a batch: seeds for [`record`].
pub fn records_of(batch: WriteBatch) -> Vec<Vec<u8>> {
    let (disk, _) = directory(batch);
    let log = open_log(&disk);
    let mut cursor = log.cursor(&topic(), P0, From::Beginning).unwrap_or_else(|error| panic!("{error}"));
    let mut records = Vec::new();
    while let Ok(Some(batch)) = cursor.next() {
        records.push(batch.payload.to_vec());
    }
    records
}

/// Every series of a tenant with its samples, to the bit.
fn content(engine: &Engine, tenant: TenantId) -> Vec<String> {
    let selection = engine.snapshot().select(tenant, &[], TimeRange::ALL, 1 << 20);
    let selection = selection.unwrap_or_else(|error| panic!("{error}"));
    let mut content = Vec::new();
    for series in 0..selection.len() {
        let mut column = Column::default();
        if let Err(error) = selection.read(series, TimeRange::ALL, &mut column) {
            panic!("what was replayed is read: {error}");
        }
        assert!(column.times.windows(2).all(|pair| pair[0] < pair[1]), "times ascend");
        let bits: Vec<_> = column.values.iter().map(|value| value.to_bits()).collect();
        content.push(format!("{} {:?} {bits:x?} {:?}", selection.labels(series), column.times, column.histograms));
    }
    content.sort();
    content
}

/// What the engine has when it meets a record of `kind` in its log, behind a valid checksum and behind one series
/// `before`: it opens, and opens a second time with the same content.
fn replayed(kind: u8, payload: &[u8]) -> Vec<String> {
    static BASE: OnceLock<(SimVfs, TenantId)> = OnceLock::new();
    let (base, tenant) = BASE.get_or_init(|| {
        let mut batch = WriteBatch::default();
        batch.push_series([("__name__", "before"), ("job", "varve")].into_iter());
        batch.push_sample(NOW, 1.5);
        directory(batch)
    });
    let disk = base.copy();
    let log = open_log(&disk);
    let header = RecordHeader { tenant: tenant.0, kind, records: 9, time_ms: NOW, ..RecordHeader::default() };
    let append = || {
        let mut writer = log.writer(&topic(), P0)?;
        writer.append(&header, payload)?;
        writer.sync()?;
        writer.idle()
    };
    append().unwrap_or_else(|error| panic!("the log takes any payload: {error}"));
    drop(log);
    let [first, second] = [(); 2].map(|()| {
        let (engine, shards) = open(&disk);
        let content = content(&engine, *tenant);
        drop(shards);
        content
    });
    assert_eq!(first, second);
    first
}

fn has_before(content: &[String]) -> bool {
    let expected = format!(r#"{{__name__="before", job="varve"}} [{NOW}"#);
    content.iter().any(|series| series.starts_with(&expected))
}

/// A metrics record. Whatever it says, the engine has what it had before.
pub fn record(data: &[u8]) {
    let content = replayed(KIND_METRICS, data);
    assert!(has_before(&content), "{content:?}");
}

/// The record of a deletion. What is read is written again and read the same; the engine has what it had before, unless
/// the record names it.
pub fn deletion(data: &[u8]) {
    let names_it = match DeletionSpec::from_record(data) {
        Ok(spec) => {
            let mut again = Vec::new();
            spec.encode(&mut again);
            assert_eq!(DeletionSpec::from_record(&again).as_ref(), Ok(&spec));
            let labels = Labels::from([("__name__", "before"), ("job", "varve")]);
            let value = |name: &str| labels.get(name).unwrap_or_default();
            spec.range.contains(NOW) && spec.matchers.iter().all(|matcher| matcher.matches(value(&matcher.name)))
        }
        Err(_) => false,
    };
    let content = replayed(KIND_DELETION, data);
    assert_eq!(has_before(&content), !names_it, "{content:?}");
}

/// A record of the manifest.
pub fn manifest(data: &[u8]) {
    let Ok(edits) = edit::decode(data) else { return };
    let again = edit::decode(&edit::encode(&edits));
    assert_eq!(again.as_ref(), Ok(&edits));
}
