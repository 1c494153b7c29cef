//! Lines as the documents of Influx give them, and lines as nobody should write them.

use proptest::prelude::*;
use varve_model::Labels;

use super::*;

const DEFAULTS: Defaults<'_> = Defaults { precision: Precision::Nanos, now: 7, db: "" };

fn read(text: &str, defaults: &Defaults<'_>) -> (Vec<(String, Millis, f64)>, Summary) {
    let mut batch = WriteBatch::default();
    let summary = decode(text.as_bytes(), defaults, &Limits::default(), &mut batch).unwrap();
    let series = batch.series.iter().map(|series| {
        let labels = Labels::from_label_bytes(batch.label_bytes(series)).unwrap();
        assert_eq!(labels.hash(), series.hash);
        let at = series.samples.start as usize;
        (labels.to_string(), batch.times[at], batch.values[at])
    });
    (series.collect(), summary)
}

#[track_caller]
fn check(text: &str, expected: &[(&str, Millis, f64)]) {
    let (found, summary) = read(text, &DEFAULTS);
    let found: Vec<_> = found.iter().map(|(labels, time, value)| (labels.as_str(), *time, *value)).collect();
    assert_eq!(found, expected, "{text}: {summary:?}");
    assert_eq!((summary.rejected, summary.samples), (0, expected.len() as u64), "{summary:?}");
}

#[test]
fn fields_are_series_and_tags_are_labels() {
    check("cpu,host=a idle=1.5 1700000000000999999", &[(r#"{__name__="cpu_idle", host="a"}"#, 1_700_000_000_000, 1.5)]);
    check(
        "m a=1i,b=2u,c=t,d=False,e=-1e3\n\n# comment\n m2 x=.5 2000000\r\n",
        &[
            (r#"{__name__="m_a"}"#, 7, 1.0),
            (r#"{__name__="m_b"}"#, 7, 2.0),
            (r#"{__name__="m_c"}"#, 7, 1.0),
            (r#"{__name__="m_d"}"#, 7, 0.0),
            (r#"{__name__="m_e"}"#, 7, -1000.0),
            (r#"{__name__="m2_x"}"#, 2, 0.5),
        ],
    );
    check(
        r"wea\,ther\ x,loc\=ation=us\,mid\ west temp\=era=82 -1",
        &[(r#"{__name__="wea,ther x_temp=era", loc=ation="us,mid west"}"#, -1, 82.0)],
    );
    check("m,a=,b=x v=1", &[(r#"{__name__="m_v", b="x"}"#, 7, 1.0)]);
}

#[test]
fn texts_are_skipped_and_counted() {
    check("m s=\"a, b=\\\"c\\\" \n\\\\\",v=1 3000000", &[(r#"{__name__="m_v"}"#, 3, 1.0)]);
    let (_, summary) = read("m s=\"x\",t=\"y\" 1", &DEFAULTS);
    assert_eq!(summary.warnings, ["2 text fields are left out: only numbers and booleans are stored"]);
}

#[test]
fn a_bad_line_is_left_out_with_its_number_and_its_neighbours_stay() {
    let text = "a v=1\nb v=1,w=x\nc\n,t=1 v=1\nd v=1 x\ne v=1 2 3\nf,t v=1\ng v=NaN\nh v=\"x\ni v=1";
    let (found, summary) = read(text, &DEFAULTS);
    assert_eq!(found, [(r#"{__name__="a_v"}"#.to_owned(), 7, 1.0), (r#"{__name__="i_v"}"#.to_owned(), 7, 1.0)]);
    assert_eq!(summary.rejected, 8);
    let expected = [
        "line 2: a value is neither a number, a boolean nor a text in quotes",
        "line 3: the fields are missing",
        "line 4: the measurement is missing",
        "line 5: the timestamp is no number",
        "line 6: text behind the timestamp",
    ];
    assert_eq!(summary.warnings, expected);
}

#[test]
fn precisions_and_the_database() {
    for (word, time) in [
        ("ns", 0),
        ("", 0),
        ("us", 5),
        ("u", 5),
        ("ms", 5000),
        ("s", 5_000_000),
        ("m", 300_000_000),
        ("h", 18_000_000_000),
    ] {
        let precision = Precision::parse(word).unwrap();
        let (found, _) = read("m v=1 5000", &Defaults { precision, ..DEFAULTS });
        assert_eq!(found[0].1, time, "{word}");
    }
    assert_eq!(Precision::parse("d"), None);
    let (found, _) = read("m v=1\nm,db=x v=1", &Defaults { db: "telegraf", ..DEFAULTS });
    assert_eq!(found[0].0, r#"{__name__="m_v", db="telegraf"}"#);
    assert_eq!(found[1].0, r#"{__name__="m_v", db="x"}"#);
    let hours = Defaults { precision: Precision::Hours, ..DEFAULTS };
    assert_eq!(read(&format!("m v=1 {}", i64::MAX), &hours).1.rejected, 1);
}

#[test]
fn many_fields_of_long_tags_end_at_the_limit() {
    let limits = Limits { decompressed_bytes_max: 1 << 20, ..Limits::default() };
    let text = format!("m,t={} {}v=1", "x".repeat(10_000), "v=1,".repeat(1000));
    let mut batch = WriteBatch::default();
    let error = decode(text.as_bytes(), &DEFAULTS, &limits, &mut batch).unwrap_err();
    assert!(matches!(error, Error::Limit { setting: "decompressed_bytes_max", .. }), "{error}");
    assert!(batch.series.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_never_panic(
        text in proptest::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(b"a,= \\\"\n1it#".to_vec())], 0..100),
    ) {
        let mut batch = WriteBatch::default();
        let summary = decode(&text, &DEFAULTS, &Limits::default(), &mut batch).unwrap();
        prop_assert_eq!(batch.series.len(), batch.times.len());
        prop_assert_eq!(summary.samples as usize, batch.times.len());
        for series in &batch.series {
            prop_assert_eq!(SeriesHash::of(batch.label_bytes(series)), Some(series.hash));
        }
    }
}
