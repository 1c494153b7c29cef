//! Discovery: each configured source keeps the list of its target groups up to date in a watch, which its pool reads.
//!
//! What cannot be read or asked keeps its last list: a discovery that fails must not make targets disappear.

mod dns;
mod file;
mod http;
mod resolver;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::Surroundings;
use crate::config::{DiscoveryConfig, Group};

/// Labels by name, of a target before relabeling.
pub(crate) type LabelList = Vec<(String, String)>;

/// Targets that came together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct TargetGroup {
    /// What it is called in messages.
    pub(crate) source: String,
    /// Labels of each target.
    pub(crate) targets: Vec<LabelList>,
    /// Labels they share.
    pub(crate) labels: LabelList,
}

impl TargetGroup {
    /// A group as it is written in files, with labels of the discovery.
    fn of(group: Group, source: String, more: Option<(&str, &str)>) -> TargetGroup {
        let mut labels = group.labels;
        if let Some((name, value)) = more {
            labels.retain(|(known, _)| known != name);
            labels.push((name.to_owned(), value.to_owned()));
        }
        let targets = group.targets.into_iter().map(|target| vec![("__address__".to_owned(), target)]);
        TargetGroup { source, targets: targets.collect(), labels }
    }
}

/// The list of one source.
pub(crate) type Groups = Arc<Vec<TargetGroup>>;

/// A running source; ends when it is dropped.
pub(crate) struct Source {
    /// Its list; `None` until it was read for the first time.
    pub(crate) groups: watch::Receiver<Option<Groups>>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Where a source puts its list.
struct Publisher {
    list: watch::Sender<Option<Groups>>,
    changed: Arc<Notify>,
}

impl Publisher {
    /// Publishes a list where it differs from the last.
    fn publish(&self, list: Vec<TargetGroup>) {
        let changed = self.list.send_if_modified(|known| {
            if known.as_ref().is_some_and(|known| **known == list) {
                return false;
            }
            *known = Some(Arc::new(list));
            true
        });
        if changed {
            self.changed.notify_one();
        }
    }
}

/// Starts a source; `changed` is told of each new list.
pub(crate) fn start(config: &DiscoveryConfig, surroundings: &Arc<Surroundings>, changed: &Arc<Notify>) -> Source {
    let (list, groups) = watch::channel(None);
    let publisher = Publisher { list, changed: Arc::clone(changed) };
    let task = match config.clone() {
        DiscoveryConfig::Static(list) => {
            let list = list.into_iter().enumerate().map(|(i, group)| TargetGroup::of(group, i.to_string(), None));
            publisher.publish(list.collect());
            None
        }
        DiscoveryConfig::File { files, refresh } => {
            let failures = Arc::clone(surroundings);
            Some(tokio::spawn(file::run(files, refresh.into(), failures, publisher)))
        }
        DiscoveryConfig::Http { url, refresh, client } => {
            let failures = Arc::clone(surroundings);
            Some(tokio::spawn(http::run(url, refresh.into(), *client, failures, publisher)))
        }
        DiscoveryConfig::Dns { names, refresh, kind, port } => {
            let failures = Arc::clone(surroundings);
            Some(tokio::spawn(dns::run(names, refresh.into(), kind, port, failures, publisher)))
        }
    };
    Source { groups, task }
}

/// The ticks of a source, the first at once.
fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}
