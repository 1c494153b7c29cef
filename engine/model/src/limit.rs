//! Every limit of the write path and of queries: name, default, setting, and what refuses a single sample.
//!
//! A limit that is exceeded by a whole request is an error of the request; one that is exceeded by a sample or a
//! series refuses just that ([`RefusalReason`]), never its neighbours.

/// How errors name a limit where the name decides the answer: the key of its setting. Who refuses and who answers share
/// it, so that they cannot disagree.
pub mod setting {
    /// [`Limits::tenants_max`](super::Limits::tenants_max)
    pub const TENANTS_MAX: &str = "limits.tenants_max";
    /// [`Limits::head_bytes_max`](super::Limits::head_bytes_max)
    pub const HEAD_BYTES_MAX: &str = "limits.head_bytes_max";
    /// [`Limits::query_series_max`](super::Limits::query_series_max)
    pub const QUERY_SERIES_MAX: &str = "limits.query_series_max";
    /// [`Limits::query_exemplars_max`](super::Limits::query_exemplars_max)
    pub const QUERY_EXEMPLARS_MAX: &str = "limits.query_exemplars_max";
    /// [`Limits::deletions_max`](super::Limits::deletions_max)
    pub const DELETIONS_MAX: &str = "limits.deletions_max";
    /// All of them.
    pub const ALL: [&str; 5] = [TENANTS_MAX, HEAD_BYTES_MAX, QUERY_SERIES_MAX, QUERY_EXEMPLARS_MAX, DELETIONS_MAX];
}

/// Limits with their defaults. Field names are the setting names (`--limit-…`, `VARVE_LIMIT_…`, TOML `[limits]`).
#[derive(Clone, PartialEq, Debug)]
pub struct Limits {
    /// Bytes of a request body as sent.
    pub body_bytes_max: u64,
    /// Bytes of a request body after decompression.
    pub decompressed_bytes_max: u64,
    /// Bytes that all request bodies may hold together.
    pub bodies_bytes_max: u64,
    /// Series in one write request.
    pub series_per_request_max: u32,
    /// Labels of one series.
    pub labels_per_series_max: u32,
    /// Bytes of a label name.
    pub label_name_bytes_max: u32,
    /// Bytes of a label value.
    pub label_value_bytes_max: u32,
    /// Buckets, spans and custom bounds of one histogram together.
    pub histogram_buckets_max: u32,
    /// Live series of one tenant.
    pub series_per_tenant_max: u64,
    /// Live series in all.
    pub series_max: u64,
    /// Tenants.
    pub tenants_max: u32,
    /// Milliseconds a timestamp may lie in the future.
    pub future_ms_max: i64,
    /// Bytes of all heads before writes are answered 503.
    pub head_bytes_max: u64,
    /// Bytes that wait in the queue of one shard before writes are answered 503.
    pub queue_bytes_max: u64,
    /// Write requests in progress.
    pub concurrent_writes_max: u32,
    /// Queries in progress.
    pub concurrent_queries_max: u32,
    /// Samples one query may read.
    pub query_samples_max: u64,
    /// Series one query may select.
    pub query_series_max: u64,
    /// Steps of a range query.
    pub query_steps_max: u64,
    /// Steps of one subquery, over the whole query.
    pub query_subquery_steps_max: u64,
    /// Points in one answer.
    pub query_points_max: u64,
    /// Bytes one query may hold.
    pub query_bytes_max: u64,
    /// Bytes all queries may hold together.
    pub queries_bytes_max: u64,
    /// Milliseconds a query may take.
    pub query_ms_max: u64,
    /// Samples in the answer to a remote read that asks for samples.
    pub remote_read_samples_max: u64,
    /// Bytes of a frame in the answer to a remote read that asks for chunks.
    pub remote_read_frame_bytes_max: u32,
    /// Bytes of a query text.
    pub query_text_bytes_max: u32,
    /// Bytes of a compiled regular expression.
    pub regex_bytes_max: u32,
    /// Metric families whose metadata is kept, per tenant.
    pub metadata_per_tenant_max: u32,
    /// Bytes of the name, help and unit of one metric family.
    pub metadata_bytes_per_family_max: u32,
    /// Bytes of all of them, per tenant.
    pub metadata_bytes_per_tenant_max: u64,
    /// Bytes of all of them, of all tenants.
    pub metadata_bytes_max: u64,
    /// Exemplars of one series that wait in memory for their flush.
    pub exemplars_per_series_max: u32,
    /// Exemplars of one tenant that wait in memory for their flush, per shard.
    pub exemplars_per_tenant_max: u32,
    /// Characters of an exemplar's label names and values together.
    pub exemplar_label_chars_max: u32,
    /// Exemplars in one answer.
    pub query_exemplars_max: u64,
    /// Deletions of a shard whose samples wait to be removed from its segments.
    pub deletions_max: u32,
    /// Bytes of one deletion's matchers: it is held in memory and looked up in each segment until it is done with.
    pub deletion_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes_max: 32 << 20,
            decompressed_bytes_max: 128 << 20,
            bodies_bytes_max: 512 << 20,
            series_per_request_max: 500_000,
            labels_per_series_max: 64,
            label_name_bytes_max: 1024,
            label_value_bytes_max: 4096,
            histogram_buckets_max: 65_536,
            series_per_tenant_max: 2_000_000,
            series_max: 5_000_000,
            tenants_max: 10_000,
            future_ms_max: 600_000,
            head_bytes_max: 1 << 30,
            queue_bytes_max: 64 << 20,
            concurrent_writes_max: 64,
            concurrent_queries_max: 20,
            query_samples_max: 500_000_000,
            query_series_max: 1_000_000,
            query_steps_max: 11_000,
            query_subquery_steps_max: 1_000_000,
            query_points_max: 20_000_000,
            query_bytes_max: 1 << 30,
            queries_bytes_max: 2 << 30,
            query_ms_max: 120_000,
            remote_read_samples_max: 50_000_000,
            remote_read_frame_bytes_max: 1 << 20,
            query_text_bytes_max: 1 << 20,
            regex_bytes_max: 4 << 20,
            metadata_per_tenant_max: 50_000,
            metadata_bytes_per_family_max: 16 << 10,
            metadata_bytes_per_tenant_max: 16 << 20,
            metadata_bytes_max: 64 << 20,
            exemplars_per_series_max: 1_000,
            exemplars_per_tenant_max: 100_000,
            exemplar_label_chars_max: 128,
            query_exemplars_max: 100_000,
            deletions_max: 1_000,
            deletion_bytes_max: 16 << 10,
        }
    }
}

/// Why one sample, or all samples of one series, were refused while their neighbours were stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RefusalReason {
    /// The label bytes cannot be read, a name or value is not UTF-8, a name is empty or occurs twice.
    InvalidLabels,
    /// No `__name__`, or no label at all.
    NoName,
    /// More labels than `labels_per_series_max`.
    TooManyLabels,
    /// A name longer than `label_name_bytes_max`.
    LabelNameTooLong,
    /// A value longer than `label_value_bytes_max`.
    LabelValueTooLong,
    /// A new series beyond `series_per_tenant_max` or `series_max`.
    TooManySeries,
    /// A timestamp more than `future_ms_max` ahead of the clock.
    TooFarInFuture,
    /// A timestamp older than retention keeps.
    TooOld,
    /// A histogram that contradicts itself.
    InvalidHistogram,
    /// A histogram with more buckets, spans and bounds than `histogram_buckets_max`.
    HistogramTooLarge,
    /// An exemplar beyond `exemplars_per_series_max` or `exemplars_per_tenant_max`: it may be sent again after the next
    /// flush.
    TooManyExemplars,
    /// An exemplar whose labels have more characters than `exemplar_label_chars_max`.
    ExemplarLabelsTooLong,
}

impl RefusalReason {
    /// Whether it is said of one sample; the others are said of a series and so of all its samples, or of an exemplar.
    pub fn is_of_a_sample(self) -> bool {
        use RefusalReason::{HistogramTooLarge, InvalidHistogram, TooFarInFuture, TooOld};
        matches!(self, TooFarInFuture | TooOld | InvalidHistogram | HistogramTooLarge)
    }
}
