//! Writes: from a decoded batch to the answer of every shard that owns a part of it.

use std::sync::Arc;

use varve_engine::{Refused, Write, route};
use varve_model::{Labels, RefusalReason, TenantId, TenantName, WriteBatch};

use crate::app::App;
use crate::http::error::ApiError;
use crate::shard::Refusal;

/// What became of a write.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Samples stored, of both kinds.
    pub accepted: u64,
    /// Histogram samples among them.
    pub histograms: u64,
    /// Exemplars stored.
    pub exemplars: u64,
    /// Exemplars refused, which is no error: they are a help to the eye, and their samples are stored.
    pub exemplars_refused: u64,
    /// Samples refused, by reason, in order of reasons.
    pub refused: Vec<RefusedKind>,
    /// Data points left out before they were samples of a series.
    pub rejected: u64,
    /// What was left out or changed without being refused, in the words of a decoder.
    pub warnings: Vec<String>,
}

/// Samples refused for one reason.
#[derive(Clone, Debug)]
pub struct RefusedKind {
    /// Why.
    pub reason: RefusalReason,
    /// How many.
    pub samples: u64,
    /// The labels of the first series concerned, as text.
    pub example: String,
    /// What exactly is wrong, where a decoder said more than the reason.
    pub what: Option<&'static str>,
}

impl Outcome {
    /// Adds refused samples of a series.
    pub fn refuse(
        &mut self,
        batch: &WriteBatch,
        series: u32,
        samples: u64,
        reason: RefusalReason,
        what: Option<&'static str>,
    ) {
        if let Some(kind) = self.refused.iter_mut().find(|kind| kind.reason == reason) {
            kind.samples += samples;
            return;
        }
        let example =
            batch.series.get(series as usize).map(|series| describe(batch.label_bytes(series))).unwrap_or_default();
        self.refused.push(RefusedKind { reason, samples, example, what });
        self.refused.sort_by_key(|kind| kind.reason);
    }

    /// Samples refused in all.
    pub fn refused_samples(&self) -> u64 {
        self.refused.iter().map(|kind| kind.samples).sum()
    }
}

/// Label bytes as text, bounded: they may be what was refused.
fn describe(label_bytes: &[u8]) -> String {
    const TEXT_MAX: usize = 300;
    let mut text =
        match Labels::from_label_bytes(label_bytes.get(..label_bytes.len().min(64 << 10)).unwrap_or_default()) {
            Ok(labels) => labels.to_string(),
            Err(_) => String::from_utf8_lossy(label_bytes.get(..label_bytes.len().min(TEXT_MAX)).unwrap_or_default())
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
        };
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The id of a tenant that writes; made when the name is new.
pub async fn tenant(app: &Arc<App>, name: &TenantName) -> Result<TenantId, ApiError> {
    let engine = &app.store()?.engine;
    if let Some(id) = engine.find_tenant(name) {
        return Ok(id);
    }
    // Making one is a durable write.
    let engine = Arc::clone(engine);
    let name = name.clone();
    let made = tokio::task::spawn_blocking(move || engine.tenant(&name)).await;
    made.map_err(|_| ApiError::internal("a tenant could not be made"))?.map_err(ApiError::from)
}

/// Stores a batch: returns when every shard has it durable and visible. On an error some shards may have stored their
/// part; sending the request again is harmless, the later write of a sample replaces the earlier. `deltas`: the series,
/// ascending, whose samples are sums of deltas.
pub async fn write(app: &App, tenant: TenantId, batch: WriteBatch, deltas: &[u32]) -> Result<Outcome, ApiError> {
    let store = app.store()?;
    let mut outcome = Outcome::default();
    let batch = Arc::new(batch);
    let bytes = batch.memory_bytes() as u64;
    let mut pending = Vec::with_capacity(store.shards.len());
    for (queue, series) in store.shards.iter().zip(route(&batch, store.engine.partitions())) {
        if series.is_empty() {
            continue;
        }
        let share = bytes * series.len() as u64 / batch.series.len().max(1) as u64 + 1;
        let write = Write { tenant, batch: Arc::clone(&batch), series };
        pending.push(queue.push(write, share).map_err(|refusal| refused(app, refusal))?);
    }
    let mut failed = None;
    let mut refused: Vec<Refused> = Vec::new();
    for answer in pending {
        match answer.await {
            Ok(Ok(applied)) => {
                outcome.accepted += applied.accepted;
                outcome.exemplars += applied.exemplars;
                let exemplars = applied.exemplars_refused.iter().map(|refused| u64::from(refused.samples));
                outcome.exemplars_refused += exemplars.sum::<u64>();
                refused.extend(applied.refused);
            }
            Ok(Err(error)) => failed = Some(ApiError::from(error)),
            Err(_) => failed = Some(ApiError::unavailable("the shard ended before the write was stored")),
        }
    }
    if !deltas.is_empty() {
        // A series that is refused keeps no sum.
        let unstored = refused.iter().filter(|refused| deltas.binary_search(&refused.series).is_ok());
        let unstored = unstored.filter_map(|refused| batch.series.get(refused.series as usize));
        app.deltas.forget(tenant, unstored.map(|series| series.hash));
    }
    outcome.histograms = batch.histograms.len() as u64;
    for refused in refused {
        outcome.histograms -= refused_histograms(&batch, &refused).min(outcome.histograms);
        outcome.refuse(&batch, refused.series, refused.samples.into(), refused.reason, None);
    }
    if let Some(batch) = Arc::into_inner(batch) {
        app.buffers.give_batch(batch);
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(outcome),
    }
}

/// How it is answered that a shard takes nothing.
pub fn refused(app: &App, refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Full => ApiError::queue_full(app.settings.limits.queue_bytes_max),
        Refusal::Stopped => ApiError::unavailable("the shard has stopped"),
    }
}

/// How many of a series' refused samples were histograms. Senders put one kind into a series; where there are both, the
/// floats are counted first.
fn refused_histograms(batch: &WriteBatch, refused: &Refused) -> u64 {
    let Some(series) = batch.series.get(refused.series as usize) else { return 0 };
    let floats = series.samples.len() as u64;
    u64::from(refused.samples).saturating_sub(floats).min(series.histograms.len() as u64)
}
