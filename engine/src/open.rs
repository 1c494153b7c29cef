//! Opening a data directory: lock, log, manifest, segments, replay.
//!
//! Order matters: nothing is deleted before the manifest is read, and segments that it does not name are deleted only
//! when it was read without damage; otherwise they go to the quarantine. What is damaged is reported, wherever it is met:
//! by the log when it opens, by the manifest, by segments, by replay.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use varve_model::{Limits, Millis};
use varve_vfs::{Env, Lock};
use varve_wal::{Log, LogSettings, Offset, PartitionId, TopicName, TopicSettings};

use crate::deletion::Deletion;
use crate::engine::{Inner, Parts, TOPIC};
use crate::error::{Error, Result};
use crate::head::Head;
use crate::manifest::store::CONSUMER;
use crate::manifest::{self, Edit, SegmentEntry, Store};
use crate::segment::{BlockCache, Segment};
use crate::settings::EngineSettings;
use crate::shard::Shard;
use crate::state::{Heads, LiveSegment, State, Version};
use crate::status::Recovery;
use crate::tenants::Tenants;

/// Bytes of a log file of the manifest; less when those of the topic are smaller.
const MANIFEST_FILE_BYTES: u64 = 1 << 20;

/// Where things lie in a data directory.
pub(crate) struct Layout<'a>(pub(crate) &'a Path);

impl Layout<'_> {
    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("LOCK")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    pub(crate) fn segments(&self) -> PathBuf {
        self.0.join("segments")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.0.join("tmp")
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.0.join("quarantine")
    }

    pub(crate) fn segment(&self, id: u64) -> PathBuf {
        self.segments().join(segment_name(id))
    }
}

pub(crate) fn segment_name(id: u64) -> String {
    format!("{id:010}.seg")
}

/// The id in a segment's file name.
fn segment_id(name: &str) -> Option<u64> {
    name.strip_suffix(".seg")?.parse().ok()
}

pub(crate) fn lock(env: &Env, dir: &Path) -> Result<Box<dyn Lock>> {
    let path = Layout(dir).lock();
    env.vfs.lock(&path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            let text = error.to_string();
            let pid = text.rsplit(' ').next().and_then(|word| word.parse().ok());
            Error::Locked { path: dir.to_owned(), pid }
        }
        _ => Error::io("locking", &path, error),
    })
}

pub(crate) fn open(
    env: Env,
    dir: &Path,
    settings: EngineSettings,
    limits: Limits,
) -> Result<(Arc<Inner>, Vec<Shard>, Recovery)> {
    settings.check()?;
    let started = env.clock.elapsed();
    let layout = Layout(dir);
    for dir in [dir, &layout.log(), &layout.segments(), &layout.tmp(), &layout.quarantine()] {
        env.vfs.create_dir(dir).map_err(|error| Error::io("creating", dir, error))?;
    }
    let lock = lock(&env, dir)?;
    // The directory's own name lies in its parent.
    let parent = dir.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    for dir in [Some(dir), parent].into_iter().flatten() {
        env.vfs.sync_dir(dir).map_err(|error| Error::io("syncing", dir, error))?;
    }
    let mut recovery = Recovery::default();

    let (log, found) = Log::open(env.clone(), &layout.log(), LogSettings::default())?;
    recovery.reports.extend(found.torn.iter().map(|torn| {
        format!("{}: an unfinished write at byte {} was cut; it was never acknowledged", torn.path.display(), torn.at)
    }));
    recovery.reports.extend(found.damaged.iter().map(ToString::to_string));
    let topic = TopicName::new(manifest::store::TOPIC)?;
    let manifest_damaged =
        found.damaged.iter().any(|damage| damage.path.starts_with(layout.log().join(topic.as_str())));
    let reports_before = recovery.reports.len();
    let mut manifest = Store::open(&log, manifest_file_bytes(&settings), &mut recovery.reports)?;
    let segments = env.vfs.list(&layout.segments()).map_err(|error| Error::io("listing", &layout.segments(), error))?;
    if manifest.catalog().partitions == 0 && segments.iter().any(|name| segment_id(name).is_some()) {
        // The number of partitions is its first edit, before any segment.
        recovery.reports.push("the manifest is lost: there are segments, but not one edit".to_owned());
    }
    let manifest_damaged = manifest_damaged || recovery.reports.len() > reports_before;

    let now = env.clock.wall().0.div_euclid(1_000_000);
    let topic = TopicName::new(TOPIC)?;
    let partitions = make(&log, &topic, &settings, &mut manifest, now)?;
    let cache = BlockCache::new(settings.block_cache_bytes);
    let catalog = manifest.catalog().clone();
    let tenants = Tenants::default();
    for (id, name) in &catalog.tenants {
        tenants.insert(*id, name.clone());
    }
    let swept = sweep(&env, &layout, &catalog.segments, manifest_damaged, &mut recovery)?;
    let mut version = Version { applied: catalog.applied.clone(), ..Version::default() };
    let mut lost = Vec::new();
    for entry in catalog.segments.values() {
        match open_segment(&env, &layout, entry, &cache, &mut recovery)? {
            Opened::Live(live) => version.segments.push(live),
            Opened::Later => version.unreadable.push(entry.clone()),
            Opened::Gone => lost.push(Edit::Remove { id: entry.id }),
        }
    }
    let quarantined = lost.len() as u64 + swept.set_aside;
    if !lost.is_empty()
        && let Err(error) = manifest.commit(&lost, now)
    {
        recovery.reports.push(format!("the lost segments are still in the manifest: {error}"));
    }
    let mut version = version.with(Vec::new(), &[], None);
    for ((partition, offset), (tenant, spec)) in &catalog.deletions {
        version = version.with_deletion(Arc::new(Deletion::new(*partition, *offset, *tenant, spec.clone())));
    }
    for live in &version.segments {
        for tenant in &live.segment.meta().tenants {
            tenants.get(tenant.tenant).saw(tenant.range.max);
        }
        for about in &live.segment.meta().exemplars {
            tenants.get(about.tenant).saw_exemplar(about.range.max);
        }
    }
    recovery.segments = version.segments.len() as u64;

    let heads = (0..partitions).map(|partition| {
        let first = version.applied.get(&partition).copied().unwrap_or(0);
        Heads { live: Arc::new(Head::new(1, first)), frozen: Vec::new() }
    });
    let state = State { shards: heads.collect(), version: Arc::new(version) };
    let inner = Arc::new(Inner::new(Parts {
        env,
        dir: dir.to_owned(),
        settings,
        limits,
        log,
        topic,
        manifest,
        state,
        tenants,
        cache,
        next_segment: swept.next_segment,
        quarantined,
        lock,
    }));
    let shards = replay(&inner, now, &mut recovery)?;
    // Sealed files are read by cursors only, so their damage is met after the log was opened.
    let met = inner.log.damage().into_iter().skip(found.damaged.len());
    recovery.reports.extend(met.map(|damage| damage.to_string()));
    recovery.elapsed_ms = (inner.env.clock.elapsed().saturating_sub(started)).as_millis() as u64;
    Ok((inner, shards, recovery))
}

pub(crate) fn manifest_file_bytes(settings: &EngineSettings) -> u64 {
    (settings.log_file_bytes / 8 * 8).min(MANIFEST_FILE_BYTES)
}

/// Makes the topic and the directory's one setting, or finds them. Returns the number of partitions.
pub(crate) fn make(
    log: &Log,
    topic: &TopicName,
    settings: &EngineSettings,
    manifest: &mut Store,
    now: Millis,
) -> Result<u32> {
    // The topic is made before the manifest says so: if it is there, its number counts.
    let there = log.topics().into_iter().find(|info| info.name == *topic).map(|info| info.settings.partitions);
    let partitions = match (manifest.catalog().partitions, there) {
        (0, Some(there)) => there,
        (0, None) => settings.partitions,
        (made, _) => made,
    };
    let topic_settings = TopicSettings {
        partitions,
        log_file_bytes: settings.log_file_bytes / 8 * 8,
        retention_ms: Some(settings.log_retention_ms.unsigned_abs()),
        ..TopicSettings::default()
    };
    log.create_topic(topic, topic_settings)?;
    if manifest.catalog().partitions == 0 {
        manifest.commit(&[Edit::Directory { partitions }], now)?;
    }
    Ok(partitions)
}

/// What sweeping did.
struct Swept {
    /// An id above all that occur.
    next_segment: u64,
    /// Segments moved to the quarantine.
    set_aside: u64,
}

/// Removes files that nobody names; segments are set aside instead where the manifest may have forgotten them.
fn sweep(
    env: &Env,
    layout: &Layout<'_>,
    named: &std::collections::BTreeMap<u64, SegmentEntry>,
    keep: bool,
    recovery: &mut Recovery,
) -> Result<Swept> {
    let list = |dir: &Path| env.vfs.list(dir).map_err(|error| Error::io("listing", dir, error));
    // A file that cannot be removed costs its bytes until the next start, and nothing else.
    let remove = |path: &Path| env.vfs.remove(path);
    let mut highest = named.last_key_value().map_or(0, |(id, _)| *id);
    let mut set_aside = 0;
    for name in list(&layout.tmp())? {
        highest = highest.max(segment_id(&name).unwrap_or(0));
        recovery.orphans += u64::from(remove(&layout.tmp().join(name)).is_ok());
    }
    for name in list(&layout.quarantine())? {
        highest = highest.max(segment_id(&name).unwrap_or(0));
    }
    for name in list(&layout.segments())? {
        let id = segment_id(&name);
        highest = highest.max(id.unwrap_or(0));
        if id.is_some_and(|id| named.contains_key(&id)) {
            continue;
        }
        let path = layout.segments().join(&name);
        if keep {
            let to = layout.quarantine().join(&name);
            if env.vfs.rename(&path, &to).is_err() {
                continue;
            }
            set_aside += 1;
            recovery.reports.push(format!(
                "{}: the manifest is damaged and does not name this segment; kept as {}",
                path.display(),
                to.display()
            ));
        } else {
            recovery.orphans += u64::from(remove(&path).is_ok());
        }
    }
    Ok(Swept { next_segment: highest + 1, set_aside })
}

enum Opened {
    Live(Arc<LiveSegment>),
    /// It cannot be read now; it is left as it is.
    Later,
    /// It is missing or damaged beyond opening.
    Gone,
}

fn open_segment(
    env: &Env,
    layout: &Layout<'_>,
    entry: &SegmentEntry,
    cache: &Arc<BlockCache>,
    recovery: &mut Recovery,
) -> Result<Opened> {
    let path = layout.segment(entry.id);
    let error = match Segment::open(env, &path, Arc::clone(cache)) {
        Ok(segment) => {
            let live = LiveSegment { entry: entry.clone(), path, segment: Arc::new(segment) };
            return Ok(Opened::Live(Arc::new(live)));
        }
        Err(error) => error,
    };
    let what = format!("{} samples from {} to {} are lost", entry.samples, entry.range.min, entry.range.max);
    match error {
        Error::Io { ref source, .. } if source.kind() == io::ErrorKind::NotFound => {
            recovery.reports.push(format!("{}: the segment is missing; {what}", path.display()));
            Ok(Opened::Gone)
        }
        Error::Damaged { .. } => {
            let to = layout.quarantine().join(segment_name(entry.id));
            recovery.reports.push(format!("{error}; {what}; kept as {}", to.display()));
            // What cannot be moved stays where it is, and in the manifest.
            Ok(env.vfs.rename(&path, &to).map_or(Opened::Later, |()| Opened::Gone))
        }
        Error::Version { .. } => Err(error),
        error => {
            recovery.reports.push(format!("{error}; the segment is left out until the next start"));
            Ok(Opened::Later)
        }
    }
}

/// Makes the shards and reads back what is not in segments, partitions side by side.
fn replay(inner: &Arc<Inner>, now: Millis, recovery: &mut Recovery) -> Result<Vec<Shard>> {
    let mut shards = Vec::new();
    let state = inner.state.load();
    for (partition, heads) in state.shards.iter().enumerate() {
        let partition = partition as u32;
        let (id, first) = (PartitionId(partition), Offset(heads.live.first));
        inner.log.set_internal_position(CONSUMER, &inner.topic, id, first)?;
        let end = Offset(state.version.end(partition));
        if inner.log.high_water(&inner.topic, id) < end {
            // The log has lost what segments have or have been cleaned of: its offsets go on behind that.
            inner.log.advance(&inner.topic, id, end)?;
        }
        let writer = inner.log.writer(&inner.topic, id)?;
        shards.push(Shard::new(Arc::clone(inner), partition, writer, Arc::clone(&heads.live)));
    }
    let threads = (inner.settings.replay_threads as usize).clamp(1, shards.len().max(1));
    let share = shards.len().div_ceil(threads).max(1);
    let results: Vec<(Result<u64>, Vec<String>)> = if threads == 1 {
        vec![replay_some(&mut shards, now)]
    } else {
        // Scoped: they end before the directory is open. Each has its own partitions, so their order changes nothing.
        std::thread::scope(|scope| {
            let running: Vec<_> =
                shards.chunks_mut(share).map(|some| scope.spawn(move || replay_some(some, now))).collect();
            running
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    };
    for (samples, reports) in results {
        recovery.reports.extend(reports);
        recovery.samples_replayed += samples?;
    }
    recovery.series = inner.series();
    Ok(shards)
}

fn replay_some(shards: &mut [Shard], now: Millis) -> (Result<u64>, Vec<String>) {
    let (mut samples, mut reports) = (0, Vec::new());
    for shard in shards {
        match shard.replay(now, &mut reports) {
            Ok(more) => samples += more,
            Err(error) => return (Err(error), reports),
        }
    }
    (Ok(samples), reports)
}
