//! Seeds of Prometheus's storage: the golden files of a block, and chunks of every encoding.

use varve_model::histogram::Span;
use varve_model::{Column, Histogram, STALE_NAN_BITS};
use varve_protocol::remote_read::push_chunks;

use super::{Seed, seed};

/// Name, the byte that says what it is, content.
pub(super) fn tsdb() -> Vec<Seed> {
    let with = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    let mut seeds = vec![
        seed("chunks", with(7, include_bytes!("../../../server/protocol/tests/golden/tsdb/chunks"))),
        seed("tombstones", with(8, include_bytes!("../../../server/protocol/tests/golden/tsdb/tombstones"))),
        seed("index", with(9, include_bytes!("../../../server/protocol/tests/golden/tsdb/index"))),
    ];
    let stale = f64::from_bits(STALE_NAN_BITS);
    let floats = Column {
        times: vec![-5, 0, 10, 20, 31, 9_000, 10_000_000],
        values: vec![1.0, 1.0, 1.5, -0.0, stale, f64::NAN, 1e300],
        ..Column::default()
    };
    let histogram = |step: i64, is_float: bool| Histogram {
        schema: 2,
        is_float,
        zero_threshold: 0.001,
        zero_count: step as f64,
        count: (4 * step) as f64,
        sum: 0.5 * step as f64,
        positive_spans: vec![Span { offset: -1, length: 2 }],
        positive: vec![step as f64, step as f64],
        negative_spans: vec![Span { offset: 3, length: 1 }],
        negative: vec![step as f64],
        ..Histogram::default()
    };
    let custom = |step: i64| Histogram {
        schema: -53,
        count: step as f64,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive: vec![step as f64],
        custom_bounds: vec![0.5, 1.0 / 3.0 + 1.0],
        ..Histogram::default()
    };
    let of = |make: &dyn Fn(i64) -> Histogram| Column {
        histograms: (1..4).map(|step| (step * 1000, make(step))).collect(),
        ..Column::default()
    };
    for (name, column) in [
        ("floats", floats),
        ("integers", of(&|step| histogram(step, false))),
        ("float-histograms", of(&|step| histogram(step, true))),
        ("custom", of(&custom)),
    ] {
        let mut chunks = Vec::new();
        push_chunks(&column, &mut chunks);
        let chunk = &chunks[0];
        seeds.push(seed(name, with(chunk.encoding as u8, &chunk.data)));
        // The same bits as the newer encodings read them.
        let newer = chunk.encoding as u8 + 3;
        let mut data = chunk.data.clone();
        if newer == 4 {
            data.insert(2, 0x81);
        } else {
            data[2] = 0x81;
        }
        seeds.push(seed(&format!("{name}-start"), with(newer, &data)));
    }
    seeds
}
