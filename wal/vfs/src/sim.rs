//! The disk that forgets, tears, fills and rots, by seed.
//!
//! One idea: a file is two images, what processes see and what is durable, of 512-byte sectors shared by reference;
//! every write since the last sync leaves a version of the sectors it touched. A power cut keeps for each sector the
//! durable version or any later one, for each file any length it had since, and of the unsynced directory changes a
//! prefix or any subset. What POSIX does not promise, this disk does not keep.
//!
//! Invariants:
//! * Same calls, same seeds: same bytes. Nothing here reads a clock or iterates a hashed map.
//! * [`SimVfs::crash`] does not change the disk it is called on: from one instant many reboots can be tried.
//! * A sync makes a file's bytes durable, never its name; `sync_dir` a directory's names, never their bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use crate::fault::{Fault, Faults};
use crate::fault::{eio, full};
use crate::{Clock, Env, File, Lock, Map, Nanos, Open, Vfs};

/// The unit that a power cut keeps whole or not at all.
pub const SECTOR_BYTES: usize = 512;

type Sector = [u8; SECTOR_BYTES];

/// Bytes of a file; a missing sector is all zero.
#[derive(Clone, Default, Debug)]
struct Body {
    len: u64,
    sectors: Vec<Option<Arc<Sector>>>,
}

impl Body {
    fn set_len(&mut self, len: u64) {
        self.len = len;
        self.sectors.resize((len as usize).div_ceil(SECTOR_BYTES), None);
        let tail = len as usize % SECTOR_BYTES;
        if tail > 0
            && let Some(Some(last)) = self.sectors.last_mut()
        {
            Arc::make_mut(last)[tail..].fill(0);
        }
    }

    fn read(&self, buf: &mut [u8], at: u64) {
        let mut done = 0;
        while done < buf.len() {
            let position = at as usize + done;
            let (index, begin) = (position / SECTOR_BYTES, position % SECTOR_BYTES);
            let count = (SECTOR_BYTES - begin).min(buf.len() - done);
            let target = &mut buf[done..done + count];
            match self.sectors.get(index) {
                Some(Some(sector)) => target.copy_from_slice(&sector[begin..begin + count]),
                _ => target.fill(0),
            }
            done += count;
        }
    }

    /// Writes, growing the file as needed; tells each changed sector.
    fn write(&mut self, buf: &[u8], at: u64, mut changed: impl FnMut(u64, &Option<Arc<Sector>>)) {
        if buf.is_empty() {
            return;
        }
        let end = at + buf.len() as u64;
        if end > self.len {
            self.set_len(end);
        }
        let mut done = 0;
        while done < buf.len() {
            let position = at as usize + done;
            let (index, begin) = (position / SECTOR_BYTES, position % SECTOR_BYTES);
            let count = (SECTOR_BYTES - begin).min(buf.len() - done);
            let source = &buf[done..done + count];
            done += count;
            let slot = &mut self.sectors[index];
            if slot.is_none() && source.iter().all(|byte| *byte == 0) {
                continue;
            }
            let sector = Arc::make_mut(slot.get_or_insert_with(|| Arc::new([0; SECTOR_BYTES])));
            sector[begin..begin + count].copy_from_slice(source);
            changed(index as u64, slot);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(&mut bytes, 0);
        bytes
    }
}

#[derive(Clone, Default, Debug)]
struct Node {
    live: Body,
    durable: Body,
    /// Versions of each sector written since the last sync, oldest first.
    versions: BTreeMap<u64, Vec<Option<Arc<Sector>>>>,
    /// Lengths the file had since the last sync.
    lens: Vec<u64>,
    /// Sectors that cannot be read.
    bad: BTreeSet<u64>,
}

impl Node {
    fn of(body: Body) -> Node {
        Node { durable: body.clone(), live: body, ..Node::default() }
    }

    fn write(&mut self, buf: &[u8], at: u64) {
        let len = self.live.len;
        let versions = &mut self.versions;
        self.live.write(buf, at, |index, sector| versions.entry(index).or_default().push(sector.clone()));
        if self.live.len != len {
            self.lens.push(self.live.len);
        }
    }

    /// Only what is dirty: sectors that a failed sync forgot stay lost although the cache still shows them.
    fn sync(&mut self) {
        if self.lens.pop().is_some() {
            self.durable.set_len(self.live.len);
        }
        for (index, mut versions) in std::mem::take(&mut self.versions) {
            if let (Some(slot), Some(newest)) = (self.durable.sectors.get_mut(index as usize), versions.pop()) {
                *slot = newest;
            }
        }
        self.lens.clear();
    }

    /// A sync that fails: some sectors got there, the rest is forgotten, and the cache shows either.
    fn sync_lost(&mut self, random: &mut Random) {
        let kept = self.crash(random);
        self.durable = kept;
        self.versions.clear();
        self.lens.clear();
        if random.chance(1, 2) {
            self.live = self.durable.clone();
        }
    }

    /// The bytes that a power cut leaves.
    fn crash(&self, random: &mut Random) -> Body {
        let mut body = self.durable.clone();
        // Out of four cuts one keeps all, one nothing, two any subset, so that the extremes are common.
        let mode = random.below(4);
        let len = match mode {
            0 => self.durable.len,
            1 => self.live.len,
            _ => match random.below(self.lens.len() as u64 + 1) {
                0 => self.durable.len,
                n => self.lens[n as usize - 1],
            },
        };
        body.set_len(len);
        for (index, versions) in &self.versions {
            let version = match mode {
                0 => 0,
                1 => versions.len() as u64,
                _ => random.below(versions.len() as u64 + 1),
            };
            if version > 0
                && let Some(slot) = body.sectors.get_mut(*index as usize)
            {
                *slot = versions[version as usize - 1].clone();
            }
        }
        body.set_len(len);
        body
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    Dir,
    File(u64),
}

/// A directory change that no `sync_dir` has made durable yet.
#[derive(Clone, Debug)]
enum Change {
    MakeDir(PathBuf),
    Link(PathBuf, u64),
    Unlink(PathBuf),
    /// A rename within one directory: both names or neither.
    Move(PathBuf, PathBuf, u64),
    /// The old name of a rename between directories: goes only where the new one is durable.
    MoveAway(PathBuf, u64),
}

impl Change {
    fn dir(&self) -> &Path {
        let (Change::MakeDir(path)
        | Change::Link(path, _)
        | Change::Unlink(path)
        | Change::Move(path, _, _)
        | Change::MoveAway(path, _)) = self;
        parent(path)
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Entry>) {
        match self {
            Change::MakeDir(path) => {
                names.insert(path.clone(), Entry::Dir);
            }
            Change::Link(path, inode) => {
                names.insert(path.clone(), Entry::File(*inode));
            }
            Change::Unlink(path) => {
                names.remove(path);
            }
            Change::Move(from, to, inode) => {
                if names.get(from) == Some(&Entry::File(*inode)) {
                    names.remove(from);
                }
                names.insert(to.clone(), Entry::File(*inode));
            }
            Change::MoveAway(path, inode) => {
                let mut elsewhere = names.iter().filter(|(name, _)| *name != path);
                if elsewhere.any(|(_, entry)| *entry == Entry::File(*inode)) {
                    names.remove(path);
                }
            }
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

#[derive(Clone, Default, Debug)]
struct State {
    nodes: BTreeMap<u64, Node>,
    names: BTreeMap<PathBuf, Entry>,
    durable_names: BTreeMap<PathBuf, Entry>,
    changes: Vec<Change>,
    inodes: u64,
    operations: u64,
    faults: Faults,
    off: bool,
    capacity: Option<u64>,
    locks: BTreeSet<PathBuf>,
    random: Random,
    trace: Option<Vec<String>>,
}

/// What the fault of an operation leaves to do.
enum Turn {
    Do,
    /// Do it, without making anything durable, then fail: the power went off.
    Cut,
    /// Do up to so many bytes of a write, then fail.
    Part(u64, io::Error),
    SyncLost,
}

impl State {
    fn turn(&mut self, what: &'static str, path: &Path) -> io::Result<Turn> {
        if self.off {
            return Err(io::Error::other("the power is off"));
        }
        let operation = self.operations;
        self.operations += 1;
        let fault = self.faults.of(operation);
        if let Some(trace) = &mut self.trace {
            let fault = fault.map(|fault| format!(" {fault:?}")).unwrap_or_default();
            trace.push(format!("{operation} {what} {}{fault}", path.display()));
        }
        match fault {
            None => Ok(Turn::Do),
            Some(Fault::PowerCut) => {
                self.off = true;
                Ok(Turn::Cut)
            }
            Some(Fault::SyncLost | Fault::Eio) if what == "sync" => Ok(Turn::SyncLost),
            Some(Fault::Short(bytes)) if what == "write" => Ok(Turn::Part(bytes, eio())),
            Some(Fault::Full) if what == "write" => Ok(Turn::Part(self.random.below(4096), full())),
            Some(Fault::Full) if what == "create" || what == "create_dir" => Err(full()),
            Some(Fault::Full) => Ok(Turn::Do),
            Some(_) => Err(eio()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Entry::File(inode)) => Ok(*inode),
            Some(Entry::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn is_dir(&self, path: &Path) -> bool {
        path == Path::new("") || path == Path::new("/") || self.names.get(path) == Some(&Entry::Dir)
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn node(&mut self, inode: u64) -> io::Result<&mut Node> {
        self.nodes.get_mut(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used(&self) -> u64 {
        let inodes: BTreeSet<u64> = self
            .names
            .values()
            .filter_map(|entry| match entry {
                Entry::File(inode) => Some(*inode),
                Entry::Dir => None,
            })
            .collect();
        inodes.iter().filter_map(|inode| self.nodes.get(inode)).map(|node| node.live.len).sum()
    }

    /// How many of `count` bytes at `at` the disk has room for.
    fn room(&self, inode: u64, at: u64, count: u64) -> u64 {
        let (Some(capacity), Some(node)) = (self.capacity, self.nodes.get(&inode)) else { return count };
        let grow = (at + count).saturating_sub(node.live.len);
        if grow == 0 {
            return count;
        }
        let free = capacity.saturating_sub(self.used());
        if grow <= free { count } else { count - (grow - free).min(count) }
    }
}

/// The simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimVfs {
    state: Arc<Mutex<State>>,
}

fn guard(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panic of a test while it held the disk says nothing about the disk.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimVfs {
    /// An empty disk. The seed decides what failed syncs and full disks leave.
    pub fn new(seed: u64) -> SimVfs {
        let state = State { random: Random::new(seed), ..State::default() };
        SimVfs { state: Arc::new(Mutex::new(state)) }
    }

    /// A machine with this disk.
    pub fn env(&self, clock: &SimClock, seed: u64) -> Env {
        Env { vfs: Arc::new(self.clone()), clock: Arc::new(clock.clone()), seed }
    }

    /// The disk that a reboot finds after a power cut at this instant. This one stays as it is.
    pub fn crash(&self, seed: u64) -> SimVfs {
        let state = guard(&self.state);
        let mut random = Random::new(seed);
        let mut names = state.durable_names.clone();
        match random.below(3) {
            0 => {
                let kept = random.below(state.changes.len() as u64 + 1) as usize;
                state.changes.iter().take(kept).for_each(|change| change.apply(&mut names));
            }
            1 => {
                let dirs: BTreeSet<&Path> = state.changes.iter().map(Change::dir).collect();
                let mut left: BTreeMap<&Path, u64> =
                    dirs.into_iter().map(|dir| (dir, random.below(state.changes.len() as u64 + 1))).collect();
                for change in &state.changes {
                    let left = left.entry(change.dir()).or_default();
                    if *left > 0 {
                        *left -= 1;
                        change.apply(&mut names);
                    }
                }
            }
            _ => {
                for change in &state.changes {
                    if random.chance(1, 2) {
                        change.apply(&mut names);
                    }
                }
            }
        }
        let dirs: BTreeSet<PathBuf> =
            names.iter().filter(|(_, entry)| **entry == Entry::Dir).map(|(path, _)| path.clone()).collect();
        let reached = |path: &Path| {
            path.ancestors().skip(1).all(|dir| dirs.contains(dir) || dir == Path::new("") || dir == Path::new("/"))
        };
        names.retain(|path, _| reached(path));
        let mut nodes = BTreeMap::new();
        for entry in names.values() {
            if let Entry::File(inode) = entry
                && let Some(node) = state.nodes.get(inode)
            {
                let body = node.crash(&mut random);
                nodes.insert(*inode, Node { bad: node.bad.clone(), ..Node::of(body) });
            }
        }
        let state = State {
            nodes,
            durable_names: names.clone(),
            names,
            inodes: state.inodes,
            capacity: state.capacity,
            random,
            trace: state.trace.as_ref().map(|_| Vec::new()),
            ..State::default()
        };
        SimVfs { state: Arc::new(Mutex::new(state)) }
    }

    /// The same bytes on a disk of their own, all durable: as after a clean shutdown.
    pub fn copy(&self) -> SimVfs {
        let state = guard(&self.state);
        let nodes = state.nodes.iter().map(|(inode, node)| (*inode, Node::of(node.live.clone()))).collect();
        let copy = State {
            nodes,
            durable_names: state.names.clone(),
            names: state.names.clone(),
            inodes: state.inodes,
            capacity: state.capacity,
            random: state.random.clone(),
            ..State::default()
        };
        SimVfs { state: Arc::new(Mutex::new(copy)) }
    }

    /// Goes on after [`Fault::PowerCut`] as if only the process had been killed there: what it wrote is still in the
    /// cache, durable or not. Nothing fails any more.
    pub fn revive(&self) {
        let mut state = guard(&self.state);
        state.off = false;
        state.faults = Faults::none();
        state.locks.clear();
    }

    /// Sets which operations fail from now on; numbers count from [`SimVfs::operations`] = 0.
    pub fn set_faults(&self, faults: Faults) {
        guard(&self.state).faults = faults;
    }

    /// Operations done so far: the number of the next one.
    pub fn operations(&self) -> u64 {
        guard(&self.state).operations
    }

    /// Whether a power cut has happened.
    pub fn is_off(&self) -> bool {
        guard(&self.state).off
    }

    /// Bytes the disk can hold in all; `None` is no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        guard(&self.state).capacity = bytes;
    }

    /// Bytes that files take now.
    pub fn used(&self) -> u64 {
        guard(&self.state).used()
    }

    /// Keeps a line for every operation from now on.
    pub fn start_trace(&self) {
        guard(&self.state).trace = Some(Vec::new());
    }

    /// The lines kept since [`SimVfs::start_trace`].
    pub fn trace(&self) -> Vec<String> {
        guard(&self.state).trace.clone().unwrap_or_default()
    }

    /// Every file with its bytes as processes see them, sorted by path.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let state = guard(&self.state);
        let mut files = Vec::new();
        for (path, entry) in &state.names {
            if let Entry::File(inode) = entry
                && let Some(node) = state.nodes.get(inode)
            {
                files.push((path.clone(), node.live.bytes()));
            }
        }
        files
    }

    /// One number for all names and bytes of the disk: equal runs have equal digests.
    pub fn digest(&self) -> u64 {
        let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
        let mut eat = |bytes: &[u8]| {
            for byte in bytes {
                digest = (digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
            digest = digest.rotate_left(7) ^ bytes.len() as u64;
        };
        for (path, bytes) in self.files() {
            eat(path.as_os_str().as_encoded_bytes());
            eat(&bytes);
        }
        digest
    }

    /// Flips one bit at rest.
    ///
    /// # Panics
    /// When there is no such file or byte: a test that flips nothing proves nothing.
    pub fn flip(&self, path: &Path, at: u64, bit: u8) {
        self.damage(path, |body| {
            assert!(at < body.len, "no byte {at} in {}", path.display());
            let mut byte = [0];
            body.read(&mut byte, at);
            body.write(&[byte[0] ^ (1 << (bit % 8))], at, |_, _| {});
        });
    }

    /// Overwrites bytes at rest.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn overwrite(&self, path: &Path, at: u64, bytes: &[u8]) {
        self.damage(path, |body| body.write(bytes, at, |_, _| {}));
    }

    /// Cuts a file at rest.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn truncate(&self, path: &Path, len: u64) {
        self.damage(path, |body| body.set_len(len));
    }

    /// Loses a file at rest.
    pub fn lose(&self, path: &Path) {
        let mut state = guard(&self.state);
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    /// Makes the sector that holds byte `at` unreadable: every read of it fails with an input/output error.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn spoil(&self, path: &Path, at: u64) {
        let mut state = guard(&self.state);
        let inode = state.file(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if let Some(node) = state.nodes.get_mut(&inode) {
            node.bad.insert(at / SECTOR_BYTES as u64);
        }
    }

    fn damage(&self, path: &Path, change: impl Fn(&mut Body)) {
        let mut state = guard(&self.state);
        let inode = state.file(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if let Some(node) = state.nodes.get_mut(&inode) {
            change(&mut node.live);
            change(&mut node.durable);
        }
    }
}

fn off() -> io::Error {
    io::Error::other("the power went off")
}

impl Vfs for SimVfs {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut state = guard(&self.state);
        let turn = state.turn(if how == Open::Create { "create" } else { "open" }, path)?;
        let inode = if how == Open::Create {
            if state.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if !state.is_dir(parent(path)) {
                return Err(io::ErrorKind::NotFound.into());
            }
            state.inodes += 1;
            let inode = state.inodes;
            state.nodes.insert(inode, Node::default());
            state.change(Change::Link(path.to_owned(), inode));
            inode
        } else {
            state.file(path)?
        };
        if let Turn::Cut = turn {
            return Err(off());
        }
        let file = SimFile {
            state: self.state.clone(),
            path: path.to_owned(),
            inode,
            writable: how != Open::Read,
            dead: AtomicBool::new(false),
        };
        Ok(Arc::new(file))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = guard(&self.state);
        if let Turn::Cut = state.turn("list", dir)? {
            return Err(off());
        }
        if !state.is_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state.names.keys().filter(|path| parent(path) == dir);
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = guard(&self.state);
        let turn = state.turn("rename", from)?;
        let inode = state.file(from)?;
        if !state.is_dir(parent(to)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if state.is_dir(to) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if parent(from) == parent(to) {
            state.change(Change::Move(from.to_owned(), to.to_owned(), inode));
        } else {
            state.change(Change::Link(to.to_owned(), inode));
            state.change(Change::MoveAway(from.to_owned(), inode));
        }
        if let Turn::Cut = turn { Err(off()) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = guard(&self.state);
        let turn = state.turn("remove", path)?;
        state.file(path)?;
        state.change(Change::Unlink(path.to_owned()));
        if let Turn::Cut = turn { Err(off()) } else { Ok(()) }
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = guard(&self.state);
        let turn = state.turn("create_dir", dir)?;
        let mut missing: Vec<PathBuf> =
            dir.ancestors().take_while(|path| !state.is_dir(path)).map(Path::to_owned).collect();
        missing.reverse();
        for path in missing {
            if state.names.contains_key(&path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.change(Change::MakeDir(path));
        }
        if let Turn::Cut = turn { Err(off()) } else { Ok(()) }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = guard(&self.state);
        if let Turn::Cut = state.turn("sync_dir", dir)? {
            return Err(off());
        }
        if !state.is_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let changes = std::mem::take(&mut state.changes);
        let (done, left): (Vec<Change>, Vec<Change>) = changes.into_iter().partition(|change| change.dir() == dir);
        state.changes = left;
        let mut names = std::mem::take(&mut state.durable_names);
        done.iter().for_each(|change| change.apply(&mut names));
        state.durable_names = names;
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut state = guard(&self.state);
        if state.off {
            return Err(off());
        }
        if !state.locks.insert(path.to_owned()) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "held by process 1"));
        }
        Ok(Box::new(SimLock { state: self.state.clone(), path: path.to_owned() }))
    }
}

#[derive(Debug)]
struct SimLock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        guard(&self.state).locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimFile {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    inode: u64,
    writable: bool,
    dead: AtomicBool,
}

impl SimFile {
    fn writable(&self) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if self.dead.load(Ordering::Relaxed) {
            return Err(io::Error::other("an earlier sync of this file failed; it is not written again"));
        }
        Ok(())
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = guard(&self.state);
        if let Turn::Cut = state.turn("len", &self.path)? {
            return Err(off());
        }
        Ok(state.node(self.inode)?.live.len)
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let mut state = guard(&self.state);
        if let Turn::Cut = state.turn("read", &self.path)? {
            return Err(off());
        }
        let node = state.node(self.inode)?;
        let end = at.checked_add(buf.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        if end > node.live.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !buf.is_empty() {
            let sectors = at / SECTOR_BYTES as u64..=(end - 1) / SECTOR_BYTES as u64;
            if node.bad.range(sectors).next().is_some() {
                return Err(eio());
            }
        }
        node.live.read(buf, at);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.writable()?;
        let mut state = guard(&self.state);
        let turn = state.turn("write", &self.path)?;
        let room = state.room(self.inode, at, buf.len() as u64);
        let (count, result) = match turn {
            Turn::Cut => (room, Err(off())),
            Turn::Part(bytes, error) => (room.min(bytes), Err(error)),
            Turn::Do | Turn::SyncLost if room < buf.len() as u64 => (room, Err(full())),
            Turn::Do | Turn::SyncLost => (room, Ok(())),
        };
        let count = usize::try_from(count).unwrap_or(buf.len()).min(buf.len());
        state.node(self.inode)?.write(&buf[..count], at);
        result
    }

    fn sync(&self) -> io::Result<()> {
        self.writable()?;
        let mut state = guard(&self.state);
        match state.turn("sync", &self.path) {
            Ok(Turn::Do | Turn::Part(..)) => {
                state.node(self.inode)?.sync();
                Ok(())
            }
            Ok(Turn::SyncLost) => {
                self.dead.store(true, Ordering::Relaxed);
                let mut random = state.random.clone();
                state.node(self.inode)?.sync_lost(&mut random);
                state.random = random;
                Err(eio())
            }
            Ok(Turn::Cut) => Err(off()),
            Err(error) => Err(error),
        }
    }

    fn map(&self) -> io::Result<Map> {
        let mut bytes = vec![0; usize::try_from(self.len()?).map_err(|_| io::ErrorKind::OutOfMemory)?];
        self.read_at(&mut bytes, 0)?;
        Ok(Map(Box::new(bytes)))
    }
}

/// A clock that moves only when told.
#[derive(Clone, Debug)]
pub struct SimClock {
    wall: Arc<AtomicI64>,
    elapsed: Arc<AtomicU64>,
}

impl SimClock {
    /// A clock that shows this wall time.
    pub fn new(wall: Nanos) -> SimClock {
        SimClock { wall: Arc::new(AtomicI64::new(wall.0)), elapsed: Arc::new(AtomicU64::new(0)) }
    }

    /// Lets both clocks run on.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.elapsed.fetch_add(nanos, Ordering::Relaxed);
        self.wall.fetch_add(i64::try_from(nanos).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Lets the wall clock jump.
    pub fn set_wall(&self, wall: Nanos) {
        self.wall.store(wall.0, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn wall(&self) -> Nanos {
        Nanos(self.wall.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed.load(Ordering::Relaxed))
    }
}

/// Random numbers by seed (splitmix64), for the disk and for the tests that use it.
#[derive(Clone, Default, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Random {
        Random { state: seed }
    }

    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "an endless sequence is no iterator to loop over")]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    /// True in `times` of `of` cases.
    pub fn chance(&mut self, times: u64, of: u64) -> bool {
        self.below(of) < times
    }
}

#[cfg(test)]
mod tests;
