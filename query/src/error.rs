//! What can go wrong with a query, cut by what the caller answers.

/// Errors of parsing and running queries.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not a query: `bad_data`, 400. The text is Prometheus's where it has one.
    #[error("{0}")]
    Parse(String),
    /// The query cannot be evaluated on this data: `execution`, 422.
    #[error("{0}")]
    Execution(String),
    /// A limit of ours was reached: `execution`, 422.
    #[error("query exceeds {limit} of {max}; narrow it or raise `{setting}`")]
    Limit {
        /// What is limited.
        limit: &'static str,
        /// The limit.
        max: u64,
        /// The setting that moves it.
        setting: &'static str,
    },
    /// It took too long: `timeout`, 503.
    #[error("query timed out in {0}")]
    Timeout(&'static str),
    /// The caller went away: `canceled`, 499 or 503.
    #[error("query was canceled in {0}")]
    Canceled(&'static str),
    /// Stored data could not be read: `internal`, 500.
    #[error("{0}")]
    Storage(String),
}
