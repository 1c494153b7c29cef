//! The load: made once as files of finished requests, then sent by several connections as fast as they are answered.
//!
//! One file a connection, so that the samples of a series arrive in order; a file is a row of requests, each with its
//! step, samples and bytes (u32 each) before it. Making them first keeps the driver's own work out of the figures.
//! Connections stay within a few steps of each other, as scrapes do: Prometheus refuses what is an hour behind.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::data::{self, SERIES_PER_HOST, Series};
use crate::http::Client;
use crate::process;

const HOSTS_PER_REQUEST: u32 = 4;
/// Steps that a connection may be ahead of the slowest.
const STEPS_AHEAD: u32 = 40;
const HEADERS: &str = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
                       X-Prometheus-Remote-Write-Version: 0.1.0\r\n";

fn file(folder: &Path, connection: u32) -> PathBuf {
    folder.join(format!("requests-{connection}"))
}

/// Writes the files.
pub(crate) fn make(folder: &Path, hosts: u32, hours: u32, connections: u32) {
    std::fs::create_dir_all(folder).unwrap();
    let steps = hours * 3600 * 1000 / data::INTERVAL_MS as u32;
    let series = data::series();
    std::thread::scope(|scope| {
        for connection in 0..connections {
            let series = &series;
            scope.spawn(move || {
                let mut out = BufWriter::new(File::create(file(folder, connection)).unwrap());
                let groups: Vec<Group> = (0..hosts.div_ceil(HOSTS_PER_REQUEST))
                    .filter(|group| group % connections == connection)
                    .map(|group| Group::new(group * HOSTS_PER_REQUEST, hosts, series))
                    .collect();
                let (mut raw, mut encoder) = (Vec::new(), snap::raw::Encoder::new());
                for step in 0..steps {
                    for group in &groups {
                        raw.clear();
                        let samples = group.encode(&mut raw, series, step, steps);
                        let body = encoder.compress_vec(&raw).unwrap();
                        for number in [step, samples, body.len() as u32] {
                            out.write_all(&number.to_le_bytes()).unwrap();
                        }
                        out.write_all(&body).unwrap();
                    }
                }
                out.flush().unwrap();
            });
        }
    });
}

/// Hosts that are sent together, each series with its encoded labels.
struct Group(Vec<(u32, Vec<Vec<u8>>)>);

impl Group {
    fn new(first: u32, hosts: u32, series: &[Series]) -> Group {
        let of = |host| (host, series.iter().map(|series| encoded_labels(host, series)).collect());
        Group((first..(first + HOSTS_PER_REQUEST).min(hosts)).map(of).collect())
    }

    /// Appends a WriteRequest of one step; gives its samples.
    fn encode(&self, out: &mut Vec<u8>, series: &[Series], step: u32, steps: u32) -> u32 {
        let mut sample = Vec::new();
        for (host, labels) in &self.0 {
            let time = data::time(*host, step, steps);
            for ((index, series), labels) in (0u32..).zip(series).zip(labels) {
                sample.clear();
                sample.push(0x09);
                sample.extend_from_slice(&data::value(*host, index, series, step, steps).to_le_bytes());
                sample.push(0x10);
                varint(&mut sample, time as u64);
                out.push(0x0a);
                varint(out, (labels.len() + 2 + sample.len()) as u64);
                out.extend_from_slice(labels);
                out.extend_from_slice(&[0x12, sample.len() as u8]);
                out.extend_from_slice(&sample);
            }
        }
        (self.0.len() * SERIES_PER_HOST) as u32
    }
}

/// The labels of one series, as fields of a TimeSeries.
fn encoded_labels(host: u32, series: &Series) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in data::labels(host, series) {
        let mut body = Vec::new();
        for (tag, text) in [(0x0a, name), (0x12, value.as_str())] {
            body.push(tag);
            varint(&mut body, text.len() as u64);
            body.extend_from_slice(text.as_bytes());
        }
        out.push(0x0a);
        varint(&mut out, body.len() as u64);
        out.extend_from_slice(&body);
    }
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// What one connection has done.
#[derive(Default)]
struct Sent {
    samples: u64,
    bytes: u64,
    retries: u64,
    latencies: Vec<Duration>,
}

/// Sends the files; gives the figures.
pub(crate) fn send(url: &str, folder: &Path, pid: u32) -> Value {
    let files: Vec<File> = (0..).map_while(|connection| File::open(file(folder, connection)).ok()).collect();
    assert!(!files.is_empty(), "{}: no requests; `drive make` makes them", folder.display());
    let all = Mutex::new(Sent::default());
    let pace = Pace { steps: Mutex::new(vec![0; files.len()]), moved: Condvar::new() };
    let (cpu, _) = process::usage(pid);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for (connection, file) in files.into_iter().enumerate() {
            let (all, runner) = (&all, Runner { pace: &pace, connection });
            scope.spawn(move || {
                let mine = send_file(&mut Client::connect(url), file, &runner);
                let mut all = all.lock().unwrap();
                all.samples += mine.samples;
                all.bytes += mine.bytes;
                all.retries += mine.retries;
                all.latencies.extend(mine.latencies);
            });
        }
    });
    let seconds = begin.elapsed().as_secs_f64();
    let (cpu_end, peak) = process::usage(pid);
    let mut all = all.into_inner().unwrap();
    all.latencies.sort_unstable();
    let quantile = |q: f64| all.latencies[((all.latencies.len() - 1) as f64 * q) as usize].as_secs_f64() * 1000.0;
    let samples = all.samples as f64;
    json!({
        "samples": all.samples,
        "sent_bytes": all.bytes as f64 / samples,
        "rate": samples / seconds / 1000.0,
        "cpu_us": (cpu_end - cpu) * 1e6 / samples,
        "p50_ms": quantile(0.5),
        "p99_ms": quantile(0.99),
        "retries": all.retries,
        "peak_mib": peak,
    })
}

/// The step that each connection is at.
struct Pace {
    steps: Mutex<Vec<u32>>,
    moved: Condvar,
}

/// A connection among others; its end, good or bad, lets the others go on.
struct Runner<'a> {
    pace: &'a Pace,
    connection: usize,
}

impl Runner<'_> {
    fn is_at(&self, step: u32) {
        let mut steps = self.pace.steps.lock().unwrap();
        if steps[self.connection] != step {
            steps[self.connection] = step;
            self.pace.moved.notify_all();
        }
        let far = |steps: &mut Vec<u32>| steps.iter().any(|slowest| slowest.saturating_add(STEPS_AHEAD) < step);
        drop(self.pace.moved.wait_while(steps, far).unwrap());
    }
}

impl Drop for Runner<'_> {
    fn drop(&mut self) {
        self.pace.steps.lock().unwrap()[self.connection] = u32::MAX;
        self.pace.moved.notify_all();
    }
}

fn send_file(client: &mut Client, file: File, runner: &Runner<'_>) -> Sent {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut sent, mut body) = (Sent::default(), Vec::new());
    let mut head = [0; 12];
    while reader.read_exact(&mut head).is_ok() {
        let [step, samples, bytes] = [0, 4, 8].map(|at| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()));
        body.resize(bytes as usize, 0);
        reader.read_exact(&mut body).unwrap();
        runner.is_at(step);
        let at = Instant::now();
        loop {
            let (status, answer) = client.request("POST", "/api/v1/write", HEADERS, &body);
            if matches!(status, 429 | 503) {
                sent.retries += 1;
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            assert!(status / 100 == 2, "{status}: {}", String::from_utf8_lossy(&answer));
            break;
        }
        sent.latencies.push(at.elapsed());
        sent.samples += u64::from(samples);
        sent.bytes += u64::from(bytes);
    }
    sent
}
