//! Influx: line protocol at the paths of both versions, and as much around it as its clients ask before they write.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Response};
use varve_model::WriteBatch;
use varve_protocol::influx::{Defaults, Precision, decode};

use super::{Encoding, refusal_text, take};
use crate::app::App;
use crate::http::body::ReadBody;
use crate::http::error::{ApiError, no_content};
use crate::http::params::Params;
use crate::http::{Answer, json, json_response, request};

const VERSION: HeaderName = HeaderName::from_static("x-influxdb-version");
const BUILD: HeaderName = HeaderName::from_static("x-influxdb-build");
/// The version whose line protocol and ping this is.
const SPOKEN: HeaderValue = HeaderValue::from_static("1.8.10");

fn signed(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(VERSION, SPOKEN);
    response.headers_mut().insert(BUILD, HeaderValue::from_static("Varve"));
    response
}

/// `POST /write` and `POST /api/v2/write`
pub async fn write(app: Arc<App>, request: Request<Body>) -> Answer {
    let encoding = Encoding::of(request.headers(), Encoding::Identity)?;
    let params = Params::parse(request.uri().query().unwrap_or_default().as_bytes())?;
    let Some(precision) = Precision::parse(params.text("precision")) else {
        return Err(ApiError::parameter("precision", "it is none of ns, us, ms, s, m, h"));
    };
    let db = params.text("db").to_owned();
    let now = app.now();
    let read = |app: &App, body: &mut ReadBody<'_>, batch: &mut WriteBatch| {
        let limits = &app.settings.limits;
        let defaults = Defaults { precision, now, db: &db };
        body.decode(encoding, |plain| decode(plain, &defaults, limits, batch))
    };
    let outcome = take(&app, request, &read).await?;
    if outcome.rejected == 0 && outcome.refused.is_empty() {
        return Ok(signed(no_content()));
    }
    let mut text = "partial write: ".to_owned();
    if outcome.rejected > 0 {
        text.push_str(&format!("{} lines cannot be read: {}; ", outcome.rejected, outcome.warnings.join("; ")));
    }
    text.push_str(&refusal_text(&outcome, &app.settings.limits));
    Ok(signed(ApiError::bad_data(text).response()))
}

/// `/ping`
pub async fn ping(_: Arc<App>, _: Request<Body>) -> Answer {
    Ok(signed(no_content()))
}

/// `/query`: what clients ask of databases. There are none, so each can be made and the one there is has all data.
pub async fn query(app: Arc<App>, request: Request<Body>) -> Answer {
    let params = request::params(&app, request).await?;
    let mut body = b"{\"results\":[".to_vec();
    let statements = params.text("q").split(';').map(str::trim).filter(|statement| !statement.is_empty());
    for (index, statement) in statements.enumerate() {
        let mut words = statement.split_whitespace().map(str::to_ascii_uppercase);
        let name = "{\"name\":\"databases\",\"columns\":[\"name\"],\"values\":[[\"default\"]]}";
        let series = match (words.next().as_deref(), words.next().as_deref()) {
            (Some("CREATE"), Some("DATABASE")) => String::new(),
            (Some("SHOW"), Some("DATABASES")) => format!(",\"series\":[{name}]"),
            _ => {
                let known: String = statement.chars().take(100).collect();
                return Err(ApiError::parameter("q", format!("{known:?} is not understood; ask in PromQL")));
            }
        };
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(b"{\"statement_id\":");
        json::push_u64(&mut body, index as u64);
        body.extend_from_slice(series.as_bytes());
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    Ok(signed(json_response(body)))
}
