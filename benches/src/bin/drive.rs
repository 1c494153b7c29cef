//! drive: loads a whole server by remote write and asks it queries, over HTTP only, so that any store that takes
//! Prometheus's protocols can stand in the same table.
//!
//! ```text
//! drive ingest --url http://127.0.0.1:8278 [--pid PID] [--hosts 200] [--hours 6] [--connections 4]
//! drive query  --url http://127.0.0.1:8278 [--pid PID] [--hosts 200] [--hours 6] [--runs 5]
//! ```
//! A host has 500 series sampled every 15 s; the values are a mix of constants, integer and decimal counters, byte
//! gauges and full-precision noise. The data ends at a fixed time, is made on the fly from the host, series and step
//! (no file), and is the same for each run (at least four hosts). CPU and memory are those of the process `--pid`.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a driver: it measures wall time, starts threads, prints, and may stop at the first surprise"
)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SERIES_PER_HOST: u32 = 500;
const HOSTS_PER_REQUEST: u32 = 4;
const INTERVAL_MS: i64 = 15_000;
/// End of the data: 2026-01-01T00:00:00Z.
const END_MS: i64 = 1_767_225_600_000;

struct Arguments(HashMap<String, String>);

impl Arguments {
    fn number(&self, name: &str, default: u32) -> u32 {
        self.0.get(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("--{name} wants a number")))
    }
}

/// A keep-alive connection.
struct Client {
    host: String,
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(url: &str) -> Client {
        let host = url.strip_prefix("http://").expect("--url http://HOST:PORT").trim_end_matches('/').to_owned();
        let stream = TcpStream::connect(&host).expect("connect");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        Client { host, stream: BufReader::with_capacity(1 << 16, stream) }
    }

    fn request(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{headers}\r\n",
            self.host,
            body.len()
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let (mut status, mut length, mut chunked, mut line) = (0, 0, false, String::new());
        loop {
            line.clear();
            assert!(self.stream.read_line(&mut line).unwrap() > 0, "connection closed");
            let lower = line.trim_end().to_ascii_lowercase();
            if lower.is_empty() {
                break;
            }
            if let Some(rest) = lower.strip_prefix("http/1.1 ") {
                status = rest.split(' ').next().unwrap().parse().unwrap();
            } else if let Some(rest) = lower.strip_prefix("content-length:") {
                length = rest.trim().parse().unwrap();
            } else if lower == "transfer-encoding: chunked" {
                chunked = true;
            }
        }
        let mut body = Vec::new();
        if chunked {
            loop {
                line.clear();
                self.stream.read_line(&mut line).unwrap();
                let size = usize::from_str_radix(line.trim(), 16).unwrap();
                let at = body.len();
                body.resize(at + size, 0);
                self.stream.read_exact(&mut body[at..]).unwrap();
                line.clear();
                self.stream.read_line(&mut line).unwrap();
                if size == 0 {
                    break;
                }
            }
        } else {
            body.resize(length, 0);
            self.stream.read_exact(&mut body).unwrap();
        }
        (status, body)
    }
}

/// CPU seconds and peak resident MiB of a process.
fn usage(pid: u32) -> (f64, u64) {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return (0.0, 0) };
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))
        .map_or(0, |l| l.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024);
    (ticks / 100.0, peak)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn label(out: &mut Vec<u8>, name: &str, value: &str) {
    let mut body = vec![0x0a];
    varint(&mut body, name.len() as u64);
    body.extend_from_slice(name.as_bytes());
    body.push(0x12);
    varint(&mut body, value.len() as u64);
    body.extend_from_slice(value.as_bytes());
    out.push(0x0a);
    varint(out, body.len() as u64);
    out.extend_from_slice(&body);
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The labels of one series, as fields of a TimeSeries.
fn labels(host: u32, series: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let name = match series % 10 {
        0..=4 => format!("drive_state_{}", series / 50),
        5 | 6 => format!("drive_requests_total_{}", series / 50),
        7 => format!("drive_cpu_seconds_total_{}", series / 50),
        8 => format!("drive_memory_bytes_{}", series / 50),
        _ => format!("drive_duration_seconds_{}", series / 50),
    };
    label(&mut out, "__name__", &name);
    label(&mut out, "dc", ["ams", "fra", "iad", "sin"][host as usize % 4]);
    label(&mut out, "device", &format!("device-{}", series % 50));
    label(&mut out, "instance", &format!("host-{host:04}:9100"));
    label(&mut out, "job", "drive");
    out
}

/// The value of a series at a step: a pure function, so nothing is kept.
fn value(host: u32, series: u32, step: u32) -> f64 {
    let id = u64::from(host) << 32 | u64::from(series);
    let noise = mix(id << 20 ^ u64::from(step));
    match series % 10 {
        0..=4 => f64::from(series % 3),
        5 | 6 => f64::from(step) * f64::from(series % 90 + 1) + (noise % 16) as f64,
        7 => (f64::from(step) * 150.0 + (noise % 100) as f64) / 100.0,
        8 => (1 << 30) as f64 + (noise % 4096) as f64 * 4096.0,
        _ => (noise >> 11) as f64 / (1u64 << 53) as f64,
    }
}

fn ingest(url: &str, arguments: &Arguments) {
    let (hosts, hours) = (arguments.number("hosts", 200), arguments.number("hours", 6));
    let (connections, pid) = (arguments.number("connections", 4), arguments.number("pid", 0));
    let steps = hours * 3600 * 1000 / INTERVAL_MS as u32;
    let (sent, compressed) = (AtomicU64::new(0), AtomicU64::new(0));
    let latencies = std::sync::Mutex::new(Vec::new());
    let next = AtomicU32::new(0);
    let (cpu, _) = usage(pid);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut client = Client::connect(url);
                let mut mine = Vec::new();
                let groups = hosts.div_ceil(HOSTS_PER_REQUEST);
                // A group belongs to one connection, so that its samples arrive in order.
                let me = next.fetch_add(1, Ordering::SeqCst);
                let prefixes: HashMap<(u32, u32), Vec<u8>> = (0..hosts)
                    .filter(|host| host / HOSTS_PER_REQUEST % connections == me)
                    .flat_map(|host| (0..SERIES_PER_HOST).map(move |series| ((host, series), labels(host, series))))
                    .collect();
                let (mut raw, mut series_body, mut encoder) = (Vec::new(), Vec::new(), snap::raw::Encoder::new());
                for step in 0..steps {
                    for group in (0..groups).filter(|group| group % connections == me) {
                        raw.clear();
                        let first = group * HOSTS_PER_REQUEST;
                        for host in first..(first + HOSTS_PER_REQUEST).min(hosts) {
                            let time = END_MS - i64::from(steps - step) * INTERVAL_MS + i64::from(host * 37 % 15_000);
                            for series in 0..SERIES_PER_HOST {
                                series_body.clear();
                                series_body.extend_from_slice(&prefixes[&(host, series)]);
                                let mut sample = vec![0x09];
                                sample.extend_from_slice(&value(host, series, step).to_le_bytes());
                                sample.push(0x10);
                                varint(&mut sample, time as u64);
                                series_body.push(0x12);
                                varint(&mut series_body, sample.len() as u64);
                                series_body.extend_from_slice(&sample);
                                raw.push(0x0a);
                                varint(&mut raw, series_body.len() as u64);
                                raw.extend_from_slice(&series_body);
                            }
                        }
                        let body = encoder.compress_vec(&raw).unwrap();
                        let headers = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
                                       X-Prometheus-Remote-Write-Version: 0.1.0\r\n";
                        let at = Instant::now();
                        let (status, answer) = client.request("POST", "/api/v1/write", headers, &body);
                        assert!(status / 100 == 2, "{status}: {}", String::from_utf8_lossy(&answer));
                        mine.push(at.elapsed());
                        let count = (first + HOSTS_PER_REQUEST).min(hosts) - first;
                        sent.fetch_add(u64::from(count * SERIES_PER_HOST), Ordering::Relaxed);
                        compressed.fetch_add(body.len() as u64, Ordering::Relaxed);
                    }
                }
                latencies.lock().unwrap().extend(mine);
            });
        }
    });
    let (wall, samples) = (begin.elapsed().as_secs_f64(), sent.load(Ordering::Relaxed) as f64);
    let (cpu_end, peak) = usage(pid);
    let mut latencies = latencies.into_inner().unwrap();
    latencies.sort_unstable();
    let quantile = |q: f64| latencies[((latencies.len() - 1) as f64 * q) as usize].as_secs_f64() * 1000.0;
    println!(
        "samples              {samples:.0} ({:.1} bytes each as sent)",
        compressed.load(Ordering::Relaxed) as f64 / samples
    );
    println!("acknowledged         {:.0} k samples/s", samples / wall / 1000.0);
    println!("request p50, p99     {:.2} ms, {:.2} ms", quantile(0.5), quantile(0.99));
    if pid != 0 {
        println!("server CPU           {:.3} us a sample", (cpu_end - cpu) * 1e6 / samples);
        println!("server peak memory   {peak} MiB");
    }
}

/// Name, expression, seconds back from the end (0: instant), step.
const QUERIES: [(&str, &str, u32, u32); 10] = [
    ("one series", "drive_state_0{instance=\"host-0003:9100\",device=\"device-0\"}", 0, 0),
    ("one host", "{instance=\"host-0003:9100\"}", 0, 0),
    ("one series, 6 h", "drive_duration_seconds_0{instance=\"host-0003:9100\",device=\"device-9\"}", 21_600, 15),
    ("rate by dc, 1 h", "sum by (dc) (rate(drive_cpu_seconds_total_0[5m]))", 3_600, 60),
    ("rate by dc, 6 h", "sum by (dc) (rate(drive_requests_total_0[5m]))", 21_600, 60),
    ("topk", "topk(5, drive_memory_bytes_1)", 0, 0),
    ("count of all", "count({job=~\".+\"})", 0, 0),
    ("count by name", "count by (__name__) ({job=~\".+\"})", 0, 0),
    ("sum over 6 h", "sum by (dc) (sum_over_time(drive_duration_seconds_0[6h]))", 0, 0),
    ("quantile over 6 h", "max by (dc) (quantile_over_time(0.99, drive_duration_seconds_1[6h]))", 0, 0),
];

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        let _ = if b.is_ascii_alphanumeric() { write!(out, "{}", char::from(b)) } else { write!(out, "%{b:02X}") };
        out
    })
}

fn query(url: &str, arguments: &Arguments) {
    let (runs, pid) = (arguments.number("runs", 5), arguments.number("pid", 0));
    let end = END_MS / 1000 - 1;
    let mut client = Client::connect(url);
    println!("{:<20} {:>10} {:>10} {:>10}", "query", "first ms", "median ms", "CPU ms");
    for (name, expr, back, step) in QUERIES {
        let path = match back {
            0 => format!("/api/v1/query?query={}&time={end}", encode(expr)),
            _ => format!(
                "/api/v1/query_range?query={}&start={}&end={end}&step={step}",
                encode(expr),
                end - i64::from(back)
            ),
        };
        let (cpu, _) = usage(pid);
        let mut times: Vec<f64> = (0..=runs)
            .map(|_| {
                let at = Instant::now();
                let (status, body) = client.request("GET", &path, "", b"");
                assert!(status == 200, "{expr}: {status}: {}", String::from_utf8_lossy(&body));
                assert!(!body.ends_with(b"\"result\":[]}}"), "{expr}: no series; was the data loaded?");
                at.elapsed().as_secs_f64() * 1000.0
            })
            .collect();
        let (cpu_end, _) = usage(pid);
        let first = times.remove(0);
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied().unwrap_or(first);
        println!("{name:<20} {first:>10.1} {median:>10.1} {:>10.1}", (cpu_end - cpu) * 1000.0 / f64::from(runs + 1));
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let mut arguments = HashMap::new();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        arguments.insert(name.trim_start_matches("--").to_owned(), value);
    }
    let arguments = Arguments(arguments);
    let url = arguments.0.get("url").cloned().unwrap_or_else(|| "http://127.0.0.1:8278".to_owned());
    match command.as_str() {
        "ingest" => ingest(&url, &arguments),
        "query" => query(&url, &arguments),
        _ => {
            println!("drive ingest|query --url URL [--pid PID] [--hosts 200] [--hours 6] [--connections 4] [--runs 5]")
        }
    }
}
