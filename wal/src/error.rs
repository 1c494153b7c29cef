//! What can go wrong in the log, cut by what is left to do. Damage at rest is no error: it is reported and skipped.

use std::io;
use std::path::{Path, PathBuf};

use crate::topic::{PartitionId, TopicName};

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk is full. Nothing acknowledged is lost; writes resume when space returns.
    #[error("disk full while writing {path}; free space and write again")]
    Full {
        /// The file that needed space.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The operating system refused; the file concerned is not written again.
    #[error("{doing} {path}: {source}")]
    Io {
        /// The operation.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A limit of ours; the message names the setting that moves it.
    #[error("{limit} of {max} reached ({got}); raise `{setting}` to allow more")]
    Limit {
        /// What is limited.
        limit: &'static str,
        /// The limit.
        max: u64,
        /// What was asked for.
        got: u64,
        /// The setting that moves the limit.
        setting: &'static str,
    },
    /// A name of a topic or group breaks the rules.
    #[error("{name:?} is no name for a {what}: {rule}")]
    Name {
        /// Topic or group.
        what: &'static str,
        /// The name.
        name: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A setting is out of its range.
    #[error("setting `{setting}` is {got}; it must be {must}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        got: u64,
        /// Its range.
        must: &'static str,
    },
    /// There is no such topic or partition.
    #[error("no partition {partition} of topic {topic}")]
    Unknown {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
    },
    /// The topic exists with another number of partitions, which is fixed when it is made.
    #[error("topic {topic} has {have} partitions, not {asked}; their number is fixed when the topic is made")]
    Partitions {
        /// The topic.
        topic: TopicName,
        /// Partitions it has.
        have: u32,
        /// Partitions asked for.
        asked: u32,
    },
    /// The partition has its one writer already.
    #[error("partition {partition} of topic {topic} has a writer already")]
    Taken {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
    },
    /// The file was made by another version.
    #[error("{path}: format version {found}; this build reads up to {newest}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The newest this build reads.
        newest: u16,
    },
}

impl Error {
    /// An error of the operating system, cut by what is left to do.
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Error {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { path, source },
            _ => Error::Io { doing, path, source },
        }
    }

    /// Whether the disk is full: worth another try when space returns.
    pub fn is_full(&self) -> bool {
        matches!(self, Error::Full { .. })
    }
}
