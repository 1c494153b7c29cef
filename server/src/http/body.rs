//! Bodies: read and decompressed with a limit on bytes, on the bytes of all together and on time. A body that is too
//! large is read on for a while and thrown away, because a client that is still sending would not see the answer.

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use http_body_util::BodyExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use varve_model::Limits;
use varve_protocol::inflate;

use super::error::ApiError;
use super::ingest::Encoding;
use crate::app::App;
use crate::metrics::Counter;

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

/// Bytes of a body that are held as soon as its head announces them. More is held as it comes: who only announces
/// bodies must not keep others out.
const AHEAD_BYTES: u64 = 1 << 20;

/// What all bodies may hold together: as sent, decompressed and decoded, until they are stored. One counter, so that a
/// small request pays a few additions.
#[derive(Debug)]
pub struct BodyBudget {
    held: AtomicU64,
    bytes_max: u64,
    refused: Counter,
}

impl BodyBudget {
    /// The budget of these limits: `bodies_bytes_max`, or what one request of the largest size takes, so that it passes
    /// when it is alone.
    pub fn new(limits: &Limits) -> BodyBudget {
        // As sent, decompressed, and decoded to at most the same.
        let largest = limits.body_bytes_max.saturating_add(limits.decompressed_bytes_max.saturating_mul(2));
        let bytes_max = limits.bodies_bytes_max.max(largest);
        BodyBudget { held: AtomicU64::new(0), bytes_max, refused: Counter::default() }
    }

    /// Bytes held now.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Requests that were refused.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Nothing yet.
    fn hold(&self) -> Held<'_> {
        Held { budget: self, bytes: 0 }
    }

    fn full(&self, got: u64) -> varve_protocol::Error {
        self.refused.add(1);
        let (limit, setting) = ("bytes of all requests", "bodies_bytes_max");
        varve_protocol::Error::Limit { limit, max: self.bytes_max, got, setting }
    }
}

/// A request's part of the budget; given back when it is dropped.
pub struct Held<'a> {
    budget: &'a BodyBudget,
    bytes: u64,
}

impl Held<'_> {
    /// Makes it `bytes` in all, or says that there is no room for them.
    pub fn set(&mut self, bytes: u64) -> Result<(), varve_protocol::Error> {
        // Relaxed: a count, nothing is published through it.
        let held = &self.budget.held;
        if let Some(more) = bytes.checked_sub(self.bytes) {
            let got = held.fetch_add(more, Ordering::Relaxed).saturating_add(more);
            if got > self.budget.bytes_max {
                held.fetch_sub(more, Ordering::Relaxed);
                return Err(self.budget.full(got));
            }
        } else {
            held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Makes it at least `bytes` in all.
    fn grow(&mut self, bytes: u64) -> Result<(), varve_protocol::Error> {
        if bytes > self.bytes { self.set(bytes) } else { Ok(()) }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A body in a buffer of the pool, and what is held for it.
pub struct ReadBody<'a> {
    app: &'a App,
    bytes: Vec<u8>,
    held: Held<'a>,
}

impl<'a> ReadBody<'a> {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Decompresses it into `out`, whose memory is used again; what it holds is overwritten, so it need not be empty.
    /// What comes out is held twice: as it is, and for what is decoded of it.
    pub fn inflate(&mut self, encoding: Encoding, mut out: Vec<u8>) -> Result<Vec<u8>, varve_protocol::Error> {
        let bytes_max = usize::try_from(self.app.settings.limits.decompressed_bytes_max).unwrap_or(usize::MAX);
        let ReadBody { bytes: body, held, .. } = self;
        let sent = body.len() as u64;
        // A stream asks for one byte more than it may have.
        let mut room = |bytes: u64| held.grow(sent + 2 * bytes.min(bytes_max as u64));
        match encoding {
            Encoding::Identity => {
                room(sent)?;
                out.clear();
                out.extend_from_slice(body);
            }
            Encoding::Snappy => inflate::snappy(body, bytes_max, &mut room, &mut out)?,
            Encoding::Gzip => inflate::gzip(body, bytes_max, &mut room, &mut out)?,
            Encoding::Zstd => inflate::zstd(body, bytes_max, &mut room, &mut out)?,
        }
        Ok(out)
    }

    /// Hands its plain bytes to `decode`, by way of a buffer of the pool where it is compressed.
    pub fn decode<T>(
        &mut self,
        encoding: Encoding,
        decode: impl FnOnce(&[u8]) -> Result<T, varve_protocol::Error>,
    ) -> Result<T, varve_protocol::Error> {
        if encoding == Encoding::Identity {
            self.held.grow(2 * self.bytes.len() as u64)?;
            return decode(&self.bytes);
        }
        let inflated = self.inflate(encoding, self.app.buffers.used_body())?;
        let decoded = decode(&inflated);
        self.app.buffers.give_body(inflated);
        decoded
    }

    /// Gives the buffer back; what is held stays.
    pub fn into_held(self) -> Held<'a> {
        self.app.buffers.give_body(self.bytes);
        self.held
    }
}

/// Reads the whole body of a request.
pub async fn read<'a>(app: &'a App, request: Request<Body>, limit: BodyLimit) -> Result<ReadBody<'a>, ApiError> {
    let (parts, mut body) = request.into_parts();
    let too_large = || ApiError::too_large("the request's body", limit.bytes_max, limit.setting);
    let length = content_length(&parts.headers);
    if length.is_some_and(|length| length > limit.bytes_max) {
        // A client that asks first gets its answer instead of the permission to send.
        if !parts.headers.contains_key(header::EXPECT) {
            discard(body, limit.bytes_max).await;
        }
        return Err(too_large());
    }
    let mut read = ReadBody { app, bytes: Vec::new(), held: app.bodies.hold() };
    let announced = read.held.set(length.unwrap_or(0).min(AHEAD_BYTES));
    if let Err(full) = announced {
        if !parts.headers.contains_key(header::EXPECT) {
            discard(body, limit.bytes_max).await;
        }
        return Err(full.into());
    }
    read.bytes = app.buffers.body();
    let ms = app.settings.server.http_body_ms_max;
    let result = tokio::time::timeout(Duration::from_millis(ms), async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(ApiError::broken_body)?;
            let Ok(data) = frame.into_data() else { continue };
            let bytes = (read.bytes.len() + data.len()) as u64;
            if bytes > limit.bytes_max {
                return Ok(false);
            }
            read.held.grow(bytes)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let limits =
            Limits { body_bytes_max: 10, decompressed_bytes_max: 20, bodies_bytes_max: 100, ..Limits::default() };
        let budget = BodyBudget::new(&limits);
        let (mut one, mut other) = (budget.hold(), budget.hold());
        one.set(60).unwrap();
        assert!(other.set(41).is_err());
        other.grow(40).unwrap();
        other.grow(30).unwrap();
        assert_eq!((budget.held(), budget.refused()), (100, 1));
        one.set(10).unwrap();
        assert_eq!(budget.held(), 50);
        drop((one, other));
        assert_eq!(budget.held(), 0);
        // The largest request passes when it is alone.
        let small = BodyBudget::new(&Limits { bodies_bytes_max: 1, ..limits });
        let mut one = small.hold();
        one.set(50).unwrap();
        assert!(one.set(51).is_err() && small.held() == 50);
    }
}
