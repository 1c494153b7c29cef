//! Round trips, golden bytes and arbitrary bytes of every encoding of values.

use super::*;
use crate::codec::samples::{self, Kind, generate};
use crate::codec::{hex, unhex};
use proptest::prelude::*;

const KINDS: [Kind; 8] =
    [Kind::Constant, Kind::Counter, Kind::Decimal, Kind::Pages, Kind::Noise, Kind::Flips, Kind::Wild, Kind::Huge];

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[track_caller]
fn check_bytes(bytes: &[u8], values: &[f64]) {
    let mut got = vec![5.0];
    decode(bytes, values.len(), &mut got).unwrap();
    assert_eq!(bits(&got[1..]), bits(values));
}

#[track_caller]
fn check(values: &[f64]) -> [Vec<u8>; 2] {
    [Effort::Hot, Effort::Cold].map(|effort| {
        let mut out = vec![0xee];
        encode(values, effort, &mut out);
        let bytes = out.split_off(1);
        assert_eq!(out, [0xee]);
        check_bytes(&bytes, values);
        bytes
    })
}

/// The bytes of each tag as they are on disk for ever: they must decode, whatever `encode` chooses later.
#[test]
fn golden_bytes_of_each_tag() {
    let wave = |i: i32| f64::from(i * i % 31);
    let planes: Vec<f64> = (0..160).map(|i| f64::from(i % 40 * (i % 40) * 7_919 % 1_009) / 10.0).collect();
    let stale = f64::from_bits(varve_model::STALE_NAN_BITS);
    let cases: [(&str, Tag, Vec<f64>, &str); 10] = [
        ("constant integer", Tag::ConstantInteger, vec![-300.0; 9], "00d704"),
        ("constant", Tag::Constant, vec![0.1; 9], "019a9999999999b93f"),
        (
            "packed",
            Tag::Packed,
            (0..20).map(|i| 7.0 + wave(i) / 4.0).collect(),
            "0229f80a1905002090047391621e4e9d4248390a",
        ),
        (
            "packed exceptions",
            Tag::PackedExceptions,
            (0..20).map(|i| if i % 13 == 6 { stale } else { 4_096.0 * wave(i) }).collect(),
            "030206020000000000f07f0c020000000000f07f090080200500209004b314f370ea1442ca01",
        ),
        (
            "packed planes",
            Tag::PackedPlanes,
            planes.clone(),
            "04110002604000bd0200940400b01a0286a6447e54a898244cf234f46e66dc0cba04cc3030cce69ceebe2a32b8da98f2ca3e4edc060305040104040205060501020206010106020201040605010303000303030002030075a944d28939d895aa32",
        ),
        (
            "packed planes exceptions",
            Tag::PackedPlanesExceptions,
            [&planes[..], &[-0.0]].concat(),
            "0501a0010000000000000080110002604000bd0200940400b01a0286a6447e54a898244cf234f46e66dc0cba04cc3030cce69ceebe2a32b8da98f2ca3e4edc060305040104040205060501020206010106020201040605010303000303030002030075a944d28939d895aa32",
        ),
        (
            "xor",
            Tag::Xor,
            (0..20).map(|i| 1.0 / f64::from(3 + i / 5)).collect(),
            "06555555555555d53f0db955555555555550d79e66666666666686ccf333333333333c00",
        ),
        (
            "split",
            Tag::Split,
            (0..12).map(|i| 2.0 + (f64::from(i) * 7.7).sin()).collect(),
            "07748008ff0700000000000000c0a272e797f8fc1c48a14425b3098d605b01a8d618cab2e9dd1a6c950235edd27c8b02320a2e8d9821acaf21086ec3a65d391b09e970c36ad1a5142fd08019b311fc9f65f940e6a27d00",
        ),
        (
            "planes",
            Tag::Planes,
            (0..160).map(|i| 1.0 / f64::from(3 + i * i * 7_919 % 31 % 3)).collect(),
            "080860000425020072c4090ce0e9a33bc47c00f403549002c0b2c136c892d132ca32b48e3e929457d6da3bfb6c6ff9e5bd0408001c1c25bc50c9c3b9af0754212094fa9121fc172a792ef802",
        ),
        (
            "raw",
            Tag::Raw,
            generate(Kind::Wild, 4, 1, 0),
            "0967ec8e65a18debbe5e5532fbeea293f80bc942ee9086c171b9b501d1d854bb71",
        ),
    ];
    let mut encoded = Vec::new();
    for (name, tag, values, golden) in &cases {
        let [hot, cold] = check(values);
        let bytes = if hot.first() == Some(&(*tag as u8)) { hot } else { cold };
        assert_eq!(bytes.first(), Some(&(*tag as u8)), "{name}");
        encoded.push((*name, hex(&bytes)));
        if !golden.is_empty() {
            check_bytes(&unhex(golden), values);
        }
    }
    let want: Vec<_> = cases.iter().map(|(name, _, _, golden)| (*name, (*golden).to_owned())).collect();
    assert_eq!(encoded, want);
}

#[test]
fn chunks_are_as_small_as_promised() {
    for (kind, count, hot_max) in [
        (Kind::Counter, 1_024, 1_210),
        (Kind::Decimal, 1_024, 916),
        (Kind::Pages, 1_024, 916),
        (Kind::Noise, 1_024, 7_100),
        (Kind::Flips, 1_024, 140),
        (Kind::Flips, 30, 10),
        (Kind::Counter, 120, 160),
    ] {
        let [hot, cold] = check(&generate(kind, count, 7, 0));
        assert!(hot.len() <= hot_max, "{kind:?}: {} bytes", hot.len());
        assert!(cold.len() <= hot.len(), "{kind:?}");
    }
    // Equal steps are a line, and a stale marker at the end does not bend it.
    let mut uptime: Vec<f64> = (0..1_000).map(|i| 1e9 + f64::from(i) * 15.5).collect();
    assert!(check(&uptime)[0].len() < 14);
    uptime.push(f64::from_bits(varve_model::STALE_NAN_BITS));
    assert!(check(&uptime)[0].len() < 24);
}

#[test]
fn empty_and_single() {
    assert_eq!(check(&[]), [vec![], vec![]]);
    for value in [0.0, -0.0, 1.5, f64::NAN, f64::MAX, 1e15] {
        assert!(check(&[value])[0].len() <= 9);
    }
}

proptest! {
    #[test]
    fn values_round_trip(values in samples::values(0..1_400)) {
        check(&values);
    }

    #[test]
    fn mixtures_round_trip(parts in prop::collection::vec((0usize..8, 0usize..200, any::<u64>(), 0u64..9), 0..5)) {
        let values: Vec<f64> =
            parts.into_iter().flat_map(|(kind, count, seed, odd)| generate(KINDS[kind], count, seed, odd)).collect();
        check(&values);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read(tag in 0u8..11, bytes in prop::collection::vec(any::<u8>(), 0..300), count in 0usize..2_000) {
        let bytes = [&[tag], &bytes[..]].concat();
        let mut values = Vec::new();
        let ok = decode(&bytes, count, &mut values).is_ok();
        prop_assert_eq!(values.len(), if ok { count } else { 0 });
        prop_assert!(values.capacity() <= 2 * count + 4);
    }

    #[test]
    fn damaged_bytes_are_refused_or_read(values in samples::values(1..900), at in any::<prop::sample::Index>(), flip in 1u8..=255) {
        for mut bytes in check(&values) {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let mut got = Vec::new();
            let ok = decode(&bytes, values.len(), &mut got).is_ok();
            prop_assert_eq!(got.len(), if ok { values.len() } else { 0 });
        }
    }

    #[test]
    fn cut_and_longer_bytes_are_refused(values in samples::values(1..700)) {
        for mut bytes in check(&values) {
            prop_assert!(decode(&bytes[..bytes.len() - 1], values.len(), &mut Vec::new()).is_err());
            bytes.push(0);
            prop_assert!(decode(&bytes, values.len(), &mut Vec::new()).is_err());
        }
    }
}
