//! Settings of the log as a whole; those of a topic stand in [`crate::TopicSettings`].

use std::path::PathBuf;

use crate::error::{Error, Result};

/// How the log works.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogSettings {
    /// Where damaged bytes are copied. `None`: `quarantine` beside the log's directory.
    pub quarantine_dir: Option<PathBuf>,
    /// Damaged bytes copied there at one opening at most, in bytes. Default 64 MiB.
    pub quarantine_bytes_max: u64,
    /// Largest payload of a batch in bytes, up to 1 GiB. Default 64 MiB.
    pub batch_bytes_max: u64,
    /// Size of a log file of committed offsets in bytes, 1 KiB to 1 GiB. Default 256 KiB.
    pub offsets_file_bytes: u64,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings {
            quarantine_dir: None,
            quarantine_bytes_max: 64 << 20,
            batch_bytes_max: 64 << 20,
            offsets_file_bytes: 256 << 10,
        }
    }
}

impl LogSettings {
    /// Whether every value is in its range.
    pub fn check(&self) -> Result<()> {
        if self.batch_bytes_max == 0 || self.batch_bytes_max > 1 << 30 {
            return Err(Error::Setting { setting: "batch_bytes_max", got: self.batch_bytes_max, must: "1 to 1 GiB" });
        }
        let got = self.offsets_file_bytes;
        if !(1 << 10..=1 << 30).contains(&got) || !got.is_multiple_of(8) {
            return Err(Error::Setting { setting: "offsets_file_bytes", got, must: "1 KiB to 1 GiB, a multiple of 8" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_both_bounds() {
        assert!(LogSettings::default().check().is_ok());
        for offsets_file_bytes in [0, 1 << 9, (1 << 10) + 1, (1 << 30) + 8, u64::MAX - 7] {
            assert!(LogSettings { offsets_file_bytes, ..LogSettings::default() }.check().is_err());
        }
        for batch_bytes_max in [0, (1 << 30) + 1] {
            assert!(LogSettings { batch_bytes_max, ..LogSettings::default() }.check().is_err());
        }
    }
}
