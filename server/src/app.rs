//! App: what every request sees. Made before the data directory is open, so that the server can already say that it
//! is not ready; the engine joins it once, when replay is complete.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use varve_engine::{Engine, Snapshot};
use varve_model::{Millis, TenantName};
use varve_query::exec::Pool;
use varve_vfs::Env;

use crate::buffers::Buffers;
use crate::config::Settings;
use crate::delta::Deltas;
use crate::http::body::BodyBudget;
use crate::http::cors::Cors;
use crate::http::error::ApiError;
use crate::metrics::Metrics;
use crate::scrape::Scraper;
use crate::self_scrape::own_tenant;
use crate::shard::ShardQueue;

/// State shared by all requests.
pub struct App {
    /// The settings the server was started with.
    pub settings: Settings,
    /// Files and clocks.
    pub env: Env,
    /// Own counters.
    pub metrics: Metrics,
    /// Buffers that requests reuse.
    pub buffers: Buffers,
    /// Bytes that the bodies of all requests hold.
    pub bodies: BodyBudget,
    /// One permit per running query.
    pub queries: Arc<Semaphore>,
    /// Bytes that all queries hold.
    pub query_bytes: Arc<AtomicU64>,
    /// One permit per write in progress.
    pub writes: Semaphore,
    /// Sums of what OTLP clients send as differences.
    pub deltas: Deltas,
    /// Whose scripts may read answers.
    pub cors: Cors,
    store: OnceLock<Store>,
    stopping: AtomicBool,
    quit: Notify,
    quit_asked: AtomicBool,
    reload: OnceLock<Reload>,
    /// Scrapes targets.
    pub scraper: Scraper,
}

/// Reads again what can change while the server runs.
pub type Reload = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// The open data directory and the ways into it.
pub struct Store {
    /// The engine.
    pub engine: Arc<Engine>,
    /// One queue per shard, in order of partitions.
    pub shards: Vec<ShardQueue>,
    /// The threads that queries share.
    pub pool: Pool,
}

impl App {
    /// An app that is not ready yet.
    pub fn new(settings: Settings, env: Env) -> App {
        App {
            metrics: Metrics::new(&env),
            buffers: Buffers::new(),
            bodies: BodyBudget::new(&settings.limits),
            queries: Arc::new(Semaphore::new(settings.limits.concurrent_queries_max as usize)),
            query_bytes: Arc::default(),
            deltas: Deltas::default(),
            writes: Semaphore::new(settings.limits.concurrent_writes_max as usize),
            // Checked with the settings.
            cors: Cors::parse(&settings.server.web_cors_origin).unwrap_or(Cors::Everyone),
            store: OnceLock::new(),
            stopping: AtomicBool::new(false),
            quit: Notify::new(),
            quit_asked: AtomicBool::new(false),
            reload: OnceLock::new(),
            scraper: Scraper::default(),
            settings,
            env,
        }
    }

    /// Makes the app ready. A second call changes nothing.
    pub fn open(&self, store: Store) {
        let _ = self.store.set(store);
    }

    /// The store, or the 503 that says why there is none now.
    pub fn store(&self) -> Result<&Store, ApiError> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(ApiError::unavailable("the server is stopping"));
        }
        self.store.get().ok_or_else(|| ApiError::unavailable("the server is starting: it reads back its log"))
    }

    /// The store when all of it works: [`App::store`], or the 503 that says which shard takes no writes any more.
    pub fn ready(&self) -> Result<&Store, ApiError> {
        let store = self.store()?;
        match store.shards.iter().position(ShardQueue::has_ended) {
            None => Ok(store),
            Some(shard) => Err(ApiError::unavailable(format!(
                "shard {shard} has stopped: a bug ended its thread, its writes are refused until the server is restarted"
            ))),
        }
    }

    /// What a tenant's query sees: its own data, and for the default tenant also what the server scrapes of itself.
    pub fn snapshot(&self) -> Result<Snapshot, ApiError> {
        let engine = &self.store()?.engine;
        let snapshot = engine.snapshot();
        match (engine.find_tenant(&TenantName::default()), engine.find_tenant(&own_tenant())) {
            (Some(default), Some(own)) => Ok(snapshot.sharing(default, own)),
            _ => Ok(snapshot),
        }
    }

    /// The store if it is open, also while the server stops.
    pub fn find_store(&self) -> Option<&Store> {
        self.store.get()
    }

    /// From now on data calls are answered 503.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Asks the server to stop as on a signal; `false` when somebody has asked already.
    pub fn ask_to_quit(&self) -> bool {
        self.quit.notify_one();
        !self.quit_asked.swap(true, Ordering::AcqRel)
    }

    /// Returns when somebody asked the server to stop.
    pub async fn quit(&self) {
        self.quit.notified().await;
    }

    /// Says what [`App::reload`] does. A second call changes nothing.
    pub fn on_reload(&self, reload: Reload) {
        let _ = self.reload.set(reload);
    }

    /// Reads again what can change while the server runs; the error says why it stays as it was.
    pub async fn reload(&self) -> Result<(), String> {
        match self.reload.get() {
            Some(reload) => reload().await,
            None => Ok(()),
        }
    }

    /// Wall clock in milliseconds.
    pub fn now(&self) -> Millis {
        self.env.clock.wall().0.div_euclid(1_000_000)
    }

    /// Monotonic time.
    pub fn elapsed(&self) -> Duration {
        self.env.clock.elapsed()
    }
}
