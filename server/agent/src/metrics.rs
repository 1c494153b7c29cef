//! What the agent counts of its work.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::looping::Scraped;

/// A number that goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, more: u64) {
        // Relaxed: a figure for people, nothing is published through it.
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted, over all targets.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Scrapes.
    pub scrapes: Counter,
    /// Scrapes that failed.
    pub scrapes_failed: Counter,
    /// Microseconds that scrapes took.
    pub scrape_micros: Counter,
    /// Samples in bodies.
    pub samples: Counter,
    /// Bytes of bodies, decompressed.
    pub body_bytes: Counter,
    /// Scrapes that were made and could not be stored.
    pub scrapes_lost: Counter,
    /// Samples that the storage refused.
    pub samples_refused: Counter,
    /// Samples of a series that its body had before.
    pub duplicates: Counter,
    /// Samples too far ahead of the clock.
    pub out_of_bounds: Counter,
    /// Scrapes beyond `sample_limit`.
    pub sample_limit: Counter,
    /// Scrapes beyond a limit on labels.
    pub label_limit: Counter,
    /// Scrapes beyond `native_histogram_bucket_limit`.
    pub bucket_limit: Counter,
    /// Scrapes beyond `body_size_limit`.
    pub body_size_limit: Counter,
    /// Times that a job was beyond `target_limit`.
    pub target_limit: Counter,
    /// Targets that could not be made of what discovery gave.
    pub targets_failed: Counter,
    /// Lists of targets that could not be had.
    pub discovery_failures: Counter,
    /// Memories of loops that failed scrapes had filled.
    pub cache_flushes: Counter,
}

impl Metrics {
    pub(crate) fn count(&self, scraped: &Scraped) {
        let counts = &scraped.counts;
        self.scrapes.add(1);
        self.scrapes_failed.add(scraped.failed.into());
        self.scrape_micros.add((scraped.seconds * 1e6) as u64);
        self.samples.add(counts.total);
        self.body_bytes.add(scraped.bytes.max(0.0) as u64);
        self.duplicates.add(counts.duplicates);
        self.out_of_bounds.add(counts.out_of_bounds);
        self.sample_limit.add(counts.sample_limit.into());
        self.label_limit.add(counts.label_limit.into());
        self.bucket_limit.add(counts.bucket_limit.into());
    }
}
