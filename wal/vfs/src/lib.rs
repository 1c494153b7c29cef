//! The seam: everything Varve's log and engine need from the machine, and nothing else.
//!
//! [`Env`] carries files ([`Vfs`], [`File`]), time ([`Clock`]) and a seed. The floors above do no I/O, read no clock
//! and draw no random number but through it, so that the engine that ships is the engine that is simulated:
//! [`os`] is the real machine, `sim` (feature `sim`) a disk that forgets, tears, fills and rots by seed.

#[cfg(feature = "sim")]
pub mod fault;
mod map;
pub mod os;
#[cfg(feature = "sim")]
pub mod sim;

use std::fmt::Debug;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Wall-clock time in nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Nanos(pub i64);

/// The machine as the floors above see it: files, clock, seed.
#[derive(Clone, Debug)]
pub struct Env {
    /// Files and directories.
    pub vfs: Arc<dyn Vfs>,
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Seed of every random choice (file salts); fixed in a simulation, drawn once per process on a real machine.
    pub seed: u64,
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Open {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; it must not exist yet. The name is durable only after [`Vfs::sync_dir`].
    Create,
}

/// Files and directories of one machine.
pub trait Vfs: Send + Sync + Debug {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>>;
    /// Names in a directory, sorted; subdirectories included, without a trailing slash.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Renames a file, replacing what stood there. Durable after [`Vfs::sync_dir`] of both directories.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after [`Vfs::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory and its missing parents; no error when it exists.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the directory's entries durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock of a directory through the file `path`; held until the value is dropped.
    /// `ErrorKind::WouldBlock` when another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
}

/// A held directory lock; released on drop.
pub trait Lock: Send + Sync + Debug {}

/// An open file. Positional, so that many threads may share it.
pub trait File: Send + Sync + Debug {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `buf` from byte `at`: all of it or an error (`UnexpectedEof` past the end).
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all of `buf` at byte `at`, or an error. Durable after [`File::sync`].
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()>;
    /// Makes written data durable. An error is final for this handle: nothing may be retried on it.
    fn sync(&self) -> io::Result<()>;
    /// Maps the whole file. Sealed files only: they never change again. A disk error under a map kills the
    /// process, so only short-lived tools map; the server reads with [`File::read_at`].
    fn map(&self) -> io::Result<Map>;
}

/// The bytes of a sealed file: a memory map on a real disk, a copy in the simulator.
pub struct Map(pub Box<dyn Deref<Target = [u8]> + Send + Sync>);

impl Deref for Map {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Map({} bytes)", self.len())
    }
}

/// Wall and monotonic time.
pub trait Clock: Send + Sync + Debug {
    /// Wall-clock time; may jump.
    fn wall(&self) -> Nanos;
    /// Monotonic time since an arbitrary beginning.
    fn elapsed(&self) -> Duration;
}
