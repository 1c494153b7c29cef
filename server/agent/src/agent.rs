//! The agent as a whole: one pool a job, made to fit each new configuration.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use varve_vfs::Clock;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::client::{Client, OpenClient};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::pool::{Pool, View};
use crate::{Buffers, Sink, Surroundings, lives};

/// What an agent needs to know besides its configuration.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// Tells this server from another that scrapes the same targets, so that they ask at different times.
    pub seed: u64,
    /// Bytes of any body, also where a job sets no limit.
    pub body_bytes_max: u64,
}

/// Scrapes what its configuration says. Must be used within a runtime.
#[derive(Debug)]
pub struct Agent {
    surroundings: Arc<Surroundings>,
    shutdown: watch::Sender<bool>,
    /// Closed when the last loop has ended.
    ended: Mutex<Option<mpsc::Receiver<()>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    config: Arc<Config>,
    pools: BTreeMap<String, Pool>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.pools.keys()).finish()
    }
}

impl Agent {
    /// An agent that scrapes `config` from now on.
    pub fn start(config: Config, settings: AgentSettings, sink: Arc<dyn Sink>, clock: Arc<dyn Clock>) -> Agent {
        Agent::start_with(config, settings, sink, clock, |config| Box::new(Client::new(config)))
    }

    /// As [`Agent::start`], with another way to ask targets.
    pub(crate) fn start_with(
        config: Config,
        settings: AgentSettings,
        sink: Arc<dyn Sink>,
        clock: Arc<dyn Clock>,
        open_client: OpenClient,
    ) -> Agent {
        let (shutdown, shutdown_seen) = watch::channel(false);
        let (alive, ended) = mpsc::channel(1);
        let labels = format!("{:?}", config.global.external_labels);
        let surroundings = Surroundings {
            sink,
            open_client,
            clock,
            metrics: Metrics::default(),
            buffers: Buffers::default(),
            lives: lives::Lives::default(),
            seed: xxh3_64_with_seed(labels.as_bytes(), settings.seed),
            body_bytes_max: settings.body_bytes_max,
            shutdown: shutdown_seen,
            alive,
        };
        let agent = Agent {
            surroundings: Arc::new(surroundings),
            shutdown,
            ended: Mutex::new(Some(ended)),
            state: Mutex::default(),
        };
        agent.apply(config);
        agent
    }

    /// Goes on with another configuration: jobs that are the same are left alone, jobs that are gone end.
    pub fn apply(&self, config: Config) {
        for unused in &config.unused {
            tracing::warn!("configuration of scrapes: {unused}");
        }
        let config = Arc::new(config);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.pools.retain(|name, _| config.scrapes.iter().any(|scrape| scrape.job_name == *name));
        for scrape in &config.scrapes {
            let scrape = Arc::new(scrape.clone());
            match state.pools.get(&scrape.job_name) {
                Some(pool) => pool.reload(scrape),
                None => {
                    let pool = Pool::start(Arc::clone(&scrape), Arc::clone(&self.surroundings));
                    state.pools.insert(scrape.job_name.clone(), pool);
                }
            }
        }
        state.config = config;
    }

    /// The configuration in use.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// What can be seen of each pool, in order of names.
    pub fn views(&self) -> Vec<(String, View)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.pools.iter().map(|(name, pool)| (name.clone(), pool.view())).collect()
    }

    /// What was counted.
    pub fn metrics(&self) -> &Metrics {
        &self.surroundings.metrics
    }

    /// Ends all loops; a scrape that is being stored is stored. Whether all had ended within `patience`. Nothing is
    /// marked stale: the server will be back.
    pub async fn stop(&self, patience: Duration) -> bool {
        let _ = self.shutdown.send(true);
        self.state.lock().unwrap_or_else(PoisonError::into_inner).pools.clear();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut ended) = ended else { return true };
        // The agent itself holds one end, so the loops are counted by it.
        let waited = async {
            while self.surroundings.alive.strong_count() > 1 {
                let _ = tokio::time::timeout(Duration::from_millis(5), ended.recv()).await;
            }
        };
        tokio::time::timeout(patience, waited).await.is_ok()
    }
}
