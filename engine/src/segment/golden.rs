//! Golden: the segments of format versions 1 and 2 that are read for ever, and the annotated bytes of the newest in
//! `docs/format.md`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p varve-engine golden` rewrites the newest and the document. Rewriting is right only
//! while version 2 has not been released: afterwards a difference means that the writer changed, and the old file must
//! still be read.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use varve_model::histogram::Span;
use varve_model::{Column, Exemplar, Histogram, Labels, MatchOp, Matcher, STALE_NAN_BITS, TenantId, TimeRange};
use varve_vfs::{Env, Open};

use super::layout::{FRAME_BYTES, HEADER_BYTES, Section, TRAILER_BYTES};
use super::{BlockCache, Segment, SegmentHeader, SegmentWriter};

const BEGIN: &str = "<!-- golden segment: begin -->\n";
const END: &str = "<!-- golden segment: end -->\n";

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// The exemplars of version 2.
fn exemplars() -> Vec<(TenantId, Labels, Vec<Exemplar>)> {
    let exemplar = |time, value, trace: &str| Exemplar { labels: Labels::from([("trace_id", trace)]), time, value };
    vec![
        (
            TenantId(1),
            Labels::from([("__name__", "requests_total"), ("job", "api")]),
            vec![exemplar(1_700_000_014_000, 0.25, "a1"), exemplar(1_700_000_029_000, 1.5, "a2")],
        ),
        // Of a series without samples here, and older than all samples.
        (TenantId(3), Labels::from([("__name__", "errors_total")]), vec![exemplar(1_699_999_999_000, 1.0, "b")]),
    ]
}

/// What version 2 holds beside version 1: start timestamps of the first series and of the histogram.
fn content() -> BTreeMap<(TenantId, Labels), Column> {
    let mut content = content_1();
    for column in content.values_mut() {
        if column.values == [1.0, 4.0, 9.0, 16.0] {
            column.starts = vec![1_699_999_000_000, 1_699_999_000_000, 1_700_000_020_000, 1_700_000_020_000];
        }
        if !column.histograms.is_empty() {
            column.histogram_starts = vec![1_699_999_000_000];
        }
    }
    content
}

fn content_1() -> BTreeMap<(TenantId, Labels), Column> {
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
    for (tenant, labels, exemplars) in exemplars() {
        writer.add_exemplars(tenant, &labels, &exemplars).unwrap();
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
        (0, "header: magic, version 2, kind 1, level 0, partition 1".to_owned()),
        (16, "id 42, first offset 1000".to_owned()),
        (32, "last offset 1016, reserved".to_owned()),
        (48, "reserved, crc".to_owned()),
        (directory, "frame of the directory: crc, bytes, encoding".to_owned()),
        (directory + FRAME_BYTES, "directory".to_owned()),
        (trailer, "trailer: directory at, its bytes, crc".to_owned()),
        (trailer + 16, "version 2, kind 1, level 0, zero, magic".to_owned()),
    ];
    assert_eq!(regions[3].0 + 16, HEADER_BYTES);
    for section in Section::ALL {
        for block in segment.directory.blocks(section) {
            let units = match section {
                Section::Times | Section::Values | Section::Postings | Section::Starts => "bytes",
                Section::Columns => "columns",
                Section::Terms => "tenants",
                Section::Series | Section::Chunks | Section::Exemplars => "series",
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
    let (golden, document) = (path("tests/golden/v2/metrics.seg"), path("../docs/format.md"));
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
    assert!(read(&env, &golden) == written, "the writer no longer writes the golden segment of version 2");
    assert!(shown == expected, "docs/format.md shows other bytes:\n{shown}");
}

#[test]
fn golden_segment_of_version_1_is_read() {
    let segment = check("tests/golden/v1/metrics.seg", &content_1());
    assert_eq!(segment.exemplar_block(0).unwrap(), None);
}

#[test]
fn golden_segment_of_version_2_is_read() {
    if updating() {
        return;
    }
    let segment = check("tests/golden/v2/metrics.seg", &content());
    let entries = segment.exemplar_block(0).unwrap().unwrap();
    let found: Vec<_> = entries.into_iter().map(|entry| (entry.tenant, entry.labels, entry.exemplars)).collect();
    assert_eq!(found, exemplars());
    assert_eq!(segment.meta().range.min, 1_699_999_999_000);
}

#[track_caller]
fn check(file: &str, content: &BTreeMap<(TenantId, Labels), Column>) -> Segment {
    let segment = Segment::open(&Env::os(), &path(file), BlockCache::new(1 << 20)).unwrap();
    assert_eq!(segment.verify(), vec![]);
    let meta = segment.meta();
    assert_eq!((meta.header.id, meta.header.partition, meta.header.level), (42, 1, 0));
    assert_eq!((meta.header.first, meta.header.last), (1000, 1016));
    assert_eq!((meta.series, meta.samples), (4, 13));
    for (series, ((_, labels), column)) in content.iter().enumerate() {
        assert_eq!(&segment.labels(series as u32).unwrap(), labels);
        let mut found = Column::default();
        segment.read(series as u32, TimeRange::ALL, &mut found).unwrap();
        assert_eq!(found.times, column.times);
        assert!(found.values.iter().map(|v| v.to_bits()).eq(column.values.iter().map(|v| v.to_bits())));
        assert_eq!(found.histograms, column.histograms);
        assert_eq!((&found.starts, &found.histogram_starts), (&column.starts, &column.histogram_starts));
    }
    let matcher = Matcher::new(MatchOp::Regex, "job", "a.*", 1 << 20).unwrap();
    assert_eq!(segment.select(TenantId(1), &[matcher], TimeRange::ALL).unwrap(), [0, 2]);
    assert_eq!(segment.label_names(TenantId(2), &[], TimeRange::ALL).unwrap(), ["__name__"]);
    segment
}

#[test]
fn the_same_series_make_the_same_bytes() {
    assert!(write() == write());
}
