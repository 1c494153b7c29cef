//! Shard: one partition of the metrics topic and its head, owned by one thread.
//!
//! A turn, for all writes that wait:
//! 1. Resolve each series by hash; only an unknown one is parsed, checked against the limits and given an id. Refuse
//!    what the clock forbids: what is refused never reaches the log, so replay need not ask the clock.
//! 2. Encode records, append them, ONE sync. If any of it fails the whole turn fails: nothing of it is applied.
//! 3. Apply the records to the head in the order of the log; the writes are visible now, and answered.
//!
//! Bytes: a sample costs 2 to 10 in the log and about 3 in the head. In steady state nothing is allocated but growing
//! chunk buffers; per series one look-up, one lock a thousand neighbours.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use varve_model::limit::setting;
use varve_model::write::{WriteExemplar, WriteSeries};
use varve_model::{Histogram, Labels, Limits, Millis, RefusalReason, SeriesHash, TenantId, WriteBatch};
use varve_wal::{FileId, From, Offset, PartitionId, PartitionWriter, RecordHeader};

use crate::deletion::{Deletion, DeletionSpec};
use crate::engine::Inner;
use crate::error::{Error, Result};
use crate::head::registry::{Known, Registry};
use crate::head::table::SeriesTable;
use crate::head::{FrozenHead, Head};
use crate::record::metrics::{Decoder, Encoder, sound_start};
use crate::record::{Entry, Exemplar, KIND_DELETION, KIND_METRICS, Rows};
use crate::tenants::Tenant;
use crate::write::{Applied, Refused, Write};

/// Bytes of a record at which the next begins, roughly.
const RECORD_BYTES_MAX: usize = 4 << 20;
/// Bytes of a histogram in a record, at most: its layout and the columns that each has.
const HISTOGRAM_BYTES: usize = 128;
/// Bytes of a bucket, span or bound in a record, at most.
const HISTOGRAM_PART_BYTES: usize = 12;
/// Frozen heads that may wait for their flush; with more the live head grows on, up to the limit of all heads.
const FROZEN_MAX: usize = 2;
/// Log files that a replay may have read before the head is flushed soon: each life begins one, and they stay until a
/// flush.
const FILES_MAX: u32 = 2;
/// A series that got no sample for so long, and whose samples are in segments, leaves the table.
const SERIES_IDLE_MS: i64 = 15 * 60_000;

/// Figures of a shard that others read.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) series: AtomicU64,
    pub(crate) series_created: AtomicU64,
    pub(crate) series_dropped: AtomicU64,
    pub(crate) samples_accepted: AtomicU64,
    pub(crate) samples_refused: AtomicU64,
    pub(crate) samples_late: AtomicU64,
    pub(crate) exemplars_accepted: AtomicU64,
    pub(crate) log_bytes_appended: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) turns_failed: AtomicU64,
    /// Offset behind the last that is applied.
    pub(crate) watermark: AtomicU64,
    /// Flush requests that have been followed.
    pub(crate) flushes_seen: AtomicU64,
}

/// Adds to a figure; the owner alone writes it, readers take what they get.
fn count(figure: &AtomicU64, more: u64) {
    figure.fetch_add(more, Ordering::Relaxed);
}

/// The writer of one partition.
#[derive(Debug)]
pub struct Shard {
    inner: Arc<Inner>,
    partition: u32,
    writer: PartitionWriter,
    /// The log file whose declarations `encoder` knows.
    file: Option<FileId>,
    encoder: Encoder,
    table: SeriesTable,
    registry: Arc<Registry>,
    figures: Arc<Figures>,
    live: Arc<Head>,
    /// Frozen heads that someone still holds, oldest first.
    older: Vec<Weak<Head>>,
    /// Epochs that ended, and when.
    ended: Vec<(u64, Millis)>,
    /// Offset behind the last applied.
    next: u64,
    tenants: Vec<Option<Arc<Tenant>>>,
    /// Series that the turn made: shown to readers when it is applied.
    new: Vec<u32>,
    spare: Vec<Rows>,
    payload: Vec<u8>,
    /// Flush requests seen.
    flushes_seen: u64,
    /// Series that deletions left without samples: in the table, but not shown to readers until they are written again.
    hidden: BTreeSet<u32>,
}

/// The bounds that a sample must keep.
#[derive(Clone, Copy)]
struct Bounds {
    oldest: Millis,
    newest: Millis,
    /// Buckets, spans and bounds of a histogram.
    parts_max: usize,
}

impl Bounds {
    #[inline]
    fn refuse(self, time: Millis) -> Option<RefusalReason> {
        if time > self.newest {
            Some(RefusalReason::TooFarInFuture)
        } else if time < self.oldest {
            Some(RefusalReason::TooOld)
        } else {
            None
        }
    }

    fn refuse_histogram(self, time: Millis, histogram: &Histogram) -> Option<RefusalReason> {
        let too_large = (histogram.parts() > self.parts_max).then_some(RefusalReason::HistogramTooLarge);
        self.refuse(time).or(too_large).or_else(|| contradicts(histogram))
    }
}

/// A record that is full.
struct Record {
    rows: Rows,
    /// The writes of the turn that have a part in it.
    writes: Range<usize>,
}

/// A turn on its way: records that are full, and the one that grows.
#[derive(Default)]
struct Turn {
    full: Vec<Record>,
    rows: Rows,
    /// The write that is gathered, and those with a part in `rows`.
    write: usize,
    writes: Range<usize>,
    bytes: usize,
    /// Series with histograms in `rows`: a float of one that comes later needs the next record, for in a record
    /// histograms are the later ones.
    histograms: BTreeSet<u32>,
    /// Exemplars of the turn, by series and by tenant: they count for the limits.
    exemplars: BTreeMap<u32, Vec<varve_model::Exemplar>>,
    tenant_exemplars: BTreeMap<TenantId, u32>,
}

impl Shard {
    pub(crate) fn new(inner: Arc<Inner>, partition: u32, writer: PartitionWriter, live: Arc<Head>) -> Shard {
        let registry = inner.registry(partition);
        let figures = inner.figures(partition);
        let next = live.first;
        figures.watermark.store(next, Ordering::Relaxed);
        Shard {
            inner,
            partition,
            writer,
            file: None,
            encoder: Encoder::new(),
            table: SeriesTable::default(),
            registry,
            figures,
            live,
            older: Vec::new(),
            ended: Vec::new(),
            next,
            tenants: Vec::new(),
            new: Vec::new(),
            spare: Vec::new(),
            payload: Vec::new(),
            flushes_seen: 0,
            hidden: BTreeSet::new(),
        }
    }

    /// Its partition.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Stores the writes: log, ONE sync for all, apply, visible. One answer per write, in order. When the log fails all
    /// of them fail: none is applied, though after a crash any of them may turn out to be in the log. What the log
    /// cannot take because of its size fails the write that it is of, and no other.
    pub fn turn(&mut self, writes: &[Write], now: Millis) -> Vec<std::result::Result<Applied, Error>> {
        if let Err(error) = self.inner.check_head_bytes() {
            return self.fail(writes, &error);
        }
        let mut turn = Turn { rows: self.spare.pop().unwrap_or_default(), ..Turn::default() };
        let mut answers: Vec<std::result::Result<Applied, Error>> = Vec::with_capacity(writes.len());
        for (index, write) in writes.iter().enumerate() {
            turn.write = index;
            answers.push(Ok(self.gather(write, now, &mut turn)));
        }
        self.seal(&mut turn);
        let logged = self.log(&mut turn.full, now);
        let result = match logged {
            Ok(refused) => {
                for (writes, error) in refused {
                    let answers = answers.get_mut(writes).unwrap_or_default();
                    answers.iter_mut().for_each(|answer| *answer = Err(error.again()));
                }
                self.apply(&turn.full, now);
                let applied = answers.iter().flatten();
                let (accepted, refused) = applied.fold((0, 0), |(accepted, refused), applied| {
                    let samples: u64 = applied.refused.iter().map(|refused| u64::from(refused.samples)).sum();
                    (accepted + applied.accepted, refused + samples)
                });
                count(&self.figures.samples_accepted, accepted);
                count(&self.figures.samples_refused, refused);
                count(
                    &self.figures.exemplars_accepted,
                    answers.iter().flatten().map(|applied| applied.exemplars).sum(),
                );
                answers
            }
            Err(error) => {
                // What was declared last is not in the log.
                self.encoder.forget();
                self.fail(writes, &error)
            }
        };
        turn.rows.clear();
        self.spare.push(turn.rows);
        for Record { mut rows, .. } in turn.full {
            rows.clear();
            self.spare.push(rows);
        }
        self.spare.truncate(4);
        self.freeze_if_due(now);
        result
    }

    /// Deletes the samples and exemplars in `spec.range` of the tenant's series in this shard that satisfy all matchers:
    /// durable and hidden from every reader when it returns. What is written later stays.
    /// [`Error::Limit`] when too many deletions wait for their samples to be removed, or the matchers are too long.
    pub fn delete(&mut self, tenant: TenantId, spec: &DeletionSpec, now: Millis) -> Result<()> {
        let waiting =
            self.inner.state.load().version.deletions.iter().filter(|d| d.partition == self.partition).count();
        let (max, got) = (u64::from(self.inner.limits.deletions_max), waiting as u64 + 1);
        if got > max {
            return Err(Error::Limit { limit: "deletions", max, got, setting: setting::DELETIONS_MAX });
        }
        self.payload.clear();
        spec.encode(&mut self.payload);
        let (max, got) = (self.inner.limits.deletion_bytes_max, self.payload.len() as u64);
        if got > max {
            let (limit, setting) = ("bytes of a deletion", "limits.deletion_bytes_max");
            return Err(Error::Limit { limit, max, got, setting });
        }
        let logged = self.log_deletion(tenant, now);
        if logged.is_err() {
            self.encoder.forget();
        }
        let offset = logged?;
        self.apply_deletion(Deletion::new(self.partition, offset, tenant, spec.clone()));
        self.figures.watermark.store(self.next, Ordering::Release);
        Ok(())
    }

    /// Logs the deletion in `payload`; returns its offset.
    fn log_deletion(&mut self, tenant: TenantId, now: Millis) -> Result<u64> {
        let file = self.writer.prepare(self.payload.len())?;
        if self.file != Some(file) {
            self.file = Some(file);
            self.encoder.reset();
        }
        let header =
            RecordHeader { tenant: tenant.0, kind: KIND_DELETION, records: 1, time_ms: now, ..RecordHeader::default() };
        let Offset(offset) = self.writer.append(&header, &self.payload)?;
        let Offset(next) = self.writer.sync()?;
        self.next = next;
        count(&self.figures.log_bytes_appended, self.payload.len() as u64);
        count(&self.figures.syncs, 1);
        Ok(offset)
    }

    /// Removes from the heads, hides in the segments; of the log this depends on the offset alone, so replay does the
    /// same.
    fn apply_deletion(&mut self, deletion: Deletion) {
        let state = self.inner.state.load();
        let Some(heads) = state.shards.get(self.partition as usize) else { return };
        let known = self.registry.select(deletion.tenant, &deletion.spec.matchers);
        for head in heads.all() {
            for (id, _) in known.iter().filter(|(_, known)| known.born <= head.epoch) {
                head.remove(*id, deletion.spec.range);
            }
        }
        // Heads that only an old snapshot holds count too: its reader still finds the series.
        let held: Vec<Arc<Head>> =
            self.older.iter().filter_map(Weak::upgrade).chain([Arc::clone(&self.live)]).collect();
        let empty: Vec<u32> =
            known.iter().map(|(id, _)| *id).filter(|id| held.iter().all(|head| head.lacks(*id))).collect();
        self.registry.remove(&empty);
        self.hidden.extend(empty);
        let deletion = Arc::new(deletion);
        self.inner.state.change(|state| {
            let version = state.version.with_deletion(Arc::clone(&deletion));
            let frozen = state.shards.get(self.partition as usize).map(|heads| heads.frozen.as_slice());
            // One that hides nothing is not kept; its record stays in the log and says the same again.
            if !version.idle_deletions(self.partition, frozen.unwrap_or_default()).contains(&deletion.offset) {
                state.version = Arc::new(version);
            }
        });
    }

    /// Series that are written again are shown again.
    fn unhide(&mut self, rows: &Rows) {
        if self.hidden.is_empty() {
            return;
        }
        let floats = rows.entries.iter().map(|entry| entry.series);
        let others = rows.histograms.iter().map(|(series, ..)| *series);
        for id in floats.chain(others).chain(rows.exemplars.iter().map(|exemplar| exemplar.series)) {
            if self.hidden.remove(&id)
                && let Some(slot) = self.table.slot_mut(id)
            {
                slot.visible = false;
                self.new.push(id);
            }
        }
    }

    fn fail(&self, writes: &[Write], error: &Error) -> Vec<std::result::Result<Applied, Error>> {
        count(&self.figures.turns_failed, 1);
        writes.iter().map(|_| Err(error.again())).collect()
    }

    /// To be called when no write waits, and about once a second: closes the last group in the log, freezes the head
    /// when that is due.
    pub fn idle(&mut self, now: Millis) -> Result<()> {
        self.freeze_if_due(now);
        if self.partition == 0 {
            self.inner.manifest().idle()?;
        }
        self.writer.idle().map_err(Error::from)
    }

    /// Ends the shard: freezes what is in the head, so that the steps that remain can flush it.
    pub fn close(mut self) -> Result<()> {
        self.freeze(Millis::MIN);
        self.writer.close()?;
        Ok(())
    }

    /// Resolves a write's series and gathers its samples; says what is refused.
    fn gather(&mut self, write: &Write, now: Millis, turn: &mut Turn) -> Applied {
        let mut applied = Applied::default();
        let batch = &*write.batch;
        let tenant = self.tenant(write.tenant);
        if turn.rows.tenant != write.tenant {
            self.seal(turn);
            turn.rows.tenant = write.tenant;
        }
        let settings = &self.inner.settings;
        let bounds = Bounds {
            oldest: tenant.horizon(now, settings.retention_ms).unwrap_or(Millis::MIN),
            newest: now.saturating_add(self.inner.limits.future_ms_max),
            parts_max: self.inner.limits.histogram_buckets_max as usize,
        };
        let mut exemplar_ids: BTreeMap<u32, std::result::Result<u32, RefusalReason>> = BTreeMap::new();
        let timely = batch.exemplars.iter().filter(|exemplar| bounds.refuse(exemplar.time).is_none());
        let with_exemplars: BTreeSet<u32> = timely.map(|exemplar| exemplar.series).collect();
        for &index in &write.series {
            let Some(series) = batch.series.get(index as usize) else { continue };
            // A new series of which nothing would be kept is not made: it would count for the limits and hold nothing.
            let keeps = || {
                let mut own = refusals(batch, series, bounds);
                match own.next() {
                    Some(Some(reason)) if own.all(|own| own.is_some()) && !with_exemplars.contains(&index) => {
                        Err(reason)
                    }
                    _ => Ok(()),
                }
            };
            let id = match self.resolve(&tenant, batch, series, &keeps) {
                Ok(id) => id,
                Err(reason) => {
                    let samples = (series.samples.len() + series.histograms.len()) as u32;
                    if reason.is_of_a_sample() {
                        let own = refusals(batch, series, bounds).flatten();
                        own.for_each(|reason| refuse(&mut applied.refused, index, reason));
                    } else if samples > 0 || batch.exemplars.is_empty() {
                        applied.refused.push(Refused { series: index, samples, reason });
                    }
                    if !batch.exemplars.is_empty() {
                        exemplar_ids.insert(index, Err(reason));
                    }
                    continue;
                }
            };
            let labels = series.labels.len();
            if turn.bytes > 0 && turn.bytes + labels + 12 * series.samples.len() > RECORD_BYTES_MAX {
                self.seal(turn);
            }
            if !turn.histograms.is_empty() && !series.samples.is_empty() && turn.histograms.contains(&id) {
                self.seal(turn);
            }
            if turn.rows.is_empty() {
                turn.writes.start = turn.write;
            }
            turn.writes.end = turn.write + 1;
            turn.bytes += labels + 16;
            let (from, to) = (series.samples.start as usize, series.samples.end as usize);
            let times = batch.times.get(from..to).unwrap_or_default();
            let values = batch.values.get(from..to).unwrap_or_default();
            let starts = batch.starts.get(from..to.min(batch.starts.len())).unwrap_or_default();
            self.gather_floats(index, id, (times, values, starts), bounds, turn, &mut applied);
            let (from, to) = (series.histograms.start as usize, series.histograms.end as usize);
            for (at, (time, histogram)) in batch.histograms.get(from..to).unwrap_or_default().iter().enumerate() {
                if let Some(reason) = bounds.refuse_histogram(*time, histogram) {
                    refuse(&mut applied.refused, index, reason);
                    continue;
                }
                let bytes = HISTOGRAM_BYTES + HISTOGRAM_PART_BYTES * histogram.parts();
                if turn.bytes > 0 && turn.bytes + bytes > RECORD_BYTES_MAX {
                    self.seal(turn);
                }
                turn.bytes += bytes;
                turn.rows.histograms.push((id, *time, histogram.clone()));
                turn.rows.set_histogram_start(sound_start(*time, batch.histogram_start(from + at)));
                turn.histograms.insert(id);
                applied.accepted += 1;
            }
            if !batch.exemplars.is_empty() {
                exemplar_ids.insert(index, Ok(id));
            }
        }
        for exemplar in &batch.exemplars {
            // Those of series that other shards own are not there.
            let Some(&id) = exemplar_ids.get(&exemplar.series) else { continue };
            let late = bounds.refuse(exemplar.time).map_or(Ok(()), Err);
            let kept = late.and(id).and_then(|id| self.gather_exemplar(&tenant, id, batch, exemplar, turn));
            match kept {
                Ok(()) => applied.exemplars += 1,
                Err(reason) => refuse(&mut applied.exemplars_refused, exemplar.series, reason),
            }
        }
        applied
    }

    fn gather_exemplar(
        &mut self,
        tenant: &Tenant,
        id: u32,
        batch: &WriteBatch,
        sent: &WriteExemplar,
        turn: &mut Turn,
    ) -> std::result::Result<(), RefusalReason> {
        let (from, to) = (sent.labels.start as usize, sent.labels.end as usize);
        let bytes = batch.bytes.get(from..to).unwrap_or_default();
        let labels = Labels::from_label_bytes(bytes).map_err(|_| RefusalReason::InvalidLabels)?;
        let limits = &self.inner.limits;
        let chars: usize = labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        if chars > limits.exemplar_label_chars_max as usize {
            return Err(RefusalReason::ExemplarLabelsTooLong);
        }
        let exemplar = varve_model::Exemplar { labels, time: sent.time, value: sent.value };
        let held = &self.live.exemplars;
        let waiting = turn.exemplars.entry(id).or_default();
        // Senders repeat the last one until there is a new one.
        if held.contains(id, &exemplar) || waiting.contains(&exemplar) {
            return Ok(());
        }
        let all = turn.tenant_exemplars.entry(tenant.id).or_default();
        if held.of_series(id) + waiting.len() >= limits.exemplars_per_series_max as usize
            || held.of_tenant(tenant.id) + *all >= limits.exemplars_per_tenant_max
        {
            return Err(RefusalReason::TooManyExemplars);
        }
        let labels = exemplar.labels.as_label_bytes().to_vec();
        waiting.push(exemplar);
        *all += 1;
        turn.bytes += labels.len() + 32;
        turn.rows.exemplars.push(Exemplar { series: id, time: sent.time, value: sent.value, labels });
        if turn.bytes > RECORD_BYTES_MAX {
            self.seal(turn);
        }
        Ok(())
    }

    #[inline]
    fn gather_floats(
        &mut self,
        index: u32,
        id: u32,
        (times, values, starts): (&[Millis], &[f64], &[Millis]),
        bounds: Bounds,
        turn: &mut Turn,
        applied: &mut Applied,
    ) {
        let mut begun = turn.rows.times.len();
        for (at, (&time, &value)) in times.iter().zip(values).enumerate() {
            if let Some(reason) = bounds.refuse(time) {
                refuse(&mut applied.refused, index, reason);
                continue;
            }
            if turn.bytes > RECORD_BYTES_MAX {
                end_entry(&mut turn.rows, id, begun);
                self.seal(turn);
                begun = turn.rows.times.len();
            }
            turn.bytes += 12;
            turn.rows.times.push(time);
            turn.rows.values.push(value);
            // Nobody pays for what is not there.
            if let Some(&start) = starts.get(at) {
                turn.rows.set_start(sound_start(time, start));
            }
            applied.accepted += 1;
        }
        end_entry(&mut turn.rows, id, begun);
    }

    /// The rows so far become a record.
    fn seal(&mut self, turn: &mut Turn) {
        turn.bytes = 0;
        turn.histograms.clear();
        if !turn.rows.is_empty() {
            turn.rows.align_starts();
            let tenant = turn.rows.tenant;
            let mut next = self.spare.pop().unwrap_or_default();
            next.clear();
            next.tenant = tenant;
            let rows = std::mem::replace(&mut turn.rows, next);
            turn.full.push(Record { rows, writes: turn.writes.clone() });
        }
        turn.writes.start = turn.write;
    }

    /// The id of a series; a new one is made when `keeps` has nothing against it.
    #[inline]
    fn resolve(
        &mut self,
        tenant: &Tenant,
        batch: &WriteBatch,
        series: &WriteSeries,
        keeps: &dyn Fn() -> std::result::Result<(), RefusalReason>,
    ) -> std::result::Result<u32, RefusalReason> {
        let id = match self.table.find(tenant.id, series.hash) {
            Some(id) => id,
            None => self.create(tenant, batch, series, keeps)?,
        };
        if let Some(slot) = self.table.slot_mut(id) {
            slot.used = self.live.epoch as u32;
        }
        Ok(id)
    }

    /// Takes in a new series, if the limits allow.
    #[cold]
    fn create(
        &mut self,
        tenant: &Tenant,
        batch: &WriteBatch,
        series: &WriteSeries,
        keeps: &dyn Fn() -> std::result::Result<(), RefusalReason>,
    ) -> std::result::Result<u32, RefusalReason> {
        let bytes = batch.label_bytes(series);
        // Most senders send labels sorted; others, and what is wrong with them, cost more.
        let labels = Labels::from_sorted_label_bytes(bytes)
            .or_else(|_| Labels::from_label_bytes(bytes))
            .map_err(|_| RefusalReason::InvalidLabels)?;
        let limits = &self.inner.limits;
        check_labels(&labels, limits)?;
        // The hash chose the shard: one that is not the labels' own would make two series of one.
        if labels.hash() != series.hash || series.hash.partition(self.inner.partitions) != self.partition {
            return Err(RefusalReason::InvalidLabels);
        }
        keeps()?;
        if tenant.series() >= limits.series_per_tenant_max || self.inner.series() >= limits.series_max {
            return Err(RefusalReason::TooManySeries);
        }
        Ok(self.insert(tenant, series.hash, labels))
    }

    fn insert(&mut self, tenant: &Tenant, hash: SeriesHash, labels: Labels) -> u32 {
        let id = self.table.insert(tenant.id, hash, labels, self.live.epoch);
        tenant.add_series();
        self.figures.series.store(self.table.len() as u64, Ordering::Relaxed);
        count(&self.figures.series_created, 1);
        self.new.push(id);
        id
    }

    fn tenant(&mut self, id: TenantId) -> Arc<Tenant> {
        let place = id.0 as usize;
        if let Some(Some(tenant)) = self.tenants.get(place) {
            return Arc::clone(tenant);
        }
        let tenant = self.inner.tenants.get(id);
        if place < 1 << 20 {
            if self.tenants.len() <= place {
                self.tenants.resize(place + 1, None);
            }
            if let Some(place) = self.tenants.get_mut(place) {
                *place = Some(Arc::clone(&tenant));
            }
        }
        tenant
    }

    /// Makes records durable: appends them all, then one sync. Those that are too large for the log are taken out; gives
    /// the writes that they are of, and why.
    fn log(&mut self, records: &mut Vec<Record>, now: Millis) -> Result<Vec<(Range<usize>, Error)>> {
        let (mut bytes, mut refused) = (0, Vec::new());
        for record in std::mem::take(records) {
            let rows = &record.rows;
            if let Some(too_large) = self.encode(rows)? {
                refused.push((record.writes, too_large));
                continue;
            }
            let header = RecordHeader {
                tenant: rows.tenant.0,
                kind: KIND_METRICS,
                records: u32::try_from(rows.samples() + rows.exemplars.len() as u64).unwrap_or(u32::MAX),
                time_ms: now,
                ..RecordHeader::default()
            };
            self.writer.append(&header, &self.payload)?;
            bytes += self.payload.len() as u64;
            records.push(record);
        }
        if records.is_empty() {
            return Ok(refused);
        }
        let Offset(next) = self.writer.sync()?;
        self.next = next;
        count(&self.figures.log_bytes_appended, bytes);
        count(&self.figures.syncs, 1);
        Ok(refused)
    }

    /// Encodes a record for the log file that it will be in: when that turns out to be a new one, once more. Gives why
    /// the log cannot take a record of its size, after which its group goes on without it.
    fn encode(&mut self, rows: &Rows) -> Result<Option<Error>> {
        self.encoder.encode(rows, &mut self.table, &mut self.payload);
        // The second time the file is new, so nothing is declared and the payload is the longest it can be.
        for _ in 0..3 {
            let (max, got) = (self.writer.payload_bytes_max(), self.payload.len() as u64);
            if got > max {
                // What it declared is not in the log.
                self.encoder.forget();
                let limit = "bytes of one record of the log";
                return Ok(Some(Error::Limit { limit, max, got, setting: "log.batch_bytes_max" }));
            }
            let file = self.writer.prepare(self.payload.len())?;
            if self.file == Some(file) {
                return Ok(None);
            }
            self.file = Some(file);
            self.encoder.reset();
            self.encoder.encode(rows, &mut self.table, &mut self.payload);
        }
        Err(Error::Log("the log began three files for one record".to_owned()))
    }

    /// Applies durable records in their order.
    fn apply(&mut self, records: &[Record], now: Millis) {
        records.iter().for_each(|record| self.unhide(&record.rows));
        self.show_new();
        for Record { rows, .. } in records {
            let counts = self.live.apply(rows, now);
            count(&self.figures.samples_late, counts.late);
            let tenant = self.tenant(rows.tenant);
            tenant.saw(counts.newest);
            tenant.saw_exemplar(counts.newest_exemplar);
        }
        self.figures.watermark.store(self.next, Ordering::Release);
    }

    /// Shows the series that were made to readers.
    fn show_new(&mut self) {
        if self.new.is_empty() {
            return;
        }
        let new = std::mem::take(&mut self.new);
        let born = self.live.epoch;
        let table = &mut self.table;
        self.registry.add(new.iter().filter_map(|&id| {
            let slot = table.slot_mut(id).filter(|slot| !slot.visible)?;
            slot.visible = true;
            Some((id, Known { labels: slot.labels.clone(), hash: slot.hash, tenant: slot.tenant, born }))
        }));
        self.new = new;
        self.new.clear();
    }

    fn freeze_if_due(&mut self, now: Millis) {
        let Some(begun) = self.live.begun() else {
            self.saw_flush_requests(self.inner.flush_requests());
            return;
        };
        let settings = &self.inner.settings;
        let share = settings.flush_bytes / u64::from(self.inner.partitions);
        let requests = self.inner.flush_requests();
        let requested = requests != self.flushes_seen;
        let due = self.live.bytes() >= share || now.saturating_sub(begun) >= settings.flush_ms || requested;
        if due && self.inner.frozen(self.partition) < FROZEN_MAX {
            self.freeze(now);
            self.saw_flush_requests(requests);
        }
    }

    /// Release: who sees the number sees the frozen head too.
    fn saw_flush_requests(&mut self, requests: u64) {
        self.flushes_seen = requests;
        self.figures.flushes_seen.store(requests, Ordering::Release);
    }

    /// Begins a new head behind the live one, which waits for its flush from now on.
    fn freeze(&mut self, now: Millis) {
        if self.live.begun().is_none() {
            return;
        }
        let next = Arc::new(Head::new(self.live.epoch + 1, self.next));
        let old = std::mem::replace(&mut self.live, Arc::clone(&next));
        self.older.push(Arc::downgrade(&old));
        self.ended.push((old.epoch, now));
        let frozen = Arc::new(FrozenHead { head: old, end: self.next });
        self.inner.freeze(self.partition, frozen, next);
        self.drop_idle(now);
    }

    /// Removes series that got no sample for long and whose samples no head holds any more.
    fn drop_idle(&mut self, now: Millis) {
        self.older.retain(|head| head.strong_count() > 0);
        let oldest_held = self.older.iter().filter_map(Weak::upgrade).map(|head| head.epoch).min();
        let oldest_held = oldest_held.unwrap_or(self.live.epoch);
        let idle = self.ended.iter().filter(|(_, ended)| now.saturating_sub(*ended) >= SERIES_IDLE_MS);
        let Some(idle) = idle.map(|(epoch, _)| *epoch).max() else { return };
        self.ended.retain(|(epoch, _)| *epoch >= idle);
        let mut removed = Vec::new();
        let mut owners = Vec::new();
        self.table.remove_idle(
            |slot| u64::from(slot.used) <= idle && u64::from(slot.used) < oldest_held,
            |id, slot| {
                removed.push(id);
                owners.push(slot.tenant);
            },
        );
        if removed.is_empty() {
            return;
        }
        self.registry.remove(&removed);
        removed.iter().for_each(|id| {
            self.hidden.remove(id);
        });
        for owner in owners {
            self.tenant(owner).remove_series();
        }
        count(&self.figures.series_dropped, removed.len() as u64);
        self.figures.series.store(self.table.len() as u64, Ordering::Relaxed);
    }

    /// Reads back what is not in segments yet; returns samples replayed.
    pub(crate) fn replay(&mut self, now: Millis, reports: &mut Vec<String>) -> Result<u64> {
        let (log, topic) = (self.inner.log.clone(), self.inner.topic.clone());
        let from = self.live.first;
        // From the start of the file, for what it declares before.
        let mut cursor = log.cursor(&topic, PartitionId(self.partition), From::FileOf(Offset(from)))?;
        let mut decoder = Decoder::default();
        let mut file = None;
        let mut rows = Rows::default();
        let mut samples = 0;
        let (mut expected, mut files) = (None, 0u32);
        while let Some(batch) = cursor.next()? {
            if file != Some(batch.file) {
                decoder.reset();
                file = Some(batch.file);
                files += 1;
            } else if expected != Some(batch.offset.0) {
                decoder.missed();
            }
            expected = Some(batch.offset.0 + u64::from(batch.header.records));
            if batch.header.kind == KIND_DELETION && batch.offset.0 >= from {
                match DeletionSpec::from_record(batch.payload) {
                    Ok(spec) => {
                        let tenant = TenantId(batch.header.tenant);
                        self.apply_deletion(Deletion::new(self.partition, batch.offset.0, tenant, spec));
                    }
                    Err(error) => reports
                        .push(format!("partition {}: deletion at offset {}: {error}", self.partition, batch.offset)),
                }
                self.next = batch.offset.0 + u64::from(batch.header.records);
            }
            if batch.header.kind != KIND_METRICS {
                continue;
            }
            let tenant = self.tenant(TenantId(batch.header.tenant));
            let wanted = batch.offset.0 >= from;
            let into = wanted.then_some(&mut rows);
            let mut resolve = |_, labels: Labels| {
                let hash = labels.hash();
                match self.table.find(tenant.id, hash) {
                    Some(id) => id,
                    None => self.insert(&tenant, hash, labels),
                }
            };
            match decoder.decode(batch.payload, tenant.id, &mut resolve, into) {
                Ok(0) => {}
                Ok(lost) => reports.push(format!(
                    "partition {}: {lost} samples at offset {} belong to series that a damaged record declared",
                    self.partition, batch.offset
                )),
                Err(error) => {
                    rows.clear();
                    reports.push(format!("partition {}: record at offset {}: {error}", self.partition, batch.offset));
                }
            }
            if wanted {
                self.unhide(&rows);
                self.show_new();
                let counts = self.live.apply(&rows, now);
                tenant.saw(counts.newest);
                tenant.saw_exemplar(counts.newest_exemplar);
                samples += rows.samples();
                self.next = batch.offset.0 + u64::from(batch.header.records);
                rows.clear();
            }
        }
        self.show_new();
        if files >= FILES_MAX && self.live.begun().is_some() {
            self.inner.ask_for_flush();
        }
        self.next = self.next.max(log.high_water(&topic, PartitionId(self.partition)).0);
        self.figures.watermark.store(self.next, Ordering::Release);
        Ok(samples)
    }
}

/// What is said against each sample of a series, if anything.
fn refusals(batch: &WriteBatch, series: &WriteSeries, bounds: Bounds) -> impl Iterator<Item = Option<RefusalReason>> {
    let times = batch.times.get(series.samples.start as usize..series.samples.end as usize);
    let histograms = batch.histograms.get(series.histograms.start as usize..series.histograms.end as usize);
    let times = times.unwrap_or_default().iter().map(move |time| bounds.refuse(*time));
    let histograms = histograms.unwrap_or_default().iter();
    times.chain(histograms.map(move |(time, histogram)| bounds.refuse_histogram(*time, histogram)))
}

/// Ends the samples that were gathered since `begun` as an entry of `id`.
#[inline]
fn end_entry(rows: &mut Rows, id: u32, begun: usize) {
    let samples = rows.times.len() - begun;
    if samples > 0 {
        rows.entries.push(Entry { series: id, count: samples as u32 });
    }
}

/// Notes a refused sample; of one series and reason they are counted together.
#[cold]
fn refuse(refused: &mut Vec<Refused>, series: u32, reason: RefusalReason) {
    match refused.last_mut() {
        Some(last) if last.series == series && last.reason == reason => last.samples += 1,
        _ => refused.push(Refused { series, samples: 1, reason }),
    }
}

fn check_labels(labels: &Labels, limits: &Limits) -> std::result::Result<(), RefusalReason> {
    if labels.metric_name().is_empty() {
        return Err(RefusalReason::NoName);
    }
    if labels.len() > limits.labels_per_series_max as usize {
        return Err(RefusalReason::TooManyLabels);
    }
    for (name, value) in labels.iter() {
        if name.len() > limits.label_name_bytes_max as usize {
            return Err(RefusalReason::LabelNameTooLong);
        }
        if value.len() > limits.label_value_bytes_max as usize {
            return Err(RefusalReason::LabelValueTooLong);
        }
    }
    Ok(())
}

/// A histogram whose spans and counts do not fit together.
fn contradicts(histogram: &Histogram) -> Option<RefusalReason> {
    let buckets = |spans: &[varve_model::histogram::Span]| spans.iter().map(|span| u64::from(span.length)).sum::<u64>();
    let fits = buckets(&histogram.positive_spans) == histogram.positive.len() as u64
        && buckets(&histogram.negative_spans) == histogram.negative.len() as u64
        && histogram.custom_bounds.is_sorted();
    (!fits).then_some(RefusalReason::InvalidHistogram)
}
