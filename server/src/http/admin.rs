//! Administration of stored data over HTTP: deletion, its cleaning, copies. Off by default, as in Prometheus.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use varve_engine::DeletionSpec;

use super::error::{ApiError, no_content};
use super::{Answer, json, labels, request, success};
use crate::app::App;
use crate::ingest;

/// How often a call that waits looks whether the work is done.
const LOOK: Duration = Duration::from_millis(20);

fn check(app: &App) -> Result<(), ApiError> {
    if app.settings.server.web_enable_admin_api {
        return Ok(());
    }
    Err(ApiError::forbidden("admin APIs disabled; set `web_enable_admin_api` to enable them"))
}

/// `/api/v1/admin/tsdb/delete_series`: when it is answered, no query sees the samples any more, whatever happens. Only
/// the tenant's own data goes; what it shares with others stays.
pub async fn delete_series(app: Arc<App>, request: Request<Body>) -> Answer {
    check(&app)?;
    let name = request::tenant_name(request.headers())?;
    let params = request::params(&app, request).await?;
    if params.all("match[]").is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let range = params.range()?;
    let selectors = labels::any_selectors(&app, &params, &labels::wrong_match)?;
    let store = app.store()?;
    let Some(tenant) = store.engine.find_tenant(&name) else { return Ok(no_content()) };
    for matchers in selectors {
        let spec = DeletionSpec { matchers, range };
        let mut answers = Vec::with_capacity(store.shards.len());
        for shard in &store.shards {
            answers.push(shard.delete(tenant, spec.clone()).map_err(|refusal| ingest::refused(&app, refusal))?);
        }
        for answer in answers {
            answer.await.map_err(|_| ApiError::internal("a shard ended without an answer"))??;
        }
    }
    Ok(no_content())
}

/// `/api/v1/admin/tsdb/clean_tombstones`: when it is answered, what was deleted has left the segments.
pub async fn clean_tombstones(app: Arc<App>, _: Request<Body>) -> Answer {
    check(&app)?;
    let engine = &app.store()?.engine;
    engine.request_flush();
    engine.clean_tombstones();
    let deadline = app.elapsed() + Duration::from_millis(app.settings.limits.query_ms_max);
    while engine.deletions_to_clean() > 0 {
        if app.elapsed() >= deadline {
            return Err(ApiError::unavailable("the cleaning goes on; `query_ms_max` is how long a call waits for it"));
        }
        tokio::time::sleep(LOOK).await;
    }
    match engine.deletions() {
        0 => Ok(no_content()),
        left => Err(ApiError::internal(format!(
            "all is cleaned but segments that are damaged or cannot be read: {left} deletions go on hiding in them"
        ))),
    }
}

/// `/api/v1/admin/tsdb/snapshot`: a data directory of its own below `snapshots`, with all that is acknowledged now; what
/// is only in heads is left out when `skip_head` says so.
pub async fn snapshot(app: Arc<App>, request: Request<Body>) -> Answer {
    check(&app)?;
    let params = request::params(&app, request).await?;
    let skip_head = params
        .switch("skip_head")
        .map_err(|what| ApiError::parameter("skip_head", format!("unable to parse boolean: {what}")))?;
    let engine = Arc::clone(&app.store()?.engine);
    if !skip_head {
        let flush = engine.request_flush();
        let deadline = app.elapsed() + Duration::from_millis(app.settings.limits.query_ms_max);
        while !engine.is_flushed(flush) {
            if app.elapsed() >= deadline {
                return Err(ApiError::unavailable("the heads are not flushed within `query_ms_max`; try again"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    let name = format!("{}-{:016x}", stamp(app.now()), unlike(&app) >> 1);
    let copies = app.settings.server.data_dir.join("snapshots");
    let dir = copies.join(&name);
    let vfs = Arc::clone(&app.env.vfs);
    let copied = tokio::task::spawn_blocking(move || {
        vfs.create_dir(&copies).map_err(|e| ApiError::internal(format!("create snapshot directory: {e}")))?;
        Ok::<_, ApiError>(engine.copy_to(&dir)?)
    });
    let copied = copied.await.map_err(|e| ApiError::internal(format!("create snapshot: {e}")))??;
    tracing::info!(name, segments = copied.segments, bytes = copied.bytes, "data directory copied");
    Ok(success(|out| {
        out.extend_from_slice(b"{\"name\":");
        json::push_string(out, &name);
        out.push(b'}');
    }))
}

/// A number that no two calls of any process are likely to share.
fn unlike(app: &App) -> u64 {
    (app.env.seed ^ app.elapsed().as_nanos() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A time as it stands in the name of a copy: `20260102T133700Z`.
fn stamp(now: i64) -> String {
    let text = super::status::rfc3339(now);
    let seconds = text.split('.').next().unwrap_or_default();
    format!("{}Z", seconds.replace(['-', ':'], ""))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_of_copies_sort_by_time() {
        assert_eq!(super::stamp(1_435_781_451_781), "20150701T201051Z");
    }
}
