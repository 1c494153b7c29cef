//! Replays the corpus: every file of `corpus/<target>/`, whole and damaged, goes through its target.
//!
//! The files named `seed-…` were made by `seeds/`; `UPDATE_CORPUS=1 cargo test -p varve-fuzz seeds` adds what it makes
//! today. Seeds of earlier formats and encoders stay: their bytes are as good. Other files are finds of a fuzzer: each
//! was a bug once.

#![expect(clippy::disallowed_methods, reason = "reads its own corpus, not the data of an engine")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "helpers of tests")]

mod seeds;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use varve_fuzz::{TARGETS, Target};

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The files of a folder by name.
fn files(target: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder(target)).unwrap_or_else(|e| panic!("no corpus of {target}: {e}"));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

#[test]
fn every_target_has_small_seeds() {
    for target in TARGETS {
        let made = seeds::of(target.name);
        assert!(!made.is_empty(), "{} has no seeds", target.name);
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            fs::create_dir_all(folder(target.name)).unwrap();
            for (name, bytes) in &made {
                fs::write(folder(target.name).join(format!("seed-{name}")), bytes).unwrap();
            }
        }
        let found = files(target.name);
        for (name, _) in &made {
            assert!(
                found.contains_key(&format!("seed-{name}")),
                "{name}: UPDATE_CORPUS=1 cargo test -p varve-fuzz seeds"
            );
        }
        // What is made today goes through the target even where the committed file is older.
        made.iter().for_each(|(name, bytes)| run(target, name, bytes));
        let bytes: usize = found.values().map(Vec::len).sum();
        assert!(bytes < 32 << 10, "the corpus of {} is small: {bytes} bytes", target.name);
    }
}

#[test]
fn every_folder_and_entry_point_has_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("cargo-fuzz/Cargo.toml")).unwrap();
    for target in TARGETS {
        let entry = fs::read_to_string(root.join("fuzz_targets").join(format!("{}.rs", target.name))).unwrap();
        assert!(entry.contains(&format!("varve_fuzz::{}(data)", target.name)), "{entry}");
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{} is not in the manifest", target.name);
    }
    for entry in fs::read_dir(root.join("corpus")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(TARGETS.iter().any(|target| target.name == name), "corpus/{name:?} has no target");
    }
}

/// Runs a target and says which input it was when it panics.
fn run(target: &Target, what: &str, bytes: &[u8]) {
    struct Named<'a>(&'a str, &'a str, &'a [u8]);
    impl Drop for Named<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{} panicked on {}: {:02x?}", self.0, self.1, self.2);
            }
        }
    }
    let named = Named(target.name, what, bytes);
    (target.run)(bytes);
    drop(named);
}

/// The bytes that replace each byte: with every bit flipped alone, and the ends of every range.
fn replacements(byte: u8) -> impl Iterator<Item = u8> {
    let flips = (0..8).map(move |bit| byte ^ (1 << bit));
    flips.chain([0, 0x7f, 0x80, 0xff, byte.wrapping_add(1), byte.wrapping_sub(1)])
}

/// Targets that open a whole store: each byte is changed to one value in so many, another one at each place.
const SLOW: [(&str, usize); 4] = [("deletion", 5), ("log_file", 9), ("record", 11), ("segment", 3)];

fn replay(name: &str) {
    let few = SLOW.iter().find(|(slow, _)| *slow == name).map_or(1, |(_, few)| *few);
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let files = files(name);
    let mut random = 0x5eed_u64;
    let mut roll = |end: usize| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize % end.max(1)
    };
    for (file, bytes) in &files {
        run(target, file, bytes);
        for end in 0..bytes.len() {
            run(target, file, &bytes[..end]);
        }
        let mut changed = bytes.clone();
        for at in 0..bytes.len() {
            for replacement in replacements(bytes[at]).skip(at % few).step_by(few) {
                changed[at] = replacement;
                run(target, file, &changed);
            }
            changed[at] = bytes[at];
        }
        for _ in 0..200 {
            let (_, other) = files.iter().nth(roll(files.len())).unwrap();
            let (from, to, end) = (roll(other.len() + 1), roll(bytes.len() + 1), roll(bytes.len() + 1));
            let piece = &other[from..(from + roll(40)).min(other.len())];
            let spliced = [&bytes[..to], piece, &bytes[end..]].concat();
            run(target, file, &spliced);
        }
    }
}

/// One test a target, so that they run side by side and a failure names its target.
macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_is_replayed() {
            assert_eq!(TARGETS.iter().map(|target| target.name).collect::<Vec<_>>(), [$(stringify!($name)),*]);
        }
    };
}

replays!(batches deletion exposition gorilla histograms inflate influx label_bytes log_file manifest otlp promql record
    remote_read remote_write remote_write_v2 scrape scrape_config segment times tsdb values);
