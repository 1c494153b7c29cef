//! Rot: every flipped bit, cut file, lost file and bad sector is seen, named to the batch, and the rest is served.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use varve_vfs::Nanos;
use varve_vfs::sim::{Random, SimClock, SimVfs};
use varve_wal::{Damage, From, Log, LogSettings, Offset, PartitionId, RecordHeader, TopicName, TopicSettings, check};

const DIR: &str = "/data/log";
const P0: PartitionId = PartitionId(0);

fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

fn open(disk: &SimVfs, seed: u64) -> (Log, varve_wal::Recovery) {
    let env = disk.env(&SimClock::new(Nanos(5_000_000_000)), seed);
    let (log, recovery) = Log::open(env, Path::new(DIR), LogSettings::default()).unwrap();
    log.create_topic(&topic(), TopicSettings { log_file_bytes: 2048, ..TopicSettings::default() }).unwrap();
    (log, recovery)
}

type Batches = BTreeMap<u64, (u32, Vec<u8>)>;

/// A log of several files over two lives, closed cleanly; what it holds.
fn written() -> (SimVfs, Batches) {
    let disk = SimVfs::new(1);
    let mut random = Random::new(2);
    let mut batches = Batches::new();
    for life in 0..2 {
        let (log, _) = open(&disk, life);
        let mut writer = log.writer(&topic(), P0).unwrap();
        for n in 0..30 {
            let records = 1 + random.below(3) as u32;
            let payload: Vec<u8> = (0..random.below(400)).map(|_| random.next() as u8).collect();
            let offset = writer.append(&RecordHeader { records, ..RecordHeader::default() }, &payload).unwrap();
            batches.insert(offset.0, (records, payload));
            if n % 3 == 0 {
                writer.sync().unwrap();
                writer.idle().unwrap();
            }
        }
        writer.close().unwrap();
    }
    (disk.copy(), batches)
}

/// Reads everything; offsets that were passed over.
fn read(log: &Log, expected: &Batches) -> (BTreeSet<u64>, u64) {
    let mut cursor = log.cursor(&topic(), P0, From::Beginning).unwrap();
    let mut found = BTreeSet::new();
    while let Some(batch) = cursor.next().unwrap() {
        let content = (batch.header.records, batch.payload.to_vec());
        assert_eq!(expected.get(&batch.offset.0), Some(&content), "a false batch at {}", batch.offset);
        found.insert(batch.offset.0);
    }
    (found, cursor.skipped())
}

/// Offsets of the batches that lie in reported damage.
fn named(damage: &[Damage], batches: &Batches) -> BTreeSet<u64> {
    let within = |offset: &u64| damage.iter().any(|damage| (damage.first.0..damage.end.0).contains(offset));
    batches.keys().copied().filter(within).collect()
}

fn log_files(disk: &SimVfs) -> Vec<(PathBuf, Vec<u8>)> {
    let is_log = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
    disk.files().into_iter().filter(|(path, _)| is_log(path)).collect()
}

/// Opens a damaged disk and checks: what is not served is reported, what is reported is not more than `lost_max`
/// batches, the tool that checks sees it too, and no offset is given twice.
fn survive(disk: &SimVfs, batches: &Batches, lost_max: usize) -> BTreeSet<u64> {
    let checked = check(&disk.env(&SimClock::new(Nanos(0)), 1), Path::new(DIR)).unwrap();
    let (log, recovery) = open(disk, 77);
    let (found, _) = read(&log, batches);
    let lost: BTreeSet<u64> = batches.keys().copied().filter(|offset| !found.contains(offset)).collect();
    assert!(lost.len() <= lost_max, "{} batches lost", lost.len());
    assert!(lost.is_subset(&named(&log.damage(), batches)), "silent: {lost:?} {:?}", log.damage());
    assert!(lost.is_subset(&named(&checked.damaged, batches)), "check: {lost:?} {:?}", checked.damaged);
    let unseen = checked.damaged.is_empty() && checked.torn.is_empty();
    // Nothing but a mark or padding: of these nothing is ever read.
    assert!(!unseen || lost.is_empty(), "check saw nothing; opening {recovery:?}");
    let end = batches.last_key_value().map(|(offset, (records, _))| offset + u64::from(*records)).unwrap();
    let mut writer = log.writer(&topic(), P0).unwrap();
    let record = RecordHeader { records: 1, ..RecordHeader::default() };
    let offset = writer.append(&record, b"after").unwrap();
    assert!(offset.0 >= end, "offset {offset} is given twice");
    writer.sync().unwrap();
    drop(writer);
    let mut cursor = log.cursor(&topic(), P0, From::Offset(Offset(end))).unwrap();
    assert_eq!(cursor.next().unwrap().unwrap().payload, b"after");
    drop(log);
    // The next opening tells the same and serves the same.
    let (log, _) = open(disk, 78);
    let mut with_after = batches.clone();
    with_after.insert(offset.0, (1, b"after".to_vec()));
    let (again, _) = read(&log, &with_after);
    assert!(again.contains(&offset.0) && found.is_subset(&again));
    lost
}

#[test]
fn a_flipped_bit_costs_its_batch_and_no_other() {
    let (disk, batches) = written();
    let mut random = Random::new(3);
    let mut flips = 0;
    for without_index in [false, true] {
        for (path, bytes) in log_files(&disk) {
            // Every batch: in its header, its payload, its padding; and the headers of the file.
            let mut at = 0;
            while at < bytes.len() as u64 {
                let copy = disk.copy();
                if without_index {
                    copy.lose(&path.with_extension("idx"));
                }
                copy.flip(&path, at, random.below(8) as u8);
                let end_at = end_of_batches(&bytes);
                let in_file_header = at < 64 || at >= bytes.len() as u64 - 64;
                if (at as usize) < end_at || in_file_header {
                    let lost = survive(&copy, &batches, 1);
                    assert!(!in_file_header || lost.is_empty());
                    flips += 1;
                }
                at += 1 + random.below(24);
            }
        }
    }
    assert!(flips > 1500, "{flips}");
}

/// Byte behind the last batch: a batch ends in other bytes than zeros, but for its padding.
fn end_of_batches(bytes: &[u8]) -> usize {
    let used = &bytes[..bytes.len() - 64];
    used.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

#[test]
fn a_cut_file_loses_what_was_cut_and_says_so() {
    let (disk, batches) = written();
    for (path, bytes) in log_files(&disk) {
        for len in (0..bytes.len() as u64).step_by(100) {
            let copy = disk.copy();
            copy.truncate(&path, len);
            survive(&copy, &batches, batches.len());
        }
    }
}

#[test]
fn a_lost_file_is_missed_wherever_it_stood() {
    let (disk, batches) = written();
    let files = log_files(&disk);
    assert!(files.len() > 5);

    for (path, _) in &files {
        let copy = disk.copy();
        copy.lose(path);
        let lost = survive(&copy, &batches, 30);
        assert!(!lost.is_empty());
    }
    for path in ["/data/log/t/topic", "/data/log/t/0/newest"] {
        let copy = disk.copy();
        copy.lose(Path::new(path));
        let (log, _) = open(&copy, 5);
        assert_eq!(read(&log, &batches).0.len(), batches.len());
    }
}

#[test]
fn a_bad_sector_costs_the_batches_it_touches() {
    let (disk, batches) = written();
    for (path, bytes) in log_files(&disk) {
        for sector in 0..bytes.len() as u64 / 512 {
            let copy = disk.copy();
            copy.spoil(&path, sector * 512);
            let (log, recovery) = open(&copy, 5);
            let (found, _) = read(&log, &batches);
            let lost: BTreeSet<u64> = batches.keys().copied().filter(|offset| !found.contains(offset)).collect();
            assert!(lost.len() < 12, "{}", lost.len());
            assert!(lost.is_subset(&named(&log.damage(), &batches)), "{lost:?} {recovery:?}");
        }
    }
}

/// An unreadable sector inside the last group, which no mark covers yet, was taken for a torn tail: the acknowledged
/// batches behind it were cut and their offsets given again.
#[test]
fn a_bad_sector_in_the_last_group_is_no_torn_tail() {
    let disk = SimVfs::new(1);
    let (log, _) = open(&disk, 1);
    let mut writer = log.writer(&topic(), P0).unwrap();
    let mut batches = Batches::new();
    for n in 0..5u8 {
        let offset = writer.append(&RecordHeader { records: 1, ..RecordHeader::default() }, &[n + 1; 250]).unwrap();
        batches.insert(offset.0, (1, vec![n + 1; 250]));
    }
    writer.sync().unwrap();
    drop((writer, log));
    let (path, bytes) = log_files(&disk).pop().unwrap();
    for sector in 0..end_of_batches(&bytes).div_ceil(512) as u64 {
        let copy = disk.copy();
        copy.spoil(&path, sector * 512);
        let lost = survive(&copy, &batches, 2);
        assert!(!lost.is_empty());
        assert_eq!(log_files(&copy)[0].1, bytes, "what could not be read may be read another time");
    }
}

#[test]
fn damaged_bytes_are_kept_aside() {
    let (disk, _) = written();
    let (path, bytes) = log_files(&disk).pop().unwrap();
    disk.flip(&path, 64 + 100, 1);
    let (_, recovery) = open(&disk, 9);
    let damage = &recovery.damaged[0];
    let kept = disk.files().into_iter().find(|(path, _)| Some(path) == damage.quarantined.as_ref()).unwrap().1;
    let mut expected = bytes[damage.at as usize..(damage.at + damage.bytes) as usize].to_vec();
    expected[164 - damage.at as usize] ^= 2;
    assert_eq!(kept, expected);
    assert!(damage.to_string().contains("are lost"), "{damage}");
}

#[test]
fn a_payload_that_quotes_a_log_is_not_taken_for_a_batch() {
    let disk = SimVfs::new(1);
    let (log, _) = open(&disk, 1);
    let other = TopicName::new("u").unwrap();
    log.create_topic(&other, TopicSettings { log_file_bytes: 2048, ..TopicSettings::default() }).unwrap();
    let record = RecordHeader { records: 1, ..RecordHeader::default() };
    log.advance(&other, P0, Offset(5)).unwrap();
    for name in [&topic(), &other] {
        let mut writer = log.writer(name, P0).unwrap();
        for _ in 0..4 {
            writer.append(&record, &[7; 40]).unwrap();
        }
        writer.close().unwrap();
    }
    let mut writer = log.writer(&topic(), P0).unwrap();
    writer.append(&record, b"begin").unwrap();
    writer.sync().unwrap();
    // Offsets below the quoting batch, and offsets above it: the first are refused for that, the others for the salt.
    let quoted = [log_files(&disk)[0].1[64..376].to_vec(), log_files(&disk)[2].1[64..480].to_vec()].concat();
    assert_eq!(quoted.len(), 3 * 104 + 4 * 104);
    writer.append(&record, &quoted).unwrap();
    writer.append(&record, b"end").unwrap();
    writer.close().unwrap();
    drop(log);
    let (path, bytes) = log_files(&disk)[1].clone();
    let at = bytes.windows(8).position(|window| window == &quoted[..8]).unwrap() as u64 - 64;
    // Its header no longer tells where it ends: every step behind it is looked at.
    disk.flip(&path, at + 8, 7);
    let (log, recovery) = open(&disk, 2);
    let named: Vec<_> = recovery.damaged.iter().map(|damage| (damage.first.0, damage.end.0)).collect();
    assert_eq!(named, [(5, 6), (0, 5)], "the quoting batch, and what the other topic skipped");
    let mut cursor = log.cursor(&topic(), P0, From::Beginning).unwrap();
    let mut seen = Vec::new();
    while let Some(batch) = cursor.next().unwrap() {
        seen.push((batch.offset.0, batch.payload.len()));
    }
    assert_eq!(seen, [(0, 40), (1, 40), (2, 40), (3, 40), (4, 5), (6, 3)]);
}
