//! Queries leave the threads that serve sockets: a permit, a thread of its own, a budget with a deadline, and an end
//! when the client leaves. The answer is written where it was computed: small ones whole, large ones piece by piece,
//! so that no answer is ever in memory twice.
//!
//! Invariant: a client that takes an answer for whole has all of it. What fails behind the first piece (an error, a
//! panic, a client that does not read on) breaks the body off, and the connection closes without its end.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use varve_model::Limits;
use varve_query::budget::Budget;

use super::Answer;
use super::error::ApiError;
use crate::app::App;

/// An answer larger than this is sent in pieces of about this size.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that may wait for the client.
const PIECES_WAITING: usize = 4;
/// How long a query waits for its turn before it is refused.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Where an answer is written to.
pub struct AnswerWriter {
    buffer: Vec<u8>,
    kind: HeaderValue,
    encoding: Option<&'static str>,
    head: Option<oneshot::Sender<Answer>>,
    pieces: Option<PieceSender>,
    /// How long a client may take to make room for the next piece.
    patience: Duration,
    left: bool,
}

impl AnswerWriter {
    /// The buffer to append to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Makes the answer another than JSON; to be called before anything is flushed. An error stays JSON.
    pub fn set_kind(&mut self, content_type: String) {
        if let Ok(kind) = HeaderValue::try_from(content_type) {
            self.kind = kind;
        }
    }

    /// Says that what is written is compressed already; to be called before anything is flushed. An error is plain.
    pub fn set_encoding(&mut self, encoding: &'static str) {
        self.encoding = Some(encoding);
    }

    fn response(&self, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, self.kind.clone());
        if let Some(encoding) = self.encoding {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        response
    }

    /// Sends what is there when it is much. `false` when the client has left and the rest need not be written.
    pub fn flush_if_large(&mut self) -> bool {
        if self.buffer.len() >= PIECE_BYTES {
            self.flush();
        }
        !self.left
    }

    fn flush(&mut self) {
        if let Some(head) = self.head.take() {
            let (sender, body) = pieces();
            let response = self.response(Body::new(body));
            self.left |= head.send(Ok(response)).is_err();
            self.pieces = Some(sender);
        }
        let piece = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES + (16 << 10))));
        if let Some(pieces) = self.pieces.as_ref().filter(|_| !self.left) {
            self.left |= Handle::current().block_on(pieces.sender.send_timeout(piece, self.patience)).is_err();
        }
    }

    fn finish(mut self, result: Result<(), ApiError>) {
        match (self.head.take(), result) {
            (Some(head), Ok(())) => {
                let body = Body::from(std::mem::take(&mut self.buffer));
                let _ = head.send(Ok(self.response(body)));
            }
            (Some(head), Err(error)) => {
                let _ = head.send(Err(error));
            }
            (None, Ok(())) => {
                self.flush();
                if let Some(pieces) = self.pieces.filter(|_| !self.left) {
                    pieces.end();
                }
            }
            // The head is out: dropping the pieces breaks the body off, which the client sees.
            (None, Err(error)) => tracing::warn!(%error, "an answer broke off"),
        }
    }
}

/// The writing end of a body in pieces. Dropped before [`PieceSender::end`] it breaks the body off.
struct PieceSender {
    sender: mpsc::Sender<Bytes>,
    whole: Arc<AtomicBool>,
}

impl PieceSender {
    /// Says that all pieces were sent.
    fn end(self) {
        // Release: pairs with the load of who finds the channel closed.
        self.whole.store(true, Ordering::Release);
    }
}

/// The body of an answer that is still being written: it ends when its sender said so, else with an error.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    whole: Arc<AtomicBool>,
}

fn pieces() -> (PieceSender, Pieces) {
    let (sender, receiver) = mpsc::channel(PIECES_WAITING);
    let whole = Arc::new(AtomicBool::new(false));
    (PieceSender { sender, whole: Arc::clone(&whole) }, Pieces { receiver, whole })
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(match ready!(self.receiver.poll_recv(context)) {
            Some(bytes) => Some(Ok(Frame::data(bytes))),
            // Acquire: pairs with the store of who ended the body.
            None if self.whole.load(Ordering::Acquire) => None,
            None => Some(Err(io::Error::other("the answer broke off"))),
        })
    }
}

/// Sets the flag when the request is dropped before its answer was there: the client left.
struct CancelOnDrop {
    app: Arc<App>,
    flag: Arc<AtomicBool>,
    armed: bool,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.armed {
            self.flag.store(true, Ordering::Relaxed);
            self.app.metrics.queries_canceled.add(1);
        }
    }
}

async fn permit(app: &App) -> Result<OwnedSemaphorePermit, ApiError> {
    let queries = Arc::clone(&app.queries);
    match tokio::time::timeout(WAIT_MAX, queries.acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => {
            app.metrics.queries_rejected.add(1);
            let max = app.settings.limits.concurrent_queries_max;
            Err(ApiError::too_many("queries in progress", max.into(), "concurrent_queries_max"))
        }
    }
}

/// Runs `work` on a thread of its own. `timeout_ms` can only shorten the time that `query_ms_max` allows.
pub async fn run(
    app: &Arc<App>,
    timeout_ms: Option<i64>,
    work: impl FnOnce(&App, &Budget, &mut AnswerWriter) -> Result<(), ApiError> + Send + 'static,
) -> Answer {
    let permit = permit(app).await?;
    let begin = app.elapsed();
    let allowed = Duration::from_millis(app.settings.limits.query_ms_max);
    let asked = timeout_ms.map_or(allowed, |ms| Duration::from_millis(ms.max(0).unsigned_abs()));
    let deadline = begin + allowed.min(asked);
    let flag = Arc::new(AtomicBool::new(false));
    let mut guard = CancelOnDrop { app: Arc::clone(app), flag: Arc::clone(&flag), armed: true };
    let clock = Arc::clone(&app.env.clock);
    // Prometheus counts the steps between the points: one point more is within the limit.
    let limits = &app.settings.limits;
    let limits = Limits { query_steps_max: limits.query_steps_max.saturating_add(1), ..limits.clone() };
    let budget =
        Budget::sharing(&limits, Box::new(move || clock.elapsed() >= deadline), flag, Arc::clone(&app.query_bytes));
    let (head, answer) = oneshot::channel();
    let patience = Duration::from_millis(app.settings.server.http_idle_ms_max);
    let mut writer = AnswerWriter {
        buffer: Vec::with_capacity(1024),
        kind: HeaderValue::from_static("application/json"),
        encoding: None,
        head: Some(head),
        pieces: None,
        patience,
        left: false,
    };
    let thread_app = Arc::clone(app);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let result = catch_unwind(AssertUnwindSafe(|| work(&thread_app, &budget, &mut writer)))
            .unwrap_or_else(|_| Err(ApiError::internal("a bug ended this query; the server goes on")));
        let metrics = &thread_app.metrics;
        metrics.query_seconds.observe(thread_app.elapsed().saturating_sub(begin).as_secs_f64());
        metrics.query_samples.add(budget.stats().samples);
        if result.is_err() {
            metrics.queries_failed.add(1);
        }
        writer.finish(result);
    });
    let answer = answer.await.unwrap_or_else(|_| Err(ApiError::internal("a query ended without an answer")));
    guard.armed = false;
    answer
}

#[cfg(test)]
mod tests {
    use axum::http::Response;
    use http_body_util::BodyExt;

    use super::*;
    use crate::http::compress::{Encoding, compress};

    /// Whether a body that got one piece reads as a whole one.
    async fn reads_whole(encoding: Option<Encoding>, ended: bool) -> bool {
        let (sender, body) = pieces();
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = compress(response, encoding).await;
        sender.sender.send(Bytes::from_static(b"[1")).await.unwrap();
        if ended {
            sender.end();
        } else {
            drop(sender);
        }
        answer.into_body().collect().await.is_ok()
    }

    // A short answer was taken for a whole one: nothing told an error behind the first piece from the end.
    #[tokio::test]
    async fn a_body_that_nobody_ended_breaks_off() {
        for encoding in [None, Some(Encoding::Zstd), Some(Encoding::Gzip), Some(Encoding::Deflate)] {
            assert!(reads_whole(encoding, true).await, "{encoding:?}");
            assert!(!reads_whole(encoding, false).await, "{encoding:?}");
        }
    }
}
