//! Log: opens the directory, makes topics, hands out the one writer of a partition and any number of cursors.
//!
//! Invariants:
//! * A topic exists when its topic file is durable; its partition directories are durable before that.
//! * A partition has at most one writer; a cursor never sees what is not durable.
//! * The locks guard maps, for a few lines. Two are held during I/O: `making`, which orders the making of topics, and
//!   before it `offsets`, in which commits of groups stand in line.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use varve_vfs::Env;

use crate::bounds::Bound;
use crate::counters::{Counters, Counts, add};
use crate::error::{Error, Result};
use crate::offsets::{OFFSETS_TOPIC, Offsets};
use crate::partition::Partition;
use crate::reader::{Cursor, From};
use crate::recover::{Damage, Found, Opening, Quarantine, Recovery};
use crate::retention::{self, Retained};
use crate::settings::LogSettings;
use crate::topic::{self, GroupName, Kept, Offset, PartitionId, TopicName, TopicSettings, partition_dir};
use crate::writer::{PartitionWriter, wall_ms};

/// Places told by [`Log::damage`] at most; more are only counted.
const DAMAGE_TOLD_MAX: usize = 1024;

/// The durable log. Clones are the same log.
#[derive(Clone, Debug)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    topics: Mutex<BTreeMap<TopicName, Topic>>,
    making: Mutex<()>,
    offsets: Mutex<Offsets>,
}

/// What writers and cursors share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) env: Env,
    /// Directory of the log.
    dir: PathBuf,
    pub(crate) settings: LogSettings,
    pub(crate) counters: Counters,
    damage: Mutex<Vec<Damage>>,
    salts: AtomicU64,
}

#[derive(Clone, Debug)]
struct Topic {
    settings: TopicSettings,
    partitions: Vec<Arc<Partition>>,
}

/// A topic as [`Log::topics`] tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicInfo {
    /// Its name.
    pub name: TopicName,
    /// How it is kept.
    pub settings: TopicSettings,
}

/// A partition as [`Log::partitions`] tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionInfo {
    /// Its number.
    pub partition: PartitionId,
    /// Oldest offset that is kept.
    pub first: Offset,
    /// First offset that is not durable.
    pub high_water: Offset,
    /// Log files, without a spare.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the guards protect is changed in one step each: a panic elsewhere leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// A salt no file had before: by seed, name, offset and count, so that a simulation repeats.
    pub(crate) fn salt(&self, topic: &TopicName, partition: PartitionId, base: u64) -> u64 {
        let count = self.salts.fetch_add(1, Ordering::Relaxed);
        let parts = [
            self.env.seed,
            u64::from(crc32fast::hash(topic.as_str().as_bytes())) << 32 | u64::from(partition.0),
            base,
            count,
            self.env.clock.wall().0 as u64,
        ];
        parts.into_iter().fold(0, |salt, part| {
            // One round of splitmix64 a part.
            let mut z = (salt ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        })
    }

    /// Keeps what a cursor found, once a place.
    pub(crate) fn tell(&self, damage: Damage) {
        let mut told = lock(&self.damage);
        // Where the ends of two reports meet they are one: opening and reading may draw the border differently.
        let known = |old: &Damage| {
            old.at == damage.at && old.path == damage.path
                || (old.first <= damage.first && damage.end <= old.end && damage.first < damage.end)
                    && old.path.parent() == damage.path.parent()
        };
        if told.iter().any(known) {
            return;
        }
        add(&self.counters.damaged, 1);
        if told.len() < DAMAGE_TOLD_MAX {
            told.push(damage);
        }
    }
}

impl Log {
    /// Opens the log in `dir`, making the directory if there is none. The caller holds the lock of the data directory.
    ///
    /// Damage is no error: it stands in [`Recovery`], its bytes are copied aside, the rest is served.
    ///
    /// # Errors
    /// A directory cannot be read or made, the last group cannot be made durable, a file is of a newer version.
    pub fn open(env: Env, dir: &Path, settings: LogSettings) -> Result<(Log, Recovery)> {
        settings.check()?;
        make_dir(&env, dir)?;
        let quarantine_dir = settings.quarantine_dir.clone().unwrap_or_else(|| dir.with_file_name("quarantine"));
        let mut quarantine = Quarantine { dir: quarantine_dir, bytes_left: settings.quarantine_bytes_max };
        let mut recovery = Recovery::default();
        let mut topics = BTreeMap::new();
        let mut opened = open_topics(&env, dir, &mut quarantine, &mut recovery, true, false)?;
        while let Some((name, settings, founds)) = opened.pop() {
            let partitions = partitions(&dir.join(name.as_str()), &name, &settings, founds);
            topics.insert(name, Topic { settings, partitions });
        }
        let shared = Shared {
            env,
            dir: dir.to_owned(),
            settings,
            counters: Counters::default(),
            damage: Mutex::new(recovery.damaged.iter().take(DAMAGE_TOLD_MAX).cloned().collect()),
            salts: AtomicU64::new(0),
        };
        add(&shared.counters.damaged, recovery.damaged.len() as u64);
        add(&shared.counters.torn, recovery.torn.len() as u64);
        let inner = Inner {
            shared: Arc::new(shared),
            topics: Mutex::new(topics),
            making: Mutex::new(()),
            offsets: Mutex::new(Offsets::default()),
        };
        let log = Log { inner: Arc::new(inner) };
        log.load_offsets()?;
        Ok((log, recovery))
    }

    /// Makes a topic, or takes new settings for one that exists.
    ///
    /// # Errors
    /// [`Error::Partitions`] when it exists with another number of partitions; [`Error::Setting`].
    pub fn create_topic(&self, name: &TopicName, settings: TopicSettings) -> Result<()> {
        settings.check()?;
        let _making = lock(&self.inner.making);
        let dir = self.inner.shared.dir.join(name.as_str());
        let env = &self.inner.shared.env;
        let existing = lock(&self.inner.topics).get(name).cloned();
        if let Some(topic) = existing {
            let have = topic.settings.partitions;
            if have != settings.partitions {
                return Err(Error::Partitions { topic: name.clone(), have, asked: settings.partitions });
            }
            if topic.settings == settings {
                return Ok(());
            }
            topic::write(env, &dir, &settings)?;
            for partition in &topic.partitions {
                let mut state = partition.state();
                // A spare of another size is of no use; the next opening removes it.
                if state.settings.log_file_bytes != settings.log_file_bytes {
                    state.spares.forget();
                }
                state.settings = settings.clone();
            }
            lock(&self.inner.topics).insert(name.clone(), Topic { settings, ..topic });
            return Ok(());
        }
        env.vfs.create_dir(&dir).map_err(|error| Error::io("make", &dir, error))?;
        for n in 0..settings.partitions {
            let dir = partition_dir(&dir, PartitionId(n));
            env.vfs.create_dir(&dir).map_err(|error| Error::io("make", &dir, error))?;
            // Made now, so that retention on a full disk only overwrites it.
            Bound::Oldest.write(env, &dir, 0)?;
        }
        env.vfs.sync_dir(&dir).map_err(|error| Error::io("sync", &dir, error))?;
        let parent = dir.parent().unwrap_or(Path::new(""));
        env.vfs.sync_dir(parent).map_err(|error| Error::io("sync", parent, error))?;
        topic::write(env, &dir, &settings)?;
        let founds = (0..settings.partitions).map(|_| Found::default()).collect();
        let partitions = partitions(&dir, name, &settings, founds);
        lock(&self.inner.topics).insert(name.clone(), Topic { settings, partitions });
        Ok(())
    }

    /// All topics, sorted by name; `_offsets` is one of them once a group has committed.
    pub fn topics(&self) -> Vec<TopicInfo> {
        let topics = lock(&self.inner.topics);
        let info =
            |(name, topic): (&TopicName, &Topic)| TopicInfo { name: name.clone(), settings: topic.settings.clone() };
        topics.iter().map(info).collect()
    }

    /// The partitions of a topic; empty when there is no such topic.
    pub fn partitions(&self, topic: &TopicName) -> Vec<PartitionInfo> {
        let partitions = lock(&self.inner.topics).get(topic).map(|topic| topic.partitions.clone()).unwrap_or_default();
        let info = |partition: &Arc<Partition>| {
            let (files, bytes) = {
                let state = partition.state();
                (state.files.len() as u64, state.files.iter().map(|file| file.file_bytes).sum())
            };
            let (first, high_water) = (Offset(partition.first()), Offset(partition.high()));
            PartitionInfo { partition: partition.id, first, high_water, files, bytes }
        };
        partitions.iter().map(info).collect()
    }

    fn partition(&self, topic: &TopicName, partition: PartitionId) -> Result<Arc<Partition>> {
        let topics = lock(&self.inner.topics);
        let found = topics.get(topic).and_then(|topic| topic.partitions.get(partition.0 as usize));
        found.cloned().ok_or_else(|| Error::Unknown { topic: topic.clone(), partition })
    }

    /// The one writer of a partition.
    ///
    /// # Errors
    /// [`Error::Taken`] while another one lives; [`Error::Unknown`].
    pub fn writer(&self, topic: &TopicName, partition: PartitionId) -> Result<PartitionWriter> {
        let found = self.partition(topic, partition)?;
        if std::mem::replace(&mut found.state().written, true) {
            return Err(Error::Taken { topic: topic.clone(), partition });
        }
        Ok(PartitionWriter::new(self.inner.shared.clone(), found))
    }

    /// A reader of a partition.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn cursor(&self, topic: &TopicName, partition: PartitionId, from: From) -> Result<Cursor> {
        Ok(Cursor::new(self.inner.shared.clone(), self.partition(topic, partition)?, from))
    }

    /// First offset that is not durable yet; 0 when there is no such partition.
    pub fn high_water(&self, topic: &TopicName, partition: PartitionId) -> Offset {
        self.partition(topic, partition).map_or(Offset(0), |partition| Offset(partition.high()))
    }

    /// Makes offsets below `to` spent: the next record gets at least this one. For an owner that knows of records which
    /// the log has lost (a flushed segment covers them), before it takes the writer. A gap remains, reported as damage.
    ///
    /// # Errors
    /// [`Error::Taken`] while a writer lives; [`Error::Unknown`].
    pub fn advance(&self, topic: &TopicName, partition: PartitionId, to: Offset) -> Result<()> {
        let found = self.partition(topic, partition)?;
        let state = found.state();
        if state.written {
            return Err(Error::Taken { topic: topic.clone(), partition });
        }
        let high = found.high();
        if high < to.0 {
            found.raise(to.0);
            drop(state);
            self.inner.shared.tell(Damage {
                path: found.dir.clone(),
                at: 0,
                bytes: 0,
                what: "the log ends before what a consumer has read",
                first: Offset(high),
                end: to,
                quarantined: None,
            });
        }
        Ok(())
    }

    /// Says where a partition begins that has no log file yet: its first record gets this offset, and nothing below is
    /// missed. Durable when it returns. For an owner that makes a log to go with what it has already; does nothing
    /// when there is a file.
    ///
    /// # Errors
    /// [`Error::Taken`] while a writer lives; [`Error::Unknown`], [`Error::Full`], [`Error::Io`].
    pub fn begin_at(&self, topic: &TopicName, partition: PartitionId, offset: Offset) -> Result<()> {
        let found = self.partition(topic, partition)?;
        {
            let state = found.state();
            if state.written {
                return Err(Error::Taken { topic: topic.clone(), partition });
            }
            if !state.files.is_empty() || found.high() >= offset.0 {
                return Ok(());
            }
        }
        Bound::Oldest.write(&self.inner.shared.env, &found.dir, offset.0)?;
        found.raise(offset.0);
        Ok(())
    }

    /// Makes a group's position durable.
    ///
    /// # Errors
    /// The position is not taken: [`Error::Full`], [`Error::Io`], [`Error::Unknown`]; [`Error::Taken`] while somebody
    /// else writes the topic of the positions.
    pub fn commit(&self, group: &GroupName, topic: &TopicName, partition: PartitionId, offset: Offset) -> Result<()> {
        self.commit_all(group, &[(topic.clone(), partition, offset)])
    }

    /// Makes several positions of a group durable with one sync, all or none.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn commit_all(&self, group: &GroupName, positions: &[(TopicName, PartitionId, Offset)]) -> Result<()> {
        for (topic, partition, _) in positions {
            self.partition(topic, *partition)?;
        }
        let offsets_topic = TopicName::new(OFFSETS_TOPIC)?;
        // Held from the check on: whoever comes second finds the writer.
        let mut offsets = lock(&self.inner.offsets);
        if !offsets.is_ready() {
            let log_file_bytes = self.inner.shared.settings.offsets_file_bytes;
            let settings =
                TopicSettings { partitions: 1, log_file_bytes, retention_ms: Some(0), retention_bytes: None };
            self.create_topic(&offsets_topic, settings)?;
            offsets.ready(self.writer(&offsets_topic, PartitionId(0))?);
        }
        let snapshot = offsets.commit(group, positions)?;
        drop(offsets);
        if let Some(base) = snapshot {
            self.set_internal_position(OFFSETS_TOPIC, &offsets_topic, PartitionId(0), base)?;
            // Old files only cost space: the next retention tries again.
            let _ = self.retain_partition(&offsets_topic, PartitionId(0), wall_ms(&self.inner.shared.env));
        }
        Ok(())
    }

    /// The position a group has committed.
    pub fn committed(&self, group: &GroupName, topic: &TopicName, partition: PartitionId) -> Option<Offset> {
        lock(&self.inner.offsets).get(group, topic, partition)
    }

    /// All committed positions: group, topic, partition, offset, sorted.
    pub fn groups(&self) -> Vec<(GroupName, TopicName, PartitionId, Offset)> {
        lock(&self.inner.offsets).all()
    }

    fn load_offsets(&self) -> Result<()> {
        let topic = TopicName::new(OFFSETS_TOPIC)?;
        if let Ok(mut cursor) = self.cursor(&topic, PartitionId(0), From::Beginning) {
            lock(&self.inner.offsets).load(&mut cursor)?;
        }
        Ok(())
    }

    /// Tells how far an internal consumer is: nothing at or above the lowest such position is ever removed.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn set_internal_position(
        &self,
        consumer: &str,
        topic: &TopicName,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<()> {
        let found = self.partition(topic, partition)?;
        found.state().positions.insert(consumer.to_owned(), offset.0);
        Ok(())
    }

    /// Removes, or sets aside as spare, the log files that nothing keeps any more. To be called now and then: it also
    /// marks the last commit of a group as durable.
    ///
    /// # Errors
    /// A file could not be removed; the others are.
    pub fn retain(&self, now_ms: i64) -> Result<Retained> {
        let all: Vec<Arc<Partition>> =
            lock(&self.inner.topics).values().flat_map(|topic| topic.partitions.clone()).collect();
        let mut retained = Retained::default();
        let mut failed = lock(&self.inner.offsets).idle();
        for partition in all {
            if let Err(error) = retention::retain(&self.inner.shared, &partition, now_ms, &mut retained) {
                failed = Err(error);
            }
        }
        failed.map(|()| retained)
    }

    fn retain_partition(&self, topic: &TopicName, partition: PartitionId, now_ms: i64) -> Result<()> {
        let partition = self.partition(topic, partition)?;
        retention::retain(&self.inner.shared, &partition, now_ms, &mut Retained::default())
    }

    /// What was found damaged, at opening and since; the first 1024 places.
    pub fn damage(&self) -> Vec<Damage> {
        lock(&self.inner.shared.damage).clone()
    }

    /// What was counted since opening.
    pub fn counts(&self) -> Counts {
        self.inner.shared.counters.read()
    }
}

fn partitions(dir: &Path, name: &TopicName, settings: &TopicSettings, founds: Vec<Found>) -> Vec<Arc<Partition>> {
    let partition = |(n, found): (usize, Found)| {
        let id = PartitionId(n as u32);
        Arc::new(Partition::new(name.clone(), id, partition_dir(dir, id), settings.clone(), found))
    };
    founds.into_iter().enumerate().map(partition).collect()
}

/// Makes sure of a directory and of its name, up to the root: an earlier life may have been killed before its sync.
fn make_dir(env: &Env, dir: &Path) -> Result<()> {
    env.vfs.create_dir(dir).map_err(|error| Error::io("make", dir, error))?;
    for parent in dir.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
        match env.vfs.sync_dir(parent) {
            // Above the data directory we may not be allowed to, and some file systems cannot.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied
                        | ErrorKind::ReadOnlyFilesystem
                        | ErrorKind::InvalidInput
                        | ErrorKind::Unsupported
                ) =>
            {
                break;
            }
            Err(error) => return Err(Error::io("sync", parent, error)),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// What an opening finds counts from then on, so its names must be durable: the life before may not have come so far.
pub(crate) fn settle(env: &Env, dir: &Path) -> Result<()> {
    env.vfs.sync_dir(dir).map_err(|error| Error::io("sync", dir, error))
}

/// Names in a directory; `None` when it is none.
fn list(env: &Env, dir: &Path) -> Result<Option<Vec<String>>> {
    match env.vfs.list(dir) {
        Ok(names) => Ok(Some(names)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::io("list", dir, error)),
    }
}

type Opened = Vec<(TopicName, TopicSettings, Vec<Found>)>;

/// Opens every topic of a log directory.
pub(crate) fn open_topics(
    env: &Env,
    dir: &Path,
    quarantine: &mut Quarantine,
    recovery: &mut Recovery,
    repair: bool,
    thorough: bool,
) -> Result<Opened> {
    let mut opened = Vec::new();
    if repair {
        settle(env, dir)?;
    }
    for name in list(env, dir)?.unwrap_or_default() {
        let topic_dir = dir.join(&name);
        let Ok(name) = TopicName::new(&name) else { continue };
        let Some(names) = list(env, &topic_dir)? else { continue };
        if repair {
            settle(env, &topic_dir)?;
        }
        let Some(settings) = topic_settings(env, &topic_dir, &names, recovery, repair)? else { continue };
        let mut founds = Vec::new();
        for n in 0..settings.partitions {
            let dir = partition_dir(&topic_dir, PartitionId(n));
            if !names.contains(&n.to_string()) {
                tell_loss(recovery, dir.clone(), "the partition's directory is missing");
                if repair {
                    env.vfs.create_dir(&dir).map_err(|error| Error::io("make", &dir, error))?;
                    env.vfs.sync_dir(&topic_dir).map_err(|error| Error::io("sync", &topic_dir, error))?;
                } else {
                    continue;
                }
            }
            let mut opening = Opening {
                env,
                dir: &dir,
                topic: &name,
                partition: PartitionId(n),
                log_file_bytes: settings.log_file_bytes,
                quarantine: &mut *quarantine,
                recovery: &mut *recovery,
                repair,
                thorough,
            };
            founds.push(opening.run()?);
        }
        opened.push((name, settings, founds));
    }
    Ok(opened)
}

fn tell_loss(recovery: &mut Recovery, path: PathBuf, what: &'static str) {
    let (first, end) = (Offset(0), Offset(0));
    recovery.damaged.push(Damage { path, at: 0, bytes: 0, what, first, end, quarantined: None });
}

/// A topic's settings from its file, or else from what lies in its directory. `None`: its making was not finished.
fn topic_settings(
    env: &Env,
    dir: &Path,
    names: &[String],
    recovery: &mut Recovery,
    repair: bool,
) -> Result<Option<TopicSettings>> {
    let path = dir.join(topic::TOPIC_FILE);
    let what = match topic::read(env, dir)? {
        Kept::Settings(settings, damaged) => {
            if damaged {
                tell_loss(recovery, path, "one of two copies of the topic's settings");
                if repair {
                    // Best effort: the sound copy serves until the disk takes a new one.
                    let _ = topic::write(env, dir, &settings);
                }
            }
            return Ok(Some(settings));
        }
        Kept::Damaged => "the topic's settings",
        Kept::Absent => "the topic's settings are missing",
    };
    let numbers = names.iter().filter_map(|name| name.parse::<u32>().ok());
    let partitions = numbers.max().map_or(0, |max| max.saturating_add(1)).min(4096);
    let mut begun = false;
    for n in 0..partitions {
        let names = list(env, &partition_dir(dir, PartitionId(n)))?.unwrap_or_default();
        begun |= names.iter().any(|name| name.ends_with(".log"));
    }
    if !begun {
        return Ok(None);
    }
    tell_loss(recovery, path, what);
    let settings = TopicSettings { partitions, ..TopicSettings::default() };
    if repair {
        // Its owner will say how it is to be kept; until then nothing is removed.
        let _ = topic::write(env, dir, &settings);
    }
    Ok(Some(settings))
}
