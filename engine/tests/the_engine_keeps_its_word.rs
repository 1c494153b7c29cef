//! Promises of the engine's face, each by a short story: limits refuse a sample and not its neighbours, retention counts
//! from the tenant's newest sample, a damaged segment costs only itself, `check` sees every kind of damage, and one
//! process has a directory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use varve_engine::{
    Applied, DeletionSpec, Engine, EngineSettings, Error, Recovery, Refused, Shard, Write, check, dump, route,
};
use varve_model::histogram::Span;
use varve_model::write::{Metadata, MetricType};
use varve_model::{
    Column, Histogram, Labels, Limits, MatchOp, Matcher, Millis, RefusalReason, TenantId, TenantName, TimeRange,
    WriteBatch,
};
use varve_vfs::sim::{Fault, Faults, SimClock, SimVfs};
use varve_vfs::{Env, Nanos};
use varve_wal::{From, PartitionId, TopicName};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const START: i64 = 1_700_006_400_000;
const DIR: &str = "/data";

/// Labels, time, value.
type Sample<'a> = (&'a [(&'a str, &'a str)], Millis, f64);

struct House {
    disk: SimVfs,
    clock: SimClock,
    env: Env,
    settings: EngineSettings,
    limits: Limits,
}

struct Open {
    engine: Arc<Engine>,
    shards: Vec<Shard>,
    recovery: Recovery,
    clock: SimClock,
    env: Env,
}

impl House {
    fn new() -> House {
        let disk = SimVfs::new(1);
        let clock = SimClock::new(Nanos(START * 1_000_000));
        let env = disk.env(&clock, 1);
        let settings = EngineSettings { log_file_bytes: 16 << 10, replay_threads: 1, ..EngineSettings::default() };
        House { disk, clock, env, settings, limits: Limits::default() }
    }

    fn try_open(&self) -> Result<Open, Error> {
        let (engine, shards, recovery) =
            Engine::open(self.env.clone(), Path::new(DIR), self.settings.clone(), self.limits.clone())?;
        Ok(Open { engine, shards, recovery, clock: self.clock.clone(), env: self.env.clone() })
    }

    fn open(&self) -> Open {
        self.try_open().unwrap()
    }
}

impl Open {
    fn now(&self) -> Millis {
        varve_vfs::Clock::wall(&self.clock).0 / 1_000_000
    }

    fn tenant(&self, name: &str) -> TenantId {
        self.engine.tenant(&TenantName::parse(name).unwrap()).unwrap()
    }

    fn try_write(&mut self, tenant: TenantId, batch: WriteBatch) -> Vec<Result<Applied, Error>> {
        let now = self.now();
        let batch = Arc::new(batch);
        let parts = route(&batch, self.engine.partitions());
        let turns = self.shards.iter_mut().zip(parts).filter(|(_, series)| !series.is_empty());
        turns
            .flat_map(|(shard, series)| shard.turn(&[Write { tenant, batch: Arc::clone(&batch), series }], now))
            .collect()
    }

    /// Writes `(series, time, value)`; what was refused, by series in order.
    fn write(&mut self, tenant: TenantId, samples: &[Sample<'_>]) -> (u64, Vec<(u32, RefusalReason)>) {
        let mut batch = WriteBatch::default();
        for (labels, time, value) in samples {
            batch.push_series(labels.iter().copied());
            batch.push_sample(*time, *value);
        }
        let (mut accepted, mut refused) = (0, Vec::new());
        for answer in self.try_write(tenant, batch) {
            let applied = answer.unwrap();
            accepted += applied.accepted;
            refused.extend(applied.refused.iter().map(|refused| (refused.series, refused.reason)));
        }
        refused.sort_unstable();
        (accepted, refused)
    }

    fn flush(&mut self) {
        self.engine.request_flush();
        let now = self.now();
        for shard in &mut self.shards {
            shard.idle(now).unwrap();
        }
        self.work();
    }

    fn work(&mut self) {
        while let Some(step) = self.engine.next_step(self.now()) {
            let done = step.run(&self.env).unwrap();
            self.engine.install(done).unwrap();
        }
    }

    fn read(&self, tenant: TenantId, name: &str) -> Vec<(Millis, f64)> {
        let matcher = Matcher::new(MatchOp::Equal, "__name__", name, 1 << 20).unwrap();
        let selection = self.engine.snapshot().select(tenant, &[matcher], TimeRange::ALL, 100).unwrap();
        let mut all = Vec::new();
        let mut column = Column::default();
        for index in 0..selection.len() {
            selection.read(index, TimeRange::ALL, &mut column).unwrap();
            all.extend(column.times.iter().copied().zip(column.values.iter().copied()));
        }
        all
    }
}

const UP: &[(&str, &str)] = &[("__name__", "up"), ("job", "a")];
const DOWN: &[(&str, &str)] = &[("__name__", "down"), ("job", "a")];

#[test]
fn a_refused_sample_never_fails_its_neighbours() {
    let mut house = House::new();
    house.limits = Limits {
        labels_per_series_max: 3,
        label_name_bytes_max: 10,
        label_value_bytes_max: 10,
        series_per_tenant_max: 3,
        ..Limits::default()
    };
    let mut open = house.open();
    let tenant = open.tenant("a");
    let third = [("__name__", "third")];
    let fourth = [("__name__", "fourth")];
    let (accepted, refused) = open.write(
        tenant,
        &[
            (UP, START, 1.0),
            (&[("job", "x")], START, 1.0),
            (&[("__name__", "m"), ("a", "1"), ("b", "2"), ("c", "3")], START, 1.0),
            (&[("__name__", "m"), ("a_long_name", "1")], START, 1.0),
            (&[("__name__", "m"), ("a", "a long value")], START, 1.0),
            (UP, START + 601_000, 1.0),
            (UP, START - 31 * DAY, 1.0),
            (DOWN, START, 2.0),
            (&third, START, 3.0),
        ],
    );
    assert_eq!(accepted, 4, "the one that is too old is the tenant's first: nothing newer says that it is");
    use RefusalReason::*;
    assert_eq!(
        refused,
        [(1, NoName), (2, TooManyLabels), (3, LabelNameTooLong), (4, LabelValueTooLong), (5, TooFarInFuture)]
    );
    assert_eq!(open.write(tenant, &[(&fourth, START, 1.0)]), (0, vec![(0, TooManySeries)]));
    assert_eq!(open.write(tenant, &[(UP, START - 31 * DAY, 1.0)]), (0, vec![(0, TooOld)]));
    let other = open.tenant("b");
    assert_eq!(open.write(other, &[(&fourth, START, 1.0)]), (1, Vec::new()), "limits are per tenant");
    assert_eq!(open.read(tenant, "up"), [(START - 31 * DAY, 1.0), (START, 1.0)]);
    // What was refused is not there after a restart either.
    drop(open);
    let open = house.open();
    assert_eq!(open.read(tenant, "up"), [(START - 31 * DAY, 1.0), (START, 1.0)]);
    assert_eq!(open.read(tenant, "fourth"), []);
}

/// A histogram of `buckets` custom buckets, one span and as many bounds.
fn wide(buckets: usize) -> Histogram {
    Histogram {
        schema: -53,
        count: buckets as f64,
        positive_spans: vec![Span { offset: 0, length: buckets as u32 }],
        positive: vec![1.0; buckets],
        custom_bounds: (0..buckets).map(|bound| bound as f64).collect(),
        ..Histogram::default()
    }
}

#[test]
fn a_histogram_beyond_the_limit_is_refused_alone() {
    let mut house = House::new();
    house.limits.histogram_buckets_max = 21;
    let mut open = house.open();
    let tenant = open.tenant("a");
    let mut batch = WriteBatch::default();
    batch.push_series(UP.iter().copied());
    for (at, buckets) in [10, 11, 3].into_iter().enumerate() {
        batch.push_histogram(START + at as i64, wide(buckets));
    }
    let answers = open.try_write(tenant, batch);
    let [Ok(applied)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(applied.accepted, 2);
    assert_eq!(applied.refused, [Refused { series: 0, samples: 1, reason: RefusalReason::HistogramTooLarge }]);
}

#[test]
fn histograms_of_one_series_are_divided_among_records() {
    let mut house = House::new();
    house.settings.partitions = 1;
    let mut open = house.open();
    let tenant = open.tenant("a");
    let mut batch = WriteBatch::default();
    batch.push_series(UP.iter().copied());
    for at in 0..24 {
        batch.push_histogram(START + at, wide(30_000));
    }
    let answers = open.try_write(tenant, batch);
    assert!(matches!(&answers[..], [Ok(applied)] if applied.accepted == 24), "{answers:?}");
    open.shards[0].idle(START).unwrap();
    let log = open.engine.log();
    let mut cursor = log.cursor(&TopicName::new("metrics").unwrap(), PartitionId(0), From::Beginning).unwrap();
    let mut records = Vec::new();
    while let Some(batch) = cursor.next().unwrap() {
        records.push(batch.payload.len());
    }
    assert!(records.len() > 1 && records.iter().all(|bytes| *bytes <= 4 << 20), "{records:?}");
}

#[test]
fn what_the_log_cannot_take_fails_its_own_write_and_no_other() {
    let mut house = House::new();
    house.settings.partitions = 1;
    house.limits.label_value_bytes_max = u32::MAX;
    let mut open = house.open();
    let tenants = [open.tenant("a"), open.tenant("a"), open.tenant("b")];
    let long = "x".repeat(65 << 20);
    for round in 0..2 {
        let time = START + round;
        let writes: Vec<Write> = tenants
            .iter()
            .zip(["small", &long, "small"])
            .map(|(&tenant, value)| {
                let mut batch = WriteBatch::default();
                for name in ["up", "down"] {
                    batch.push_series([("__name__", name), ("value", value)].into_iter());
                    batch.push_sample(time, 1.0);
                }
                Write { tenant, batch: Arc::new(batch), series: vec![0, 1] }
            })
            .collect();
        let answers = open.shards[0].turn(&writes, START);
        let [Ok(first), Err(Error::Limit { setting: "log.batch_bytes_max", .. }), Ok(last)] = &answers[..] else {
            panic!("{answers:?}")
        };
        assert_eq!((first.accepted, last.accepted), (2, 2));
        assert_eq!(open.shards[0].turn(&writes[..1], START).len(), 1);
    }
    drop(open);
    let open = house.open();
    assert_eq!(open.recovery.reports, Vec::<String>::new());
    for tenant in [tenants[0], tenants[2]] {
        assert_eq!(open.read(tenant, "up"), [(START, 1.0), (START + 1, 1.0)]);
        assert_eq!(open.read(tenant, "down"), [(START, 1.0), (START + 1, 1.0)]);
    }
}

/// A sender with a wrong clock sent many series of which no sample was kept; they counted for the limits and shut out
/// those of others.
#[test]
fn a_series_of_which_nothing_is_kept_is_not_made() {
    let mut house = House::new();
    house.settings.partitions = 1;
    house.limits.series_max = 2;
    let mut open = house.open();
    let tenant = open.tenant("a");
    let late = START + DAY;
    let other = |name: &'static str| [("__name__", name)];
    let (a, b, c) = (other("a"), other("b"), other("c"));
    use RefusalReason::*;
    let refused = open.write(tenant, &[(&a, late, 1.0), (&b, late, 1.0), (&c, late, 1.0), (UP, START, 1.0)]);
    assert_eq!(refused, (1, vec![(0, TooFarInFuture), (1, TooFarInFuture), (2, TooFarInFuture)]));
    assert_eq!(open.engine.status().shards[0].series, 1);
    // Each sample is told with its own reason, in order.
    let mut batch = WriteBatch::default();
    batch.push_series(a.into_iter());
    for time in [late, late, START - 31 * DAY] {
        batch.push_sample(time, 1.0);
    }
    let applied = open.try_write(tenant, batch).remove(0).unwrap();
    let told: Vec<_> = applied.refused.iter().map(|r| (r.series, r.samples, r.reason)).collect();
    assert_eq!(told, [(0, 2, TooFarInFuture), (0, 1, TooOld)]);
    assert_eq!(open.engine.status().shards[0].series, 1);
    // An exemplar is worth a series, and so is one sample of several.
    let mut batch = WriteBatch::default();
    for exemplar in [late, START] {
        batch.push_series(a.into_iter());
        batch.push_sample(late, 1.0);
        batch.push_exemplar([("trace_id", "x")].into_iter(), exemplar, 1.0);
    }
    let applied = open.try_write(tenant, batch).remove(0).unwrap();
    assert_eq!((applied.exemplars, applied.exemplars_refused.len()), (1, 1));
    assert_eq!(open.engine.status().shards[0].series, 2);
    assert_eq!(open.write(tenant, &[(&b, START, 1.0)]), (0, vec![(0, TooManySeries)]));
}

#[test]
fn full_heads_refuse_whole_requests_and_name_the_setting() {
    let mut house = House::new();
    house.settings.partitions = 1;
    house.limits.head_bytes_max = 1;
    let mut open = house.open();
    let tenant = open.tenant("a");
    open.write(tenant, &[(UP, START, 1.0), (DOWN, START, 1.0)]);
    let mut batch = WriteBatch::default();
    batch.push_series(UP.iter().copied());
    batch.push_sample(START + 1, 1.0);
    let answers = open.try_write(tenant, batch);
    assert!(matches!(answers[..], [Err(Error::Limit { setting: "limits.head_bytes_max", .. })]), "{answers:?}");
    open.flush();
    assert_eq!(open.write(tenant, &[(UP, START + 1, 2.0)]).0, 1);
}

#[test]
fn retention_counts_from_the_tenants_newest_sample() {
    let mut house = House::new();
    house.settings.retention_ms = 10 * DAY;
    let mut open = house.open();
    let (old, new) = (open.tenant("old"), open.tenant("new"));
    // A year-old archive is loaded whole, oldest first, though the clock says that all of it is past its age.
    let year = START - 365 * DAY;
    for day in 0..9 {
        assert_eq!(open.write(old, &[(UP, year + day * DAY, day as f64)]).0, 1);
        assert_eq!(open.write(new, &[(UP, START - (9 - day) * DAY, day as f64)]).0, 1);
        open.flush();
    }
    assert_eq!(open.read(old, "up").len(), 9);
    assert_eq!(open.read(new, "up").len(), 9);
    for day in 0..30 {
        house.clock.advance(Duration::from_millis(DAY as u64));
        assert_eq!(open.write(new, &[(UP, START + day * DAY, 0.0)]).0, 1);
        open.flush();
    }
    assert_eq!(open.read(old, "up").len(), 9, "the old tenant's newest sample has not moved");
    let kept = open.read(new, "up");
    let horizon = START + 29 * DAY - 10 * DAY;
    assert!(kept.first().unwrap().0 >= horizon - DAY, "{kept:?}");
    assert_eq!(kept.iter().filter(|(time, _)| *time >= horizon).count(), 11);
    assert!(open.engine.status().steps.iter().any(|(name, count)| *name == "expire" && *count > 0));
}

/// What has no sample had no age, and its exemplars stayed for ever.
#[test]
fn exemplars_of_a_tenant_without_samples_age_too() {
    let mut house = House::new();
    house.settings.retention_ms = 10 * DAY;
    house.settings.partitions = 1;
    let mut open = house.open();
    let tenant = open.tenant("a");
    let write = |open: &mut Open, time: Millis| {
        let mut batch = WriteBatch::default();
        batch.push_series(UP.iter().copied());
        batch.push_exemplar([("trace_id", "x")].into_iter(), time, 1.0);
        open.try_write(tenant, batch).remove(0).unwrap().exemplars
    };
    for day in 0..30 {
        assert_eq!(write(&mut open, START + day * DAY), 1);
        open.flush();
        house.clock.advance(Duration::from_millis(DAY as u64));
    }
    assert!((11..=12).contains(&open.engine.status().segment_exemplars), "{:?}", open.engine.status());
    assert_eq!(write(&mut open, START), 0, "it is too old now");
    drop(open);
    assert_eq!(write(&mut house.open(), START), 0, "and after a restart");
}

#[test]
fn retention_by_bytes_removes_the_oldest() {
    let mut house = House::new();
    house.settings.retention_ms = 0;
    house.settings.retention_bytes = 8_000;
    let mut open = house.open();
    let tenant = open.tenant("a");
    for hour in 0..40 {
        let time = START + hour * HOUR - 40 * HOUR;
        open.write(tenant, &[(UP, time, 1.0), (DOWN, time, 2.0)]);
        open.flush();
    }
    let status = open.engine.status();
    assert!(status.segment_bytes <= 8_000, "{status:?}");
    let kept = open.read(tenant, "up");
    assert!(!kept.is_empty() && kept.len() < 40);
    assert_eq!(kept.last().unwrap().0, START - HOUR);
}

/// Two hours of samples, many and incompressible; then a small correction of the first minute, in a segment of its own.
fn corrected(house: &House) -> (Open, TenantId) {
    house.clock.advance(Duration::from_millis(20 * DAY as u64));
    let mut open = house.open();
    let tenant = open.tenant("a");
    let samples: Vec<Sample<'_>> = (0..1400).map(|i| (UP, START + i * 5_000, (i as f64 + 2.0).sqrt())).collect();
    assert_eq!(open.write(tenant, &samples).0, 1400);
    open.flush();
    open.write(tenant, &[(UP, START, -1.0), (UP, START + 5_000, -1.0)]);
    open.flush();
    assert_eq!(open.engine.status().segments, 2);
    (open, tenant)
}

/// What is still there of the corrected minute: once it was corrected, an older value is a wrong answer.
#[track_caller]
fn never_the_old_values(open: &Open, tenant: TenantId) -> usize {
    let found = open.read(tenant, "up");
    let minute: Vec<_> = found.iter().filter(|(time, _)| *time <= START + 5_000).collect();
    assert!(minute.iter().all(|(_, value)| *value == -1.0), "{minute:?}");
    minute.len()
}

/// The correction was past its age hours before the segment under it, and went alone: the values that it had overwritten
/// came back.
#[test]
fn expiry_never_brings_back_what_was_overwritten() {
    let mut house = House::new();
    house.settings.retention_ms = 10 * DAY;
    house.settings.partitions = 1;
    let (mut open, tenant) = corrected(&house);
    open.write(tenant, &[(UP, START + 10 * DAY + HOUR, 1.0)]);
    open.flush();
    assert_eq!(never_the_old_values(&open, tenant), 2);
    // Nor does a merge of the correction with a later one leave out its old samples.
    open.write(tenant, &[(UP, START + HOUR + 50 * 60_000, -2.0)]);
    open.flush();
    let compactions = open.engine.status().steps.iter().find(|(name, _)| *name == "compact").map(|(_, count)| *count);
    assert_eq!((compactions, open.engine.status().segments), (Some(1), 3));
    assert_eq!(never_the_old_values(&open, tenant), 2);
    drop(open);
    let mut open = house.open();
    open.write(tenant, &[(UP, START + 10 * DAY + 3 * HOUR, 1.0)]);
    open.flush();
    assert_eq!(open.read(tenant, "up").len(), 2, "all of the pile goes together");
}

#[test]
fn expiry_by_bytes_never_brings_back_what_was_overwritten() {
    let mut house = House::new();
    house.settings.retention_ms = 0;
    house.settings.partitions = 1;
    let (open, tenant) = corrected(&house);
    house.settings.retention_bytes = open.engine.status().segment_bytes - 1;
    drop(open);
    let mut open = house.open();
    open.work();
    assert_eq!(open.engine.status().segments, 1);
    never_the_old_values(&open, tenant);
}

#[test]
fn the_later_write_wins_in_head_log_and_segments() {
    let mut house = House::new();
    house.settings.retention_ms = 0;
    let mut open = house.open();
    let tenant = open.tenant("a");
    for round in 0..12 {
        open.write(tenant, &[(UP, START, f64::from(round)), (UP, START - 3 * HOUR, f64::from(round + 100))]);
        let expected = [(START - 3 * HOUR, f64::from(round + 100)), (START, f64::from(round))];
        assert_eq!(open.read(tenant, "up"), expected, "in the head");
        if round % 3 == 1 {
            drop(open);
            open = house.open();
            assert_eq!(open.read(tenant, "up"), expected, "after replay");
        }
        if round % 2 == 0 {
            open.flush();
            assert_eq!(open.read(tenant, "up"), expected, "after flush and compaction");
        }
    }
    assert!(open.engine.status().segments <= 4, "{:?}", open.engine.status());
}

#[test]
fn metadata_and_tenants_last() {
    let house = House::new();
    let open = house.open();
    let tenant = open.tenant("a");
    let metadata = |family: &str, help: &str| Metadata {
        family: family.to_owned(),
        kind: MetricType::Counter,
        help: help.to_owned(),
        unit: String::new(),
    };
    open.engine.put_metadata(tenant, &[metadata("b", "1"), metadata("a", "1")]).unwrap();
    open.engine.put_metadata(tenant, &[metadata("b", "2")]).unwrap();
    drop(open);
    let open = house.open();
    assert_eq!(open.tenant("a"), tenant);
    assert_ne!(open.tenant("c"), tenant);
    assert_eq!(open.engine.metadata(tenant), [metadata("a", "1"), metadata("b", "2")]);
    assert_eq!(open.engine.find_tenant(&TenantName::parse("nobody").unwrap()), None);
}

#[test]
fn a_second_process_is_refused() {
    let house = House::new();
    let open = house.open();
    assert!(matches!(house.try_open(), Err(Error::Locked { .. })));
    assert!(matches!(check(&house.env, Path::new(DIR)), Err(Error::Locked { .. })));
    drop(open);
    house.open();
}

/// Some data in segments and some in the log.
fn filled(house: &House) -> Open {
    let mut open = house.open();
    let tenant = open.tenant("a");
    for i in 0..50 {
        open.write(tenant, &[(UP, START - 8 * HOUR + i * 60_000, i as f64), (DOWN, START + i, 1.0)]);
    }
    open.flush();
    for i in 0..20 {
        open.write(tenant, &[(UP, START + i, 5.0)]);
    }
    let now = open.now();
    open.shards.iter_mut().for_each(|shard| shard.idle(now).unwrap());
    open
}

fn files(house: &House, part: &str) -> Vec<(PathBuf, usize)> {
    let all = house.disk.files().into_iter();
    all.filter(|(path, _)| path.to_string_lossy().contains(part)).map(|(path, bytes)| (path, bytes.len())).collect()
}

#[test]
fn a_damaged_segment_costs_only_itself() {
    let house = House::new();
    drop(filled(&house));
    let (tail, len) = files(&house, ".seg").remove(0);
    // The trailer: without it the segment cannot be opened.
    house.disk.flip(&tail, len as u64 - 10, 3);
    let open = house.open();
    assert_eq!(open.recovery.reports.len(), 1, "{:?}", open.recovery.reports);
    assert_eq!(open.engine.status().quarantined, 1);
    let tenant = open.tenant("a");
    let left = open.read(tenant, "up").len() + open.read(tenant, "down").len();
    assert!((20..120).contains(&left), "{left}");
    assert!(!files(&house, "quarantine").is_empty());
    drop(open);
    assert!(house.open().recovery.reports.is_empty(), "it is reported once");
}

/// The same house after a disaster of its disk.
fn stricken(house: &House, strike: impl FnOnce(&SimVfs)) -> House {
    let disk = house.disk.copy();
    strike(&disk);
    let env = disk.env(&house.clock, 1);
    House { disk, env, clock: house.clock.clone(), settings: house.settings.clone(), limits: house.limits.clone() }
}

fn segment_names(house: &House) -> Vec<String> {
    let mut names: Vec<String> =
        files(house, ".seg").iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}

/// Damage in a sealed file of the manifest, which nothing but the manifest reads, made opening take the catalog for
/// empty: it removed every segment and said nothing.
#[test]
fn a_damaged_manifest_costs_no_segment() {
    let mut house = House::new();
    house.settings.log_file_bytes = 4096;
    let mut expected = Vec::new();
    for life in 0..3 {
        let mut open = house.open();
        let tenant = open.tenant("a");
        // A catalog of several log files.
        let family =
            |n| Metadata { family: format!("f{n}"), help: life.to_string().repeat(1000), ..Metadata::default() };
        open.engine.put_metadata(tenant, &(0..300).map(family).collect::<Vec<_>>()).unwrap();
        for n in 0..20 {
            open.write(tenant, &[(UP, START + life * 1000 + n, 1.0)]);
        }
        open.flush();
        expected = open.read(tenant, "up");
    }
    assert_eq!(expected.len(), 60);
    let segments = segment_names(&house);
    assert!(!segments.is_empty());
    let mut logs = files(&house, "_manifest/0/");
    logs.retain(|(path, _)| path.extension().is_some_and(|extension| extension == "log"));
    assert!(logs.len() > 4, "{logs:?}");
    let newest = logs.last().unwrap().0.clone();
    let mut struck = 0;
    for (path, _) in &logs {
        let bytes = house.disk.files().into_iter().find(|(other, _)| other == path).unwrap().1;
        let end = bytes[..bytes.len() - 64].iter().rposition(|byte| *byte != 0).unwrap();
        for at in (80..end).step_by((end / 10).max(60)) {
            let house = stricken(&house, |disk| disk.flip(path, at as u64, 3));
            if check_dir(&house).is_empty() {
                // A byte of an earlier life of the file.
                continue;
            }
            struck += 1;
            let open = house.open();
            assert!(!open.recovery.reports.is_empty(), "{} byte {at}", path.display());
            assert_eq!(segment_names(&house), segments, "{} byte {at}", path.display());
            // The newest file has edits that stand nowhere else.
            if *path != newest {
                assert_eq!(open.read(open.tenant("a"), "up"), expected, "{} byte {at}", path.display());
            }
        }
    }
    assert!(struck > 30, "{struck}");
    // Two places, a snapshot and an edit before it for example: what is forgotten is set aside.
    let mut set_aside = 0;
    for (n, (one, _)) in logs.iter().enumerate() {
        for (other, _) in &logs[..n] {
            let house = stricken(&house, |disk| [one, other].iter().for_each(|path| disk.flip(path, 80, 3)));
            let open = house.open();
            assert_eq!(segment_names(&house), segments, "{} and {}", one.display(), other.display());
            set_aside += open.engine.status().quarantined;
        }
    }
    assert!(set_aside > 0);
    let house = stricken(&house, |disk| {
        files(&house, "_manifest/").iter().for_each(|(path, _)| disk.lose(path));
    });
    let open = house.open();
    assert!(open.recovery.reports[0].contains("the manifest is lost"), "{:?}", open.recovery.reports);
    assert_eq!(segment_names(&house), segments);
    assert_eq!(open.engine.status().quarantined, segments.len() as u64);
}

/// Replay passes over damage in sealed log files, which opening the log does not read.
#[test]
fn lost_records_of_the_log_are_told() {
    let mut house = House::new();
    house.settings = EngineSettings { partitions: 1, log_file_bytes: 4096, ..house.settings };
    let mut open = house.open();
    let tenant = open.tenant("a");
    for n in 0..200 {
        open.write(tenant, &[(UP, START + n, 1.0)]);
    }
    drop(open);
    let sealed = files(&house, "metrics/0/").into_iter().find(|(path, _)| path.to_string_lossy().ends_with(".log"));
    let (path, len) = sealed.unwrap();
    let rotten = stricken(&house, |disk| disk.flip(&path, len as u64 / 2, 3));
    let open = rotten.open();
    assert_eq!(open.read(tenant, "up").len(), 199);
    assert_eq!(open.recovery.reports.len(), 1, "{:?}", open.recovery.reports);
    assert!(open.recovery.reports[0].contains("are lost"), "{:?}", open.recovery.reports);
    assert_eq!(open.engine.status().log.damaged, 1);
    drop(open);

    house.open().flush();
    let empty = stricken(&house, |disk| files(&house, "metrics/0/").iter().for_each(|(path, _)| disk.lose(path)));
    let open = empty.open();
    assert_eq!(open.read(tenant, "up").len(), 200);
    assert_eq!(open.recovery.reports.len(), 1, "{:?}", open.recovery.reports);
    assert!(open.recovery.reports[0].contains("the log ends before"), "{:?}", open.recovery.reports);
}

#[test]
fn log_files_that_cannot_be_removed_are_told_until_they_are() {
    let mut told = 0;
    for operation in 0..30 {
        let mut house = House::new();
        house.settings = EngineSettings { partitions: 1, log_file_bytes: 4096, ..house.settings };
        let mut open = house.open();
        let tenant = open.tenant("a");
        for n in 0..100 {
            open.write(tenant, &[(UP, START + n, 1.0)]);
        }
        let now = open.now();
        open.engine.request_flush();
        open.shards[0].idle(now).unwrap();
        let done = open.engine.next_step(now).unwrap().run(&house.env).unwrap();
        house.disk.set_faults(Faults::at(house.disk.operations() + operation, Fault::Eio));
        let installed = open.engine.install(done);
        house.disk.set_faults(Faults::none());
        if open.engine.retention_error().is_none() {
            continue;
        }
        installed.unwrap();
        assert_eq!(open.engine.status().log.retention_failures, 1);
        open.write(tenant, &[(UP, START + 100, 1.0)]);
        open.flush();
        assert_eq!(open.engine.retention_error(), None);
        told += 1;
    }
    assert!(told > 0);
}

#[test]
fn check_sees_every_flipped_bit_of_a_segment_and_of_the_log() {
    let house = House::new();
    drop(filled(&house));
    let dir = Path::new(DIR);
    assert_eq!(check(&house.env, dir).unwrap(), []);
    let mut seen = 0;
    for (path, len) in files(&house, ".seg") {
        for at in (0..len as u64).step_by(13) {
            let disk = house.disk.copy();
            disk.flip(&path, at, (at % 8) as u8);
            assert!(!check(&disk.env(&house.clock, 1), dir).unwrap().is_empty(), "{} byte {at}", path.display());
            seen += 1;
        }
        let disk = house.disk.copy();
        disk.lose(&path);
        assert_eq!(check(&disk.env(&house.clock, 1), dir).unwrap().len(), 1);
    }
    for (path, _) in files(&house, "metrics/") {
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let disk = house.disk.copy();
        disk.flip(&path, 64 + 70, 1);
        assert!(!check(&disk.env(&house.clock, 1), dir).unwrap().is_empty(), "{}", path.display());
    }
    assert!(seen > 50);
}

#[test]
fn dump_prints_every_file() {
    let house = House::new();
    drop(filled(&house));
    let mut all = String::new();
    for (path, _) in files(&house, "/").into_iter().filter(|(path, _)| !path.ends_with("LOCK")) {
        let mut out = Vec::new();
        dump(&house.env, &path, &mut out).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(!out.is_empty() || path.ends_with("spare"), "{}", path.display());
        all.push_str(&String::from_utf8(out).unwrap());
    }
    assert!(all.contains(r#"{__name__="up", job="a"} 5 @"#), "samples of the log");
    assert!(all.contains("Applied"), "edits of the manifest");
}

#[test]
fn labels_are_found_in_head_and_segments() {
    let house = House::new();
    let open = filled(&house);
    let tenant = open.tenant("a");
    let snapshot = open.engine.snapshot();
    assert_eq!(*snapshot.label_names(tenant, &[], TimeRange::ALL).unwrap(), ["__name__", "job"]);
    assert_eq!(*snapshot.label_values(tenant, "__name__", &[], TimeRange::ALL).unwrap(), ["down", "up"]);
    let late = TimeRange { min: START + 5 * HOUR, max: i64::MAX };
    assert_eq!(*snapshot.label_values(tenant, "__name__", &[], late).unwrap(), [""; 0]);
    let selection = snapshot.select(tenant, &[], TimeRange::ALL, 10).unwrap();
    assert_eq!(selection.len(), 2);
    assert!(matches!(snapshot.select(tenant, &[], TimeRange::ALL, 1), Err(Error::Limit { .. })));
    let labels: Vec<Labels> = (0..2).map(|index| selection.labels(index)).collect();
    assert!(labels.contains(&Labels::from([("__name__", "up"), ("job", "a")])));
    let cardinality = snapshot.cardinality(tenant, 5).unwrap();
    assert_eq!(cardinality.series, 2);
    assert_eq!(cardinality.values_by_label, [("__name__".to_owned(), 2), ("job".to_owned(), 1)]);
    assert_eq!(cardinality.by_pair[0], ("job=a".to_owned(), 2));
}

#[test]
fn idle_series_leave_the_table_and_their_ids_are_used_again() {
    let mut house = House::new();
    house.settings.retention_ms = 0;
    let mut open = house.open();
    let tenant = open.tenant("a");
    for hour in 0..6 {
        let name = format!("short_lived_{hour}");
        let labels: &[(&str, &str)] = &[("__name__", name.as_str())];
        // An old snapshot keeps reading its own series, whatever their ids mean later.
        let time = open.now();
        open.write(tenant, &[(labels, time, hour as f64), (UP, time, 1.0)]);
        let snapshot = open.engine.snapshot();
        let before = snapshot.label_values(tenant, "__name__", &[], TimeRange::ALL).unwrap();
        open.flush();
        house.clock.advance(Duration::from_millis(HOUR as u64));
        assert_eq!(snapshot.label_values(tenant, "__name__", &[], TimeRange::ALL).unwrap(), before);
    }
    let status = open.engine.status();
    let (live, created): (u64, u64) = status
        .shards
        .iter()
        .fold((0, 0), |(live, created), shard| (live + shard.series, created + shard.series_created));
    assert!(created >= 7, "{created}");
    assert!(live <= 4, "{live} of {created} are live");
    for hour in 0..6 {
        assert_eq!(open.read(tenant, &format!("short_lived_{hour}")), [(START + hour * HOUR, hour as f64)]);
    }
    assert_eq!(open.read(tenant, "up").len(), 6);
}

fn equals(name: &str, value: &str) -> Matcher {
    Matcher::new(MatchOp::Equal, name, value, 1 << 20).unwrap()
}

impl Open {
    fn delete(&mut self, tenant: TenantId, matchers: Vec<Matcher>, range: TimeRange) -> Result<(), Error> {
        let (now, spec) = (self.now(), DeletionSpec { matchers, range });
        self.shards.iter_mut().try_for_each(|shard| shard.delete(tenant, &spec, now))
    }

    fn jobs(&self, tenant: TenantId) -> Vec<String> {
        let values = self.engine.snapshot().label_values(tenant, "job", &[], TimeRange::ALL).unwrap();
        values.iter().map(str::to_owned).collect()
    }
}

#[test]
fn what_is_deleted_is_gone_from_every_answer_and_stays_gone() {
    let house = House::new();
    let mut open = house.open();
    let (tenant, other) = (open.tenant("a"), open.tenant("b"));
    let a: &[(&str, &str)] = &[("__name__", "m"), ("job", "a")];
    let b: &[(&str, &str)] = &[("__name__", "m"), ("job", "b")];
    let write = |open: &mut Open, hour: i64| {
        for tenant in [tenant, other] {
            open.write(tenant, &[(a, START + hour * HOUR, 1.0), (b, START + hour * HOUR, 2.0)]);
        }
    };
    write(&mut open, -30);
    open.flush();
    write(&mut open, -3);
    open.flush();
    write(&mut open, 0);
    // In two segments and a head.
    open.delete(tenant, vec![equals("job", "a")], TimeRange::ALL).unwrap();
    let times: Vec<Millis> = [-30, -3, 0].map(|hour| START + hour * HOUR).to_vec();
    let check = |open: &Open, expected: &[f64], jobs: &[&str]| {
        assert_eq!(open.jobs(tenant), jobs, "with {} deletions", open.engine.deletions());
        let found = open.read(tenant, "m");
        let expected: Vec<(Millis, f64)> =
            expected.iter().flat_map(|value| times.iter().map(move |time| (*time, *value))).collect();
        assert_eq!(found, expected);
        let names = open.engine.snapshot().label_names(tenant, &[equals("job", "a")], TimeRange::ALL).unwrap();
        assert_eq!(names.iter().count(), if jobs.contains(&"a") { 2 } else { 0 });
        assert_eq!(open.read(other, "m").len(), 6);
    };
    check(&open, &[2.0], &["b"]);
    // What is written later stays.
    open.write(tenant, &[(a, START - 30 * HOUR, 7.0)]);
    assert_eq!(open.jobs(tenant), ["a", "b"]);
    open.delete(tenant, vec![equals("job", "a")], TimeRange { min: START - 31 * HOUR, max: START - 29 * HOUR })
        .unwrap();
    check(&open, &[2.0], &["b"]);
    drop(open);
    let mut open = house.open();
    assert_eq!(open.recovery.reports, Vec::<String>::new());
    check(&open, &[2.0], &["b"]);
    open.flush();
    check(&open, &[2.0], &["b"]);
    assert!(open.engine.deletions() > 0);
    drop(open);
    let mut open = house.open();
    check(&open, &[2.0], &["b"]);
    open.engine.clean_tombstones();
    open.work();
    assert_eq!(open.engine.deletions(), 0);
    assert_eq!(open.engine.status().segment_samples, 9);
    check(&open, &[2.0], &["b"]);
    drop(open);
    check(&house.open(), &[2.0], &["b"]);
    assert_eq!(check_dir(&house), vec![]);
}

/// Whoever asked for a cleaning waited for ever for a segment that cannot be cleaned.
#[test]
fn cleaning_leaves_out_a_damaged_segment_and_tells() {
    let mut house = House::new();
    house.settings.partitions = 1;
    let mut open = house.open();
    let tenant = open.tenant("a");
    for time in [START - 30 * HOUR, START] {
        open.write(tenant, &[(UP, time, 1.0), (UP, time + 1, 1.0)]);
        open.flush();
    }
    drop(open);
    // A byte behind the header: in a block, which is read when the segment is rewritten.
    let (first, _) = files(&house, ".seg").remove(0);
    house.disk.flip(&first, 64 + 20, 1);
    let mut open = house.open();
    for time in [START - 30 * HOUR, START] {
        open.delete(tenant, vec![equals("job", "a")], TimeRange { min: time, max: time }).unwrap();
    }
    assert_eq!((open.engine.deletions(), open.engine.deletions_to_clean()), (2, 2));
    open.engine.clean_tombstones();
    for _ in 0..10 {
        house.clock.advance(Duration::from_secs(60));
        if let Some(step) = open.engine.next_step(open.now())
            && let Ok(done) = step.run(&open.env)
        {
            open.engine.install(done).unwrap();
        }
    }
    assert_eq!((open.engine.deletions(), open.engine.deletions_to_clean()), (1, 0));
}

#[test]
fn too_many_deletions_are_refused() {
    let mut house = House::new();
    house.limits.deletions_max = 2;
    house.settings.partitions = 1;
    let mut open = house.open();
    let tenant = open.tenant("a");
    open.write(tenant, &[(UP, START, 1.0)]);
    open.flush();
    for _ in 0..2 {
        open.delete(tenant, vec![equals("job", "nobody")], TimeRange::ALL).unwrap();
    }
    let refused = open.delete(tenant, vec![equals("job", "a")], TimeRange::ALL);
    assert!(matches!(refused, Err(Error::Limit { setting: "limits.deletions_max", .. })), "{refused:?}");
    assert_eq!(open.read(tenant, "up"), [(START, 1.0)]);
    open.engine.clean_tombstones();
    open.work();
    open.delete(tenant, vec![equals("job", "a")], TimeRange::ALL).unwrap();
    assert_eq!(open.read(tenant, "up"), []);
}

/// Long deletions once filled a record of the manifest beyond what the log takes, and nothing was flushed any more.
#[test]
fn a_deletion_that_is_too_long_is_refused() {
    let house = House::new();
    let mut open = house.open();
    let tenant = open.tenant("a");
    open.write(tenant, &[(UP, START, 1.0)]);
    let long = "x".repeat(house.limits.deletion_bytes_max as usize);
    let refused = open.delete(tenant, vec![equals("job", "a"), equals("__name__", &long)], TimeRange::ALL);
    assert!(matches!(refused, Err(Error::Limit { setting: "limits.deletion_bytes_max", .. })), "{refused:?}");
    open.delete(tenant, vec![equals("__name__", &long[..16_000])], TimeRange::ALL).unwrap();
    drop(open);
    assert_eq!(house.open().read(tenant, "up"), [(START, 1.0)]);
}

#[test]
fn exemplars_beyond_a_limit_are_refused_by_name() {
    let mut house = House::new();
    house.limits.exemplars_per_series_max = 2;
    house.limits.exemplars_per_tenant_max = 3;
    house.settings.partitions = 1;
    let mut open = house.open();
    let tenant = open.tenant("a");
    let mut batch = WriteBatch::default();
    let long = "x".repeat(130);
    for (labels, exemplars) in [(UP, &["a", "a", "b", "c", long.as_str()][..]), (DOWN, &["d", "e"])] {
        batch.push_series(labels.iter().copied());
        for trace in exemplars {
            batch.push_exemplar([("trace_id", *trace)].into_iter(), START, 1.0);
        }
    }
    let applied = open.try_write(tenant, batch).remove(0).unwrap();
    let refused: Vec<_> = applied.exemplars_refused.iter().map(|r| (r.series, r.samples, r.reason)).collect();
    // A duplicate is taken and costs nothing.
    assert_eq!(applied.exemplars, 4);
    assert_eq!(
        refused,
        [
            (0, 1, RefusalReason::TooManyExemplars),
            (0, 1, RefusalReason::ExemplarLabelsTooLong),
            (1, 1, RefusalReason::TooManyExemplars)
        ]
    );
    let found = open.engine.snapshot().exemplars(tenant, &[vec![]], TimeRange::ALL, 10).unwrap();
    let traces: Vec<Vec<String>> = found
        .iter()
        .map(|(_, exemplars)| exemplars.iter().map(|e| e.labels.get("trace_id").unwrap().to_owned()).collect())
        .collect();
    assert_eq!(traces, [vec!["d"], vec!["a", "b"]]);
    let refused = open.engine.snapshot().exemplars(tenant, &[vec![]], TimeRange::ALL, 1);
    assert!(matches!(refused, Err(Error::Limit { setting: "limits.query_exemplars_max", .. })));
    // The flush makes room.
    open.flush();
    let mut batch = WriteBatch::default();
    batch.push_series(UP.iter().copied());
    batch.push_exemplar([("trace_id", "f")].into_iter(), START, 1.0);
    assert_eq!(open.try_write(tenant, batch).remove(0).unwrap().exemplars, 1);
    drop(open);
    let found =
        house.open().engine.snapshot().exemplars(tenant, &[vec![equals("job", "a")]], TimeRange::ALL, 10).unwrap();
    assert_eq!(found.iter().map(|(_, exemplars)| exemplars.len()).sum::<usize>(), 4);
}

#[test]
fn a_copy_is_a_data_directory_of_its_own() {
    let house = House::new();
    let mut open = house.open();
    let tenant = open.tenant("a");
    let metadata = Metadata { family: "up".to_owned(), kind: MetricType::Gauge, ..Metadata::default() };
    open.engine.put_metadata(tenant, std::slice::from_ref(&metadata)).unwrap();
    open.write(tenant, &[(UP, START - 30 * HOUR, 1.0), (UP, START, 2.0), (DOWN, START, 3.0)]);
    open.flush();
    open.delete(tenant, vec![equals("__name__", "up")], TimeRange { min: START, max: START }).unwrap();
    let request = open.engine.request_flush();
    assert!(!open.engine.is_flushed(request));
    open.flush();
    assert!(open.engine.is_flushed(request));
    // Not flushed, so not in the copy.
    open.write(tenant, &[(DOWN, START + 1, 4.0)]);
    let dir = Path::new("/copies/one");
    house.env.vfs.create_dir(Path::new("/copies")).unwrap();
    let copied = open.engine.copy_to(dir).unwrap();
    assert_eq!((copied.samples, copied.segments), (3, open.engine.status().segments));
    assert!(open.engine.copy_to(dir).is_err(), "a directory with something in it is not overwritten");
    let again = Path::new("/copies/two");
    // With empty heads, and a segment that has been cleaned of the newest record of the log.
    open.write(tenant, &[(DOWN, START + 2, 4.0)]);
    open.flush();
    open.delete(tenant, vec![equals("__name__", "down")], TimeRange { min: START, max: START + 1 }).unwrap();
    open.engine.clean_tombstones();
    open.work();
    assert_eq!(open.engine.deletions(), 0);
    open.engine.copy_to(again).unwrap();
    // The copy does not depend on the original.
    open.write(tenant, &[(UP, START, 9.0)]);
    open.flush();
    drop(open);
    assert_eq!(check(&house.env, dir).unwrap(), []);
    let open_one = |dir: &Path| {
        let (engine, shards, recovery) =
            Engine::open(house.env.clone(), dir, house.settings.clone(), house.limits.clone()).unwrap();
        assert_eq!(recovery.reports, Vec::<String>::new());
        Open { engine, shards, recovery, clock: house.clock.clone(), env: house.env.clone() }
    };
    let open_copy = || open_one(dir);
    let mut copy = open_copy();
    assert_eq!(copy.tenant("a"), tenant);
    assert_eq!(copy.engine.metadata(tenant), [metadata]);
    assert_eq!(copy.read(tenant, "up"), [(START - 30 * HOUR, 1.0)]);
    assert_eq!(copy.read(tenant, "down"), [(START, 3.0)]);
    copy.write(tenant, &[(UP, START, 5.0)]);
    copy.flush();
    drop(copy);
    let mut copy = open_copy();
    assert_eq!(copy.read(tenant, "up"), [(START - 30 * HOUR, 1.0), (START, 5.0)]);
    copy.engine.clean_tombstones();
    copy.work();
    assert_eq!(copy.read(tenant, "up"), [(START - 30 * HOUR, 1.0), (START, 5.0)]);
    // What is deleted first of all in a copy is hidden, also where segments have been cleaned.
    let mut copy = open_one(again);
    assert_eq!(copy.read(tenant, "down"), [(START + 2, 4.0)]);
    copy.delete(tenant, vec![equals("__name__", "down")], TimeRange::ALL).unwrap();
    assert_eq!(copy.read(tenant, "down"), []);
}

/// The end of a log is damaged, and with it the record of a deletion that a segment has been cleaned of: the next
/// deletion got the same offset, and the segment took it for the one that it had been cleaned of.
#[test]
fn a_deletion_hides_after_one_before_it_was_lost() {
    let mut house = House::new();
    house.settings.partitions = 1;
    let mut open = house.open();
    let tenant = open.tenant("a");
    open.write(tenant, &[(UP, START, 1.0), (DOWN, START, 2.0)]);
    open.flush();
    open.delete(tenant, vec![equals("__name__", "down")], TimeRange::ALL).unwrap();
    open.engine.clean_tombstones();
    open.work();
    assert_eq!(open.engine.deletions(), 0);
    drop(open);
    // The record of the deletion is the last with a name in it.
    for (path, bytes) in house.disk.files().into_iter().filter(|(path, _)| path.to_string_lossy().contains("metrics/"))
    {
        if let Some(at) = bytes.windows(8).rposition(|bytes| bytes == b"__name__") {
            house.disk.flip(&path, at as u64, 1);
        }
    }
    let mut open = house.open();
    assert_eq!(open.read(tenant, "up"), [(START, 1.0)]);
    open.delete(tenant, vec![equals("__name__", "up")], TimeRange::ALL).unwrap();
    assert_eq!(open.read(tenant, "up"), []);
}

#[test]
fn lives_that_end_early_leave_few_log_files() {
    let mut house = House::new();
    house.settings.partitions = 1;
    let mut files = Vec::new();
    for life in 0..8 {
        let mut open = house.open();
        let tenant = open.tenant("a");
        open.write(tenant, &[(UP, START + life, 1.0)]);
        // What a server does in a second or so.
        let now = open.now();
        open.shards[0].idle(now).unwrap();
        open.work();
        files.push(open.engine.log().partitions(&TopicName::new("metrics").unwrap())[0].files);
        assert_eq!(open.read(tenant, "up").len() as i64, life + 1);
    }
    assert!(files.iter().all(|files| *files <= 3), "{files:?}");
}

#[test]
fn an_estimate_tells_what_a_read_touches() {
    let house = House::new();
    let mut open = house.open();
    let tenant = open.tenant("a");
    let begin = START - 2 * HOUR;
    let minutes = |from: i64, to: i64| (from..to).map(|i| (UP, begin + i * 60_000, i as f64)).collect::<Vec<_>>();
    open.write(tenant, &minutes(0, 60));
    open.flush();
    open.write(tenant, &minutes(60, 90));
    open.write(tenant, &[(DOWN, START, 1.0)]);
    let selection = open.engine.snapshot().select(tenant, &[], TimeRange::ALL, 10).unwrap();
    let all = selection.estimate(TimeRange::ALL).unwrap();
    assert_eq!((all.series, all.chunks, all.samples), (2, 3, 91));
    assert!(all.bytes > 50, "{all:?}");
    let half = selection.estimate(TimeRange { min: begin + 30 * 60_000, max: begin + 70 * 60_000 }).unwrap();
    assert_eq!((half.series, half.chunks), (2, 2));
    assert!((38..=42).contains(&half.samples), "{half:?}");
    let before = open.engine.status().block_cache;
    selection.estimate(TimeRange::ALL).unwrap();
    let after = open.engine.status().block_cache;
    assert!(after.hits > before.hits && after.misses == before.misses, "{before:?} {after:?}");
}

fn check_dir(house: &House) -> Vec<varve_engine::Damage> {
    check(&house.env, Path::new(DIR)).unwrap()
}
