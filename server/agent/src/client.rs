//! The HTTP client: one connection that is kept for the next request, credentials, TLS, redirects, gzip; bounded in
//! bytes. Time is bounded by the caller.
//!
//! Error texts are Prometheus's: they are read on its page of targets.

use std::future::Future;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::blocking::{self, Heavy};
use crate::config::ClientConfig;
use crate::config::client::{Credentials, Source, redacted};
use crate::tls;

/// Redirects that one request may follow.
const REDIRECTS_MAX: usize = 10;
/// How much smaller bodies get by gzip, roughly.
const GZIP_RATIO: usize = 10;
/// How servers know who asks. The part in front is what exporters look for.
const USER_AGENT: &str = concat!("Prometheus/3.14.0 (Varve/", env!("CARGO_PKG_VERSION"), ")");

/// What went wrong, as a sentence.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The body is larger than it may be.
    #[error("body size limit exceeded")]
    TooLarge,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for FetchError {
    fn from(what: String) -> FetchError {
        FetchError::Failed(what)
    }
}

/// Asks servers; replaced in tests of what is done with answers.
pub(crate) trait Fetch: Send {
    /// Asks for `url`; the body of a 200 goes, decompressed, to `body`, which is replaced. Gives its content type.
    fn get<'a>(
        &'a mut self,
        url: &'a str,
        headers: &'a [(HeaderName, HeaderValue)],
        bytes_max: u64,
        body: &'a mut Vec<u8>,
    ) -> Fetching<'a>;
}

/// What [`Fetch::get`] comes to.
pub(crate) type Fetching<'a> = Pin<Box<dyn Future<Output = Result<String, FetchError>> + Send + 'a>>;

/// Makes what asks the servers of one target.
pub(crate) type OpenClient = fn(Arc<ClientConfig>) -> Box<dyn Fetch>;

impl Fetch for Client {
    fn get<'a>(
        &'a mut self,
        url: &'a str,
        headers: &'a [(HeaderName, HeaderValue)],
        bytes_max: u64,
        body: &'a mut Vec<u8>,
    ) -> Fetching<'a> {
        Box::pin(self.ask(url, headers, bytes_max, body))
    }
}

/// A client for one server at a time; keeps a connection.
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    kept: Option<(Origin, SendRequest<Empty<Bytes>>)>,
    /// Size of the last compressed body. Its memory is not kept: there are as many clients as targets.
    compressed_bytes: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Origin {
    tls: bool,
    host: String,
    port: u16,
}

impl Origin {
    fn of(uri: &Uri) -> Result<Origin, String> {
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            other => return Err(format!("unsupported protocol scheme {:?}", other.unwrap_or_default())),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("no Host in request URL")?.to_owned();
        Ok(Origin { tls, host, port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }) })
    }
}

impl Client {
    pub(crate) fn new(config: Arc<ClientConfig>) -> Client {
        Client { config, kept: None, compressed_bytes: 0 }
    }

    /// How it asks.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// [`Fetch::get`]
    pub(crate) async fn ask(
        &mut self,
        url: &str,
        headers: &[(HeaderName, HeaderValue)],
        bytes_max: u64,
        body: &mut Vec<u8>,
    ) -> Result<String, FetchError> {
        body.clear();
        let failed = |what: String| FetchError::Failed(format!("Get {:?}: {what}", redacted(url)));
        let mut uri: Uri = url.parse().map_err(|error| failed(format!("{error}")))?;
        let first = Origin::of(&uri).map_err(failed)?;
        for _ in 0..=REDIRECTS_MAX {
            let origin = Origin::of(&uri).map_err(failed)?;
            let request = self.request(&uri, headers, origin.host == first.host).map_err(FetchError::Failed)?;
            let response = self.send(&origin, request).await.map_err(failed)?;
            let status = response.status();
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let redirect = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) && self.config.follow_redirects;
            if let (true, Some(location)) = (redirect, location) {
                let next = resolve(&uri, location).map_err(failed)?;
                self.drain(response).await;
                uri = next;
                continue;
            }
            if status != StatusCode::OK {
                self.drain(response).await;
                let reason = status.canonical_reason().unwrap_or_default();
                let text = format!("server returned HTTP status {} {reason}", status.as_u16());
                return Err(FetchError::Failed(text.trim_end().to_owned()));
            }
            return self.read(response, bytes_max, body).await;
        }
        Err(failed(format!("stopped after {REDIRECTS_MAX} redirects")))
    }

    fn request(
        &self,
        uri: &Uri,
        headers: &[(HeaderName, HeaderValue)],
        with_credentials: bool,
    ) -> Result<Request<Empty<Bytes>>, String> {
        let target = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = target.parse().map_err(|error| format!("{error}"))?;
        let out = request.headers_mut();
        let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        out.insert(header::HOST, value(host)?);
        out.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        for (name, value) in headers {
            out.insert(name, value.clone());
        }
        if with_credentials {
            for (name, _, source) in &self.config.headers {
                let name: HeaderName = name.parse().map_err(|error| format!("header {name:?}: {error}"))?;
                out.append(name, value(&source.read()?)?);
            }
            self.authorize(uri, out)?;
        }
        Ok(request)
    }

    fn authorize(&self, uri: &Uri, out: &mut HeaderMap) -> Result<(), String> {
        let read = |source: &Option<Source>, what: &str| match source {
            None => Ok(String::new()),
            Some(source) => source.read().map_err(|error| format!("unable to read {what}: {error}")),
        };
        let text = match &self.config.credentials {
            Some(Credentials::Basic { username, password }) => {
                let user = read(username, "basic auth username")?;
                let password = read(password, "basic auth password")?;
                format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
            }
            Some(Credentials::Header { scheme, credentials }) => {
                format!("{scheme} {}", read(credentials, "authorization credentials")?)
            }
            None => match uri.authority().and_then(|authority| authority.as_str().rsplit_once('@')) {
                Some((user, _)) => format!("Basic {}", base64(user.as_bytes())),
                None => return Ok(()),
            },
        };
        let mut header = value(&text)?;
        header.set_sensitive(true);
        out.insert(header::AUTHORIZATION, header);
        Ok(())
    }

    /// Sends over the kept connection, or over a new one where that has gone.
    async fn send(&mut self, origin: &Origin, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, String> {
        if let Some((kept, mut sender)) = self.kept.take().filter(|(kept, _)| kept == origin)
            && sender.ready().await.is_ok()
            && let Ok(response) = sender.send_request(copy(&request)).await
        {
            self.kept = Some((kept, sender));
            return Ok(response);
        }
        let mut sender = self.connect(origin).await?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| if error.is_incomplete_message() { "EOF".to_owned() } else { deepest(&error) })?;
        self.kept = Some((origin.clone(), sender));
        Ok(response)
    }

    async fn connect(&self, origin: &Origin) -> Result<SendRequest<Empty<Bytes>>, String> {
        let host = origin.host.trim_matches(['[', ']']);
        let addresses = blocking::addresses(host, origin.port).await;
        let addresses = addresses.map_err(|error| format!("dial tcp: lookup {host}: {error}"))?;
        let mut last = format!("dial tcp: lookup {host}: no such host");
        let mut connected = None;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    connected = Some(stream);
                    break;
                }
                Err(error) => last = format!("dial tcp {address}: connect: {}", os_words(&error)),
            }
        }
        let stream = connected.ok_or(last)?;
        let _ = stream.set_nodelay(true);
        if !origin.tls {
            return handshake(TokioIo::new(stream)).await;
        }
        let connector = TlsConnector::from(tls::client_config(&self.config.tls)?);
        let name = tls::server_name(&self.config.tls, host)?;
        let stream = connector.connect(name, stream).await.map_err(|error| format!("tls: {error}"))?;
        handshake(TokioIo::new(stream)).await
    }

    /// Reads the rest of a body that nobody wants, if it is short; else the connection is given up.
    async fn drain(&mut self, mut response: Response<Incoming>) {
        const SHORT: usize = 64 << 10;
        let mut bytes = 0;
        while let Some(frame) = response.frame().await {
            bytes += frame.ok().and_then(|frame| frame.data_ref().map(Bytes::len)).unwrap_or(SHORT);
            if bytes > SHORT {
                self.kept = None;
                return;
            }
        }
    }

    async fn read(
        &mut self,
        mut response: Response<Incoming>,
        bytes_max: u64,
        body: &mut Vec<u8>,
    ) -> Result<String, FetchError> {
        let is_gzip = response.headers().get(header::CONTENT_ENCODING).is_some_and(|value| value == "gzip");
        let content_type = response.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        let content_type = String::from_utf8_lossy(content_type.unwrap_or_default()).into_owned();
        let mut compressed = Vec::new();
        let raw = if is_gzip {
            compressed.reserve_exact(self.compressed_bytes);
            &mut compressed
        } else {
            &mut *body
        };
        while let Some(frame) = response.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    self.kept = None;
                    let what = deepest(&error);
                    let what = if what.contains("end of file") { "unexpected EOF".to_owned() } else { what };
                    return Err(FetchError::Failed(what));
                }
            };
            let Some(data) = frame.data_ref() else { continue };
            // As Prometheus counts: a body of exactly the limit is too large.
            if (raw.len() + data.len()) as u64 >= bytes_max {
                self.kept = None;
                return Err(FetchError::TooLarge);
            }
            raw.extend_from_slice(data);
        }
        if is_gzip {
            self.compressed_bytes = compressed.len();
            let heavy = Heavy::of(compressed.len().saturating_mul(GZIP_RATIO)).await;
            let mut reader = MultiGzDecoder::new(compressed.as_slice()).take(bytes_max);
            let inflated = heavy.run(|| reader.read_to_end(body));
            inflated.map_err(|error| FetchError::Failed(format!("gzip: {error}")))?;
            if body.len() as u64 >= bytes_max {
                return Err(FetchError::TooLarge);
            }
        }
        Ok(content_type)
    }
}

async fn handshake<T>(io: T) -> Result<SendRequest<Empty<Bytes>>, String>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(io).await.map_err(|error| error.to_string())?;
    // Ends with the sender.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

fn copy(request: &Request<Empty<Bytes>>) -> Request<Empty<Bytes>> {
    let mut copy = Request::new(Empty::new());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| "a header cannot have this value".to_owned())
}

/// The innermost reason of an error.
fn deepest(error: &hyper::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// What the system says, without its number.
fn os_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

/// Where a redirect leads.
fn resolve(base: &Uri, location: &str) -> Result<Uri, String> {
    let wrong = |error: hyper::http::uri::InvalidUri| format!("failed to parse Location header {location:?}: {error}");
    let location = location.split('#').next().unwrap_or_default();
    if location.contains("://") {
        return location.parse().map_err(wrong);
    }
    let scheme = base.scheme_str().unwrap_or("http");
    let authority = base.authority().map(|authority| authority.as_str()).unwrap_or_default();
    if let Some(rest) = location.strip_prefix("//") {
        return format!("{scheme}://{rest}").parse().map_err(wrong);
    }
    let path = if location.starts_with('/') {
        location.to_owned()
    } else if location.starts_with('?') {
        format!("{}{location}", base.path())
    } else {
        let dir = base.path().rsplit_once('/').map_or("", |(dir, _)| dir);
        format!("{dir}/{location}")
    };
    format!("{scheme}://{authority}{path}").parse().map_err(wrong)
}

/// Base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().chain(&[0, 0]).take(3).fold(0u32, |group, byte| group << 8 | u32::from(*byte));
        for i in 0..4 {
            let letter = ALPHABET.get((group >> (18 - 6 * i) & 63) as usize).copied().unwrap_or(b'=');
            out.push(if i <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests;
