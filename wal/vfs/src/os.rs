//! The machine as it is: files of the operating system, its clocks, a lock by `flock`.
//!
//! One idea: every trait method is one system call with nothing around it, so that what is simulated is what ships.
//!
//! Invariants:
//! * A file whose sync failed once is dead: every later write and sync on that handle fails. The kernel may have
//!   dropped the dirty pages and marked them clean, so a second sync that succeeds would mean nothing.
//! * A directory lock lives as long as the value; the file keeps the holder's process id for the message.

#![expect(clippy::disallowed_methods, reason = "the one place that touches the disk and reads the clocks")]

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};

use crate::{Clock, Env, File, Lock, Map, Nanos, Open, Vfs};

impl Env {
    /// The real machine: its disk, its clocks, and a seed drawn now.
    pub fn os() -> Env {
        // RandomState is seeded by the operating system: the one draw of randomness outside a simulation.
        let seed = RandomState::new().build_hasher().finish();
        Env { vfs: Arc::new(OsVfs), clock: Arc::new(OsClock { start: Instant::now() }), seed }
    }
}

/// Files of the operating system.
#[derive(Debug)]
pub struct OsVfs;

impl Vfs for OsVfs {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => {}
            Open::Write => {
                options.write(true);
            }
            Open::Create => {
                options.write(true).create_new(true);
            }
        }
        let file = options.open(path)?;
        Ok(Arc::new(OsFile { file, dead: AtomicBool::new(false) }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let known = (&file).take(20).read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
                let holder = if known { holder.trim() } else { "unknown" };
                return Err(io::Error::new(io::ErrorKind::WouldBlock, format!("held by process {holder}")));
            }
            Err(error) => return Err(error.into()),
        }
        // The id is for a message only: a full disk must not keep the server from starting.
        let _ = file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
        Ok(Box::new(OsLock { _file: file }))
    }
}

/// Closing the file gives the lock back.
#[derive(Debug)]
struct OsLock {
    _file: fs::File,
}

impl Lock for OsLock {}

#[derive(Debug)]
struct OsFile {
    file: fs::File,
    dead: AtomicBool,
}

impl OsFile {
    fn alive(&self) -> io::Result<()> {
        if self.dead.load(Ordering::Relaxed) {
            return Err(io::Error::other("an earlier sync of this file failed; it is not written again"));
        }
        Ok(())
    }
}

impl File for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, at)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.alive()?;
        self.file.write_all_at(buf, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.alive()?;
        // fdatasync: it commits a changed length too, but not times, so an overwrite in place costs no journal.
        let synced = self.file.sync_data();
        if synced.is_err() {
            self.dead.store(true, Ordering::Relaxed);
        }
        synced
    }

    fn map(&self) -> io::Result<Map> {
        crate::map::map(&self.file)
    }
}

/// Clocks of the operating system.
#[derive(Debug)]
struct OsClock {
    start: Instant,
}

impl Clock for OsClock {
    fn wall(&self) -> Nanos {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)),
            Err(before) => Nanos(i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n)),
        }
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_read_back_listed_renamed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::os();
        let sub = dir.path().join("a/b");
        env.vfs.create_dir(&sub).unwrap();
        let file = env.vfs.open(&sub.join("x"), Open::Create).unwrap();
        assert!(env.vfs.open(&sub.join("x"), Open::Create).is_err());
        assert!(env.vfs.open(&sub.join("y"), Open::Write).is_err());
        file.write_at(b"strata", 4).unwrap();
        file.sync().unwrap();
        env.vfs.sync_dir(&sub).unwrap();
        assert_eq!(file.len().unwrap(), 10);
        let mut bytes = [9; 10];
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"\0\0\0\0strata");
        assert_eq!(file.read_at(&mut bytes, 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(&file.map().unwrap()[..], b"\0\0\0\0strata");
        env.vfs.rename(&sub.join("x"), &sub.join("z")).unwrap();
        assert_eq!(env.vfs.list(&sub).unwrap(), ["z"]);
        env.vfs.remove(&sub.join("z")).unwrap();
        assert!(env.vfs.list(&sub).unwrap().is_empty());
    }

    #[test]
    fn an_empty_file_maps_to_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsVfs.open(&dir.path().join("empty"), Open::Create).unwrap();
        assert!(file.is_empty().unwrap());
        assert_eq!(file.map().unwrap().len(), 0);
    }

    #[test]
    fn a_held_lock_names_its_holder_and_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = OsVfs.lock(&path).unwrap();
        let refused = OsVfs.lock(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
        drop(held);
        drop(OsVfs.lock(&path).unwrap());
    }
}
