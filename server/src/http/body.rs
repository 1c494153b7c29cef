//! Bodies: read with a limit on bytes, on all bodies together and on time. A body that is too large is read on for a
//! while and thrown away, because a client that is still sending would not see the answer.

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use http_body_util::BodyExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::error::ApiError;
use crate::app::App;

/// A body larger than its limit is read on up to this many times the limit before the connection is closed on it.
const DISCARD_FACTOR: u64 = 8;
/// And for no longer than this.
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// Which limit a body has.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit {
    /// Bytes.
    pub bytes_max: u64,
    /// The setting that moves it.
    pub setting: &'static str,
}

/// Bytes of all bodies that are being read or decoded.
#[derive(Debug, Default)]
pub struct BodyBytes(AtomicU64);

/// A body in a buffer of the pool; its bytes count as held until it is dropped.
pub struct ReadBody<'a> {
    app: &'a App,
    bytes: Vec<u8>,
    counted: u64,
}

impl ReadBody<'_> {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for ReadBody<'_> {
    fn drop(&mut self) {
        self.app.metrics.body_bytes.0.fetch_sub(self.counted, Ordering::Relaxed);
        self.app.buffers.give_body(std::mem::take(&mut self.bytes));
    }
}

impl BodyBytes {
    /// Bytes held now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reads the whole body of a request.
pub async fn read<'a>(app: &'a App, request: Request<Body>, limit: BodyLimit) -> Result<ReadBody<'a>, ApiError> {
    let (parts, mut body) = request.into_parts();
    let too_large = || ApiError::too_large("the request's body", limit.bytes_max, limit.setting);
    if content_length(&parts.headers).is_some_and(|length| length > limit.bytes_max) {
        // A client that asks first gets its answer instead of the permission to send.
        if !parts.headers.contains_key(header::EXPECT) {
            discard(body, limit.bytes_max).await;
        }
        return Err(too_large());
    }
    // All bodies together: a few of the largest size, or what the queues may hold.
    let held_max = (4 * app.settings.limits.body_bytes_max).max(2 * app.settings.limits.queue_bytes_max);
    let mut read = ReadBody { app, bytes: app.buffers.body(), counted: 0 };
    let ms = app.settings.server.http_body_ms_max;
    let result = tokio::time::timeout(Duration::from_millis(ms), async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(ApiError::broken_body)?;
            let Ok(data) = frame.into_data() else { continue };
            let more = data.len() as u64;
            if read.bytes.len() as u64 + more > limit.bytes_max {
                return Ok(false);
            }
            if app.metrics.body_bytes.0.fetch_add(more, Ordering::Relaxed) + more > held_max {
                app.metrics.body_bytes.0.fetch_sub(more, Ordering::Relaxed);
                return Err(ApiError::queue_full(app.settings.limits.queue_bytes_max));
            }
            read.counted += more;
            read.bytes.extend_from_slice(&data);
        }
        Ok(true)
    })
    .await;
    match result {
        Ok(Ok(true)) => Ok(read),
        Ok(Ok(false)) => {
            drop(read);
            discard(body, limit.bytes_max).await;
            Err(too_large())
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ApiError::slow_body(ms)),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn discard(mut body: Body, bytes_max: u64) {
    let mut left = bytes_max.saturating_mul(DISCARD_FACTOR);
    let _ = tokio::time::timeout(DISCARD_TIME, async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
            if left == 0 {
                break;
            }
        }
    })
    .await;
}
