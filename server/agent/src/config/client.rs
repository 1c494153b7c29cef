//! How a server is asked over HTTP: credentials, TLS, redirects. Part of every scrape and of HTTP discovery.

use std::path::{Path, PathBuf};

use super::fields::{Fields, Problems};
use crate::yaml::Node;

/// What the configuration shows instead of a secret.
pub(super) const SECRET: &str = "<secret>";

/// A URL without the password in it; any other text as it is.
pub(crate) fn redacted(url: &str) -> String {
    let parts = || {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, host) = authority.rsplit_once('@')?;
        let (name, _) = user.split_once(':')?;
        let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        // The word of Prometheus: `<secret>` would have to be escaped.
        is_scheme.then(|| format!("{scheme}://{name}:xxxxx@{host}{tail}"))
    };
    parts().unwrap_or_else(|| url.to_owned())
}

/// A text that stands in the configuration or in a file that is read at each use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The text itself.
    Text(String),
    /// A file that holds it; blanks around it do not count.
    File(PathBuf),
}

impl Source {
    fn set_directory(&mut self, dir: &Path) {
        if let Source::File(path) = self {
            *path = dir.join(&*path);
        }
    }

    /// The text; a file is read.
    pub fn read(&self) -> Result<String, String> {
        match self {
            Source::Text(text) => Ok(text.clone()),
            Source::File(path) => std::fs::read_to_string(path)
                .map(|text| text.trim().to_owned())
                .map_err(|error| format!("unable to read file {}: {error}", path.display())),
        }
    }
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Credentials {
    /// `basic_auth`
    Basic {
        /// User.
        username: Option<Source>,
        /// Password.
        password: Option<Source>,
    },
    /// `authorization`, also in the old forms `bearer_token` and `bearer_token_file`.
    Header {
        /// Scheme, `Bearer` where nothing is said.
        scheme: String,
        /// What follows it.
        credentials: Option<Source>,
    },
}

/// `tls_config`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlsConfig {
    /// Authorities to trust instead of the system's.
    pub ca: Option<Source>,
    /// Own certificate.
    pub cert: Option<Source>,
    /// Key of the own certificate.
    pub key: Option<Source>,
    /// Name the server's certificate must have, instead of the host asked.
    pub server_name: String,
    /// Take any certificate.
    pub insecure_skip_verify: bool,
    /// Oldest version, `TLS12` or `TLS13`.
    pub min_version: Option<String>,
    /// Newest version.
    pub max_version: Option<String>,
}

/// How a server is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientConfig {
    /// Who asks.
    pub credentials: Option<Credentials>,
    /// TLS.
    pub tls: TlsConfig,
    /// Whether a redirect is followed.
    pub follow_redirects: bool,
    /// Kept for display: this client speaks HTTP/1.1.
    pub enable_http2: bool,
    /// Headers to add, in the order written; the flag says whether the value is secret.
    pub headers: Vec<(String, bool, Source)>,
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            credentials: None,
            tls: TlsConfig::default(),
            follow_redirects: true,
            enable_http2: true,
            headers: Vec::new(),
        }
    }
}

/// Headers that the client sets itself.
const RESERVED_HEADERS: [&str; 18] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
];

impl ClientConfig {
    /// Takes the fields that stand inline in `fields`; the result's error is what Prometheus says of the whole.
    pub(crate) fn read(fields: &mut Fields<'_>) -> Result<ClientConfig, String> {
        let problems = fields.problems();
        let bearer = fields.text("bearer_token").filter(|text| !text.is_empty());
        let bearer_file = fields.text("bearer_token_file").filter(|text| !text.is_empty());
        let basic = fields.get("basic_auth").map(|node| basic_auth(node, problems)).transpose()?;
        let header = fields.get("authorization").map(|node| authorization(node, problems)).transpose()?;
        let tls = match fields.get("tls_config") {
            Some(node) => TlsConfig::read(node, problems)?,
            None => TlsConfig::default(),
        };
        let follow_redirects = fields.flag("follow_redirects").unwrap_or(true);
        let enable_http2 = fields.flag("enable_http2").unwrap_or(true);
        let headers = fields.get("http_headers").map(|node| http_headers(node, problems)).transpose()?;
        if fields.get("oauth2").is_some() {
            return Err(
                "oauth2 is not supported; use authorization with a credentials_file that is kept fresh".to_owned()
            );
        }
        for name in ["proxy_url", "no_proxy", "proxy_connect_header"] {
            if fields.get(name).is_some() {
                return Err(format!("{name} is not supported: targets are asked directly, without a proxy"));
            }
        }
        if fields.flag("proxy_from_environment") == Some(true) {
            return Err(
                "proxy_from_environment is not supported: targets are asked directly, without a proxy".to_owned()
            );
        }
        if bearer.is_some() && bearer_file.is_some() {
            return Err("at most one of bearer_token & bearer_token_file must be configured".to_owned());
        }
        let bearer = bearer.map(Source::Text).or(bearer_file.map(|path| Source::File(path.into())));
        if basic.is_some() && bearer.is_some() {
            return Err(
                "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured".to_owned()
            );
        }
        if header.is_some() && bearer.is_some() {
            return Err("authorization is not compatible with bearer_token & bearer_token_file".to_owned());
        }
        if header.is_some() && basic.is_some() {
            return Err("at most one of basic_auth, oauth2 & authorization must be configured".to_owned());
        }
        let bearer =
            bearer.map(|source| Credentials::Header { scheme: "Bearer".to_owned(), credentials: Some(source) });
        Ok(ClientConfig {
            credentials: basic.or(header).or(bearer),
            tls,
            follow_redirects,
            enable_http2,
            headers: headers.unwrap_or_default(),
        })
    }

    /// Makes relative paths relative to `dir`.
    pub(crate) fn set_directory(&mut self, dir: &Path) {
        let mut sources: Vec<&mut Source> = self.headers.iter_mut().map(|(_, _, source)| source).collect();
        match &mut self.credentials {
            Some(Credentials::Basic { username, password }) => {
                sources.extend(username.as_mut());
                sources.extend(password.as_mut());
            }
            Some(Credentials::Header { credentials, .. }) => sources.extend(credentials.as_mut()),
            None => {}
        }
        let tls = &mut self.tls;
        sources.extend([&mut tls.ca, &mut tls.cert, &mut tls.key].into_iter().flatten());
        sources.into_iter().for_each(|source| source.set_directory(dir));
    }

    /// The fields as Prometheus prints them.
    pub(crate) fn print(&self, out: &mut Vec<(String, Node)>) {
        let mut push = |name: &str, node: Node| out.push((name.to_owned(), node));
        match &self.credentials {
            Some(Credentials::Basic { username, password }) => {
                let mut inner = Vec::new();
                print_source(&mut inner, "username", username.as_ref(), false);
                print_source(&mut inner, "password", password.as_ref(), true);
                push("basic_auth", Node::map(inner));
            }
            Some(Credentials::Header { scheme, credentials }) => {
                let mut inner = vec![("type".to_owned(), Node::text(scheme))];
                print_source(&mut inner, "credentials", credentials.as_ref(), true);
                push("authorization", Node::map(inner));
            }
            None => {}
        }
        if self.tls != TlsConfig::default() {
            push("tls_config", self.tls.print());
        }
        push("follow_redirects", Node::plain(self.follow_redirects.to_string()));
        push("enable_http2", Node::plain(self.enable_http2.to_string()));
        if self.headers.is_empty() {
            return;
        }
        let headers = self.headers.iter().map(|(name, secret, source)| {
            let (key, value) = match source {
                Source::File(path) => ("files", Node::text(path.display().to_string())),
                Source::Text(_) if *secret => ("secrets", Node::plain(SECRET)),
                Source::Text(text) => ("values", Node::text(text)),
            };
            (name.clone(), Node::map([(key.to_owned(), Node::list([value]))]))
        });
        push("http_headers", Node::map(headers));
    }
}

fn print_source(out: &mut Vec<(String, Node)>, name: &str, source: Option<&Source>, secret: bool) {
    match source {
        None => {}
        Some(Source::Text(_)) if secret => out.push((name.to_owned(), Node::plain(SECRET))),
        Some(Source::Text(text)) => out.push((name.to_owned(), Node::text(text))),
        Some(Source::File(path)) => out.push((format!("{name}_file"), Node::text(path.display().to_string()))),
    }
}

/// A text or a file, of which one may be given.
fn source(
    fields: &mut Fields<'_>,
    name: &'static str,
    file: &'static str,
    reference: &'static str,
    both: &str,
) -> Result<Option<Source>, String> {
    let text = fields.text(name).filter(|text| !text.is_empty());
    let path = fields.text(file).filter(|text| !text.is_empty());
    if fields.text(reference).is_some_and(|text| !text.is_empty()) {
        return Err(format!("{reference} is not supported: there is no secret manager"));
    }
    match (text, path) {
        (Some(_), Some(_)) => Err(both.to_owned()),
        (Some(text), None) => Ok(Some(Source::Text(text))),
        (None, path) => Ok(path.map(|path| Source::File(path.into()))),
    }
}

fn basic_auth(node: &Node, problems: &Problems) -> Result<Credentials, String> {
    let mut fields = Fields::new(node, "config.plain", problems);
    let both = "at most one of basic_auth username, username_file & username_ref must be configured";
    let username = source(&mut fields, "username", "username_file", "username_ref", both)?;
    let both = "at most one of basic_auth password, password_file & password_ref must be configured";
    let password = source(&mut fields, "password", "password_file", "password_ref", both)?;
    fields.finish();
    Ok(Credentials::Basic { username, password })
}

fn authorization(node: &Node, problems: &Problems) -> Result<Credentials, String> {
    let mut fields = Fields::new(node, "config.Authorization", problems);
    let scheme = fields.text("type").unwrap_or_default().trim().to_owned();
    let both = "at most one of authorization credentials & credentials_file must be configured";
    let credentials = source(&mut fields, "credentials", "credentials_file", "credentials_ref", both)?;
    fields.finish();
    if scheme.eq_ignore_ascii_case("basic") {
        return Err(r#"authorization type cannot be set to "basic", use "basic_auth" instead"#.to_owned());
    }
    Ok(Credentials::Header { scheme: if scheme.is_empty() { "Bearer".to_owned() } else { scheme }, credentials })
}

fn http_headers(node: &Node, problems: &Problems) -> Result<Vec<(String, bool, Source)>, String> {
    let crate::yaml::Value::Map(entries) = &node.value else {
        problems.add(node.line, format!("cannot unmarshal {} into map[string]config.Header", node.describe()));
        return Ok(Vec::new());
    };
    let mut out = Vec::new();
    for entry in entries {
        if RESERVED_HEADERS.contains(&entry.key.to_ascii_lowercase().as_str()) {
            return Err(format!("setting header {:?} is not allowed", entry.key));
        }
        let mut fields = Fields::new(&entry.node, "config.Header", problems);
        let values = fields.texts("values").unwrap_or_default().into_iter().map(|text| (false, Source::Text(text)));
        let secrets = fields.texts("secrets").unwrap_or_default().into_iter().map(|text| (true, Source::Text(text)));
        let files = fields.texts("files").unwrap_or_default().into_iter().map(|path| (true, Source::File(path.into())));
        fields.finish();
        let all = values.chain(secrets).chain(files);
        out.extend(all.map(|(secret, source)| (entry.key.clone(), secret, source)));
    }
    Ok(out)
}

impl TlsConfig {
    fn read(node: &Node, problems: &Problems) -> Result<TlsConfig, String> {
        let mut fields = Fields::new(node, "config.plain", problems);
        let both = |name: &str| format!("at most one of {name}, {name}_file & {name}_ref must be configured");
        let ca = source(&mut fields, "ca", "ca_file", "ca_ref", &both("ca"))?;
        let cert = source(&mut fields, "cert", "cert_file", "cert_ref", &both("cert"))?;
        let key = source(&mut fields, "key", "key_file", "key_ref", &both("key"))?;
        let mut version = |name| {
            fields.read(name, |text| match text {
                "TLS10" | "TLS11" | "TLS12" | "TLS13" => Ok(text.to_owned()),
                _ => Err(format!("unknown TLS version: {text}")),
            })
        };
        let (min_version, max_version) = (version("min_version"), version("max_version"));
        let server_name = fields.text("server_name").unwrap_or_default();
        let insecure_skip_verify = fields.flag("insecure_skip_verify").unwrap_or(false);
        fields.finish();
        match (&cert, &key) {
            (Some(_), None) => {
                return Err(
                    "exactly one of key or key_file must be configured when a client certificate is configured"
                        .to_owned(),
                );
            }
            (None, Some(_)) => {
                return Err(
                    "exactly one of cert or cert_file must be configured when a client key is configured".to_owned()
                );
            }
            _ => {}
        }
        if matches!(max_version.as_deref(), Some("TLS10" | "TLS11")) {
            return Err("tls_config: versions before TLS12 are not supported".to_owned());
        }
        Ok(TlsConfig { ca, cert, key, server_name, insecure_skip_verify, min_version, max_version })
    }

    fn print(&self) -> Node {
        let mut out = Vec::new();
        print_source(&mut out, "ca", self.ca.as_ref(), false);
        print_source(&mut out, "cert", self.cert.as_ref(), false);
        print_source(&mut out, "key", self.key.as_ref(), true);
        if !self.server_name.is_empty() {
            out.push(("server_name".to_owned(), Node::text(&self.server_name)));
        }
        out.push(("insecure_skip_verify".to_owned(), Node::plain(self.insecure_skip_verify.to_string())));
        for (name, version) in [("min_version", &self.min_version), ("max_version", &self.max_version)] {
            if let Some(version) = version {
                out.push((name.to_owned(), Node::text(version)));
            }
        }
        Node::map(out)
    }
}
