//! Expire: which segments have no sample left that retention keeps, by age and by bytes.

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
    let mut gone: Vec<&Arc<LiveSegment>> = version.segments.iter().filter(|live| expired(live)).collect();
    if settings.retention_bytes > 0 {
        let mut left: u64 = version.segments.iter().map(|live| live.entry.bytes).sum();
        left = left.saturating_sub(gone.iter().map(|live| live.entry.bytes).sum());
        let mut kept: Vec<&Arc<LiveSegment>> = version.segments.iter().filter(|live| !expired(live)).collect();
        kept.sort_by_key(|live| (live.entry.range.max, live.entry.id));
        for live in kept {
            if left <= settings.retention_bytes {
                break;
            }
            left -= live.entry.bytes;
            gone.push(live);
        }
    }
    let partition = gone.iter().map(|live| live.entry.partition).find(|&partition| may(partition))?;
    Some((partition, gone.into_iter().filter(|live| live.entry.partition == partition).cloned().collect()))
}
