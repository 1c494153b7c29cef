//! The pool of one job: its sources of targets, its targets, their loops.
//!
//! One task owns all of it and is told of new lists and configurations; what others may see of it is a [`View`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout_at};

use crate::Surroundings;
use crate::config::{DiscoveryConfig, ScrapeConfig};
use crate::discovery::{self, Source, TargetGroup};
use crate::looping::Running;
use crate::target::Target;

/// Lists that change together are taken together.
const SETTLE: Duration = Duration::from_millis(100);
/// How long new sources may take for their first list before those that have one are used.
const FIRST_LISTS: Duration = Duration::from_secs(5);

/// What can be seen of a pool.
#[derive(Clone, Debug)]
pub struct View {
    /// Its job.
    pub config: Arc<ScrapeConfig>,
    /// Targets that are scraped, in order of URLs.
    pub active: Vec<Arc<Target>>,
    /// Targets that were dropped, as many as are kept.
    pub dropped: Vec<Arc<Target>>,
    /// How many were dropped.
    pub dropped_count: usize,
}

/// A running pool; ends when it is dropped, and marks its series stale then.
pub(crate) struct Pool {
    view: Arc<Mutex<View>>,
    commands: mpsc::UnboundedSender<Arc<ScrapeConfig>>,
}

impl Pool {
    pub(crate) fn start(config: Arc<ScrapeConfig>, surroundings: Arc<Surroundings>) -> Pool {
        let view = View { config: Arc::clone(&config), active: Vec::new(), dropped: Vec::new(), dropped_count: 0 };
        let view = Arc::new(Mutex::new(view));
        let (commands, received) = mpsc::unbounded_channel();
        let changed = Arc::new(Notify::new());
        let sources = config.discovery.iter().map(|source| discovery::start(source, &surroundings, &changed)).collect();
        let worker = Worker {
            config,
            surroundings,
            view: Arc::clone(&view),
            sources,
            changed,
            running: HashMap::new(),
            first_lists: Some(Instant::now() + FIRST_LISTS),
            restart: None,
        };
        tokio::spawn(worker.run(received));
        Pool { view, commands }
    }

    pub(crate) fn view(&self) -> View {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes on with another configuration of the same job.
    pub(crate) fn reload(&self, config: Arc<ScrapeConfig>) {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if *view.config != *config {
            view.config = Arc::clone(&config);
            let _ = self.commands.send(config);
        }
    }
}

struct Worker {
    config: Arc<ScrapeConfig>,
    surroundings: Arc<Surroundings>,
    view: Arc<Mutex<View>>,
    /// One for each discovery of the configuration, in its order.
    sources: Vec<Source>,
    changed: Arc<Notify>,
    running: HashMap<u64, Running>,
    /// Until when the first lists of new sources are waited for.
    first_lists: Option<Instant>,
    /// Set when all loops must be started anew: whether they may keep what they remember.
    restart: Option<bool>,
}

impl Worker {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Arc<ScrapeConfig>>) {
        loop {
            let ready = self.sources.iter().all(|source| source.groups.borrow().is_some());
            if ready || self.first_lists.is_none_or(|until| Instant::now() >= until) {
                self.first_lists = None;
                self.sync();
            }
            let until = self.first_lists.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                command = commands.recv() => match command {
                    Some(config) => self.reload(config),
                    None => break,
                },
                result = timeout_at(until, self.changed.notified()) => {
                    if result.is_ok() {
                        sleep(SETTLE).await;
                    }
                }
            }
        }
        self.running.drain().for_each(|(_, running)| running.gone());
    }

    fn reload(&mut self, config: Arc<ScrapeConfig>) {
        let reuse = self.config.reads_alike(&config) && self.restart.unwrap_or(true);
        if self.config.discovery != config.discovery {
            self.replace_sources(&config.discovery);
            self.first_lists = Some(Instant::now() + FIRST_LISTS);
        }
        self.restart = Some(reuse);
        self.config = config;
    }

    /// Starts the sources that are new; those that stay keep their lists.
    fn replace_sources(&mut self, wanted: &[DiscoveryConfig]) {
        let before = std::mem::take(&mut self.sources);
        let mut before: Vec<(&DiscoveryConfig, Source)> = self.config.discovery.iter().zip(before).collect();
        for wanted in wanted {
            let source = match before.iter().position(|(known, _)| *known == wanted) {
                Some(at) => before.swap_remove(at).1,
                None => discovery::start(wanted, &self.surroundings, &self.changed),
            };
            self.sources.push(source);
        }
    }

    /// Makes targets of the lists, starts loops for new ones and ends those that are gone.
    fn sync(&mut self) {
        let mut wanted: HashMap<u64, Arc<Target>> = HashMap::new();
        let (mut dropped, mut dropped_count) = (Vec::new(), 0);
        let lists: Vec<_> = self.sources.iter().filter_map(|source| source.groups.borrow().clone()).collect();
        let keep = match self.config.keep_dropped_targets {
            0 => usize::MAX,
            keep => usize::try_from(keep).unwrap_or(usize::MAX),
        };
        for group in lists.iter().flat_map(|list| list.iter()) {
            for target in self.targets_of(group) {
                if target.is_dropped() {
                    dropped_count += 1;
                    if dropped.len() < keep {
                        dropped.push(Arc::new(target));
                    }
                    continue;
                }
                wanted.entry(target.hash()).or_insert_with(|| Arc::new(target));
            }
        }
        let restart = self.restart.take();
        let before = std::mem::take(&mut self.running);
        for (hash, running) in before {
            match wanted.entry(hash) {
                Entry::Vacant(_) => running.gone(),
                Entry::Occupied(found) => {
                    let newer = found.remove();
                    running.target.describe_as(&newer);
                    let running = match restart {
                        None => running,
                        Some(reuse) => {
                            newer.report(running.target.last());
                            let (config, around) = (Arc::clone(&self.config), Arc::clone(&self.surroundings));
                            Running::start(newer, config, around, Some((running, reuse)))
                        }
                    };
                    self.running.insert(hash, running);
                }
            }
        }
        for (hash, target) in wanted {
            let (config, around) = (Arc::clone(&self.config), Arc::clone(&self.surroundings));
            self.running.insert(hash, Running::start(target, config, around, None));
        }
        self.limit_targets();
        let mut active: Vec<Arc<Target>> = self.running.values().map(|running| Arc::clone(&running.target)).collect();
        active.sort_by(|a, b| a.url().cmp(b.url()).then_with(|| a.labels().cmp(b.labels())));
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        (view.active, view.dropped, view.dropped_count) = (active, dropped, dropped_count);
    }

    fn targets_of(&self, group: &TargetGroup) -> Vec<Target> {
        let (targets, errors) = Target::of_group(group, &self.config);
        for error in errors {
            self.surroundings.metrics.targets_failed.add(1);
            tracing::error!(scrape_pool = self.config.job_name, %error, "creating a target failed");
        }
        targets
    }

    /// Beyond the limit on targets none is scraped.
    fn limit_targets(&self) {
        let (count, limit) = (self.running.len() as u64, self.config.target_limit);
        let error = (limit > 0 && count > limit)
            .then(|| format!("target_limit exceeded (number of targets: {count}, limit: {limit})"));
        if error.is_some() {
            self.surroundings.metrics.target_limit.add(1);
        }
        for running in self.running.values() {
            running.forced.send_replace(error.clone());
        }
    }
}
