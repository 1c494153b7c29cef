//! The client against a server of this process: plain and TLS.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::client::TlsConfig;

const CA: &str = include_str!("../../tests/tls/ca.pem");
const SERVER: (&str, &str) = (include_str!("../../tests/tls/server.pem"), include_str!("../../tests/tls/server.key"));
const CLIENT: (&str, &str) = (include_str!("../../tests/tls/client.pem"), include_str!("../../tests/tls/client.key"));

/// What a server answers to the head of a request: all bytes of the answer.
type Answer = fn(&str) -> Vec<u8>;

/// A server, and how many connections it has seen.
struct Server {
    address: String,
    connections: Arc<AtomicUsize>,
}

async fn serve(answer: Answer, tls: Option<Arc<ServerConfig>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::SeqCst);
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => talk(stream, answer).await,
                    Some(config) => {
                        if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                            talk(stream, answer).await;
                        }
                    }
                }
            });
        }
    });
    Server { address, connections }
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: Answer) {
    let mut head = Vec::new();
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte).await {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            let bytes = answer(&String::from_utf8_lossy(&head));
            head.clear();
            let last = bytes.is_empty() || bytes.windows(17).any(|window| window == b"Connection: close");
            if stream.write_all(&bytes).await.is_err() || last {
                let _ = stream.shutdown().await;
                return;
            }
        }
    }
}

fn ok(content_type: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{more}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// Answers by path; `/` tells the head it got.
fn plain(head: &str) -> Vec<u8> {
    let path = head.split(' ').nth(1).unwrap_or_default();
    match path {
        "/gzip" => ok("text/plain", "Content-Encoding: gzip\r\n", &gzip(b"a 1\n")),
        "/bomb" => ok("text/plain", "Content-Encoding: gzip\r\n", &gzip(&vec![b'a'; 1 << 20])),
        "/garbage" => ok("text/plain", "Content-Encoding: gzip\r\n", b"no gzip"),
        "/cut" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nabc".to_vec(),
        "/chunks" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_vec(),
        "/moved" => b"HTTP/1.1 302 Found\r\nLocation: /new?x\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/circle" => b"HTTP/1.1 302 Found\r\nLocation: /circle\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/away" => b"HTTP/1.1 302 Found\r\nLocation: http://localhost:1/\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/gone" => b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno!".to_vec(),
        "/hang-up" => Vec::new(),
        _ => ok("text/plain; version=0.0.4", "", head.as_bytes()),
    }
}

async fn get(client: &mut Client, url: &str) -> Result<String, String> {
    let mut body = b"of before".to_vec();
    let headers = [(header::ACCEPT, HeaderValue::from_static("text/plain"))];
    match client.ask(url, &headers, 100_000, &mut body).await {
        Ok(_) => Ok(String::from_utf8(body).unwrap()),
        Err(error) => Err(error.to_string()),
    }
}

fn client(config: ClientConfig) -> Client {
    Client::new(Arc::new(config))
}

#[tokio::test]
async fn bodies_are_read_and_the_connection_is_kept() {
    let server = serve(plain, None).await;
    let at = |path: &str| format!("http://{}{path}", server.address);
    let mut client = client(ClientConfig::default());
    let head = get(&mut client, &at("/metrics?a=b")).await.unwrap();
    assert!(head.starts_with("GET /metrics?a=b HTTP/1.1\r\n"), "{head}");
    let lower = head.to_ascii_lowercase();
    for line in [format!("host: {}\r\n", server.address), "accept: text/plain\r\n".to_owned()] {
        assert!(lower.contains(&line), "{head}");
    }
    assert!(lower.contains("user-agent: prometheus/3.14.0 (varve/") && !lower.contains("authorization"), "{head}");
    assert_eq!(get(&mut client, &at("/gzip")).await.unwrap(), "a 1\n");
    assert_eq!(get(&mut client, &at("/chunks")).await.unwrap(), "abcde");
    assert!(get(&mut client, &at("/moved")).await.unwrap().starts_with("GET /new?x HTTP/1.1"));
    assert_eq!(get(&mut client, &at("/gone")).await.unwrap_err(), "server returned HTTP status 404 Not Found");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_goes_wrong_is_told_and_the_next_request_works() {
    let server = serve(plain, None).await;
    let at = |path: &str| format!("http://{}{path}", server.address);
    let mut client = client(ClientConfig::default());
    for (path, error) in [
        ("/bomb", "body size limit exceeded"),
        ("/garbage", "gzip: "),
        ("/cut", "unexpected EOF"),
        ("/circle", "stopped after 10 redirects"),
        ("/hang-up", "EOF"),
    ] {
        let got = get(&mut client, &at(path)).await.unwrap_err();
        assert!(got.contains(error), "{path}: {got}");
        assert!(get(&mut client, &at("/")).await.is_ok(), "after {path}");
    }
    let refused = get(&mut client, "http://127.0.0.1:1/metrics").await.unwrap_err();
    assert_eq!(refused, "Get \"http://127.0.0.1:1/metrics\": dial tcp 127.0.0.1:1: connect: connection refused");
    assert!(get(&mut client, "ftp://x/").await.unwrap_err().contains("unsupported protocol scheme"));
}

#[tokio::test]
async fn redirects_are_followed_only_where_wanted() {
    let server = serve(plain, None).await;
    let mut client = client(ClientConfig { follow_redirects: false, ..ClientConfig::default() });
    let error = get(&mut client, &format!("http://{}/moved", server.address)).await.unwrap_err();
    assert_eq!(error, "server returned HTTP status 302 Found");
}

#[tokio::test]
async fn credentials_are_sent_and_stay_with_their_host() {
    let server = serve(plain, None).await;
    let text = |text: &str| Some(Source::Text(text.to_owned()));
    let basic = Credentials::Basic { username: text("user"), password: text("pass") };
    let bearer = Credentials::Header { scheme: "Bearer".to_owned(), credentials: text("token") };
    for (credentials, expected) in
        [(basic, "authorization: Basic dXNlcjpwYXNz"), (bearer, "authorization: Bearer token")]
    {
        let headers = vec![("X-Own".to_owned(), true, Source::Text("v".to_owned()))];
        let config = ClientConfig { credentials: Some(credentials), headers, ..ClientConfig::default() };
        let mut client = client(config);
        let head = get(&mut client, &format!("http://{}/", server.address)).await.unwrap();
        assert!(head.contains(expected) && head.contains("x-own: v"), "{head}");
        // Over a redirect to another host they are left out.
        let uri: Uri = "http://elsewhere/".parse().unwrap();
        let request = client.request(&uri, &[], false).unwrap();
        assert!(!request.headers().contains_key("authorization") && !request.headers().contains_key("x-own"));
    }
    let missing =
        Credentials::Header { scheme: "Bearer".to_owned(), credentials: Some(Source::File("/nowhere/at/all".into())) };
    let mut client = client(ClientConfig { credentials: Some(missing), ..ClientConfig::default() });
    let error = get(&mut client, &format!("http://{}/", server.address)).await.unwrap_err();
    assert!(error.contains("unable to read authorization credentials"), "{error}");
}

fn tls_server(with_client: bool) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(SERVER.0.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(SERVER.1.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = if with_client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(CA.as_bytes()).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    Arc::new(builder.with_single_cert(vec![certificate], key).unwrap())
}

#[tokio::test]
async fn tls_trusts_whom_it_is_told_to() {
    let server = serve(plain, Some(tls_server(false))).await;
    let url = format!("https://{}/", server.address);
    let text = |text: &str| Some(Source::Text(text.to_owned()));
    let named = TlsConfig { ca: text(CA), server_name: "server.test".to_owned(), ..TlsConfig::default() };
    for (tls, expected) in [
        (named.clone(), Ok(())),
        (TlsConfig { min_version: Some("TLS13".to_owned()), ..named.clone() }, Ok(())),
        (TlsConfig { max_version: Some("TLS12".to_owned()), ..named.clone() }, Ok(())),
        (TlsConfig { insecure_skip_verify: true, ..TlsConfig::default() }, Ok(())),
        (TlsConfig { server_name: "other.test".to_owned(), ..named.clone() }, Err("not valid for name")),
        (TlsConfig { server_name: String::new(), ..named.clone() }, Err("not valid for")),
        (TlsConfig { ca: None, ..named.clone() }, Err("UnknownIssuer")),
        (TlsConfig { ca: text("nothing"), ..named.clone() }, Err("a certificate was expected")),
    ] {
        let mut client = client(ClientConfig { tls: tls.clone(), ..ClientConfig::default() });
        let got = get(&mut client, &url).await;
        match (&got, expected) {
            (Ok(head), Ok(())) => assert!(head.starts_with("GET / HTTP/1.1"), "{head}"),
            (Err(error), Err(what)) => assert!(error.contains(what), "{tls:?}: {error}"),
            _ => panic!("{tls:?}: {got:?}"),
        }
    }
}

#[tokio::test]
async fn tls_shows_the_own_certificate_where_it_has_one() {
    let server = serve(plain, Some(tls_server(true))).await;
    let url = format!("https://{}/", server.address);
    let text = |text: &str| Some(Source::Text(text.to_owned()));
    let tls = TlsConfig { ca: text(CA), server_name: "server.test".to_owned(), ..TlsConfig::default() };
    let with = TlsConfig { cert: text(CLIENT.0), key: text(CLIENT.1), ..tls.clone() };
    assert!(get(&mut client(ClientConfig { tls: with, ..ClientConfig::default() }), &url).await.is_ok());
    assert!(get(&mut client(ClientConfig { tls, ..ClientConfig::default() }), &url).await.is_err());
}

#[test]
fn base64_pads() {
    for (text, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("u:p\u{ff}", "dTpww78=")] {
        assert_eq!(base64(text.as_bytes()), encoded);
    }
}

#[test]
fn redirects_lead_where_they_say() {
    let base: Uri = "http://h:1/a/b?c=d".parse().unwrap();
    for (location, target) in [
        ("/x", "http://h:1/x"),
        ("x?y", "http://h:1/a/x?y"),
        ("https://o/z#f", "https://o/z"),
        ("//o/z", "http://o/z"),
        ("?q", "http://h:1/a/b?q"),
    ] {
        assert_eq!(resolve(&base, location).unwrap().to_string(), target);
    }
}
