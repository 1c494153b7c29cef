//! How a server ends, and what it says when it cannot begin.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod house;

use std::process::Command;

use house::{batch, directory, files, now_ms, start, start_and_fail};

#[test]
fn sigterm_flushes_and_exits_with_success() {
    let dir = directory();
    let now = now_ms();
    let samples: Vec<(i64, f64)> = (0..500).map(|i| (now - (499 - i) * 1000, f64::from(i as i32).sqrt())).collect();
    let house = start(dir.path(), &[]);
    assert_eq!(house.write(&batch(&[(&[("__name__", "kept")], &samples)])).status, 204);
    let (status, said) = house.stop();
    assert!(status.success(), "{status}: {said}");
    assert!(said.contains("all data is in segments"), "{said}");
    assert!(
        files(dir.path()).iter().any(|path| path.extension().is_some_and(|e| e == "seg")),
        "no segment was written"
    );

    let house = start(dir.path(), &[]);
    assert_eq!(house.samples("kept", "1h", now), samples);
    let metrics = String::from_utf8(house.get("/metrics").body).unwrap();
    assert!(metrics.contains("\nvarve_recovery_samples 0\n"), "flushed data was read back from the log");
    drop(house);

    let check = Command::new(env!("CARGO_BIN_EXE_varve")).arg("check").arg(dir.path()).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let (status, said) = start_and_fail(dir.path(), &[]);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("in use by another process"), "{said}");
    assert_eq!(house.get("/-/ready").status, 200);
}

#[test]
fn a_wrong_setting_is_named() {
    let dir = directory();
    let (status, said) = start_and_fail(dir.path(), &["--limit-query-ms-max", "soon"]);
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("--limit-query-ms-max"), "{said}");
    let (status, said) = start_and_fail(dir.path(), &["--partitions", "0"]);
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("partitions"), "{said}");
}

#[test]
fn check_names_a_flipped_byte() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let now = now_ms();
    let samples: Vec<(i64, f64)> = (0..1000).map(|i| (now - (999 - i) * 1000, i as f64 * 0.1)).collect();
    assert_eq!(house.write(&batch(&[(&[("__name__", "x")], &samples)])).status, 204);
    assert!(house.stop().0.success());
    let segment = files(dir.path()).into_iter().find(|path| path.extension().is_some_and(|e| e == "seg")).unwrap();
    flip(&segment);
    let check = Command::new(env!("CARGO_BIN_EXE_varve")).arg("check").arg(dir.path()).output().unwrap();
    assert_eq!(check.status.code(), Some(1));
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(said.contains(segment.file_name().unwrap().to_str().unwrap()), "{said}");
}

#[expect(clippy::disallowed_methods, reason = "a test that damages a file on purpose")]
fn flip(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}
