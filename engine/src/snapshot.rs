//! Snapshot: what one query sees: the segments of one version and each shard's heads, consistent with each other.
//!
//! A series has parts: one a segment and one a head. Within a shard parts are in order of offsets, so that where a time
//! was written twice the later part wins; a series lives in one shard only.
//!
//! Invariants:
//! * Each label set is selected once, whatever the number of its parts.
//! * `read` yields ascending unique times; parts that do not overlap in time are only appended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashTable;
use roaring::RoaringBitmap;
use varve_model::limit::setting;
use varve_model::{Column, Exemplar, Labels, Matcher, Millis, SeriesHash, TenantId, TimeRange};

use crate::deletion::Hidden;
use crate::engine::Inner;
use crate::error::{Error, Result};
use crate::estimate::Estimate;
use crate::head::Head;
use crate::head::registry::{Known, Registry};
use crate::index::Texts;
use crate::segment::ReadScratch;
use crate::segment::exemplars::Entry;
use crate::state::{Heads, LiveSegment, State};
use crate::status::Cardinality;
use crate::step::merge::overlay;

/// A consistent view of heads and segments. What is written to a live head later becomes visible in it too, never
/// partly undone; what is flushed or compacted meanwhile stays readable.
#[derive(Clone, Debug)]
pub struct Snapshot {
    state: Arc<State>,
    registries: Arc<[Arc<Registry>]>,
    /// Who asks as the first of the two also sees the second.
    shared: Vec<(TenantId, TenantId)>,
}

/// Where a part of a series lies.
#[derive(Debug)]
enum Source {
    Segment(Arc<LiveSegment>, Hidden),
    Head(Arc<Head>),
}

/// The live series that match and have samples in a head around `range`: `None` when no head reaches into it,
/// `Some(None)` for all of them, which is the answer without matchers.
fn present(
    heads: &Heads,
    registry: &Registry,
    tenant: TenantId,
    matchers: &[Matcher],
    range: TimeRange,
) -> Option<Option<RoaringBitmap>> {
    let heads: Vec<&Arc<Head>> = heads.all().filter(|head| head.range().overlaps(&range)).collect();
    if heads.is_empty() {
        return None;
    }
    if matchers.is_empty() {
        return Some(None);
    }
    let known = registry.select(tenant, matchers);
    let ids: Vec<u32> = known.iter().map(|(id, _)| *id).collect();
    let mut found = RoaringBitmap::new();
    for head in heads {
        head.keep_present(&ids, range, |at| {
            if let Some((id, known)) = known.get(at)
                && known.born <= head.epoch
            {
                found.insert(*id);
            }
        });
    }
    Some(Some(found))
}

/// A sorted list in one allocation.
fn listed(sorted: &[String]) -> Arc<Texts> {
    Arc::new(Texts::from_sorted(sorted.iter().map(String::as_str)))
}

/// Series of one shard that are being selected.
struct Joining<'a> {
    selection: &'a mut Selection,
    /// Series by hash; numbers in `selection.series`, of this shard only.
    by_hash: HashTable<u32>,
    hashes: Vec<SeriesHash>,
    first: usize,
    series_max: u64,
}

impl Joining<'_> {
    /// The number of the series with this hash; a new one gets its labels.
    fn join(&mut self, hash: SeriesHash, labels: impl FnOnce() -> Result<Labels>) -> Result<u32> {
        let (hashes, first) = (&self.hashes, self.first);
        let at = |number: u32| hashes.get(number as usize - first).copied().unwrap_or_default();
        if let Some(&number) = self.by_hash.find(hash.low(), |&number| at(number) == hash) {
            return Ok(number);
        }
        let number = self.selection.series.len() as u32;
        if u64::from(number) >= self.series_max {
            return Err(Error::Limit {
                limit: "series of a query",
                max: self.series_max,
                got: u64::from(number) + 1,
                setting: setting::QUERY_SERIES_MAX,
            });
        }
        self.by_hash.insert_unique(hash.low(), number, |&number| at(number).low());
        self.hashes.push(hash);
        self.selection.series.push(Selected { labels: labels()?, parts: 0..0 });
        Ok(number)
    }

    fn part(&mut self, series: u32, id: u32) {
        let source = (self.selection.sources.len() - 1) as u32;
        self.selection.found.push((series, Part { source, id }));
    }
}

impl Snapshot {
    pub(crate) fn new(inner: &Inner) -> Snapshot {
        let registries = (0..inner.partitions).map(|partition| inner.registry(partition)).collect();
        Snapshot { state: inner.state.load(), registries, shared: Vec::new() }
    }

    /// The same view, in which `reader` also sees what `owner` has. Where both have a label set it is one series.
    pub fn sharing(self, reader: TenantId, owner: TenantId) -> Snapshot {
        let mut shared = self.shared;
        shared.push((reader, owner));
        Snapshot { shared, ..self }
    }

    /// Whose data a tenant sees.
    fn seen_by(&self, tenant: TenantId) -> impl Iterator<Item = TenantId> + Clone + use<> {
        let owners = self.shared.iter().filter(|(reader, _)| *reader == tenant).map(|(_, owner)| *owner);
        std::iter::once(tenant).chain(owners).collect::<Vec<TenantId>>().into_iter()
    }

    /// What deletions hide in a segment.
    fn hidden_in(&self, live: &LiveSegment) -> Result<Hidden> {
        let deletions = &self.state.version.deletions;
        if deletions.is_empty() { Ok(Hidden::default()) } else { Hidden::of(deletions, live) }
    }

    /// The series of a segment that match and that deletions leave something of in `range`; `None` when no deletion
    /// concerns the segment, which is the rule.
    fn left_in(
        &self,
        live: &LiveSegment,
        tenant: TenantId,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Option<RoaringBitmap>> {
        let hidden = self.hidden_in(live)?;
        if hidden.is_empty() {
            return Ok(None);
        }
        let seen = live.entry.range.intersection(&range);
        let ids = live.segment.select_ids(tenant, matchers, range)?;
        Ok(Some(ids.iter().filter(|id| !hidden.hides(*id, seen)).collect()))
    }

    /// The series that satisfy all matchers and have samples around `range`, each label set once.
    /// [`crate::Error::Limit`] when there are more than `series_max`.
    pub fn select(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        series_max: u64,
    ) -> Result<Selection> {
        let mut selection = Selection::default();
        for partition in 0..self.state.shards.len() {
            self.select_in(partition as u32, tenant, matchers, range, series_max, &mut selection)?;
        }
        selection.finish();
        Ok(selection)
    }

    fn select_in(
        &self,
        partition: u32,
        tenant: TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        series_max: u64,
        selection: &mut Selection,
    ) -> Result<()> {
        let (Some(heads), Some(registry)) =
            (self.state.shards.get(partition as usize), self.registries.get(partition as usize))
        else {
            return Ok(());
        };
        let heads: Vec<&Arc<Head>> = heads.all().filter(|head| head.range().overlaps(&range)).collect();
        // Live series first: their labels are shared, those of segments would have to be read.
        let tenants = self.seen_by(tenant);
        let known: Vec<_> = tenants.clone().flat_map(|tenant| registry.select(tenant, matchers)).collect();
        let ids: Vec<u32> = known.iter().map(|(id, _)| *id).collect();
        let mut present: Vec<Vec<usize>> = Vec::new();
        for head in &heads {
            let mut found = Vec::new();
            head.keep_present(&ids, range, |at| found.push(at));
            found.retain(|&at| known.get(at).is_some_and(|(_, known)| known.born <= head.epoch));
            present.push(found);
        }
        let first = selection.series.len();
        let mut joining = Joining { selection, by_hash: HashTable::new(), hashes: Vec::new(), first, series_max };
        let mut numbers: Vec<Option<u32>> = vec![None; known.len()];
        for found in &present {
            for &at in found {
                let (Some((_, known)), Some(number)) = (known.get(at), numbers.get_mut(at)) else { continue };
                if number.is_none() {
                    *number = Some(joining.join(known.hash, || Ok(known.labels.clone()))?);
                }
            }
        }
        let mut known_by_hash: HashTable<u32> = HashTable::new();
        let hash_of = |at: u32| known.get(at as usize).map(|(_, known)| known.hash).unwrap_or_default();
        // Parts in order of offsets: segments, frozen heads, the live head.
        for live in self.state.version.of(partition) {
            let segment = &live.segment;
            let mut ids = Vec::new();
            for tenant in tenants.clone() {
                ids.extend(segment.select(tenant, matchers, range)?);
            }
            let hidden = self.hidden_in(live)?;
            if !hidden.is_empty() {
                let seen = live.entry.range.intersection(&range);
                ids.retain(|id| !hidden.hides(*id, seen));
            }
            if !ids.is_empty() && known_by_hash.is_empty() {
                known_by_hash.reserve(known.len(), |&at| hash_of(at).low());
                for at in 0..known.len() as u32 {
                    known_by_hash.insert_unique(hash_of(at).low(), at, |&at| hash_of(at).low());
                }
            }
            if ids.is_empty() {
                continue;
            }
            joining.selection.sources.push(Source::Segment(Arc::clone(live), hidden));
            let mut scratch = ReadScratch::default();
            for id in ids {
                let hash = segment.hash_with(&mut scratch, id)?;
                let number = joining.join(hash, || {
                    let live = known_by_hash.find(hash.low(), |&at| hash_of(at) == hash);
                    match live.and_then(|&at| known.get(at as usize)) {
                        Some((_, known)) => Ok(known.labels.clone()),
                        None => segment.labels_with(&mut scratch, id),
                    }
                })?;
                joining.part(number, id);
            }
        }
        for (head, found) in heads.iter().zip(&present) {
            joining.selection.sources.push(Source::Head(Arc::clone(head)));
            for &at in found {
                if let (Some((id, _)), Some(Some(number))) = (known.get(at), numbers.get(at)) {
                    joining.part(*number, *id);
                }
            }
        }
        Ok(())
    }

    /// Names of labels of the series that match, sorted. Without matchers those of all live series count when a head
    /// has samples in `range`, as in Prometheus; with matchers those that have samples there.
    pub fn label_names(&self, tenant: TenantId, matchers: &[Matcher], range: TimeRange) -> Result<Arc<Texts>> {
        let mut lists = Vec::new();
        for (partition, (heads, registry)) in self.state.shards.iter().zip(self.registries.iter()).enumerate() {
            for tenant in self.seen_by(tenant) {
                for live in self.state.version.of(partition as u32) {
                    lists.push(if let Some(ids) = self.left_in(live, tenant, matchers, range)? {
                        listed(&live.segment.label_names_of(tenant, &ids)?)
                    } else if matchers.is_empty() {
                        live.segment.all_label_names(tenant, range)?
                    } else {
                        listed(&live.segment.label_names(tenant, matchers, range)?)
                    });
                }
                if let Some(ids) = present(heads, registry, tenant, matchers, range) {
                    lists.push(listed(&registry.label_names(tenant, ids.as_ref())));
                }
            }
        }
        Ok(Texts::union(lists))
    }

    /// Values of a label among the series that match, sorted; which live series count is told at
    /// [`Snapshot::label_names`].
    pub fn label_values(
        &self,
        tenant: TenantId,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Arc<Texts>> {
        let mut lists = Vec::new();
        for (partition, (heads, registry)) in self.state.shards.iter().zip(self.registries.iter()).enumerate() {
            for tenant in self.seen_by(tenant) {
                for live in self.state.version.of(partition as u32) {
                    lists.push(if let Some(ids) = self.left_in(live, tenant, matchers, range)? {
                        listed(&live.segment.label_values_of(tenant, name, &ids)?)
                    } else if matchers.is_empty() {
                        live.segment.all_label_values(tenant, name, range)?
                    } else {
                        listed(&live.segment.label_values(tenant, name, matchers, range)?)
                    });
                }
                if let Some(ids) = present(heads, registry, tenant, matchers, range) {
                    lists.push(registry.label_values(tenant, name, ids.as_ref()));
                }
            }
        }
        Ok(Texts::union(lists))
    }

    /// The exemplars in `range` of the tenant's series that satisfy all matchers of one of the `selectors`: series in
    /// order of labels, exemplars in order of time, then value, then labels, duplicates dropped.
    /// [`Error::Limit`] when there are more than `max`.
    pub fn exemplars(
        &self,
        tenant: TenantId,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        max: u64,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>> {
        let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        for (partition, (heads, registry)) in self.state.shards.iter().zip(self.registries.iter()).enumerate() {
            for tenant in self.seen_by(tenant) {
                let overlap = |live: &&Arc<LiveSegment>| live.entry.range.overlaps(&range);
                for live in self.state.version.of(partition as u32).filter(overlap) {
                    let hidden = self.hidden_in(live)?;
                    let mut add = |mut entry: Entry| {
                        hidden.cut_exemplars(tenant, &entry.labels, &mut entry.exemplars);
                        if !entry.exemplars.is_empty() {
                            found.entry(entry.labels).or_default().extend(entry.exemplars);
                        }
                    };
                    live.segment.exemplars(tenant, selectors, range, &mut add)?;
                }
                let heads: Vec<&Arc<Head>> = heads.all().filter(|head| head.exemplars.len() > 0).collect();
                if heads.is_empty() {
                    continue;
                }
                let known: BTreeMap<u32, Known> =
                    selectors.iter().flat_map(|matchers| registry.select(tenant, matchers)).collect();
                for (id, known) in &known {
                    for head in heads.iter().filter(|head| known.born <= head.epoch) {
                        let own = head.exemplars.read(*id, range);
                        if !own.is_empty() {
                            found.entry(known.labels.clone()).or_default().extend(own);
                        }
                    }
                }
            }
            let got = found.values().map(Vec::len).sum::<usize>() as u64;
            if got > max {
                let setting = setting::QUERY_EXEMPLARS_MAX;
                return Err(Error::Limit { limit: "exemplars of a query", max, got, setting });
            }
        }
        for exemplars in found.values_mut() {
            exemplars.sort_by(Exemplar::order);
            exemplars.dedup();
        }
        Ok(found.into_iter().collect())
    }

    /// Where a tenant's live series go, `top` entries a list.
    pub fn cardinality(&self, tenant: TenantId, top: usize) -> Result<Cardinality> {
        let mut pairs: BTreeMap<(String, String), u64> = BTreeMap::new();
        let mut cardinality = Cardinality::default();
        for registry in self.registries.iter() {
            cardinality.series += registry.series(tenant);
            registry.each_term(tenant, &mut |name, value, series| {
                *pairs.entry((name.to_owned(), value.to_owned())).or_default() += series;
            });
        }
        cardinality.label_pairs = pairs.len() as u64;
        let mut names: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for (name, value) in pairs.keys() {
            let entry = names.entry(name.clone()).or_default();
            entry.0 += 1;
            entry.1 += value.len() as u64;
        }
        cardinality.label_names = names.len() as u64;
        cardinality.values_by_label = biggest(names.iter().map(|(name, figures)| (name.clone(), figures.0)), top);
        cardinality.bytes_by_label = biggest(names.iter().map(|(name, figures)| (name.clone(), figures.1)), top);
        let metrics = pairs.iter().filter(|((name, _), _)| name == varve_model::labels::METRIC_NAME);
        cardinality.by_metric = biggest(metrics.map(|((_, value), series)| (value.clone(), *series)), top);
        let pairs = pairs.iter().map(|((name, value), series)| (format!("{name}={value}"), *series));
        cardinality.by_pair = biggest(pairs, top);
        Ok(cardinality)
    }
}

/// The biggest first; of one size in order of names.
fn biggest(figures: impl Iterator<Item = (String, u64)>, top: usize) -> Vec<(String, u64)> {
    let mut figures: Vec<(String, u64)> = figures.collect();
    figures.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    figures.truncate(top);
    figures
}

#[derive(Debug)]
struct Selected {
    labels: Labels,
    parts: std::ops::Range<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    source: u32,
    id: u32,
}

/// Selected series, by index.
#[derive(Debug, Default)]
pub struct Selection {
    series: Vec<Selected>,
    sources: Vec<Source>,
    /// By series, each series' in order of offsets.
    parts: Vec<Part>,
    /// Parts as they were found; empty once finished.
    found: Vec<(u32, Part)>,
    /// Memory of reads, lent to one reader each.
    scratch: Mutex<Vec<Scratch>>,
}

/// What a read works with.
#[derive(Debug, Default)]
struct Scratch {
    read: ReadScratch,
    later: Column,
    merged: Column,
}

impl Selection {
    /// Brings the parts in order of series.
    fn finish(&mut self) {
        let mut found = std::mem::take(&mut self.found);
        // Stable: each series' parts stay in order of offsets.
        found.sort_by_key(|(series, _)| *series);
        for (at, (series, _)) in found.iter().enumerate() {
            if let Some(selected) = self.series.get_mut(*series as usize) {
                if selected.parts.is_empty() {
                    selected.parts.start = at as u32;
                }
                selected.parts.end = at as u32 + 1;
            }
        }
        self.parts = found.into_iter().map(|(_, part)| part).collect();
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Labels of series `index`; empty when there is no such series.
    pub fn labels(&self, index: usize) -> Labels {
        self.series.get(index).map(|selected| selected.labels.clone()).unwrap_or_default()
    }

    fn parts(&self, index: usize) -> impl DoubleEndedIterator<Item = (&Source, u32)> {
        let range = self.series.get(index).map(|selected| selected.parts.clone()).unwrap_or_default();
        let parts = self.parts.get(range.start as usize..range.end as usize).unwrap_or_default();
        parts.iter().filter_map(|part| Some((self.sources.get(part.source as usize)?, part.id)))
    }

    /// Clears `column` and fills it with the samples of series `index` in `range`, the later write where one time was
    /// written twice.
    pub fn read(&self, index: usize, range: TimeRange, column: &mut Column) -> Result<()> {
        column.clear();
        let lent = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = lent.unwrap_or_default();
        scratch.later.clear();
        let result = self.read_parts(index, range, column, &mut scratch);
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        result
    }

    fn read_parts(&self, index: usize, range: TimeRange, column: &mut Column, scratch: &mut Scratch) -> Result<()> {
        for (number, (source, id)) in self.parts(index).enumerate() {
            let into = if number == 0 { &mut *column } else { &mut scratch.later };
            match source {
                Source::Segment(live, hidden) if live.entry.range.overlaps(&range) => {
                    live.segment.read_with(&mut scratch.read, id, range, into)?;
                    if !hidden.is_empty() {
                        hidden.cut(id, into);
                    }
                }
                Source::Segment(..) => {}
                Source::Head(head) => head.read(id, range, into),
            }
            if number > 0 {
                overlay(column, &mut scratch.later, &mut scratch.merged);
            }
        }
        Ok(())
    }

    /// What reading all series over `range` will touch. O(chunks), nothing is decoded.
    pub fn estimate(&self, range: TimeRange) -> Result<Estimate> {
        let mut estimate = Estimate { series: self.len() as u64, ..Estimate::default() };
        // A scratch a source: the parts of a series lie in different segments, those of neighbours side by side.
        let mut scratches: Vec<ReadScratch> = Vec::new();
        scratches.resize_with(self.sources.len(), ReadScratch::default);
        for part in &self.parts {
            match (self.sources.get(part.source as usize), scratches.get_mut(part.source as usize)) {
                (Some(Source::Segment(live, _)), Some(scratch)) if live.entry.range.overlaps(&range) => {
                    live.segment.estimate(scratch, part.id, range, &mut estimate)?;
                }
                (Some(Source::Head(head)), _) => head.estimate(part.id, range, &mut estimate),
                _ => {}
            }
        }
        Ok(estimate)
    }

    /// The newest float sample in `range` when it can be had without decoding; `None` when the caller must read.
    pub fn newest(&self, index: usize, range: TimeRange) -> Option<Option<(Millis, f64)>> {
        let mut parts = self.parts(index).rev();
        let (Source::Head(head), id) = parts.next()? else { return None };
        let (time, value) = head.newest(id)?;
        if !range.contains(time) {
            return None;
        }
        // An earlier part that reaches behind it would be newer.
        for (source, id) in parts {
            let newest = match source {
                Source::Segment(live, _) => live.entry.range.max,
                Source::Head(head) => head.newest(id)?.0,
            };
            if newest > time {
                return None;
            }
        }
        Some(Some((time, value)))
    }
}
