//! The data: what a Prometheus sends that scrapes a node_exporter and one small HTTP service on each host.
//!
//! A host has 500 series, and each value is a pure function of host, series and step: nothing is kept, and every run
//! and machine makes the same. About half of the series never change, as on a real host; the rest are counters of
//! integers and of seconds, gauges of pages, histograms and durations that are noise. One host in twenty reboots once.

/// Series of a host.
pub(crate) const SERIES_PER_HOST: usize = 500;
/// Milliseconds between two samples of a series.
pub(crate) const INTERVAL_MS: i64 = 15_000;
/// End of the data: 2026-01-01T00:00:00Z.
pub(crate) const END_MS: i64 = 1_767_225_600_000;

/// How a series behaves.
#[derive(Clone, Copy)]
enum Kind {
    /// Never changes.
    Constant(f64),
    /// Integer that goes up: mean increment.
    Counter(f64),
    /// Seconds that go up: mean increment, digits after the point.
    Seconds(f64, i32),
    /// Bytes in pages: pages about which it wanders, how far, steps that it stays.
    Pages(f64, f64, u32),
    /// Integer that wanders: about what, how far, steps that it stays.
    Whole(f64, f64, u32),
    /// Load with two digits after the point.
    Load(f64),
    /// Duration about so many seconds, in whole nanoseconds.
    Noise(f64),
    /// The time of the scrape.
    Clock,
    /// Requests that took at most a time: mean number, their part of all.
    Bucket(f64, f64),
    /// Seconds that requests took: mean number, mean time.
    Sum(f64, f64),
}

/// Names that share labels and behaviour; every combination of label values is a series.
struct Family {
    prefix: &'static str,
    /// With blanks between.
    names: &'static str,
    labels: Labels,
    kind: Kind,
}

/// Names of labels, and their values with blanks between.
type Labels = &'static [(&'static str, &'static str)];

const fn family(prefix: &'static str, names: &'static str, labels: Labels, kind: Kind) -> Family {
    Family { prefix, names, labels, kind }
}

const CPUS: &str = "0 1 2 3";
const CPU: Labels = &[("cpu", CPUS)];
const BUSY_DISK: Labels = &[("device", "nvme0n1")];
const IDLE_DISK: Labels = &[("device", "nvme1n1")];
const BUSY_NET: Labels = &[("device", "eth0 lo")];
const IDLE_NET: Labels = &[("device", "docker0")];
const NET: Labels = &[("device", "eth0 lo docker0")];
const MOUNTS: Labels = &[("fstype", "ext4"), ("mountpoint", "/ /var /data /run")];
const COLLECTORS: Labels = &[(
    "collector",
    "arp bcache bonding btrfs conntrack cpu cpufreq diskstats dmi edac entropy fibrechannel filefd \
         filesystem hwmon infiniband ipvs loadavg mdadm meminfo netclass netdev netisr netstat nfs nfsd nvme \
         os powersupply pressure rapl schedstat selinux sockstat softnet stat tapestats textfile thermal_zone \
         time timex udp_queues uname vmstat xfs zfs",
)];

const FAMILIES: &[Family] = &[
    family("node_cpu_", "seconds_total", &[("cpu", CPUS), ("mode", "idle")], Kind::Seconds(12.0, 2)),
    family("node_cpu_", "seconds_total", &[("cpu", CPUS), ("mode", "user system")], Kind::Seconds(0.8, 2)),
    family("node_cpu_", "seconds_total", &[("cpu", CPUS), ("mode", "iowait softirq steal")], Kind::Seconds(0.05, 2)),
    family("node_cpu_", "seconds_total", &[("cpu", CPUS), ("mode", "irq nice")], Kind::Constant(0.0)),
    family("node_cpu_", "guest_seconds_total", &[("cpu", CPUS), ("mode", "user nice")], Kind::Constant(0.0)),
    family("node_softnet_", "processed_total", CPU, Kind::Counter(900.0)),
    family("node_softnet_", "times_squeezed_total", CPU, Kind::Counter(0.02)),
    family("node_softnet_", "dropped_total", CPU, Kind::Constant(0.0)),
    family("node_schedstat_", "running_seconds_total waiting_seconds_total", CPU, Kind::Seconds(1.2, 9)),
    family("node_schedstat_", "timeslices_total", CPU, Kind::Counter(4000.0)),
    family(
        "node_disk_",
        "reads_completed_total writes_completed_total writes_merged_total flush_requests_total",
        BUSY_DISK,
        Kind::Counter(60.0),
    ),
    family("node_disk_", "read_bytes_total written_bytes_total", BUSY_DISK, Kind::Counter(540_000.0)),
    family(
        "node_disk_",
        "read_time_seconds_total write_time_seconds_total io_time_seconds_total",
        BUSY_DISK,
        Kind::Seconds(0.06, 3),
    ),
    family("node_disk_", "io_now", BUSY_DISK, Kind::Whole(1.0, 2.0, 5)),
    family(
        "node_disk_",
        "reads_completed_total writes_completed_total writes_merged_total flush_requests_total \
         read_bytes_total written_bytes_total read_time_seconds_total write_time_seconds_total \
         io_time_seconds_total io_now",
        IDLE_DISK,
        Kind::Constant(0.0),
    ),
    family("node_filesystem_", "size_bytes", MOUNTS, Kind::Constant(422_212_465_664.0)),
    family("node_filesystem_", "files", MOUNTS, Kind::Constant(25_769_803.0)),
    family("node_filesystem_", "readonly device_error", MOUNTS, Kind::Constant(0.0)),
    family("node_filesystem_", "avail_bytes free_bytes", MOUNTS, Kind::Pages(40e6, 4000.0, 2)),
    family("node_filesystem_", "files_free", MOUNTS, Kind::Whole(23e6, 200.0, 4)),
    family(
        "node_memory_",
        "MemFree_bytes MemAvailable_bytes Cached_bytes Buffers_bytes Active_bytes Inactive_bytes \
         Active_anon_bytes Inactive_anon_bytes Active_file_bytes Inactive_file_bytes AnonPages_bytes \
         Mapped_bytes Committed_AS_bytes Slab_bytes SReclaimable_bytes PageTables_bytes",
        &[],
        Kind::Pages(800e3, 9000.0, 1),
    ),
    family(
        "node_memory_",
        "SUnreclaim_bytes KernelStack_bytes VmallocUsed_bytes Shmem_bytes Dirty_bytes",
        &[],
        Kind::Pages(20e3, 100.0, 3),
    ),
    family(
        "node_memory_",
        "MemTotal_bytes CommitLimit_bytes VmallocTotal_bytes Percpu_bytes DirectMap4k_bytes",
        &[],
        Kind::Constant(16_777_216_000.0),
    ),
    family(
        "node_memory_",
        "SwapTotal_bytes SwapFree_bytes SwapCached_bytes Bounce_bytes NFS_Unstable_bytes WritebackTmp_bytes \
         Writeback_bytes HugePages_Total HugePages_Free HugePages_Rsvd",
        &[],
        Kind::Constant(0.0),
    ),
    family("node_network_", "receive_bytes_total transmit_bytes_total", BUSY_NET, Kind::Counter(1.8e6)),
    family("node_network_", "receive_packets_total transmit_packets_total", BUSY_NET, Kind::Counter(2500.0)),
    family(
        "node_network_",
        "receive_bytes_total transmit_bytes_total receive_packets_total transmit_packets_total",
        IDLE_NET,
        Kind::Constant(0.0),
    ),
    family(
        "node_network_",
        "receive_errs_total transmit_errs_total receive_drop_total transmit_drop_total receive_fifo_total \
         transmit_fifo_total receive_multicast_total receive_frame_total transmit_colls_total \
         transmit_carrier_total dormant iface_link_mode",
        NET,
        Kind::Constant(0.0),
    ),
    family("node_network_", "up carrier protocol_type info", NET, Kind::Constant(1.0)),
    family("node_network_", "mtu_bytes transmit_queue_length flags", NET, Kind::Constant(1500.0)),
    family(
        "node_",
        "netstat_Tcp_InSegs netstat_Tcp_OutSegs netstat_Ip_Forwarded netstat_IpExt_InOctets \
         netstat_IpExt_OutOctets vmstat_pgfault context_switches_total intr_total",
        &[],
        Kind::Counter(9000.0),
    ),
    family(
        "node_",
        "netstat_Tcp_ActiveOpens netstat_Tcp_PassiveOpens netstat_Tcp_RetransSegs netstat_Udp_InDatagrams \
         netstat_Udp_OutDatagrams vmstat_pgpgin vmstat_pgpgout forks_total",
        &[],
        Kind::Counter(15.0),
    ),
    family(
        "node_",
        "netstat_Tcp_OutRsts netstat_Udp_NoPorts netstat_Icmp_InMsgs netstat_Icmp_OutMsgs \
         netstat_TcpExt_TCPTimeouts vmstat_pgmajfault",
        &[],
        Kind::Counter(0.1),
    ),
    family(
        "node_",
        "netstat_Udp_InErrors netstat_Udp_RcvbufErrors netstat_Udp_SndbufErrors netstat_Icmp_InErrors \
         netstat_Icmp6_InErrors netstat_Icmp6_InMsgs netstat_Tcp_InErrs netstat_TcpExt_ListenDrops \
         netstat_TcpExt_ListenOverflows netstat_TcpExt_SyncookiesFailed vmstat_pswpin vmstat_pswpout \
         vmstat_oom_kill",
        &[],
        Kind::Constant(0.0),
    ),
    family(
        "node_",
        "netstat_Tcp_CurrEstab sockstat_TCP_inuse sockstat_TCP_alloc sockstat_TCP_tw sockstat_sockets_used \
         filefd_allocated",
        &[],
        Kind::Whole(180.0, 25.0, 2),
    ),
    family("node_", "procs_running procs_blocked arp_entries", &[], Kind::Whole(2.0, 2.0, 4)),
    family(
        "node_",
        "sockstat_TCP_orphan sockstat_FRAG_inuse sockstat_RAW_inuse sockstat_UDPLITE_inuse",
        &[],
        Kind::Constant(0.0),
    ),
    family("node_", "load1 load5 load15", &[], Kind::Load(1.2)),
    family(
        "node_pressure_",
        "cpu_waiting_seconds_total io_waiting_seconds_total io_stalled_seconds_total",
        &[],
        Kind::Seconds(0.02, 6),
    ),
    family("node_", "time_seconds", &[], Kind::Clock),
    family("node_", "boot_time_seconds", &[], Kind::Constant(1_760_000_000.0)),
    family(
        "node_timex_",
        "pps_error_total pps_frequency_hertz pps_jitter_seconds pps_shift_seconds tai_offset_seconds",
        &[],
        Kind::Constant(0.0),
    ),
    family("node_timex_", "sync_status status", &[], Kind::Constant(1.0)),
    family("node_timex_", "offset_seconds maxerror_seconds estimated_error_seconds", &[], Kind::Noise(2e-5)),
    family("node_", "uname_info os_info exporter_build_info", &[], Kind::Constant(1.0)),
    family("node_scrape_collector_", "success", COLLECTORS, Kind::Constant(1.0)),
    family("node_scrape_collector_", "duration_seconds", COLLECTORS, Kind::Noise(3e-4)),
    family("", "up", &[], Kind::Constant(1.0)),
    family("scrape_", "samples_scraped samples_post_metric_relabeling", &[], Kind::Constant(495.0)),
    family("scrape_", "series_added", &[], Kind::Constant(0.0)),
    family("scrape_", "duration_seconds", &[], Kind::Noise(0.03)),
    family("go_memstats_", "heap_alloc_bytes heap_inuse_bytes", &[], Kind::Pages(1000.0, 200.0, 1)),
    family("go_memstats_", "mallocs_total frees_total", &[], Kind::Counter(19_000.0)),
    family("go_", "goroutines", &[], Kind::Whole(9.0, 2.0, 5)),
    family("process_", "cpu_seconds_total", &[], Kind::Seconds(0.02, 2)),
    family("process_", "open_fds", &[], Kind::Whole(10.0, 2.0, 5)),
    family("process_", "max_fds virtual_memory_bytes", &[], Kind::Constant(524_288.0)),
    family("http_", "requests_total", &[("code", "200 404"), ("method", "GET")], Kind::Counter(40.0)),
];

/// Handlers of the HTTP service, requests a step and mean seconds of one; bounds of their histograms.
const HANDLERS: [(&str, f64, f64); 2] = [("/api/orders", 600.0, 0.06), ("/health", 22.0, 0.002)];
const BOUNDS: [&str; 11] = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "+Inf"];

/// A series of every host.
pub(crate) struct Series {
    name: String,
    labels: Vec<(&'static str, String)>,
    kind: Kind,
}

/// The series that each host has.
pub(crate) fn series() -> Vec<Series> {
    let mut all = Vec::new();
    for family in FAMILIES {
        for name in family.names.split(' ') {
            let mut sets = vec![Vec::new()];
            for (label, values) in family.labels {
                let with = |set: &Vec<(&'static str, String)>, value: &str| {
                    let mut set = set.clone();
                    set.push((*label, value.to_owned()));
                    set
                };
                sets = sets.iter().flat_map(|set| values.split(' ').map(move |value| with(set, value))).collect();
            }
            let name = format!("{}{name}", family.prefix);
            all.extend(sets.into_iter().map(|labels| Series { name: name.clone(), labels, kind: family.kind }));
        }
    }
    for (handler, rate, latency) in HANDLERS {
        let mut add = |name: &str, le: Option<&str>, kind| {
            let mut labels = vec![("handler", handler.to_owned())];
            labels.extend(le.map(|le| ("le", le.to_owned())));
            all.push(Series { name: format!("http_request_duration_seconds_{name}"), labels, kind });
        };
        for bound in BOUNDS {
            let seconds = bound.parse::<f64>().unwrap();
            add("bucket", Some(bound), Kind::Bucket(rate, 1.0 - (-seconds / latency).exp()));
        }
        add("count", None, Kind::Bucket(rate, 1.0));
        add("sum", None, Kind::Sum(rate, latency));
    }
    assert!(all.len() <= SERIES_PER_HOST, "{} series", all.len());
    for route in 0..SERIES_PER_HOST - all.len() {
        let kind = if route % 5 < 2 { Kind::Counter(3.0) } else { Kind::Constant(0.0) };
        let labels = vec![("route", format!("/r/{route:03}"))];
        all.push(Series { name: "http_route_requests_total".to_owned(), labels, kind });
    }
    all
}

/// The labels of a host's series, in order of names.
pub(crate) fn labels(host: u32, series: &Series) -> Vec<(&str, String)> {
    let mut labels = series.labels.clone();
    labels.push(("__name__", series.name.clone()));
    labels.push(("dc", ["ams", "fra", "iad", "sin"][host as usize % 4].to_owned()));
    labels.push(("instance", format!("host-{host:04}:9100")));
    labels.push(("job", if series.name.starts_with("http_") { "orders" } else { "node" }.to_owned()));
    labels.sort();
    labels
}

/// When a host is scraped: at its own place in the interval, so that no sample falls on the edge of a window.
pub(crate) fn time(host: u32, step: u32, steps: u32) -> i64 {
    let place = 1 + (mix(u64::from(host) ^ 0x5eed) % (INTERVAL_MS as u64 - 2)) as i64;
    END_MS - i64::from(steps - step) * INTERVAL_MS + place
}

/// The value of a series at a step.
pub(crate) fn value(host: u32, index: u32, series: &Series, step: u32, steps: u32) -> f64 {
    let id = mix(u64::from(host) << 32 | u64::from(index));
    // A magnitude of its own, within a factor of three either way.
    let own = |mean: f64| mean * 3f64.powf(2.0 * unit(id) - 1.0);
    let since = |mean: f64| mean * (f64::from(since_boot(host, step, steps)) + unit(id ^ mix(u64::from(step) + 1)));
    // All of a histogram counts the same requests.
    let requests = |rate: f64| {
        let host_id = mix(u64::from(host) ^ rate.to_bits());
        let seen = unit(host_id ^ mix(u64::from(step) + 1));
        rate * (0.5 + unit(host_id)) * (f64::from(since_boot(host, step, steps)) + seen)
    };
    match series.kind {
        Kind::Constant(value) => value,
        Kind::Counter(mean) => since(own(mean)).floor(),
        Kind::Seconds(mean, digits) => rounded(since(own(mean).min(14.0)), digits),
        Kind::Pages(base, far, hold) => (own(base) + far * wander(id, step / hold)).max(0.0).round() * 4096.0,
        Kind::Whole(base, far, hold) => (base + far * wander(id, step / hold)).max(0.0).round(),
        Kind::Load(base) => rounded((own(base) * (1.0 + wander(id, step))).max(0.0), 2),
        Kind::Noise(base) => rounded(own(base) * (0.5 + unit(id ^ mix(u64::from(step) + 1))), 9),
        Kind::Clock => rounded(time(host, step, steps) as f64 / 1000.0 + unit(id ^ u64::from(step)) * 0.003, 7),
        Kind::Bucket(rate, part) => (requests(rate).floor() * part).floor(),
        Kind::Sum(rate, latency) => rounded(requests(rate) * latency, 9),
    }
}

/// Steps since the host has started: days, or since the reboot that one host in twenty has.
fn since_boot(host: u32, step: u32, steps: u32) -> u32 {
    let id = mix(u64::from(host) ^ 0xb007);
    let reboot = (unit(mix(id)) * f64::from(steps)) as u32;
    if id.is_multiple_of(20) && step >= reboot { step - reboot } else { step + 2000 + (id >> 40) as u32 % 200_000 }
}

/// A path between -1 and 1 that goes slowly, with some noise.
fn wander(id: u64, step: u32) -> f64 {
    let at = |step: u32, salt: u64| 2.0 * unit(id ^ mix(u64::from(step) | salt << 32)) - 1.0;
    let slow = |period: u32, salt: u64| {
        let part = f64::from(step % period) / f64::from(period);
        at(step / period, salt) * (1.0 - part) + at(step / period + 1, salt) * part
    };
    0.6 * slow(240, 1) + 0.3 * slow(20, 2) + 0.1 * at(step, 3)
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// From 0 to below 1.
fn unit(id: u64) -> f64 {
    (mix(id) >> 11) as f64 / (1u64 << 53) as f64
}

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_its_series_once_and_its_counters_only_go_up() {
        let series = series();
        assert_eq!(series.len(), SERIES_PER_HOST);
        let mut sets: Vec<_> = series.iter().map(|series| labels(7, series)).collect();
        sets.sort();
        sets.dedup();
        assert_eq!(sets.len(), SERIES_PER_HOST);
        let changing = series.iter().filter(|series| !matches!(series.kind, Kind::Constant(_))).count();
        assert!((200..300).contains(&changing), "{changing}");
        for (index, series) in (0u32..).zip(&series) {
            if series.name.ends_with("_total") || series.name.starts_with("http_") {
                let values: Vec<f64> = (0..100).map(|step| value(1, index, series, step, 1440)).collect();
                assert!(values.is_sorted(), "{}: {values:?}", series.name);
            }
        }
    }
}
