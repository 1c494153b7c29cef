//! The scraper: an agent that reads the file of `scrape_config_file` and writes, as the default tenant, through the
//! same path as every other write.
//!
//! The file is read before the data directory is opened, so that a wrong one is told at once; it is read again on
//! SIGHUP and by `/-/reload`, and a wrong one then changes nothing. What was read last before the data is there is what
//! the agent begins with.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use varve_agent::config::{Config, Features};
use varve_agent::{Agent, AgentSettings, Append, Sink};
use varve_model::{Millis, TenantName, WriteBatch};
use varve_protocol::Summary;

use crate::app::App;
use crate::config::ServerSettings;
use crate::{http, ingest};

/// The scraper of a server; without a configuration file it does nothing.
#[derive(Debug, Default)]
pub struct Scraper {
    agent: OnceLock<Agent>,
    /// What the agent begins with once every acknowledged write is readable; a reload before that changes it.
    waiting: Mutex<Option<Config>>,
    /// Whether the last reading of the file went well.
    failed: AtomicBool,
    /// When the file was read well last; 0 before that.
    read_at: AtomicI64,
    /// The machine's own name.
    host: OnceLock<String>,
}

/// Reads the configuration file, if there is one.
fn load(settings: &ServerSettings) -> Result<Option<Config>, String> {
    if settings.scrape_config_file.is_empty() {
        return Ok(None);
    }
    let features = Features {
        extra_scrape_metrics: settings.enable_feature.has("extra-scrape-metrics"),
        native_histograms: false,
    };
    Config::load(&PathBuf::from(&settings.scrape_config_file), features).map(Some)
}

impl Scraper {
    /// Takes the configuration to begin with, or another one.
    fn configure(&self, config: Config, now: Millis) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.read_at.store(now, Ordering::Relaxed);
        match self.agent.get() {
            Some(agent) => agent.apply(config),
            None => *waiting = Some(config),
        }
    }

    /// Reads the configuration to begin with.
    pub fn prepare(&self, settings: &ServerSettings, now: Millis) -> Result<(), String> {
        if let Some(config) = load(settings)? {
            self.configure(config, now);
        }
        Ok(())
    }

    /// Starts to scrape, if there is a configuration.
    pub fn start(&self, app: &Arc<App>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(config) = waiting.take() else { return };
        let settings = AgentSettings { seed: seed(app), body_bytes_max: app.settings.limits.decompressed_bytes_max };
        let sink = Arc::new(Own(Arc::downgrade(app)));
        let _ = self.agent.set(Agent::start(config, settings, sink, Arc::clone(&app.env.clock)));
    }

    /// The agent, if there is one.
    pub fn agent(&self) -> Option<&Agent> {
        self.agent.get()
    }

    /// Whether the last reading of the file went well.
    pub fn reload_succeeded(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }

    /// When the file was read well last.
    pub fn read_at(&self) -> Millis {
        self.read_at.load(Ordering::Relaxed)
    }

    /// The machine's own name, or nothing where it is not known.
    pub fn host(&self) -> &str {
        self.host
            .get_or_init(|| std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned())
    }

    /// Ends the scraping.
    pub async fn stop(&self, patience: Duration) {
        if let Some(agent) = self.agent.get()
            && !agent.stop(patience).await
        {
            tracing::warn!("scrapes were still being stored");
        }
    }
}

/// Reads the file again.
pub async fn reload(app: Arc<App>) -> Result<(), String> {
    let settings = app.settings.server.clone();
    let loaded = tokio::task::spawn_blocking(move || load(&settings)).await.map_err(|error| error.to_string())?;
    app.scraper.failed.store(loaded.is_err(), Ordering::Relaxed);
    let loaded = loaded.inspect_err(|error| tracing::error!(%error, "the configuration of scrapes stays as it was"))?;
    if let Some(config) = loaded {
        app.scraper.configure(config, app.now());
        tracing::info!("configuration of scrapes read");
    }
    Ok(())
}

/// Tells this server from others that scrape the same targets: its host and where it listens.
fn seed(app: &App) -> u64 {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    BuildHasherDefault::<DefaultHasher>::default().hash_one((app.scraper.host(), &app.settings.server.listen))
}

/// The server's own way in.
#[derive(Debug)]
struct Own(Weak<App>);

impl Sink for Own {
    fn batch(&self) -> WriteBatch {
        self.0.upgrade().map(|app| app.buffers.batch()).unwrap_or_default()
    }

    fn append(&self, batch: WriteBatch) -> Append<'_> {
        Box::pin(async move {
            let app = self.0.upgrade().ok_or("the server is stopping")?;
            let tenant = ingest::tenant(&app, &TenantName::default()).await.map_err(|error| error.to_string())?;
            let summary = Summary { samples: batch.samples() as u64, ..Summary::default() };
            let stored = http::ingest::store(&app, tenant, batch, &summary).await;
            stored.map(|outcome| outcome.refused_samples()).map_err(|error| error.to_string())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reload while the log was still being read back once said that it had succeeded, and was forgotten.
    #[test]
    fn the_agent_begins_with_what_was_read_last() {
        let config = |job: &str| {
            let text = format!("scrape_configs: [{{job_name: {job}}}]");
            Config::parse(&text, Features { extra_scrape_metrics: false, native_histograms: false }).unwrap()
        };
        let scraper = Scraper::default();
        scraper.configure(config("before"), 1);
        scraper.configure(config("after"), 2);
        let waiting = scraper.waiting.lock().unwrap().take().unwrap().print();
        assert!(waiting.contains("after") && !waiting.contains("before"), "{waiting}");
        assert_eq!(scraper.read_at(), 2);
    }
}
