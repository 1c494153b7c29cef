//! Budget: the bytes a decoded request may take, so that two bytes on the wire which become two hundred in memory
//! cannot be sent by the million.
//!
//! Legitimate bodies decode to about their own size (a sample is 18 bytes on the wire, 16 decoded), so the limit of
//! decompression, `decompressed_bytes_max`, is the limit here as well and no second setting is needed. What is
//! counted is what the vectors hold; as they grow by doubling they take at most twice that.

use crate::Error;

pub(crate) struct Budget {
    left: u64,
    max: u64,
}

impl Budget {
    pub(crate) fn new(bytes_max: u64) -> Budget {
        Budget { left: bytes_max, max: bytes_max }
    }

    /// Called before the memory is taken.
    #[inline]
    pub(crate) fn spend(&mut self, bytes: usize) -> Result<(), Error> {
        match self.left.checked_sub(bytes as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.exceeded(bytes)),
        }
    }

    #[cold]
    fn exceeded(&self, bytes: usize) -> Error {
        Error::Limit {
            limit: "bytes of the decoded request",
            max: self.max,
            got: (self.max - self.left).saturating_add(bytes as u64),
            setting: "decompressed_bytes_max",
        }
    }
}
