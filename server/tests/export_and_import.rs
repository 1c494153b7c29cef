//! What `varve export` writes, `varve import openmetrics` takes: two servers with the same answers. And an import that
//! is interrupted goes on, refused samples are counted, a busy server is waited for.
#![expect(clippy::disallowed_methods, reason = "an end-to-end test writes files for programs it starts")]

mod house;

use std::fmt::Write;
use std::io::{Read, Write as _};

use house::real::{assert_same, output, run, varve};
use house::{House, batch, compress, directory, now_ms, start};
use varve_model::histogram::Span;
use varve_model::{Histogram, TimeRange, WriteBatch};
use varve_protocol::remote_read::push_read_request;

fn url(house: &House) -> String {
    format!("http://{}", house.address)
}

#[test]
fn an_export_is_imported_alike() {
    let dir = directory();
    let (first, second) = (start(&dir.path().join("1"), &[]), start(&dir.path().join("2"), &[]));
    let now = now_ms() / 1000 * 1000;
    let samples: Vec<(i64, f64)> = (0..5000).map(|i| (now - 5_000_000 + i * 1000 + i % 3, i as f64 / 3.0)).collect();
    let odd = [(now - 3000, f64::NAN), (now - 2000, f64::INFINITY), (now - 1000, -1e-300)];
    let mut written = batch(&[
        (&[("__name__", "a"), ("l", "x\"y\\z\n")], &samples),
        (&[("__name__", "b"), ("l", "ä")], &odd),
        (&[("__name__", "my.metric"), ("a label", "c")], &samples[..10]),
    ]);
    written.push_series([("__name__", "native")].into_iter());
    let histogram = Histogram {
        count: 3.0,
        sum: 1.5,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive: vec![3.0],
        ..Histogram::default()
    };
    written.push_histogram(now - 1000, histogram);
    assert_eq!(first.write(&written).status, 204);

    let text = dir.path().join("export.om");
    let said = output(varve(&["export", "--url", &url(&first), "--output"]).arg(&text)).stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("5013 samples exported") && said.contains("1 native histograms left out"), "{said}");
    let said = output(varve(&["import", "openmetrics", "--url", &url(&second)]).arg(&text)).stderr;
    assert!(String::from_utf8_lossy(&said).contains("5013 samples stored"), "{}", String::from_utf8_lossy(&said));
    let query = "{__name__=~\"a|b|my.metric\"}[2h]";
    assert_eq!(assert_same(query, &second.query(query, now), &first.query(query, now)), 3);

    // By selectors that overlap, in slices, as JSON lines.
    let start = format!("{}", (now - 5_000_000) / 1000);
    let args = ["export", "--format", "json", "--match", "{l=~\".+\"}", "--match", "a", "--match", "native"];
    let range = ["--start", &start, "--slice", "30m", "--url", &url(&first)];
    let lines = run(varve(&args).args(range));
    let mut counts = std::collections::BTreeMap::new();
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let samples = line["values"].as_array().unwrap().len() + line["histograms"].as_array().map_or(0, Vec::len);
        assert_eq!(line["values"].as_array().unwrap().len(), line["timestamps"].as_array().unwrap().len());
        *counts.entry(line["metric"]["__name__"].as_str().unwrap().to_owned()).or_insert(0) += samples;
    }
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("a".to_owned(), 5000), ("b".into(), 3), ("native".into(), 1)]);
    let nothing = output(&mut varve(&["export", "--url", &url(&first), "--match", "rate(a[5m])"]));
    assert!(!nothing.status.success());
}

// A query that broke a limit behind the first piece of its answer ended that answer like a whole one: exports were
// short and said nothing.
#[test]
fn an_answer_that_breaks_off_is_never_taken_for_a_whole_one() {
    let dir = directory();
    let house = start(dir.path(), &["--limit-query-samples-max", "200000"]);
    let now = now_ms();
    let mut written = WriteBatch::default();
    let mut value = 1u64;
    for i in 0..30 {
        written.push_series([("__name__", "x"), ("i", format!("{i:02}").as_str())].into_iter());
        for second in 0..10_000 {
            // Noise, so that a sample takes some bytes.
            value = value.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            written.push_sample(now - 10_000_000 + second * 1000, f64::from_bits(value >> 12 | 0x3ff << 52));
        }
    }
    assert_eq!(house.write(&written).status, 204);

    let mut body = Vec::new();
    push_read_request(&mut body, TimeRange { min: 0, max: now }, &[]);
    let body = compress(&body);
    let head = format!(
        "POST /api/v1/read HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: snappy\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = house.connect();
    stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    let mut answer = Vec::new();
    // The connection may also end by a reset, and what was not sent yet is lost.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
    assert!(!answer.ends_with(b"\r\n0\r\n\r\n"), "the answer looks whole");

    let text = dir.path().join("export.om");
    let done = output(varve(&["export", "--url", &url(&house), "--output"]).arg(&text));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.contains("ended too early"), "{said}");
    assert!(!std::fs::read_to_string(&text).unwrap().contains("# EOF"));
}

#[test]
fn refused_samples_are_counted_and_retention_is_named() {
    let dir = directory();
    let house = start(dir.path(), &["--retention-ms", "2d"]);
    let now = now_ms() / 1000;
    let mut text = String::new();
    for i in 0..100 {
        writeln!(text, "new {i} {}", now - 100 + i).unwrap();
        writeln!(text, "old {i} {}", now - 10 * 86_400 + i).unwrap();
    }
    text.push_str("# EOF\n");
    let file = dir.path().join("data.om");
    std::fs::write(&file, text).unwrap();
    house.write(&batch(&[(&[("__name__", "here")], &[(now * 1000, 1.0)])]));
    let done = output(varve(&["import", "openmetrics", "--url", &url(&house)]).arg(&file));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success(), "{said}");
    for part in ["100 samples stored", "100 refused", "the server keeps 2 days", "--retention-ms"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(house.query("count_over_time(new[5m])", now * 1000)["result"][0]["value"][1], "100");
}

#[test]
fn bad_text_is_named_by_its_line_and_an_import_goes_on() {
    let dir = directory();
    let house = start(&dir.path().join("varve"), &[]);
    let now = now_ms() / 1000;
    let (file, note) = (dir.path().join("data.om"), dir.path().join("note"));
    let mut text = String::new();
    // More than one piece, so that the first is stored when the second fails.
    for i in 0..150_000 {
        writeln!(text, "a_rather_long_name_so_that_pieces_are_full{{n=\"{}\"}} {i} {}", i % 7, now - 1000 + i / 150)
            .unwrap();
    }
    let good = text.clone();
    text.push_str("this is no sample\n");
    std::fs::write(&file, &text).unwrap();
    let import = || {
        let resume = note.display().to_string();
        let done = output(varve(&["import", "openmetrics", "--url", &url(&house), "--resume", &resume]).arg(&file));
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let (done, said) = import();
    assert!(!done && said.contains("line 150001"), "{said}");
    assert!(note.exists(), "progress is noted");
    std::fs::write(&file, format!("{good}# EOF\n")).unwrap();
    let (done, said) = import();
    assert!(done && !note.exists(), "{said}");
    let stored: u64 =
        said.split(" samples stored").next().unwrap().rsplit('\n').next().unwrap().trim().parse().unwrap();
    assert!(stored > 0 && stored < 150_000, "only what was missing: {said}");
    let count = house.query("sum(count_over_time({__name__=~\"a_rather.+\"}[1h]))", now * 1000 + 1000);
    // 150 lines a second of 7 series: of the same series and time the last one holds.
    assert_eq!(count["result"][0]["value"][1], "7000", "{count}");
    std::fs::write(&file, "no_time 1\n").unwrap();
    let (done, said) = import();
    assert!(!done && said.contains("no_time has no timestamp"), "{said}");
    let _ = std::fs::remove_file(&note);
    let done = output(&mut varve(&["import", "openmetrics", "--url", "http://127.0.0.1:1", "/nothing/here"]));
    assert!(!done.status.success());
}
