//! Own metrics: the counters, and one table that names, explains and samples each metric. `/metrics` and the self
//! scrape are the same text.

use std::sync::atomic::{AtomicU64, Ordering};

use varve_agent::Health;
use varve_engine::{EngineStatus, ShardStatus};
use varve_model::RefusalReason;
use varve_vfs::Env;

use crate::app::App;
use crate::http::ROUTES;
use crate::process;

/// A number that goes up, or up and down.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, more: u64) {
        // Relaxed: a figure for people, nothing is published through it.
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Subtracts, for gauges.
    pub fn sub(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets of a [`Timing`], in seconds.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// A histogram of seconds.
#[derive(Debug, Default)]
pub struct Timing {
    buckets: [Counter; BUCKETS.len()],
    count: Counter,
    micros: Counter,
}

impl Timing {
    /// Counts one.
    pub fn observe(&self, seconds: f64) {
        if let Some(bucket) = BUCKETS.iter().position(|bound| seconds <= *bound).and_then(|i| self.buckets.get(i)) {
            bucket.add(1);
        }
        self.count.add(1);
        self.micros.add((seconds * 1e6) as u64);
    }
}

/// Status codes that are counted by themselves; others count as 0.
const CODES: [u16; 15] = [200, 204, 400, 403, 404, 405, 408, 413, 415, 422, 429, 499, 500, 503, 0];

#[derive(Debug, Default)]
struct RouteCount {
    codes: [Counter; CODES.len()],
    micros: Counter,
}

const REASONS: [RefusalReason; 12] = [
    RefusalReason::InvalidLabels,
    RefusalReason::NoName,
    RefusalReason::TooManyLabels,
    RefusalReason::LabelNameTooLong,
    RefusalReason::LabelValueTooLong,
    RefusalReason::TooManySeries,
    RefusalReason::TooFarInFuture,
    RefusalReason::TooOld,
    RefusalReason::InvalidHistogram,
    RefusalReason::HistogramTooLarge,
    RefusalReason::TooManyExemplars,
    RefusalReason::ExemplarLabelsTooLong,
];

fn reason_word(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::InvalidLabels => "invalid_labels",
        RefusalReason::NoName => "no_name",
        RefusalReason::TooManyLabels => "too_many_labels",
        RefusalReason::LabelNameTooLong => "label_name_too_long",
        RefusalReason::LabelValueTooLong => "label_value_too_long",
        RefusalReason::TooManySeries => "too_many_series",
        RefusalReason::TooFarInFuture => "too_far_in_future",
        RefusalReason::TooOld => "too_old",
        RefusalReason::InvalidHistogram => "invalid_histogram",
        RefusalReason::HistogramTooLarge => "histogram_too_large",
        RefusalReason::TooManyExemplars => "too_many_exemplars",
        RefusalReason::ExemplarLabelsTooLong => "exemplar_labels_too_long",
    }
}

/// What the server counts by itself.
#[derive(Debug)]
#[expect(missing_docs, reason = "each field is one row of the table below, which explains it")]
pub struct Metrics {
    pub started_seconds: f64,
    pub connections: Counter,
    pub connections_refused: Counter,
    pub accepts_failed: Counter,
    pub write_body_bytes: Counter,
    pub writes_malformed: Counter,
    pub write_seconds: Timing,
    pub samples_accepted: Counter,
    pub exemplars_accepted: Counter,
    pub exemplars_dropped: Counter,
    pub metadata_left_out: Counter,
    pub deltas_late: Counter,
    pub deltas_in_future: Counter,
    pub deltas_beyond_limit: Counter,
    pub query_seconds: Timing,
    pub query_samples: Counter,
    pub queries_failed: Counter,
    pub queries_canceled: Counter,
    pub queries_rejected: Counter,
    pub shards_ended: Counter,
    pub steps_failed: Counter,
    pub step_seconds: Timing,
    pub self_scrapes_failed: Counter,
    pub recovery_reports: Counter,
    pub recovery_ms: Counter,
    pub samples_replayed: Counter,
    routes: Vec<RouteCount>,
    refused: [Counter; REASONS.len()],
}

impl Metrics {
    /// All zero; the start is now.
    pub fn new(env: &Env) -> Metrics {
        Metrics {
            started_seconds: env.clock.wall().0 as f64 / 1e9,
            connections: Counter::default(),
            connections_refused: Counter::default(),
            accepts_failed: Counter::default(),
            write_body_bytes: Counter::default(),
            writes_malformed: Counter::default(),
            write_seconds: Timing::default(),
            samples_accepted: Counter::default(),
            exemplars_accepted: Counter::default(),
            exemplars_dropped: Counter::default(),
            metadata_left_out: Counter::default(),
            deltas_late: Counter::default(),
            deltas_in_future: Counter::default(),
            deltas_beyond_limit: Counter::default(),
            query_seconds: Timing::default(),
            query_samples: Counter::default(),
            queries_failed: Counter::default(),
            queries_canceled: Counter::default(),
            queries_rejected: Counter::default(),
            shards_ended: Counter::default(),
            steps_failed: Counter::default(),
            step_seconds: Timing::default(),
            self_scrapes_failed: Counter::default(),
            recovery_reports: Counter::default(),
            recovery_ms: Counter::default(),
            samples_replayed: Counter::default(),
            // One more for paths that are no route.
            routes: (0..=ROUTES.len()).map(|_| RouteCount::default()).collect(),
            refused: Default::default(),
        }
    }

    /// Counts an answered request; `route` is its place in [`ROUTES`].
    pub fn count_request(&self, route: usize, code: u16, seconds: f64) {
        let place = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len() - 1);
        if let Some(route) = self.routes.get(route) {
            if let Some(counter) = route.codes.get(place) {
                counter.add(1);
            }
            route.micros.add((seconds * 1e6) as u64);
        }
    }

    /// Counts refused samples.
    pub fn count_refused(&self, reason: RefusalReason, samples: u64) {
        if let Some(counter) = REASONS.iter().position(|known| *known == reason).and_then(|i| self.refused.get(i)) {
            counter.add(samples);
        }
    }
}

/// How a metric behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

/// One metric.
pub struct Metric {
    /// Its name, unit included.
    pub name: &'static str,
    /// How it behaves.
    pub behaviour: Behaviour,
    /// What it says.
    pub help: &'static str,
    sample: fn(&Sources<'_>, &mut Writer<'_>),
}

/// Where the figures come from.
struct Sources<'a> {
    app: &'a App,
    engine: Option<EngineStatus>,
    process: process::Figures,
}

impl Sources<'_> {
    fn engine(&self, writer: &mut Writer<'_>, figure: fn(&EngineStatus) -> u64) {
        if let Some(status) = &self.engine {
            writer.value(&[], figure(status) as f64);
        }
    }

    fn agent(&self, writer: &mut Writer<'_>, figure: impl Fn(&varve_agent::Agent) -> f64) {
        if let Some(agent) = self.app.scraper.agent() {
            writer.value(&[], figure(agent));
        }
    }

    fn scrapes(&self, writer: &mut Writer<'_>, figure: fn(&varve_agent::metrics::Metrics) -> f64) {
        self.agent(writer, |agent| figure(agent.metrics()));
    }

    fn shards(&self, writer: &mut Writer<'_>, figure: fn(&ShardStatus) -> u64) {
        for shard in self.engine.iter().flat_map(|status| &status.shards) {
            writer.value(&[("shard", &shard.partition.to_string())], figure(shard) as f64);
        }
    }
}

/// Writes the samples of one metric.
struct Writer<'a> {
    name: &'static str,
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn value(&mut self, labels: &[(&str, &str)], value: f64) {
        self.sample("", labels, value);
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.out.extend_from_slice(self.name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        for (i, (name, value)) in labels.iter().enumerate() {
            self.out.push(if i == 0 { b'{' } else { b',' });
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b"=\"");
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            self.out.extend_from_slice(value.as_bytes());
            self.out.push(b'"');
        }
        if !labels.is_empty() {
            self.out.push(b'}');
        }
        self.out.push(b' ');
        crate::http::json::push_float(self.out, value);
        self.out.push(b'\n');
    }

    fn timing(&mut self, timing: &Timing) {
        let mut below = 0;
        for (bound, bucket) in BUCKETS.iter().zip(&timing.buckets) {
            below += bucket.get();
            self.sample("_bucket", &[("le", &bound.to_string())], below as f64);
        }
        // Read last, so that no bucket is larger.
        let count = timing.count.get().max(below);
        self.sample("_bucket", &[("le", "+Inf")], count as f64);
        self.sample("_sum", &[], timing.micros.get() as f64 / 1e6);
        self.sample("_count", &[], count as f64);
    }
}

macro_rules! metrics {
    ($( $name:literal $behaviour:ident $help:literal $sample:expr; )*) => {
        /// Every metric there is.
        pub static TABLE: &[Metric] = &[ $( Metric {
            name: $name,
            behaviour: Behaviour::$behaviour,
            help: $help,
            sample: $sample,
        }, )* ];
    };
}

metrics! {
    "varve_scrape_pools" Gauge "Jobs that are scraped."
        |s, w| s.agent(w, |agent| agent.views().len() as f64);
    "varve_scrape_targets" Gauge "Targets of a job by what became of their last scrape: `up`, `down`, `unknown`; `dropped` were dropped by relabeling."
        |s, w| for (name, view) in s.app.scraper.agent().iter().flat_map(|agent| agent.views()) {
            for health in [Health::Up, Health::Down, Health::Unknown] {
                let count = view.active.iter().filter(|target| target.last().health == health).count();
                w.value(&[("scrape_job", &name), ("health", health.as_str())], count as f64);
            }
            w.value(&[("scrape_job", &name), ("health", "dropped")], view.dropped_count as f64);
        };
    "varve_scrapes_total" Counter "Scrapes."
        |s, w| s.scrapes(w, |m| m.scrapes.get() as f64);
    "varve_scrapes_failed_total" Counter "Scrapes that failed; `/api/v1/targets` says why."
        |s, w| s.scrapes(w, |m| m.scrapes_failed.get() as f64);
    "varve_scrapes_lost_total" Counter "Scrapes that were made and could not be stored."
        |s, w| s.scrapes(w, |m| m.scrapes_lost.get() as f64);
    "varve_scrape_seconds_total" Counter "Time that scrapes took, storing excluded."
        |s, w| s.scrapes(w, |m| m.scrape_micros.get() as f64 / 1e6);
    "varve_scrape_samples_total" Counter "Samples in scraped bodies."
        |s, w| s.scrapes(w, |m| m.samples.get() as f64);
    "varve_scrape_samples_refused_total" Counter "Scraped samples that the storage refused."
        |s, w| s.scrapes(w, |m| m.samples_refused.get() as f64);
    "varve_scrape_body_bytes_total" Counter "Bytes of scraped bodies, decompressed."
        |s, w| s.scrapes(w, |m| m.body_bytes.get() as f64);
    "varve_scrape_samples_duplicate_total" Counter "Scraped samples of a series that their body had before."
        |s, w| s.scrapes(w, |m| m.duplicates.get() as f64);
    "varve_scrape_samples_out_of_bounds_total" Counter "Scraped samples too far ahead of the clock."
        |s, w| s.scrapes(w, |m| m.out_of_bounds.get() as f64);
    "varve_scrapes_exceeded_limit_total" Counter "Scrapes beyond a limit of their job, by limit; `target_limit` counts lists of targets."
        |s, w| for metrics in s.app.scraper.agent().iter().map(|agent| agent.metrics()) {
            for (limit, counter) in [
                ("sample_limit", &metrics.sample_limit),
                ("label_limit", &metrics.label_limit),
                ("native_histogram_bucket_limit", &metrics.bucket_limit),
                ("body_size_limit", &metrics.body_size_limit),
                ("target_limit", &metrics.target_limit),
            ] {
                w.value(&[("limit", limit)], counter.get() as f64);
            }
        };
    "varve_scrape_cache_flushes_total" Counter "Memories of targets that failed scrapes had filled."
        |s, w| s.scrapes(w, |m| m.cache_flushes.get() as f64);
    "varve_scrape_targets_failed_total" Counter "Targets that could not be made of what discovery gave."
        |s, w| s.scrapes(w, |m| m.targets_failed.get() as f64);
    "varve_discovery_failures_total" Counter "Lists of targets that could not be had."
        |s, w| s.scrapes(w, |m| m.discovery_failures.get() as f64);
    "varve_scrape_config_reload_successful" Gauge "Whether the last reading of `scrape_config_file` went well."
        |s, w| s.agent(w, |_| f64::from(s.app.scraper.reload_succeeded()));
    "varve_scrape_config_read_time_seconds" Gauge "When `scrape_config_file` was read well last."
        |s, w| s.agent(w, |_| s.app.scraper.read_at() as f64 / 1e3);
    "varve_build_info" Gauge "Version of the running binary; always 1."
        |_, w| w.value(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    "varve_ready" Gauge "1 when the server is ready: every acknowledged write is visible, and every shard takes writes."
        |s, w| w.value(&[], f64::from(s.app.ready().is_ok()));
    "varve_http_requests_total" Counter "Requests answered, by path and status code."
        |s, w| for (index, count) in s.app.metrics.routes.iter().enumerate() {
            let path = ROUTES.get(index).map_or("other", |route| route.path);
            for (code, counter) in CODES.iter().zip(&count.codes).filter(|(_, counter)| counter.get() > 0) {
                w.value(&[("path", path), ("code", &code.to_string())], counter.get() as f64);
            }
        };
    "varve_http_request_seconds_total" Counter "Time spent on requests, by path."
        |s, w| for (index, count) in s.app.metrics.routes.iter().enumerate().filter(|(_, c)| c.micros.get() > 0) {
            w.value(&[("path", ROUTES.get(index).map_or("other", |route| route.path))], count.micros.get() as f64 / 1e6);
        };
    "varve_http_connections" Gauge "Open connections."
        |s, w| w.value(&[], s.app.metrics.connections.get() as f64);
    "varve_http_connections_refused_total" Counter "Connections refused because `http_connections_max` were open."
        |s, w| w.value(&[], s.app.metrics.connections_refused.get() as f64);
    "varve_http_accepts_failed_total" Counter "Connections that could not be accepted, for want of descriptors for example."
        |s, w| w.value(&[], s.app.metrics.accepts_failed.get() as f64);
    "varve_http_body_bytes" Gauge "Bytes held now for request bodies: as sent, decompressed and decoded, until they are stored."
        |s, w| w.value(&[], s.app.bodies.held() as f64);
    "varve_http_bodies_refused_total" Counter "Requests refused because all bodies together held `bodies_bytes_max`."
        |s, w| w.value(&[], s.app.bodies.refused() as f64);
    "varve_write_seconds" Histogram "Time from a write request's head to its answer, sync included."
        |s, w| w.timing(&s.app.metrics.write_seconds);
    "varve_write_body_bytes_total" Counter "Bytes of write requests as sent."
        |s, w| w.value(&[], s.app.metrics.write_body_bytes.get() as f64);
    "varve_writes_malformed_total" Counter "Write requests that could not be decoded."
        |s, w| w.value(&[], s.app.metrics.writes_malformed.get() as f64);
    "varve_samples_accepted_total" Counter "Samples stored: durable and visible."
        |s, w| w.value(&[], s.app.metrics.samples_accepted.get() as f64);
    "varve_samples_refused_total" Counter "Samples refused, by reason."
        |s, w| for (reason, counter) in REASONS.iter().zip(&s.app.metrics.refused) {
            w.value(&[("reason", reason_word(*reason))], counter.get() as f64);
        };
    "varve_exemplars_accepted_total" Counter "Exemplars stored: durable and visible."
        |s, w| w.value(&[], s.app.metrics.exemplars_accepted.get() as f64);
    "varve_exemplars_dropped_total" Counter "Exemplars refused: too old, too far in the future, too many, or with invalid labels."
        |s, w| w.value(&[], s.app.metrics.exemplars_dropped.get() as f64);
    "varve_metadata_left_out_total" Counter "Metric families whose type, help and unit were not kept: beyond a limit, or not written."
        |s, w| w.value(&[], s.app.metrics.metadata_left_out.get() as f64);
    "varve_otlp_delta_sums" Gauge "Series that OTLP clients send as differences and that have a sum in memory."
        |s, w| w.value(&[], s.app.deltas.figures().0 as f64);
    "varve_otlp_delta_bytes" Gauge "Bytes of these sums."
        |s, w| w.value(&[], s.app.deltas.figures().1 as f64);
    "varve_otlp_delta_samples_left_out_total" Counter "OTLP samples with delta temporality that were left out, by reason."
        |s, w| for (reason, counter) in [
            ("late", &s.app.metrics.deltas_late),
            ("too_far_in_future", &s.app.metrics.deltas_in_future),
            ("too_many", &s.app.metrics.deltas_beyond_limit),
        ] {
            w.value(&[("reason", reason)], counter.get() as f64);
        };
    "varve_shard_queue_bytes" Gauge "Bytes of writes that wait for a shard."
        |s, w| for (index, queue) in s.app.find_store().iter().flat_map(|store| &store.shards).enumerate() {
            w.value(&[("shard", &index.to_string())], queue.waiting_bytes() as f64);
        };
    "varve_series" Gauge "Live series of a shard." |s, w| s.shards(w, |shard| shard.series);
    "varve_series_created_total" Counter "Series created since the start." |s, w| s.shards(w, |shard| shard.series_created);
    "varve_series_dropped_total" Counter "Series dropped from memory since the start." |s, w| s.shards(w, |shard| shard.series_dropped);
    "varve_tenant_series" Gauge "Live series of a tenant; at most the 100 first tenants."
        |s, w| for tenant in s.engine.iter().flat_map(|status| &status.tenants).take(100) {
            w.value(&[("tenant", tenant.name.as_str())], tenant.series as f64);
        };
    "varve_tenants" Gauge "Tenants." |s, w| s.engine(w, |status| status.tenants.len() as u64);
    "varve_head_bytes" Gauge "Memory of a shard's heads." |s, w| s.shards(w, |shard| shard.head_bytes);
    "varve_head_samples" Gauge "Samples in a shard's heads." |s, w| s.shards(w, |shard| shard.head_samples);
    "varve_head_chunks" Gauge "Chunks of a shard's live head." |s, w| s.shards(w, |shard| shard.head_chunks);
    "varve_shard_samples_total" Counter "Samples a shard stored since the start." |s, w| s.shards(w, |shard| shard.samples_accepted);
    "varve_shard_samples_refused_total" Counter "Samples a shard refused since the start." |s, w| s.shards(w, |shard| shard.samples_refused);
    "varve_samples_late_total" Counter "Samples that came behind a newer one of their series." |s, w| s.shards(w, |shard| shard.samples_late);
    "varve_log_appended_bytes_total" Counter "Bytes appended to the log." |s, w| s.shards(w, |shard| shard.log_bytes_appended);
    "varve_log_syncs_total" Counter "Syncs of the log." |s, w| s.shards(w, |shard| shard.syncs);
    "varve_turns_failed_total" Counter "Turns of a shard that failed as a whole: nothing of them was acknowledged." |s, w| s.shards(w, |shard| shard.turns_failed);
    "varve_shards_ended_total" Counter "Shards that a bug has stopped: their writes are answered 503 until a restart, which reads back all that was acknowledged."
        |s, w| w.value(&[], s.app.metrics.shards_ended.get() as f64);
    "varve_log_watermark_offset" Gauge "First offset of a shard's partition that is not applied." |s, w| s.shards(w, |shard| shard.watermark);
    "varve_log_flushed_offset" Gauge "First offset of a shard's partition that is not in a segment." |s, w| s.shards(w, |shard| shard.flushed);
    "varve_log_files" Gauge "Log files of all topics." |s, w| s.engine(w, |status| status.log_files);
    "varve_log_bytes" Gauge "Bytes of log files of all topics." |s, w| s.engine(w, |status| status.log_bytes);
    "varve_log_file_events_total" Counter "What became of log files since the start: `made` of zeros, `recycled` from a spare, `removed` because nothing needs them."
        |s, w| for log in s.engine.iter().map(|status| &status.log) {
            for (event, count) in [("made", log.files_made), ("recycled", log.files_recycled), ("removed", log.files_removed)] {
                w.value(&[("event", event)], count as f64);
            }
        };
    "varve_log_sync_seconds_total" Counter "Time spent in writing and syncing the log, all topics." |s, w| if let Some(status) = &s.engine { w.value(&[], status.log.sync_nanos as f64 / 1e9) };
    "varve_log_failures_total" Counter "Writes and syncs of the log that failed: their batches were not acknowledged." |s, w| s.engine(w, |status| status.log.failures);
    "varve_log_retention_failures_total" Counter "Times that log files of a partition could not be removed; they cost space until the next try." |s, w| s.engine(w, |status| status.log.retention_failures);
    "varve_log_damaged_total" Counter "Places of the log found damaged, at the start and while reading; the messages of the start are in its output." |s, w| s.engine(w, |status| status.log.damaged);
    "varve_log_torn_total" Counter "Unfinished writes at the end of a partition that the start cut; they were never acknowledged." |s, w| s.engine(w, |status| status.log.torn);
    "varve_segments" Gauge "Live segments, by level."
        |s, w| for (level, count) in s.engine.iter().flat_map(|status| status.levels.iter().enumerate()) {
            w.value(&[("level", &level.to_string())], *count as f64);
        };
    "varve_segment_bytes" Gauge "Bytes of live segments." |s, w| s.engine(w, |status| status.segment_bytes);
    "varve_segment_samples" Gauge "Samples in live segments." |s, w| s.engine(w, |status| status.segment_samples);
    "varve_head_exemplars" Gauge "Exemplars in a shard's heads." |s, w| s.shards(w, |shard| shard.head_exemplars);
    "varve_segment_exemplars" Gauge "Exemplars in live segments." |s, w| s.engine(w, |status| status.segment_exemplars);
    "varve_deletions" Gauge "Deletions whose samples are hidden but still in segments." |s, w| s.engine(w, |status| status.deletions);
    "varve_block_cache_bytes" Gauge "Bytes of decoded segment blocks in the cache." |s, w| s.engine(w, |status| status.block_cache.bytes);
    "varve_block_cache_hits_total" Counter "Blocks that a query found in the cache." |s, w| s.engine(w, |status| status.block_cache.hits);
    "varve_block_cache_misses_total" Counter "Blocks that had to be read and decoded." |s, w| s.engine(w, |status| status.block_cache.misses);
    "varve_quarantined_total" Counter "Files set aside because they are damaged." |s, w| s.engine(w, |status| status.quarantined);
    "varve_steps_total" Counter "Background steps run, by name."
        |s, w| for (name, count) in s.engine.iter().flat_map(|status| &status.steps) {
            w.value(&[("step", name)], *count as f64);
        };
    "varve_steps_failed_total" Counter "Background steps that failed; they are tried again."
        |s, w| w.value(&[], s.app.metrics.steps_failed.get() as f64);
    "varve_step_seconds" Histogram "Time a background step took." |s, w| w.timing(&s.app.metrics.step_seconds);
    "varve_query_seconds" Histogram "Time a query took." |s, w| w.timing(&s.app.metrics.query_seconds);
    "varve_query_samples_total" Counter "Samples read by queries." |s, w| w.value(&[], s.app.metrics.query_samples.get() as f64);
    "varve_queries_running" Gauge "Queries in progress."
        |s, w| {
            let max = s.app.settings.limits.concurrent_queries_max as usize;
            w.value(&[], max.saturating_sub(s.app.queries.available_permits()) as f64);
        };
    "varve_query_bytes" Gauge "Memory that all queries hold."
        |s, w| w.value(&[], s.app.query_bytes.load(Ordering::Relaxed) as f64);
    "varve_queries_failed_total" Counter "Queries that ended with an error." |s, w| w.value(&[], s.app.metrics.queries_failed.get() as f64);
    "varve_queries_canceled_total" Counter "Queries whose client left." |s, w| w.value(&[], s.app.metrics.queries_canceled.get() as f64);
    "varve_queries_rejected_total" Counter "Queries refused because `concurrent_queries_max` were running." |s, w| w.value(&[], s.app.metrics.queries_rejected.get() as f64);
    "varve_limit" Gauge "Each limit and its value."
        |s, w| for setting in crate::config::TABLE.iter().filter(|setting| setting.section == "limits") {
            w.value(&[("limit", setting.name)], (setting.show)(&s.app.settings).parse().unwrap_or(f64::NAN));
        };
    "varve_recovery_seconds" Gauge "Time the last start took to read the data directory."
        |s, w| w.value(&[], s.app.metrics.recovery_ms.get() as f64 / 1e3);
    "varve_recovery_samples" Gauge "Samples the last start read back from the log."
        |s, w| w.value(&[], s.app.metrics.samples_replayed.get() as f64);
    "varve_recovery_reports" Gauge "What the last start found damaged or cut; the messages are in its output."
        |s, w| w.value(&[], s.app.metrics.recovery_reports.get() as f64);
    "varve_self_scrapes_failed_total" Counter "Self scrapes that could not be stored."
        |s, w| w.value(&[], s.app.metrics.self_scrapes_failed.get() as f64);
    "process_cpu_seconds_total" Counter "User and system time of the process." |s, w| w.value(&[], s.process.cpu_seconds);
    "process_resident_memory_bytes" Gauge "Resident memory of the process." |s, w| w.value(&[], s.process.resident_bytes as f64);
    "process_virtual_memory_bytes" Gauge "Virtual memory of the process." |s, w| w.value(&[], s.process.virtual_bytes as f64);
    "process_open_fds" Gauge "Open descriptors." |s, w| w.value(&[], s.process.open_files as f64);
    "process_max_fds" Gauge "Limit on open descriptors." |s, w| w.value(&[], s.process.open_files_max as f64);
    "process_start_time_seconds" Gauge "Start of the process since 1970." |s, w| w.value(&[], s.app.metrics.started_seconds);
}

/// All metrics in the text exposition format.
pub fn exposition(app: &App) -> Vec<u8> {
    let engine = app.find_store().map(|store| store.engine.status());
    let sources = Sources { app, engine, process: process::figures() };
    let mut out = Vec::with_capacity(16 << 10);
    for metric in TABLE {
        let behaviour = match metric.behaviour {
            Behaviour::Counter => "counter",
            Behaviour::Gauge => "gauge",
            Behaviour::Histogram => "histogram",
        };
        out.extend_from_slice(format!("# HELP {0} {1}\n# TYPE {0} {behaviour}\n", metric.name, metric.help).as_bytes());
        (metric.sample)(&sources, &mut Writer { name: metric.name, out: &mut out });
    }
    out
}

/// The metrics as rows of `docs/operations.md`; a test keeps the file equal to this.
pub fn markdown() -> String {
    let rows = TABLE.iter().map(|metric| {
        let behaviour = format!("{:?}", metric.behaviour).to_ascii_lowercase();
        format!("| `{}` | {behaviour} | {} |\n", metric.name, metric.help)
    });
    format!("| metric | kind | meaning |\n|---|---|---|\n{}", rows.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a test that reads and, when asked, writes a document of the source tree"
    )]
    fn operations_md_has_the_table_of_metrics() {
        const BEGIN: &str = "<!-- metrics: written by `UPDATE_DOCS=1 cargo test -p varve-server --lib metrics` -->\n";
        const END: &str = "<!-- end of metrics -->";
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
        let found = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = found.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let expected = format!("{before}{BEGIN}{}{END}{after}", markdown());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap();
        assert!(
            found == expected,
            "docs/operations.md is out of date; run `UPDATE_DOCS=1 cargo test -p varve-server --lib metrics`"
        );
    }

    #[test]
    fn names_are_unique_and_carry_their_unit() {
        let mut names: Vec<&str> = TABLE.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
        for metric in TABLE {
            assert_eq!(metric.behaviour == Behaviour::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn a_timing_is_a_cumulative_histogram() {
        let timing = Timing::default();
        timing.observe(0.0007);
        timing.observe(100.0);
        let mut out = Vec::new();
        Writer { name: "x", out: &mut out }.timing(&timing);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("x_bucket{le=\"0.0005\"} 0\n"), "{text}");
        assert!(text.contains("x_bucket{le=\"0.001\"} 1\n"), "{text}");
        assert!(text.contains("x_bucket{le=\"30\"} 1\n"), "{text}");
        assert!(text.contains("x_bucket{le=\"+Inf\"} 2\n"), "{text}");
        assert!(text.contains("x_count 2\n"), "{text}");
    }
}
