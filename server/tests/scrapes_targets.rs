//! The server scrapes: targets of a prometheus.yml end up in its log, are told by the API, go on after a restart, and
//! are what a Prometheus that scrapes the same target holds.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]
#![expect(clippy::disallowed_methods, reason = "an end-to-end test starts servers and waits for them")]

mod house;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// An exporter of this process: what it answers can be changed.
struct Exporter {
    address: String,
    answer: Arc<Mutex<(&'static str, String)>>,
}

impl Exporter {
    fn start(content_type: &'static str, body: &str) -> Exporter {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answer = Arc::new(Mutex::new((content_type, body.to_owned())));
        let shared = Arc::clone(&answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                let (content_type, body) = shared.lock().unwrap().clone();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Exporter { address, answer }
    }

    fn set(&self, body: &str) {
        self.answer.lock().unwrap().1 = body.to_owned();
    }
}

/// Waits until something holds.
#[track_caller]
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Values by labels of an instant query of now; the metric's name is left out.
fn ask(house: &house::House, query: &str) -> BTreeMap<String, String> {
    let answer = house.post("/api/v1/query", &[("query", query)]);
    assert_eq!(answer.status, 200, "{query}: {}", String::from_utf8_lossy(&answer.body));
    let result = answer.json()["data"]["result"].as_array().cloned().unwrap_or_default();
    let of = |series: &Value| (series["metric"].to_string(), series["value"][1].as_str().unwrap_or("h").to_owned());
    result.iter().map(of).collect()
}

#[test]
fn targets_are_scraped_told_and_reloaded() {
    let dir = house::directory();
    let at = |name: &str| dir.path().join(name);
    let text = Exporter::start("text/plain; version=0.0.4", "# HELP a helps\n# TYPE a counter\na{x=\"1\"} 5\nb 2\n");
    let open = Exporter::start(
        "application/openmetrics-text; version=1.0.0",
        "# TYPE c counter\nc_total 3 # {trace_id=\"t1\"} 0.5\n# EOF\n",
    );
    std::fs::write(at("targets.json"), format!("[{{\"targets\": [\"{}\"]}}]", open.address)).unwrap();
    let write_config = |more: &str| {
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
             scrape_configs:\n\
             - {{job_name: text, static_configs: [{{targets: ['{}', 'dropped:1']}}], relabel_configs: [\n\
             \x20   {{source_labels: [__address__], regex: 'dropped:1', action: drop}}]}}\n\
             - {{job_name: open, file_sd_configs: [{{files: [targets.json]}}]}}\n{more}",
            text.address
        );
        std::fs::write(at("prometheus.yml"), config).unwrap();
    };
    write_config("");
    let config = at("prometheus.yml").display().to_string();
    let flags = ["--scrape-config-file", &config, "--web-enable-lifecycle"];
    let data = at("data");
    let server = house::start(&data, &flags);
    let a = format!("{{\"__name__\":\"a\",\"instance\":\"{}\",\"job\":\"text\",\"x\":\"1\"}}", text.address);
    wait_for("a is there", || ask(&server, "a").contains_key(&a).then_some(()));
    wait_for("both are up", || (ask(&server, "up == 1").len() == 2).then_some(()));
    assert_eq!(ask(&server, "c_total").values().collect::<Vec<_>>(), ["3"]);

    // The API tells of it.
    let targets = server.get("/api/v1/targets").json()["data"].clone();
    let active = targets["activeTargets"].as_array().unwrap();
    assert_eq!(active.len(), 2);
    assert_eq!(active[1]["labels"]["job"], "text");
    assert_eq!(active[1]["discoveredLabels"]["__scrape_interval__"], "500ms");
    assert_eq!(active[1]["scrapeUrl"], format!("http://{}/metrics", text.address));
    assert_eq!((&active[1]["health"], &active[1]["lastError"]), (&Value::from("up"), &Value::from("")));
    assert_eq!(targets["droppedTargets"][0]["discoveredLabels"]["__address__"], "dropped:1");
    assert_eq!(targets["droppedTargetCounts"]["text"], 1);
    let only = server.get("/api/v1/targets?state=active&scrapePool=open").json()["data"].clone();
    assert_eq!(only["activeTargets"].as_array().unwrap().len(), 1);
    assert_eq!(only["droppedTargetCounts"], Value::Null);
    assert_eq!(server.get("/api/v1/scrape_pools").json()["data"]["scrapePools"], serde_json::json!(["open", "text"]));
    let said =
        server.get("/api/v1/targets/metadata?metric=a&match_target=%7Bjob%3D%22text%22%7D").json()["data"].clone();
    assert_eq!((&said[0]["type"], &said[0]["help"]), (&Value::from("counter"), &Value::from("helps")));
    assert_eq!(server.get("/api/v1/metadata?metric=a").json()["data"]["a"][0]["type"], "counter");
    let yaml = server.get("/api/v1/status/config").json()["data"]["yaml"].as_str().unwrap().to_owned();
    assert!(yaml.contains("- job_name: text\n") && yaml.contains("scrape_interval: 500ms"), "{yaml}");
    let pool = server.get("/api/v1/scrape_pools/config?scrapePool=text").json()["data"]["yaml"].clone();
    assert!(pool.as_str().unwrap().starts_with("job_name: text\n"), "{pool}");
    let steps = "/api/v1/targets/relabel_steps?scrapePool=text&labels=%7B%22__address__%22%3A%22dropped%3A1%22%7D";
    assert_eq!(server.get(steps).json()["data"]["steps"][0]["keep"], false);
    assert_eq!(server.get("/api/v1/scrape_pools/config?scrapePool=nosuch").status, 400);
    assert_eq!(server.get("/api/v1/targets/metadata?match_target=%7B").status, 400);

    // What goes is gone at once, not after the lookback.
    text.set("b 2\n");
    wait_for("a is stale", || ask(&server, "a").is_empty().then_some(()));
    text.set("broken{\n");
    wait_for("b is stale", || ask(&server, "b").is_empty().then_some(()));
    let down = wait_for("the target is down", || {
        let targets = server.get("/api/v1/targets?scrapePool=text").json()["data"]["activeTargets"][0].clone();
        (targets["health"] == "down").then_some(targets)
    });
    assert!(down["lastError"].as_str().unwrap().starts_with("expected label name"), "{down}");
    text.set("a{x=\"1\"} 6\n");

    // A wrong file changes nothing; a right one counts.
    write_config("nosuch: 1\n");
    let answer = server.request("POST", "/-/reload", &[], b"");
    assert_eq!(answer.status, 500);
    assert!(answer.error().1.contains("field nosuch not found in type config.plain"), "{:?}", answer.error());
    assert_eq!(server.get("/api/v1/status/runtimeinfo").json()["data"]["reloadConfigSuccess"], false);
    write_config(&format!("- {{job_name: third, static_configs: [{{targets: ['{}']}}]}}\n", text.address));
    assert_eq!(server.request("POST", "/-/reload", &[], b"").status, 200);
    wait_for("the third job is up", || (ask(&server, "up{job=\"third\"} == 1").len() == 1).then_some(()));
    assert_eq!(server.get("/api/v1/status/runtimeinfo").json()["data"]["reloadConfigSuccess"], true);

    // What was scraped is durable.
    server.kill();
    let server = house::start(&data, &["--web-enable-lifecycle"]);
    assert!(!ask(&server, "last_over_time(c_total[1h])").is_empty());
    assert_eq!(server.get("/api/v1/targets").json()["data"]["activeTargets"], serde_json::json!([]));
}

#[test]
fn a_wrong_file_keeps_the_server_from_starting() {
    let dir = house::directory();
    let path = dir.path().join("prometheus.yml");
    std::fs::write(&path, "scrape_configs:\n- job_name: a\n  scrap_interval: 5s\n").unwrap();
    let (status, said) = house::start_and_fail(dir.path(), &["--scrape-config-file", path.to_str().unwrap()]);
    assert!(!status.success());
    assert!(said.contains("line 3: field scrap_interval not found in type config.ScrapeConfig"), "{said}");
}

/// A child that dies with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(program: &str, args: &[String]) -> Process {
    let mut command = Command::new(program);
    Process(command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn get(port: u16, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// Series with their labels but the metric's values: what a scrape of the target has left.
fn labels_of(data: &Value) -> Vec<String> {
    let mut all: Vec<String> =
        data["data"]["result"].as_array().into_iter().flatten().map(|series| series["metric"].to_string()).collect();
    all.sort();
    all
}

#[test]
fn varve_and_prometheus_hold_the_same_of_a_node_exporter() {
    for program in ["prometheus", "prometheus-node-exporter"] {
        if Command::new(program).arg("--version").output().is_err() {
            eprintln!("!!! SKIPPED: {program} is not installed; see docs/testing.md");
            return;
        }
    }
    let dir = house::directory();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (node, prometheus) = (free_port(), free_port());
    let _node = run("prometheus-node-exporter", &[format!("--web.listen-address=127.0.0.1:{node}")]);
    let config = format!(
        "global: {{scrape_interval: 2s, scrape_timeout: 2s}}\n\
         scrape_configs:\n\
         - job_name: node\n\
         \x20 static_configs: [{{targets: ['127.0.0.1:{node}'], labels: {{env: test, device: mine}}}}]\n\
         \x20 params: {{'collect[]': [cpu, filesystem, loadavg, uname, netdev]}}\n\
         \x20 metric_relabel_configs:\n\
         \x20 - {{source_labels: [__name__, cpu], regex: 'node_cpu_seconds_total;(.)', target_label: core, replacement: 'c$1'}}\n\
         \x20 - {{source_labels: [__name__], regex: 'node_network_.*_compressed_total', action: drop}}\n\
         \x20 - {{source_labels: [mode], target_label: hash, modulus: 7, action: hashmod}}\n\
         - job_name: down\n\
         \x20 static_configs: [{{targets: ['127.0.0.1:1']}}]\n"
    );
    std::fs::write(at("prometheus.yml"), config).unwrap();
    let _prometheus = run(
        "prometheus",
        &[
            format!("--config.file={}", at("prometheus.yml")),
            format!("--storage.tsdb.path={}", at("tsdb")),
            format!("--web.listen-address=127.0.0.1:{prometheus}"),
        ],
    );
    let varve = house::start(&dir.path().join("varve"), &["--scrape-config-file", &at("prometheus.yml")]);
    let port: u16 = varve.address.rsplit(':').next().unwrap().parse().unwrap();
    let query = |port: u16, query: &str| get(port, &format!("/api/v1/query?query={query}"));
    for port in [port, prometheus] {
        wait_for("three scrapes", || {
            let counted = query(port, "count_over_time(up%7Bjob%3D%22node%22%7D%5B1m%5D)%3E%3D3")?;
            (!labels_of(&counted).is_empty()).then_some(())
        });
    }
    // Every series of both jobs, the ones about the scrapes included; Prometheus 2 knows no newer ones.
    let everything = "%7Bjob%3D~%22node%7Cdown%22%7D";
    // The machine may change between the scrapes of the two, by a mount for example: they agree before long.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let ours = labels_of(&query(port, everything).unwrap());
        // Prometheus 3 writes quantiles as OpenMetrics does, 2 as they come.
        let as_in_3 = |text: String| {
            let text = text.replace("\"quantile\":\"0\"", "\"quantile\":\"0.0\"");
            text.replace("\"quantile\":\"1\"", "\"quantile\":\"1.0\"")
        };
        let theirs: Vec<String> = labels_of(&query(prometheus, everything).unwrap()).into_iter().map(as_in_3).collect();
        assert!(theirs.len() > 60, "only {} series", theirs.len());
        let lacking: Vec<&String> = theirs.iter().filter(|series| !ours.contains(series)).collect();
        let more: Vec<&String> = ours.iter().filter(|series| !theirs.contains(series)).collect();
        if lacking.is_empty() && more.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "Varve lacks {lacking:#?}\nand has {more:#?}");
        std::thread::sleep(Duration::from_millis(500));
    }
    // What does not move is the same, to the number.
    for still in [
        "node_uname_info",
        "node_exporter_build_info",
        "up",
        "scrape_samples_scraped",
        "scrape_samples_post_metric_relabeling",
    ] {
        let selector = format!("{still}%7Bjob%3D~%22node%7Cdown%22%7D");
        let values = |port| {
            let answer = query(port, &selector).unwrap();
            let result = answer["data"]["result"].as_array().unwrap().clone();
            result.iter().map(|s| (s["metric"].to_string(), s["value"][1].to_string())).collect::<BTreeMap<_, _>>()
        };
        let (ours, theirs) = (values(port), values(prometheus));
        assert!(!theirs.is_empty(), "{still}");
        // What the target says of its own collectors differs from scrape to scrape by a line or two.
        if !still.starts_with("scrape_") {
            assert_eq!(ours, theirs, "{still}");
        } else {
            assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
        }
    }
    // The targets look alike, but for what Prometheus 3 added and when they were scraped.
    let targets = |port| {
        let answer = get(port, "/api/v1/targets?state=active").unwrap();
        let of = |target: &Value| {
            let keys = ["labels", "scrapePool", "scrapeUrl", "health", "lastError", "scrapeInterval", "scrapeTimeout"];
            keys.map(|key| target[key].to_string()).join(" ")
        };
        let mut all: Vec<String> = answer["data"]["activeTargets"].as_array().unwrap().iter().map(of).collect();
        all.sort();
        all
    };
    assert_eq!(targets(port), targets(prometheus));
}
