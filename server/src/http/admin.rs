//! Administration of stored data over HTTP: deletion and its cleaning. Off by default, as in Prometheus.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use varve_engine::DeletionSpec;

use super::error::{ApiError, no_content};
use super::{Answer, labels, request};
use crate::app::App;
use crate::shard::Refusal;

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
            let answer = shard.delete(tenant, spec.clone()).map_err(|refusal| match refusal {
                Refusal::Full => ApiError::queue_full(app.settings.limits.queue_bytes_max),
                Refusal::Stopped => ApiError::unavailable("the server is stopping"),
            })?;
            answers.push(answer);
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
    while engine.deletions() > 0 {
        if app.elapsed() >= deadline {
            return Err(ApiError::unavailable("the cleaning goes on; `query_ms_max` is how long a call waits for it"));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(no_content())
}
