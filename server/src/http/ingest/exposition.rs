//! `POST /api/v1/import/prometheus`: the text exposition formats.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use varve_model::WriteBatch;
use varve_protocol::exposition::{Format, decode};

use super::{Encoding, answer, take};
use crate::app::App;
use crate::http::body::ReadBody;
use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::{Answer, request};

/// `POST /api/v1/import/prometheus`; every parameter is a label of each series.
pub async fn exposition(app: Arc<App>, request: Request<Body>) -> Answer {
    let encoding = Encoding::of(request.headers(), Encoding::Identity)?;
    let params = Params::parse(request.uri().query().unwrap_or_default().as_bytes())?;
    let labels: Vec<(String, String)> =
        params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let (max, got) = (app.settings.limits.labels_per_series_max as usize, labels.len());
    if got > max {
        return Err(ApiError::bad_data(format!(
            "{got} parameters, each a label of every series; the limit is {max} labels, raise `labels_per_series_max` \
             to allow more"
        )));
    }
    let now = app.now();
    let format = Format::of(&request::media_type(request.headers()));
    let read = |app: &App, body: &mut ReadBody<'_>, batch: &mut WriteBatch| {
        let limits = &app.settings.limits;
        let extra: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        body.decode(encoding, |plain| decode(plain, format, now, &extra, limits, batch))
    };
    let outcome = take(&app, request, &read).await?;
    Ok(answer(&outcome, &app.settings.limits))
}
