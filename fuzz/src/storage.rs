//! Targets of what is read from disk. Checksums keep chance out, so that a fuzzer would never pass them: each input is
//! also tried with its checksums made right, which stands for a bug of a writer and reaches what is behind them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use varve_engine::segment::{BlockCache, ReadScratch, Segment};
use varve_model::{Column, LabelsBuilder, MatchOp, Matcher, TimeRange};
use varve_vfs::sim::{SimClock, SimVfs};
use varve_vfs::{Env, Nanos};
use varve_wal::{
    From, HEADER_BYTES, Log, LogSettings, Offset, PartitionId, RecordHeader, TopicName, TopicSettings, decode_all,
};

/// Salt of the batches in the corpus.
pub const SALT: u64 = 0x5a17;

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn crc(initial: u32, parts: &[&[u8]]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new_with_initial(initial);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().to_le_bytes()
}

/// Makes the checksums of the batches from byte `at` on right, as far as they follow one another.
fn mend_batches(bytes: &mut [u8], mut at: usize, salt: u64) {
    let seed = crc32fast::hash(&salt.to_le_bytes());
    while let Some(batch) = bytes.get_mut(at..).filter(|rest| rest.len() >= HEADER_BYTES) {
        let header = crc(seed, &[&batch[4..60]]);
        batch[60..64].copy_from_slice(&header);
        let payload_bytes = u32_at(batch, 4).unwrap_or_default() as usize;
        let Some(payload) = batch.get(HEADER_BYTES..HEADER_BYTES + payload_bytes) else { return };
        let whole = crc(seed, &[&batch[4..60], payload]);
        batch[..4].copy_from_slice(&whole);
        at += HEADER_BYTES + payload_bytes.next_multiple_of(8);
    }
}

/// Batches of the log, one behind another.
pub fn batches(data: &[u8]) {
    let mut mended = data.to_vec();
    mend_batches(&mut mended, 0, SALT);
    for bytes in [data, &mended] {
        let mut taken = 0;
        let result = decode_all(bytes, SALT, &mut |header, payload| {
            assert_eq!(header.payload_bytes as usize, payload.len());
            assert!(header.durable_offset <= header.base_offset && header.base_offset <= header.end_offset());
            assert_eq!(header.is_mark(), header.record.records == 0);
            taken += header.batch_bytes();
        });
        assert!(taken <= bytes.len() && (result.is_err() || taken == bytes.len()));
    }
}

const LOG: &str = "/log";
const P0: PartitionId = PartitionId(0);

fn topic() -> TopicName {
    TopicName::new("t").unwrap_or_else(|error| panic!("{error}"))
}

fn env(disk: &SimVfs) -> Env {
    disk.env(&SimClock::new(Nanos(1_000_000_000)), 11)
}

fn open(disk: &SimVfs) -> Option<Log> {
    Log::open(env(disk), Path::new(LOG), LogSettings::default()).ok().map(|(log, _)| log)
}

/// A disk with a log of one topic, a few batches in its one file, and where that file is. Always the same bytes.
pub fn small_log() -> (SimVfs, PathBuf) {
    let disk = SimVfs::new(7);
    let log = open(&disk).unwrap_or_else(|| panic!("an empty disk takes a log"));
    let write = || -> varve_wal::Result<()> {
        log.create_topic(&topic(), TopicSettings { log_file_bytes: 1024, ..TopicSettings::default() })?;
        let mut writer = log.writer(&topic(), P0)?;
        for n in 1..4u32 {
            let record =
                RecordHeader { tenant: 5, kind: 3, records: n, time_ms: i64::from(n), ..RecordHeader::default() };
            writer.append(&record, &vec![n as u8; n as usize * 9])?;
            writer.sync()?;
        }
        writer.idle()
    };
    write().unwrap_or_else(|error| panic!("the log takes batches: {error}"));
    let mut logs = disk.files().into_iter().map(|(path, _)| path);
    let path = logs.find(|path| path.starts_with(Path::new(LOG).join("t")) && path.extension() == Some("log".as_ref()));
    (disk, path.unwrap_or_else(|| panic!("a log file is there")))
}

type Read = Vec<(Offset, Vec<u8>)>;

/// Everything a cursor finds.
fn read(log: &Log) -> Read {
    let mut found: Read = Vec::new();
    let Ok(mut cursor) = log.cursor(&topic(), P0, From::Beginning) else { return found };
    while let Ok(Some(batch)) = cursor.next() {
        assert!(found.last().is_none_or(|(offset, _)| *offset < batch.offset), "offsets ascend");
        found.push((batch.offset, batch.payload.to_vec()));
    }
    assert!(cursor.position() <= log.high_water(&topic(), P0));
    found
}

/// The newest log file of a partition. Whatever is in it: the log opens or says why not, reads what it can, takes a
/// batch, and when it is opened again has that batch and, if no checksum was made right, all it had before.
pub fn log_file(data: &[u8]) {
    static BASE: OnceLock<(SimVfs, PathBuf)> = OnceLock::new();
    let (base, path) = BASE.get_or_init(small_log);
    let mut mended = data.to_vec();
    let end = mended.len().saturating_sub(64);
    for at in [0, end] {
        if let Some(header) = mended.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<64>()) {
            let right = crc(0, &[&header[..60]]);
            header[60..].copy_from_slice(&right);
        }
    }
    if let Some(salt) = u64_at(&mended, 24) {
        mend_batches(&mut mended[..end], 64, salt);
    }
    for bytes in [data, &mended] {
        let disk = base.copy();
        disk.truncate(path, bytes.len() as u64);
        disk.overwrite(path, 0, bytes);
        let Some(log) = open(&disk) else { continue };
        let before = read(&log);
        let Ok(mut writer) = log.writer(&topic(), P0) else { continue };
        let record = RecordHeader { records: 1, ..RecordHeader::default() };
        // A forged file may say that the offsets are at their end: then the append is refused.
        let Ok(offset) = writer.append(&record, b"acknowledged") else { continue };
        if writer.sync().is_err() {
            continue;
        }
        drop((writer, log));
        let Some(log) = open(&disk) else { panic!("the log opened once") };
        let mut after = read(&log);
        assert_eq!(after.pop(), Some((offset, b"acknowledged".to_vec())));
        // Forged offsets may contradict each other, and then one of them has to give.
        assert!(after == before || bytes != data, "{before:?} became {after:?}");
    }
}

/// Makes the checksums of a segment right: header, trailer, directory, and blocks as far as they follow one another.
fn mend_segment(bytes: &mut [u8]) -> Option<()> {
    let header = crc(0, &[bytes.get(..60)?]);
    bytes.get_mut(60..64)?.copy_from_slice(&header);
    let trailer = bytes.len().checked_sub(32).filter(|at| *at >= 64)?;
    let right = crc(0, &[bytes.get(trailer..trailer + 12)?, bytes.get(trailer + 16..)?]);
    bytes.get_mut(trailer + 12..trailer + 16)?.copy_from_slice(&right);
    let directory = u64_at(bytes, trailer)?;
    let id = u64_at(bytes, 16)?;
    let mut at = 64;
    while at + 12 <= trailer {
        let end = (at + 12).checked_add(u32_at(bytes, at + 4)? as usize)?;
        // The FST crate panics on nodes that are none, so a term dictionary is not forged: see `index/terms.rs`.
        if bytes.get(at + 13..at + 20) == Some(&[0; 7]) {
            at = end;
            continue;
        }
        let id = if at as u64 == directory { 0 } else { id };
        let right = crc(0, &[&id.to_le_bytes(), &(at as u64).to_le_bytes(), bytes.get(at + 4..end)?]);
        bytes.get_mut(at..at + 4)?.copy_from_slice(&right);
        at = end;
    }
    Some(())
}

/// A segment file: opened, verified, and asked everything it can be asked.
pub fn segment(data: &[u8]) {
    let mut mended = data.to_vec();
    mend_segment(&mut mended);
    ask_segment(data);
    if mended != data {
        ask_segment(&mended);
    }
}

fn ask_segment(bytes: &[u8]) {
    let cache = BlockCache::new(1 << 20);
    let Ok(segment) = Segment::open_bytes(bytes.to_vec(), Path::new("fuzz"), cache) else { return };
    let is_whole = segment.verify().is_empty();
    let matcher = |op, name, value| Matcher::new(op, name, value, 1 << 16).unwrap_or_else(|error| panic!("{error}"));
    let matchers = [
        vec![],
        vec![matcher(MatchOp::Equal, "__name__", "up")],
        vec![matcher(MatchOp::Regex, "job", "v.*|b"), matcher(MatchOp::NotEqual, "a", "")],
        vec![matcher(MatchOp::NotRegex, "instance", ".*1")],
    ];
    for about in segment.meta().tenants.iter().take(4) {
        for matchers in &matchers {
            let selected = segment.select(about.tenant, matchers, TimeRange::ALL);
            assert!(!is_whole || selected.is_ok(), "{selected:?}");
            for series in selected.unwrap_or_default() {
                assert!(u64::from(series) < segment.meta().series);
            }
            let _ = segment.label_names(about.tenant, matchers, TimeRange::ALL);
            let _ = segment.label_values(about.tenant, "job", matchers, TimeRange::ALL);
        }
    }
    let mut scratch = ReadScratch::default();
    let (mut samples, mut series_samples) = (0, Column::default());
    for series in 0..segment.meta().series.min(16) as u32 {
        series_samples.clear();
        let read = segment.read_with(&mut scratch, series, TimeRange::ALL, &mut series_samples);
        assert!(!is_whole || read.is_ok(), "{read:?}");
        assert_eq!(series_samples.times.len(), series_samples.values.len());
        samples += series_samples.len() as u64;
        let labels = segment.labels(series);
        assert!(!is_whole || labels.is_ok(), "{labels:?}");
        if let Ok(labels) = labels {
            let mut builder = LabelsBuilder::default();
            labels.iter().for_each(|(name, value)| builder.push(name, value));
            assert_eq!(builder.build().as_ref(), Ok(&labels), "labels are sorted, unique and not empty");
        }
        let _ = (segment.hash(series), segment.samples_in(&mut scratch, series, TimeRange { min: 0, max: 1 << 41 }));
    }
    assert!(!is_whole || segment.meta().series > 16 || samples == segment.meta().samples);
    let mut text = Vec::new();
    let _ = segment.dump(&mut text);
}
