//! Writes over HTTP: what every protocol goes through.
//!
//! A body goes: buffer of the pool, decompressed into the buffer of a pooled batch, decoded in place, stored. What is
//! refused is counted by reason and named in the answer; its neighbours are stored. Each protocol has its own file and
//! brings three things: how its headers choose a decoder, the decoder, and the form of its answer.

mod exposition;
mod influx;
mod otlp;
mod remote_write;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, header};
use varve_model::write::Metadata;
use varve_model::{Limits, RefusalReason, TenantId, WriteBatch};
use varve_protocol::Summary;

use super::body::{self, BodyLimit, ReadBody};
use super::error::{ApiError, no_content};
use super::request;
use crate::app::App;
use crate::ingest::{self, Outcome};

pub use exposition::exposition;
pub use influx::{ping as influx_ping, query as influx_query, write as influx_write};
pub use otlp::{otlp, settings as otlp_settings};
pub use remote_write::remote_write;

/// Bodies from this size on are decoded with the thread's other tasks moved away.
const HEAVY_BYTES: usize = 256 << 10;

/// How long a write waits for its turn before it is refused.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// From a body as sent to a batch.
type Decode<'a> =
    &'a (dyn Fn(&App, &mut ReadBody<'_>, &mut WriteBatch) -> Result<Summary, varve_protocol::Error> + Sync);

/// What is done to a decoded batch of a tenant before it is stored.
type Prepare<'a> = &'a (dyn Fn(&App, TenantId, &mut WriteBatch, &mut Summary) + Sync);

/// Reads, decodes and stores.
async fn take(app: &Arc<App>, request: Request<Body>, decode: Decode<'_>) -> Result<Outcome, ApiError> {
    take_with(app, request, decode, &|_, _, _, _| {}).await
}

/// [`take`] with a step between decoding and storing.
async fn take_with(
    app: &Arc<App>,
    request: Request<Body>,
    decode: Decode<'_>,
    prepare: Prepare<'_>,
) -> Result<Outcome, ApiError> {
    app.store()?;
    let begin = app.elapsed();
    let name = request::tenant_name(request.headers())?;
    let limits = &app.settings.limits;
    let limit = BodyLimit { bytes_max: limits.body_bytes_max, setting: "body_bytes_max" };
    let mut body = body::read(app, request, limit).await?;
    let _permit = match tokio::time::timeout(WAIT_MAX, app.writes.acquire()).await {
        Ok(Ok(permit)) => permit,
        _ => {
            let max = limits.concurrent_writes_max.into();
            return Err(ApiError::busy("writes in progress", max, "concurrent_writes_max"));
        }
    };
    // Every decoder begins by replacing what the batch holds.
    let mut batch = app.buffers.used_batch();
    let bytes = body.bytes().len();
    let mut work = || decode(app, &mut body, &mut batch);
    let summary = if bytes < HEAVY_BYTES { work() } else { tokio::task::block_in_place(work) };
    app.metrics.write_body_bytes.add(bytes as u64);
    let mut held = body.into_held();
    let mut summary = summary.map_err(ApiError::from).inspect_err(|error| {
        if error.status() < 500 {
            app.metrics.writes_malformed.add(1);
        }
    })?;
    // To the end of the request: until the batch is stored.
    held.set(batch.memory_bytes() as u64)?;
    let tenant = ingest::tenant(app, &name).await?;
    prepare(app, tenant, &mut batch, &mut summary);
    let outcome = store(app, tenant, batch, &summary).await?;
    app.metrics.write_seconds.observe(app.elapsed().saturating_sub(begin).as_secs_f64());
    Ok(outcome)
}

/// 204 when all is stored, else the 400 that says what is not.
fn answer(outcome: &Outcome, limits: &Limits) -> Response<Body> {
    if outcome.refused.is_empty() { no_content() } else { ApiError::bad_data(refusal_text(outcome, limits)).response() }
}

/// Stores a decoded batch, its metadata included.
pub async fn store(
    app: &Arc<App>,
    tenant: TenantId,
    mut batch: WriteBatch,
    summary: &Summary,
) -> Result<Outcome, ApiError> {
    let mut decoded = Outcome::default();
    for refused in &summary.refused {
        decoded.refuse(&batch, refused.series, refused.samples.into(), refused.reason, Some(refused.what));
    }
    if !batch.metadata.is_empty() {
        let metadata = std::mem::take(&mut batch.metadata);
        let families = metadata.len() as u64;
        match put_metadata(app, tenant, metadata).await {
            Ok(left_out) => app.metrics.metadata_left_out.add(left_out),
            // No sample fails for a help text: senders say it again.
            Err(_) if !batch.series.is_empty() => app.metrics.metadata_left_out.add(families),
            Err(error) => return Err(error),
        }
    }
    let mut outcome = if batch.series.is_empty() {
        app.buffers.give_batch(batch);
        Outcome::default()
    } else {
        ingest::write(app, tenant, batch, &summary.deltas).await?
    };
    for kind in decoded.refused {
        match outcome.refused.iter_mut().find(|known| known.reason == kind.reason) {
            Some(known) => known.samples += kind.samples,
            None => outcome.refused.push(kind),
        }
    }
    outcome.warnings.extend(summary.warnings.iter().cloned());
    outcome.rejected += summary.rejected;
    app.metrics.samples_accepted.add(outcome.accepted);
    app.metrics.exemplars_accepted.add(outcome.exemplars);
    app.metrics.exemplars_dropped.add(outcome.exemplars_refused);
    for kind in &outcome.refused {
        app.metrics.count_refused(kind.reason, kind.samples);
    }
    Ok(outcome)
}

/// Gives how many families were left out.
async fn put_metadata(app: &Arc<App>, tenant: TenantId, metadata: Vec<Metadata>) -> Result<u64, ApiError> {
    let engine = Arc::clone(&app.store()?.engine);
    // A durable write, so not on a thread that serves sockets.
    tokio::task::spawn_blocking(move || engine.put_metadata(tenant, &metadata))
        .await
        .map_err(|_| ApiError::internal("metadata could not be stored"))?
        .map_err(ApiError::from)
}

/// How a body is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// A snappy block.
    Snappy,
    /// gzip
    Gzip,
    /// zstd
    Zstd,
}

impl Encoding {
    /// By the header; `absent` when there is none.
    pub fn of(headers: &HeaderMap, absent: Encoding) -> Result<Encoding, ApiError> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(absent) };
        match value.to_str().unwrap_or_default() {
            "" => Ok(absent),
            "snappy" => Ok(Encoding::Snappy),
            "gzip" => Ok(Encoding::Gzip),
            "zstd" => Ok(Encoding::Zstd),
            "identity" => Ok(Encoding::Identity),
            _ => Err(ApiError::unsupported("the content encoding is not one of snappy, zstd, gzip, identity")),
        }
    }
}

/// The sentence of a reason, with the setting that moves it where there is one.
pub fn reason_text(reason: RefusalReason, limits: &Limits) -> String {
    let beyond = |what: &str, max: String, setting: &str| format!("{what} beyond {max} (setting `{setting}`)");
    match reason {
        RefusalReason::InvalidLabels => "invalid labels (a name is empty, occurs twice, or is not UTF-8)".to_owned(),
        RefusalReason::NoName => "no metric name".to_owned(),
        RefusalReason::TooManyLabels => {
            beyond("number of labels", limits.labels_per_series_max.to_string(), "labels_per_series_max")
        }
        RefusalReason::LabelNameTooLong => {
            beyond("label name", format!("{} bytes", limits.label_name_bytes_max), "label_name_bytes_max")
        }
        RefusalReason::LabelValueTooLong => {
            beyond("label value", format!("{} bytes", limits.label_value_bytes_max), "label_value_bytes_max")
        }
        RefusalReason::TooManySeries => format!(
            "new series beyond {} of the tenant or {} in all (settings `series_per_tenant_max`, `series_max`)",
            limits.series_per_tenant_max, limits.series_max
        ),
        RefusalReason::TooFarInFuture => {
            beyond("timestamp ahead of the clock", format!("{} ms", limits.future_ms_max), "future_ms_max")
        }
        RefusalReason::TooOld => "timestamp older than the retention keeps (setting `retention_ms`)".to_owned(),
        RefusalReason::InvalidHistogram => "histogram that contradicts itself".to_owned(),
        RefusalReason::HistogramTooLarge => beyond(
            "buckets, spans and bounds of a histogram",
            limits.histogram_buckets_max.to_string(),
            "histogram_buckets_max",
        ),
        RefusalReason::TooManyExemplars => format!(
            "exemplars beyond {} of the series or {} of the tenant before the next flush (settings \
             `exemplars_per_series_max`, `exemplars_per_tenant_max`)",
            limits.exemplars_per_series_max, limits.exemplars_per_tenant_max
        ),
        RefusalReason::ExemplarLabelsTooLong => beyond(
            "labels of an exemplar",
            format!("{} characters", limits.exemplar_label_chars_max),
            "exemplar_label_chars_max",
        ),
    }
}

fn refusal_text(outcome: &Outcome, limits: &Limits) -> String {
    let refused = outcome.refused_samples();
    let mut text = format!("{refused} of {} samples refused, the others are stored", refused + outcome.accepted);
    for kind in &outcome.refused {
        text.push_str(&format!("; {} for {}", kind.samples, reason_text(kind.reason, limits)));
        if let Some(what) = kind.what {
            text.push_str(&format!(": {what}"));
        }
        if !kind.example.is_empty() {
            text.push_str(&format!(", first in series {}", kind.example));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_counts_settings_and_the_first_series() {
        let mut batch = WriteBatch::default();
        batch.push_series([("__name__", "x"), ("a", "b")].into_iter());
        let mut outcome = Outcome { accepted: 7, ..Outcome::default() };
        outcome.refuse(&batch, 0, 2, RefusalReason::TooFarInFuture, None);
        outcome.refuse(&batch, 0, 1, RefusalReason::TooFarInFuture, None);
        let text = refusal_text(&outcome, &Limits::default());
        assert!(text.contains("3 of 10 samples refused"), "{text}");
        assert!(text.contains("`future_ms_max`"), "{text}");
        assert!(text.contains(r#"__name__="x""#), "{text}");
    }

    #[test]
    fn encodings_are_known_or_refused() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_ENCODING, value.parse().unwrap());
            Encoding::of(&headers, Encoding::Snappy)
        };
        assert_eq!(of("zstd").unwrap(), Encoding::Zstd);
        assert_eq!(of("snappy, snappy").unwrap_err().status(), 415);
        assert_eq!(Encoding::of(&HeaderMap::new(), Encoding::Snappy).unwrap(), Encoding::Snappy);
    }
}
