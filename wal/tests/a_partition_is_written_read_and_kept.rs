//! What the face of the log promises when nothing goes wrong: order, durability over reopening, cursors, seeking by
//! offset and time, groups, retention, one writer a partition.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::sync::Arc;

use varve_vfs::sim::{Fault, Faults, SimClock, SimVfs};
use varve_vfs::{Env, Nanos, Open, Vfs};
use varve_wal::{
    Error, From, GroupName, Log, LogSettings, Offset, PartitionId, RecordHeader, TopicName, TopicSettings, check, dump,
};

const DIR: &str = "/data/log";
const P0: PartitionId = PartitionId(0);

fn topic() -> TopicName {
    TopicName::new("metrics").unwrap()
}

fn env() -> (SimVfs, Env) {
    let disk = SimVfs::new(7);
    let env = disk.env(&SimClock::new(Nanos(1_000_000_000)), 11);
    (disk, env)
}

fn open(env: &Env) -> Log {
    let (log, recovery) = Log::open(env.clone(), Path::new(DIR), LogSettings::default()).unwrap();
    assert!(recovery.damaged.is_empty() && recovery.torn.is_empty(), "{recovery:?}");
    log
}

fn small() -> TopicSettings {
    TopicSettings { log_file_bytes: 4096, ..TopicSettings::default() }
}

fn record(records: u32, time_ms: i64) -> RecordHeader {
    RecordHeader { tenant: 5, kind: 3, records, time_ms, ..RecordHeader::default() }
}

/// Offsets, payload bytes and record counts of everything from a place on.
fn read(log: &Log, from: From) -> Vec<(u64, Vec<u8>, u32)> {
    let mut cursor = log.cursor(&topic(), P0, from).unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = cursor.next().unwrap() {
        assert_eq!((batch.header.tenant, batch.header.kind), (5, 3));
        batches.push((batch.offset.0, batch.payload.to_vec(), batch.header.records));
    }
    assert_eq!(cursor.skipped(), 0);
    batches
}

/// Writes `count` batches of two records, one sync each, times 100, 200, …
fn write(log: &Log, count: u64) {
    let mut writer = log.writer(&topic(), P0).unwrap();
    let begin = writer.next_offset().0;
    for n in 0..count {
        let payload = vec![n as u8; (n * 37 % 300) as usize];
        let offset = writer.append(&record(2, (n as i64 + 1) * 100), &payload).unwrap();
        assert_eq!(offset, Offset(begin + n * 2));
        assert_eq!(log.high_water(&topic(), P0), Offset(begin + n * 2), "not durable before the sync");
        assert_eq!(writer.sync().unwrap(), Offset(begin + n * 2 + 2));
    }
    writer.close().unwrap();
}

#[test]
fn what_was_written_is_read_in_this_life_and_the_next() {
    let (_, env) = env();
    let log = open(&env);
    log.create_topic(&topic(), small()).unwrap();
    write(&log, 100);
    let expected: Vec<_> = (0..100u64).map(|n| (n * 2, vec![n as u8; (n * 37 % 300) as usize], 2)).collect();
    assert_eq!(read(&log, From::Beginning), expected);
    drop(log);
    let log = open(&env);
    assert_eq!(read(&log, From::Beginning), expected);
    assert_eq!(log.high_water(&topic(), P0), Offset(200));
    write(&log, 3);
    assert_eq!(read(&log, From::Offset(Offset(200))).len(), 3);
    assert!(log.partitions(&topic())[0].files > 4);
}

#[test]
fn a_cursor_begins_where_it_is_told_and_follows_the_tail() {
    let (_, env) = env();
    let log = open(&env);
    log.create_topic(&topic(), small()).unwrap();
    let mut tail = log.cursor(&topic(), P0, From::Beginning).unwrap();
    assert!(tail.next().unwrap().is_none());
    write(&log, 100);
    for n in 0..100 {
        assert_eq!(tail.next().unwrap().unwrap().offset, Offset(n * 2));
    }
    assert!(tail.next().unwrap().is_none());
    for offset in 0..200 {
        assert_eq!(read(&log, From::Offset(Offset(offset)))[0].0, offset / 2 * 2);
    }
    for time in 0..10_000i64 {
        let first = read_first(&log, From::Time(time)).unwrap();
        assert_eq!(first, (time.max(1) as u64 - 1) / 100 * 2, "time {time}");
    }
    assert_eq!(read_first(&log, From::Time(10_001)), None);
    assert_eq!(read_first(&log, From::End), None);
    let start = read_first(&log, From::FileOf(Offset(100))).unwrap();
    assert!(start <= 100 && start > 0);
    let mut cursor = log.cursor(&topic(), P0, From::FileOf(Offset(100))).unwrap();
    let file = cursor.next().unwrap().unwrap().file;
    assert_ne!(file, log.cursor(&topic(), P0, From::Beginning).unwrap().next().unwrap().unwrap().file);
    write(&log, 1);
    assert_eq!(tail.next().unwrap().unwrap().offset, Offset(200));
}

fn read_first(log: &Log, from: From) -> Option<u64> {
    log.cursor(&topic(), P0, from).unwrap().next().unwrap().map(|batch| batch.offset.0)
}

#[test]
fn a_group_of_batches_is_one_write_and_one_sync() {
    let (disk, env) = env();
    let log = open(&env);
    log.create_topic(&topic(), TopicSettings::default()).unwrap();
    let mut writer = log.writer(&topic(), P0).unwrap();
    let file = writer.prepare(1000).unwrap();
    let before = disk.operations();
    for _ in 0..50 {
        writer.append(&record(1, 0), &[1; 100]).unwrap();
    }
    assert_eq!(writer.sync().unwrap(), Offset(50));
    assert_eq!(disk.operations() - before, 2);
    assert_eq!(log.cursor(&topic(), P0, From::Beginning).unwrap().next().unwrap().unwrap().file, file);
    assert_eq!((log.counts().syncs, log.counts().batches, log.counts().records), (1, 50, 50));
    writer.idle().unwrap();
    let before = disk.operations();
    writer.idle().unwrap();
    assert_eq!(disk.operations(), before, "one mark is enough");
}

#[test]
fn a_batch_larger_than_a_file_gets_a_file_of_its_own() {
    let (_, env) = env();
    let log = open(&env);
    log.create_topic(&topic(), small()).unwrap();
    let mut writer = log.writer(&topic(), P0).unwrap();
    for n in 0..5u8 {
        let bytes = if n == 2 { 50_000 } else { 10 };
        writer.append(&record(1, 0), &vec![n; bytes]).unwrap();
    }
    writer.sync().unwrap();
    drop(writer);
    let lens: Vec<usize> = read(&open(&env), From::Beginning).iter().map(|batch| batch.1.len()).collect();
    assert_eq!(lens, [10, 10, 50_000, 10, 10]);
}

#[test]
fn a_partition_has_one_writer_and_a_fixed_number_of_siblings() {
    let (_, env) = env();
    let log = open(&env);
    log.create_topic(&topic(), TopicSettings { partitions: 2, ..small() }).unwrap();
    log.create_topic(&topic(), TopicSettings { partitions: 2, ..small() }).unwrap();
    let refused = log.create_topic(&topic(), TopicSettings { partitions: 3, ..small() });
    assert!(matches!(refused, Err(Error::Partitions { have: 2, asked: 3, .. })));
    let writer = log.writer(&topic(), P0).unwrap();
    assert!(matches!(log.writer(&topic(), P0), Err(Error::Taken { .. })));
    drop(writer);
    log.writer(&topic(), P0).unwrap();
    assert!(matches!(log.writer(&topic(), PartitionId(2)), Err(Error::Unknown { .. })));
    drop(log);
    let log = open(&env);
    assert_eq!(log.topics()[0].settings.partitions, 2);
}

#[test]
fn committed_offsets_outlive_the_process_and_many_rolls() {
    let (_, env) = env();
    let settings = LogSettings { offsets_file_bytes: 1024, ..LogSettings::default() };
    let (group, other) = (GroupName::new("alerter").unwrap(), GroupName::new("notifier").unwrap());
    let (log, _) = Log::open(env.clone(), Path::new(DIR), settings.clone()).unwrap();
    log.create_topic(&topic(), small()).unwrap();
    assert_eq!(log.committed(&group, &topic(), P0), None);
    log.commit(&other, &topic(), P0, Offset(3)).unwrap();
    for n in 0..200 {
        log.commit(&group, &topic(), P0, Offset(n)).unwrap();
        assert_eq!(log.committed(&group, &topic(), P0), Some(Offset(n)));
    }
    let files = log.partitions(&TopicName::new("_offsets").unwrap())[0].files;
    assert!(files <= 2, "{files}");
    assert!(matches!(log.commit(&group, &topic(), PartitionId(9), Offset(0)), Err(Error::Unknown { .. })));
    drop(log);
    let (log, _) = Log::open(env, Path::new(DIR), settings).unwrap();
    assert_eq!(log.committed(&group, &topic(), P0), Some(Offset(199)));
    assert_eq!(log.committed(&other, &topic(), P0), Some(Offset(3)));
    assert_eq!(log.groups().len(), 2);
}

/// A commit that found the topic but no writer (another thread was between the two) ended in `unreachable!`.
#[test]
fn a_commit_without_the_writer_of_the_positions_is_refused() {
    let (_, env) = env();
    let log = open(&env);
    let (group, offsets) = (GroupName::new("alerter").unwrap(), TopicName::new("_offsets").unwrap());
    log.create_topic(&topic(), small()).unwrap();
    log.create_topic(&offsets, small()).unwrap();
    let taken = log.writer(&offsets, P0).unwrap();
    assert!(matches!(log.commit(&group, &topic(), P0, Offset(1)), Err(Error::Taken { .. })));
    drop(taken);
    log.commit(&group, &topic(), P0, Offset(1)).unwrap();
    assert_eq!(log.committed(&group, &topic(), P0), Some(Offset(1)));
}

#[test]
fn retention_that_fails_is_counted_and_tried_again() {
    let (disk, env) = env();
    let log = open(&env);
    log.create_topic(&topic(), TopicSettings { retention_ms: Some(0), ..small() }).unwrap();
    write(&log, 100);
    log.set_internal_position("engine", &topic(), P0, Offset(200)).unwrap();
    for n in 1..4 {
        disk.set_faults(Faults::at(disk.operations(), Fault::Eio));
        log.retain(0).unwrap_err();
        assert_eq!(log.counts().retention_failures, n);
    }
    log.retain(0).unwrap();
    assert_eq!((log.partitions(&topic())[0].files, log.counts().retention_failures), (1, 3));
}

#[test]
fn spares_of_a_build_that_kept_more_are_removed() {
    let (disk, env) = env();
    let log = open(&env);
    log.create_topic(&topic(), small()).unwrap();
    drop(log);
    let dir = Path::new("/data/log/metrics/0");
    for (name, len) in [("spare", 4096), ("spare-2", 8192), ("spare-3", 4096), ("spare-4", 4096)] {
        let file = env.vfs.open(&dir.join(name), Open::Create).unwrap();
        file.write_at(&vec![0; len], 0).unwrap();
    }
    open(&env);
    assert_eq!(disk.list(dir).unwrap(), ["oldest", "spare"]);
}

#[test]
fn retention_goes_by_age_by_bytes_and_never_past_an_internal_consumer() {
    let (_, env) = env();
    let log = open(&env);
    let retention = |retention_ms, retention_bytes| TopicSettings { retention_ms, retention_bytes, ..small() };
    log.create_topic(&topic(), retention(None, None)).unwrap();
    write(&log, 200);
    let first = |log: &Log| log.partitions(&topic())[0].first.0;
    assert_eq!(log.retain(i64::MAX).unwrap().files, 0, "nothing says so");

    log.create_topic(&topic(), retention(Some(1000), None)).unwrap();
    log.retain(5000).unwrap();
    let oldest = read_first(&log, From::Beginning).unwrap();
    assert_eq!(oldest, first(&log));
    // Batches at 100 ms a step: none of the last second may be gone, most of the earlier ones must be.
    assert!((40..=78).contains(&oldest), "{oldest}");

    log.create_topic(&topic(), retention(None, Some(4 * 4096))).unwrap();
    log.set_internal_position("engine", &topic(), P0, Offset(oldest + 1)).unwrap();
    assert_eq!(log.retain(0).unwrap().files, 0);
    log.set_internal_position("engine", &topic(), P0, Offset(390)).unwrap();
    log.set_internal_position("slow", &topic(), P0, Offset(oldest + 60)).unwrap();
    log.retain(0).unwrap();
    assert!(first(&log) > oldest && first(&log) <= oldest + 60);
    log.set_internal_position("slow", &topic(), P0, Offset(400)).unwrap();
    log.retain(0).unwrap();
    assert_eq!(log.partitions(&topic())[0].files, 4);

    log.create_topic(&topic(), retention(Some(0), None)).unwrap();
    let retained = log.retain(0).unwrap();
    assert!(retained.files >= 2);
    assert!(first(&log) <= 390 && first(&log) > 340);
    assert_eq!(read(&log, From::Beginning).last().unwrap().0, 398);
    drop(log);
    open(&env);
}

#[test]
fn without_a_consumer_retention_zero_keeps_everything() {
    let (_, env) = env();
    let log = open(&env);
    log.create_topic(&topic(), TopicSettings { retention_ms: Some(0), ..small() }).unwrap();
    write(&log, 100);
    assert_eq!(log.retain(i64::MAX).unwrap().files, 0);
}

#[test]
fn a_removed_file_serves_again_and_its_old_bytes_are_never_read() {
    let (disk, env) = env();
    let log = open(&env);
    log.create_topic(&topic(), TopicSettings { retention_ms: Some(0), ..small() }).unwrap();
    for round in 0..20u64 {
        write(&log, 40);
        log.set_internal_position("engine", &topic(), P0, Offset(round * 80 + 80)).unwrap();
        log.retain(0).unwrap();
        let expected: Vec<u64> = (0..round * 80 + 80).step_by(2).collect();
        let read: Vec<u64> = read(&log, From::Beginning).iter().map(|batch| batch.0).collect();
        assert!(expected.ends_with(&read), "round {round}");
    }
    assert!(log.counts().files_recycled > 10);
    let spares = disk.list(Path::new("/data/log/metrics/0")).unwrap();
    let spares = spares.iter().filter(|name| name.starts_with("spare")).count();
    assert_eq!(spares, 2);
    drop(log);
    open(&env);
    assert!(check(&env, Path::new(DIR)).unwrap().damaged.is_empty());
}

#[test]
fn a_cursor_keeps_the_file_it_reads() {
    let (_, env) = env();
    let log = open(&env);
    log.create_topic(&topic(), TopicSettings { retention_ms: Some(0), ..small() }).unwrap();
    write(&log, 100);
    let mut cursor = log.cursor(&topic(), P0, From::Beginning).unwrap();
    cursor.next().unwrap().unwrap();
    log.set_internal_position("engine", &topic(), P0, Offset(200)).unwrap();
    log.retain(0).unwrap();
    write(&log, 100);
    let mut last = 0;
    while let Some(batch) = cursor.next().unwrap() {
        assert!(batch.offset.0 > last);
        assert_eq!(batch.payload.len() as u64, batch.offset.0 % 200 / 2 * 37 % 300);
        last = batch.offset.0;
    }
    assert_eq!(last, 398);
}

#[test]
fn offsets_can_be_spent_for_records_that_the_log_has_lost() {
    let (_, env) = env();
    let log = open(&env);
    log.create_topic(&topic(), small()).unwrap();
    write(&log, 3);
    log.advance(&topic(), P0, Offset(4)).unwrap();
    assert_eq!(log.high_water(&topic(), P0), Offset(6));
    log.advance(&topic(), P0, Offset(100)).unwrap();
    write(&log, 1);
    let mut cursor = log.cursor(&topic(), P0, From::Beginning).unwrap();
    let mut offsets = Vec::new();
    while let Some(batch) = cursor.next().unwrap() {
        offsets.push(batch.offset.0);
    }
    assert_eq!((offsets, cursor.skipped()), (vec![0, 2, 4, 100], 94));
}

/// Batches beyond the last offset that is believed were written and acknowledged, and gone at the next opening.
#[test]
fn at_the_end_of_the_offsets_appends_are_refused() {
    let (_, env) = env();
    let log = open(&env);
    log.create_topic(&topic(), small()).unwrap();
    let last = i64::MAX as u64;
    log.begin_at(&topic(), P0, Offset(last - 1)).unwrap();
    let mut writer = log.writer(&topic(), P0).unwrap();
    for offset in [last - 1, last] {
        assert_eq!(writer.append(&record(1, 0), b"x").unwrap(), Offset(offset));
        writer.sync().unwrap();
    }
    writer.append(&record(1, 0), b"x").unwrap_err();
    drop((writer, log));
    let log = open(&env);
    assert_eq!(read(&log, From::Beginning).len(), 2);
    // A new file is refused as well.
    log.writer(&topic(), P0).unwrap().append(&record(1, 0), b"x").unwrap_err();
}

#[test]
fn every_file_can_be_printed() {
    let (disk, env) = env();
    let log = open(&env);
    log.create_topic(&topic(), small()).unwrap();
    write(&log, 100);
    for (path, _) in disk.files() {
        let mut text = Vec::new();
        assert!(dump(&env, &path, &mut text).unwrap(), "{}", path.display());
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains("damaged") && !text.is_empty(), "{}: {text}", path.display());
    }
}

#[test]
fn the_log_works_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::os();
    let path = dir.path().join("data").join("log");
    for life in 0..3 {
        let (log, recovery) = Log::open(env.clone(), &path, LogSettings::default()).unwrap();
        assert!(recovery.damaged.is_empty() && recovery.torn.is_empty(), "{recovery:?}");
        log.create_topic(&topic(), TopicSettings { log_file_bytes: 64 << 10, ..small() }).unwrap();
        assert_eq!(read(&log, From::Beginning).len(), life * 100);
        write(&log, 100);
    }
    assert!(check(&env, &path).unwrap().damaged.is_empty());
    let _shared: Arc<dyn Vfs> = env.vfs;
}
