//! Kill -9 between two writes, again and again: every acknowledged sample is there afterwards, once, unchanged.

mod house;

use house::{batch, directory, now_ms, start};

#[test]
fn every_acknowledged_sample_is_there_after_each_of_five_kills() {
    let dir = directory();
    let begin = now_ms() - 600_000;
    let mut expected = Vec::new();
    for life in 0..5 {
        let house = start(dir.path(), &[]);
        for write in 0..20 {
            let at = begin + (life * 20 + write) * 100;
            let samples = [(at, at as f64), (at + 50, -1.5)];
            let other = format!("{}", write % 7);
            let written =
                batch(&[(&[("__name__", "kept")], &samples), (&[("__name__", "other"), ("n", &other)], &[(at, 1.0)])]);
            assert_eq!(house.write(&written).status, 204);
            expected.extend(samples);
        }
        house.kill();
    }
    let house = start(dir.path(), &[]);
    assert_eq!(house.samples("kept", "1h", now_ms()), expected);
    assert_eq!(house.query("sum(count_over_time(other[1h]))", now_ms())["result"][0]["value"][1], "100");
}
