//! Golden: the log files of format version 1 that are read for ever, and their annotated bytes in `docs/format.md`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p varve-wal --test golden_files_are_read_for_ever` rewrites both. Rewriting is right
//! only while version 1 has not been released: afterwards a difference means that the writer changed, and the old
//! files must still be read.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use varve_vfs::sim::{SimClock, SimVfs};
use varve_vfs::{Env, Nanos, Open, Vfs};
use varve_wal::{From, Log, LogSettings, Offset, PartitionId, RecordHeader, TopicName, TopicSettings, check};

const BEGIN: &str = "<!-- golden log: begin -->\n";
const END: &str = "<!-- golden log: end -->\n";
const PARTITION: &str = "/log/golden/0";
const NAMES: [&str; 6] = [
    "topic",
    "0/00000000000000000000.log",
    "0/00000000000000000000.idx",
    "0/00000000000000000005.log",
    "0/oldest",
    "0/newest",
];

fn topic() -> TopicName {
    TopicName::new("golden").unwrap()
}

fn open(disk: &SimVfs, seed: u64) -> Log {
    let env = disk.env(&SimClock::new(Nanos(1_700_000_000_000_000_000)), seed);
    let (log, recovery) = Log::open(env, Path::new("/log"), LogSettings::default()).unwrap();
    assert!(recovery.damaged.is_empty() && recovery.torn.is_empty(), "{recovery:?}");
    log
}

fn record(records: u32, time_ms: i64) -> RecordHeader {
    RecordHeader {
        tenant: 3,
        kind: 7,
        compression: 1,
        flags: 2,
        records,
        time_ms,
        producer: 0x0102_0304_0506_0708,
        sequence: 9,
        epoch: 1,
    }
}

/// Two lives: a group of two batches and its mark, then a group of one and its mark.
fn written() -> SimVfs {
    let disk = SimVfs::new(1);
    let settings = TopicSettings {
        log_file_bytes: 1024,
        retention_ms: Some(86_400_000),
        retention_bytes: None,
        ..TopicSettings::default()
    };
    let log = open(&disk, 1);
    log.create_topic(&topic(), settings).unwrap();
    let mut writer = log.writer(&topic(), PartitionId(0)).unwrap();
    writer.append(&record(2, 1_700_000_000_000), b"sediment").unwrap();
    writer.append(&record(3, 1_700_000_000_250), b"a payload of 24 bytes...").unwrap();
    writer.close().unwrap();
    let log = open(&disk, 2);
    let mut writer = log.writer(&topic(), PartitionId(0)).unwrap();
    writer.append(&record(1, 1_700_000_060_000), b"padded").unwrap();
    writer.close().unwrap();
    disk
}

fn bytes(disk: &SimVfs, name: &str) -> Vec<u8> {
    let path = Path::new("/log/golden").join(name);
    disk.files().into_iter().find(|(found, _)| *found == path).unwrap().1
}

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn load(relative: &str) -> Vec<u8> {
    let file = Env::os().vfs.open(&path(relative), Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn save(relative: &str, bytes: &[u8]) {
    let (vfs, path) = (Env::os().vfs, path(relative));
    vfs.create_dir(path.parent().unwrap()).unwrap();
    let _ = vfs.remove(&path);
    vfs.open(&path, Open::Create).unwrap().write_at(bytes, 0).unwrap();
}

/// Lines of hexadecimal, at most 16 bytes each, the first with a remark.
fn part(text: &mut String, bytes: &[u8], at: usize, len: usize, remark: &str) {
    for (n, line) in bytes[at..at + len].chunks(16).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let remark = if n == 0 { remark } else { "" };
        writeln!(text, "{}", format!("{:04x}  {:<47}  {remark}", at + n * 16, hex.join(" ")).trim_end()).unwrap();
    }
}

fn file_header(text: &mut String, bytes: &[u8], at: usize) {
    part(text, bytes, at, 16, "header: magic, version 1, no flags, partition 0");
    part(text, bytes, at + 16, 16, "base offset, salt");
    part(text, bytes, at + 32, 16, "made, file bytes 1024");
    part(text, bytes, at + 48, 16, "crc of the topic's name, zero, crc");
}

/// Annotates a log file by the layout that the document gives, not by the code that reads it.
fn log_file(text: &mut String, bytes: &[u8]) {
    file_header(text, bytes, 0);
    let mut at = 64;
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    while u32_at(at + 60) != 0 {
        let (payload, records) = (u32_at(at + 4) as usize, u32_at(at + 44));
        let what = if records == 0 { "mark" } else { "batch" };
        part(text, bytes, at, 16, &format!("{what}: crc, {payload} payload bytes, base offset {}", u32_at(at + 8)));
        part(text, bytes, at + 16, 16, &format!("durable offset {}, append time", u32_at(at + 16)));
        part(text, bytes, at + 32, 16, &format!("producer, sequence, {records} records"));
        part(text, bytes, at + 48, 16, "tenant, epoch, kind, compression, flags, header crc");
        if payload > 0 {
            part(text, bytes, at + 64, payload, "payload");
        }
        let padded = payload.next_multiple_of(8);
        if padded > payload {
            part(text, bytes, at + 64 + payload, padded - payload, "padding");
        }
        at += 64 + padded;
    }
    let end = bytes.len() - 64;
    assert!(bytes[at..end].iter().all(|byte| *byte == 0));
    writeln!(text, "{at:04x}  00 …                                             {} zeros", end - at).unwrap();
    file_header(text, bytes, end);
}

fn annotated(disk: &SimVfs) -> String {
    let mut text = "```text\n".to_owned();
    for name in NAMES {
        let bytes = bytes(disk, name);
        let size = bytes.len();
        writeln!(text, "golden/{name}, {size} bytes").unwrap();
        match name {
            "topic" => {
                for at in [0, 512] {
                    part(&mut text, &bytes, at, 16, "record: magic, version 1, zero, 1 partition");
                    part(&mut text, &bytes, at + 16, 16, "log file bytes 1024, retention 86400000 ms");
                    part(&mut text, &bytes, at + 32, 32, "no retention by bytes, zeros, crc");
                    if at == 0 {
                        writeln!(text, "0040  00 …                                             448 zeros").unwrap();
                    }
                }
            }
            _ if name.ends_with(".log") => log_file(&mut text, &bytes),
            _ if name.ends_with(".idx") => {
                part(&mut text, &bytes, 0, 16, "header: magic, version 1, zero, no entries");
                part(&mut text, &bytes, 16, 16, "base offset, salt");
                part(&mut text, &bytes, 32, 16, "end offset, end byte");
                part(&mut text, &bytes, 48, 16, "newest time, zero, crc");
            }
            _ => part(&mut text, &bytes, 0, size, "magic, base offset, crc, zero"),
        }
    }
    text.push_str("```\n");
    text
}

#[test]
fn golden_bytes_are_made_by_todays_writer_and_told_by_the_document() {
    let disk = written();
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for name in NAMES {
        let bytes = bytes(&disk, name);
        if update {
            save(&format!("tests/golden/v1/{name}"), &bytes);
        }
        assert_eq!(load(&format!("tests/golden/v1/{name}")), bytes, "{name}");
    }
    let document = String::from_utf8(load("../docs/format.md")).unwrap();
    let begin = document.find(BEGIN).unwrap() + BEGIN.len();
    let end = document.find(END).unwrap();
    let annotated = annotated(&disk);
    if update {
        let document = format!("{}{annotated}{}", &document[..begin], &document[end..]);
        save("../docs/format.md", document.as_bytes());
    } else {
        assert_eq!(&document[begin..end], annotated, "docs/format.md; UPDATE_GOLDEN=1 rewrites it");
    }
}

#[test]
fn golden_files_of_version_1_are_read() {
    let disk = SimVfs::new(1);
    disk.create_dir(Path::new(PARTITION)).unwrap();
    for name in NAMES {
        let file = disk.open(&Path::new("/log/golden").join(name), Open::Create).unwrap();
        file.write_at(&load(&format!("tests/golden/v1/{name}")), 0).unwrap();
    }
    let disk = disk.copy();
    let checked = check(&disk.env(&SimClock::new(Nanos(0)), 1), Path::new("/log")).unwrap();
    assert!(checked.damaged.is_empty() && checked.torn.is_empty(), "{checked:?}");
    let log = open(&disk, 3);
    let mut cursor = log.cursor(&topic(), PartitionId(0), From::Beginning).unwrap();
    let expected: [(u64, RecordHeader, &[u8]); 3] = [
        (0, record(2, 1_700_000_000_000), b"sediment"),
        (2, record(3, 1_700_000_000_250), b"a payload of 24 bytes..."),
        (5, record(1, 1_700_000_060_000), b"padded"),
    ];
    for (offset, header, payload) in expected {
        let batch = cursor.next().unwrap().unwrap();
        assert_eq!((batch.offset, batch.header, batch.payload), (Offset(offset), header, payload));
    }
    assert!(cursor.next().unwrap().is_none());
    assert_eq!(log.high_water(&topic(), PartitionId(0)), Offset(6));
    let settings = &log.topics()[0].settings;
    assert_eq!((settings.log_file_bytes, settings.retention_ms), (1024, Some(86_400_000)));
}

#[test]
fn golden_files_of_a_newer_version_are_refused_and_not_taken_for_damage() {
    let disk = written();
    let path = Path::new(PARTITION).join("00000000000000000005.log");
    let mut header = bytes(&disk, "0/00000000000000000005.log")[..64].to_vec();
    header[8] = 2;
    let crc = crc32fast::hash(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    disk.overwrite(&path, 0, &header);
    let env = disk.env(&SimClock::new(Nanos(0)), 1);
    let refused = Log::open(env, Path::new("/log"), LogSettings::default()).unwrap_err();
    assert!(matches!(refused, varve_wal::Error::Version { found: 2, newest: 1, .. }), "{refused}");
}
