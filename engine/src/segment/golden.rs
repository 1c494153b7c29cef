//! Golden: the segment of format version 1 that is read for ever, and its annotated bytes in `docs/format.md`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p varve-engine golden` rewrites both. Rewriting is right only while version 1 has not
//! been released: afterwards a difference means that the writer changed, and the old file must still be read.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use varve_model::histogram::Span;
use varve_model::{Column, Histogram, Labels, MatchOp, Matcher, STALE_NAN_BITS, TenantId, TimeRange};
use varve_vfs::{Env, Open};

use super::layout::{FRAME_BYTES, HEADER_BYTES, Section, TRAILER_BYTES};
use super::{BlockCache, Segment, SegmentHeader, SegmentWriter};

const BEGIN: &str = "<!-- golden segment: begin -->\n";
const END: &str = "<!-- golden segment: end -->\n";

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn content() -> BTreeMap<(TenantId, Labels), Column> {
    let times = vec![1_700_000_000_000, 1_700_000_015_000, 1_700_000_030_001, 1_700_000_045_000];
    let floats = |values: &[f64]| Column {
        times: times.clone(),
        values: values.to_vec(),
        histograms: Vec::new(),
        ..Column::default()
    };
    let histogram = Histogram {
        schema: 2,
        count: 6.0,
        sum: 2.5,
        zero_threshold: 0.001,
        zero_count: 1.0,
        positive_spans: vec![Span { offset: -1, length: 2 }],
        positive: vec![2.0, 3.0],
        ..Histogram::default()
    };
    BTreeMap::from([
        ((TenantId(1), Labels::from([("__name__", "requests_total"), ("job", "api")])), floats(&[1.0, 4.0, 9.0, 16.0])),
        (
            (TenantId(1), Labels::from([("__name__", "requests_total"), ("job", "web")])),
            floats(&[0.5, 0.25, 0.5, 0.25]),
        ),
        (
            (TenantId(1), Labels::from([("__name__", "up"), ("job", "api")])),
            floats(&[1.0, 1.0, 1.0, f64::from_bits(STALE_NAN_BITS)]),
        ),
        (
            (TenantId(2), Labels::from([("__name__", "latency_seconds")])),
            Column { histograms: vec![(1_700_000_000_000, histogram)], ..Column::default() },
        ),
    ])
}

fn write() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::os();
    let path = dir.path().join("golden.seg");
    let header = SegmentHeader { id: 42, partition: 1, level: 0, first: 1000, last: 1016 };
    let mut writer = SegmentWriter::create(&env, &path, header).unwrap();
    for ((tenant, labels), column) in content() {
        writer.add_series(tenant, &labels, &column).unwrap();
    }
    writer.finish().unwrap();
    read(&env, &path)
}

/// Whether the file is being rewritten; the test that reads it then waits for the next run.
fn updating() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

fn read(env: &Env, path: &Path) -> Vec<u8> {
    let file = env.vfs.open(path, Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn replace(env: &Env, path: &Path, bytes: &[u8]) {
    env.vfs.create_dir(path.parent().unwrap()).unwrap();
    let _ = env.vfs.remove(path);
    env.vfs.open(path, Open::Create).unwrap().write_at(bytes, 0).unwrap();
}

/// The file as hex, region by region.
fn annotate(bytes: &[u8]) -> String {
    let segment = Segment::open_bytes(bytes.to_vec(), Path::new("golden"), BlockCache::new(0)).unwrap();
    let trailer = bytes.len() - TRAILER_BYTES;
    let directory = u64::from_le_bytes(bytes[trailer..trailer + 8].try_into().unwrap()) as usize;
    let mut regions = vec![
        (0, "header: magic, version 1, kind 1, level 0, partition 1".to_owned()),
        (16, "id 42, first offset 1000".to_owned()),
        (32, "last offset 1016, reserved".to_owned()),
        (48, "reserved, crc".to_owned()),
        (directory, "frame of the directory: crc, bytes, encoding".to_owned()),
        (directory + FRAME_BYTES, "directory".to_owned()),
        (trailer, "trailer: directory at, its bytes, crc".to_owned()),
        (trailer + 16, "version 1, kind 1, level 0, zero, magic".to_owned()),
    ];
    assert_eq!(regions[3].0 + 16, HEADER_BYTES);
    for section in Section::ALL {
        for block in segment.directory.blocks(section) {
            let units = match section {
                Section::Times | Section::Values | Section::Postings => "bytes",
                Section::Columns => "columns",
                Section::Terms => "tenants",
                Section::Series | Section::Chunks => "series",
            };
            let about = format!("{}: {units} {} to {}", section.name(), block.first, block.first + block.units);
            regions.push((block.at as usize, format!("frame of {}", section.name())));
            regions.push((block.at as usize + FRAME_BYTES, about));
        }
    }
    regions.sort();
    let mut text = String::new();
    for (index, (begin, about)) in regions.iter().enumerate() {
        let end = regions.get(index + 1).map_or(bytes.len(), |next| next.0);
        for (line, part) in bytes[*begin..end].chunks(16).enumerate() {
            let hex: Vec<String> = part.iter().map(|byte| format!("{byte:02x}")).collect();
            let about = if line == 0 { about } else { "" };
            let line = format!("{:04x}  {:<47}  {about}", begin + line * 16, hex.join(" "));
            writeln!(text, "{}", line.trim_end()).unwrap();
        }
    }
    text
}

#[test]
fn golden_segment_is_what_the_writer_writes_and_the_document_shows() {
    let env = Env::os();
    let (golden, document) = (path("tests/golden/v1/metrics.seg"), path("../docs/format.md"));
    let written = write();
    let text = String::from_utf8(read(&env, &document)).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    let expected = format!("```text\n{}```\n", annotate(&written));
    if updating() {
        replace(&env, &golden, &written);
        replace(&env, &document, format!("{before}{BEGIN}{expected}{END}{after}").as_bytes());
        return;
    }
    assert!(read(&env, &golden) == written, "the writer no longer writes the golden segment of version 1");
    assert!(shown == expected, "docs/format.md shows other bytes:\n{shown}");
}

#[test]
fn golden_segment_is_read() {
    if updating() {
        return;
    }
    let segment = Segment::open(&Env::os(), &path("tests/golden/v1/metrics.seg"), BlockCache::new(1 << 20)).unwrap();
    assert_eq!(segment.verify(), vec![]);
    let meta = segment.meta();
    assert_eq!((meta.header.id, meta.header.partition, meta.header.level), (42, 1, 0));
    assert_eq!((meta.header.first, meta.header.last), (1000, 1016));
    assert_eq!((meta.series, meta.samples), (4, 13));
    for (series, ((_, labels), column)) in content().iter().enumerate() {
        assert_eq!(&segment.labels(series as u32).unwrap(), labels);
        let mut found = Column::default();
        segment.read(series as u32, TimeRange::ALL, &mut found).unwrap();
        assert_eq!(found.times, column.times);
        assert!(found.values.iter().map(|v| v.to_bits()).eq(column.values.iter().map(|v| v.to_bits())));
        assert_eq!(found.histograms, column.histograms);
    }
    let matcher = Matcher::new(MatchOp::Regex, "job", "a.*", 1 << 20).unwrap();
    assert_eq!(segment.select(TenantId(1), &[matcher], TimeRange::ALL).unwrap(), [0, 2]);
    assert_eq!(segment.label_names(TenantId(2), &[], TimeRange::ALL).unwrap(), ["__name__"]);
}

#[test]
fn the_same_series_make_the_same_bytes() {
    assert!(write() == write());
}
