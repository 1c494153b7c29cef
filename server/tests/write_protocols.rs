//! Every way to write, as its senders write it, and as nobody should.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod house;

use house::{House, batch, compress, directory, now_ms, start};
use varve_model::WriteBatch;
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
    sent.push_histogram(now, varve_model::Histogram { sum: 1.0, is_float: true, ..Default::default() });
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
