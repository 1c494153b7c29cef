//! Engine: an open data directory: its log, manifest, segments, tenants and shards.
//!
//! ```text
//! data/LOCK          held while open
//! data/log/          topics `metrics` (one partition a shard) and `_manifest`
//! data/segments/<id>.seg   live segments; a file that the manifest does not name is deleted when the directory is opened
//! data/tmp/          segments being written; emptied when the directory is opened
//! data/quarantine/   what was damaged
//! ```
//! Invariants:
//! * What is in segments and what is replayed from the log meet at one offset a partition, the manifest's `applied`.
//! * A segment that cannot be opened never keeps the directory from opening: it is reported and the rest is served.
//! * One step a shard at a time; a step that failed is tried again after a pause.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use varve_model::limit::setting;
use varve_model::write::Metadata;
use varve_model::{Limits, Millis, TenantId, TenantName};
use varve_vfs::{Env, Lock};
use varve_wal::{Log, Offset, PartitionId, TopicName};

use crate::copy::Copied;
use crate::deletion::Deletion;
use crate::error::{Error, Result};
use crate::head::registry::Registry;
use crate::head::{FrozenHead, Head};
use crate::manifest::catalog::parts;
use crate::manifest::{Edit, Families, Store, families};
use crate::open;
use crate::segment::BlockCache;
use crate::settings::EngineSettings;
use crate::shard::{Figures, Shard};
use crate::snapshot::Snapshot;
use crate::state::{Published, State};
use crate::status::{EngineStatus, Recovery, ShardStatus, TenantStatus};
use crate::step::{Change, Done, Step};
use crate::tenants::Tenants;

/// The topic of metrics samples.
pub(crate) const TOPIC: &str = "metrics";

/// An open data directory. Shared by all; each [`Shard`] has one owner.
#[derive(Debug)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

/// What the engine, its shards and its steps share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) env: Env,
    pub(crate) dir: PathBuf,
    pub(crate) settings: EngineSettings,
    pub(crate) limits: Limits,
    /// Number of shards, as the directory was made.
    pub(crate) partitions: u32,
    pub(crate) log: Log,
    pub(crate) topic: TopicName,
    pub(crate) tenants: Tenants,
    pub(crate) state: Published,
    pub(crate) cache: Arc<BlockCache>,
    pub(crate) work: Work,
    manifest: Mutex<Store>,
    registries: Vec<Arc<Registry>>,
    figures: Vec<Arc<Figures>>,
    flush_requests: AtomicU64,
    next_segment: AtomicU64,
    pub(crate) quarantined: AtomicU64,
    /// Why log files that nothing needs could not be removed, the last time that was tried.
    retention_error: Mutex<Option<String>>,
    _lock: Box<dyn Lock>,
}

/// What is known of the background work of the shards.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) shards: Mutex<Vec<ShardWork>>,
    pub(crate) flushes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) expiries: AtomicU64,
    pub(crate) cleanings: AtomicU64,
    /// Whether what deletions hide is to be removed from segments now.
    pub(crate) cleaning: AtomicBool,
    pub(crate) failures: AtomicU64,
}

/// Background work of one shard.
#[derive(Debug, Default)]
pub(crate) struct ShardWork {
    /// A step is out.
    pub(crate) busy: bool,
    /// Failed steps in a row, and when to try again.
    pub(crate) failures: u32,
    pub(crate) not_before: Millis,
    /// A result whose commit failed: it is committed again before anything else, for its edits may be durable.
    pub(crate) stalled: Option<Box<Change>>,
    /// Segments that turned out to be damaged: they are read as far as they go, and not compacted.
    pub(crate) damaged: Vec<u64>,
}

impl Work {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<ShardWork>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `open` has put together.
pub(crate) struct Parts {
    pub(crate) env: Env,
    pub(crate) dir: PathBuf,
    pub(crate) settings: EngineSettings,
    pub(crate) limits: Limits,
    pub(crate) log: Log,
    pub(crate) topic: TopicName,
    pub(crate) manifest: Store,
    pub(crate) state: State,
    pub(crate) tenants: Tenants,
    pub(crate) cache: Arc<BlockCache>,
    pub(crate) next_segment: u64,
    pub(crate) quarantined: u64,
    pub(crate) lock: Box<dyn Lock>,
}

impl Inner {
    pub(crate) fn new(parts: Parts) -> Inner {
        let partitions = parts.state.shards.len();
        Inner {
            env: parts.env,
            dir: parts.dir,
            settings: parts.settings,
            limits: parts.limits,
            partitions: partitions as u32,
            log: parts.log,
            topic: parts.topic,
            tenants: parts.tenants,
            state: Published::new(parts.state),
            cache: parts.cache,
            work: Work {
                shards: Mutex::new((0..partitions).map(|_| ShardWork::default()).collect()),
                flushes: AtomicU64::new(0),
                compactions: AtomicU64::new(0),
                expiries: AtomicU64::new(0),
                cleanings: AtomicU64::new(0),
                cleaning: AtomicBool::new(false),
                failures: AtomicU64::new(0),
            },
            manifest: Mutex::new(parts.manifest),
            registries: (0..partitions).map(|_| Arc::default()).collect(),
            figures: (0..partitions).map(|_| Arc::default()).collect(),
            flush_requests: AtomicU64::new(0),
            next_segment: AtomicU64::new(parts.next_segment),
            quarantined: AtomicU64::new(parts.quarantined),
            retention_error: Mutex::default(),
            _lock: parts.lock,
        }
    }

    pub(crate) fn registry(&self, partition: u32) -> Arc<Registry> {
        self.registries.get(partition as usize).cloned().unwrap_or_default()
    }

    pub(crate) fn figures(&self, partition: u32) -> Arc<Figures> {
        self.figures.get(partition as usize).cloned().unwrap_or_default()
    }

    /// Live series over all shards.
    pub(crate) fn series(&self) -> u64 {
        self.figures.iter().map(|figures| figures.series.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn flush_requests(&self) -> u64 {
        self.flush_requests.load(Ordering::Relaxed)
    }

    pub(crate) fn ask_for_flush(&self) -> u64 {
        self.flush_requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Frozen heads of a shard that wait for their flush.
    pub(crate) fn frozen(&self, partition: u32) -> usize {
        self.state.load().shards.get(partition as usize).map_or(0, |heads| heads.frozen.len())
    }

    /// Refuses writes while the heads are full: flushes are behind. O(heads), a few a shard.
    pub(crate) fn check_head_bytes(&self) -> Result<()> {
        let (max, got) = (self.limits.head_bytes_max, self.state.load().head_bytes());
        if got > max {
            return Err(Error::Limit { limit: "bytes of heads", max, got, setting: setting::HEAD_BYTES_MAX });
        }
        Ok(())
    }

    /// Publishes that a shard's head is frozen and a new one begins.
    pub(crate) fn freeze(&self, partition: u32, frozen: Arc<FrozenHead>, live: Arc<Head>) {
        self.state.change(|state| {
            if let Some(heads) = state.shards.get_mut(partition as usize) {
                heads.frozen.push(frozen);
                heads.live = live;
            }
        });
    }

    pub(crate) fn manifest(&self) -> MutexGuard<'_, Store> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An id for a new segment: never one that a file may bear.
    pub(crate) fn segment_id(&self) -> u64 {
        self.next_segment.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets the log go up to what is in segments.
    pub(crate) fn release_log(&self, partition: u32, applied: u64, now: Millis) {
        let consumer = crate::manifest::store::CONSUMER;
        // What cannot be removed now is removed next time: until then it costs space, and the error is told.
        let _ = self.log.set_internal_position(consumer, &self.topic, PartitionId(partition), Offset(applied));
        let error = self.log.retain(now).err().map(|error| error.to_string());
        *self.retention_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

impl Engine {
    /// Opens or creates the directory `dir`: locks it, opens the log, replays it. All acknowledged data is visible when
    /// it returns. Damaged segments and log batches are set aside and reported in [`Recovery`], not errors.
    pub fn open(
        env: Env,
        dir: &Path,
        settings: EngineSettings,
        limits: Limits,
    ) -> Result<(Arc<Engine>, Vec<Shard>, Recovery)> {
        let (inner, shards, recovery) = open::open(env, dir, settings, limits)?;
        Ok((Arc::new(Engine { inner }), shards, recovery))
    }

    /// The id of a tenant; makes it (durably) when the name is new.
    pub fn tenant(&self, name: &TenantName) -> Result<TenantId> {
        let inner = &*self.inner;
        if let Some(tenant) = inner.tenants.find(name) {
            return Ok(tenant.id);
        }
        let mut manifest = inner.manifest();
        // Another request may have made it meanwhile.
        if let Some(tenant) = inner.tenants.find(name) {
            return Ok(tenant.id);
        }
        let (max, got) = (u64::from(inner.limits.tenants_max), inner.tenants.len() as u64);
        if got >= max {
            return Err(Error::Limit { limit: "tenants", max, got: got + 1, setting: setting::TENANTS_MAX });
        }
        let id = inner.tenants.next_id();
        manifest.commit(&[Edit::Tenant { id, name: name.clone() }], self.wall_ms())?;
        inner.tenants.insert(id, name.clone());
        Ok(id)
    }

    /// The id of a tenant, `None` when it never wrote.
    pub fn find_tenant(&self, name: &TenantName) -> Option<TenantId> {
        self.inner.tenants.find(name).map(|tenant| tenant.id)
    }

    /// Number of shards.
    pub fn partitions(&self) -> u32 {
        self.inner.partitions
    }

    /// The log, for other topics and other consumers.
    pub fn log(&self) -> &Log {
        &self.inner.log
    }

    /// A consistent view of everything applied so far. O(shards), waits for nobody.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(&self.inner)
    }

    /// The most urgent piece of background work, `None` when there is none. At most one step a shard is out at once;
    /// what was planned must be run and installed, or dropped: that gives it back, to be tried again after a pause.
    pub fn next_step(&self, now: Millis) -> Option<Step> {
        crate::step::plan::next(&self.inner, now)
    }

    /// Makes the result of a step durable, then visible.
    pub fn install(&self, done: Done) -> Result<()> {
        done.install(&self.inner)
    }

    /// Why log files that nothing needs any more could not be removed when that was last tried; `None` when they were.
    pub fn retention_error(&self) -> Option<String> {
        self.inner.retention_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks all shards to freeze their heads at their next turn or idle call, so that flushes are planned. Returns the
    /// number of the request, for [`Engine::is_flushed`].
    pub fn request_flush(&self) -> u64 {
        self.inner.ask_for_flush()
    }

    /// Whether all that was applied before this flush request is in segments. Shards must go on with their turns or idle
    /// calls and steps must be run for that to become true.
    pub fn is_flushed(&self, request: u64) -> bool {
        let inner = &*self.inner;
        // The figures first: what a shard froze for the request is in the state then.
        let seen = inner.figures.iter().all(|figures| figures.flushes_seen.load(Ordering::Acquire) >= request);
        seen && inner.state.load().shards.iter().all(|heads| heads.frozen.is_empty())
    }

    /// Writes a data directory with all that is in segments to `dir`, which must not exist or be empty, on the same
    /// disk seam; any server can open it. Blocks for as long as copying takes. What the heads hold is not in it: for
    /// all that is acknowledged now ask for a flush and wait until [`Engine::is_flushed`]. After an error `dir` holds
    /// rubbish.
    pub fn copy_to(&self, dir: &Path) -> Result<Copied> {
        crate::copy::run(&self.inner, dir)
    }

    /// Asks that what deletions hide is removed from segments: steps named `clean` do it, until
    /// [`Engine::deletions_to_clean`] is 0. Deletions that heads wait for a flush with go with it.
    pub fn clean_tombstones(&self) {
        self.inner.work.cleaning.store(true, Ordering::Relaxed);
    }

    /// Deletions whose samples are hidden but still in segments.
    pub fn deletions(&self) -> usize {
        self.inner.state.load().version.deletions.len()
    }

    /// Those of [`Engine::deletions`] that cleaning will be done with. The others hide samples in segments that turned
    /// out to be damaged, or could not be read: these are not rewritten, so they stay hidden there.
    pub fn deletions_to_clean(&self) -> usize {
        let damaged: Vec<u64> = self.inner.work.lock().iter().flat_map(|work| work.damaged.iter().copied()).collect();
        let state = self.inner.state.load();
        let waits = |deletion: &Deletion| {
            let heads = state.shards.get(deletion.partition as usize);
            let flushes = heads.is_some_and(|heads| heads.frozen.iter().any(|frozen| frozen.end <= deletion.offset));
            let mut whole = state.version.of(deletion.partition).filter(|live| !damaged.contains(&live.entry.id));
            flushes || whole.any(|live| deletion.concerns(live))
        };
        state.version.deletions.iter().filter(|deletion| waits(deletion)).count()
    }

    /// Keeps metadata of metric families, the last one of a family; durable when it returns. Families beyond a limit are
    /// left out: gives how many.
    pub fn put_metadata(&self, tenant: TenantId, metadata: &[Metadata]) -> Result<u64> {
        let mut manifest = self.inner.manifest();
        let (edits, left_out) = families::edits(&manifest.catalog().metadata, tenant, metadata, &self.inner.limits);
        let now = self.wall_ms();
        for part in parts(edits) {
            manifest.commit(&part, now)?;
        }
        Ok(left_out)
    }

    /// Metadata of a tenant's metric families in order of names.
    pub fn metadata(&self, tenant: TenantId) -> Vec<Metadata> {
        let manifest = self.inner.manifest();
        manifest.catalog().metadata.get(&tenant).into_iter().flat_map(Families::iter).cloned().collect()
    }

    /// The engine in figures.
    pub fn status(&self) -> EngineStatus {
        let inner = &*self.inner;
        let state = inner.state.load();
        let mut status = EngineStatus { block_cache: inner.cache.status(), ..EngineStatus::default() };
        for (partition, heads) in state.shards.iter().enumerate() {
            let figures = inner.figures(partition as u32);
            let get = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
            let range = heads.live.range();
            let some = range.min <= range.max;
            status.shards.push(ShardStatus {
                partition: partition as u32,
                series: get(&figures.series),
                series_created: get(&figures.series_created),
                series_dropped: get(&figures.series_dropped),
                head_bytes: heads.all().map(|head| head.bytes()).sum(),
                head_samples: heads.all().map(|head| head.samples()).sum(),
                head_chunks: heads.live.chunks(),
                index_bytes: inner.registry(partition as u32).heap_bytes() as u64,
                samples_accepted: get(&figures.samples_accepted),
                samples_refused: get(&figures.samples_refused),
                samples_late: get(&figures.samples_late),
                exemplars_accepted: get(&figures.exemplars_accepted),
                head_exemplars: heads.all().map(|head| head.exemplars.len()).sum(),
                log_bytes_appended: get(&figures.log_bytes_appended),
                syncs: get(&figures.syncs),
                turns_failed: get(&figures.turns_failed),
                min_time: some.then_some(range.min),
                max_time: some.then_some(range.max),
                watermark: get(&figures.watermark),
                flushed: state.version.applied.get(&(partition as u32)).copied().unwrap_or(0),
            });
        }
        for tenant in inner.tenants.all() {
            status.tenants.push(TenantStatus {
                id: tenant.id,
                name: tenant.name.clone(),
                series: tenant.series(),
                newest: tenant.newest(),
            });
        }
        for live in &state.version.segments {
            let entry = &live.entry;
            status.segments += 1;
            status.segment_bytes += entry.bytes;
            status.segment_samples += entry.samples;
            let exemplars = &live.segment.meta().exemplars;
            status.segment_exemplars += exemplars.iter().map(|about| about.exemplars).sum::<u64>();
            let level = usize::from(entry.level);
            if status.levels.len() <= level {
                status.levels.resize(level + 1, 0);
            }
            if let Some(count) = status.levels.get_mut(level) {
                *count += 1;
            }
        }
        for topic in inner.log.topics() {
            for partition in inner.log.partitions(&topic.name) {
                status.log_files += partition.files;
                status.log_bytes += partition.bytes;
            }
        }
        status.log = inner.log.counts();
        let work = &inner.work;
        status.quarantined = inner.quarantined.load(Ordering::Relaxed);
        status.steps = vec![
            ("flush", work.flushes.load(Ordering::Relaxed)),
            ("compact", work.compactions.load(Ordering::Relaxed)),
            ("expire", work.expiries.load(Ordering::Relaxed)),
            ("clean", work.cleanings.load(Ordering::Relaxed)),
        ];
        status.deletions = state.version.deletions.len() as u64;
        status.steps_failed = work.failures.load(Ordering::Relaxed);
        status
    }

    fn wall_ms(&self) -> Millis {
        self.inner.env.clock.wall().0.div_euclid(1_000_000)
    }
}
