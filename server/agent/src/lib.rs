//! The agent: scrapes targets as Prometheus does, from the same YAML, into whatever it is handed.
//!
//! ```text
//! prometheus.yml ── config ──> Agent ── one pool a job ──> discovery ──> targets ── relabel ──> one loop a target
//!                                                                                                   │
//!         Sink <── WriteBatch ── append (cache: text of a series to its label bytes) <── body ── client
//! ```
//! It never knows the engine: a [`Sink`] takes each scrape as one batch, durable when it returns. It starts no thread:
//! all of it is tasks of the runtime it is started in. Time comes from the clock it is handed and the runtime's timer.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod agent;
mod append;
mod blocking;
mod cache;
mod client;
pub mod config;
mod discovery;
mod glob;
mod lives;
mod looping;
pub mod metrics;
mod pool;
pub mod regex;
pub mod relabel;
mod target;
#[cfg(test)]
mod tests;
mod tls;
pub mod yaml;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};
use varve_model::{Millis, WriteBatch};
use varve_vfs::Clock;

pub use agent::{Agent, AgentSettings};
pub use blocking::BLOCKING_THREADS;
pub use pool::View;
pub use target::{Health, LastScrape, Target};

/// Where scrapes go.
pub trait Sink: Send + Sync + fmt::Debug {
    /// An empty batch, with memory to use again.
    fn batch(&self) -> WriteBatch;

    /// Stores a batch; when it returns all of it is durable and visible, but for as many samples as it says were
    /// refused.
    fn append(&self, batch: WriteBatch) -> Append<'_>;
}

/// What [`Sink::append`] comes to.
pub type Append<'a> = Pin<Box<dyn Future<Output = Result<u64, String>> + Send + 'a>>;

/// What every part of an agent shares.
#[derive(Debug)]
pub(crate) struct Surroundings {
    sink: Arc<dyn Sink>,
    open_client: client::OpenClient,
    clock: Arc<dyn Clock>,
    metrics: metrics::Metrics,
    buffers: Buffers,
    lives: lives::Lives,
    /// Spreads targets over their interval, unlike another server's.
    seed: u64,
    /// Bytes of any body.
    body_bytes_max: u64,
    shutdown: watch::Receiver<bool>,
    /// Held by every loop.
    alive: mpsc::Sender<()>,
}

impl Surroundings {
    fn now(&self) -> Millis {
        self.clock.wall().0.div_euclid(1_000_000)
    }
}

/// Bodies that loops hand on to each other, so that a thousand targets do not keep a thousand bodies.
#[derive(Debug, Default)]
struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    const KEPT: usize = 16;
    const KEPT_BYTES: usize = 8 << 20;

    fn take(&self, bytes: usize) -> Vec<u8> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        body.reserve(bytes.min(Self::KEPT_BYTES));
        body
    }

    fn give(&self, mut body: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < Self::KEPT && body.capacity() <= Self::KEPT_BYTES {
            body.clear();
            kept.push(body);
        }
    }
}
