//! Merge: the series of several segments, one at a time, into one segment per window of time.
//!
//! ```text
//! sources, in order of offsets     A: a b c      B: b c d         same series (tenant, hash) met at the front of
//!                                     └──┴── next series ──┘      several: their columns laid over each other
//! targets, in order of time        ──[ window )[ window )──       each gets its part of the column
//! ```
//! Later wins: where two sources have a sample of one series at one time, that of the later source stays. Sources that
//! do not overlap in time, as flushes of one shard mostly do not, are appended to each other.
//!
//! Invariants:
//! * Every sample of a source that is not older than its tenant's cut, and that no deletion hides, is in exactly one
//!   target, or overwritten.
//! * Memory is one series of each source, the blocks around it, and the open blocks of each target's writer. Blocks of
//!   values that only the merge needs do not enter the cache of the queries.
//! * A damaged source ends the merge with its error: nothing is dropped by copying around damage.

use std::path::PathBuf;
use std::sync::Arc;

use varve_model::{Column, Exemplar, Histogram, Labels, Millis, SeriesHash, TenantId, TimeRange};
use varve_vfs::Env;

use crate::deletion::Hidden;
use crate::error::Result;
use crate::segment::exemplars::Entry;
use crate::segment::{ReadScratch, Segment, SegmentHeader, SegmentMeta, SegmentWriter};

/// A segment to write.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its file, which must not exist. It is created when the first sample for it comes.
    pub path: PathBuf,
    /// What it is.
    pub header: SegmentHeader,
    /// Samples of these times go into it.
    pub range: TimeRange,
}

/// What a merge did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Merged {
    /// Per target: its segment, written and synced; `None` when it got no sample and has no file.
    pub segments: Vec<Option<SegmentMeta>>,
    /// Samples in the sources that were not older than the cut.
    pub samples_read: u64,
    /// Samples written.
    pub samples_written: u64,
}

/// The next series of a source.
struct Cursor<'a> {
    segment: &'a Segment,
    scratch: ReadScratch,
    /// Index in the segment's tenants.
    tenant_index: usize,
    series: u32,
    /// `None` at the end.
    front: Option<Front>,
}

struct Front {
    tenant: TenantId,
    hash: SeriesHash,
    labels: Labels,
}

impl<'a> Cursor<'a> {
    fn new(segment: &'a Segment) -> Result<Cursor<'a>> {
        let mut cursor = Cursor { segment, scratch: ReadScratch::transient(), tenant_index: 0, series: 0, front: None };
        cursor.load()?;
        Ok(cursor)
    }

    fn load(&mut self) -> Result<()> {
        let tenants = &self.segment.meta().tenants;
        while tenants.get(self.tenant_index).is_some_and(|tenant| tenant.end_series() <= self.series) {
            self.tenant_index += 1;
        }
        self.front = match tenants.get(self.tenant_index) {
            None => None,
            Some(tenant) => Some(Front {
                tenant: tenant.tenant,
                hash: self.segment.hash_with(&mut self.scratch, self.series)?,
                labels: self.segment.labels_with(&mut self.scratch, self.series)?,
            }),
        };
        Ok(())
    }

    fn advance(&mut self) -> Result<()> {
        self.series += 1;
        self.load()
    }
}

/// Cursors whose front is the smallest series there is.
fn smallest(cursors: &[Cursor<'_>], found: &mut Vec<usize>) {
    found.clear();
    let mut least: Option<&Front> = None;
    for (index, cursor) in cursors.iter().enumerate() {
        let Some(front) = &cursor.front else { continue };
        let order = match least {
            None => std::cmp::Ordering::Less,
            // Equal hashes first: the common case is that all sources stand at the same series.
            Some(least) if (least.tenant, least.hash) == (front.tenant, front.hash) => std::cmp::Ordering::Equal,
            Some(least) => (front.tenant, &front.labels).cmp(&(least.tenant, &least.labels)),
        };
        if order.is_lt() {
            found.clear();
            least = Some(front);
        }
        if order.is_le() {
            found.push(index);
        }
    }
}

/// Merges `sources`, given in order of offsets so that later ones win, into `targets`, whose ranges follow each other
/// without a gap and hold all that is merged. Samples older than `cut` of their tenant are left out.
///
/// Files are written and synced; renaming them, and removing them after an error, is the caller's.
pub fn merge(
    env: &Env,
    sources: &[Arc<Segment>],
    cut: &dyn Fn(TenantId) -> Millis,
    targets: &[Target],
) -> Result<Merged> {
    merge_without(env, sources, &[], cut, targets)
}

/// As [`merge`], without what deletions hide, told for each source; nothing is hidden in those that are missing.
pub(crate) fn merge_without(
    env: &Env,
    sources: &[Arc<Segment>],
    hidden: &[Hidden],
    cut: &dyn Fn(TenantId) -> Millis,
    targets: &[Target],
) -> Result<Merged> {
    for pair in targets.windows(2) {
        if let [before, after] = pair {
            assert_eq!(before.range.max.checked_add(1), Some(after.range.min), "targets follow each other");
        }
    }
    let mut merged = Merged { segments: targets.iter().map(|_| None).collect(), ..Merged::default() };
    let mut writers: Vec<Option<SegmentWriter>> = targets.iter().map(|_| None).collect();
    let mut cursors = sources.iter().map(|segment| Cursor::new(segment)).collect::<Result<Vec<_>>>()?;
    let mut front = Vec::new();
    let (mut column, mut later, mut scratch, mut part) =
        (Column::default(), Column::default(), Column::default(), Column::default());
    loop {
        smallest(&cursors, &mut front);
        let Some((tenant, labels)) = front
            .first()
            .and_then(|&index| cursors.get(index)?.front.as_ref())
            .map(|front| (front.tenant, front.labels.clone()))
        else {
            break;
        };
        let kept = TimeRange { min: cut(tenant), max: Millis::MAX };
        column.clear();
        for &index in &front {
            let Some(cursor) = cursors.get_mut(index) else { continue };
            later.clear();
            cursor.segment.read_with(&mut cursor.scratch, cursor.series, kept, &mut later)?;
            merged.samples_read += later.len() as u64;
            if let Some(hidden) = hidden.get(index).filter(|hidden| !hidden.is_empty()) {
                hidden.cut(cursor.series, &mut later);
            }
            overlay(&mut column, &mut later, &mut scratch);
            cursor.advance()?;
        }
        let mut written = 0;
        for (target, writer) in targets.iter().zip(&mut writers) {
            let whole = split(&column, target.range, &mut part);
            let part = if whole { &column } else { &part };
            if part.is_empty() {
                continue;
            }
            let writer = match writer {
                Some(writer) => writer,
                None => writer.insert(SegmentWriter::create(env, &target.path, target.header)?),
            };
            writer.add_series(tenant, &labels, part)?;
            written += part.len();
            if whole {
                break;
            }
        }
        assert_eq!(written, column.len(), "every sample has its target");
        merged.samples_written += written as u64;
    }
    merge_exemplars(env, sources, hidden, cut, targets, &mut writers)?;
    for (writer, segment) in writers.into_iter().zip(&mut merged.segments) {
        if let Some(writer) = writer {
            *segment = Some(writer.finish()?);
        }
    }
    Ok(merged)
}

/// The next series with exemplars of a source.
struct ExemplarCursor<'a> {
    segment: &'a Segment,
    /// The block to read next.
    block: usize,
    entries: std::vec::IntoIter<Entry>,
    front: Option<Entry>,
}

impl ExemplarCursor<'_> {
    fn advance(&mut self) -> Result<()> {
        loop {
            self.front = self.entries.next();
            if self.front.is_some() {
                return Ok(());
            }
            let Some(entries) = self.segment.exemplar_block(self.block)? else { return Ok(()) };
            self.block += 1;
            self.entries = entries.into_iter();
        }
    }
}

/// Merges the exemplars of `sources` into the targets' writers; duplicates and those before the cut are left out.
fn merge_exemplars(
    env: &Env,
    sources: &[Arc<Segment>],
    hidden: &[Hidden],
    cut: &dyn Fn(TenantId) -> Millis,
    targets: &[Target],
    writers: &mut [Option<SegmentWriter>],
) -> Result<()> {
    let mut cursors = Vec::new();
    for segment in sources {
        let mut cursor = ExemplarCursor { segment, block: 0, entries: Vec::new().into_iter(), front: None };
        cursor.advance()?;
        cursors.push(cursor);
    }
    loop {
        let fronts = cursors.iter().filter_map(|cursor| cursor.front.as_ref());
        let Some((tenant, labels)) = fronts.map(|entry| (entry.tenant, &entry.labels)).min() else { return Ok(()) };
        let labels = labels.clone();
        let mut exemplars = Vec::new();
        for (index, cursor) in cursors.iter_mut().enumerate() {
            let same = |entry: &&mut Entry| (entry.tenant, &entry.labels) == (tenant, &labels);
            // One with many exemplars comes in parts.
            while let Some(entry) = cursor.front.as_mut().filter(same) {
                if let Some(hidden) = hidden.get(index) {
                    hidden.cut_exemplars(tenant, &labels, &mut entry.exemplars);
                }
                exemplars.append(&mut entry.exemplars);
                cursor.advance()?;
            }
        }
        exemplars.retain(|exemplar| exemplar.time >= cut(tenant));
        exemplars.sort_by(Exemplar::order);
        exemplars.dedup();
        for (target, writer) in targets.iter().zip(writers.iter_mut()) {
            let begin = exemplars.partition_point(|exemplar| exemplar.time < target.range.min);
            let end = exemplars.partition_point(|exemplar| exemplar.time <= target.range.max);
            let Some(own) = exemplars.get(begin..end).filter(|own| !own.is_empty()) else { continue };
            let writer = match writer {
                Some(writer) => writer,
                None => writer.insert(SegmentWriter::create(env, &target.path, target.header)?),
            };
            writer.add_exemplars(tenant, &labels, own)?;
        }
    }
}

/// Whether all of `column` lies in `range`; if not, `part` becomes what does.
fn split(column: &Column, range: TimeRange, part: &mut Column) -> bool {
    let begin = column.times.partition_point(|&time| time < range.min);
    let end = column.times.partition_point(|&time| time <= range.max);
    let histograms_begin = column.histograms.partition_point(|(time, _)| *time < range.min);
    let histograms_end = column.histograms.partition_point(|(time, _)| *time <= range.max);
    if end - begin == column.times.len() && histograms_end - histograms_begin == column.histograms.len() {
        return true;
    }
    part.clear();
    part.times.extend_from_slice(column.times.get(begin..end).unwrap_or_default());
    part.values.extend_from_slice(column.values.get(begin..end).unwrap_or_default());
    part.histograms.extend_from_slice(column.histograms.get(histograms_begin..histograms_end).unwrap_or_default());
    // Empty where there is none.
    part.starts.extend_from_slice(column.starts.get(begin..end).unwrap_or_default());
    let starts = column.histogram_starts.get(histograms_begin..histograms_end).unwrap_or_default();
    part.histogram_starts.extend_from_slice(starts);
    part.align_starts();
    false
}

/// Lays `later` over `base`: at a time that both have, the sample of `later` stays, whatever the kinds. `later` is
/// emptied; `scratch` is memory to work in. Linear; appending when `later` begins behind the end of `base`.
pub fn overlay(base: &mut Column, later: &mut Column, scratch: &mut Column) {
    let starts = Starts::of_overlay(base, later);
    // A time of one kind in `later` removes the other kind's sample at that time.
    if !later.histograms.is_empty() && !base.times.is_empty() {
        let gone = |time: &Millis| later.histograms.binary_search_by_key(time, |(time, _)| *time).is_ok();
        let mut keep = base.times.iter().map(|time| !gone(time)).collect::<Vec<_>>().into_iter();
        base.values.retain(|_| keep.next().unwrap_or(true));
        base.times.retain(|time| !gone(time));
    }
    if !base.histograms.is_empty() && !later.times.is_empty() {
        base.histograms.retain(|(time, _)| later.times.binary_search(time).is_err());
    }
    overlay_floats(base, later, scratch);
    overlay_histograms(&mut base.histograms, &mut later.histograms, &mut scratch.histograms);
    later.clear();
    if let Some(starts) = starts {
        assert_eq!((starts.floats.len(), starts.histograms.len()), (base.times.len(), base.histograms.len()));
        (base.starts, base.histogram_starts) = (starts.floats, starts.histograms);
        base.align_starts();
    }
}

/// The start timestamps of what an overlay yields: found beside it, for hardly any series has them.
struct Starts {
    floats: Vec<Millis>,
    histograms: Vec<Millis>,
}

impl Starts {
    /// `None` when neither column has any.
    fn of_overlay(base: &Column, later: &Column) -> Option<Starts> {
        let none = |column: &Column| column.starts.is_empty() && column.histogram_starts.is_empty();
        if none(base) && none(later) {
            return None;
        }
        // Of the base stays what has no sample of either kind at its time in `later`.
        let gone = |time: Millis| {
            later.times.binary_search(&time).is_ok()
                || later.histograms.binary_search_by_key(&time, |(time, _)| *time).is_ok()
        };
        let merged = |base: &mut dyn Iterator<Item = (Millis, Millis)>,
                      later: &mut dyn Iterator<Item = (Millis, Millis)>| {
            let mut all: Vec<(Millis, Millis)> = base.filter(|(time, _)| !gone(*time)).chain(later).collect();
            // Two ascending runs: the stable sort merges them.
            all.sort_by_key(|(time, _)| *time);
            all.into_iter().map(|(_, start)| start).collect::<Vec<Millis>>()
        };
        let floats = |column: &Column| -> Vec<(Millis, Millis)> {
            column.times.iter().enumerate().map(|(at, time)| (*time, column.start(at))).collect()
        };
        let histograms = |column: &Column| -> Vec<(Millis, Millis)> {
            column.histograms.iter().enumerate().map(|(at, (time, _))| (*time, column.histogram_start(at))).collect()
        };
        Some(Starts {
            floats: merged(&mut floats(base).into_iter(), &mut floats(later).into_iter()),
            histograms: merged(&mut histograms(base).into_iter(), &mut histograms(later).into_iter()),
        })
    }
}

fn overlay_floats(base: &mut Column, later: &Column, scratch: &mut Column) {
    let Some(&first) = later.times.first() else { return };
    let shared = base.times.partition_point(|&time| time < first);
    if shared == base.times.len() {
        base.times.extend_from_slice(&later.times);
        base.values.extend_from_slice(&later.values);
        return;
    }
    // Only what lies behind the first time of `later` moves.
    scratch.times.clear();
    scratch.values.clear();
    scratch.times.extend(base.times.drain(shared..));
    scratch.values.extend(base.values.drain(shared..));
    let mut old = scratch.times.iter().copied().zip(scratch.values.iter().copied()).peekable();
    for (&time, &value) in later.times.iter().zip(&later.values) {
        while let Some((old_time, old_value)) = old.next_if(|&(old_time, _)| old_time <= time) {
            if old_time < time {
                base.times.push(old_time);
                base.values.push(old_value);
            }
        }
        base.times.push(time);
        base.values.push(value);
    }
    for (time, value) in old {
        base.times.push(time);
        base.values.push(value);
    }
}

type Histograms = Vec<(Millis, Histogram)>;

fn overlay_histograms(base: &mut Histograms, later: &mut Histograms, scratch: &mut Histograms) {
    let Some((first, _)) = later.first() else { return };
    let shared = base.partition_point(|(time, _)| time < first);
    scratch.clear();
    scratch.extend(base.drain(shared..));
    let mut old = scratch.drain(..).peekable();
    for (time, histogram) in later.drain(..) {
        while let Some(sample) = old.next_if(|(old_time, _)| *old_time <= time) {
            if sample.0 < time {
                base.push(sample);
            }
        }
        base.push((time, histogram));
    }
    base.extend(old);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::segment::BlockCache;

    type Samples = BTreeMap<i64, Option<u64>>;
    type Model = BTreeMap<(TenantId, Labels), Samples>;

    /// `None` stands for a histogram whose sum is its time.
    fn column(samples: &Samples, range: TimeRange) -> Column {
        let mut column = Column::default();
        for (&time, sample) in samples.iter().filter(|(time, _)| range.contains(**time)) {
            match sample {
                Some(bits) => {
                    column.times.push(time);
                    column.values.push(f64::from_bits(*bits));
                    // A start that only its sample has, or none.
                    column.starts.push(if bits % 3 == 0 { (bits % 1000) as i64 } else { 0 });
                }
                None => {
                    column.histograms.push((time, Histogram { sum: time as f64, ..Histogram::default() }));
                    column.histogram_starts.push(if time % 3 == 0 { time - 5 } else { 0 });
                }
            }
        }
        column.align_starts();
        column
    }

    type Plain = (Vec<i64>, Vec<u64>, Vec<(i64, Histogram)>, Vec<i64>, Vec<i64>);

    fn plain(column: &Column) -> Plain {
        let bits = column.values.iter().map(|value| value.to_bits()).collect();
        let starts = (column.starts.clone(), column.histogram_starts.clone());
        (column.times.clone(), bits, column.histograms.clone(), starts.0, starts.1)
    }

    fn samples() -> impl Strategy<Value = Samples> {
        prop_oneof![
            proptest::collection::btree_map(0i64..60, proptest::option::weighted(0.8, any::<u64>()), 0..20),
            (0i64..500, 1i64..50, any::<u64>())
                .prop_map(|(first, count, value)| (first..first + count).map(|time| (time, Some(value))).collect()),
        ]
    }

    fn model() -> impl Strategy<Value = Model> {
        let labels = ("[ab]{1,2}", "[xy]{0,2}").prop_map(|(a, b)| Labels::from([("__name__", &*a), ("job", &*b)]));
        proptest::collection::btree_map((0u32..3, labels), samples(), 0..12).prop_map(|model| {
            model.into_iter().map(|((tenant, labels), samples)| ((TenantId(tenant), labels), samples)).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_column_laid_over_another_wins(base in samples(), later in samples()) {
            let mut found = column(&base, TimeRange::ALL);
            overlay(&mut found, &mut column(&later, TimeRange::ALL), &mut Column::default());
            let mut expected = base;
            expected.extend(later);
            prop_assert_eq!(plain(&found), plain(&column(&expected, TimeRange::ALL)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn merging_equals_a_map_written_in_order(
            models in proptest::collection::vec(model(), 1..5),
            borders in proptest::collection::btree_set(1i64..400, 0..3),
            cuts in proptest::collection::vec(0i64..60, 3),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let env = Env::os();
            let cache = BlockCache::new(1 << 16);
            let mut expected = Model::new();
            let mut sources = Vec::new();
            for (id, model) in models.iter().enumerate() {
                let path = dir.path().join(format!("source-{id}"));
                let header = SegmentHeader { id: id as u64, ..SegmentHeader::default() };
                let mut writer = SegmentWriter::create(&env, &path, header).unwrap();
                for ((tenant, labels), samples) in model {
                    writer.add_series(*tenant, labels, &column(samples, TimeRange::ALL)).unwrap();
                    expected.entry((*tenant, labels.clone())).or_default().extend(samples.clone());
                }
                writer.finish().unwrap();
                sources.push(Arc::new(Segment::open(&env, &path, cache.clone()).unwrap()));
            }
            let mut targets = Vec::new();
            let mut min = i64::MIN;
            for (id, max) in borders.into_iter().map(|border| border - 1).chain([i64::MAX]).enumerate() {
                let header = SegmentHeader { id: 100 + id as u64, level: 1, ..SegmentHeader::default() };
                targets.push(Target { path: dir.path().join(format!("target-{id}")), header, range: TimeRange { min, max } });
                min = max.wrapping_add(1);
            }
            let cut = |tenant: TenantId| cuts[tenant.0 as usize];
            let merged = merge(&env, &sources, &cut, &targets).unwrap();
            let mut samples = 0;
            for (target, meta) in targets.iter().zip(&merged.segments) {
                let mut wanted: Vec<_> = expected.iter().map(|((tenant, labels), samples)| {
                    let range = TimeRange { min: target.range.min.max(cut(*tenant)), max: target.range.max };
                    (*tenant, labels, column(samples, range))
                }).filter(|(_, _, column)| !column.is_empty()).collect();
                match meta {
                    None => prop_assert!(wanted.is_empty()),
                    Some(meta) => {
                        let segment = Segment::open(&env, &target.path, cache.clone()).unwrap();
                        prop_assert_eq!(segment.meta(), meta);
                        prop_assert_eq!(segment.verify(), vec![]);
                        prop_assert_eq!(meta.series, wanted.len() as u64);
                        for (series, (_, labels, wanted)) in wanted.drain(..).enumerate() {
                            prop_assert_eq!(&segment.labels(series as u32).unwrap(), labels);
                            let mut found = Column::default();
                            segment.read(series as u32, TimeRange::ALL, &mut found).unwrap();
                            samples += found.len() as u64;
                            prop_assert_eq!(plain(&found), plain(&wanted));
                        }
                    }
                }
            }
            prop_assert_eq!(merged.samples_written, samples);
        }
    }
}
