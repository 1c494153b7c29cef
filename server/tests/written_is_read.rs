//! What was acknowledged is in the next answer, for the tenant that wrote it and for nobody else.

mod house;

use house::{batch, directory, now_ms, start};

#[test]
fn a_write_is_in_the_next_answer_of_every_endpoint() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let now = now_ms();
    let labels = [("__name__", "requests_total"), ("job", "api"), ("odd.label", "é")];
    let samples: Vec<(i64, f64)> = (0..120).map(|i| (now - (119 - i) * 1000, i as f64)).collect();
    let answer = house.write(&batch(&[(&labels, &samples)]));
    assert_eq!((answer.status, answer.body.len()), (204, 0), "{}", String::from_utf8_lossy(&answer.body));

    assert_eq!(house.samples("requests_total", "10m", now), samples);
    let data = house.query("rate(requests_total[1m])", now);
    assert_eq!(data["resultType"], "vector");
    assert_eq!(data["result"][0]["value"][1], "1");
    assert_eq!(data["result"][0]["metric"], serde_json::json!({"job": "api", "odd.label": "é"}));

    let (start, end) = ((now / 1000 - 60).to_string(), (now / 1000).to_string());
    let form = [("query", "requests_total"), ("start", &*start), ("end", &*end), ("step", "15s")];
    let range = house.post("/api/v1/query_range", &form).json();
    assert_eq!(range["data"]["resultType"], "matrix");
    assert_eq!(range["data"]["result"][0]["values"].as_array().unwrap().len(), 5);

    let list = |path: &str| house.get(path).json()["data"].clone();
    assert_eq!(list("/api/v1/labels"), serde_json::json!(["__name__", "job", "odd.label"]));
    assert_eq!(list("/api/v1/label/job/values"), serde_json::json!(["api"]));
    assert_eq!(list("/api/v1/label/U__odd_2e_label/values"), serde_json::json!(["é"]));
    assert_eq!(list("/api/v1/label/__name__/values?match[]=%7Bjob=%22none%22%7D"), serde_json::json!([]));
    assert_eq!(
        list("/api/v1/series?match[]=requests_total"),
        serde_json::json!([{"__name__": "requests_total", "job": "api", "odd.label": "é"}])
    );
    assert_eq!(list("/api/v1/status/tsdb")["headStats"]["numSeries"], 1);
}

#[test]
fn a_tenant_sees_its_own_data_only() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let now = now_ms();
    let written = batch(&[(&[("__name__", "x")], &[(now, 1.0)])]);
    assert_eq!(house.write_as("team-a", &written).status, 204);
    let count = |tenant: &str| {
        let answer = house.request("GET", "/api/v1/query?query=x", &[("X-Scope-OrgID", tenant)], b"");
        answer.json()["data"]["result"].as_array().unwrap().len()
    };
    assert_eq!((count("team-a"), count("team-b"), count("anonymous")), (1, 0, 0));
    assert_eq!(house.request("GET", "/api/v1/query?query=x", &[("X-Scope-OrgID", "a/b")], b"").error().0, "bad_data");
}

#[test]
fn text_is_taken_with_labels_from_the_address() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let text = "# HELP m Things.\n# TYPE m gauge\nm{a=\"b\"} 4.5\n";
    let answer = house.request("POST", "/api/v1/import/prometheus?job=j&instance=i", &[], text.as_bytes());
    assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
    let data = house.query("m", now_ms());
    assert_eq!(
        data["result"][0]["metric"],
        serde_json::json!({"__name__": "m", "a": "b", "instance": "i", "job": "j"})
    );
    assert_eq!(data["result"][0]["value"][1], "4.5");
    let metadata = house.get("/api/v1/metadata").json();
    assert_eq!(metadata["data"]["m"][0], serde_json::json!({"type": "gauge", "help": "Things.", "unit": ""}));
}

#[test]
fn what_is_refused_is_named_and_its_neighbours_are_stored() {
    let dir = directory();
    let house = start(dir.path(), &["--limit-label-value-bytes-max", "10"]);
    let now = now_ms();
    let long = "x".repeat(11);
    let written = batch(&[
        (&[("__name__", "good")], &[(now - 1000, 1.0), (now + 3_600_000, 2.0), (now, 3.0)]),
        (&[("__name__", "bad"), ("a", &long)], &[(now, 1.0)]),
    ]);
    let answer = house.write(&written);
    assert_eq!(answer.status, 400);
    let (kind, text) = answer.error();
    assert_eq!(kind, "bad_data");
    for part in ["2 of 4 samples refused", "`label_value_bytes_max`", "`future_ms_max`", "__name__=\"bad\""] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(house.samples("good", "10m", now), [(now - 1000, 1.0), (now, 3.0)]);
    assert_eq!(house.query("bad", now)["result"], serde_json::json!([]));
}

#[test]
fn the_server_watches_itself() {
    let dir = directory();
    let house = start(dir.path(), &["--self-scrape", "true", "--self-scrape-ms", "50"]);
    let found = (0..200).any(|_| {
        std::thread::park_timeout(std::time::Duration::from_millis(25));
        let data = house.query("varve_build_info * on(instance) group_left() up{job=\"varve\"}", now_ms());
        !data["result"].as_array().unwrap().is_empty()
    });
    assert!(found, "no own metrics after five seconds");
}

#[test]
fn own_metrics_are_seen_and_do_not_age_old_data() {
    // The default: the server scrapes itself, at once and here every second.
    let dir = directory();
    let house = start(dir.path(), &["--self-scrape", "true", "--self-scrape-ms", "1s"]);
    let own = || house.get("/api/v1/query?query=up%7Bjob=%22varve%22%7D").json()["data"]["result"].clone();
    while own().as_array().unwrap().is_empty() {
        std::thread::yield_now();
    }
    assert!(house.get("/api/v1/label/job/values").json()["data"].as_array().unwrap().contains(&"varve".into()));
    // Data of 1970 is half a century older than the retention, counted from those samples of now.
    let old = batch(&[(&[("__name__", "old")], &[(0, 1.0), (60_000, 2.0)])]);
    let answer = house.write(&old);
    assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(house.samples("old", "5m", 60_000), [(0, 1.0), (60_000, 2.0)]);
    // Another tenant sees neither.
    let other = house.request("GET", "/api/v1/query?query=up", &[("X-Scope-OrgID", "other")], b"");
    assert_eq!(other.json()["data"]["result"], serde_json::json!([]));
}
