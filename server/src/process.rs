//! Figures of this process as the operating system has them, and its limit on open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What the operating system says of this process; zero where it says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// User and system time.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Virtual memory.
    pub virtual_bytes: u64,
    /// Open descriptors.
    pub open_files: u64,
    /// Limit on open descriptors.
    pub open_files_max: u64,
}

/// Asks the operating system.
#[expect(clippy::disallowed_methods, reason = "the process file system is not data; nothing of it is simulated")]
pub fn figures() -> Figures {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = pages.split_ascii_whitespace().map(|field| field.parse::<u64>().unwrap_or_default());
    let page_bytes = rustix::param::page_size() as u64;
    Figures {
        cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        virtual_bytes: pages.next().unwrap_or_default() * page_bytes,
        resident_bytes: pages.next().unwrap_or_default() * page_bytes,
        open_files: std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
        open_files_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
    }
}

/// Raises the limit on open files as far as the system allows and returns it.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(1 << 20)
}
