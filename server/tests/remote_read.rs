//! Remote read: both forms of the answer, and requests that nobody should send.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod house;

use house::{House, Series, batch, compress, directory, now_ms, start};
use varve_model::{Limits, WriteBatch};
use varve_protocol::protobuf::{Reader, Value, push_varint};
use varve_protocol::remote_write::decode_v1;
use varve_protocol::tsdb::{Encoding, crc32c, decode_chunk};

const HEADERS: &[(&str, &str)] = &[("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")];

fn message(field: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    push_varint(&mut out, content.len() as u64);
    [&out[..], content].concat()
}

fn number(field: u8, value: i64) -> Vec<u8> {
    let mut out = vec![field << 3];
    push_varint(&mut out, value as u64);
    out
}

/// A query of one range with matchers by Prometheus's number of the operator.
fn query(start: i64, end: i64, matchers: &[(i64, &str, &str)]) -> Vec<u8> {
    let mut out = [number(1, start), number(2, end)].concat();
    for (op, name, value) in matchers {
        out.extend(message(3, &[number(1, *op), message(2, name.as_bytes()), message(3, value.as_bytes())].concat()));
    }
    message(1, &out)
}

fn read(house: &House, request: &[u8]) -> house::Answer {
    house.request("POST", "/api/v1/read", HEADERS, &compress(request))
}

/// The messages in field 1.
fn parts(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while let Some(field) = reader.field().unwrap() {
        if let (1, Value::Bytes(part)) = (field.number, field.value) {
            found.push(part.rest().to_vec());
        }
    }
    found
}

/// Each result of an answer of samples: a `QueryResult` reads as a write request does.
#[track_caller]
fn results(answer: &house::Answer) -> Vec<WriteBatch> {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let head = answer.head.to_ascii_lowercase();
    assert!(
        head.contains("content-encoding: snappy") && head.contains("content-type: application/x-protobuf\r"),
        "{head}"
    );
    let plain = snap::raw::Decoder::new().decompress_vec(&answer.body).unwrap();
    let decode = |result: Vec<u8>| {
        let mut batch = WriteBatch::default();
        decode_v1(result, &Limits::default(), &mut batch).unwrap();
        batch
    };
    parts(&plain).into_iter().map(decode).collect()
}

fn filled(house: &House, now: i64) {
    let samples: Vec<(i64, f64)> = (0..500).map(|i| (now - 500_000 + i * 1000, i as f64)).collect();
    let all: Vec<Series<'_>> = vec![
        (&[("__name__", "b"), ("job", "x")], &samples),
        (&[("__name__", "a"), ("job", "y")], &samples[..2]),
        (&[("__name__", "a"), ("job", "x")], &samples[..3]),
    ];
    assert_eq!(house.write(&batch(&all)).status, 204);
}

#[test]
fn samples_come_by_matchers_and_range_in_order_of_labels() {
    let dir = directory();
    let house = start(dir.path(), &["--limit-remote-read-samples-max", "600"]);
    let now = now_ms();
    filled(&house, now);
    let begin = now - 500_000;
    let ask = |matchers: &[(i64, &str, &str)], end: i64| {
        let found = results(&read(&house, &query(begin, end, matchers)));
        let count = |series: &varve_model::write::WriteSeries| series.samples.len();
        found[0].series.iter().map(count).collect::<Vec<_>>()
    };
    assert_eq!(ask(&[(0, "__name__", "a")], now), [3, 2], "job x before job y");
    assert_eq!(ask(&[(0, "__name__", "a")], begin + 1000), [2, 2], "both ends are inclusive");
    assert_eq!(ask(&[(0, "__name__", "a"), (1, "job", "x")], now), [2]);
    assert_eq!(ask(&[(2, "__name__", "a|b"), (3, "job", "y|z")], now), [3, 500]);
    assert_eq!(ask(&[(0, "__name__", "nothing")], now), [0usize; 0]);
    let two = [query(begin, now, &[(0, "__name__", "b")]), query(begin, now, &[(0, "job", "y")])].concat();
    assert_eq!(results(&read(&house, &two)).iter().map(|r| r.times.len()).collect::<Vec<_>>(), [500, 2]);
    let too_many = [query(begin, now, &[(0, "__name__", "b")]), query(begin, now, &[(0, "__name__", "b")])].concat();
    let answer = read(&house, &too_many);
    assert_eq!((answer.status, answer.error().0.as_str()), (400, "bad_data"));
    assert!(answer.error().1.contains("exceeded sample limit (600)"));
}

#[test]
fn chunks_come_in_checked_frames() {
    let dir = directory();
    let house = start(dir.path(), &["--limit-remote-read-frame-bytes-max", "500"]);
    let now = now_ms();
    filled(&house, now);
    let request = [query(now - 500_000, now, &[(2, "__name__", "a|b")]), number(2, 1), number(2, 0)].concat();
    let answer = read(&house, &request);
    assert_eq!(answer.status, 200);
    let head = answer.head.to_ascii_lowercase();
    assert!(head.contains("application/x-streamed-protobuf; proto=prometheus.chunkedreadresponse"), "{head}");
    let (mut rest, mut frames, mut column) = (&answer.body[..], 0, varve_model::Column::default());
    while !rest.is_empty() {
        let mut reader = Reader::new(rest);
        let len = reader.varint().unwrap() as usize;
        let (crc, after) = reader.rest().split_first_chunk::<4>().unwrap();
        let (frame, after) = after.split_at(len);
        assert_eq!(u32::from_be_bytes(*crc), crc32c(frame));
        for series in parts(frame) {
            let mut reader = Reader::new(&series);
            while let Some(field) = reader.field().unwrap() {
                let (2, Value::Bytes(mut chunk)) = (field.number, field.value) else { continue };
                while let Some(field) = chunk.field().unwrap() {
                    if let (4, Value::Bytes(data)) = (field.number, field.value) {
                        decode_chunk(Encoding::Xor, data.rest(), &mut column).unwrap();
                    }
                }
            }
        }
        (rest, frames) = (after, frames + 1);
    }
    assert!(frames > 3, "{frames}");
    assert_eq!(column.times.len(), 505);
    assert_eq!(column.values[5..], (0..500).map(f64::from).collect::<Vec<_>>());
}

#[test]
fn hostile_reads_are_refused() {
    let dir = directory();
    let house = start(dir.path(), &["--limit-query-samples-max", "100"]);
    let now = now_ms();
    filled(&house, now);
    let check = |body: &[u8], status: u16| {
        let answer = house.request("POST", "/api/v1/read", HEADERS, body);
        assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&answer.body));
        answer.error();
    };
    check(b"not snappy", 400);
    check(&compress(b"\xff\xff\xff\xff"), 400);
    check(&compress(&query(0, now, &[(2, "job", "(")])), 400);
    check(&compress(&query(0, now, &[(9, "job", "x")])), 400);
    check(&compress(&query(0, now, &[(0, "job", "x")]).repeat(1001)), 400);
    check(&compress(&number(2, 7)), 400);
    check(&compress(&query(0, now, &[(0, "__name__", "b")])), 422);
    check(&compress(&vec![0; 200 << 20]), 413);
    check(&vec![0; 2 << 20], 413);
    assert_eq!(house.request("POST", "/api/v1/read", &[("Content-Encoding", "br")], b"").status, 415);
    assert_eq!(house.get("/api/v1/read").status, 405);
    let good = query(0, now, &[(0, "__name__", "a")]);
    for end in 0..good.len() {
        let answer = read(&house, &good[..end]);
        assert!(matches!(answer.status, 200 | 400 | 422), "cut at {end}: {}", answer.status);
    }
    assert_eq!(results(&read(&house, &good))[0].series.len(), 2);
}
