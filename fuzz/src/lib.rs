//! Fuzz targets of Varve as plain functions: one for each decoder and parser that reads bytes it did not write.
//!
//! A target takes any bytes. It must not panic, must not take memory out of proportion, and where it accepts the bytes
//! it checks what must then hold: what was read is written again and read back the same.
//!
//! * `cargo test -p varve-fuzz` replays `corpus/<target>/`, each file whole, cut at every length, with every byte
//!   changed, and spliced with others (`tests/corpus.rs`).
//! * `cargo-fuzz/` has the same functions for cargo-fuzz; `fuzz_targets/` are its entry points.

mod codec;
mod engine;
mod protocol;
mod query;
mod scrape;
mod storage;
mod tsdb;

pub use codec::{gorilla, histograms, times, values};
pub use engine::{deletion, manifest, record, records_of};
pub use protocol::{exposition, inflate, influx, label_bytes, otlp, remote_read, remote_write, remote_write_v2};
pub use query::promql;
pub use scrape::{scrape, scrape_config};
pub use storage::{SALT, batches, log_file, segment, small_log};
pub use tsdb::tsdb;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also that of its corpus folder and of its entry point for cargo-fuzz.
    pub name: &'static str,
    /// Runs it; panics when something does not hold.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "batches", run: batches },
    Target { name: "deletion", run: deletion },
    Target { name: "exposition", run: exposition },
    Target { name: "gorilla", run: gorilla },
    Target { name: "histograms", run: histograms },
    Target { name: "inflate", run: inflate },
    Target { name: "influx", run: influx },
    Target { name: "label_bytes", run: label_bytes },
    Target { name: "log_file", run: log_file },
    Target { name: "manifest", run: manifest },
    Target { name: "otlp", run: otlp },
    Target { name: "promql", run: promql },
    Target { name: "record", run: record },
    Target { name: "remote_read", run: remote_read },
    Target { name: "remote_write", run: remote_write },
    Target { name: "remote_write_v2", run: remote_write_v2 },
    Target { name: "scrape", run: scrape },
    Target { name: "scrape_config", run: scrape_config },
    Target { name: "segment", run: segment },
    Target { name: "times", run: times },
    Target { name: "tsdb", run: tsdb },
    Target { name: "values", run: values },
];
