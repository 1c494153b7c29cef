//! EngineSettings: what two users would want different of the engine, with units, ranges and defaults.

use crate::error::{Error, Result};

/// Settings of the engine. Field names are the setting names.
#[derive(Clone, PartialEq, Debug)]
pub struct EngineSettings {
    /// Shards of a new data directory (1 to 256). It is data: an existing directory keeps the number it was made with.
    pub partitions: u32,
    /// Bytes of head data, over all shards, at which heads are flushed to segments.
    pub flush_bytes: u64,
    /// Age in milliseconds of the oldest unflushed data at which a head is flushed.
    pub flush_ms: i64,
    /// Samples older than this many milliseconds are removed; 0 keeps them for ever.
    pub retention_ms: i64,
    /// Bytes of segments beyond which the oldest are removed; 0 sets no bound.
    pub retention_bytes: u64,
    /// Bytes of decoded segment blocks kept for queries.
    pub block_cache_bytes: u64,
    /// Bytes of one log file of the metrics topic.
    pub log_file_bytes: u64,
    /// Milliseconds for which log files are kept for consumers after they were flushed; 0 removes them at once.
    pub log_retention_ms: i64,
    /// Threads that read the log back when the directory is opened; each takes whole partitions.
    pub replay_threads: u32,
}

impl Default for EngineSettings {
    fn default() -> EngineSettings {
        EngineSettings {
            partitions: 2,
            flush_bytes: 96 << 20,
            flush_ms: 600_000,
            retention_ms: 30 * 86_400_000,
            retention_bytes: 0,
            block_cache_bytes: 64 << 20,
            log_file_bytes: 16 << 20,
            log_retention_ms: 0,
            replay_threads: 8,
        }
    }
}

impl EngineSettings {
    /// Says which setting cannot work and why.
    pub fn check(&self) -> Result<()> {
        let fault = |setting, what: &str| Err(Error::Setting { setting, what: what.to_owned() });
        if self.partitions == 0 || self.partitions > 256 {
            return fault("partitions", "must be 1 to 256");
        }
        if self.flush_bytes < 64 << 10 {
            return fault("flush_bytes", "must be at least 65536");
        }
        if self.flush_ms < 1000 {
            return fault("flush_ms", "must be at least 1000");
        }
        if self.retention_ms < 0 || (self.retention_ms > 0 && self.retention_ms < 60_000) {
            return fault("retention_ms", "must be 0 or at least 60000");
        }
        if self.log_retention_ms < 0 {
            return fault("log_retention_ms", "must not be negative");
        }
        if self.log_file_bytes < 4 << 10 || self.log_file_bytes > 1 << 30 {
            return fault("log_file_bytes", "must be 4096 to 1073741824");
        }
        Ok(())
    }
}
