//! Every setting there is: the plain structs, and the one table that names, explains, reads and writes each field.
//!
//! A field that the table does not name does not compile: the table's macro takes each struct apart by name.

use std::path::PathBuf;

use varve_engine::EngineSettings;
use varve_model::Limits;

use super::feature::EnabledFeatures;
use super::value::{Field, Kind};

/// Settings of the server itself: addresses, threads, timeouts.
#[derive(Clone, PartialEq, Debug)]
pub struct ServerSettings {
    /// Where the data is.
    pub data_dir: PathBuf,
    /// Address and port of HTTP.
    pub listen: String,
    /// Which messages go to standard error.
    pub log: String,
    /// The `prometheus.yml` whose targets are scraped; nothing is scraped where it is empty.
    pub scrape_config_file: String,
    /// Whether the server writes its own metrics into itself.
    pub self_scrape: bool,
    /// How often it does.
    pub self_scrape_ms: u64,
    /// How far back an instant selector looks for a sample.
    pub lookback_ms: u64,
    /// What Prometheus has behind `--enable-feature`.
    pub enable_feature: EnabledFeatures,
    /// Open connections.
    pub http_connections_max: u32,
    /// How long a connection may wait for (the rest of) a request's head, and a client may stop reading.
    pub http_idle_ms_max: u64,
    /// How long the body of a request may take to arrive.
    pub http_body_ms_max: u64,
    /// Threads for sockets.
    pub http_threads: u32,
    /// Threads of the query pool.
    pub query_threads: u32,
    /// Threads for flush, compaction and retention.
    pub maintenance_threads: u32,
    /// How long a stop may take.
    pub shutdown_ms_max: u64,
    /// Origins whose scripts may read answers: a regular expression.
    pub web_cors_origin: String,
    /// Whether data may be deleted and copied over HTTP.
    pub web_enable_admin_api: bool,
    /// Whether the server may be stopped and made to read its configuration over HTTP.
    pub web_enable_lifecycle: bool,
}

impl Default for ServerSettings {
    fn default() -> ServerSettings {
        ServerSettings {
            data_dir: PathBuf::from("./varve-data"),
            listen: "127.0.0.1:8278".to_owned(),
            log: "info".to_owned(),
            scrape_config_file: String::new(),
            self_scrape: true,
            self_scrape_ms: 15_000,
            lookback_ms: 300_000,
            enable_feature: EnabledFeatures::default(),
            http_connections_max: 10_000,
            http_idle_ms_max: 60_000,
            http_body_ms_max: 30_000,
            http_threads: 0,
            query_threads: 0,
            maintenance_threads: 0,
            shutdown_ms_max: 20_000,
            web_cors_origin: ".*".to_owned(),
            web_enable_admin_api: false,
            web_enable_lifecycle: false,
        }
    }
}

/// How OTLP metrics become series, by the words of Prometheus's `otlp` section.
#[derive(Clone, PartialEq, Debug)]
pub struct OtlpSettings {
    /// How names are translated.
    pub translation_strategy: String,
    /// Attributes of the resource that become labels, with commas between.
    pub promote_resource_attributes: String,
    /// Whether all of them do.
    pub promote_all_resource_attributes: bool,
    /// All but these, with commas between.
    pub ignore_resource_attributes: String,
    /// Whether `target_info` also has what makes `job` and `instance`.
    pub keep_identifying_resource_attributes: bool,
    /// Whether histograms become native ones with custom buckets.
    pub convert_histograms_to_nhcb: bool,
    /// Whether the scope becomes labels.
    pub promote_scope_metadata: bool,
    /// Whether a label `_a` becomes `key_a`.
    pub label_name_underscore_sanitization: bool,
    /// Whether a label keeps several underscores in a row.
    pub label_name_preserve_multiple_underscores: bool,
    /// Memory of the sums of one tenant's deltas.
    pub delta_bytes_per_tenant_max: u64,
    /// Memory of the sums of all deltas.
    pub delta_bytes_max: u64,
}

impl Default for OtlpSettings {
    fn default() -> OtlpSettings {
        OtlpSettings {
            translation_strategy: "UnderscoreEscapingWithSuffixes".to_owned(),
            promote_resource_attributes: String::new(),
            promote_all_resource_attributes: false,
            ignore_resource_attributes: String::new(),
            keep_identifying_resource_attributes: false,
            convert_histograms_to_nhcb: false,
            promote_scope_metadata: false,
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
            delta_bytes_per_tenant_max: 64 << 20,
            delta_bytes_max: 128 << 20,
        }
    }
}

/// All settings of one server.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Settings {
    /// The server itself; TOML top level.
    pub server: ServerSettings,
    /// Storage; TOML `[engine]`.
    pub engine: EngineSettings,
    /// OTLP; TOML `[otlp]`.
    pub otlp: OtlpSettings,
    /// Limits; TOML `[limits]`.
    pub limits: Limits,
}

/// One setting: where it lives, what it means, how its field is read and written.
pub struct Setting {
    /// `server`, `engine`, `otlp` or `limits`.
    pub section: &'static str,
    /// Name of the field and of the TOML key.
    pub name: &'static str,
    /// What its value means.
    pub kind: Kind,
    /// One sentence or two for users.
    pub doc: &'static str,
    /// The value without units.
    pub show: fn(&Settings) -> String,
    /// Takes a value from text.
    pub take: fn(&mut Settings, &str) -> Result<(), String>,
}

impl Setting {
    /// The flag without its dashes: `limit-` comes before the limits, `otlp-` before what is OTLP's.
    pub fn flag(&self) -> String {
        self.long_name().replace('_', "-")
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("VARVE_{}", self.long_name().to_ascii_uppercase())
    }

    /// The TOML key with its table.
    pub fn key(&self) -> String {
        if self.section == "server" { self.name.to_owned() } else { format!("{}.{}", self.section, self.name) }
    }

    fn long_name(&self) -> String {
        match self.section {
            "limits" => format!("limit_{}", self.name),
            "otlp" => format!("otlp_{}", self.name),
            _ => self.name.to_owned(),
        }
    }
}

macro_rules! settings {
    ($( [$section:ident: $type:ident] $( $name:ident: $kind:ident = $doc:literal; )* )*) => {
        /// Every setting, in the order of the documentation.
        pub static TABLE: &[Setting] = &[ $( $( Setting {
            section: stringify!($section),
            name: stringify!($name),
            kind: Kind::$kind,
            doc: $doc,
            show: |settings| settings.$section.$name.show(),
            take: |settings, text| settings.$section.$name.take(Kind::$kind, text),
        }, )* )* ];

        // Fails to compile when a struct has a field that the table does not name.
        const _: fn(&Settings) = |settings| { $( let $type { $( $name: _, )* } = &settings.$section; )* };
    };
}

settings! {
    [server: ServerSettings]
    data_dir: Text = "Directory of all data. One server at a time may use it.";
    listen: Text = "Address and port of HTTP.";
    log: Text = "Which messages go to standard error: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,varve_server=debug`.";
    scrape_config_file: Text = "A `prometheus.yml`: what its `scrape_configs` name is scraped, for the tenant `anonymous`. Read again on SIGHUP and by `/-/reload`. Nothing is scraped without it.";
    self_scrape: Switch = "Whether the server writes its own metrics into itself (job `varve`; tenant `_varve`, which `anonymous` sees too).";
    self_scrape_ms: Millis = "How often it does.";
    lookback_ms: Millis = "How far back an instant selector looks for a sample; a query's `lookback_delta` overrides it.";
    enable_feature: Names = "Features that change answers, as Prometheus names them, with commas between: `promql-delayed-name-removal`, `use-start-timestamps`, `type-and-unit-labels`. Its other names are taken, too: what they turn on is always on here, or without a meaning.";
    http_connections_max: Count = "Open connections; beyond them a connection is answered 503. Also bounded by the limit on open files.";
    http_idle_ms_max: Millis = "How long a connection may wait for the (rest of the) head of its next request, and a client may stop reading a large answer before it is broken off.";
    http_body_ms_max: Millis = "How long the body of a request may take to arrive; a slower one is answered 408.";
    http_threads: Count = "Threads that serve sockets; 0 means half the cores.";
    query_threads: Count = "Threads that run queries; 0 means one per core.";
    maintenance_threads: Count = "Threads that flush, compact and expire; 0 means a quarter of the cores, at least one.";
    shutdown_ms_max: Millis = "How long a stop may take to answer open requests and flush; what is not flushed is replayed at the next start.";
    web_cors_origin: Text = "Origins whose scripts may read answers of `/api/v1`: a regular expression that matches the whole origin.";
    web_enable_admin_api: Switch = "Whether `/api/v1/admin/tsdb/*` may delete and copy data.";
    web_enable_lifecycle: Switch = "Whether `/-/quit` stops the server and `/-/reload` reads its configuration again.";

    [engine: EngineSettings]
    partitions: Count = "Shards of a new data directory, 1 to 256. It is data: an existing directory keeps its number.";
    flush_bytes: Bytes = "Data in all heads at which they are flushed to segments.";
    flush_ms: Millis = "Age of the oldest unflushed data at which a head is flushed.";
    retention_ms: Millis = "Samples older than this are removed; counted from the earlier of the clock and the tenant's newest sample. 0 keeps them for ever.";
    retention_bytes: Bytes = "Size of all segments beyond which the oldest are removed; 0 sets no bound.";
    block_cache_bytes: Bytes = "Decoded blocks of segments kept for queries.";
    log_file_bytes: Bytes = "Size of one log file.";
    log_retention_ms: Millis = "How long log files are kept for consumers after they were flushed; 0 removes them at once.";
    replay_threads: Count = "Threads that read the log back at the start; each takes whole partitions.";

    [otlp: OtlpSettings]
    translation_strategy: Text = "How names are translated: `UnderscoreEscapingWithSuffixes`, `UnderscoreEscapingWithoutSuffixes`, `NoUTF8EscapingWithSuffixes` or `NoTranslation`.";
    promote_resource_attributes: Names = "Attributes of the resource that become labels of every series, with commas between.";
    promote_all_resource_attributes: Switch = "Whether all attributes of the resource do.";
    ignore_resource_attributes: Names = "All but these, with commas between.";
    keep_identifying_resource_attributes: Switch = "Whether `target_info` also has `service.name`, `service.namespace` and `service.instance.id`.";
    convert_histograms_to_nhcb: Switch = "Whether histograms with explicit bounds become native histograms with custom buckets.";
    promote_scope_metadata: Switch = "Whether name, version, schema and attributes of the scope become labels `otel_scope_…`.";
    label_name_underscore_sanitization: Switch = "Whether a label that begins with one underscore gets `key` before it, when names are escaped.";
    label_name_preserve_multiple_underscores: Switch = "Whether several underscores in a row stay, when names are escaped.";
    delta_bytes_per_tenant_max: Bytes = "Memory of the sums of one tenant's series with delta temporality, 128 bytes each and the buckets of histograms; new ones beyond it are left out.";
    delta_bytes_max: Bytes = "Memory of these sums of all tenants.";

    [limits: Limits]
    body_bytes_max: Bytes = "Bytes of a request body as sent; more is answered 413.";
    decompressed_bytes_max: Bytes = "Bytes of a request body after decompression.";
    bodies_bytes_max: Bytes = "Memory that all request bodies may hold together, as sent, decompressed and decoded, until they are stored; a request that would take more is answered 503. One request of the largest size always passes when it is alone.";
    series_per_request_max: Count = "Series in one write request.";
    labels_per_series_max: Count = "Labels of one series; a series with more is refused, its neighbours are stored.";
    label_name_bytes_max: Bytes = "Bytes of a label name; a series with a longer one is refused.";
    label_value_bytes_max: Bytes = "Bytes of a label value; a series with a longer one is refused.";
    histogram_buckets_max: Count = "Buckets, spans and custom bounds of one native histogram together; a larger one is refused, its neighbours are stored.";
    series_per_tenant_max: Count = "Live series of one tenant; new ones beyond it are refused.";
    series_max: Count = "Live series of all tenants; new ones beyond it are refused.";
    tenants_max: Count = "Tenants.";
    future_ms_max: Millis = "How far a timestamp may lie ahead of the clock; a sample further ahead is refused.";
    head_bytes_max: Bytes = "Memory of all heads; writes beyond it are answered 503 until a flush has made room.";
    queue_bytes_max: Bytes = "Bytes that wait for one shard; writes beyond it are answered 503.";
    concurrent_writes_max: Count = "Write requests in progress; more wait for a short time and are then answered 503.";
    concurrent_queries_max: Count = "Queries in progress; more wait for a short time and are then answered 429.";
    query_samples_max: Count = "Samples one query may read.";
    query_series_max: Count = "Series one query may select.";
    query_steps_max: Count = "Steps of a range query.";
    query_subquery_steps_max: Count = "Steps of one subquery, over the whole query.";
    query_points_max: Count = "Points in one answer.";
    query_bytes_max: Bytes = "Memory one query may hold.";
    queries_bytes_max: Bytes = "Memory all queries may hold together; a query that would take more is answered 503.";
    query_ms_max: Millis = "How long a query may take; a request's `timeout` can only lower it.";
    remote_read_samples_max: Count = "Samples in the answer to a remote read that asks for samples; more is answered 400.";
    remote_read_frame_bytes_max: Bytes = "Size at which a frame of a remote read that asks for chunks is cut.";
    query_text_bytes_max: Bytes = "Bytes of a query text.";
    regex_bytes_max: Bytes = "Memory of one compiled regular expression.";
    metadata_per_tenant_max: Count = "Metric families of a tenant whose type, help and unit are kept.";
    metadata_bytes_per_family_max: Bytes = "Bytes of the name, help and unit of one metric family; a larger one is left out, its samples are stored.";
    metadata_bytes_per_tenant_max: Bytes = "Bytes of the names, helps and units of a tenant that are kept.";
    metadata_bytes_max: Bytes = "Bytes of the names, helps and units of all tenants that are kept: they are in memory and in every snapshot of the manifest.";
    exemplars_per_series_max: Count = "Exemplars of one series that wait in memory for their flush; more are refused.";
    exemplars_per_tenant_max: Count = "Exemplars of one tenant that wait in the memory of a shard for their flush.";
    exemplar_label_chars_max: Count = "Characters of an exemplar's label names and values together.";
    query_exemplars_max: Count = "Exemplars in one answer.";
    deletions_max: Count = "Deletions whose samples wait to be removed from the files of a shard.";
    deletion_bytes_max: Bytes = "Bytes of one deletion's matchers; a longer one is answered 400.";
}

impl Settings {
    /// Checks what no single field can tell; the error names the setting.
    pub fn check(&self) -> Result<(), String> {
        let positive = [
            ("self_scrape_ms", self.server.self_scrape_ms),
            ("lookback_ms", self.server.lookback_ms),
            ("http_connections_max", self.server.http_connections_max.into()),
            ("http_idle_ms_max", self.server.http_idle_ms_max),
            ("http_body_ms_max", self.server.http_body_ms_max),
            ("limits.body_bytes_max", self.limits.body_bytes_max),
            ("limits.decompressed_bytes_max", self.limits.decompressed_bytes_max),
            ("limits.concurrent_writes_max", self.limits.concurrent_writes_max.into()),
            ("limits.concurrent_queries_max", self.limits.concurrent_queries_max.into()),
            ("limits.query_ms_max", self.limits.query_ms_max),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("setting `{name}` must not be 0"));
        }
        if self.limits.decompressed_bytes_max > u64::from(u32::MAX) / 2 {
            return Err("setting `limits.decompressed_bytes_max` must be below 2GiB".to_owned());
        }
        crate::http::cors::Cors::parse(&self.server.web_cors_origin)
            .map_err(|what| format!("setting `web_cors_origin`: {what}"))?;
        self.engine.check().map_err(|e| e.to_string())?;
        crate::http::ingest::otlp_settings(self)?;
        if self.limits.future_ms_max < 0 {
            return Err("setting `limits.future_ms_max` must not be negative".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_reads_back_what_it_shows() {
        let settings = Settings::default();
        for setting in TABLE {
            let mut copy = settings.clone();
            (setting.take)(&mut copy, &(setting.show)(&settings)).unwrap();
            assert_eq!(copy, settings, "{}", setting.key());
        }
    }

    #[test]
    fn flags_and_keys_are_unique() {
        let mut flags: Vec<String> = TABLE.iter().map(Setting::flag).collect();
        flags.sort_unstable();
        flags.dedup();
        assert_eq!(flags.len(), TABLE.len());
    }

    #[test]
    fn defaults_pass_their_own_check() {
        assert_eq!(Settings::default().check(), Ok(()));
    }
}
