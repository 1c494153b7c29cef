//! What can be wrong with a request body, cut by what its sender can do about it.

/// What is wrong with bytes from the wire. Nothing of the request was taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A limit of ours; the message names the setting that moves it.
    #[error("{limit} of {max} exceeded ({got}); raise `{setting}` to allow more")]
    Limit {
        /// What is limited.
        limit: &'static str,
        /// The limit.
        max: u64,
        /// What the request holds at least: counting ends with the first one too many.
        got: u64,
        /// Name of the setting.
        setting: &'static str,
    },
    /// The compressed form cannot be read.
    #[error("malformed {encoding} body: {what}")]
    Compressed {
        /// `snappy`, `gzip` or `zstd`.
        encoding: &'static str,
        /// What the decompressor says.
        what: String,
    },
    /// The protobuf message cannot be read.
    #[error("malformed protobuf at byte {at} of the decompressed body: {what}")]
    Malformed {
        /// What is wrong there.
        what: &'static str,
        /// Byte in the decompressed body, from 0.
        at: u64,
    },
    /// The text cannot be read.
    #[error("line {line}: {what}")]
    Text {
        /// Line, from 1.
        line: u64,
        /// What is wrong there.
        what: String,
    },
}
