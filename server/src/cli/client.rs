//! A client for one call: a form by POST over plain HTTP/1.0, so that the answer ends with the connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Posts a form to `url` + `path`. The error is a sentence.
pub(super) fn post(url: &str, path: &str, tenant: Option<&str>, form: &[(&str, String)]) -> Result<Answer, String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url:?} does not begin with http://"))?;
    let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let address = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let body = form.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&");
    let tenant = tenant.map(|name| format!("X-Scope-OrgID: {name}\r\n")).unwrap_or_default();
    let head = format!(
        "POST {}{path} HTTP/1.0\r\nHost: {host}\r\n{tenant}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        prefix.trim_end_matches('/'),
        body.len()
    );
    let failed = |what: &str, error: std::io::Error| format!("{what} {address}: {error}");
    let mut stream = TcpStream::connect(&address).map_err(|e| failed("cannot connect to", e))?;
    let _ = stream.set_read_timeout(Some(Duration::from_secs(600)));
    stream.write_all(head.as_bytes()).map_err(|e| failed("cannot send to", e))?;
    stream.write_all(body.as_bytes()).map_err(|e| failed("cannot send to", e))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|e| failed("cannot read from", e))?;
    parse(&answer).ok_or_else(|| format!("{address} did not answer in HTTP"))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: answer.get(end + 4..)?.to_vec() })
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
    fn answers_are_split_and_values_escaped() {
        let answer = parse(b"HTTP/1.0 422 Unprocessable Entity\r\na: b\r\n\r\nbody").unwrap();
        assert_eq!((answer.status, &answer.body[..]), (422, &b"body"[..]));
        assert!(parse(b"garbage").is_none());
        assert_eq!(escape("a{b=\"c\"}"), "a%7Bb%3D%22c%22%7D");
    }
}
