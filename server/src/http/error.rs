//! Errors of HTTP: the only place that knows status codes. Every refusal is the JSON that Prometheus answers,
//! `{"status":"error","errorType":…,"error":…}`; a limit's text names its setting.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use varve_model::limit::setting as limit;

use super::json;

/// The error type of Prometheus's API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorType {
    /// The request is wrong.
    BadData,
    /// The query cannot be evaluated.
    Execution,
    /// It took too long.
    Timeout,
    /// The caller left.
    Canceled,
    /// The server failed.
    Internal,
    /// The server cannot now.
    Unavailable,
    /// There is no such thing.
    NotFound,
    /// Too much at once.
    TooMany,
}

impl ErrorType {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorType::BadData => "bad_data",
            ErrorType::Execution => "execution",
            ErrorType::Timeout => "timeout",
            ErrorType::Canceled => "canceled",
            ErrorType::Internal => "internal",
            ErrorType::Unavailable => "unavailable",
            ErrorType::NotFound => "not_found",
            ErrorType::TooMany => "too_many_requests",
        }
    }
}

/// A refusal on its way to the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiError {
    status: StatusCode,
    kind: ErrorType,
    text: String,
    retry_after_s: Option<u32>,
    close: bool,
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.kind.as_str(), self.text)
    }
}

impl ApiError {
    fn new(status: StatusCode, kind: ErrorType, text: impl Into<String>) -> ApiError {
        ApiError { status, kind, text: text.into(), retry_after_s: None, close: false }
    }

    /// The request is wrong: 400.
    pub fn bad_data(text: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, ErrorType::BadData, text)
    }

    /// A parameter is wrong, in Prometheus's words: 400.
    pub fn parameter(name: &str, what: impl std::fmt::Display) -> ApiError {
        ApiError::bad_data(format!("invalid parameter {name:?}: {what}"))
    }

    /// A content type or encoding that is not understood: 415.
    pub fn unsupported(text: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorType::BadData, text)
    }

    /// A body beyond a limit: 413. The connection is closed, its rest is not worth reading.
    pub fn too_large(what: &str, max: u64, setting: &str) -> ApiError {
        let text = format!("{what} is larger than {max} bytes; raise `{setting}` to allow more");
        ApiError { close: true, ..ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorType::BadData, text) }
    }

    /// A body that did not arrive in time: 408.
    pub fn slow_body(ms: u64) -> ApiError {
        let text = format!("the request's body did not arrive within {ms} ms; raise `http_body_ms_max` to allow more");
        ApiError { close: true, ..ApiError::new(StatusCode::REQUEST_TIMEOUT, ErrorType::Timeout, text) }
    }

    /// A body that broke off or is not HTTP: 400, and the connection is closed.
    pub fn broken_body(what: impl std::fmt::Display) -> ApiError {
        ApiError { close: true, ..ApiError::bad_data(format!("the request's body cannot be read: {what}")) }
    }

    /// No such path: 404.
    pub fn not_found(path: &str) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, ErrorType::NotFound, format!("there is nothing at {path:?}"))
    }

    /// Switched off by a setting: 403.
    pub fn forbidden(text: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, ErrorType::Unavailable, text)
    }

    /// The path is there, the method is not: 405.
    pub fn method_not_allowed(method: &str, path: &str) -> ApiError {
        let text = format!("{method} is not allowed at {path:?}");
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, ErrorType::BadData, text)
    }

    /// The server is starting or stopping: 503.
    pub fn unavailable(text: impl Into<String>) -> ApiError {
        ApiError {
            retry_after_s: Some(1),
            ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, ErrorType::Unavailable, text)
        }
    }

    /// Too much at once, by a limit of ours: 429.
    pub fn too_many(what: &str, max: u64, setting: &str) -> ApiError {
        let text = format!("{what}: limit of {max} reached; try again or raise `{setting}`");
        ApiError { retry_after_s: Some(1), ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, ErrorType::TooMany, text) }
    }

    /// The queue of a shard is full: 503.
    pub fn queue_full(max: u64) -> ApiError {
        ApiError::unavailable(format!(
            "writes wait for the disk: limit of {max} bytes reached; try again or raise `queue_bytes_max`"
        ))
    }

    /// Writes wait for each other too long: 503, because senders drop what they are told with a 429 or any other 4xx.
    pub fn busy(what: &str, max: u64, setting: &str) -> ApiError {
        ApiError::unavailable(format!("{what}: limit of {max} reached; try again or raise `{setting}`"))
    }

    /// A bug of ours: 500.
    pub fn internal(text: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorType::Internal, text)
    }

    /// The status as a number, for metrics and tests.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.text.len() + 64);
        body.extend_from_slice(b"{\"status\":\"error\",\"errorType\":\"");
        body.extend_from_slice(self.kind.as_str().as_bytes());
        body.extend_from_slice(b"\",\"error\":");
        json::push_string(&mut body, &self.text);
        body.push(b'}');
        body
    }

    /// The answer as bytes of HTTP/1.1 that end the connection, for where no request was read.
    pub fn raw(&self) -> Vec<u8> {
        let body = self.body();
        let reason = self.status.canonical_reason().unwrap_or_default();
        let retry = self.retry_after_s.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
        let mut raw = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\n{retry}connection: close\r\ncontent-length: {}\r\n\r\n",
            self.status.as_u16(),
            body.len()
        )
        .into_bytes();
        raw.extend_from_slice(&body);
        raw
    }

    /// The answer.
    pub fn response(&self) -> Response<Body> {
        let mut response = super::json_response(self.body());
        *response.status_mut() = self.status;
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<varve_query::Error> for ApiError {
    fn from(error: varve_query::Error) -> ApiError {
        use varve_query::Error;
        let text = error.to_string();
        match error {
            Error::Parse(what) => ApiError::parameter("query", what),
            // Passes when the other queries are done.
            Error::Limit { setting: "queries_bytes_max", .. } => ApiError::unavailable(text),
            Error::Execution(_) | Error::Limit { .. } => {
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, ErrorType::Execution, text)
            }
            Error::Timeout(_) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, ErrorType::Timeout, text),
            Error::Canceled(_) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, ErrorType::Canceled, text),
            _ => ApiError::internal(text),
        }
    }
}

/// The answer to what was stored whole and has nothing to say.
pub fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

impl From<varve_protocol::Error> for ApiError {
    fn from(error: varve_protocol::Error) -> ApiError {
        use varve_protocol::Error;
        let text = error.to_string();
        match error {
            Error::Limit { setting: "decompressed_bytes_max" | "body_bytes_max", .. } => {
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorType::BadData, text)
            }
            // Passes when the other requests are done.
            Error::Limit { limit, max, setting: setting @ "bodies_bytes_max", .. } => {
                ApiError::busy(limit, max, setting)
            }
            _ => ApiError::bad_data(text),
        }
    }
}

/// How a limit of the engine is answered. What passes by itself is 503, which every sender of samples tries again (a
/// 429 makes some drop them); what needs a decision is 429; what is too large by itself is 413, a query's limit 422, the
/// rest 400.
fn limit_status(setting: &str) -> (StatusCode, ErrorType) {
    match setting {
        limit::HEAD_BYTES_MAX => (StatusCode::SERVICE_UNAVAILABLE, ErrorType::Unavailable),
        limit::TENANTS_MAX | limit::DELETIONS_MAX => (StatusCode::TOO_MANY_REQUESTS, ErrorType::TooMany),
        // The log's own.
        "log.batch_bytes_max" => (StatusCode::PAYLOAD_TOO_LARGE, ErrorType::BadData),
        limit::QUERY_SERIES_MAX | limit::QUERY_EXEMPLARS_MAX => {
            (StatusCode::UNPROCESSABLE_ENTITY, ErrorType::Execution)
        }
        _ => (StatusCode::BAD_REQUEST, ErrorType::BadData),
    }
}

impl From<varve_engine::Error> for ApiError {
    fn from(error: varve_engine::Error) -> ApiError {
        use varve_engine::Error;
        let text = error.to_string();
        match error {
            Error::Limit { setting, .. } => {
                let (status, kind) = limit_status(setting);
                let again = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
                let retry_after_s = again.then_some(1);
                ApiError { retry_after_s, ..ApiError::new(status, kind, text) }
            }
            Error::Full { .. } | Error::Io { .. } | Error::Log(_) => ApiError::unavailable(text),
            _ => ApiError::internal(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_follow_the_kind_of_error() {
        let limit = varve_query::Error::Limit { limit: "samples", max: 1, setting: "query_samples_max" };
        let error = ApiError::from(limit);
        assert_eq!(error.status(), 422);
        assert!(error.text().contains("query_samples_max"));
        assert_eq!(ApiError::from(varve_query::Error::Parse("x".into())).status(), 400);
        assert_eq!(ApiError::from(varve_query::Error::Timeout("x")).status(), 503);
    }

    #[test]
    fn every_limit_of_the_engine_has_its_answer() {
        for setting in limit::ALL {
            assert!(crate::config::TABLE.iter().any(|known| known.key() == setting), "{setting}");
        }
        for (setting, status) in [
            (limit::HEAD_BYTES_MAX, 503),
            (limit::TENANTS_MAX, 429),
            (limit::DELETIONS_MAX, 429),
            (limit::QUERY_SERIES_MAX, 422),
            (limit::QUERY_EXEMPLARS_MAX, 422),
            ("log.batch_bytes_max", 413),
        ] {
            let refused = varve_engine::Error::Limit { limit: "things", max: 1, got: 2, setting };
            let response = ApiError::from(refused).response();
            assert_eq!(response.status(), status, "{setting}");
            let again = [429, 503].contains(&status);
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), again, "{setting}");
        }
    }
}
