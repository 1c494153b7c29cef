//! Step: one piece of background work: planned purely, run without locks, installed shortly.
//!
//! ```text
//! loop { engine.next_step(now) -> Step;  step.run(&env) -> Done;  engine.install(done) }
//! ```
//! * [`flush`]: a frozen head becomes segments.
//! * [`compact`]: segments become fewer and larger ones, with better codecs.
//! * [`expire`]: segments whose samples are too old, or too many, go.
//! * clean, in [`compact`]: one segment loses what deletions hide in it.
//!
//! Invariants:
//! * At most one step a shard: what it read is still there when it is installed.
//! * Durable in this order: segment file, its directory, manifest edit; only then it is visible and its sources go.
//! * A step that is dropped gives its shard back; it is planned again after a pause.

pub(crate) mod compact;
pub(crate) mod expire;
pub(crate) mod flush;
pub mod merge;
pub(crate) mod plan;
pub(crate) mod window;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use varve_model::Millis;
use varve_vfs::Env;

use crate::engine::Inner;
use crate::error::{Error, Result};
use crate::head::FrozenHead;
use crate::manifest::catalog::parts;
use crate::manifest::{Edit, SegmentEntry};
use crate::open::Layout;
use crate::segment::{Segment, SegmentMeta};
use crate::state::LiveSegment;

/// Pause after the first failure of a step; it doubles up to [`PAUSE_MS_MAX`].
const PAUSE_MS: i64 = 1000;
const PAUSE_MS_MAX: i64 = 60_000;

/// Work to do, from [`crate::Engine::next_step`].
#[derive(Debug)]
pub struct Step {
    pub(crate) kind: Kind,
    pub(crate) claim: Claim,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Flush(Arc<FrozenHead>),
    Compact(compact::Compaction),
    Expire(Vec<Arc<LiveSegment>>),
    Clean(Arc<LiveSegment>),
    /// A change whose commit failed: it is in the claim.
    Again(&'static str),
}

/// A shard's turn to have a step; given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) inner: Arc<Inner>,
    pub(crate) partition: u32,
    /// When the step was planned.
    pub(crate) now: Millis,
    /// A change whose commit was tried: it may be durable, so it is kept until it has been committed.
    pub(crate) tried: Option<Box<Change>>,
    /// Whether the step was installed.
    finished: bool,
}

impl Claim {
    pub(crate) fn new(inner: Arc<Inner>, partition: u32, now: Millis) -> Claim {
        Claim { inner, partition, now, tried: None, finished: false }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut shards = self.inner.work.lock();
        let Some(work) = shards.get_mut(self.partition as usize) else { return };
        work.busy = false;
        work.stalled = self.tried.take();
        if self.finished {
            work.failures = 0;
            work.not_before = Millis::MIN;
        } else {
            let pause = PAUSE_MS.saturating_shl(work.failures).min(PAUSE_MS_MAX);
            work.failures += 1;
            work.not_before = self.now.saturating_add(pause);
            self.inner.work.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

trait SaturatingShl {
    fn saturating_shl(self, by: u32) -> Self;
}

impl SaturatingShl for i64 {
    fn saturating_shl(self, by: u32) -> i64 {
        if by < self.leading_zeros() { self << by } else { i64::MAX }
    }
}

/// What a finished step changes.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) name: &'static str,
    pub(crate) add: Vec<Arc<LiveSegment>>,
    pub(crate) remove: Vec<Arc<LiveSegment>>,
    /// The frozen head that the added segments replace.
    pub(crate) flushed: Option<Arc<FrozenHead>>,
}

/// Work done, for [`crate::Engine::install`].
#[derive(Debug)]
pub struct Done {
    /// `None` when it is a change that was tried before.
    change: Option<Box<Change>>,
    claim: Claim,
}

impl Step {
    /// `flush`, `compact`, `expire` or `clean`.
    pub fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Flush(_) => "flush",
            Kind::Compact(_) => "compact",
            Kind::Expire(_) => "expire",
            Kind::Clean(_) => "clean",
            Kind::Again(name) => name,
        }
    }

    /// The shard whose step it is.
    pub fn partition(&self) -> u32 {
        self.claim.partition
    }

    /// Does the work: reads and writes files, holds no lock.
    pub fn run(self, env: &Env) -> Result<Done> {
        let Step { kind, claim } = self;
        let change = match kind {
            Kind::Flush(frozen) => Some(flush::run(env, &claim, frozen)?),
            Kind::Compact(compaction) => Some(compact::run(env, &claim, compaction)?),
            Kind::Expire(remove) => Some(Change { name: "expire", add: Vec::new(), remove, flushed: None }),
            Kind::Clean(live) => Some(compact::clean(env, &claim, live)?),
            Kind::Again(_) => None,
        };
        Ok(Done { change: change.map(Box::new), claim })
    }
}

impl Done {
    /// The step's name.
    pub fn name(&self) -> &'static str {
        self.change.as_ref().or(self.claim.tried.as_ref()).map_or("", |change| change.name)
    }

    pub(crate) fn install(self, inner: &Arc<Inner>) -> Result<()> {
        let Done { change, mut claim } = self;
        let Some(change) = change.or_else(|| claim.tried.take()) else { return Ok(()) };
        let partition = claim.partition;
        let applied = change.flushed.as_ref().map(|frozen| (partition, frozen.end));
        let mut edits: Vec<Edit> = change.add.iter().map(|live| Edit::Add(live.entry.clone())).collect();
        edits.extend(change.remove.iter().map(|live| Edit::Remove { id: live.entry.id }));
        let removed: Vec<u64> = change.remove.iter().map(|live| live.entry.id).collect();
        let idle = idle_deletions(inner, partition, &change, &removed);
        let mut manifest = inner.manifest();
        // Replay will not meet the records of these deletions any more.
        let mut deletions = Vec::new();
        let held = &manifest.catalog().deletions;
        for deletion in &inner.state.load().version.deletions {
            let behind = applied.is_some_and(|(_, offset)| deletion.offset < offset);
            let known = held.contains_key(&(partition, deletion.offset));
            if deletion.partition == partition && behind && !known && !idle.contains(&deletion.offset) {
                let (offset, tenant, spec) = (deletion.offset, deletion.tenant, deletion.spec.clone());
                deletions.push(Edit::Delete { partition, offset, tenant, spec });
            }
        }
        let known = idle.iter().filter(|offset| held.contains_key(&(partition, **offset)));
        edits.extend(known.map(|offset| Edit::Forget { partition, offset: *offset }));
        edits.extend(applied.map(|(partition, offset)| Edit::Applied { partition, offset }));
        // They may be many and long, so they go before: one that replay meets too is the same one.
        let records = parts(deletions).into_iter().chain([edits]);
        let committed = records.into_iter().try_for_each(|record| manifest.commit(&record, claim.now));
        drop(manifest);
        if let Err(error) = committed {
            // The edits may be durable all the same: the same ones are committed again before anything else.
            claim.tried = Some(change);
            return Err(error);
        }
        inner.state.change(|state| {
            let mut version = state.version.with(change.add.clone(), &removed, applied);
            version.deletions.retain(|d| d.partition != partition || !idle.contains(&d.offset));
            state.version = Arc::new(version);
            if let (Some(frozen), Some(heads)) = (&change.flushed, state.shards.get_mut(partition as usize)) {
                heads.frozen.retain(|other| !Arc::ptr_eq(other, frozen));
            }
        });
        // Readers that hold these files open read on; what cannot be removed is an orphan of the next opening.
        for live in &change.remove {
            let _ = inner.env.vfs.remove(&live.path);
        }
        if let Some(frozen) = &change.flushed {
            inner.release_log(partition, frozen.end, claim.now);
        }
        let work = &inner.work;
        let counter = match change.name {
            "flush" => &work.flushes,
            "compact" => &work.compactions,
            "clean" => &work.cleanings,
            _ => &work.expiries,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        claim.finished = true;
        Ok(())
    }
}

/// Deletions that nobody needs once a change is made.
fn idle_deletions(inner: &Inner, partition: u32, change: &Change, removed: &[u64]) -> Vec<u64> {
    let state = inner.state.load();
    if state.version.deletions.is_empty() {
        return Vec::new();
    }
    let next = state.version.with(change.add.clone(), removed, None);
    let heads = state.shards.get(partition as usize).map(|heads| heads.frozen.as_slice()).unwrap_or_default();
    let flushed = |frozen: &Arc<FrozenHead>| change.flushed.as_ref().is_some_and(|f| Arc::ptr_eq(f, frozen));
    let frozen: Vec<Arc<FrozenHead>> = heads.iter().filter(|frozen| !flushed(frozen)).cloned().collect();
    next.idle_deletions(partition, &frozen)
}

/// Moves finished segments from `tmp/` to `segments/`, durably, and opens them.
///
/// Deletions below the offset `clean` have been applied to them; without it those below their own end.
pub(crate) fn publish(
    env: &Env,
    inner: &Inner,
    written: Vec<SegmentMeta>,
    clean: Option<u64>,
) -> Result<Vec<Arc<LiveSegment>>> {
    let layout = Layout(&inner.dir);
    let mut live = Vec::with_capacity(written.len());
    for meta in &written {
        let from = layout.tmp().join(crate::open::segment_name(meta.header.id));
        let to = layout.segment(meta.header.id);
        env.vfs.rename(&from, &to).map_err(|error| Error::io("renaming", &from, error))?;
    }
    for dir in [layout.segments(), layout.tmp()] {
        env.vfs.sync_dir(&dir).map_err(|error| Error::io("syncing", &dir, error))?;
    }
    for meta in written {
        let path = layout.segment(meta.header.id);
        let segment = Arc::new(Segment::open(env, &path, Arc::clone(&inner.cache))?);
        let header = meta.header;
        let entry = SegmentEntry {
            id: header.id,
            partition: header.partition,
            level: header.level,
            range: meta.range,
            first: header.first,
            end: header.last,
            series: meta.series,
            samples: meta.samples,
            bytes: meta.bytes,
            clean: clean.unwrap_or(header.last),
        };
        live.push(Arc::new(LiveSegment { entry, path, segment }));
    }
    Ok(live)
}

/// Removes a file that a failed step leaves; if that fails too, the next opening does it.
pub(crate) fn discard(env: &Env, path: &Path) {
    let _ = env.vfs.remove(path);
}
