//! Every way to write, as its senders write it, and as nobody should.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod house;

use house::{House, batch, compress, directory, now_ms, start};
use varve_model::histogram::Span;
use varve_model::write::Metadata;
use varve_model::{Histogram, WriteBatch};
use varve_protocol::remote_write::{encode_v1, encode_v2};

const V2: (&str, &str) = ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request");

fn body_v2(batch: &WriteBatch) -> Vec<u8> {
    let mut body = Vec::new();
    encode_v2(batch, &mut body);
    body
}

fn header(answer: &house::Answer, name: &str) -> String {
    let head = answer.head.to_ascii_lowercase();
    let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_default().to_owned()
}

#[track_caller]
fn written(answer: &house::Answer, samples: &str, histograms: &str, exemplars: &str) {
    let of = |kind: &str| header(answer, &format!("x-prometheus-remote-write-{kind}-written"));
    assert_eq!([of("samples"), of("histograms"), of("exemplars")], [samples, histograms, exemplars], "{}", answer.head);
}

#[track_caller]
fn refused(house: &House, path: &str, headers: &[(&str, &str)], body: &[u8], status: u16) {
    let answer = house.request("POST", path, headers, body);
    assert_eq!(answer.status, status, "{path}: {}", String::from_utf8_lossy(&answer.body));
    answer.error();
}

#[test]
fn remote_write_2_stores_and_counts_what_it_wrote() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let now = now_ms();
    let mut sent = batch(&[(&[("__name__", "up"), ("job", "a")], &[(now - 1000, 1.0), (now, 2.0)])]);
    sent.set_start(now - 5000);
    sent.push_exemplar([("trace_id", "x")].into_iter(), now, 2.0);
    sent.push_series([("__name__", "h")].into_iter());
    sent.push_histogram(now, Histogram { sum: 1.0, is_float: true, ..Default::default() });
    for encoding in ["snappy", "zstd"] {
        let body = body_v2(&sent);
        let body = if encoding == "snappy" { compress(&body) } else { zstd::stream::encode_all(&body[..], 1).unwrap() };
        let answer = house.request("POST", "/api/v1/write", &[V2, ("Content-Encoding", encoding)], &body);
        assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
        written(&answer, "2", "1", "1");
    }
    assert_eq!(house.samples("up{job=\"a\"}", "1m", now), [(now - 1000, 1.0), (now, 2.0)]);

    // A sender of 1.0 gets no such counts.
    let mut body = Vec::new();
    encode_v1(&sent, &mut body);
    let answer = house.request("POST", "/api/v1/write", &[], &compress(&body));
    assert_eq!((answer.status, header(&answer, "x-prometheus-remote-write-samples-written").as_str()), (204, ""));
}

#[test]
fn what_a_2_0_request_cannot_store_is_named_and_the_rest_is_written() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let now = now_ms();
    let far = now + 3_600_000;
    let sent = batch(&[
        (&[("__name__", "good")], &[(now, 1.0)]),
        (&[("__name__", "far")], &[(far, 1.0), (now, 2.0)]),
        (&[("no", "name")], &[(now, 1.0)]),
    ]);
    let answer = house.request("POST", "/api/v1/write", &[V2], &compress(&body_v2(&sent)));
    assert_eq!((answer.status, answer.error().0.as_str()), (400, "bad_data"));
    assert!(answer.error().1.contains("`future_ms_max`"), "{}", answer.error().1);
    written(&answer, "2", "0", "0");
    assert_eq!(house.samples("good", "1m", now), [(now, 1.0)]);
    assert_eq!(house.samples("far", "1m", now), [(now, 2.0)]);
}

#[test]
fn hostile_remote_writes_are_refused_and_leave_the_data_alone() {
    let dir = directory();
    let house = start(dir.path(), &["--limit-decompressed-bytes-max", "1MiB"]);
    let now = now_ms();
    let good = body_v2(&batch(&[(&[("__name__", "up"), ("job", "a")], &[(now, 1.0)])]));
    assert_eq!(house.request("POST", "/api/v1/write", &[V2], &compress(&good)).status, 204);
    let write = "/api/v1/write";
    for end in 1..good.len() {
        let answer = house.request("POST", write, &[V2], &compress(&good[..end]));
        assert!(matches!(answer.status, 204 | 400), "cut at {end}: {}", answer.status);
    }
    refused(&house, write, &[V2], b"not snappy", 400);
    refused(&house, write, &[V2, ("Content-Encoding", "zstd")], b"not zstd", 400);
    refused(&house, write, &[V2, ("Content-Encoding", "br")], b"", 415);
    refused(&house, write, &[V2], &compress(&vec![0; 2 << 20]), 413);
    let bomb = zstd::stream::encode_all(&vec![0; 64 << 20][..], 1).unwrap();
    refused(&house, write, &[V2, ("Content-Encoding", "zstd")], &bomb, 413);
    // One long symbol, named by every series.
    let long = "x".repeat(10_000);
    let mut many = WriteBatch::default();
    (0..1000).for_each(|_| many.push_series([("__name__", long.as_str())].into_iter()));
    refused(&house, write, &[V2], &compress(&body_v2(&many)), 413);
    // A message of 1.0 under the name of 2.0.
    let mut v1 = Vec::new();
    encode_v1(&batch(&[(&[("__name__", "up")], &[(now, 1.0)])]), &mut v1);
    refused(&house, write, &[V2], &compress(&v1), 400);
    assert_eq!(house.samples("up{job=\"a\"}", "1m", now), [(now, 1.0)]);
}

const JSON: (&str, &str) = ("Content-Type", "application/json");
const PROTOBUF: (&str, &str) = ("Content-Type", "application/x-protobuf");
const OTLP: &str = "/api/v1/otlp/v1/metrics";

/// A request with one metric of one data point.
fn otlp_json(kind: &str, temporality: u8, nanos: i64, value: i64) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}}]}},
        "scopeMetrics":[{{"metrics":[{{"name":"my.requests","{kind}":{{"aggregationTemporality":{temporality},"isMonotonic":true,
        "dataPoints":[{{"startTimeUnixNano":"{}","timeUnixNano":"{nanos}","asInt":"{value}"}}]}}}}]}}]}}]}}"#,
        nanos - 1_000_000_000
    )
}

fn gzip(body: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn otlp_metrics_are_stored_at_every_path_and_in_every_form() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let now = now_ms();
    for (index, path) in [OTLP, "/v1/metrics", "/opentelemetry/v1/metrics"].iter().enumerate() {
        let time = now - 3000 + index as i64 * 1000;
        let body = otlp_json("sum", 2, time * 1_000_000, index as i64);
        let (body, headers) = match index {
            0 => (body.into_bytes(), vec![JSON]),
            1 => (gzip(body.as_bytes()), vec![JSON, ("Content-Encoding", "gzip")]),
            _ => (zstd::stream::encode_all(body.as_bytes(), 1).unwrap(), vec![JSON, ("Content-Encoding", "zstd")]),
        };
        let answer = house.request("POST", path, &headers, &body);
        assert_eq!((answer.status, &answer.body[..]), (200, &b"{}"[..]), "{path}");
    }
    let expected = [(now - 3000, 0.0), (now - 2000, 1.0), (now - 1000, 2.0)];
    assert_eq!(house.samples("my_requests_total{job=\"shop\"}", "1m", now), expected);
    // A gauge in protobuf: ResourceMetrics, ScopeMetrics, Metric { name, gauge { NumberDataPoint } }.
    let mut point = vec![0x19];
    point.extend((now as u64 * 1_000_000).to_le_bytes());
    point.push(0x21);
    point.extend(4.5f64.to_le_bytes());
    let wrap = |field: u8, inner: &[u8]| [&[field << 3 | 2, inner.len() as u8], inner].concat();
    let metric = [wrap(1, b"g"), wrap(5, &wrap(1, &point))].concat();
    let answer = house.request("POST", OTLP, &[PROTOBUF], &wrap(1, &wrap(2, &wrap(2, &metric))));
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(house.samples("g", "1m", now), [(now, 4.5)]);
    let metadata = house.get("/api/v1/metadata?metric=my_requests_total").json();
    assert_eq!(metadata["data"]["my_requests_total"][0]["type"], "counter");
}

#[test]
fn otlp_deltas_become_counters_and_what_is_left_out_is_told() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let now = now_ms();
    let send = |time: i64, value: i64| {
        house.request("POST", OTLP, &[JSON], otlp_json("sum", 1, time * 1_000_000, value).as_bytes())
    };
    for (seconds, value) in [(3, 5), (2, 2), (1, 1)] {
        assert_eq!(send(now - seconds * 1000, value).body, b"{}");
    }
    assert_eq!(
        house.samples("my_requests_total", "1m", now),
        [(now - 3000, 5.0), (now - 2000, 7.0), (now - 1000, 8.0)]
    );
    let late = send(now - 2000, 2);
    assert_eq!((late.status, late.json()["partialSuccess"]["rejectedDataPoints"].as_str()), (200, Some("1")));
    let untold = house.request("POST", OTLP, &[JSON], otlp_json("sum", 0, now * 1_000_000, 1).as_bytes()).json();
    assert_eq!(untold["partialSuccess"]["rejectedDataPoints"], "1");
    assert!(untold["partialSuccess"]["errorMessage"].as_str().unwrap().contains("my.requests"), "{untold}");
    let far = otlp_json("sum", 2, (now + 3_600_000) * 1_000_000, 1);
    let far = house.request("POST", OTLP, &[JSON], far.as_bytes()).json();
    assert!(far["partialSuccess"]["errorMessage"].as_str().unwrap().contains("future_ms_max"), "{far}");
}

#[test]
fn hostile_otlp_is_refused() {
    let dir = directory();
    let house = start(dir.path(), &["--limit-decompressed-bytes-max", "1MiB"]);
    refused(&house, OTLP, &[("Content-Type", "text/plain")], b"{}", 415);
    refused(&house, OTLP, &[JSON, ("Content-Encoding", "br")], b"{}", 415);
    refused(&house, OTLP, &[JSON], b"[1]", 400);
    refused(&house, OTLP, &[JSON], br#"{"resourceMetrics":[{"resource":7}]}"#, 400);
    refused(&house, OTLP, &[JSON], &br#"{"resourceMetrics":["#.repeat(10_000), 400);
    refused(&house, OTLP, &[PROTOBUF], b"\xff\xff\xff", 400);
    refused(&house, OTLP, &[PROTOBUF, ("Content-Encoding", "gzip")], b"garbage", 400);
    refused(&house, OTLP, &[PROTOBUF, ("Content-Encoding", "gzip")], &gzip(&vec![0; 64 << 20]), 413);
    // Each empty data point is a series of its own, with long labels of the resource.
    let points = vec!["{}"; 10_000].join(",");
    let bomb = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{}"}}}}]}},"scopeMetrics":[{{"metrics":[{{"name":"x","gauge":{{"dataPoints":[{points}]}}}}]}}]}}]}}"#,
        "x".repeat(4000)
    );
    refused(&house, OTLP, &[JSON], bomb.as_bytes(), 413);
    assert_eq!(house.request("GET", OTLP, &[], b"").status, 405);
    let good = otlp_json("sum", 2, now_ms() * 1_000_000, 1);
    for end in (0..good.len()).step_by(7) {
        refused(&house, OTLP, &[JSON], &good.as_bytes()[..end], 400);
    }
    assert_eq!(house.request("POST", OTLP, &[JSON], good.as_bytes()).body, b"{}");
}

#[test]
fn influx_lines_are_stored_as_both_versions_send_them() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let now = now_ms();
    let ping = house.get("/ping");
    assert_eq!((ping.status, header(&ping, "x-influxdb-version").as_str()), (204, "1.8.10"));
    let made = house.post("/query", &[("q", "CREATE DATABASE \"telegraf\"")]).json();
    assert_eq!(made["results"][0]["statement_id"], 0);
    let shown = house.get("/query?q=SHOW%20DATABASES").json();
    assert_eq!(shown["results"][0]["series"][0]["name"], "databases");
    assert_eq!(house.get("/query?q=SELECT%201").status, 400);

    let line = format!("cpu,host=a idle=1.5,cores=4i,model=\"x\" {}\n", now * 1_000_000);
    assert_eq!(house.request("POST", "/write?db=telegraf", &[], line.as_bytes()).status, 204);
    assert_eq!(house.samples("cpu_idle{host=\"a\",db=\"telegraf\"}", "1m", now), [(now, 1.5)]);
    assert_eq!(house.samples("cpu_cores", "1m", now), [(now, 4.0)]);
    let line = format!("mem used=2 {}", now / 1000);
    let headers = [("Authorization", "Token x"), ("Content-Encoding", "gzip")];
    let path = "/api/v2/write?org=o&bucket=b&precision=s";
    assert_eq!(house.request("POST", path, &headers, &gzip(line.as_bytes())).status, 204);
    assert_eq!(house.samples("mem_used", "1m", now), [(now / 1000 * 1000, 2.0)]);

    let mixed = house.request("POST", "/write", &[], b"good v=1\nbad\n");
    assert_eq!(mixed.status, 400);
    assert!(mixed.error().1.contains("line 2: the fields are missing"), "{}", mixed.error().1);
    assert_eq!(house.samples("good_v", "1m", now_ms() + 1000).len(), 1);
}

#[test]
fn hostile_lines_are_refused() {
    let dir = directory();
    let house = start(dir.path(), &["--limit-decompressed-bytes-max", "1MiB"]);
    refused(&house, "/write?precision=days", &[], b"", 400);
    refused(&house, "/write", &[("Content-Encoding", "gzip")], b"x", 400);
    refused(&house, "/write", &[("Content-Encoding", "gzip")], &gzip(&vec![b'x'; 64 << 20]), 413);
    refused(&house, "/write", &[], &[0xff; 1000], 400);
    refused(&house, "/write", &[], &b"m v=\"".repeat(10_000), 400);
    let bomb = format!("m,t={} {}v=1", "x".repeat(4000), "v=1,".repeat(10_000));
    refused(&house, "/write", &[], bomb.as_bytes(), 413);
    refused(&house, "/write", &[], format!("m,t={} v=1", "x".repeat(100_000)).as_bytes(), 400);
    assert_eq!(house.request("POST", "/write", &[], b"").status, 204);
}

#[test]
fn what_is_too_large_is_refused_by_name_and_its_neighbours_are_stored() {
    let dir = directory();
    let house = start(dir.path(), &["--limit-histogram-buckets-max", "10", "--limit-labels-per-series-max", "3"]);
    let now = now_ms();
    let mut sent = WriteBatch::default();
    for (name, buckets) in [("large", 11), ("small", 4)] {
        sent.push_series([("__name__", name)].into_iter());
        sent.push_histogram(
            now,
            Histogram {
                count: f64::from(buckets),
                positive_spans: vec![Span { offset: 0, length: buckets }],
                positive: vec![1.0; buckets as usize],
                ..Histogram::default()
            },
        );
    }
    let answer = house.write(&sent);
    assert_eq!(answer.status, 400);
    assert!(answer.error().1.contains("1 of 2 samples refused"), "{}", answer.error().1);
    assert!(answer.error().1.contains("`histogram_buckets_max`"), "{}", answer.error().1);
    let found = house.query("count({__name__=~\"large|small\"})", now);
    assert_eq!(found["result"][0]["value"][1], "1", "{found}");

    let import = |labels: &str| house.request("POST", &format!("/api/v1/import/prometheus?{labels}"), &[], b"x 1\n");
    assert_eq!(import("a=1&b=2").status, 204);
    let many = import("a=1&b=2&c=3&d=4");
    assert_eq!(many.status, 400);
    assert!(many.error().1.contains("`labels_per_series_max`"), "{}", many.error().1);
}

#[test]
fn full_heads_are_answered_503_so_that_senders_try_again() {
    let dir = directory();
    let house = start(dir.path(), &["--limit-head-bytes-max", "1", "--partitions", "1"]);
    let now = now_ms();
    let sent = batch(&[(&[("__name__", "up")], &[(now, 1.0)])]);
    assert_eq!(house.write(&sent).status, 204);
    let answer = house.write(&sent);
    assert_eq!((answer.status, answer.error().0.as_str()), (503, "unavailable"));
    assert_eq!(header(&answer, "retry-after"), "1");
}

#[test]
fn a_help_text_that_is_too_long_fails_no_sample() {
    let dir = directory();
    let house = start(dir.path(), &["--limit-metadata-bytes-per-family-max", "100"]);
    let now = now_ms();
    let mut sent = batch(&[(&[("__name__", "up")], &[(now, 1.0)])]);
    for (family, bytes) in [("up", 99), ("down", 10)] {
        let help = "h".repeat(bytes);
        sent.metadata.push(Metadata { family: family.to_owned(), help, ..Metadata::default() });
    }
    assert_eq!(house.write(&sent).status, 204);
    assert_eq!(house.samples("up", "1m", now), [(now, 1.0)]);
    let metadata = house.get("/api/v1/metadata").json();
    assert!(metadata["data"]["up"].is_null() && !metadata["data"]["down"].is_null(), "{metadata}");
    let metrics = String::from_utf8(house.get("/metrics").body).unwrap();
    assert!(metrics.contains("\nvarve_metadata_left_out_total 1\n"), "{metrics}");
}

#[test]
fn a_series_that_is_refused_keeps_no_sum_of_deltas() {
    let dir = directory();
    let house = start(dir.path(), &["--limit-label-value-bytes-max", "3"]);
    let answer = house.request("POST", OTLP, &[JSON], otlp_json("sum", 1, now_ms() * 1_000_000, 5).as_bytes());
    let text = answer.json()["partialSuccess"]["errorMessage"].as_str().unwrap().to_owned();
    assert!(text.contains("label_value_bytes_max"), "{text}");
    let metrics = String::from_utf8(house.get("/metrics").body).unwrap();
    assert!(metrics.contains("\nvarve_otlp_delta_sums 0\n"), "{metrics}");
}
