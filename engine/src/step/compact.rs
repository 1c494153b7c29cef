//! Compact: segments become fewer and larger, window by window: two hours, a day, thirty days.
//!
//! Later wins by offset, so a merge may only take segments between whose offsets no other segment of the same times
//! lies; the result covers the offsets of all of them.
//!
//! Within a window the newest segments are merged first, and an older one joins while it is not much larger than all
//! that came after it together: so each sample is rewritten a few times only, also when late data trickles into an old
//! window.

use std::collections::BTreeMap;
use std::sync::Arc;

use varve_model::{Millis, TenantId, TimeRange};
use varve_vfs::Env;

use super::merge::{Target, merge_without};
use super::window::{WIDTHS_MS, window_of};
use super::{Change, Claim, discard, publish};
use crate::deletion::Hidden;
use crate::error::{Error, Result};
use crate::manifest::SegmentEntry;
use crate::open::{Layout, segment_name};
use crate::segment::{Segment, SegmentHeader, SegmentMeta};
use crate::state::{LiveSegment, Version};

/// Segments of an open two-hour window at which they are merged.
const OPEN_MIN: usize = 4;
/// An older segment joins while it is at most so many times as large as all newer ones of the run.
const SIZE_RATIO: u64 = 2;
/// A window is used only if retention is so many times its width: a segment goes when its newest sample does.
const WINDOWS_IN_RETENTION: i64 = 4;

/// Segments to be merged.
#[derive(Debug)]
pub(crate) struct Compaction {
    /// In order of offsets.
    pub(crate) sources: Vec<Arc<LiveSegment>>,
    pub(crate) level: u8,
}

/// The next merge in a partition.
pub(crate) fn plan(version: &Version, partition: u32, damaged: &[u64], retention_ms: i64) -> Option<Compaction> {
    let segments: Vec<&Arc<LiveSegment>> = version.of(partition).collect();
    let entries: Vec<&SegmentEntry> = segments.iter().map(|live| &live.entry).collect();
    let unreadable = version.unreadable.iter().filter(|entry| entry.partition == partition);
    let all: Vec<&SegmentEntry> = entries.iter().copied().chain(unreadable).collect();
    let usable = |entry: &SegmentEntry| !damaged.contains(&entry.id);
    let (run, level) = choose(&entries, &all, &usable, retention_ms)?;
    let sources = run.into_iter().filter_map(|at| segments.get(at).map(|live| Arc::clone(live))).collect();
    Some(Compaction { sources, level })
}

/// A segment in which deletions hide something, the oldest first.
pub(crate) fn plan_clean(version: &Version, partition: u32, damaged: &[u64]) -> Option<Arc<LiveSegment>> {
    let mut candidates = version.of(partition).filter(|live| !damaged.contains(&live.entry.id));
    candidates.find(|live| version.deletions.iter().any(|deletion| deletion.concerns(live))).cloned()
}

/// Chooses among `entries` (in order of offsets) a run to merge, by index, and the level of the result; `all` are those
/// that the order of offsets must be kept with.
fn choose(
    entries: &[&SegmentEntry],
    all: &[&SegmentEntry],
    usable: &dyn Fn(&SegmentEntry) -> bool,
    retention_ms: i64,
) -> Option<(Vec<usize>, u8)> {
    let newest = entries.iter().map(|entry| entry.range.max).max()?;
    for (class, width) in WIDTHS_MS.into_iter().enumerate() {
        if class > 0 && retention_ms > 0 && width.saturating_mul(WINDOWS_IN_RETENTION) > retention_ms {
            break;
        }
        let mut windows: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (at, entry) in entries.iter().enumerate() {
            let window = window_of(entry.range.min, width);
            if window == window_of(entry.range.max, width) && usable(entry) {
                windows.entry(window).or_default().push(at);
            }
        }
        for (window, members) in windows {
            let closed = window_of(newest, width) > window;
            let least = match (closed, class) {
                (true, _) => 2,
                (false, 0) => OPEN_MIN,
                (false, _) => continue,
            };
            if let Some(run) = run_of(&members, entries, all, least) {
                return Some((run, class as u8 + 1));
            }
        }
    }
    None
}

/// The newest run of at least `least` members that may and should be merged.
fn run_of(members: &[usize], entries: &[&SegmentEntry], all: &[&SegmentEntry], least: usize) -> Option<Vec<usize>> {
    let mut run: Vec<usize> = Vec::new();
    let mut bytes = 0u64;
    for &at in members.iter().rev() {
        let entry = entries.get(at)?;
        let mut longer = run.clone();
        longer.push(at);
        let grows = run.is_empty() || (entry.bytes <= bytes.saturating_mul(SIZE_RATIO) && may(&longer, entries, all));
        if !grows {
            if run.len() >= least {
                break;
            }
            run.clear();
            bytes = 0;
        }
        run.push(at);
        bytes = bytes.saturating_add(entry.bytes.max(1));
    }
    run.reverse();
    (run.len() >= least && may(&run, entries, all)).then_some(run)
}

/// Whether no segment outside the run has both times and offsets between those of the run.
fn may(run: &[usize], entries: &[&SegmentEntry], all: &[&SegmentEntry]) -> bool {
    let members: Vec<&SegmentEntry> = run.iter().filter_map(|&at| entries.get(at).copied()).collect();
    let Some(first) = members.iter().map(|entry| entry.first).min() else { return false };
    let Some(end) = members.iter().map(|entry| entry.end).max() else { return false };
    let range = members.iter().fold(TimeRange { min: Millis::MAX, max: Millis::MIN }, |range, entry| TimeRange {
        min: range.min.min(entry.range.min),
        max: range.max.max(entry.range.max),
    });
    all.iter().all(|other| {
        members.iter().any(|member| member.id == other.id)
            || !other.range.overlaps(&range)
            || other.end <= first
            || other.first >= end
    })
}

/// Merges.
pub(crate) fn run(env: &Env, claim: &Claim, compaction: Compaction) -> Result<Change> {
    rewrite(env, claim, compaction, "compact")
}

/// Writes a segment without what deletions hide in it; where they hide nothing it only says so.
pub(crate) fn clean(env: &Env, claim: &Claim, live: Arc<LiveSegment>) -> Result<Change> {
    let version = Arc::clone(&claim.inner.state.load().version);
    let hidden = Hidden::of(&version.deletions, &live);
    if let Err(error) = &hidden {
        note_damage(claim, &Compaction { sources: vec![Arc::clone(&live)], level: 0 }, error);
    }
    if hidden?.is_empty() {
        let entry = SegmentEntry { clean: clean_of(&version, std::slice::from_ref(&live)), ..live.entry.clone() };
        let same = LiveSegment { entry, path: live.path.clone(), segment: Arc::clone(&live.segment) };
        return Ok(Change { name: "clean", add: vec![Arc::new(same)], remove: Vec::new(), flushed: None });
    }
    let level = live.entry.level;
    rewrite(env, claim, Compaction { sources: vec![live], level }, "clean")
}

/// The offset below which all deletions have been applied to a segment that is made of `sources` now.
fn clean_of(version: &Version, sources: &[Arc<LiveSegment>]) -> u64 {
    let partition = sources.first().map(|live| live.entry.partition);
    let own = version.deletions.iter().filter(|deletion| Some(deletion.partition) == partition);
    let known = own.map(|deletion| deletion.offset.saturating_add(1));
    known.chain(sources.iter().map(|live| live.entry.clean)).max().unwrap_or(0)
}

fn rewrite(env: &Env, claim: &Claim, compaction: Compaction, name: &'static str) -> Result<Change> {
    let id = claim.inner.segment_id();
    let version = Arc::clone(&claim.inner.state.load().version);
    let clean = clean_of(&version, &compaction.sources);
    let written = write(env, claim, &compaction, &version, id);
    let published = written.and_then(|written| publish(env, &claim.inner, written.into_iter().collect(), Some(clean)));
    match published {
        Ok(add) => Ok(Change { name, add, remove: compaction.sources, flushed: None }),
        Err(error) => {
            let layout = Layout(&claim.inner.dir);
            discard(env, &layout.tmp().join(segment_name(id)));
            discard(env, &layout.segment(id));
            note_damage(claim, &compaction, &error);
            Err(error)
        }
    }
}

/// A source that turned out to be damaged stays as it is: what can be read of it is served, and it is not merged.
fn note_damage(claim: &Claim, compaction: &Compaction, error: &Error) {
    let Error::Damaged { path, .. } = error else { return };
    let mut shards = claim.inner.work.lock();
    let Some(work) = shards.get_mut(claim.partition as usize) else { return };
    work.damaged.extend(compaction.sources.iter().filter(|live| live.path == *path).map(|live| live.entry.id));
}

/// Writes the merged segment; `None` when nothing is left of its sources.
fn write(env: &Env, claim: &Claim, compaction: &Compaction, version: &Version, id: u64) -> Result<Option<SegmentMeta>> {
    let inner = &claim.inner;
    let hidden = compaction.sources.iter().map(|live| Hidden::of(&version.deletions, live));
    let hidden = hidden.collect::<Result<Vec<Hidden>>>()?;
    let sources: Vec<Arc<Segment>> = compaction.sources.iter().map(|live| Arc::clone(&live.segment)).collect();
    let entries = || compaction.sources.iter().map(|live| &live.entry);
    let header = SegmentHeader {
        id,
        partition: claim.partition,
        level: compaction.level,
        first: entries().map(|entry| entry.first).min().unwrap_or(0),
        last: entries().map(|entry| entry.end).max().unwrap_or(0),
    };
    let path = Layout(&inner.dir).tmp().join(segment_name(id));
    let target = Target { path, header, range: TimeRange::ALL };
    // What overwrites samples of a segment that stays may not go before them, however old it is.
    let stays = |entry: &&SegmentEntry| entries().all(|source| source.id != entry.id);
    let under = entries().flat_map(|source| version.under(source)).filter(stays);
    let free = under.map(|entry| entry.range.min).min().unwrap_or(Millis::MAX);
    let cut = |tenant: TenantId| {
        let horizon = inner.tenants.get(tenant).horizon(claim.now, inner.settings.retention_ms);
        horizon.unwrap_or(Millis::MIN).min(free)
    };
    let mut merged = merge_without(env, &sources, &hidden, &cut, &[target])?;
    Ok(merged.segments.pop().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn entry(id: u64, hours: (i64, i64), offsets: (u64, u64), bytes: u64) -> SegmentEntry {
        let range = TimeRange { min: hours.0 * HOUR, max: hours.1 * HOUR - 1 };
        let (first, end) = offsets;
        SegmentEntry { id, partition: 0, level: 0, range, first, end, series: 1, samples: 1, bytes, clean: end }
    }

    #[track_caller]
    fn check(entries: &[SegmentEntry], retention_hours: i64, expected: Option<&[u64]>) {
        let entries: Vec<&SegmentEntry> = entries.iter().collect();
        let chosen = choose(&entries, &entries, &|_| true, retention_hours * HOUR);
        let ids: Option<Vec<u64>> = chosen.map(|(run, _)| run.iter().map(|&at| entries[at].id).collect());
        assert_eq!(ids.as_deref(), expected);
    }

    #[test]
    fn an_open_window_waits_for_four() {
        let mut entries: Vec<SegmentEntry> = (0..3).map(|i| entry(i, (0, 1), (i * 10, i * 10 + 10), 100)).collect();
        check(&entries, 0, None);
        entries.push(entry(3, (0, 2), (30, 40), 100));
        check(&entries, 0, Some(&[0, 1, 2, 3]));
    }

    #[test]
    fn a_closed_window_becomes_one() {
        let entries = [entry(0, (0, 1), (0, 10), 100), entry(1, (0, 2), (10, 20), 90), entry(2, (2, 3), (20, 30), 50)];
        check(&entries, 0, Some(&[0, 1]));
    }

    #[test]
    fn a_trickle_does_not_rewrite_the_large() {
        let mut entries = vec![entry(0, (0, 2), (0, 10), 10_000), entry(1, (0, 1), (10, 20), 10)];
        entries.push(entry(9, (48, 49), (20, 30), 10));
        check(&entries, 0, None);
        entries.insert(2, entry(2, (1, 2), (15, 20), 10));
        check(&entries, 0, Some(&[1, 2]));
    }

    #[test]
    fn a_segment_between_is_never_jumped() {
        // A wide one of the second flush lies between the first and the third in offsets, and overlaps in time.
        let entries = [
            entry(0, (0, 2), (0, 10), 100),
            entry(1, (0, 700), (10, 20), 100),
            entry(2, (0, 2), (20, 30), 100),
            entry(3, (900, 901), (30, 40), 100),
        ];
        check(&entries, 48, None);
        // It may be merged where it fits.
        check(&entries, 0, Some(&[0, 1, 2]));
    }

    #[test]
    fn short_retention_keeps_windows_small() {
        let entries =
            [entry(0, (0, 2), (0, 10), 100), entry(1, (2, 4), (10, 20), 90), entry(2, (30, 31), (20, 30), 50)];
        check(&entries, 48, None);
        check(&entries, 0, Some(&[0, 1]));
    }
}
