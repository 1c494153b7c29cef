//! What can go wrong in the engine, cut by what the caller does about it.

use std::io;
use std::path::{Path, PathBuf};

/// Errors of the engine. Clone-free on purpose: a turn that fails hands each request its own text by [`Error::again`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes on disk are not what was written. The rest is still served.
    #[error("{path}: damaged at byte {at}: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        what: String,
    },
    /// The directory or file was made by another version.
    #[error("{path}: format version {found}; this build reads {oldest} to {newest}")]
    Version {
        /// The file or directory.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Oldest version that can be read.
        oldest: u32,
        /// Newest version that can be read.
        newest: u32,
    },
    /// A limit of ours; the message names the setting that moves it. Try again later or raise it.
    #[error("{limit} of {max} reached ({got}); raise `{setting}` to allow more")]
    Limit {
        /// What is limited.
        limit: &'static str,
        /// The limit.
        max: u64,
        /// What was asked for or is there.
        got: u64,
        /// The setting that moves it.
        setting: &'static str,
    },
    /// The disk is full. Nothing acknowledged is lost; writes resume when space returns.
    #[error("disk full while {doing} {path}")]
    Full {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The operating system refused; `path` and `doing` say where.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the data directory open.
    #[error("data directory {path} is in use by another process{}; stop it or use another directory",
            pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The process that wrote the lock file last.
        pid: Option<u32>,
    },
    /// A setting has a value that cannot work, or contradicts the data directory.
    #[error("setting `{setting}`: {what}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The log refused: the write is not acknowledged and not applied; later writes may succeed.
    #[error("{0}")]
    Log(String),
}

/// What the engine's functions return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Wraps an operating system error; a full disk becomes [`Error::Full`].
    pub fn io(doing: &'static str, path: &Path, source: io::Error) -> Error {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { doing, path, source },
            _ => Error::Io { doing, path, source },
        }
    }

    /// The same error once more, for the other requests of a turn that failed as a whole.
    pub fn again(&self) -> Error {
        let same = |source: &io::Error| io::Error::new(source.kind(), source.to_string());
        match self {
            Error::Damaged { path, at, what } => Error::Damaged { path: path.clone(), at: *at, what: what.clone() },
            Error::Version { path, found, oldest, newest } => {
                Error::Version { path: path.clone(), found: *found, oldest: *oldest, newest: *newest }
            }
            Error::Limit { limit, max, got, setting } => Error::Limit { limit, max: *max, got: *got, setting },
            Error::Full { doing, path, source } => Error::Full { doing, path: path.clone(), source: same(source) },
            Error::Io { doing, path, source } => Error::Io { doing, path: path.clone(), source: same(source) },
            Error::Locked { path, pid } => Error::Locked { path: path.clone(), pid: *pid },
            Error::Setting { setting, what } => Error::Setting { setting, what: what.clone() },
            Error::Log(text) => Error::Log(text.clone()),
        }
    }
}

impl From<varve_wal::Error> for Error {
    fn from(error: varve_wal::Error) -> Error {
        match error {
            varve_wal::Error::Full { path, source } => Error::Full { doing: "writing", path, source },
            varve_wal::Error::Io { doing, path, source } => Error::Io { doing, path, source },
            varve_wal::Error::Limit { limit, max, got, setting } => Error::Limit { limit, max, got, setting },
            varve_wal::Error::Version { path, found, newest } => {
                Error::Version { path, found: found.into(), oldest: 1, newest: newest.into() }
            }
            other => Error::Log(other.to_string()),
        }
    }
}
