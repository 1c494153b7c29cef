//! A client for one call at a time, on a connection of its own. An answer that was cut is an error, never a short answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use clap::{Arg, ArgMatches};

/// How long a server may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(600);
/// Bytes of the head of an answer.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// A server and the tenant to be there.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Host as the header says it.
    host: String,
    /// Host and port to connect to.
    address: String,
    /// What comes before every path.
    prefix: String,
    tenant: Option<String>,
}

/// An answer whose body is still to be read.
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: Body,
}

/// A body that knows where it ends.
pub(super) struct Body {
    reader: BufReader<TcpStream>,
    end: End,
}

/// How the end of a body is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// So many bytes are left.
    Length(u64),
    /// So many bytes of a piece are left, and more pieces follow.
    Pieces(u64),
    /// With the connection.
    Close,
    /// It is there.
    Reached,
}

/// The flags that name a server.
pub(super) fn args(help: &'static str) -> [Arg; 2] {
    let url = Arg::new("url").long("url").value_name("URL").help(help);
    let tenant = Arg::new("tenant").long("tenant").value_name("NAME").help("Tenant to be there");
    [url.env("VARVE_URL").default_value("http://127.0.0.1:8278"), tenant.env("VARVE_TENANT")]
}

impl Server {
    /// The server that the flags name. The error is a sentence.
    pub(super) fn of(matches: &ArgMatches) -> Result<Server, String> {
        let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
        Server::new(text("url").unwrap_or_default(), text("tenant"))
    }

    /// The server at a URL.
    pub(super) fn new(url: &str, tenant: Option<&str>) -> Result<Server, String> {
        let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url:?} does not begin with http://"))?;
        let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let address = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        if tenant.is_some_and(|name| name.bytes().any(|byte| byte.is_ascii_control())) {
            return Err("the tenant's name has a control character".to_owned());
        }
        let prefix = prefix.trim_end_matches('/').to_owned();
        Ok(Server { host: host.to_owned(), address, prefix, tenant: tenant.map(str::to_owned) })
    }

    /// Sends one request and reads the head of the answer. The error is a sentence.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, String> {
        let Server { host, address, prefix, tenant } = self;
        let mut head = format!(
            "{method} {prefix}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nUser-Agent: varve/{VERSION}\r\n"
        );
        let tenant = tenant.iter().map(|name| ("X-Scope-OrgID", name.as_str()));
        for (name, value) in tenant.chain(headers.iter().copied()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let failed = |what: &str, error: io::Error| format!("{what} {address}: {error}");
        let mut stream = TcpStream::connect(address).map_err(|e| failed("cannot connect to", e))?;
        let _ = stream.set_read_timeout(Some(SILENCE_MAX));
        let _ = stream.set_write_timeout(Some(SILENCE_MAX));
        let _ = stream.set_nodelay(true);
        // A server that refuses early may close before all is sent: its answer says more than the error here.
        let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        let mut reader = BufReader::new(stream);
        match (read_head(&mut reader), sent) {
            (Ok(Some((status, head))), _) => {
                let end = if header(&head, "transfer-encoding").is_some_and(|value| value.ends_with("chunked")) {
                    End::Pieces(0)
                } else if status == 204 {
                    End::Reached
                } else {
                    let length = header(&head, "content-length").and_then(|text| text.parse().ok());
                    length.map_or(End::Close, End::Length)
                };
                Ok(Answer { status, head, body: Body { reader, end } })
            }
            (_, Err(error)) => Err(failed("cannot send to", error)),
            (Err(error), _) => Err(failed("cannot read from", error)),
            (Ok(None), _) => Err(format!("{address} did not answer in HTTP")),
        }
    }

    /// Posts a form.
    pub(super) fn post(&self, path: &str, form: &[(&str, String)]) -> Result<Answer, String> {
        let body = form.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&");
        self.send("POST", path, &[("Content-Type", "application/x-www-form-urlencoded")], body.as_bytes())
    }
}

impl Answer {
    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// The whole body.
    pub(super) fn read(mut self) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        self.body.read_to_end(&mut body).map_err(|error| format!("cannot read the answer: {error}"))?;
        Ok(body)
    }

    /// The error that the body of a refusal tells, or its text.
    pub(super) fn error(self) -> String {
        let status = self.status;
        let body = self.read().unwrap_or_default();
        let json = serde_json::from_slice::<serde_json::Value>(&body).ok();
        match json.as_ref().and_then(|json| json["error"].as_str()) {
            Some(error) => error.to_owned(),
            None => format!("status {status}: {}", String::from_utf8_lossy(&body).trim()),
        }
    }
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.end == End::Pieces(0) {
            self.end = match next_piece(&mut self.reader)? {
                0 => End::Reached,
                bytes => End::Pieces(bytes),
            };
        }
        let left = match self.end {
            End::Length(left) | End::Pieces(left) => left,
            End::Close => u64::MAX,
            End::Reached => 0,
        };
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        let read = self.reader.read(out.get_mut(..room).unwrap_or_default())?;
        if read == 0 && room > 0 && self.end != End::Close {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut"));
        }
        match &mut self.end {
            End::Length(left) => *left -= read as u64,
            End::Pieces(left) => {
                *left -= read as u64;
                if *left == 0 {
                    self.reader.read_exact(&mut [0; 2])?;
                }
            }
            End::Close | End::Reached => {}
        }
        Ok(read)
    }
}

/// Reads the line before a piece: its length in hexadecimal digits.
fn next_piece(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut line = Vec::new();
    reader.take(1024).read_until(b'\n', &mut line)?;
    let digits = std::str::from_utf8(&line).unwrap_or_default().split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(digits, 16).map_err(|_| io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut"))
}

/// The value of a header.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Reads status line and headers. `None`: that is not HTTP.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<(u16, String)>> {
    let mut head = Vec::new();
    let mut limited = reader.take(HEAD_BYTES_MAX);
    loop {
        let begin = head.len();
        if limited.read_until(b'\n', &mut head)? == 0 {
            return Ok(None);
        }
        if matches!(head.get(begin..), Some(b"\r\n" | b"\n")) {
            break;
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.trim().parse().ok());
    Ok(status.map(|status| (status, head)))
}

/// Escapes a form value.
fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_and_values_escaped() {
        let mut answer = &b"HTTP/1.0 422 Unprocessable Entity\r\na: b\r\n\r\nbody"[..];
        let (status, head) = read_head(&mut answer).unwrap().unwrap();
        assert_eq!((status, answer), (422, &b"body"[..]));
        assert!(head.contains("a: b"));
        assert!(read_head(&mut &b"garbage"[..]).unwrap().is_none());
        assert!(read_head(&mut &b"garbage\r\n\r\n"[..]).unwrap().is_none());
        assert_eq!(escape("a{b=\"c\"}"), "a%7Bb%3D%22c%22%7D");
    }

    #[test]
    fn a_cut_body_is_an_error() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::new(&format!("http://{}", listener.local_addr().unwrap()), None).unwrap();
        for (answer, expected) in [
            ("Content-Length: 3\r\n\r\nabc", Some("abc")),
            ("Content-Length: 4\r\n\r\nabc", None),
            ("Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n", Some("abc")),
            ("Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", None),
            ("Transfer-Encoding: chunked\r\n\r\n4\r\nab", None),
            ("\r\nabc", Some("abc")),
        ] {
            let read = std::thread::scope(|scope| {
                let asked = scope.spawn(|| server.send("GET", "/", &[], b"").and_then(Answer::read));
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 1024]).unwrap();
                stream.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).unwrap();
                drop(stream);
                asked.join().unwrap()
            });
            assert_eq!(read.ok().as_deref(), expected.map(str::as_bytes), "{answer}");
        }
    }

    #[test]
    fn urls_are_hosts_ports_and_prefixes() {
        let of = |url| Server::new(url, None).map(|server| (server.address, server.prefix));
        assert_eq!(of("http://a"), Ok(("a:80".to_owned(), String::new())));
        assert_eq!(of("http://[::1]:9/x/"), Ok(("[::1]:9".to_owned(), "/x".to_owned())));
        assert!(of("https://a").is_err());
        assert!(Server::new("http://a", Some("b\r\nc: d")).is_err());
    }
}
