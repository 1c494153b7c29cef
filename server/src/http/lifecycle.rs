//! Stop and reload over HTTP, off by default as in Prometheus.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;

use super::error::ApiError;
use super::{Answer, plain};
use crate::app::App;

fn check(app: &App) -> Result<(), ApiError> {
    if app.settings.server.web_enable_lifecycle {
        return Ok(());
    }
    Err(ApiError::forbidden("Lifecycle API is not enabled. Set `web_enable_lifecycle` to enable it"))
}

/// `/-/quit`: the answer goes out, then the server stops as on a signal.
pub async fn quit(app: Arc<App>, _: Request<Body>) -> Answer {
    check(&app)?;
    let text =
        if app.ask_to_quit() { "Requesting termination... Goodbye!" } else { "Termination already in progress." };
    Ok(plain(text))
}

/// `/-/reload`: the configuration that can change while the server runs is read again.
pub async fn reload(app: Arc<App>, _: Request<Body>) -> Answer {
    check(&app)?;
    app.reload().await.map_err(|what| ApiError::internal(format!("failed to reload config: {what}")))?;
    Ok(plain(""))
}
