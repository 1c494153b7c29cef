//! A machine with a simulated disk, a log on it, and a model in memory of what that log must hold.
//!
//! A *life* opens the log, does random work under some fault, and ends by a power cut or a kill at any operation, or a clean close. The
//! next life opens what is left. After every opening and at every end the log is read whole and compared:
//! * every acknowledged batch is there, unless retention was allowed to take it;
//! * every batch that is there was appended so, at that offset;
//! * nothing is reported as damaged, because nothing was.

#![allow(dead_code, unreachable_pub, reason = "helpers of several tests, each of which uses some")]
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests; the seed must be seen")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use varve_vfs::sim::{Fault, Faults, Random, SimClock, SimVfs};
use varve_vfs::{Clock, Env, Nanos};
use varve_wal::{
    From, GroupName, Log, LogSettings, Offset, PartitionId, PartitionWriter, RecordHeader, Recovery, TopicName,
    TopicSettings,
};

pub const DIR: &str = "/data/log";
pub const P0: PartitionId = PartitionId(0);

pub fn topic() -> TopicName {
    TopicName::new("t").unwrap()
}

pub fn group() -> GroupName {
    GroupName::new("g").unwrap()
}

type Content = (u32, Vec<u8>);

/// What the log must hold.
#[derive(Clone, Default, Debug)]
pub struct Model {
    /// Batches that were acknowledged, or found at an opening, which makes them durable.
    pub kept: BTreeMap<u64, Content>,
    /// Batches that were appended without an acknowledgement: there or not.
    pub open: BTreeMap<u64, Vec<Content>>,
    /// Retention may have taken what ends at or below this offset.
    pub floor: u64,
    pub committed: Option<u64>,
    pub committed_open: Vec<u64>,
}

/// One machine through many lives.
pub struct World {
    pub disk: SimVfs,
    pub clock: SimClock,
    pub random: Random,
    pub model: Model,
    pub lives: u64,
    pub log_file_bytes: u64,
    /// Operations of the last life's opening and work.
    pub operations: u64,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        World {
            disk: SimVfs::new(random.next()),
            clock: SimClock::new(Nanos(1_000_000_000_000)),
            model: Model::default(),
            lives: 0,
            operations: 0,
            log_file_bytes: 1024 << random.below(3),
            random,
        }
    }

    /// The same machine once more, cleanly shut down.
    pub fn fork(&self) -> World {
        World {
            disk: self.disk.copy(),
            clock: SimClock::new(self.clock.wall()),
            random: self.random.clone(),
            model: self.model.clone(),
            ..*self
        }
    }

    /// The environment of the next life: another seed, as another process draws one.
    pub fn env(&mut self) -> Env {
        let seed = self.random.next();
        self.disk.env(&self.clock, seed)
    }

    pub fn settings() -> LogSettings {
        LogSettings { offsets_file_bytes: 1024, ..LogSettings::default() }
    }

    pub fn open(&mut self) -> varve_wal::Result<(Log, Recovery)> {
        let env = self.env();
        let (log, recovery) = Log::open(env, Path::new(DIR), World::settings())?;
        log.create_topic(
            &topic(),
            TopicSettings { log_file_bytes: self.log_file_bytes, retention_ms: Some(0), ..TopicSettings::default() },
        )?;
        Ok((log, recovery))
    }

    /// A life: opens, checks, works under the faults, ends.
    pub fn life(&mut self, work: u64, faults: Faults) {
        self.lives += 1;
        let faulty = !faults.is_none();
        let begin = self.disk.operations();
        self.disk.set_faults(faults);
        let mut log = None;
        // A fault may hit the opening itself; the next try is a new process on the same disk.
        for attempt in 0..20 {
            match self.open() {
                // Without power every byte is unreadable: that is no finding.
                Ok(_) if self.disk.is_off() => {}
                Ok((opened, recovery)) => {
                    assert!(recovery.damaged.is_empty(), "false alarm: {:?}", recovery.damaged);
                    log = Some(opened);
                    break;
                }
                Err(error) => assert!(faulty && attempt < 19, "cannot open: {error}"),
            }
            if self.disk.is_off() {
                self.stopped();
            }
        }
        let log = log.unwrap();
        if self.disk.is_off() {
            return self.stopped();
        }
        // Under a fault, reading would use up the operation it is for; the acknowledged part is checked at the end.
        if !faulty {
            self.verify(&log, true);
        }
        let mut writer = log.writer(&topic(), P0).unwrap();
        for _ in 0..work {
            self.work(&log, &mut writer);
            if self.disk.is_off() {
                break;
            }
        }
        if self.disk.is_off() {
            drop(writer);
            return self.stopped();
        }
        self.operations = self.disk.operations().saturating_sub(begin);
        self.disk.set_faults(Faults::none());
        self.disk.set_capacity(None);
        self.verify(&log, false);
        if self.random.chance(1, 4) {
            // Killed as it stands, perhaps behind a failed sync whose bytes the cache still shows.
            return;
        }
        // The fault has passed: writes go on.
        self.append_and_sync(&mut writer, 1).unwrap();
        self.verify(&log, false);
        match self.random.below(3) {
            0 => {
                writer.close().unwrap();
            }
            1 => drop(writer),
            _ => {
                drop(writer);
                self.reboot();
            }
        }
    }

    /// The machine stopped at an operation: a power cut, or only the process was killed there.
    fn stopped(&mut self) {
        if self.random.chance(1, 2) { self.reboot() } else { self.disk.revive() }
    }

    /// The power comes back on what the cut left.
    pub fn reboot(&mut self) {
        let seed = self.random.next();
        self.disk = self.disk.crash(seed);
    }

    fn work(&mut self, log: &Log, writer: &mut PartitionWriter) {
        self.clock.advance(Duration::from_millis(self.random.below(1000)));
        match self.random.below(20) {
            0 => {
                let _ = writer.idle();
            }
            1 => {
                let _ = writer.prepare(self.random.below(self.log_file_bytes) as usize);
            }
            2 => {
                let to = self.random.below(self.model.kept.len() as u64 + 1);
                self.model.committed_open.push(to);
                if log.commit(&group(), &topic(), P0, Offset(to)).is_ok() {
                    self.model.committed = Some(to);
                    self.model.committed_open.clear();
                }
            }
            3 => {
                let high = log.high_water(&topic(), P0).0;
                let floor = self.model.floor + self.random.below(high.saturating_sub(self.model.floor) + 1);
                log.set_internal_position("engine", &topic(), P0, Offset(floor)).unwrap();
                self.model.floor = floor;
                let _ = log.retain(0);
            }
            _ => {
                let count = 1 + self.random.below(4);
                let _ = self.append_and_sync(writer, count);
            }
        }
    }

    /// A turn of the one writer: some batches, one sync, the model told of the outcome.
    pub fn append_and_sync(&mut self, writer: &mut PartitionWriter, count: u64) -> varve_wal::Result<()> {
        let mut taken = Vec::new();
        for _ in 0..count {
            let records = 1 + self.random.below(4) as u32;
            let len = match self.random.below(10) {
                0 => 0,
                1 => self.random.below(3000),
                _ => self.random.below(300),
            };
            let fill = self.random.next();
            let payload: Vec<u8> = (0..len).map(|n| (fill >> (n % 8 * 8)) as u8 ^ (n / 8) as u8).collect();
            let record = RecordHeader { records, time_ms: 5, kind: 1, ..RecordHeader::default() };
            // An append may make a part of the group durable and fail then: its batches stay open.
            match writer.append(&record, &payload) {
                Ok(offset) => {
                    self.model.open.entry(offset.0).or_default().push((records, payload.clone()));
                    taken.push((offset.0, (records, payload)));
                }
                // The batches before it have failed with it.
                Err(error) => return Err(error),
            }
        }
        writer.sync()?;
        for (offset, content) in taken {
            self.model.open.remove(&offset);
            self.model.kept.insert(offset, content);
        }
        Ok(())
    }

    /// Reads the log whole and compares; what is there counts as kept from then on if the log was opened anew.
    pub fn verify(&mut self, log: &Log, opened: bool) {
        let mut cursor = log.cursor(&topic(), P0, From::Beginning).unwrap();
        let mut found = BTreeMap::new();
        let mut next = None;
        while let Some(batch) = cursor.next().unwrap() {
            let (offset, content) = (batch.offset.0, (batch.header.records, batch.payload.to_vec()));
            assert!(next.is_none_or(|next| next == offset), "offset {offset} behind {next:?}");
            next = Some(batch.end().0);
            let kept = self.model.kept.get(&offset);
            let open = self.model.open.get(&offset).is_some_and(|open| open.contains(&content));
            assert!(kept == Some(&content) || (kept.is_none() && open), "offset {offset} was never written so");
            found.insert(offset, content);
        }
        assert_eq!(cursor.skipped(), 0);
        assert!(log.damage().is_empty(), "{:?}", log.damage());
        for (offset, content) in &self.model.kept {
            let gone = offset + u64::from(content.0) <= self.model.floor;
            assert!(found.contains_key(offset) || gone, "acknowledged offset {offset} is lost");
        }
        let high = log.high_water(&topic(), P0).0;
        assert!(next.is_none_or(|next| next == high));
        if opened {
            self.model.kept = found;
            self.model.open.clear();
        }
        let committed = log.committed(&group(), &topic(), P0).map(|offset| offset.0);
        let may_be = |offset: &u64| self.model.committed_open.contains(offset);
        assert!(committed == self.model.committed || committed.as_ref().is_some_and(may_be), "{committed:?}");
        if opened {
            self.model.committed = committed;
            self.model.committed_open.clear();
        }
    }
}

/// Where a run begins: `VARVE_SEED` replays one, else a fixed one.
pub fn first_seed() -> u64 {
    std::env::var("VARVE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// Lives of a run: `VARVE_SIM_LIVES` for a long one.
pub fn lives(default: u64) -> u64 {
    std::env::var("VARVE_SIM_LIVES").ok().and_then(|lives| lives.parse().ok()).unwrap_or(default)
}

/// Random faults for a life of about `operations` operations.
pub fn faults(random: &mut Random, operations: u64) -> Faults {
    let at = random.below(operations);
    match random.below(8) {
        0 | 1 => Faults::at(at, Fault::PowerCut),
        2 => Faults::at(at, Fault::Eio),
        3 => Faults::at(at, Fault::SyncLost),
        4 => Faults::at(at, Fault::Short(random.below(600))),
        5 => Faults::at(at, Fault::Full),
        6 => {
            let then = at + 1 + random.below(operations);
            Faults::at(at, Fault::SyncLost).and(at + 1 + random.below(5), Fault::Eio).and(then, Fault::PowerCut)
        }
        _ => Faults::none(),
    }
}

/// Runs `lives` lives in worlds of their own, a few lives each; panics with the seed that replays it.
pub fn run(lives: u64, mut of: impl FnMut(&mut World, &mut Random)) {
    let (mut seed, mut done) = (first_seed(), 0);
    let replay = std::env::var("VARVE_SEED").is_ok();
    while done < lives {
        let world = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut world = World::new(seed);
            let mut random = Random::new(seed ^ 0xfa17);
            of(&mut world, &mut random);
            world.lives
        }));
        match world {
            Ok(lives) => done += lives.max(1),
            Err(panic) => {
                eprintln!("VARVE_SEED={seed} replays this");
                std::panic::resume_unwind(panic);
            }
        }
        if replay {
            return;
        }
        seed += 1;
    }
}
