//! Real input, end to end: Debian's Prometheus scrapes a node_exporter, itself and Varve, and remote-writes all of it
//! to Varve; ten queries asked of both with promtool must give the same answers.
//!
//! Runs for `VARVE_REAL_SECONDS` (default 70; the full walk is 600). Skips loudly where the programs are not
//! installed (`apt-get install prometheus prometheus-node-exporter`).
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]
#![expect(clippy::disallowed_methods, reason = "an end-to-end test starts processes and waits for them")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A child that dies with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(program: &str, args: &[String], log: &Path) -> Server {
    let log = std::fs::File::create(log).unwrap();
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    Server(child)
}

fn status(port: u16, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

fn wait_ready(port: u16, path: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while status(port, path) != Some(200) {
        assert!(Instant::now() < deadline, "port {port} did not become ready");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn promtool(args: &[&str]) -> String {
    let output = Command::new("promtool").args(args).output().unwrap();
    assert!(
        output.status.success(),
        "promtool {args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Lines in a fixed order: series begin at the margin, their points follow.
fn blocks(answer: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    for line in answer.lines().filter(|line| !line.trim().is_empty()) {
        match blocks.last_mut() {
            Some(block) if !line.contains("=>") && block.contains("=>\n") => {
                block.push_str(line);
                block.push('\n');
            }
            _ => blocks.push(format!("{line}\n")),
        }
    }
    blocks.sort();
    blocks
}

/// Equal text, or equal but for numbers that differ by less than one part in 10^9.
fn same(ours: &str, theirs: &str) -> bool {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (ours, theirs) = (words(ours), words(theirs));
    ours.len() == theirs.len()
        && ours.iter().zip(&theirs).all(|(a, b)| {
            a == b
                || matches!((a.parse::<f64>(), b.parse::<f64>()),
                    (Ok(a), Ok(b)) if (a - b).abs() <= 1e-9 * a.abs().max(b.abs()))
        })
}

const INSTANT: [&str; 5] = [
    "count by (job) (up)",
    "sum by (mode) (node_cpu_seconds_total)",
    "rate(node_cpu_seconds_total[30s])",
    "topk(3, node_filesystem_avail_bytes)",
    "histogram_quantile(0.9, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[30s])))",
];
const RANGE: [&str; 5] = [
    "node_load1",
    "sum by (instance) (rate(process_cpu_seconds_total[30s]))",
    "avg_over_time(node_memory_MemAvailable_bytes[20s])",
    "count({__name__=~\"node_.+\"})",
    "max_over_time(rate(node_context_switches_total[15s])[30s:5s]) / on (instance) node_boot_time_seconds",
];

#[test]
fn prometheus_and_varve_agree_on_what_prometheus_sent() {
    for program in ["prometheus", "prometheus-node-exporter", "promtool"] {
        if Command::new(program).arg("--version").output().is_err() {
            eprintln!("!!! SKIPPED: {program} is not installed; see docs/testing.md");
            return;
        }
    }
    let seconds: u64 = std::env::var("VARVE_REAL_SECONDS").map_or(70, |s| s.parse().expect("VARVE_REAL_SECONDS"));
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (varve, prom, node) = (free_port(), free_port(), free_port());

    let _varve = start(
        env!("CARGO_BIN_EXE_varve"),
        &["serve".into(), "--data-dir".into(), at("varve"), "--listen".into(), format!("127.0.0.1:{varve}")],
        Path::new(&at("varve.log")),
    );
    let _node = start(
        "prometheus-node-exporter",
        &[format!("--web.listen-address=127.0.0.1:{node}")],
        Path::new(&at("node.log")),
    );
    wait_ready(varve, "/-/ready");
    std::fs::write(
        at("prometheus.yml"),
        format!(
            "global: {{scrape_interval: 5s}}\n\
             scrape_configs:\n\
             - {{job_name: node, static_configs: [{{targets: ['127.0.0.1:{node}']}}]}}\n\
             - {{job_name: prometheus, static_configs: [{{targets: ['127.0.0.1:{prom}']}}]}}\n\
             - {{job_name: varve-by-prometheus, static_configs: [{{targets: ['127.0.0.1:{varve}']}}]}}\n\
             remote_write:\n\
             - {{url: 'http://127.0.0.1:{varve}/api/v1/write'}}\n"
        ),
    )
    .unwrap();
    let _prometheus = start(
        "prometheus",
        &[
            format!("--config.file={}", at("prometheus.yml")),
            format!("--storage.tsdb.path={}", at("prometheus")),
            format!("--web.listen-address=127.0.0.1:{prom}"),
        ],
        Path::new(&at("prometheus.log")),
    );
    wait_ready(prom, "/-/ready");
    std::thread::sleep(Duration::from_secs(seconds));

    // Samples of the last seconds may still be on their way; and Prometheus 2 counts a sample on a window's left edge
    // where 3 does not, so the queries ask at a fraction of a second that no scrape is likely to hit. The windows of
    // range queries begin after the first scrape: towards a counter's beginning 2 extrapolates by another rule than 3.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 10;
    let end = format!("{now}.337");
    let begin = format!("{}.337", now - seconds.saturating_sub(45).clamp(7, 3600));
    let (ours, theirs) = (format!("http://127.0.0.1:{varve}"), format!("http://127.0.0.1:{prom}"));
    let mut compared = 0;
    for (expr, range) in INSTANT.iter().map(|e| (e, false)).chain(RANGE.iter().map(|e| (e, true))) {
        // Varve also scrapes itself; what Prometheus never saw is left out by the job.
        let ask = |url: &str| {
            let answer = if range {
                let (start, end) = (format!("--start={begin}"), format!("--end={end}"));
                promtool(&["query", "range", &start, &end, "--step=7s", url, expr])
            } else {
                promtool(&["query", "instant", &format!("--time={end}"), url, expr])
            };
            let answer = blocks(&answer);
            answer
                .into_iter()
                .filter(|b| !b.contains("job=\"varve\"") && !b.contains(&format!(":{varve}\"")))
                .collect::<Vec<_>>()
        };
        let (ours, theirs) = (ask(&ours), ask(&theirs));
        assert!(!theirs.is_empty(), "Prometheus has no answer to {expr}");
        assert_eq!(ours.len(), theirs.len(), "{expr}: number of series\nvarve: {ours:#?}\nprometheus: {theirs:#?}");
        for (a, b) in ours.iter().zip(&theirs) {
            assert!(same(a, b), "{expr}\nvarve:\n{a}\nprometheus:\n{b}");
        }
        compared += ours.len();
    }
    assert!(compared > 20, "only {compared} series were compared");
    println!("10 queries, {compared} series, {seconds} s: the same answers");
}
