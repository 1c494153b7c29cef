//! EngineStatus: what the engine can say about itself, for `/metrics` and `status/tsdb`; Recovery: what opening found.

use std::path::PathBuf;

use varve_model::{Millis, TenantId, TenantName};

/// The engine at one moment.
#[derive(Clone, Debug, Default)]
pub struct EngineStatus {
    /// Per shard, in order of partitions.
    pub shards: Vec<ShardStatus>,
    /// Per tenant, in order of ids.
    pub tenants: Vec<TenantStatus>,
    /// Live segments.
    pub segments: u64,
    /// Bytes of live segments.
    pub segment_bytes: u64,
    /// Samples in live segments.
    pub segment_samples: u64,
    /// Exemplars in live segments.
    pub segment_exemplars: u64,
    /// Figures of the cache of segment blocks.
    pub block_cache: crate::segment::cache::CacheStatus,
    /// Segments per level, index = level.
    pub levels: Vec<u64>,
    /// Segments moved to quarantine since the engine was opened.
    pub quarantined: u64,
    /// Steps run since the engine was opened, by name.
    pub steps: Vec<(&'static str, u64)>,
    /// Deletions whose samples are hidden but still in segments.
    pub deletions: u64,
    /// Steps that failed since the engine was opened.
    pub steps_failed: u64,
    /// Log files over all topics.
    pub log_files: u64,
    /// Bytes of log files over all topics.
    pub log_bytes: u64,
    /// What the log has counted since the engine was opened.
    pub log: varve_wal::Counts,
}

/// One shard.
#[derive(Clone, Debug, Default)]
pub struct ShardStatus {
    /// Its partition.
    pub partition: u32,
    /// Series in its table (live series).
    pub series: u64,
    /// Series ever created since the engine was opened.
    pub series_created: u64,
    /// Series dropped from the table since the engine was opened.
    pub series_dropped: u64,
    /// Bytes of head data, frozen heads included.
    pub head_bytes: u64,
    /// Samples in the live head and frozen heads.
    pub head_samples: u64,
    /// Closed and open chunks of the live head.
    pub head_chunks: u64,
    /// Bytes of the label index and of the table of live series, label texts apart.
    pub index_bytes: u64,
    /// Samples accepted since the engine was opened.
    pub samples_accepted: u64,
    /// Samples refused since the engine was opened.
    pub samples_refused: u64,
    /// Samples that came behind a newer one of their series since the engine was opened.
    pub samples_late: u64,
    /// Exemplars accepted since the engine was opened.
    pub exemplars_accepted: u64,
    /// Exemplars in the live head and frozen heads.
    pub head_exemplars: u64,
    /// Log bytes appended since the engine was opened.
    pub log_bytes_appended: u64,
    /// Syncs since the engine was opened.
    pub syncs: u64,
    /// Turns that failed as a whole since the engine was opened.
    pub turns_failed: u64,
    /// Oldest sample of the live head; `None` when empty.
    pub min_time: Option<Millis>,
    /// Newest sample of the live head.
    pub max_time: Option<Millis>,
    /// First offset not yet applied.
    pub watermark: u64,
    /// First offset not yet in a segment.
    pub flushed: u64,
}

/// One tenant.
#[derive(Clone, Debug)]
pub struct TenantStatus {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    pub name: TenantName,
    /// Its live series.
    pub series: u64,
    /// Its newest sample; `None` when it never wrote.
    pub newest: Option<Millis>,
}

/// What opening a data directory found and did.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Samples read back from the log into heads.
    pub samples_replayed: u64,
    /// Series in the heads.
    pub series: u64,
    /// Segments opened.
    pub segments: u64,
    /// Files that nobody named and that were deleted.
    pub orphans: u64,
    /// Everything that was damaged, cut or quarantined, a sentence each.
    pub reports: Vec<String>,
    /// Milliseconds it took, by the environment's monotonic clock.
    pub elapsed_ms: u64,
}

/// Damage that [`crate::check()`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub at: u64,
    /// What is wrong.
    pub what: String,
}

/// Where a tenant's series go: the answer of `status/tsdb`. Each list has the biggest first.
#[derive(Clone, Debug, Default)]
pub struct Cardinality {
    /// Series in heads and segments that overlap the heads.
    pub series: u64,
    /// Distinct label names.
    pub label_names: u64,
    /// Distinct name/value pairs.
    pub label_pairs: u64,
    /// Series by metric name.
    pub by_metric: Vec<(String, u64)>,
    /// Distinct values by label name.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes of values by label name.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Series by `name=value`.
    pub by_pair: Vec<(String, u64)>,
}
