//! Files that promtool and Prometheus wrote are read as they were meant; damaged ones are refused; the encodings that no
//! Prometheus at hand writes are read from bits put together by the tables of their description.
//!
//! Chunks of floats and histograms of any kind are also read back from what `remote_read` encodes, there.

use varve_model::histogram::ResetHint;
use varve_model::{Column, STALE_NAN_BITS};

use super::*;

const INDEX: &[u8] = include_bytes!("../../tests/golden/tsdb/index");
const CHUNKS: &[u8] = include_bytes!("../../tests/golden/tsdb/chunks");
const TOMBSTONES: &[u8] = include_bytes!("../../tests/golden/tsdb/tombstones");

/// A series with its samples: labels, times, bits of values.
type Series = (Vec<(String, String)>, Vec<i64>, Vec<u64>);

/// Everything in a block; an error wherever it is met.
fn read(index: &[u8], chunks: &[u8]) -> Result<Vec<Series>, String> {
    let index = Index::open(index).map_err(|error| error.to_string())?;
    let segment = Segment::open(chunks).map_err(|error| error.to_string())?;
    let (mut labels, mut metas, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..index.series_count() {
        index.series(number, &mut labels, &mut metas).map_err(|error| error.to_string())?;
        let mut column = Column::default();
        for meta in &metas {
            let (encoding, data) = segment.chunk(meta.at).map_err(|error| error.to_string())?;
            decode_chunk(encoding, data, &mut column)?;
            if (column.times.first(), column.times.last()) != (Some(&meta.min), Some(&meta.max)) {
                return Err("the chunk has other times than the index says".to_owned());
            }
        }
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.push((labels, column.times, column.values.iter().map(|value| value.to_bits()).collect()));
    }
    Ok(all)
}

#[test]
fn a_block_of_promtool_is_read() {
    let second = |s: i64| (1_700_000_000 + s) * 1000;
    let labels = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
    };
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    // Go's NaN has another payload than Rust's.
    let nan = 0x7ff8_0000_0000_0001;
    let expected = vec![
        (
            labels(&[("__name__", "requests_total")]),
            vec![second(0), second(15), second(30), second(100)],
            bits(&[0.0, 1.5, 1.5, 1e100]),
        ),
        (
            labels(&[("__name__", "up"), ("instance", "a"), ("job", "j")]),
            vec![second(0), second(15), second(30) + 1],
            vec![1f64.to_bits(), 0, nan],
        ),
        (labels(&[("__name__", "up"), ("instance", "b"), ("job", "ä")]), vec![second(0)], bits(&[1.0])),
    ];
    assert_eq!(read(INDEX, CHUNKS), Ok(expected));
}

#[test]
fn tombstones_are_read() {
    let found = tombstones(TOMBSTONES).unwrap();
    assert_eq!(found.len(), 12);
    assert!(found.is_sorted() && found.iter().all(|stone| stone.series > 0 && stone.min <= stone.max));
    assert_eq!(found.iter().filter(|stone| stone.max - stone.min == 300_000).count(), 11);
}

#[test]
fn every_change_of_a_byte_is_seen_or_does_not_matter() {
    let whole = read(INDEX, CHUNKS).unwrap();
    let mut index = INDEX.to_vec();
    let mut seen = 0;
    for at in 0..index.len() {
        index[at] ^= 1 << (at % 8);
        match read(&index, CHUNKS) {
            Ok(other) => assert_eq!(other, whole, "byte {at}"),
            Err(_) => seen += 1,
        }
        index[at] = INDEX[at];
    }
    assert!(seen > 300, "{seen}");
    let mut chunks = CHUNKS.to_vec();
    for at in (0..5).chain(8..chunks.len()) {
        chunks[at] ^= 1 << (at % 8);
        assert!(read(INDEX, &chunks).is_err(), "byte {at}");
        chunks[at] = CHUNKS[at];
    }
    for end in 0..CHUNKS.len() {
        assert!(read(INDEX, &CHUNKS[..end]).is_err(), "cut at {end}");
    }
    for end in 0..INDEX.len() {
        assert!(read(&INDEX[..end], CHUNKS).is_err(), "cut at {end}");
    }
    let mut stones = TOMBSTONES.to_vec();
    for at in 0..stones.len() {
        stones[at] ^= 1 << (at % 8);
        assert!(tombstones(&stones).is_err(), "byte {at}");
        stones[at] = TOMBSTONES[at];
    }
}

#[test]
fn what_is_newer_is_named() {
    let mut index = INDEX.to_vec();
    index[4] = 4;
    let newer = |error: Option<Error>| matches!(error, Some(Error::Newer { .. }));
    assert!(newer(Index::open(&index).err()));
    index[4] = 3;
    assert_eq!(read(&index, CHUNKS), read(INDEX, CHUNKS), "version 3 is read as version 2");
    let mut chunks = CHUNKS.to_vec();
    chunks[4] = 2;
    assert!(newer(Segment::open(&chunks).err()));
    let mut stones = TOMBSTONES.to_vec();
    stones[4] = 2;
    assert!(newer(tombstones(&stones).err()));
    // A chunk with an encoding that comes after the known ones, and a right checksum.
    let mut file = CHUNKS[..8].to_vec();
    file.extend_from_slice(&[2, 7, 0, 1]);
    file.extend_from_slice(&crc32c(&[7, 0, 1]).to_be_bytes());
    let error = Segment::open(&file).unwrap().chunk(8).err();
    assert_eq!(
        error.as_ref().map(ToString::to_string).as_deref(),
        Some("chunk encoding 7 is newer than what is understood here (up to 6)")
    );
}

/// Bytes of a string of bits; spaces are for people.
fn bytes(bits: &str) -> Vec<u8> {
    let mut bits: String = bits.chars().filter(|bit| !bit.is_whitespace()).collect();
    while !bits.len().is_multiple_of(8) {
        bits.push('0');
    }
    bits.as_bytes().chunks(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | (bit - b'0'))).collect()
}

/// A varint (zigzag) as bits; small ones only.
fn varint(value: i64) -> String {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    if zigzag < 128 { format!("{zigzag:08b}") } else { format!("{:08b}{:08b}", zigzag & 127 | 128, zigzag >> 7) }
}

fn decode(encoding: Encoding, data: &[u8]) -> Column {
    let mut column = Column::default();
    decode_chunk(encoding, data, &mut column).unwrap();
    for end in 0..data.len() {
        // No cut may panic; what is before it is not taken back.
        let _ = decode_chunk(encoding, &data[..end], &mut Column::default());
    }
    column
}

#[test]
fn xor2_is_read_by_its_table() {
    let one = format!("{:064b}", 1f64.to_bits());
    let stale = f64::from_bits(STALE_NAN_BITS);
    // 1.0 to 1.5 changes bit 51: 12 leading zeros, one bit, 51 trailing ones.
    let window = "01100 000001 1";
    let two_to_one_and_half = window;
    let samples = [
        &format!("{} {one} {}", varint(1000), varint(400)), // 1.0 at 1000; it began at 600
        &format!("00001010 0 {}", "10 100"),                // delta 10, unchanged; start: 1000 - 4
        "0 0",                                              // delta 10 again, unchanged; the distance stays 4
        &format!("10 1 {two_to_one_and_half} 0"),           // 1.5 by a window of its own
        "10 0 1 0",                                         // 1.0 within that window
        &format!("110 {:013b} 0 0", 5),                     // delta 15
        &format!("110 {:013b} 10 1 10 001", -5i64 & 0x1fff), // delta 10, 1.5; the distance grows by 1
        &format!("1110 {:020b} 111 0", 90),                 // delta 100, stale
        &format!("11110 {:064b} 0 0", -90i64),              // delta 10, 1.5 as before the stale marker
        "11111 0",                                          // delta 10, stale
        &format!("1110 {:020b} 110 {window} 0", -3i64 & 0xfffff), // delta 7, 1.0 by a window of its own
    ];
    let mut data = vec![0, samples.len() as u8, 0x81];
    data.extend(bytes(&samples.concat()));
    let column = decode(Encoding::Xor2, &data);
    assert_eq!(column.times, [1000, 1010, 1020, 1030, 1040, 1055, 1065, 1165, 1175, 1185, 1192]);
    let expected = [1.0, 1.0, 1.0, 1.5, 1.0, 1.0, 1.5, stale, 1.5, stale, 1.0];
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&column.values), bits(&expected));
    assert_eq!(column.starts, [600, 996, 1006, 1016, 1026, 1036, 1050, 1060, 1160, 1170, 1180]);

    // No start is written: none is known. One that never changes stands once.
    let mut data = vec![0, 2, 0];
    data.extend(bytes(&format!("{} {one} 00001010 0", varint(1000))));
    assert!(decode(Encoding::Xor2, &data).starts.is_empty());
    let mut data = vec![0, 2, 0x80];
    data.extend(bytes(&format!("{} {one} {} 00001010 0", varint(1000), varint(400))));
    assert_eq!(decode(Encoding::Xor2, &data).starts, [600, 600]);
}

#[test]
fn histograms_with_start_timestamps_are_read_by_their_table() {
    // Schema 1, zero threshold 2^-1, one positive span of two buckets at index 1, no negative one.
    let layout = format!("{:08b} {} {} {} {} {}", 243, "10 001", "10 001", "10 010", "10 001", "0");
    let sum = |value: f64| format!("{:064b}", value.to_bits());
    let small = |value: i64| if value == 0 { "0".to_owned() } else { format!("10 {:03b}", value & 7) };
    let integers = [
        // time 4, count 4, zero count 1, sum, buckets 1 and 1 more; start 4 - 3
        format!("{} {} {} {} {} {} {}", small(4), small(4), small(1), sum(1.5), small(1), small(1), varint(3)),
        // time + 3, count + 3, zero + 1, the same sum, first bucket + 1, difference unchanged: 2 and 3; start 4 - 2
        format!("{} {} {} 0 {} {} {}", small(3), small(3), small(1), small(1), small(0), small(2)),
    ];
    let mut data = vec![0xc0, 2, 0x81];
    data.extend(bytes(&format!("{layout}{}", integers.concat())));
    let column = decode(Encoding::HistogramStart, &data);
    let [(first_time, first), (second_time, second)] = &column.histograms[..] else { panic!("{column:?}") };
    assert_eq!((*first_time, *second_time), (4, 7));
    assert_eq!(column.histogram_starts, [1, 2]);
    assert_eq!((first.schema, first.zero_threshold, first.is_float), (1, 0.5, false));
    assert_eq!((first.count, first.zero_count, first.sum), (4.0, 1.0, 1.5));
    assert_eq!((second.count, second.zero_count, second.sum), (7.0, 2.0, 1.5));
    assert_eq!((&first.positive[..], &second.positive[..]), (&[1.0, 2.0][..], &[2.0, 3.0][..]));
    assert_eq!(first.positive_spans, [varve_model::histogram::Span { offset: 1, length: 2 }]);
    assert_eq!((first.reset_hint, second.reset_hint), (ResetHint::Gauge, ResetHint::Gauge));

    let float = |value: f64| format!("{:064b}", value.to_bits());
    let floats = format!("{} {} {} {} {} {}", small(4), float(4.5), float(1.0), sum(1.5), float(0.5), float(3.0));
    let mut data = vec![0x00, 1, 0x00];
    data.extend(bytes(&format!("{layout}{floats}")));
    let column = decode(Encoding::FloatHistogramStart, &data);
    assert!(column.histogram_starts.is_empty());
    let histogram = &column.histograms[0].1;
    assert_eq!((histogram.is_float, histogram.count, &histogram.positive[..]), (true, 4.5, &[0.5, 3.0][..]));
    assert_eq!(histogram.reset_hint, ResetHint::Unknown);
}

#[test]
fn a_small_chunk_cannot_ask_for_much_memory() {
    // A span of four billion buckets, with nothing behind it.
    let layout = format!("{:08b} {} {} 11111111 {:064b} 0 0", 0, "0", "10 001", u64::from(u32::MAX));
    let mut data = vec![0xff, 0xff, 0];
    data.extend(bytes(&layout));
    let decoded = decode_chunk(Encoding::Histogram, &data, &mut Column::default());
    assert_eq!(decoded, Err("a chunk of histograms is too large"));
    // Spans without buckets by the million, in each of many samples.
    let mut data = vec![0xff, 0xff, 0];
    data.extend(bytes(&format!("{:08b} 0 1111110 {:025b}", 0, 4_000_000)));
    data.resize(data.len() + (2 << 20), 0);
    let decoded = decode_chunk(Encoding::FloatHistogram, &data, &mut Column::default());
    assert_eq!(decoded, Err("a chunk of histograms is too large"));
}
