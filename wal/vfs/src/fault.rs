//! Which operation of a simulated disk fails, and how.
//!
//! One idea: every call of the seam that can fail has a number, counted from 0 since the disk was made. A test runs
//! its workload once to learn how many there are, then once for each number and each kind of fault.

use std::collections::BTreeMap;
use std::io;

/// How an operation fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The power goes off in the middle: the operation is begun but nothing of it is durable, and every later one
    /// fails too. [`crate::sim::SimVfs::crash`] gives the disk that a reboot finds.
    PowerCut,
    /// An input/output error; nothing is done. A sync loses dirty sectors, as [`Fault::SyncLost`].
    Eio,
    /// A sync fails and forgets the dirty sectors: some reached the disk, and no later sync brings the others back.
    /// On any other operation the same as [`Fault::Eio`].
    SyncLost,
    /// A write puts down this many bytes at most, then fails. On any other operation the same as [`Fault::Eio`].
    Short(u64),
    /// No space left: a write puts down a part, then fails. Operations that need no space are done.
    Full,
}

/// The faults of a run, by operation number.
#[derive(Clone, Default, Debug)]
pub struct Faults {
    at: BTreeMap<u64, Fault>,
    from: Option<(u64, Fault)>,
}

impl Faults {
    /// No fault.
    pub fn none() -> Faults {
        Faults::default()
    }

    /// One fault, at one operation.
    pub fn at(operation: u64, fault: Fault) -> Faults {
        Faults::none().and(operation, fault)
    }

    /// The same fault at every operation from this one on.
    pub fn from(operation: u64, fault: Fault) -> Faults {
        Faults { at: BTreeMap::new(), from: Some((operation, fault)) }
    }

    /// One more fault.
    pub fn and(mut self, operation: u64, fault: Fault) -> Faults {
        self.at.insert(operation, fault);
        self
    }

    /// The same faults, so many operations later.
    pub fn shifted(self, by: u64) -> Faults {
        let at = self.at.into_iter().map(|(operation, fault)| (operation + by, fault)).collect();
        Faults { at, from: self.from.map(|(operation, fault)| (operation + by, fault)) }
    }

    /// Whether nothing fails.
    pub fn is_none(&self) -> bool {
        self.at.is_empty() && self.from.is_none()
    }

    /// What happens to the operation with this number.
    pub(crate) fn of(&self, operation: u64) -> Option<Fault> {
        if let Some(fault) = self.at.get(&operation) {
            return Some(*fault);
        }
        self.from.filter(|(first, _)| operation >= *first).map(|(_, fault)| fault)
    }
}

/// An input/output error as the operating system reports it.
pub(crate) fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

/// "No space left on device" as the operating system reports it.
pub(crate) fn full() -> io::Error {
    io::Error::from_raw_os_error(28)
}
