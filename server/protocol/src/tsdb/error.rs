//! What can be wrong with a file of Prometheus's storage.

/// What is wrong with a file; the caller knows its name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not what was written.
    #[error("damaged at byte {at}: {what}")]
    Damaged {
        /// Byte in the file, from 0.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The file was made by a version of Prometheus that came later than what is understood here.
    #[error("{what} {found} is newer than what is understood here (up to {newest})")]
    Newer {
        /// What has a version.
        what: &'static str,
        /// The version found.
        found: u64,
        /// The newest understood.
        newest: u64,
    },
}

impl Error {
    /// A damage at a byte.
    pub(super) fn damaged(at: usize, what: &'static str) -> Error {
        Error::Damaged { at: at as u64, what }
    }
}
