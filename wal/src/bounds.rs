//! Bounds: two small files in a partition's directory that say which log files must be there, so that the loss of the
//! first or the last one is seen too. A gap in the middle shows by itself.
//!
//! ```text
//! oldest, newest := 0 "VARVEOLD" or "VARVENEW"  8 u64 base offset  16 u32 crc of 0..16  20 zero
//! ```
//!
//! * `newest` is written behind a roll: a log file with at least this base exists. A stale one claims less.
//! * `oldest` is written before retention removes anything: log files below this base may be gone.
//! * A bound that cannot be read claims nothing.

use std::path::Path;

use varve_vfs::{Env, Open};

use crate::batch::OFFSET_MAX;
use crate::error::{Error, Result};
use crate::wire;

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bound {
    Oldest,
    Newest,
}

const BYTES: usize = 24;

impl Bound {
    pub(crate) const ALL: [Bound; 2] = [Bound::Oldest, Bound::Newest];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Bound::Oldest => "oldest",
            Bound::Newest => "newest",
        }
    }

    fn magic(self) -> &'static [u8; 8] {
        match self {
            Bound::Oldest => b"VARVEOLD",
            Bound::Newest => b"VARVENEW",
        }
    }

    pub(crate) fn decode(self, bytes: &[u8]) -> Option<u64> {
        if bytes.get(..8)? != self.magic() || wire::u32_at(bytes, 16)? != crc32fast::hash(bytes.get(..16)?) {
            return None;
        }
        wire::u64_at(bytes, 8).filter(|base| *base <= OFFSET_MAX)
    }

    /// The bound kept in a partition's directory.
    pub(crate) fn read(self, env: &Env, dir: &Path) -> Option<u64> {
        let file = env.vfs.open(&dir.join(self.name()), Open::Read).ok()?;
        let mut bytes = [0; BYTES];
        file.read_at(&mut bytes, 0).ok()?;
        self.decode(&bytes)
    }

    /// Makes a bound durable: in place, for a torn one claims nothing and a full disk still takes it.
    pub(crate) fn write(self, env: &Env, dir: &Path, base: u64) -> Result<()> {
        let path = dir.join(self.name());
        let mut bytes = [0; BYTES];
        wire::put(&mut bytes, 0, self.magic());
        wire::put(&mut bytes, 8, &base.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..16]);
        wire::put(&mut bytes, 16, &crc.to_le_bytes());
        let (file, created) = match env.vfs.open(&path, Open::Write) {
            Ok(file) => (file, false),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (env.vfs.open(&path, Open::Create).map_err(|error| Error::io("create", &path, error))?, true)
            }
            Err(error) => return Err(Error::io("open", &path, error)),
        };
        file.write_at(&bytes, 0).map_err(|error| Error::io("write", &path, error))?;
        file.sync().map_err(|error| Error::io("sync", &path, error))?;
        if created {
            env.vfs.sync_dir(dir).map_err(|error| Error::io("sync", dir, error))?;
        }
        Ok(())
    }
}
