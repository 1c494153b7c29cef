//! Records of metrics: round trips and damage, by random batches.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A table of series with labels of its own.
struct Table(Vec<(Labels, Declared)>);

impl Table {
    fn new(series: u32) -> Table {
        let labels = |i: u32| {
            Labels::from([("__name__", "m"), ("i", i.to_string().as_str()), ("job", ["a", "b"][i as usize % 2])])
        };
        Table((0..series).map(|i| (labels(i), Declared::default())).collect())
    }
}

impl Declarations for Table {
    fn labels(&self, series: u32) -> &Labels {
        &self.0[series as usize].0
    }

    fn declared(&mut self, series: u32) -> &mut Declared {
        &mut self.0[series as usize].1
    }
}

/// Reads records; ids are those of the table that wrote them, plus 1000.
#[derive(Default)]
struct Back {
    decoder: Decoder,
    rows: Rows,
}

impl Back {
    fn decode(&mut self, table: &Table, payload: &[u8]) -> Result<u64, Malformed> {
        let ids: BTreeMap<&Labels, u32> =
            table.0.iter().enumerate().map(|(i, (labels, _))| (labels, i as u32 + 1000)).collect();
        let mut resolve = |tenant, labels: Labels| {
            assert_eq!(tenant, TenantId(3));
            ids[&labels]
        };
        self.decoder.decode(payload, TenantId(3), &mut resolve, Some(&mut self.rows))
    }
}

fn expected(rows: &Rows) -> Rows {
    let mut rows = rows.clone();
    rows.entries.iter_mut().for_each(|entry| entry.series += 1000);
    rows.histograms.iter_mut().for_each(|(series, ..)| *series += 1000);
    rows.exemplars.iter_mut().for_each(|exemplar| exemplar.series += 1000);
    rows
}

/// Equal bit by bit: NaNs too.
#[track_caller]
fn check_same(a: &Rows, b: &Rows) {
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&a.values), bits(&b.values));
    assert_eq!((&a.tenant, &a.entries, &a.times), (&b.tenant, &b.entries, &b.times));
    assert_eq!((&a.histograms, &a.exemplars), (&b.histograms, &b.exemplars));
    assert_eq!((&a.starts, &a.histogram_starts), (&b.starts, &b.histogram_starts));
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-70_000i64..70_000).prop_map(|v| v as f64),
        any::<i64>().prop_map(|v| v as f64),
        (0u32..1000).prop_map(|v| f64::from(v) / 8.0),
        Just(0.0),
        Just(-0.0),
        Just(f64::from_bits(varve_model::STALE_NAN_BITS)),
    ]
}

prop_compose! {
    fn rows(series: u32)(
        entries in proptest::collection::vec((0..series, 1usize..6), 0..40),
        ascending in any::<bool>(),
        times in proptest::collection::vec(prop_oneof![any::<i64>(), 0i64..100_000, Just(1_700_000_000_000)], 240),
        values in proptest::collection::vec(value(), 240),
        histograms in proptest::collection::vec((0..series, any::<i64>(), 0u32..100), 0..4),
        exemplars in proptest::collection::vec((0..series, any::<i64>(), 0u32..100, any::<[u8; 5]>()), 0..3),
        starts in proptest::option::of(proptest::collection::vec(prop_oneof![
            Just(0i64), Just(1_700_000_000_000), 0i64..1000, any::<i64>(),
        ], 244)),
    ) -> Rows {
        let mut rows = Rows { tenant: TenantId(3), ..Rows::default() };
        for (i, &(id, count)) in entries.iter().enumerate() {
            let series = if ascending { i as u32 % series } else { id };
            rows.entries.push(Entry { series, count: if ascending { 1 } else { count as u32 } });
        }
        let samples: usize = rows.entries.iter().map(|entry| entry.count as usize).sum();
        rows.times.extend(times.iter().take(samples));
        rows.values.extend(values.iter().take(samples));
        for (series, time, sum) in histograms {
            let histogram = Histogram { sum: f64::from(sum), count: f64::from(sum), ..Histogram::default() };
            rows.histograms.push((series, time, histogram));
        }
        for (series, time, value, labels) in exemplars {
            let labels = labels.to_vec();
            rows.exemplars.push(Exemplar { series, time, value: f64::from(value), labels });
        }
        if let Some(starts) = starts {
            let sound = |time: i64, start: Option<&i64>| sound_start(time, start.copied().unwrap_or(0));
            rows.starts = rows.times.iter().enumerate().map(|(i, time)| sound(*time, starts.get(i))).collect();
            let histograms = rows.histograms.iter().enumerate();
            rows.histogram_starts = histograms.map(|(i, (_, time, _))| sound(*time, starts.get(240 + i))).collect();
            for starts in [&mut rows.starts, &mut rows.histogram_starts] {
                if starts.iter().all(|&start| start == 0) {
                    starts.clear();
                }
            }
        }
        rows
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn records_come_back(records in proptest::collection::vec((rows(30), 0u8..6), 1..6)) {
        let mut table = Table::new(30);
        let mut encoder = Encoder::new();
        let mut back = Back::default();
        let mut payload = Vec::new();
        for (rows, event) in &records {
            match event {
                // A new log file.
                0 => {
                    encoder.reset();
                    back.decoder.reset();
                }
                // A record that was not written, in the same file.
                1 => {
                    encoder.encode(rows, &mut table, &mut payload);
                    encoder.forget();
                }
                _ => {}
            }
            encoder.encode(rows, &mut table, &mut payload);
            prop_assert_eq!(back.decode(&table, &payload), Ok(0));
            check_same(&back.rows, &expected(rows));
        }
    }

    #[test]
    fn a_lost_record_never_mixes_up_series(a in rows(20), b in rows(20), c in rows(20)) {
        let mut table = Table::new(20);
        let mut encoder = Encoder::new();
        let mut back = Back::default();
        let mut payload = Vec::new();
        encoder.encode(&a, &mut table, &mut payload);
        back.decode(&table, &payload).unwrap();
        encoder.encode(&b, &mut table, &mut payload);
        encoder.encode(&c, &mut table, &mut payload);
        let lost = back.decode(&table, &payload).unwrap();
        let wanted = expected(&c);
        prop_assert_eq!(back.rows.samples() + lost, wanted.samples());
        // What it said of start timestamps is unknown, not wrong.
        back.decoder.missed();
        encoder.encode(&c, &mut table, &mut payload);
        back.decode(&table, &payload).unwrap();
        let told = |rows: &Rows| rows.times.iter().zip(&rows.starts).map(|(t, s)| (*t, *s)).collect::<Vec<_>>();
        let written = told(&wanted);
        prop_assert!(told(&back.rows).iter().all(|(time, start)| *start == 0 || written.contains(&(*time, *start))));
        // What is left is a subsequence of what was written.
        let pairs = |rows: &Rows| {
            let ids = rows.entries.iter().flat_map(|e| std::iter::repeat_n(e.series, e.count as usize));
            ids.zip(rows.times.clone()).collect::<Vec<_>>()
        };
        let wanted = pairs(&wanted);
        let mut wanted = wanted.iter();
        prop_assert!(pairs(&back.rows).iter().all(|pair| wanted.any(|other| other == pair)));
    }

    #[test]
    fn damaged_records_never_panic(rows in rows(10), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut table = Table::new(10);
        let mut payload = Vec::new();
        Encoder::new().encode(&rows, &mut table, &mut payload);
        let index = at.index(payload.len());
        payload[index] = byte;
        let mut resolve = |_, _| 0;
        let _ = Decoder::default().decode(&payload, TenantId(3), &mut resolve, Some(&mut Rows::default()));
        payload.truncate(index);
        let _ = Decoder::default().decode(&payload, TenantId(3), &mut resolve, Some(&mut Rows::default()));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut payload = vec![VERSION];
        payload.extend(bytes);
        let _ = Decoder::default().decode(&payload, TenantId(3), &mut |_, _| 0, Some(&mut Rows::default()));
    }
}

#[test]
fn golden_bytes() {
    let mut table = Table::new(3);
    let mut encoder = Encoder::new();
    let entry = |series| Entry { series, count: 1 };
    let mut rows = Rows {
        tenant: TenantId(3),
        entries: vec![entry(0), entry(1), entry(2)],
        times: vec![1_000; 3],
        values: vec![0.5, 3.0, -0.0],
        ..Rows::default()
    };
    let mut payload = Vec::new();
    let mut all = String::new();
    for time in [1_000, 2_000] {
        rows.times = vec![time; 3];
        encoder.encode(&rows, &mut table, &mut payload);
        all.push_str(&crate::codec::hex(&payload));
    }
    assert_eq!(all, crate::record::golden("metrics records"));
}

#[test]
fn golden_bytes_with_starts() {
    let mut table = Table::new(2);
    let mut encoder = Encoder::new();
    let entry = |series| Entry { series, count: 2 };
    let mut rows = Rows {
        tenant: TenantId(3),
        entries: vec![entry(0), entry(1)],
        values: vec![1.0, 2.0, 3.0, 4.0],
        ..Rows::default()
    };
    let mut payload = Vec::new();
    let mut all = String::new();
    for (time, starts) in [(60_000, [1000, 1000, 0, 61_000]), (62_000, [1000, 1000, 61_000, 0])] {
        rows.times = vec![time, time + 1000, time, time + 1000];
        rows.starts = starts.to_vec();
        encoder.encode(&rows, &mut table, &mut payload);
        all.push_str(&crate::codec::hex(&payload));
    }
    assert_eq!(all, crate::record::golden("metrics records with starts"));
}

#[test]
fn a_start_that_stays_the_same_costs_a_run() {
    let mut table = Table::new(1000);
    let mut encoder = Encoder::new();
    let mut rows = Rows { tenant: TenantId(3), ..Rows::default() };
    let mut payload = Vec::new();
    let mut bytes = [0; 2];
    for starts in [0, 1] {
        for turn in 0..2 {
            rows.clear();
            for series in 0..1000 {
                rows.entries.push(Entry { series, count: 1 });
                rows.times.push(1_700_000_000_000 + turn * 15_000);
                rows.values.push(f64::from(series * 7));
                rows.set_start(starts * (1_600_000_000_000 + i64::from(series)));
            }
            encoder.encode(&rows, &mut table, &mut payload);
        }
        bytes[starts as usize] = payload.len();
    }
    assert!(bytes[1] <= bytes[0] + 4, "{bytes:?}");
}

#[test]
fn a_steady_sender_costs_what_its_values_cost() {
    let mut table = Table::new(1000);
    let mut encoder = Encoder::new();
    let mut rows = Rows { tenant: TenantId(3), ..Rows::default() };
    let mut payload = Vec::new();
    for turn in 0..2 {
        rows.clear();
        for series in 0..1000 {
            rows.entries.push(Entry { series, count: 1 });
            rows.times.push(1_700_000_000_000 + turn * 15_000);
            rows.values.push(f64::from(series * 7));
        }
        encoder.encode(&rows, &mut table, &mut payload);
    }
    assert!(payload.len() < 2_600, "{} bytes", payload.len());
}
