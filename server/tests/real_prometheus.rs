//! Real input, end to end: Debian's Prometheus scrapes a node_exporter, itself and Varve, and remote-writes all of it
//! to Varve; ten queries asked of both with promtool must give the same answers.
//!
//! Runs for `VARVE_REAL_SECONDS` (default 70; the full walk is 600). Skips loudly where the programs are not
//! installed (`apt-get install prometheus prometheus-node-exporter`).
#![expect(clippy::disallowed_methods, reason = "an end-to-end test starts processes and waits for them")]

mod house;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use house::exchange;
use house::real::{Prometheus, free_port, installed, run, spawn, wait_until};

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
    if !installed(&["prometheus", "prometheus-node-exporter", "promtool"]) {
        return;
    }
    let seconds: u64 = std::env::var("VARVE_REAL_SECONDS").map_or(70, |s| s.parse().expect("VARVE_REAL_SECONDS"));
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (varve, prom, node) = (free_port(), free_port(), free_port());

    let _varve = spawn(
        env!("CARGO_BIN_EXE_varve"),
        &["serve".into(), "--data-dir".into(), at("varve"), "--listen".into(), format!("127.0.0.1:{varve}")],
        Path::new(&at("varve.log")),
    );
    let _node = spawn(
        "prometheus-node-exporter",
        &[format!("--web.listen-address=127.0.0.1:{node}")],
        Path::new(&at("node.log")),
    );
    let ready = b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    wait_until("varve is ready", || {
        std::net::TcpStream::connect(("127.0.0.1", varve)).is_ok()
            && exchange(&format!("127.0.0.1:{varve}"), ready).status == 200
    });
    let config = format!(
        "global: {{scrape_interval: 5s}}\n\
         scrape_configs:\n\
         - {{job_name: node, static_configs: [{{targets: ['127.0.0.1:{node}']}}]}}\n\
         - {{job_name: prometheus, static_configs: [{{targets: ['127.0.0.1:{prom}']}}]}}\n\
         - {{job_name: varve-by-prometheus, static_configs: [{{targets: ['127.0.0.1:{varve}']}}]}}\n\
         remote_write:\n\
         - {{url: 'http://127.0.0.1:{varve}/api/v1/write'}}\n"
    );
    let prometheus = Prometheus::start_at("prometheus".as_ref(), at("prometheus").as_ref(), &config, &[], prom);
    std::thread::sleep(Duration::from_secs(seconds));

    // Samples of the last seconds may still be on their way; and Prometheus 2 counts a sample on a window's left edge
    // where 3 does not, so the queries ask at a fraction of a second that no scrape is likely to hit. The windows of
    // range queries begin after the first scrape: towards a counter's beginning 2 extrapolates by another rule than 3.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 10;
    let end = format!("{now}.337");
    let begin = format!("{}.337", now - seconds.saturating_sub(45).clamp(7, 3600));
    let (ours, theirs) = (format!("http://127.0.0.1:{varve}"), prometheus.url());
    let mut compared = 0;
    for (expr, range) in INSTANT.iter().map(|e| (e, false)).chain(RANGE.iter().map(|e| (e, true))) {
        // Varve also scrapes itself; what Prometheus never saw is left out by the job.
        let ask = |url: &str| {
            let answer = if range {
                let (start, end) = (format!("--start={begin}"), format!("--end={end}"));
                run(Command::new("promtool").args(["query", "range", &start, &end, "--step=7s", url, expr]))
            } else {
                run(Command::new("promtool").args(["query", "instant", &format!("--time={end}"), url, expr]))
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
