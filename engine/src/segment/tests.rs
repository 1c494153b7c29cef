//! A segment against a naive model: a sorted map of tenants, label sets and samples.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use varve_model::histogram::Span;
use varve_model::{Column, Exemplar, Histogram, Labels, MatchOp, Matcher, STALE_NAN_BITS, TenantId, TimeRange};
use varve_vfs::Env;

use super::exemplars::Entry;
use super::layout::Section;
use super::*;
use crate::error::Error;
use crate::index::MemoryIndex;
use crate::step::merge::{Target, merge};

/// What a segment should hold.
type Model = BTreeMap<(TenantId, Labels), BTreeMap<i64, Sample>>;

#[derive(Clone, PartialEq, Debug)]
enum Sample {
    Float(u64),
    Histogram(Histogram),
}

fn column(samples: &BTreeMap<i64, Sample>, range: TimeRange) -> Column {
    let mut column = Column::default();
    for (&time, sample) in samples.iter().filter(|(time, _)| range.contains(**time)) {
        match sample {
            Sample::Float(bits) => {
                column.times.push(time);
                column.values.push(f64::from_bits(*bits));
                column.starts.push(if bits % 3 == 0 { (bits % 10_000) as i64 } else { 0 });
            }
            Sample::Histogram(histogram) => {
                column.histograms.push((time, histogram.clone()));
                column.histogram_starts.push(if time % 2 == 0 { time / 1000 } else { 0 });
            }
        }
    }
    column.align_starts();
    column
}

type Plain = (Vec<(i64, u64)>, Vec<(i64, Histogram)>, Vec<i64>, Vec<i64>);

/// A column as bits, since a NaN does not equal itself.
fn plain(column: &Column) -> Plain {
    assert_eq!(column.times.len(), column.values.len());
    let floats = column.times.iter().zip(&column.values).map(|(&time, value)| (time, value.to_bits())).collect();
    (floats, column.histograms.clone(), column.starts.clone(), column.histogram_starts.clone())
}

fn header() -> SegmentHeader {
    SegmentHeader { id: 7, partition: 3, level: 0, first: 100, last: 250 }
}

struct Written {
    _dir: tempfile::TempDir,
    env: Env,
    path: PathBuf,
    meta: SegmentMeta,
}

fn write(model: &Model, header: SegmentHeader) -> Written {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::os();
    let path = dir.path().join("7.seg");
    let mut writer = SegmentWriter::create(&env, &path, header).unwrap();
    for ((tenant, labels), samples) in model {
        writer.add_series(*tenant, labels, &column(samples, TimeRange::ALL)).unwrap();
    }
    let meta = writer.finish().unwrap();
    Written { _dir: dir, env, path, meta }
}

fn open(written: &Written) -> Segment {
    Segment::open(&written.env, &written.path, BlockCache::new(1 << 20)).unwrap()
}

fn bytes_of(written: &Written) -> Vec<u8> {
    let file = written.env.vfs.open(&written.path, varve_vfs::Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn matcher(op: MatchOp, name: &str, value: &str) -> Matcher {
    Matcher::new(op, name, value, 1 << 20).unwrap()
}

fn labels_strategy() -> impl Strategy<Value = Labels> {
    let name = prop_oneof![Just("__name__"), Just("a"), Just("ab"), Just("job"), Just("zone\u{e9}")];
    let value =
        prop_oneof![Just("x"), Just("xy"), Just("xyz"), Just("y"), Just("\u{fc}ber"), Just("node-1"), Just("node-2")];
    proptest::collection::btree_map(name, value, 1..4).prop_map(|pairs| {
        let mut builder = varve_model::LabelsBuilder::default();
        for (name, value) in pairs {
            builder.push(name, value);
        }
        builder.build().unwrap()
    })
}

fn histogram(seed: u64) -> Histogram {
    Histogram {
        schema: (seed % 12) as i32 - 3,
        count: (seed % 1000) as f64,
        sum: if seed.is_multiple_of(7) { f64::from_bits(STALE_NAN_BITS | 1 << 51) } else { seed as f64 / 8.0 },
        zero_threshold: 1e-128,
        zero_count: 1.0,
        positive_spans: vec![Span { offset: (seed % 5) as i32 - 2, length: 2 }],
        positive: vec![(seed % 11) as f64, (seed % 13) as f64],
        ..Histogram::default()
    }
}

fn samples_strategy() -> impl Strategy<Value = BTreeMap<i64, Sample>> {
    let regular = (0i64..50, 1usize..60, any::<u64>()).prop_map(|(start, count, seed)| {
        (0..count as i64)
            .map(|i| (start * 100 + i * 15_000, Sample::Float(((seed % 1000) as f64 + i as f64).to_bits())))
            .collect()
    });
    let sample = prop_oneof![
        9 => any::<u64>().prop_map(Sample::Float),
        1 => Just(Sample::Float(STALE_NAN_BITS)),
        2 => (1u64..5000).prop_filter("a sum that equals itself", |seed| !seed.is_multiple_of(7))
            .prop_map(|seed| Sample::Histogram(histogram(seed))),
    ];
    let wild = proptest::collection::btree_map(prop_oneof![any::<i64>(), 0i64..100_000], sample, 1..30);
    prop_oneof![regular, wild]
}

fn model_strategy() -> impl Strategy<Value = Model> {
    proptest::collection::btree_map((0u32..4, labels_strategy()), samples_strategy(), 0..40).prop_map(|model| {
        model.into_iter().map(|((tenant, labels), samples)| ((TenantId(tenant), labels), samples)).collect()
    })
}

fn matchers_strategy() -> impl Strategy<Value = Vec<Matcher>> {
    let name = prop_oneof![Just("__name__"), Just("a"), Just("ab"), Just("job"), Just("zone\u{e9}"), Just("none")];
    let plain = prop_oneof![Just(""), Just("x"), Just("xy"), Just("y"), Just("\u{fc}ber"), Just("missing")];
    let regex = prop_oneof![
        Just(""),
        Just(".*"),
        Just(".+"),
        Just("x|y"),
        Just("x|"),
        Just("x.*"),
        Just(".*y"),
        Just("node-[12]"),
        Just("(?i)X"),
        Just("[^x]+"),
        Just("\u{fc}.*|xy"),
        Just("x{2}|xyz?"),
        Just("^x$"),
        Just("node-\\d"),
        Just(".*|x"),
    ];
    let one = prop_oneof![
        (Just(MatchOp::Equal), name.clone(), plain.clone()),
        (Just(MatchOp::NotEqual), name.clone(), plain),
        (Just(MatchOp::Regex), name.clone(), regex.clone()),
        (Just(MatchOp::NotRegex), name, regex),
    ];
    proptest::collection::vec(one.prop_map(|(op, name, value)| matcher(op, name, value)), 0..4)
}

fn satisfies(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or_default()))
}

fn names<'a>(all: impl Iterator<Item = &'a Labels>) -> Vec<String> {
    let names: BTreeSet<String> = all.flat_map(|labels| labels.iter().map(|(name, _)| name.to_owned())).collect();
    names.into_iter().collect()
}

fn values<'a>(all: impl Iterator<Item = &'a Labels>, name: &str) -> Vec<String> {
    let values: BTreeSet<String> = all.filter_map(|labels| labels.get(name).map(str::to_owned)).collect();
    values.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_written_is_read(model in model_strategy(), level in 0u8..2, ranges in proptest::collection::vec((any::<i64>(), any::<i64>()), 3)) {
        let written = write(&model, SegmentHeader { level, ..header() });
        let segment = open(&written);
        prop_assert_eq!(segment.meta(), &written.meta);
        prop_assert_eq!(segment.verify(), vec![]);
        prop_assert_eq!(segment.meta().series, model.len() as u64);
        let samples: usize = model.values().map(BTreeMap::len).sum();
        prop_assert_eq!(segment.meta().samples, samples as u64);
        let mut scratch = ReadScratch::default();
        for (series, ((tenant, labels), samples)) in model.iter().enumerate() {
            let series = series as u32;
            let meta = segment.meta().tenant(*tenant).unwrap();
            prop_assert!((meta.first_series..meta.end_series()).contains(&series));
            prop_assert_eq!(&segment.labels(series).unwrap(), labels);
            prop_assert_eq!(segment.hash(series).unwrap(), labels.hash());
            let mut all = vec![TimeRange::ALL, TimeRange { min: 100, max: 40_000 }, TimeRange { min: 15_000, max: 15_000 }];
            all.extend(ranges.iter().map(|&(a, b)| TimeRange { min: a.min(b), max: a.max(b) }));
            for range in all {
                let mut found = Column::default();
                segment.read_with(&mut scratch, series, range, &mut found).unwrap();
                let expected = column(samples, range);
                prop_assert_eq!(plain(&found), plain(&expected));
                let estimate = segment.samples_in(&mut scratch, series, range).unwrap();
                prop_assert!(estimate as usize <= samples.len());
                prop_assert!(estimate > 0 || expected.is_empty());
            }
        }
        prop_assert!(segment.labels(model.len() as u32).is_err());
        prop_assert!(segment.read(u32::MAX, TimeRange::ALL, &mut Column::default()).is_err());
    }

    #[test]
    fn matchers_select_what_they_say(model in model_strategy(), matchers in proptest::collection::vec(matchers_strategy(), 8)) {
        let written = write(&model, header());
        let segment = open(&written);
        let mut memory = MemoryIndex::default();
        for (id, (tenant, labels)) in model.keys().enumerate() {
            memory.add(*tenant, id as u32 * 3, labels);
            memory.add(*tenant, 1_000_000, labels);
            memory.remove(*tenant, 1_000_000, labels);
        }
        for tenant in (0..5).map(TenantId) {
            let all: Vec<(u32, &Labels)> = model.keys().enumerate().filter(|(_, key)| key.0 == tenant)
                .map(|(id, key)| (id as u32, &key.1)).collect();
            prop_assert_eq!(memory.series(tenant), all.len() as u64);
            for matchers in &matchers {
                let chosen: Vec<(u32, &Labels)> =
                    all.iter().copied().filter(|(_, labels)| satisfies(labels, matchers)).collect();
                let expected: Vec<u32> = chosen.iter().map(|(id, _)| *id).collect();
                prop_assert_eq!(&segment.select(tenant, matchers, TimeRange::ALL).unwrap(), &expected, "{:?}", matchers);
                let ids = memory.select(tenant, matchers);
                prop_assert!(ids.iter().eq(expected.iter().map(|id| id * 3)), "{:?}", matchers);
                let chosen = || chosen.iter().map(|(_, labels)| *labels);
                prop_assert_eq!(segment.label_names(tenant, matchers, TimeRange::ALL).unwrap(), names(chosen()));
                prop_assert_eq!(memory.label_names_of(tenant, &ids), names(chosen()));
                for name in ["__name__", "a", "ab", "none"] {
                    let expected = values(chosen(), name);
                    prop_assert_eq!(&segment.label_values(tenant, name, matchers, TimeRange::ALL).unwrap(), &expected);
                    prop_assert!(memory.label_values_of(tenant, name, &ids).iter().eq(&expected));
                }
            }
            let everything = || all.iter().map(|(_, labels)| *labels);
            prop_assert_eq!(memory.label_names(tenant), names(everything()));
            // Twice: the second answer is the one that was kept.
            for _ in 0..2 {
                prop_assert!(segment.all_label_names(tenant, TimeRange::ALL).unwrap().iter().eq(&names(everything())));
                for name in ["__name__", "a", "ab", "none", ""] {
                    let expected = values(everything(), name);
                    prop_assert!(memory.label_values(tenant, name).iter().eq(&expected));
                    let found = segment.all_label_values(tenant, name, TimeRange::ALL).unwrap();
                    prop_assert!(found.iter().eq(&expected), "{:?}", found);
                }
            }
        }
        for (id, (tenant, labels)) in model.keys().enumerate() {
            memory.remove(*tenant, id as u32 * 3, labels);
            let left = model.keys().skip(id + 1).filter(|(of, _)| of == tenant).map(|(_, labels)| labels);
            prop_assert!(memory.label_values(*tenant, "a").iter().eq(&values(left, "a")));
        }
        prop_assert_eq!(memory.tenants().count(), 0);
        prop_assert_eq!(memory.heap_bytes(), 0);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Segment::open_bytes(bytes, Path::new("x"), BlockCache::new(0)).is_err());
    }
}

/// Two tenants, floats and histograms, a shared and a private time column.
fn small() -> Model {
    let mut model = Model::new();
    let floats = |value: f64| (0..5).map(move |i| (i * 15_000, Sample::Float((value + i as f64).to_bits()))).collect();
    model.insert((TenantId(1), Labels::from([("__name__", "up"), ("job", "a")])), floats(1.0));
    model.insert((TenantId(1), Labels::from([("__name__", "up"), ("job", "b")])), floats(2.0));
    model.insert(
        (TenantId(1), Labels::from([("__name__", "temp")])),
        BTreeMap::from([(7, Sample::Float(STALE_NAN_BITS))]),
    );
    model.insert(
        (TenantId(2), Labels::from([("__name__", "latency"), ("job", "a")])),
        BTreeMap::from([
            (1, Sample::Float(0)),
            (2, Sample::Histogram(histogram(3))),
            (9, Sample::Histogram(histogram(4))),
        ]),
    );
    model
}

/// Everything that can be asked of a segment: all answers must be right or refused.
fn ask_everything(bytes: Vec<u8>, model: &Model) -> Result<(), Error> {
    let segment = Segment::open_bytes(bytes, Path::new("x"), BlockCache::new(1 << 20))?;
    assert_eq!(segment.meta().series, model.len() as u64);
    let mut first_error = None;
    let mut note = |error: Error| {
        first_error.get_or_insert(error);
    };
    for (series, ((tenant, labels), samples)) in model.iter().enumerate() {
        match segment.labels(series as u32) {
            Ok(found) => assert_eq!(&found, labels),
            Err(error) => note(error),
        }
        let mut found = Column::default();
        match segment.read(series as u32, TimeRange::ALL, &mut found) {
            Ok(()) => assert_eq!(plain(&found), plain(&column(samples, TimeRange::ALL))),
            Err(error) => {
                assert!(found.is_empty());
                note(error);
            }
        }
        match segment.select(*tenant, &[matcher(MatchOp::Regex, "job", "a|b")], TimeRange::ALL) {
            Ok(found) => assert_eq!(found.contains(&(series as u32)), labels.get("job").is_some()),
            Err(error) => note(error),
        }
        match segment.label_values(*tenant, "job", &[], TimeRange::ALL) {
            Ok(found) => assert!(labels.get("job").is_none_or(|job| found.contains(&job.to_owned()))),
            Err(error) => note(error),
        }
    }
    let verified = segment.verify();
    match first_error {
        Some(error) => {
            assert!(!verified.is_empty(), "verify missed {error}");
            Err(error)
        }
        None if verified.is_empty() => Ok(()),
        None => Err(Error::Damaged { path: "x".into(), at: verified[0].at, what: verified[0].what.clone() }),
    }
}

#[test]
fn every_flipped_bit_is_seen_and_no_answer_is_wrong() {
    let model = small();
    let bytes = bytes_of(&write(&model, header()));
    ask_everything(bytes.clone(), &model).unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let found = ask_everything(damaged, &model);
            assert!(found.is_err(), "bit {bit} of byte {at} of {} flipped unseen", bytes.len());
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let bytes = bytes_of(&write(&small(), header()));
    for len in 0..bytes.len() {
        let cut = bytes[..len].to_vec();
        assert!(Segment::open_bytes(cut, Path::new("x"), BlockCache::new(0)).is_err(), "cut to {len}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(Segment::open_bytes(longer, Path::new("x"), BlockCache::new(0)).is_err());
}

#[test]
fn damage_in_one_block_leaves_the_rest_served() {
    let mut model = Model::new();
    for i in 0..2000u64 {
        let labels = Labels::from([("__name__", "noise"), ("instance", &format!("{i:04}"))]);
        let samples = (0..40)
            .map(|t| (t * 1000, Sample::Float((i * 7919 + t as u64 * 104_729).wrapping_mul(0x9e37_79b9_7f4a_7c15))));
        model.insert((TenantId(0), labels), samples.collect());
    }
    let written = write(&model, header());
    let mut bytes = bytes_of(&written);
    let segment = open(&written);
    let blocks = segment.directory.blocks(layout::Section::Values).to_vec();
    assert!(blocks.len() > 4, "{}", blocks.len());
    bytes[blocks[1].at as usize + 100] ^= 4;
    let segment = Segment::open_bytes(bytes, Path::new("x"), BlockCache::new(1 << 20)).unwrap();
    let (mut served, mut refused) = (0, 0);
    for (series, samples) in model.values().enumerate() {
        let mut found = Column::default();
        match segment.read(series as u32, TimeRange::ALL, &mut found) {
            Ok(()) => {
                assert_eq!(plain(&found), plain(&column(samples, TimeRange::ALL)));
                served += 1;
            }
            Err(Error::Damaged { at, .. }) => {
                assert_eq!(at, blocks[1].at);
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 10 && refused * 3 < served, "{refused} refused, {served} served");
    assert_eq!(segment.verify().len(), 1);
}

/// A compaction once wrote all exemplars of a series into one block, however many; of more than a reader takes none could
/// be read again.
#[test]
fn a_series_with_many_exemplars_goes_on_in_the_next_block() {
    let labels = |name: &str| Labels::from([("__name__", name)]);
    let exemplar =
        |time: i64| Exemplar { labels: Labels::from([("trace_id", "x".repeat(100).as_str())]), time, value: 1.0 };
    let (dir, env) = (tempfile::tempdir().unwrap(), Env::os());
    let open = |path: &Path| Arc::new(Segment::open(&env, path, BlockCache::new(1 << 20)).unwrap());
    let write = |name: &str, times: std::ops::Range<i64>| {
        let path = dir.path().join(name);
        let mut writer = SegmentWriter::create(&env, &path, header()).unwrap();
        writer.add_exemplars(TenantId(1), &labels("a"), &[exemplar(7)]).unwrap();
        let many: Vec<Exemplar> = times.map(exemplar).collect();
        writer.add_exemplars(TenantId(1), &labels("b"), &many).unwrap();
        writer.add_exemplars(TenantId(1), &labels("c"), &[exemplar(7)]).unwrap();
        writer.finish().unwrap();
        open(&path)
    };
    let check = |segment: &Segment, times: std::ops::Range<i64>| {
        assert_eq!(segment.verify(), vec![]);
        let blocks = segment.directory.blocks(Section::Exemplars);
        assert!(blocks.len() > 2);
        assert!(blocks.iter().all(|block| segment.load(*block).unwrap().len() < 65 << 10));
        let mut found: BTreeMap<Labels, Vec<i64>> = BTreeMap::new();
        let mut add = |entry: Entry| {
            let times = entry.exemplars.iter().map(|exemplar| exemplar.time);
            found.entry(entry.labels).or_default().extend(times);
        };
        segment.exemplars(TenantId(1), &[vec![]], TimeRange::ALL, &mut add).unwrap();
        let expected = [("a", vec![7]), ("b", times.collect()), ("c", vec![7])];
        assert_eq!(found, expected.into_iter().map(|(name, times)| (labels(name), times)).collect());
    };
    let sources = [write("first", 0..2000), write("second", 1500..3000)];
    check(&sources[0], 0..2000);
    let target = Target { path: dir.path().join("merged"), header: header(), range: TimeRange::ALL };
    merge(&env, &sources, &|_| i64::MIN, std::slice::from_ref(&target)).unwrap();
    check(&open(&target.path), 0..3000);
}

#[test]
fn long_series_are_cut_in_even_chunks() {
    let samples: BTreeMap<i64, Sample> = (0..10_000).map(|i| (i * 1000, Sample::Float((i as f64).to_bits()))).collect();
    let model = Model::from([((TenantId(0), Labels::from([("__name__", "long")])), samples.clone())]);
    let segment = open(&write(&model, SegmentHeader { level: 1, ..header() }));
    let (row, chunks) = segment.chunk_rows(&mut ReadScratch::default(), 0).unwrap();
    assert_eq!(chunks.get(row).unwrap().len(), 3);
    for range in
        [TimeRange { min: 3_000_000, max: 3_500_000 }, TimeRange { min: 3_333_000, max: 3_334_000 }, TimeRange::ALL]
    {
        let mut found = Column::default();
        segment.read(0, range, &mut found).unwrap();
        assert_eq!(plain(&found), plain(&column(&samples, range)));
    }
}

#[test]
fn an_empty_segment_is_whole() {
    let segment = open(&write(&Model::new(), header()));
    assert_eq!(segment.verify(), vec![]);
    assert_eq!(segment.select(TenantId(0), &[], TimeRange::ALL).unwrap(), vec![]);
}

#[test]
#[should_panic(expected = "series ascend by labels")]
fn series_out_of_order_are_our_bug() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::create(&Env::os(), &dir.path().join("s"), header()).unwrap();
    let samples = Column { times: vec![1], values: vec![1.0], histograms: vec![], ..Column::default() };
    writer.add_series(TenantId(0), &Labels::from([("a", "2")]), &samples).unwrap();
    let _ = writer.add_series(TenantId(0), &Labels::from([("a", "1")]), &samples);
}

#[test]
fn readers_share_a_cache_that_is_too_small() {
    let model = small();
    let written = write(&model, header());
    let cache = BlockCache::new(0);
    let segment = Arc::new(Segment::open(&written.env, &written.path, cache.clone()).unwrap());
    for _ in 0..3 {
        for (series, samples) in model.values().enumerate() {
            let mut found = Column::default();
            segment.read(series as u32, TimeRange::ALL, &mut found).unwrap();
            assert_eq!(plain(&found), plain(&column(samples, TimeRange::ALL)));
        }
    }
    drop(segment);
    assert_eq!(cache.status().bytes, 0);
}

/// Asks everything and ignores the answers: for bytes that pass their checksums and still make no sense.
fn ask_carelessly(bytes: Vec<u8>) {
    let Ok(segment) = Segment::open_bytes(bytes, Path::new("x"), BlockCache::new(1 << 20)) else { return };
    let mut scratch = ReadScratch::default();
    for series in 0..segment.meta().series.min(8) as u32 {
        let _ = segment.labels_with(&mut scratch, series);
        let _ = segment.hash_with(&mut scratch, series);
        let _ = segment.samples_in(&mut scratch, series, TimeRange { min: 0, max: 20_000 });
        let _ = segment.read_with(&mut scratch, series, TimeRange::ALL, &mut Column::default());
        let _ = segment.read_with(&mut scratch, series, TimeRange { min: 1, max: 20_000 }, &mut Column::default());
    }
    for tenant in [TenantId(1), TenantId(2)] {
        let matchers = [matcher(MatchOp::Regex, "job", "a|b"), matcher(MatchOp::NotEqual, "x", "y")];
        let _ = segment.select(tenant, &matchers, TimeRange::ALL);
        let _ = segment.label_names(tenant, &matchers, TimeRange::ALL);
        let _ = segment.label_values(tenant, "job", &matchers, TimeRange::ALL);
    }
    let _ = segment.dump(&mut Vec::new());
    let _ = segment.verify();
}

/// Changes bytes of one block and makes its checksum hold again.
fn forge(bytes: &mut [u8], id: u64, at: usize, len: usize, changes: &[(proptest::sample::Index, u8)]) {
    let block = &mut bytes[at..at + len];
    for (place, value) in changes {
        let place = 12 + place.index(len - 12);
        block[place] = *value;
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.to_le_bytes());
    hasher.update(&(at as u64).to_le_bytes());
    hasher.update(&block[4..]);
    block[..4].copy_from_slice(&hasher.finalize().to_le_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Everything but the FST (see `terms.rs`).
    #[test]
    fn forged_blocks_never_panic(
        which: proptest::sample::Index,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), prop_oneof![any::<u8>(), 0u8..4, Just(0xff)]), 1..6),
    ) {
        static SMALL: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut bytes = SMALL.get_or_init(|| bytes_of(&write(&small(), header()))).clone();
        let segment = Segment::open_bytes(bytes.clone(), Path::new("x"), BlockCache::new(0)).unwrap();
        let mut blocks: Vec<(u64, usize, usize)> = layout::Section::ALL.into_iter()
            .filter(|section| *section != layout::Section::Terms)
            .flat_map(|section| segment.directory.blocks(section).to_vec())
            .map(|block| (7, block.at as usize, block.bytes as usize))
            .collect();
        let trailer = bytes.len() - 32;
        let directory = u64::from_le_bytes(layout::array(&bytes, trailer)) as usize;
        blocks.push((0, directory, trailer - directory));
        let (id, at, len) = blocks[which.index(blocks.len())];
        forge(&mut bytes, id, at, len, &changes);
        ask_carelessly(bytes);
    }
}

fn simulated(faults: varve_vfs::sim::Faults) -> (varve_vfs::sim::SimVfs, Env) {
    let disk = varve_vfs::sim::SimVfs::new(1);
    let clock = varve_vfs::sim::SimClock::new(varve_vfs::Nanos(0));
    let env = disk.env(&clock, 1);
    env.vfs.create_dir(Path::new("/d")).unwrap();
    env.vfs.sync_dir(Path::new("/")).unwrap();
    let before = disk.operations();
    disk.set_faults(faults.shifted(before));
    (disk, env)
}

/// Writes and reads back; an error of the disk must come out as an error.
fn write_and_read(env: &Env, model: &Model) -> Result<(), Error> {
    let path = Path::new("/d/7.seg");
    let mut writer = SegmentWriter::create(env, path, header())?;
    for ((tenant, labels), samples) in model {
        writer.add_series(*tenant, labels, &column(samples, TimeRange::ALL))?;
    }
    let meta = writer.finish()?;
    let segment = Segment::open(env, path, BlockCache::new(0))?;
    assert_eq!(segment.meta(), &meta);
    for (series, ((_, labels), samples)) in model.iter().enumerate() {
        assert_eq!(&segment.labels(series as u32)?, labels);
        let mut found = Column::default();
        segment.read(series as u32, TimeRange::ALL, &mut found)?;
        assert_eq!(plain(&found), plain(&column(samples, TimeRange::ALL)));
    }
    Ok(())
}

#[test]
fn every_operation_that_fails_is_told() {
    use varve_vfs::sim::{Fault, Faults};
    let model = small();
    let (disk, env) = simulated(Faults::none());
    let before = disk.operations();
    write_and_read(&env, &model).unwrap();
    let operations = disk.operations() - before;
    assert!(operations > 10, "{operations}");
    for operation in 0..operations {
        for fault in [Fault::Eio, Fault::SyncLost, Fault::Short(5), Fault::PowerCut] {
            let (_, env) = simulated(Faults::at(operation, fault));
            assert!(write_and_read(&env, &model).is_err(), "{fault:?} at {operation} of {operations}");
        }
    }
    let (disk, env) = simulated(Faults::none());
    disk.set_capacity(Some(300));
    assert!(matches!(write_and_read(&env, &model), Err(Error::Full { .. })));
}

#[test]
fn a_finished_segment_survives_a_power_cut() {
    let model = small();
    for seed in 0..50 {
        let (disk, env) = simulated(varve_vfs::sim::Faults::none());
        let path = Path::new("/d/7.seg");
        let mut writer = SegmentWriter::create(&env, path, header()).unwrap();
        for ((tenant, labels), samples) in &model {
            writer.add_series(*tenant, labels, &column(samples, TimeRange::ALL)).unwrap();
        }
        writer.finish().unwrap();
        env.vfs.sync_dir(Path::new("/d")).unwrap();
        let clock = varve_vfs::sim::SimClock::new(varve_vfs::Nanos(0));
        let env = disk.crash(seed).env(&clock, 1);
        let segment = Segment::open(&env, path, BlockCache::new(0)).unwrap();
        assert_eq!(segment.verify(), vec![]);
    }
}

/// Roaring 0.12's `next_many` yields nothing for a run of all 65 536 ids of a container; `select` once used it.
#[test]
fn more_series_than_a_bitmap_container_holds_are_selected() {
    let dir = tempfile::tempdir().unwrap();
    let (env, path) = (Env::os(), dir.path().join("s"));
    let mut writer = SegmentWriter::create(&env, &path, header()).unwrap();
    let samples = Column { times: vec![1], values: vec![1.0], histograms: vec![], ..Column::default() };
    let count = 140_000u32;
    for series in 0..count {
        let even = if series % 2 == 0 { "yes" } else { "no" };
        let labels = Labels::from([("__name__", "x"), ("a", &format!("{series:06}")), ("even", even)]);
        writer.add_series(TenantId(0), &labels, &samples).unwrap();
    }
    writer.finish().unwrap();
    let segment = Segment::open(&env, &path, BlockCache::new(1 << 20)).unwrap();
    let select = |matchers: &[Matcher]| segment.select(TenantId(0), matchers, TimeRange::ALL).unwrap();
    assert!(select(&[]).into_iter().eq(0..count));
    assert!(select(&[matcher(MatchOp::Equal, "__name__", "x")]).into_iter().eq(0..count));
    assert!(select(&[matcher(MatchOp::Regex, "a", "[0-9]+")]).into_iter().eq(0..count));
    assert!(select(&[matcher(MatchOp::Equal, "even", "yes")]).into_iter().eq((0..count).step_by(2)));
    assert!(select(&[matcher(MatchOp::NotEqual, "a", "000001")]).into_iter().eq([0].into_iter().chain(2..count)));
    let both = [matcher(MatchOp::Equal, "__name__", "x"), matcher(MatchOp::NotRegex, "even", "y.*")];
    assert!(select(&both).into_iter().eq((1..count).step_by(2)));
}
