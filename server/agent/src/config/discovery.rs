//! Where targets come from: static lists, files, HTTP, DNS.

use std::path::Path;

use super::client::{ClientConfig, redacted};
use super::duration::Duration;
use super::fields::{Fields, Problems};
use crate::regex::Regex;
use crate::yaml::{Node, Value};

/// Discoveries of Prometheus that this server does not have.
pub(super) const OTHERS: [&str; 30] = [
    "aws_sd_configs",
    "azure_sd_configs",
    "consul_sd_configs",
    "digitalocean_sd_configs",
    "docker_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "ecs_sd_configs",
    "elasticache_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "ionos_sd_configs",
    "kubernetes_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "msk_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "openstack_sd_configs",
    "outscale_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "uyuni_sd_configs",
    "vultr_sd_configs",
];

/// Targets with labels they share.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Group {
    /// Addresses.
    pub targets: Vec<String>,
    /// Labels of all of them.
    pub labels: Vec<(String, String)>,
}

impl Group {
    pub(crate) fn read(node: &Node, problems: &Problems) -> Group {
        let mut fields = Fields::new(
            node,
            "struct { Targets []string \"yaml:\\\"targets\\\"\"; Labels model.LabelSet \"yaml:\\\"labels\\\"\" }",
            problems,
        );
        let targets = fields.texts("targets").unwrap_or_default();
        let labels = fields.pairs("labels").unwrap_or_default();
        fields.finish();
        for (name, _) in labels.iter().filter(|(name, _)| name.is_empty()) {
            problems.add(node.line, format!("{name:?} is not a valid label name"));
        }
        Group { targets, labels }
    }

    /// Reads the groups of a YAML list.
    pub(crate) fn read_list(node: &Node) -> Result<Vec<Group>, String> {
        let problems = Problems::default();
        let groups = match &node.value {
            Value::Null => Vec::new(),
            Value::List(nodes) => {
                if nodes.iter().any(Node::is_null) {
                    return Err("nil target group item found".to_owned());
                }
                nodes.iter().map(|node| Group::read(node, &problems)).collect()
            }
            _ => {
                problems.add(node.line, format!("cannot unmarshal {} into []*targetgroup.Group", node.describe()));
                Vec::new()
            }
        };
        problems.result()?;
        Ok(groups)
    }

    pub(crate) fn print(&self) -> Node {
        let mut out = vec![("targets".to_owned(), Node::list(self.targets.iter().map(Node::text)))];
        if !self.labels.is_empty() {
            let mut labels = self.labels.clone();
            labels.sort();
            out.push((
                "labels".to_owned(),
                Node::map(labels.into_iter().map(|(name, value)| (name, Node::text(value)))),
            ));
        }
        Node::map(out)
    }
}

/// A kind of record that DNS discovery asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the words of DNS")]
pub enum RecordType {
    A,
    Aaaa,
    Srv,
    Mx,
    Ns,
}

impl RecordType {
    /// The word of the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            RecordType::A => "A",
            RecordType::Aaaa => "AAAA",
            RecordType::Srv => "SRV",
            RecordType::Mx => "MX",
            RecordType::Ns => "NS",
        }
    }
}

/// One way to find targets.
#[derive(Clone, PartialEq, Debug)]
pub enum DiscoveryConfig {
    /// `static_configs`
    Static(Vec<Group>),
    /// `file_sd_configs`
    File {
        /// Patterns of files.
        files: Vec<String>,
        /// How often they are read.
        refresh: Duration,
    },
    /// `http_sd_configs`
    Http {
        /// Where the list is.
        url: String,
        /// How often it is asked for.
        refresh: Duration,
        /// How it is asked for.
        client: Box<ClientConfig>,
    },
    /// `dns_sd_configs`
    Dns {
        /// Names to ask for.
        names: Vec<String>,
        /// How often they are.
        refresh: Duration,
        /// What is asked for.
        kind: RecordType,
        /// Port of the targets, where the answer has none.
        port: u64,
    },
}

impl DiscoveryConfig {
    pub(super) fn file(node: &Node, problems: &Problems) -> Result<DiscoveryConfig, String> {
        let mut fields = Fields::new(node, "file.plain", problems);
        let files = fields.texts("files").unwrap_or_default();
        let refresh = fields.duration("refresh_interval").unwrap_or(Duration(300_000));
        fields.finish();
        if files.is_empty() {
            return Err("file service discovery config must contain at least one path name".to_owned());
        }
        let pattern = Regex::new(r"[^*]*(\*[^/]*)?\.(json|yml|yaml|JSON|YML|YAML)")?;
        if let Some(file) = files.iter().find(|file| !pattern.is_match(file)) {
            return Err(format!("path name {file:?} is not valid for file discovery"));
        }
        Ok(DiscoveryConfig::File { files, refresh: at_least_a_moment(refresh) })
    }

    pub(super) fn http(node: &Node, problems: &Problems) -> Result<DiscoveryConfig, String> {
        let mut fields = Fields::new(node, "http.plain", problems);
        let url = fields.text("url").unwrap_or_default();
        let refresh = fields.duration("refresh_interval").unwrap_or(Duration(60_000));
        let client = ClientConfig::read(&mut fields)?;
        fields.finish();
        if url.is_empty() {
            return Err("URL is missing".to_owned());
        }
        let parsed: hyper::Uri = url.parse().map_err(|error| format!("parse {url:?}: {error}"))?;
        if !matches!(parsed.scheme_str(), Some("http" | "https")) {
            return Err("URL scheme must be 'http' or 'https'".to_owned());
        }
        if parsed.host().is_none_or(str::is_empty) {
            return Err("host is missing in URL".to_owned());
        }
        Ok(DiscoveryConfig::Http { url, refresh: at_least_a_moment(refresh), client: Box::new(client) })
    }

    pub(super) fn dns(node: &Node, problems: &Problems) -> Result<DiscoveryConfig, String> {
        let mut fields = Fields::new(node, "dns.plain", problems);
        let names = fields.texts("names").unwrap_or_default();
        let refresh = fields.duration("refresh_interval").unwrap_or(Duration(30_000));
        let word = fields.text("type").unwrap_or_else(|| "SRV".to_owned());
        let port = fields.count("port");
        fields.finish();
        if names.is_empty() {
            return Err("DNS-SD config must contain at least one SRV record name".to_owned());
        }
        let kinds = [RecordType::A, RecordType::Aaaa, RecordType::Srv, RecordType::Mx, RecordType::Ns];
        let kind = kinds.into_iter().find(|kind| kind.as_str() == word.to_uppercase());
        let kind = kind.ok_or_else(|| format!("invalid DNS-SD records type {word}"))?;
        if kind != RecordType::Srv && port.is_none_or(|port| port == 0) {
            return Err("a port is required in DNS-SD configs for all record types except SRV".to_owned());
        }
        Ok(DiscoveryConfig::Dns { names, refresh: at_least_a_moment(refresh), kind, port: port.unwrap_or(0) })
    }

    /// The word of the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            DiscoveryConfig::Static(_) => "static_configs",
            DiscoveryConfig::File { .. } => "file_sd_configs",
            DiscoveryConfig::Http { .. } => "http_sd_configs",
            DiscoveryConfig::Dns { .. } => "dns_sd_configs",
        }
    }

    pub(super) fn set_directory(&mut self, dir: &Path) {
        match self {
            DiscoveryConfig::File { files, .. } => {
                files.iter_mut().for_each(|file| *file = dir.join(&*file).display().to_string());
            }
            DiscoveryConfig::Http { client, .. } => client.set_directory(dir),
            DiscoveryConfig::Static(_) | DiscoveryConfig::Dns { .. } => {}
        }
    }

    pub(super) fn print(&self) -> Node {
        let mut out: Vec<(String, Node)> = Vec::new();
        match self {
            DiscoveryConfig::Static(groups) => return Node::list(groups.iter().map(Group::print)),
            DiscoveryConfig::File { files, refresh } => {
                out.push(("files".to_owned(), Node::list(files.iter().map(Node::text))));
                out.push(("refresh_interval".to_owned(), Node::text(refresh.to_string())));
            }
            DiscoveryConfig::Http { url, refresh, client } => {
                client.print(&mut out);
                out.push(("refresh_interval".to_owned(), Node::text(refresh.to_string())));
                out.push(("url".to_owned(), Node::text(redacted(url))));
            }
            DiscoveryConfig::Dns { names, refresh, kind, port } => {
                out.push(("names".to_owned(), Node::list(names.iter().map(Node::text))));
                out.push(("refresh_interval".to_owned(), Node::text(refresh.to_string())));
                out.push(("type".to_owned(), Node::text(kind.as_str())));
                out.push(("port".to_owned(), Node::plain(port.to_string())));
            }
        }
        Node::map(out)
    }
}

/// Nothing is asked for without pause.
fn at_least_a_moment(duration: Duration) -> Duration {
    duration.max(Duration(1))
}
