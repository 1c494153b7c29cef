//! Work that keeps a thread: how much of it goes on at once.
//!
//! The agent shares the runtime's threads with all that the server does. A name is looked up by the system, which may
//! take as long as it likes and cannot be told to stop; a large body is decompressed and read on the spot. Both are
//! bounded by permits that the work itself holds, so what nobody waits for any more still counts.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::{block_in_place, spawn_blocking};

/// Names looked up at once.
const LOOKUPS_MAX: usize = 8;
/// Large bodies decompressed or read at once.
const HEAVY_MAX: usize = 8;
/// Threads beside its workers that a runtime needs for an agent.
pub const BLOCKING_THREADS: usize = LOOKUPS_MAX + HEAVY_MAX;

/// Bodies from this size on are handled with the thread's other tasks moved away.
const HEAVY_BYTES: usize = 128 << 10;

/// Permits of the process, as the threads are the process's.
static LOOKUPS: Semaphore = Semaphore::const_new(LOOKUPS_MAX);
static HEAVY: Semaphore = Semaphore::const_new(HEAVY_MAX);

/// The addresses of a host. One that is written as an address needs no look-up.
pub(crate) async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let host = host.to_owned();
    bounded(&LOOKUPS, move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect)).await
}

/// Runs work that cannot be stopped on a thread of its own; its permit is given back when the work has ended, which
/// may be long after whoever asked for it has left.
async fn bounded<T: Send + 'static>(
    permits: &'static Semaphore,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let permit = permits.acquire().await.map_err(io::Error::other)?;
    let work = move || {
        let _permit = permit;
        work()
    };
    spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Leave to keep a thread busy with a body.
pub(crate) struct Heavy(Option<SemaphorePermit<'static>>);

impl Heavy {
    /// Waits until a body of this size may be handled; a small one may at once.
    pub(crate) async fn of(bytes: usize) -> Heavy {
        let many = tokio::runtime::Handle::current().runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread;
        Heavy(if bytes >= HEAVY_BYTES && many { HEAVY.acquire().await.ok() } else { None })
    }

    /// Runs the work.
    pub(crate) fn run<T>(self, work: impl FnOnce() -> T) -> T {
        if self.0.is_some() { block_in_place(work) } else { work() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn an_address_is_not_looked_up() {
        let all = LOOKUPS.acquire_many(LOOKUPS_MAX as u32).await.unwrap();
        assert_eq!(addresses("127.0.0.1", 80).await.unwrap(), ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(addresses("::1", 80).await.unwrap(), ["[::1]:80".parse().unwrap()]);
        drop(all);
    }

    /// A scrape that times out drops its look-up's future; the system goes on looking, and when names cannot be had
    /// for a while every scrape leaves one behind. They filled the threads that queries run on.
    #[tokio::test]
    async fn work_that_nobody_waits_for_still_counts() {
        static ONE: Semaphore = Semaphore::const_new(1);
        let (begun, began) = tokio::sync::oneshot::channel();
        let (go, gone) = mpsc::channel::<()>();
        let left = tokio::spawn(bounded(&ONE, move || {
            let _ = begun.send(());
            let _ = gone.recv();
            Ok(())
        }));
        began.await.unwrap();
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        assert_eq!(ONE.available_permits(), 0);
        drop(go);
        assert_eq!(bounded(&ONE, || Ok(7)).await.unwrap(), 7);
    }
}
