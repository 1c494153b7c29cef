//! Plan: which step next. A function of the state: flush before expire before compact before clean.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use varve_model::Millis;

use super::{Claim, Kind, Step, compact, expire};
use crate::engine::{Inner, ShardWork};
use crate::state::Version;

/// Deletions of a shard from which on segments are cleaned unasked: each is looked up in each segment that is read.
const DELETIONS_MAX: usize = 64;

/// The most urgent step of a shard that has none.
pub(crate) fn next(inner: &Arc<Inner>, now: Millis) -> Option<Step> {
    let state = inner.state.load();
    let mut shards = inner.work.lock();
    let free = |partition: u32, shards: &[ShardWork]| {
        shards
            .get(partition as usize)
            .is_some_and(|work| !work.busy && now >= work.not_before && work.stalled.is_none())
    };
    let stalled = shards.iter().position(|work| !work.busy && now >= work.not_before && work.stalled.is_some());
    if let Some(partition) = stalled
        && let Some(work) = shards.get_mut(partition)
    {
        work.busy = true;
        let mut claim = Claim::new(Arc::clone(inner), partition as u32, now);
        claim.tried = work.stalled.take();
        let name = claim.tried.as_ref().map_or("", |change| change.name);
        return Some(Step { kind: Kind::Again(name), claim });
    }
    // A shard whose change waits to be committed again has no other step.
    let mut chosen = None;
    let frozen = |partition: u32| {
        let heads = state.shards.get(partition as usize);
        heads.map(|heads| heads.frozen.as_slice()).unwrap_or_default()
    };
    if chosen.is_none() {
        // The one that holds most memory first.
        let waiting = (0..inner.partitions).filter(|&partition| free(partition, &shards));
        let waiting = waiting.filter(|&partition| !frozen(partition).is_empty());
        let bytes = |partition: u32| frozen(partition).iter().map(|frozen| frozen.head.bytes()).sum::<u64>();
        let fullest = waiting.max_by_key(|&partition| (bytes(partition), std::cmp::Reverse(partition)));
        chosen = fullest.and_then(|p| frozen(p).first().map(|frozen| (p, Kind::Flush(Arc::clone(frozen)))));
    }
    let horizon = |tenant| inner.tenants.get(tenant).horizon(now, inner.settings.retention_ms);
    if chosen.is_none() {
        let may = |partition: u32| free(partition, &shards);
        chosen = expire::plan(&state.version, &inner.settings, &horizon, &may).map(|(p, gone)| (p, Kind::Expire(gone)));
    }
    if chosen.is_none() {
        chosen = (0..inner.partitions).filter(|&p| free(p, &shards) && frozen(p).is_empty()).find_map(|partition| {
            let damaged = shards.get(partition as usize).map(|work| work.damaged.as_slice()).unwrap_or_default();
            let compaction = compact::plan(&state.version, partition, damaged, inner.settings.retention_ms)?;
            Some((partition, Kind::Compact(compaction)))
        });
    }
    if chosen.is_none() {
        chosen = clean(inner, &state.version, &shards, &|p| free(p, &shards) && frozen(p).is_empty());
    }
    let (partition, kind) = chosen?;
    if let Some(work) = shards.get_mut(partition as usize) {
        work.busy = true;
    }
    drop(shards);
    Some(Step { kind, claim: Claim::new(Arc::clone(inner), partition, now) })
}

/// The next segment to be cleaned: when that was asked for, or many deletions wait.
fn clean(inner: &Inner, version: &Version, shards: &[ShardWork], may: &dyn Fn(u32) -> bool) -> Option<(u32, Kind)> {
    if version.deletions.is_empty() {
        inner.work.cleaning.store(false, Ordering::Relaxed);
        return None;
    }
    let asked = inner.work.cleaning.load(Ordering::Relaxed);
    let many = |partition: u32| {
        asked || version.deletions.iter().filter(|deletion| deletion.partition == partition).count() > DELETIONS_MAX
    };
    (0..inner.partitions).filter(|&partition| may(partition) && many(partition)).find_map(|partition| {
        let damaged = shards.get(partition as usize).map(|work| work.damaged.as_slice()).unwrap_or_default();
        compact::plan_clean(version, partition, damaged).map(|live| (partition, Kind::Clean(live)))
    })
}
