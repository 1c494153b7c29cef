//! A whole server for a test: the real binary on a free port over a directory of its own, and a client as small as
//! HTTP allows, so that what is tested is what goes over the wire.
#![expect(dead_code, reason = "each test file uses its own part of this")]
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

#[expect(clippy::disallowed_methods, reason = "an end-to-end test starts processes and waits for them")]
pub(crate) mod real;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use varve_model::WriteBatch;
use varve_protocol::remote_write::encode_v1;

/// A running server; killed when dropped.
pub(crate) struct House {
    pub(crate) address: String,
    process: Child,
    stderr: BufReader<ChildStderr>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("not JSON ({e}): {} {}", self.head, String::from_utf8_lossy(&self.body)))
    }

    /// The error's type and text; checks that the answer is a JSON error at all.
    #[track_caller]
    pub(crate) fn error(&self) -> (String, String) {
        let json = self.json();
        assert_eq!(json["status"], "error", "{json}");
        (json["errorType"].as_str().unwrap().to_owned(), json["error"].as_str().unwrap().to_owned())
    }
}

/// A directory that goes with the test.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn command(dir: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_varve"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir).args(flags);
    if !flags.contains(&"--self-scrape") {
        command.args(["--self-scrape", "false"]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Starts a server and waits until it is ready.
#[track_caller]
pub(crate) fn start(dir: &Path, flags: &[&str]) -> House {
    let mut process = command(dir, flags).spawn().unwrap();
    let stderr = BufReader::new(process.stderr.take().unwrap());
    // Made first, so that the process ends with it whatever happens.
    let mut house = House { address: String::new(), process, stderr };
    let mut said = String::new();
    loop {
        let begin = said.len();
        if house.stderr.read_line(&mut said).unwrap() == 0 {
            panic!("the server ended: {said}");
        }
        let line = &said[begin..];
        if let Some((_, address)) = line.split_once("address=").filter(|_| line.contains(" ready ")) {
            address.split_whitespace().next().unwrap().clone_into(&mut house.address);
            return house;
        }
    }
}

/// Starts a server that is expected to end by itself; its exit status and what it said.
pub(crate) fn start_and_fail(dir: &Path, flags: &[&str]) -> (ExitStatus, String) {
    let output = command(dir, flags).output().unwrap();
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

impl House {
    /// One request on a connection of its own.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: varve\r\nConnection: close\r\nContent-Length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.raw(&[head.as_bytes(), body].concat())
    }

    /// Sends bytes and reads until the server closes the connection.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Answer {
        exchange(&self.address, bytes)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(&self.address)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    /// A form by POST.
    pub(crate) fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let body = form.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&");
        self.request(
            "POST",
            path,
            &[("Content-Type", "application/x-www-form-urlencoded;charset=UTF-8")],
            body.as_bytes(),
        )
    }

    /// Remote write as a tenant, as Prometheus sends it.
    pub(crate) fn write_as(&self, tenant: &str, batch: &WriteBatch) -> Answer {
        let mut body = Vec::new();
        encode_v1(batch, &mut body);
        let headers = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
            ("X-Scope-OrgID", tenant),
        ];
        self.request("POST", "/api/v1/write", &headers, &compress(&body))
    }

    pub(crate) fn write(&self, batch: &WriteBatch) -> Answer {
        self.write_as("anonymous", batch)
    }

    /// The `data` of an instant query.
    #[track_caller]
    pub(crate) fn query(&self, query: &str, time_ms: i64) -> Value {
        let time = format!("{}.{:03}", time_ms / 1000, time_ms % 1000);
        let answer = self.post("/api/v1/query", &[("query", query), ("time", &time)]);
        assert_eq!(answer.status, 200, "{query}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()["data"].clone()
    }

    /// The samples of the one series that a selector has before `time_ms`.
    #[track_caller]
    pub(crate) fn samples(&self, selector: &str, range: &str, time_ms: i64) -> Vec<(i64, f64)> {
        let data = self.query(&format!("{selector}[{range}]"), time_ms);
        let values = data["result"][0]["values"].as_array().cloned().unwrap_or_default();
        let sample =
            |v: &Value| ((v[0].as_f64().unwrap() * 1000.0).round() as i64, v[1].as_str().unwrap().parse().unwrap());
        values.iter().map(sample).collect()
    }

    /// Kill -9.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGTERM; the exit status and what the server said since it was ready.
    pub(crate) fn stop(self) -> (ExitStatus, String) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        self.ended()
    }

    /// Waits for a server that ends by itself.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (self.process.wait().unwrap(), said)
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Sends bytes to any server and reads its answer until it closes the connection.
pub(crate) fn exchange(address: &str, bytes: &[u8]) -> Answer {
    let mut stream = connect(address);
    // A server that refuses early may close before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = answer[end + 4..].to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = unchunk(&body);
    }
    Answer { status, head, body }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn compress(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(body).unwrap()
}

/// A series to write: its labels and its samples.
pub(crate) type Series<'a> = (&'a [(&'a str, &'a str)], &'a [(i64, f64)]);

/// A batch of series.
pub(crate) fn batch(series: &[Series<'_>]) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for (labels, samples) in series {
        batch.push_series(labels.iter().copied());
        for (time, value) in *samples {
            batch.push_sample(*time, *value);
        }
    }
    batch
}

#[expect(clippy::disallowed_methods, reason = "samples must lie near the clock of the server, which is the real one")]
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// All files below a directory.
#[expect(clippy::disallowed_methods, reason = "a test that looks at what the server left on disk")]
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}

fn escape(value: &str) -> String {
    value
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = body.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        out.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
        if size == 0 {
            break;
        }
    }
    out
}
