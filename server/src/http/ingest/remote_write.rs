//! `POST /api/v1/write`: remote write 1.0 and 2.0, chosen by the content type.
//!
//! | `Content-Type` | message |
//! |---|---|
//! | absent, `application/x-protobuf`, `…;proto=prometheus.WriteRequest` | 1.0 |
//! | `application/x-protobuf;proto=io.prometheus.write.v2.Request` | 2.0; the answer counts what was written |
//! | anything else | 415, upon which senders of 2.0 fall back to 1.0 |

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request};
use varve_model::WriteBatch;
use varve_protocol::remote_write::{decode_v1, decode_v2};

use super::{Encoding, answer, take};
use crate::app::App;
use crate::http::body::ReadBody;
use crate::http::error::ApiError;
use crate::http::{Answer, request};

const SAMPLES_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
const HISTOGRAMS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const EXEMPLARS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-exemplars-written");

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Version {
    V1,
    V2,
}

impl Version {
    fn of(headers: &HeaderMap) -> Result<Version, ApiError> {
        match request::media_type(headers).as_str() {
            "" | "application/x-protobuf" => {}
            other => {
                return Err(ApiError::unsupported(format!("content type {other:?} is not application/x-protobuf")));
            }
        }
        match request::media_parameter(headers, "proto").as_deref() {
            None | Some("prometheus.WriteRequest") => Ok(Version::V1),
            Some("io.prometheus.write.v2.Request") => Ok(Version::V2),
            Some(other) => Err(ApiError::unsupported(format!(
                "message {other:?} is not understood; send prometheus.WriteRequest or io.prometheus.write.v2.Request"
            ))),
        }
    }
}

/// `POST /api/v1/write`
pub async fn remote_write(app: Arc<App>, request: Request<Body>) -> Answer {
    let encoding = Encoding::of(request.headers(), Encoding::Snappy)?;
    let version = Version::of(request.headers())?;
    let decode = |app: &App, body: &mut ReadBody<'_>, batch: &mut WriteBatch| {
        let limits = &app.settings.limits;
        match version {
            Version::V1 => decode_v1(body.inflate(encoding, std::mem::take(&mut batch.bytes))?, limits, batch),
            Version::V2 => body.decode(encoding, |plain| decode_v2(plain, limits, batch)),
        }
    };
    let outcome = take(&app, request, &decode).await?;
    let mut response = answer(&outcome, &app.settings.limits);
    if version == Version::V2 {
        let headers = response.headers_mut();
        headers.insert(SAMPLES_WRITTEN, HeaderValue::from(outcome.accepted.saturating_sub(outcome.histograms)));
        headers.insert(HISTOGRAMS_WRITTEN, HeaderValue::from(outcome.histograms));
        headers.insert(EXEMPLARS_WRITTEN, HeaderValue::from(outcome.exemplars));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content_type: &str, expected: Option<Version>) {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", content_type.parse().unwrap());
        match Version::of(&headers) {
            Ok(version) => assert_eq!(Some(version), expected, "{content_type}"),
            Err(error) => assert_eq!((error.status(), expected), (415, None), "{content_type}"),
        }
    }

    #[test]
    fn the_content_type_chooses_the_message() {
        assert_eq!(Version::of(&HeaderMap::new()).unwrap(), Version::V1);
        check("application/x-protobuf", Some(Version::V1));
        check("application/x-protobuf; proto=prometheus.WriteRequest", Some(Version::V1));
        check("application/x-protobuf;proto=io.prometheus.write.v2.Request", Some(Version::V2));
        check("Application/X-Protobuf; charset=utf-8; proto=\"io.prometheus.write.v2.Request\"", Some(Version::V2));
        check("application/x-protobuf;proto=io.prometheus.write.v3.Request", None);
        check("application/json", None);
    }
}
