//! Compression of answers, by what the client accepts: zstd, gzip or deflate.
//!
//! A small answer that lies in memory is compressed at once and keeps a length. Any other is compressed piece by piece
//! as it is sent, each piece on a thread for blocking work, so that sockets are served meanwhile and nothing is held
//! that was not held before.

use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, header};
use bytes::Bytes;
use flate2::write::{GzEncoder, ZlibEncoder};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame};
use tokio::task::JoinHandle;

/// A body in memory up to this size is compressed where it is; that takes less than a millisecond.
const AT_ONCE_BYTES_MAX: u64 = 64 << 10;
/// Answers are read once and made often: speed before size.
const GZIP_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;

/// How an answer is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// `zstd`
    Zstd,
    /// `gzip`
    Gzip,
    /// `deflate`: zlib's format.
    Deflate,
}

impl Encoding {
    const ALL: [Encoding; 3] = [Encoding::Zstd, Encoding::Gzip, Encoding::Deflate];

    /// Its name in headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Zstd => "zstd",
            Encoding::Gzip => "gzip",
            Encoding::Deflate => "deflate",
        }
    }

    /// The one that a client likes best; among equals the cheapest. `None` when it asks for none.
    pub fn choose(headers: &HeaderMap) -> Option<Encoding> {
        let mut best: Option<(Encoding, f32)> = None;
        for value in headers.get_all(header::ACCEPT_ENCODING) {
            for clause in value.to_str().unwrap_or_default().split(',') {
                let mut parts = clause.split(';');
                let name = parts.next().unwrap_or_default().trim();
                let Some(encoding) = Encoding::ALL.into_iter().find(|e| name.eq_ignore_ascii_case(e.as_str())) else {
                    continue;
                };
                let quality = parts.find_map(|part| part.trim().strip_prefix("q=")?.trim().parse::<f32>().ok());
                let quality = quality.unwrap_or(1.0);
                let better = best.is_none_or(|(other, q)| {
                    let rank = |e: Encoding| Encoding::ALL.iter().position(|one| *one == e);
                    quality > q || (quality == q && rank(encoding) < rank(other))
                });
                if quality > 0.0 && better {
                    best = Some((encoding, quality));
                }
            }
        }
        best.map(|(encoding, _)| encoding)
    }
}

/// Whether bytes of this type are worth compressing and may be.
fn is_compressible(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let text = kind.starts_with("text/") && kind != "text/event-stream";
    let listed = [
        "application/json",
        "application/yaml",
        "application/openmetrics-text",
        "application/vnd.google.protobuf",
        "application/javascript",
        "image/svg+xml",
    ];
    !headers.contains_key(header::CONTENT_ENCODING) && (text || listed.contains(&kind))
}

/// Compresses an answer unless it is of a kind that is sent as it is.
pub async fn compress(mut response: Response<Body>, encoding: Option<Encoding>) -> Response<Body> {
    if !is_compressible(response.headers()) {
        return response;
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let Some(encoding) = encoding else { return response };
    let Ok(encoder) = Encoder::new(encoding) else { return response };
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.as_str()));
    let small = body.size_hint().exact().is_some_and(|bytes| bytes <= AT_ONCE_BYTES_MAX);
    let body = if small {
        match body.collect().await.map(|whole| at_once(encoder, &whole.to_bytes())) {
            Ok(Ok(bytes)) => Body::from(bytes),
            // Neither memory that is there nor a vector that is written to can fail.
            _ => Body::new(Encoded { inner: Body::empty(), state: State::Done }),
        }
    } else {
        Body::new(Encoded { inner: body, state: State::Idle(Box::new(encoder)) })
    };
    Response::from_parts(parts, body)
}

fn at_once(mut encoder: Encoder, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = encoder.push(bytes)?;
    out.extend_from_slice(&encoder.finish()?);
    Ok(out)
}

/// An encoder over a vector that is emptied after each piece.
enum Encoder {
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
}

impl Encoder {
    fn new(encoding: Encoding) -> io::Result<Encoder> {
        let level = flate2::Compression::new(GZIP_LEVEL);
        Ok(match encoding {
            Encoding::Zstd => Encoder::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?),
            Encoding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), level)),
            Encoding::Deflate => Encoder::Deflate(ZlibEncoder::new(Vec::new(), level)),
        })
    }

    /// Takes a piece; returns what has come out so far, perhaps nothing.
    fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Encoder::Zstd(encoder) => encoder.write_all(bytes)?,
            Encoder::Gzip(encoder) => encoder.write_all(bytes)?,
            Encoder::Deflate(encoder) => encoder.write_all(bytes)?,
        }
        Ok(std::mem::take(match self {
            Encoder::Zstd(encoder) => encoder.get_mut(),
            Encoder::Gzip(encoder) => encoder.get_mut(),
            Encoder::Deflate(encoder) => encoder.get_mut(),
        }))
    }

    /// The rest.
    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Encoder::Zstd(encoder) => encoder.finish(),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Deflate(encoder) => encoder.finish(),
        }
    }
}

/// A body that is compressed while it is sent.
struct Encoded {
    inner: Body,
    state: State,
}

/// The encoder, and what came out of it.
type Pushed = (Option<Box<Encoder>>, Vec<u8>);

enum State {
    /// Waits for the next piece.
    Idle(Box<Encoder>),
    /// A piece is being compressed; the encoder comes back unless it was the last.
    Busy(JoinHandle<io::Result<Pushed>>),
    Done,
}

impl hyper::body::Body for Encoded {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Idle(mut encoder) => {
                    let piece = match Pin::new(&mut self.inner).poll_frame(context) {
                        Poll::Pending => {
                            self.state = State::Idle(encoder);
                            return Poll::Pending;
                        }
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                        Poll::Ready(Some(Ok(frame))) => Some(frame.into_data().unwrap_or_default()),
                        Poll::Ready(None) => None,
                    };
                    self.state = State::Busy(tokio::task::spawn_blocking(move || match piece {
                        Some(piece) => encoder.push(&piece).map(|out| (Some(encoder), out)),
                        None => encoder.finish().map(|out| (None, out)),
                    }));
                }
                State::Busy(mut work) => {
                    let Poll::Ready(done) = Pin::new(&mut work).poll(context) else {
                        self.state = State::Busy(work);
                        return Poll::Pending;
                    };
                    let (encoder, out) = done??;
                    self.state = encoder.map_or(State::Done, State::Idle);
                    if !out.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
                    }
                }
                State::Done => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[track_caller]
    fn chosen(accept: &'static str, expected: Option<Encoding>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
        assert_eq!(Encoding::choose(&headers), expected, "{accept}");
    }

    #[test]
    fn the_client_chooses() {
        chosen("gzip", Some(Encoding::Gzip));
        chosen("gzip, deflate, br, zstd", Some(Encoding::Zstd));
        chosen("deflate, GZIP;q=0.5", Some(Encoding::Deflate));
        chosen("zstd;q=0, gzip;q=0.1", Some(Encoding::Gzip));
        chosen("br, identity", None);
        chosen("gzip;q=x", Some(Encoding::Gzip));
        assert_eq!(Encoding::choose(&HeaderMap::new()), None);
    }

    fn decode(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match encoding {
            Encoding::Zstd => out = zstd::decode_all(bytes).unwrap(),
            Encoding::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
            Encoding::Deflate => drop(flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut out).unwrap()),
        }
        out
    }

    #[tokio::test]
    async fn whatever_its_size_an_answer_reads_back() {
        for encoding in Encoding::ALL {
            for size in [0usize, 1, 1000, 1_000_000] {
                let body: Vec<u8> = (0..size).map(|i| (i % 251 * (i / 997)) as u8).collect();
                let mut response = Response::new(Body::from(body.clone()));
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                let answer = compress(response, Some(encoding)).await;
                assert_eq!(answer.headers()[header::CONTENT_ENCODING], encoding.as_str());
                let sent = answer.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(decode(encoding, &sent), body, "{encoding:?} {size}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_text_or_encoded_already_stays() {
        let mut response = Response::new(Body::from("x"));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let answer = compress(response, Some(Encoding::Gzip)).await;
        assert!(!answer.headers().contains_key(header::CONTENT_ENCODING));
    }
}
