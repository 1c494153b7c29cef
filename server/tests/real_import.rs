//! `varve import` against what Prometheus itself makes: blocks of promtool, blocks of a Prometheus with native
//! histograms, deletions and stale markers, and OpenMetrics text; Varve must then answer as Prometheus does over them.
//!
//! Skips loudly where Prometheus and promtool are not installed, or the newer ones cannot be had.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]
#![expect(clippy::disallowed_methods, reason = "an end-to-end test writes files for programs it starts")]

mod house;

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use house::real::{Prometheus, assert_same, installed, output, prometheus_3, run, varve};
use house::{House, directory, now_ms, start};
use varve_model::histogram::{ResetHint, Span};
use varve_model::{Histogram, STALE_NAN_BITS, WriteBatch};
use varve_protocol::remote_write::encode_v1;

const EVERYTHING: &str = "{__name__=~\".+\"}";

fn import(house: &House, kind: &str, source: &Path, more: &[&str]) -> String {
    let url = format!("http://{}", house.address);
    let mut command = varve(&["import", kind, &source.display().to_string(), "--url", &url]);
    let output = output(command.args(more));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// Text with all kinds of families, one sample every 15 s over five hours before `end`; times in seconds.
fn openmetrics(end: i64) -> String {
    let mut text = String::new();
    let times = || (0..1200).map(move |i| (i, end - 18_000 + i * 15));
    text.push_str("# TYPE requests counter\n# HELP requests Requests \\\"served\\\".\n");
    for path in ["/", "/a\\\"b\\\\c", "/ä\\nö"] {
        for (i, time) in times() {
            let value = if i < 700 { i * 3 } else { (i - 700) * 3 };
            writeln!(text, "requests_total{{path=\"{path}\",code=\"200\"}} {value} {time}").unwrap();
        }
    }
    text.push_str("# TYPE temperature gauge\n");
    for (i, time) in times() {
        let value = match i % 50 {
            0 => "NaN".to_owned(),
            1 => "+Inf".to_owned(),
            2 => "-Inf".to_owned(),
            3 => "1e-300".to_owned(),
            _ => format!("{}", (i as f64 / 7.0).sin() * 20.0),
        };
        writeln!(text, "temperature {value} {time}.{:03}", i % 1000).unwrap();
    }
    text.push_str("# TYPE latency histogram\n");
    for (i, time) in times().filter(|(i, _)| i % 4 == 0) {
        for (le, share) in [("0.1", 1), ("1.0", 2), ("+Inf", 4)] {
            writeln!(text, "latency_bucket{{le=\"{le}\"}} {} {time}", i / 4 * share).unwrap();
        }
        writeln!(text, "latency_sum {} {time}\nlatency_count {} {time}", i as f64 * 0.3, i).unwrap();
    }
    text.push_str("# EOF\n");
    text
}

#[test]
fn blocks_of_promtool_and_their_text_are_taken_over() {
    if !installed(&["prometheus", "promtool"]) {
        return;
    }
    let dir = directory();
    let end = now_ms() / 1000 - 7200;
    let (text, blocks) = (dir.path().join("data.om"), dir.path().join("blocks"));
    std::fs::write(&text, openmetrics(end)).unwrap();
    let create = ["tsdb", "create-blocks-from", "openmetrics"];
    run(Command::new("promtool").args(create).arg(&text).arg(&blocks));

    let house = start(&dir.path().join("varve"), &[]);
    let said = import(&house, "prometheus", &blocks, &[]);
    assert!(said.contains("6300 samples stored") && said.contains(" 0 refused"), "{said}");
    let said = import(&house, "openmetrics", &text, &["--tenant", "text"]);
    assert!(said.contains("6300 samples stored") && said.contains(" 0 refused"), "{said}");

    let prometheus = Prometheus::start(Path::new("prometheus"), &blocks, "", &[]);
    let time = format!("{}", end + 5);
    for query in [&format!("{EVERYTHING}[6h]"), "sum(rate(requests_total[5m]))", "latency_bucket", "temperature"] {
        let form = [("query", query), ("time", time.as_str())];
        let theirs = prometheus.post("/api/v1/query", &form);
        assert!(assert_same(query, &house.query(query, (end + 5) * 1000), &theirs) > 0, "{query}");
        let body = format!("query={}&time={time}", query.replace('+', "%2B").replace('{', "%7B").replace('}', "%7D"));
        let headers = [("X-Scope-OrgID", "text"), ("Content-Type", "application/x-www-form-urlencoded")];
        let ours = house.request("POST", "/api/v1/query", &headers, body.as_bytes());
        assert_same(query, &ours.json()["data"], &theirs);
    }
}

/// A histogram that grows from sample to sample: `step` decides its shape.
fn histogram(step: i64, is_float: bool, hint: ResetHint) -> Histogram {
    let wide = step % 40 > 20;
    let scale = if is_float { 0.5 } else { 1.0 };
    let grown = (step % 30 + 1) as f64;
    let positive_spans = if wide {
        vec![Span { offset: -2, length: 3 }, Span { offset: 4, length: 2 }]
    } else {
        vec![Span { offset: -2, length: 3 }]
    };
    let positive: Vec<f64> = (0..if wide { 5 } else { 3 }).map(|i| f64::from(i + 1) * grown * scale).collect();
    let negative = vec![2.0 * grown * scale, 0.0];
    let zero_count = grown * scale;
    Histogram {
        schema: 3,
        is_float,
        reset_hint: hint,
        zero_threshold: 2f64.powi(-128),
        zero_count,
        count: zero_count + positive.iter().sum::<f64>() + negative.iter().sum::<f64>(),
        sum: 0.1 * grown * step as f64,
        positive_spans,
        positive,
        negative_spans: vec![Span { offset: 1, length: 2 }],
        negative,
        custom_bounds: Vec::new(),
    }
}

#[test]
fn native_histograms_deletions_and_stale_markers_are_taken_over() {
    let Some(bin) = prometheus_3() else { return };
    let program = bin.join("prometheus");
    let dir = directory();
    let begin = now_ms() / 1000 * 1000 - 3_000_000;
    let mut batch = WriteBatch::default();
    let stale = f64::from_bits(STALE_NAN_BITS);
    for (kind, is_float, hint) in
        [("integer", false, ResetHint::Unknown), ("float", true, ResetHint::Unknown), ("gauge", true, ResetHint::Gauge)]
    {
        batch.push_series([("__name__", "h"), ("kind", kind)].into_iter());
        for step in 0..150 {
            let sample = if step % 60 == 59 {
                Histogram { is_float, sum: stale, ..Histogram::default() }
            } else {
                histogram(step, is_float, hint)
            };
            batch.push_histogram(begin + step * 15_000, sample);
        }
    }
    batch.push_series([("__name__", "h"), ("kind", "custom")].into_iter());
    for step in 0..150 {
        let sample = Histogram {
            schema: -53,
            count: (6 * step) as f64,
            sum: step as f64,
            positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
            positive: vec![step as f64, 2.0 * step as f64, 3.0 * step as f64],
            custom_bounds: vec![-1.5, 0.005, 1.0 / 3.0, 1e9],
            ..Histogram::default()
        };
        batch.push_histogram(begin + step * 15_000, sample);
    }
    for number in 0..20 {
        let name = format!("n{number}");
        batch.push_series([("__name__", "f"), ("number", &name)].into_iter());
        for step in 0..150 {
            let value = if step % 60 == 59 { stale } else { (step * number) as f64 * 0.25 };
            batch.push_sample(begin + step * 15_000 + number % 3, value);
        }
    }
    let flags = ["--enable-feature=native-histograms", "--web.enable-remote-write-receiver", "--web.enable-admin-api"];
    let mut body = Vec::new();
    encode_v1(&batch, &mut body);
    let first = Prometheus::start(&program, &dir.path().join("first"), "", &flags);
    first.write(&body);
    let snapshot = first.post("/api/v1/admin/tsdb/snapshot", &[])["name"].as_str().unwrap().to_owned();
    drop(first);

    // A second one over the snapshot, in which some is deleted and not yet cleaned up.
    let blocks = dir.path().join("first/snapshots").join(snapshot);
    let second = Prometheus::start(&program, &blocks, "", &flags);
    let (from, to) = (format!("{}", begin / 1000 + 300), format!("{}", begin / 1000 + 600));
    second
        .post("/api/v1/admin/tsdb/delete_series", &[("match[]", "{number=~\"n1.*\"}"), ("start", &from), ("end", &to)]);
    second
        .post("/api/v1/admin/tsdb/delete_series", &[("match[]", "h{kind=\"float\"}"), ("start", &from), ("end", &to)]);
    second.post("/api/v1/admin/tsdb/delete_series", &[("match[]", "f{number=\"n7\"}")]);

    let house = start(&dir.path().join("varve"), &[]);
    let said = import(&house, "prometheus", &blocks, &[]);
    assert!(said.contains(" 0 refused") && !said.contains("damaged"), "{said}");
    let at = begin + 150 * 15_000 + 7_000;
    let query = format!("{EVERYTHING}[2h]");
    let theirs = second.post("/api/v1/query", &[("query", &query), ("time", &format!("{}", at / 1000))]);
    assert_eq!(assert_same(&query, &house.query(&query, at), &theirs), 23);

    // The same again changes nothing, and what is asked for alone is taken alone, under another label.
    import(&house, "prometheus", &blocks, &[]);
    assert_same(&query, &house.query(&query, at), &theirs);
    let half = format!("{}", begin / 1000 + 1000);
    import(&house, "prometheus", &blocks, &["--start", &half, "--label", "origin=old", "--tenant", "half"]);
    let headers = [("X-Scope-OrgID", "half"), ("Content-Type", "application/x-www-form-urlencoded")];
    let body = format!("query=%7Borigin%3D%22old%22%7D[2h]&time={}", at / 1000);
    let answer = house.request("POST", "/api/v1/query", &headers, body.as_bytes()).json();
    assert_eq!(answer["data"]["result"].as_array().unwrap().len(), 23, "{answer}");
}
