//! Files as people have them, and what is wrong with others.

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Features::default())
}

#[test]
fn a_usual_file_is_read_with_its_defaults() {
    let config = parse(
        "global:\n  scrape_interval: 15s\n  evaluation_interval: 30s\n  external_labels: {site: here}\n\
         alerting:\n  alertmanagers:\n  - static_configs:\n    - targets: ['am:9093']\n\
         rule_files:\n- rules.yml\n\
         scrape_configs:\n\
         - job_name: prometheus\n  static_configs:\n  - targets: [\"localhost:9090\"]\n    labels: {env: prod}\n\
         - job_name: node\n  scrape_interval: 5s\n  scheme: https\n  basic_auth: {username: u, password: p}\n\
         \x20 tls_config: {insecure_skip_verify: true}\n  relabel_configs:\n  - source_labels: [__address__]\n\
         \x20   target_label: instance\n  file_sd_configs: [{files: ['t/*.json']}]\n  consul_sd_configs: [{server: x}]\n\
         remote_write:\n- url: http://x\n  basic_auth: {password: secret-word}\n",
    )
    .unwrap();
    let [prometheus, node] = config.scrapes.as_slice() else { panic!("{:?}", config.scrapes) };
    assert_eq!((prometheus.scrape_interval, prometheus.scrape_timeout), (Duration(15_000), Duration(10_000)));
    assert_eq!((node.scrape_interval, node.scrape_timeout), (Duration(5_000), Duration(5_000)));
    assert_eq!(
        prometheus.accept(),
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
         application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    );
    assert_eq!(config.unused.len(), 4, "{:?}", config.unused);
    assert!(config.unused[0].contains("consul_sd_configs of job node (line "), "{:?}", config.unused);
    let printed = config.print();
    for part in [
        "global:\n  scrape_interval: 15s\n  scrape_timeout: 10s\n  evaluation_interval: 30s\n",
        "  basic_auth:\n    username: u\n    password: <secret>\n  tls_config:\n    insecure_skip_verify: true\n",
        "  static_configs:\n  - targets:\n    - localhost:9090\n    labels:\n      env: prod\n",
        "rule_files:\n- rules.yml\n",
        "  - source_labels: [__address__]\n    separator: ;\n    target_label: instance\n    replacement: $1\n    action: replace\n",
    ] {
        assert!(printed.contains(part), "{part}\n---\n{printed}");
    }
    assert!(!printed.contains("secret-word"));
    // What is printed is a configuration, and says the same.
    let again = parse(&printed.replace("<secret>", "x")).unwrap();
    assert_eq!(again.print(), printed);
}

/// Fields of type `Secret` in Prometheus 3.14 and its client, and passwords in URLs.
#[test]
fn no_secret_of_an_unused_section_is_shown() {
    let mut text = String::from(
        "scrape_configs:\n- job_name: a\n  http_sd_configs: [{url: 'http://u:hush@sd/list'}]\n\
         remote_write:\n- url: https://u:hush@h:1/w?a=b\n  proxy_url: http://u:so:hush@p\n\
         \x20 proxy_connect_header: {X-Own: [hush, hush]}\n  http_headers: {X-Two: {secrets: [hush], values: [seen]}}\n\
         \x20 basic_auth: {username: me, password: hush}\n  sigv4: {access_key: mine, secret_key: hush}\n\
         \x20 azuread: {oauth: {client_secret: hush}, certificate: {certificate_password: hush}}\n\
         \x20 oauth2: {client_secret: hush, client_certificate_key: hush, tls_config: {key: hush}}\n\
         alerting:\n  alertmanagers:\n",
    );
    for field in [
        "authorization: {credentials: hush}",
        "bearer_token: hush",
        "consul_sd_configs: [{token: hush, password: hush}]",
        "marathon_sd_configs: [{auth_token: hush}]",
        "oci_sd_configs: [{key_passphrase: hush}]",
        "openstack_sd_configs: [{application_credential_secret: hush}]",
        "ovhcloud_sd_configs: [{application_secret: hush, consumer_key: hush}]",
        "stackit_sd_configs: [{service_account_key: hush, private_key: hush}]",
        "static_configs: [{targets: ['am:9093'], labels: {at: 'http://u@h'}}]",
    ] {
        text.push_str(&format!("  - {field}\n"));
    }
    let printed = parse(&text).unwrap().print();
    assert!(!printed.contains("hush"), "{printed}");
    for part in [
        "url: http://u:xxxxx@sd/list\n",
        "- url: https://u:xxxxx@h:1/w?a=b\n  proxy_url: http://u:xxxxx@p\n",
        "proxy_connect_header:\n    X-Own:\n    - <secret>\n    - <secret>\n",
        "secrets:\n      - <secret>\n      values:\n      - seen\n",
        "access_key: mine\n    secret_key: <secret>\n",
        "at: http://u@h\n",
    ] {
        assert!(printed.contains(part), "{part}\n---\n{printed}");
    }
}

#[test]
fn native_histograms_ask_for_protobuf() {
    let config = parse("scrape_configs: [{job_name: a, scrape_native_histograms: true}]").unwrap();
    assert!(config.scrapes[0].accept().starts_with(
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
    ));
}

#[test]
fn wrong_files_are_refused_with_their_line() {
    for (text, what) in [
        ("global:\n  nosuch: 1\n", "line 2: field nosuch not found in type config.plain"),
        ("nosuch: 1", "line 1: field nosuch not found in type config.plain"),
        ("scrape_configs:\n- job_name: a\n  nosuch: 1\n", "line 3: field nosuch not found in type config.ScrapeConfig"),
        ("scrape_configs:\n- job_name: a\n  honor_labels: maybe\n", "line 3: cannot unmarshal !!str `maybe` into bool"),
        ("scrape_configs:\n- job_name: a\n  sample_limit: -1\n", "line 3: cannot unmarshal !!int `-1` into uint"),
        ("scrape_configs:\n- job_name: a\n  scrape_interval: 5x\n", "unknown unit \"x\" in duration \"5x\""),
        ("scrape_configs:\n- job_name: a\n  job_name: b\n", "line 3: field job_name already set in type"),
        ("scrape_configs:\n- scrape_interval: 5s\n", "job_name is empty"),
        ("scrape_configs:\n-\n", "empty or null scrape config section"),
        ("scrape_configs: [{job_name: a}, {job_name: a}]", "found multiple scrape configs with job name \"a\""),
        ("global: {scrape_interval: 5s, scrape_timeout: 6s}", "global scrape timeout greater than scrape interval"),
        (
            "scrape_configs: [{job_name: a, scrape_interval: 1s, scrape_timeout: 2s}]",
            "scrape timeout greater than scrape interval for scrape config with job name \"a\"",
        ),
        (
            "scrape_configs: [{job_name: a, static_configs: [{targets: ['http://x/']}]}]",
            "\"http://x/\" is not a valid hostname",
        ),
        ("scrape_configs: [{job_name: a, scrape_protocols: []}]", "scrape_protocols cannot be empty"),
        (
            "scrape_configs: [{job_name: a, scrape_protocols: [x]}]",
            "unknown scrape protocol x, supported: [OpenMetricsText0.0.1 ",
        ),
        ("scrape_configs: [{job_name: a, proxy_url: 'http://p'}]", "proxy_url is not supported"),
        ("scrape_configs: [{job_name: a, oauth2: {client_id: x}}]", "oauth2 is not supported"),
        ("scrape_configs: [{job_name: a, bearer_token: x, basic_auth: {username: y}}]", "at most one of basic_auth"),
        (
            "scrape_configs: [{job_name: a, authorization: {type: Basic}}]",
            "authorization type cannot be set to \"basic\"",
        ),
        ("scrape_configs: [{job_name: a, dns_sd_configs: [{names: [x], type: A}]}]", "a port is required"),
        ("scrape_configs: [{job_name: a, file_sd_configs: [{files: [a.txt]}]}]", "path name \"a.txt\" is not valid"),
        ("scrape_configs: [{job_name: a, http_sd_configs: [{url: 'ftp://x'}]}]", "URL scheme must be"),
        (
            "scrape_configs: [{job_name: a, metric_name_validation_scheme: legacy, metric_name_escaping_scheme: allow-utf-8}]",
            "utf8 metric names requested",
        ),
        ("a: [", "yaml: line"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(what), "{text}\n{error}");
    }
    assert_eq!(parse("").unwrap(), parse("global:\n").unwrap());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "makes the files that are read")]
fn other_files_and_paths_are_relative_to_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("more")).unwrap();
    let main = "scrape_config_files: ['more/*.yml']\nscrape_configs: [{job_name: a, bearer_token_file: tok}]\n";
    std::fs::write(at("main.yml"), main).unwrap();
    std::fs::write(at("more/b.yml"), "scrape_configs: [{job_name: b, file_sd_configs: [{files: [x.json]}]}]").unwrap();
    let config = Config::load(&at("main.yml"), Features::default()).unwrap();
    assert_eq!(config.scrapes.iter().map(|s| s.job_name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let DiscoveryConfig::File { files, .. } = &config.scrapes[1].discovery[0] else { panic!() };
    assert_eq!(*files, [at("more/x.json").display().to_string()]);
    let Some(client::Credentials::Header { credentials: Some(source), .. }) = &config.scrapes[0].client.credentials
    else {
        panic!()
    };
    assert_eq!(*source, client::Source::File(at("tok")));
    assert!(!config.print().contains("job_name: b"));
    std::fs::write(at("more/c.yml"), "scrape_configs: [{job_name: a}]").unwrap();
    assert!(Config::load(&at("main.yml"), Features::default()).unwrap_err().contains("multiple scrape configs"));
}
