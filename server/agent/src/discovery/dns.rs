//! `dns_sd_configs`: the targets that DNS records name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::resolver::{Record, Resolver};
use super::{LabelList, Publisher, TargetGroup, ticks};
use crate::Surroundings;
use crate::config::discovery::RecordType;

/// Where the system says whom to ask.
const RESOLV_CONF: &str = "/etc/resolv.conf";

pub(super) async fn run(
    names: Vec<String>,
    refresh: Duration,
    kind: RecordType,
    port: u64,
    surroundings: Arc<Surroundings>,
    publisher: Publisher,
) {
    let mut known = Known::default();
    let mut ticks = ticks(refresh);
    loop {
        ticks.tick().await;
        let resolver = Resolver::of_system(Path::new(RESOLV_CONF), &surroundings);
        for name in &names {
            let answer = match &resolver {
                Ok(resolver) => resolver.lookup(name, kind).await,
                Err(error) => Err(error.clone()),
            };
            match answer {
                Ok(records) => known.take(name, targets(name, port, &records)),
                Err(error) => {
                    surroundings.metrics.discovery_failures.add(1);
                    tracing::error!(name, %error, "dns discovery keeps what it knew");
                }
            }
        }
        if let Some(list) = known.list() {
            publisher.publish(list);
        }
    }
}

/// The targets of each name that could be looked up.
#[derive(Default)]
struct Known(BTreeMap<String, Vec<LabelList>>);

impl Known {
    fn take(&mut self, name: &str, targets: Vec<LabelList>) {
        self.0.insert(name.to_owned(), targets);
    }

    /// A list, once there is one: that no name could be looked up yet does not mean that there is no target.
    fn list(&self) -> Option<Vec<TargetGroup>> {
        let of = |(name, targets): (&String, &Vec<LabelList>)| TargetGroup {
            source: name.clone(),
            targets: targets.clone(),
            ..TargetGroup::default()
        };
        (!self.0.is_empty()).then(|| self.0.iter().map(of).collect())
    }
}

/// Labels of the targets that records name.
fn targets(name: &str, port: u64, records: &[Record]) -> Vec<LabelList> {
    let label = |name: &str, value: &str| (format!("__meta_dns_{name}"), value.to_owned());
    let address = |host: &str, port: u64| {
        let host = host.trim_end_matches('.');
        let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        ("__address__".to_owned(), shown)
    };
    let of = |record: &Record| match record {
        Record::Address(ip) => vec![address(&ip.to_string(), port)],
        Record::Srv(host, port) => vec![
            address(host, u64::from(*port)),
            label("srv_record_target", host),
            label("srv_record_port", &port.to_string()),
        ],
        Record::Mx(host) => vec![address(host, port), label("mx_record_target", host)],
        Record::Ns(host) => vec![address(host, port), label("ns_record_target", host)],
    };
    let named = |mut labels: LabelList| {
        labels.push(label("name", name));
        labels
    };
    records.iter().map(of).map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_list_before_the_first_look_up_that_succeeds() {
        let mut known = Known::default();
        assert_eq!(known.list(), None);
        known.take("none", Vec::new());
        assert_eq!(known.list().unwrap().len(), 1);
    }

    #[test]
    fn records_become_targets() {
        let records = [
            Record::Address("::1".parse().unwrap()),
            Record::Address("10.0.0.1".parse().unwrap()),
            Record::Srv("h.example.".to_owned(), 9),
            Record::Mx("m.example.".to_owned()),
        ];
        let all = targets("n", 80, &records);
        let get =
            |i: usize, name: &str| all[i].iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let addresses: Vec<_> = (0..4).map(|i| get(i, "__address__").unwrap()).collect();
        assert_eq!(addresses, ["[::1]:80", "10.0.0.1:80", "h.example:9", "m.example:80"]);
        assert_eq!(get(2, "__meta_dns_srv_record_target"), Some("h.example."));
        assert_eq!(get(2, "__meta_dns_srv_record_port"), Some("9"));
        assert_eq!(get(3, "__meta_dns_mx_record_target"), Some("m.example."));
        assert_eq!(get(0, "__meta_dns_name"), Some("n"));
    }
}
