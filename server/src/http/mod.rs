//! HTTP: the table of routes and what every request goes through.
//!
//! One row of [`ROUTES`] is one endpoint: path, methods, handler. Around each handler: the method check, the catch of
//! panics, the count and the time. A handler returns a response or an [`error::ApiError`]; nothing else makes statuses.

pub mod admin;
pub mod ast;
pub mod body;
pub mod catalog;
pub mod compatibility;
pub mod compress;
pub mod connection;
pub mod cors;
pub mod error;
pub mod exemplars;
pub mod families;
pub mod features;
pub mod federate;
pub mod ingest;
pub mod json;
pub mod labels;
pub mod lifecycle;
pub mod openapi;
pub mod params;
pub mod read;
pub mod remote_read;
pub mod request;
pub mod rules;
pub mod status;
pub mod targets;
pub mod work;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Method, Request, Response, header};

use crate::app::App;
use compress::Encoding;
use error::ApiError;

/// What a handler returns.
pub type Answer = Result<Response<Body>, ApiError>;
type Handler = fn(Arc<App>, Request<Body>) -> Pin<Box<dyn Future<Output = Answer> + Send>>;

/// One endpoint.
pub struct Route {
    /// Its path; `{name}` stands for one segment.
    pub path: &'static str,
    /// Its methods.
    pub methods: &'static [&'static str],
    handler: Handler,
}

const READ: &[&str] = &["GET", "POST"];
const GET: &[&str] = &["GET"];
const POST: &[&str] = &["POST"];
const CHANGE: &[&str] = &["POST", "PUT"];

macro_rules! routes {
    ($( $path:literal $methods:ident $handler:path; )*) => {
        /// Every endpoint there is.
        pub static ROUTES: &[Route] = &[ $( Route {
            path: $path,
            methods: $methods,
            handler: |app, request| Box::pin($handler(app, request)),
        }, )* ];
    };
}

routes! {
    "/" GET status::home;
    "/-/healthy" GET status::healthy;
    "/-/ready" GET status::ready;
    "/-/flush" POST status::flush;
    "/-/quit" CHANGE lifecycle::quit;
    "/-/reload" CHANGE lifecycle::reload;
    "/version" GET status::version;
    "/metrics" GET status::metrics;
    "/federate" GET federate::federate;
    "/api/v1/write" POST ingest::remote_write;
    "/api/v1/import/prometheus" POST ingest::exposition;
    "/api/v1/otlp/v1/metrics" POST ingest::otlp;
    "/v1/metrics" POST ingest::otlp;
    "/opentelemetry/v1/metrics" POST ingest::otlp;
    "/write" POST ingest::influx_write;
    "/api/v2/write" POST ingest::influx_write;
    "/ping" READ ingest::influx_ping;
    "/query" READ ingest::influx_query;
    "/api/v1/read" POST remote_read::remote_read;
    "/api/v1/query" READ read::query;
    "/api/v1/query_range" READ read::query_range;
    "/api/v1/query_exemplars" READ exemplars::query_exemplars;
    "/api/v1/format_query" READ read::format_query;
    "/api/v1/parse_query" READ read::parse_query;
    "/api/v1/series" READ labels::series;
    "/api/v1/labels" READ labels::names;
    "/api/v1/label/{name}/values" GET labels::values;
    "/api/v1/metadata" GET labels::metadata;
    "/api/v1/rules" GET rules::rules;
    "/api/v1/alerts" GET rules::alerts;
    "/api/v1/targets" GET targets::targets;
    "/api/v1/targets/metadata" GET targets::metadata;
    "/api/v1/targets/relabel_steps" GET targets::relabel_steps;
    "/api/v1/scrape_pools" GET targets::scrape_pools;
    "/api/v1/scrape_pools/config" GET targets::scrape_pool_config;
    "/api/v1/alertmanagers" GET rules::alertmanagers;
    "/api/v1/features" GET features::features;
    "/api/v1/notifications" GET status::notifications;
    "/api/v1/notifications/live" GET status::notifications_live;
    "/api/v1/status/buildinfo" GET status::buildinfo;
    "/api/v1/status/runtimeinfo" GET status::runtimeinfo;
    "/api/v1/status/config" GET status::config;
    "/api/v1/status/flags" GET status::flags;
    "/api/v1/status/tsdb" GET status::tsdb;
    "/api/v1/admin/tsdb/delete_series" CHANGE admin::delete_series;
    "/api/v1/admin/tsdb/clean_tombstones" CHANGE admin::clean_tombstones;
    "/api/v1/admin/tsdb/snapshot" CHANGE admin::snapshot;
    "/api/v1/status/walreplay" GET status::walreplay;
    "/api/v1/openapi.yaml" GET openapi::as_yaml;
    "/api/v1/openapi.json" GET openapi::as_json;
}

/// The router over [`ROUTES`].
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for (index, route) in ROUTES.iter().enumerate() {
        let serve = move |State(app): State<Arc<App>>, request: Request<Body>| dispatch(app, index, request);
        router = router.route(route.path, axum::routing::any(serve));
    }
    let missing = |State(app): State<Arc<App>>, request: Request<Body>| async move {
        let path: String = request.uri().path().chars().take(200).collect();
        let caller = Caller::of(&request);
        let error = ApiError::not_found(&path);
        let response = if caller.asks_options { error::no_content() } else { error.response() };
        app.metrics.count_request(ROUTES.len(), response.status().as_u16(), 0.0);
        caller.finish(&app, response).await
    };
    router.fallback(missing).with_state(app)
}

async fn dispatch(app: Arc<App>, index: usize, request: Request<Body>) -> Response<Body> {
    let Some(route) = ROUTES.get(index) else { return ApiError::not_found("").response() };
    let begin = app.elapsed();
    let caller = Caller::of(&request);
    let method = request.method().as_str();
    let allowed =
        route.methods.contains(&method) || (request.method() == Method::HEAD && route.methods.contains(&"GET"));
    let answer = if caller.asks_options {
        Ok(error::no_content())
    } else if allowed {
        guarded((route.handler)(Arc::clone(&app), request)).await
    } else {
        Err(ApiError::method_not_allowed(method, route.path))
    };
    let mut response = match answer {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!(path = route.path, %error, "refused");
            error.response()
        }
    };
    if !allowed
        && !caller.asks_options
        && let Ok(methods) = HeaderValue::from_str(&route.methods.join(", "))
    {
        response.headers_mut().insert(header::ALLOW, methods);
    }
    let seconds = app.elapsed().saturating_sub(begin).as_secs_f64();
    app.metrics.count_request(index, response.status().as_u16(), seconds);
    caller.finish(&app, response).await
}

/// What an answer owes to who asked, whatever was asked: headers for scripts of other sites, compression.
struct Caller {
    /// Of the API, which scripts of other sites may call.
    of_api: bool,
    /// A browser asks beforehand whether its script may call.
    asks_options: bool,
    origin: Option<HeaderValue>,
    encoding: Option<Encoding>,
}

impl Caller {
    fn of(request: &Request<Body>) -> Caller {
        let of_api = request.uri().path().starts_with("/api/v1/");
        let encoding = if request.method() == Method::HEAD { None } else { Encoding::choose(request.headers()) };
        Caller {
            of_api,
            asks_options: of_api && request.method() == Method::OPTIONS,
            origin: request.headers().get(header::ORIGIN).cloned(),
            encoding,
        }
    }

    async fn finish(self, app: &App, mut response: Response<Body>) -> Response<Body> {
        if self.of_api {
            app.cors.add(self.origin.as_ref(), response.headers_mut());
        }
        compress::compress(response, self.encoding).await
    }
}

/// Turns a panic of a handler into an error: it is our bug, but only this request's end.
async fn guarded(mut future: Pin<Box<dyn Future<Output = Answer> + Send>>) -> Answer {
    poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll,
        Err(_) => Poll::Ready(Err(ApiError::internal("a bug ended this request; the server goes on"))),
    })
    .await
}

/// A 200 with a JSON body.
pub fn json_response(body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A 200 with a text.
pub fn plain(body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A 200 with `{"status":"success","data":…}`; `fill` writes the data.
pub fn success(fill: impl FnOnce(&mut Vec<u8>)) -> Response<Body> {
    let mut body = Vec::with_capacity(256);
    body.extend_from_slice(b"{\"status\":\"success\",\"data\":");
    fill(&mut body);
    body.push(b'}');
    json_response(body)
}
