//! The self scrape: the server's own metrics, written into itself like anyone's, for a tenant of their own that the
//! default tenant sees.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use varve_model::TenantName;
use varve_protocol::exposition::{self, Format};

use crate::app::App;
use crate::http::error::ApiError;
use crate::{http, ingest, metrics};

/// The job label of the own metrics.
const JOB: &str = "varve";
/// The tenant of the own metrics.
const OWN_TENANT: &str = "_varve";

/// Scrapes until it is dropped.
pub async fn run(app: Arc<App>, local: SocketAddr) {
    let instance = local.to_string();
    let mut ticks = tokio::time::interval(Duration::from_millis(app.settings.server.self_scrape_ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        if let Err(error) = scrape(&app, &instance).await {
            app.metrics.self_scrapes_failed.add(1);
            tracing::warn!(%error, "the own metrics could not be stored");
        }
    }
}

async fn scrape(app: &Arc<App>, instance: &str) -> Result<(), ApiError> {
    let begin = app.elapsed();
    let now = app.now();
    let mut text = metrics::exposition(app);
    let samples = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#")).count();
    let seconds = app.elapsed().saturating_sub(begin).as_secs_f64();
    text.extend_from_slice(
        format!("up 1\nscrape_duration_seconds {seconds}\nscrape_samples_scraped {samples}\n").as_bytes(),
    );
    let mut batch = app.buffers.batch();
    let labels = [("job", JOB), ("instance", instance)];
    let summary = exposition::decode(&text, Format::Text, now, &labels, &app.settings.limits, &mut batch)?;
    // The default tenant sees the own metrics as if they were its own, from the first query on.
    ingest::tenant(app, &TenantName::default()).await?;
    let tenant = ingest::tenant(app, &own_tenant()).await?;
    http::ingest::store(app, tenant, batch, &summary).await?;
    Ok(())
}

/// The tenant that owns the own metrics. They are kept apart from what the default tenant sends, because the age of
/// data is counted from a tenant's newest sample: a scrape of now would age the history that somebody is loading.
pub fn own_tenant() -> TenantName {
    TenantName::parse(OWN_TENANT).unwrap_or_default()
}
