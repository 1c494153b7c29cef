//! Connections: accept, serve HTTP/1.1 with timeouts, refuse beyond the bound, let requests finish when the server stops.
//!
//! axum's own server sets no timeout on a request's head; this loop over hyper does. A connection beyond the bound is
//! answered 503 and closed at once; when the system has no descriptors left, accepting pauses instead of spinning.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use super::error::ApiError;
use crate::app::App;

/// Bytes a connection may buffer for a head or a piece of a body.
const BUFFER_BYTES: usize = 128 << 10;
/// Pause after a failed accept (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Connections beyond the bound that are being told so at once; more are closed without a word.
const REFUSALS_MAX: usize = 64;

/// Serves until `stop` turns true, then until the open requests are answered. The caller bounds that time.
pub async fn serve(app: Arc<App>, listener: TcpListener, connections_max: usize, mut stop: watch::Receiver<bool>) {
    let router = super::router(Arc::clone(&app));
    let open = Arc::new(Semaphore::new(connections_max));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    app.metrics.accepts_failed.add(1);
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stopped(&mut stop) => break,
        };
        match Arc::clone(&open).try_acquire_owned() {
            Ok(permit) => {
                let (app, router, stop) = (Arc::clone(&app), router.clone(), stop.clone());
                tokio::spawn(async move {
                    app.metrics.connections.add(1);
                    connection(&app, stream, router, stop).await;
                    app.metrics.connections.sub(1);
                    drop(permit);
                });
            }
            Err(_) => {
                app.metrics.connections_refused.add(1);
                if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                    tokio::spawn(async move {
                        let _ = tokio::time::timeout(Duration::from_secs(1), refuse(stream, connections_max)).await;
                        drop(permit);
                    });
                }
            }
        }
    }
    drop(listener);
    // Every connection holds a permit; when all are back, all requests are answered.
    let _ = open.acquire_many(connections_max as u32).await;
}

/// Returns when the server stops.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn connection(app: &Arc<App>, stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| answer(router.clone(), request));
    let idle = Duration::from_millis(app.settings.server.http_idle_ms_max);
    let mut served = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(idle)
            .max_buf_size(BUFFER_BYTES)
            .pipeline_flush(true)
            // As most servers write them; some clients look for them letter by letter.
            .title_case_headers(true)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        // A broken connection is the client's business.
        _ = served.as_mut() => return,
        () = stopped(&mut stop) => served.as_mut().graceful_shutdown(),
    }
    let _ = served.await;
}

async fn answer(router: Router, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if request.version() == Version::HTTP_11 && !request.headers().contains_key(header::HOST) {
        return Ok(ApiError::bad_data("a request of HTTP/1.1 needs a Host header").response());
    }
    router.oneshot(request.map(Body::new)).await
}

async fn refuse(mut stream: TcpStream, connections_max: usize) {
    let what = format!(
        "too many connections: limit of {connections_max} reached; raise `http_connections_max` or the limit on open files"
    );
    let _ = stream.write_all(&ApiError::unavailable(what).raw()).await;
    let _ = stream.shutdown().await;
}
