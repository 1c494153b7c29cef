//! Expire: which segments have no sample left that retention keeps, by age and by bytes.
//!
//! ```text
//! time        0 ............. horizon ............. 24 h
//! earlier     Y |------------------------------------|    the day, with values that X overwrote
//! later       X |---|                                     a correction: all of it is past its age
//! ```
//! Invariant: no segment goes before those that it is laid over, so a value that was overwritten never comes back. X
//! stays for as long as Y does, and Y for as long as what it is laid over itself: that may reach further through Y than
//! X does. The earliest of a pile waits for nothing but its age, so every segment goes in the end.
//!
//! Deletions need no such care: one hides in all segments that have not been cleaned of it, until the last of them goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use varve_model::{Millis, TenantId};

use crate::settings::EngineSettings;
use crate::state::{LiveSegment, Version};

/// The segments that go now, all of one partition, the oldest first. `horizon` gives the time before which a tenant's
/// samples are gone.
pub(crate) fn plan(
    version: &Version,
    settings: &EngineSettings,
    horizon: &dyn Fn(TenantId) -> Option<Millis>,
    may: &dyn Fn(u32) -> bool,
) -> Option<(u32, Vec<Arc<LiveSegment>>)> {
    let expired = |live: &LiveSegment| {
        let meta = live.segment.meta();
        let samples = meta.tenants.iter().map(|tenant| (tenant.tenant, tenant.range.max));
        let exemplars = meta.exemplars.iter().map(|about| (about.tenant, about.range.max));
        let mut newest = samples.chain(exemplars).peekable();
        newest.peek().is_some() && newest.all(|(tenant, max)| horizon(tenant).is_some_and(|horizon| max < horizon))
    };
    let mut gone: Vec<&Arc<LiveSegment>> = Vec::new();
    for live in version.segments.iter().filter(|live| expired(live)) {
        // They come in order of offsets: what it may be laid over has been seen.
        let mut under = version.under(&live.entry);
        if under.all(|below| gone.iter().any(|gone| gone.entry.id == below.id)) {
            gone.push(live);
        }
    }
    if settings.retention_bytes > 0 {
        let bytes = |of: &[&Arc<LiveSegment>]| of.iter().map(|live| live.entry.bytes).sum::<u64>();
        let all: u64 = version.segments.iter().map(|live| live.entry.bytes).sum();
        let mut left = all.saturating_sub(bytes(&gone));
        if left > settings.retention_bytes {
            for live in by_end(version) {
                if left <= settings.retention_bytes {
                    break;
                }
                if !gone.iter().any(|gone| gone.entry.id == live.entry.id) {
                    left -= live.entry.bytes;
                    gone.push(live);
                }
            }
        }
    }
    let partition = gone.iter().map(|live| live.entry.partition).find(|&partition| may(partition))?;
    Some((partition, gone.into_iter().filter(|live| live.entry.partition == partition).cloned().collect()))
}

/// All segments in the order in which they may go: by the newest time in the pile that each lies on, then by offsets.
fn by_end(version: &Version) -> Vec<&Arc<LiveSegment>> {
    let mut ends: BTreeMap<u64, Millis> = version.unreadable.iter().map(|entry| (entry.id, entry.range.max)).collect();
    let mut order = Vec::new();
    for live in &version.segments {
        let under = version.under(&live.entry).filter_map(|below| ends.get(&below.id).copied());
        let end = under.fold(live.entry.range.max, Millis::max);
        ends.insert(live.entry.id, end);
        order.push((end, live));
    }
    // Stable: of equal ones those of lower offsets stay first.
    order.sort_by_key(|(end, _)| *end);
    order.into_iter().map(|(_, live)| live).collect()
}
