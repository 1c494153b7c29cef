//! The shape of answers: forms, errors and statuses are Prometheus's, limits name their setting.

mod house;

use std::io::{Read, Write};

use house::{House, Series, batch, directory, now_ms, start};

#[track_caller]
fn refused(house: &House, path: &str, status: u16, kind: &str, part: &str) {
    let answer = house.get(path);
    assert_eq!(answer.status, status, "{path}: {}", String::from_utf8_lossy(&answer.body));
    let (found, text) = answer.error();
    assert_eq!(found, kind, "{path}");
    assert!(text.contains(part), "{path}: {text}");
}

#[test]
fn errors_have_the_words_and_statuses_of_prometheus() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    refused(&house, "/api/v1/query", 400, "bad_data", "invalid parameter \"query\"");
    refused(&house, "/api/v1/query?query=sum(", 400, "bad_data", "parse error");
    refused(&house, "/api/v1/query?query=%ff", 400, "bad_data", "UTF-8");
    refused(
        &house,
        "/api/v1/query?query=1&time=x",
        400,
        "bad_data",
        "invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp",
    );
    let range = |more: &str| format!("/api/v1/query_range?query=1&{more}");
    refused(&house, &range("start=2&end=1&step=1"), 400, "bad_data", "end timestamp must not be before start time");
    refused(
        &house,
        &range("start=1&end=2&step=0"),
        400,
        "bad_data",
        "zero or negative query resolution step widths are not accepted. Try a positive integer",
    );
    refused(&house, &range("start=1&end=2&step=x"), 400, "bad_data", "cannot parse \"x\" to a valid duration");
    refused(
        &house,
        &range("start=0&end=11001&step=1"),
        400,
        "bad_data",
        "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
    );
    assert_eq!(house.get(&range("start=0&end=11000&step=1")).status, 200);
    refused(&house, "/api/v1/series", 400, "bad_data", "no match[] parameter provided");
    refused(&house, "/api/v1/series?match[]=%7B%7D", 400, "bad_data", "match[]");
    refused(&house, "/api/v1/nosuch", 404, "not_found", "/api/v1/nosuch");
    let answer = house.request("DELETE", "/api/v1/query", &[], b"");
    assert_eq!((answer.status, answer.error().0.as_str()), (405, "bad_data"));
    assert!(answer.head.to_ascii_lowercase().contains("allow: get, post"), "{}", answer.head);
}

#[test]
fn scalars_strings_and_odd_values_are_written_as_prometheus_does() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    assert_eq!(house.query("1e21", 1_500)["result"], serde_json::json!([1.5, "1000000000000000000000"]));
    assert_eq!(house.query("\"a\"", 1_000)["result"], serde_json::json!([1, "a"]));
    assert_eq!(house.query("-1/0", 0)["result"][1], "-Inf");
    let parsed = house.get("/api/v1/parse_query?query=-a").json();
    assert_eq!(parsed["data"]["type"], "unaryExpr");
    assert_eq!(house.get("/api/v1/format_query?query=1%2B1").json()["data"], "1 + 1");
    let now = now_ms();
    let exemplars = house
        .post("/api/v1/query_exemplars", &[("query", "test"), ("start", &now.to_string()), ("end", &now.to_string())]);
    assert_eq!(exemplars.json(), serde_json::json!({"status": "success", "data": []}));
    let build = house.get("/api/v1/status/buildinfo").json();
    assert!(build["data"]["version"].as_str().unwrap().starts_with("3."), "{build}");
    assert!(build["data"].get("features").is_none(), "{build}");
}

#[test]
fn limits_of_requests_name_their_setting() {
    let dir = directory();
    let house = start(
        dir.path(),
        &[
            "--limit-body-bytes-max",
            "1000",
            "--limit-query-text-bytes-max",
            "100",
            "--limit-decompressed-bytes-max",
            "5000",
        ],
    );
    let headers = [("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")];
    let answer = house.request("POST", "/api/v1/write", &headers, &[0; 2000]);
    assert_eq!(answer.status, 413);
    assert!(answer.error().1.contains("`body_bytes_max`"));
    let answer = house.request("POST", "/api/v1/write", &headers, &house::compress(&[0; 6000]));
    assert_eq!(answer.status, 413, "{}", String::from_utf8_lossy(&answer.body));
    assert!(answer.error().1.contains("`decompressed_bytes_max`"));
    let long = "1+".repeat(60) + "1";
    assert_eq!(house.post("/api/v1/query", &[("query", &long)]).status, 422);
    let huge = "1".repeat(80_000);
    let answer = house.post("/api/v1/query", &[("query", &huge)]);
    assert_eq!(answer.status, 413);
    assert!(answer.error().1.contains("`query_text_bytes_max`"));
}

#[test]
fn a_body_that_is_no_remote_write_is_refused_with_a_reason() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let write = |headers: &[(&str, &str)], body: &[u8]| house.request("POST", "/api/v1/write", headers, body);
    assert_eq!(write(&[("Content-Type", "text/plain")], b"").status, 415);
    assert_eq!(write(&[("Content-Encoding", "br")], b"").status, 415);
    let v3 = [("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v3.Request")];
    assert_eq!(write(&v3, b"").status, 415);
    let v2 = [("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")];
    assert_eq!(write(&v2, &house::compress(b"\xff\xff\xff")).status, 400);
    assert_eq!(write(&v2, &house::compress(b"")).status, 204);
    assert_eq!(write(&[], b"garbage").error().0, "bad_data");
    assert_eq!(write(&[], &house::compress(b"\xff\xff\xff")).status, 400);
    assert_eq!(write(&[], &house::compress(b"")).status, 204);
}

#[test]
fn queries_beyond_their_limits_are_answered_422() {
    let dir = directory();
    let house = start(dir.path(), &["--limit-query-samples-max", "50"]);
    let now = now_ms();
    let samples: Vec<(i64, f64)> = (0..100).map(|i| (now - i * 1000, 1.0)).rev().collect();
    assert_eq!(house.write(&batch(&[(&[("__name__", "x")], &samples)])).status, 204);
    refused(&house, "/api/v1/query?query=sum_over_time(x[1h])", 422, "execution", "`query_samples_max`");
    refused(&house, "/api/v1/query?query=sum_over_time(x[5y:1ms])", 422, "execution", "`query_subquery_steps_max`");
}

// The engine named its limits with their section, the table of statuses without: all of them were answered 400, and
// senders drop what is answered so.
#[test]
fn limits_of_the_storage_are_answered_by_what_the_caller_can_do() {
    let dir = directory();
    let flags = ["head-bytes-max=20000", "tenants-max=3", "query-series-max=10", "query-exemplars-max=1"];
    let flags: Vec<String> = flags.iter().map(|flag| format!("--limit-{flag}")).collect();
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.extend(["--limit-deletions-max=1", "--web-enable-admin-api", "--partitions=1"]);
    let house = start(dir.path(), &flags);
    let now = now_ms();
    #[track_caller]
    fn check(answer: &house::Answer, status: u16, kind: &str, setting: &str) {
        assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&answer.body));
        let (found, text) = answer.error();
        assert!(found == kind && text.contains(&format!("`limits.{setting}`")), "{found}: {text}");
        let again = answer.head.to_ascii_lowercase().contains("\r\nretry-after: ");
        assert_eq!(again, [429, 503].contains(&status), "{}", answer.head);
    }

    let mut written = varve_model::WriteBatch::default();
    for i in 0..20 {
        written.push_series([("__name__", "x"), ("i", i.to_string().as_str())].into_iter());
        written.push_sample(now, 1.0);
        written.push_exemplar([("trace_id", "t")].into_iter(), now, 1.0);
    }
    assert_eq!(house.write(&written).status, 204);
    check(&house.get("/api/v1/series?match[]=x"), 422, "execution", "query_series_max");
    // Of several selectors, what they find together counts, and what they share counts once.
    let series = |a: &str, b: &str| format!("/api/v1/series?match[]=x%7Bi=~%22{a}%22%7D&match[]=x%7Bi=~%22{b}%22%7D");
    refused(&house, &series("[0-5]", "1[0-5]"), 422, "execution", "query_series_max");
    assert_eq!(house.get(&series("[0-5]", "[2-7]")).json()["data"].as_array().unwrap().len(), 8);
    let range = format!("start={}&end={}", now / 1000 - 60, now / 1000 + 60);
    let exemplars = house.get(&format!("/api/v1/query_exemplars?query=x&{range}"));
    check(&exemplars, 422, "execution", "query_exemplars_max");

    let one = batch(&[(&[("__name__", "y")], &[(now, 1.0)])]);
    let refused = (0..3).map(|i| house.write_as(&format!("t{i}"), &one)).find(|answer| answer.status != 204);
    check(&refused.unwrap(), 429, "too_many_requests", "tenants_max");

    // In a segment, so that a deletion waits for its removal.
    assert_eq!(house.request("POST", "/api/v1/admin/tsdb/snapshot", &[], b"").status, 200);
    let delete = || house.request("POST", "/api/v1/admin/tsdb/delete_series?match[]=nosuch", &[], b"");
    let refused = (0..3).map(|_| delete()).find(|answer| answer.status != 204);
    check(&refused.unwrap(), 429, "too_many_requests", "deletions_max");

    let names: Vec<String> = (0..1000).map(|i| format!("{i:0200}")).collect();
    let series: Vec<[(&str, &str); 2]> = names.iter().map(|n| [("__name__", "many"), ("n", n.as_str())]).collect();
    let sample = [(now, 1.0)];
    let written: Vec<Series<'_>> = series.iter().map(|labels| (&labels[..], &sample[..])).collect();
    assert_eq!(house.write(&batch(&written)).status, 204);
    check(&house.write(&one), 503, "unavailable", "head_bytes_max");
}

#[test]
fn the_bodies_of_all_requests_share_a_limit() {
    let dir = directory();
    let limits = ["body-bytes-max=100000", "decompressed-bytes-max=100000", "bodies-bytes-max=300000"];
    let limits = limits.map(|limit| format!("--limit-{limit}"));
    let house = start(dir.path(), &limits.each_ref().map(String::as_str));
    let held = |bytes: u64| {
        let gauge = format!("\nvarve_http_body_bytes {bytes}\n");
        let metrics = || String::from_utf8(house.get("/metrics").body).unwrap();
        let come = (0..1000).any(|_| {
            std::thread::park_timeout(std::time::Duration::from_millis(10));
            metrics().contains(&gauge)
        });
        assert!(come, "{bytes}: {}", metrics());
    };
    let bodies: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = house.connect();
            stream.write_all(b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 99990\r\n\r\nab").unwrap();
            stream
        })
        .collect();
    held(299_970);
    let names: Vec<String> = (0..400).map(|i| format!("{i:0100}")).collect();
    let series: Vec<[(&str, &str); 2]> = names.iter().map(|n| [("__name__", "x"), ("n", n.as_str())]).collect();
    let sample = [(now_ms(), 1.0)];
    let large = batch(&series.iter().map(|labels| (&labels[..], &sample[..])).collect::<Vec<Series<'_>>>());
    let refused = house.write(&large);
    assert_eq!((refused.status, refused.error().0.as_str()), (503, "unavailable"));
    assert!(refused.error().1.contains("limit of 300000 reached; try again or raise `bodies_bytes_max`"));
    assert!(refused.head.to_ascii_lowercase().contains("\r\nretry-after: "), "{}", refused.head);
    let metrics = String::from_utf8(house.get("/metrics").body).unwrap();
    assert!(metrics.contains("\nvarve_http_bodies_refused_total 1\n"), "{metrics}");
    drop(bodies);
    held(0);
    assert_eq!(house.write(&large).status, 204);
    held(0);
}

#[test]
fn a_slow_body_is_given_up_and_a_connection_serves_many_requests() {
    let dir = directory();
    let house = start(dir.path(), &["--http-body-ms-max", "100"]);
    let answer = house.raw(b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nab");
    assert_eq!((answer.status, answer.error().0.as_str()), (408, "timeout"));

    let mut stream = house.connect();
    for _ in 0..3 {
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = vec![0; 512];
        let read = stream.read(&mut answer).unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..read]));
    }
    assert_eq!(house.raw(b"GET /-/healthy HTTP/1.1\r\nConnection: close\r\n\r\n").status, 400);
}

#[test]
fn a_large_answer_arrives_whole() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let now = now_ms();
    let names: Vec<String> = (0..20_000).map(|i| format!("{i:05}")).collect();
    let series: Vec<[(&str, &str); 2]> = names.iter().map(|n| [("__name__", "many"), ("n", n.as_str())]).collect();
    let sample = [(now, 1.0)];
    let written: Vec<Series<'_>> = series.iter().map(|labels| (&labels[..], &sample[..])).collect();
    assert_eq!(house.write(&batch(&written)).status, 204);
    let answer = house.post("/api/v1/query", &[("query", "many")]);
    assert!(answer.head.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{}", answer.head);
    assert_eq!(answer.json()["data"]["result"].as_array().unwrap().len(), 20_000);
    let limited = house.post("/api/v1/query", &[("query", "many"), ("limit", "3")]).json();
    assert_eq!(limited["data"]["result"].as_array().unwrap().len(), 3);
    assert_eq!(limited["warnings"][0], "results truncated due to limit");
}

#[test]
fn a_query_ends_when_its_client_leaves() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    // Would take minutes.
    let query = "query=sum(quantile_over_time(0.5,vector(time())[900000s:1s]))&start=1000&end=11000&step=1";
    let mut stream = house.connect();
    stream.write_all(format!("GET /api/v1/query_range?{query} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let until = |wanted: &str| {
        (0..1000).any(|_| {
            std::thread::park_timeout(std::time::Duration::from_millis(10));
            String::from_utf8(house.get("/metrics").body).unwrap().contains(wanted)
        })
    };
    assert!(until("\nvarve_queries_running 1\n"), "the query did not begin");
    drop(stream);
    assert!(until("\nvarve_queries_canceled_total 1\n"), "the server did not see that the client left");
    assert!(until("\nvarve_queries_running 0\n"), "the query went on");
}

#[test]
fn scripts_of_other_sites_may_read_answers() {
    let dir = directory();
    let house = start(dir.path(), &["--web-cors-origin", "https://(a|b)\\.example"]);
    let asked = |method: &str, origin: &str| {
        let answer = house.request(method, "/api/v1/query?query=1", &[("Origin", origin)], b"");
        (answer.status, answer.head.to_ascii_lowercase())
    };
    let (status, head) = asked("OPTIONS", "https://a.example");
    assert_eq!(status, 204);
    assert!(head.contains("access-control-allow-origin: https://a.example\r\n"), "{head}");
    assert!(head.contains("access-control-allow-methods: get, post, options\r\n"), "{head}");
    assert!(head.contains("access-control-allow-headers: accept, authorization, content-type, origin"), "{head}");
    let (status, head) = asked("GET", "https://b.example");
    assert!(status == 200 && head.contains("allow-origin: https://b.example"), "{head}");
    let (status, head) = asked("GET", "https://c.example");
    assert!(status == 200 && !head.contains("allow-origin"), "{head}");
    assert!(head.contains("vary: origin"), "{head}");
    assert_eq!(house.request("OPTIONS", "/api/v1/nosuch", &[], b"").status, 204);
    assert_eq!(house.request("OPTIONS", "/metrics", &[], b"").status, 405);
    let head = house.request("HEAD", "/api/v1/query?query=1", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn answers_are_compressed_as_the_client_likes() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let now = now_ms();
    let samples: Vec<(i64, f64)> = (0..20_000).map(|i| (now - 20_000_000 + i * 1000, i as f64 * 0.37)).collect();
    assert_eq!(house.write(&batch(&[(&[("__name__", "x")], &samples)])).status, 204);
    let plain = house.get("/api/v1/query?query=x%5B1d%5D").json();
    assert_eq!(plain["data"]["result"][0]["values"].as_array().unwrap().len(), 20_000);
    for query in ["x%5B1d%5D", "1"] {
        let path = format!("/api/v1/query?query={query}&time={}", now / 1000 + 1);
        let plain = house.get(&path).json();
        for encoding in ["gzip", "zstd", "deflate"] {
            let answer = house.request("GET", &path, &[("Accept-Encoding", encoding)], b"");
            let head = answer.head.to_ascii_lowercase();
            assert!(head.contains(&format!("content-encoding: {encoding}")), "{head}");
            assert!(head.contains("vary: accept-encoding"), "{head}");
            let mut text = Vec::new();
            match encoding {
                "gzip" => drop(flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut text).unwrap()),
                "zstd" => text = zstd::decode_all(&answer.body[..]).unwrap(),
                _ => drop(flate2::read::ZlibDecoder::new(&answer.body[..]).read_to_end(&mut text).unwrap()),
            }
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&text).unwrap(), plain);
        }
    }
    let refused = house.request("GET", "/api/v1/query", &[("Accept-Encoding", "gzip;q=0")], b"");
    assert_eq!(refused.error().0, "bad_data");
}

#[test]
fn federation_shows_the_newest_sample_of_each_series() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let now = now_ms();
    let stale = f64::from_bits(varve_model::STALE_NAN_BITS);
    let written = batch(&[
        (&[("__name__", "b"), ("job", "j")], &[(now - 2000, 1.0), (now - 1000, 2.5)]),
        (&[("__name__", "a"), ("instance", "i")], &[(now - 1000, 7.0)]),
        (&[("__name__", "gone")], &[(now - 2000, 1.0), (now - 1000, stale)]),
        (&[("__name__", "old")], &[(now - 400_000, 1.0)]),
    ]);
    assert_eq!(house.write(&written).status, 204);
    let all = house.get("/federate?match[]=%7B__name__%3D~%22.*%22%7D&match[]=a");
    assert!(all.head.contains("text/plain; version=0.0.4; charset=utf-8; escaping=underscores"), "{}", all.head);
    let time = now - 1000;
    assert_eq!(
        String::from_utf8(all.body).unwrap(),
        format!(
            "# TYPE a untyped\na{{instance=\"i\"}} 7 {time}\n# TYPE b untyped\nb{{job=\"j\",instance=\"\"}} 2.5 {time}\n"
        )
    );
    assert_eq!(house.get("/federate").body, b"");
    refused(&house, "/federate?match[]=%7B", 400, "bad_data", "parse error");
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let families = house.request("GET", "/federate?match[]=a", &[("Accept", accept)], b"");
    assert!(families.head.contains("encoding=delimited"), "{}", families.head);
    assert_eq!(families.body[1..4], [10, 1, b'a']);
}

#[test]
fn the_calls_of_the_web_ui_are_answered_in_prometheus_form() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let data = |path: &str| {
        let answer = house.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()["data"].clone()
    };
    let features = data("/api/v1/features");
    assert_eq!(features["api"]["admin"], false);
    assert_eq!(features["promql_functions"]["rate"], true);
    assert_eq!(features["promql_operators"]["topk"], true);
    assert_eq!(data("/api/v1/rules?type=alert&exclude_alerts=true&group_limit=5"), serde_json::json!({"groups": []}));
    assert_eq!(data("/api/v1/alerts"), serde_json::json!({"alerts": []}));
    assert_eq!(data("/api/v1/alertmanagers")["activeAlertmanagers"], serde_json::json!([]));
    assert_eq!(data("/api/v1/status/walreplay"), serde_json::json!({"min": 0, "max": 0, "current": 0}));
    assert_eq!(data("/api/v1/targets/metadata?limit=1&match_target=%7Bjob%3D%22a%22%7D"), serde_json::json!([]));
    assert!(data("/api/v1/status/tsdb")["headStats"]["numSeries"].is_u64());
    assert!(house.get("/version").json()["version"].as_str().unwrap().starts_with("3."));
    refused(&house, "/api/v1/rules?type=x", 400, "bad_data", "invalid parameter \"type\": not supported value \"x\"");
    refused(
        &house,
        "/api/v1/rules?exclude_alerts=X",
        400,
        "bad_data",
        "strconv.ParseBool: parsing \"x\": invalid syntax",
    );
    refused(
        &house,
        "/api/v1/rules?match[]=%7B%7D",
        400,
        "bad_data",
        "match[] must contain at least one non-empty matcher",
    );
    refused(&house, "/api/v1/status/tsdb?limit=0", 400, "bad_data", "limit must be a positive number");
    refused(&house, "/api/v1/status/tsdb?limit=10001", 400, "bad_data", "limit must not exceed 10000");
    refused(&house, "/api/v1/metadata?limit=x", 400, "bad_data", "limit must be a number");
    refused(&house, "/api/v1/query?query=1&limit=x", 400, "bad_data", "strconv.Atoi: parsing \"x\": invalid syntax");
    let lookback = "error parsing lookback delta duration: cannot parse \"x\" to a valid duration";
    refused(&house, "/api/v1/query?query=1&lookback_delta=x", 400, "bad_data", lookback);
    refused(&house, "/api/v1/labels?match[]=%7B", 400, "bad_data", "1:2: parse error");
    refused(&house, "/api/v1/series?match[]=%7B", 400, "bad_data", "invalid parameter \"match[]\": 1:2: parse error");
    let warned = house.get("/api/v1/query?query=1&stats=yes").json();
    assert!(
        warned["warnings"][0].as_str().unwrap().contains("\"yes\" for parameter \"stats\" is deprecated"),
        "{warned}"
    );
    assert!(warned["data"]["stats"]["samples"]["peakSamples"].is_u64(), "{warned}");
}

#[test]
fn the_description_is_of_this_server() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let description = house.get("/api/v1/openapi.json").json();
    assert_eq!(description["openapi"], "3.1.0");
    assert!(description["paths"]["/api/v1/query_range"]["get"]["parameters"].is_array());
    let yaml = house.get("/api/v1/openapi.yaml?openapi_version=3.2");
    assert!(yaml.head.contains("application/yaml"), "{}", yaml.head);
    assert!(String::from_utf8(yaml.body).unwrap().contains("openapi: \"3.2.0\"\n"));
}

#[test]
fn the_server_is_stopped_over_http_only_when_that_is_enabled() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let answer = house.request("POST", "/-/quit", &[], b"");
    assert_eq!((answer.status, answer.error().1.contains("Lifecycle API is not enabled.")), (403, true));
    let metrics = String::from_utf8(house.get("/metrics").body).unwrap();
    assert!(metrics.contains("varve_http_requests_total{path=\"/-/quit\",code=\"403\"} 1\n"), "{metrics}");
    assert_eq!(house.get("/-/quit").status, 405);
    drop(house);
    let house = start(dir.path(), &["--web-enable-lifecycle"]);
    assert_eq!(house.request("PUT", "/-/reload", &[], b"").status, 200);
    assert_eq!(house.request("POST", "/-/quit", &[], b"").status, 200);
    let (status, said) = house.ended();
    assert!(status.success() && said.contains("stopped"), "{said}");
}

#[test]
fn exemplars_are_found_by_what_an_expression_selects() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let now = now_ms() / 1000 * 1000;
    let mut written = varve_model::WriteBatch::default();
    for name in ["a", "b"] {
        written.push_series([("__name__", name), ("job", "j")].into_iter());
        written.push_sample(now, 1.0);
        written.push_exemplar([("trace_id", "t1")].into_iter(), now - 500, 6.5);
        written.push_exemplar([].into_iter(), now, 1e21);
    }
    assert_eq!(house.write(&written).status, 204);
    let asked = |query: &str, start: i64, end: i64| {
        let (start, end) = (format!("{}", start as f64 / 1000.0), format!("{}", end as f64 / 1000.0));
        house.post("/api/v1/query_exemplars", &[("query", query), ("start", &start), ("end", &end)])
    };
    let found = asked("histogram_quantile(0.9, sum(rate(a[5m])))", now - 1000, now).json();
    assert_eq!(
        found["data"],
        serde_json::json!([{
            "seriesLabels": {"__name__": "a", "job": "j"},
            "exemplars": [
                {"labels": {"trace_id": "t1"}, "value": "6.5", "timestamp": (now - 500) as f64 / 1000.0},
                {"labels": {}, "value": "1e+21", "timestamp": now / 1000},
            ],
        }])
    );
    assert_eq!(asked("a or b", now - 600, now - 400).json()["data"].as_array().unwrap().len(), 2);
    assert_eq!(asked("nosuch", 0, now).json()["data"], serde_json::json!([]));
    assert_eq!(asked("1 + 1", 0, now).status, 204);
    let wrong = asked("a[", 0, now);
    assert_eq!((wrong.status, wrong.error().1.starts_with("1:3: parse error")), (400, true), "{wrong:?}");
    let turned = asked("a", now, 0);
    assert_eq!(turned.error().1, "end timestamp must not be before start timestamp");
}

#[test]
fn a_query_may_read_several_tenants_together() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let now = now_ms();
    for (tenant, job) in [("a", "one"), ("b", "two"), ("c", "three")] {
        let series: &[(&str, &str)] = &[("__name__", "x"), ("job", job)];
        assert_eq!(house.write_as(tenant, &batch(&[(series, &[(now - 1000, 1.0)])])).status, 204);
    }
    let both: &[(&str, &str)] = &[("__name__", "y")];
    assert_eq!(house.write_as("a", &batch(&[(both, &[(now - 2000, 1.0)])])).status, 204);
    assert_eq!(house.write_as("b", &batch(&[(both, &[(now - 1000, 2.0)])])).status, 204);
    let data = |tenants: &str, path: &str| {
        let answer = house.request("GET", path, &[("X-Scope-OrgID", tenants)], b"");
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()["data"].clone()
    };
    assert_eq!(data("a|b", "/api/v1/query?query=sum(x)")["result"][0]["value"][1], "2");
    assert_eq!(data("a|b|nosuch", "/api/v1/query?query=count_over_time(y%5B1m%5D)")["result"][0]["value"][1], "2");
    assert_eq!(data("c|a", "/api/v1/label/job/values"), serde_json::json!(["one", "three"]));
    assert_eq!(data("c|b", "/api/v1/series?match[]=x").as_array().unwrap().len(), 2);
    assert_eq!(data("c", "/api/v1/query?query=count(x)")["result"][0]["value"][1], "1");
    // The own metrics, which the default tenant sees too, are read once.
    for tenant in ["_varve", "anonymous"] {
        assert_eq!(house.write_as(tenant, &batch(&[(&[("__name__", "z")], &[(now - 1000, 1.0)])])).status, 204);
    }
    let read = |tenants: &str| data(tenants, "/api/v1/query?query=z&explain=1")["explain"]["total"]["samples"].clone();
    assert_eq!((read("_varve|a|anonymous"), read("_varve|a")), (2.into(), 1.into()));
    let wrong = house.request("GET", "/api/v1/query?query=x", &[("X-Scope-OrgID", "a||b")], b"");
    assert_eq!((wrong.status, wrong.error().0.as_str()), (400, "bad_data"));
    let write = house.write_as("a|b", &batch(&[(both, &[(now, 1.0)])]));
    assert_eq!((write.status, write.error().1.contains("only queries")), (400, true));
}

#[test]
fn statistics_count_samples_by_step_as_prometheus_does() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    let now = now_ms() / 60_000 * 60_000;
    let samples: Vec<(i64, f64)> = (0..=60).map(|i| (now - 600_000 + i * 10_000, i as f64)).collect();
    let [one, two] = ["1", "2"].map(|i| [("__name__", "x"), ("i", i)]);
    assert_eq!(house.write(&batch(&[(&one, &samples), (&two, &samples)])).status, 204);
    let asked = |query: &str, stats: &str| {
        let (start, end) = (((now - 120_000) / 1000).to_string(), (now / 1000).to_string());
        let form = [("query", query), ("start", &start), ("end", &end), ("step", "60"), ("stats", stats)];
        house.post("/api/v1/query_range", &form).json()["data"]["stats"]["samples"].clone()
    };
    let by_step = |samples: &serde_json::Value, key: &str| -> Vec<u64> {
        samples[key].as_array().unwrap().iter().map(|pair| pair[1].as_u64().unwrap()).collect()
    };
    #[track_caller]
    fn check(samples: &serde_json::Value, total: u64, read: u64) {
        assert_eq!(
            (&samples["totalQueryableSamples"], &samples["samplesRead"]),
            (&total.into(), &read.into()),
            "{samples}"
        );
    }
    check(&asked("x", "true"), 6, 6);
    assert!(asked("x", "true").get("samplesReadPerStep").is_none());
    let rate = asked("sum(rate(x[2m]))", "all");
    check(&rate, 72, 48);
    assert_eq!(by_step(&rate, "totalQueryableSamplesPerStep"), [24, 24, 24]);
    assert_eq!(by_step(&rate, "samplesReadPerStep"), [24, 12, 12]);
    assert_eq!(rate["totalQueryableSamplesPerStep"][0][0], (now - 120_000) / 1000);
    // Fixed in time: evaluated once, counted at each step.
    let fixed = asked(&format!("x @ {}", now / 1000), "all");
    check(&fixed, 6, 2);
    assert_eq!(by_step(&fixed, "totalQueryableSamplesPerStep"), [2, 2, 2]);
    // The windows are over the subquery's points; what it read is read.
    check(&asked("max_over_time(x[1m:30s])", "all"), 12, 12);
    let instant =
        house.post("/api/v1/query", &[("query", "x[1m]"), ("time", &(now / 1000).to_string()), ("stats", "all")]);
    check(&instant.json()["data"]["stats"]["samples"], 12, 12);
}

#[test]
fn deleted_samples_are_gone_where_deletion_is_enabled() {
    let dir = directory();
    let house = start(dir.path(), &[]);
    for call in ["delete_series?match[]=x", "clean_tombstones"] {
        let answer = house.request("POST", &format!("/api/v1/admin/tsdb/{call}"), &[], b"");
        let (kind, text) = answer.error();
        assert_eq!((answer.status, kind.as_str()), (403, "unavailable"));
        assert!(text.starts_with("admin APIs disabled"), "{text}");
    }
    drop(house);
    let house = start(dir.path(), &["--web-enable-admin-api"]);
    let now = now_ms();
    let samples: Vec<(i64, f64)> = (0..60).map(|i| (now - 60_000 + i * 1000, i as f64)).collect();
    let written = batch(&[
        (&[("__name__", "x"), ("i", "1")], &samples),
        (&[("__name__", "x"), ("i", "2")], &samples),
        (&[("__name__", "y")], &samples),
    ]);
    assert_eq!(house.write(&written).status, 204);
    assert_eq!(house.write_as("other", &written).status, 204);
    let delete = |query: &str| house.request("PUT", &format!("/api/v1/admin/tsdb/delete_series?{query}"), &[], b"");
    assert_eq!(delete("").error().1, "no match[] parameter provided");
    assert_eq!(delete("match[]=%7B").error().0, "bad_data");
    assert_eq!(delete("match[]=x&start=a").error().0, "bad_data");
    assert_eq!(house.get("/api/v1/admin/tsdb/delete_series?match[]=x").status, 405);
    // A range in the form of a PUT was not read: everything was deleted.
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let put = house.request("PUT", "/api/v1/admin/tsdb/delete_series?match[]=x", &form, b"start=1&end=2");
    assert_eq!((put.status, house.samples("x", "2m", now).len()), (204, 60));
    assert_eq!(delete("match[]=x%7Bi%3D%221%22%7D&match[]=y").status, 204);
    let count = |house: &House, query: &str| house.query(query, now)["result"].as_array().unwrap().len();
    assert_eq!(count(&house, "{__name__=~\"x|y\"}"), 1);
    let half = (now - 30_000) / 1000;
    assert_eq!(delete(&format!("match[]=x&end={half}")).status, 204);
    let left = house.samples("x", "2m", now).len();
    assert!((28..=31).contains(&left), "{left}");
    let other = house.request("GET", "/api/v1/series?match[]=x&match[]=y", &[("X-Scope-OrgID", "other")], b"");
    assert_eq!(other.json()["data"].as_array().unwrap().len(), 3);
    assert_eq!(house.request("POST", "/api/v1/admin/tsdb/clean_tombstones", &[], b"").status, 204);
    let copy = house.request("POST", "/api/v1/admin/tsdb/snapshot", &[], b"");
    let name = copy.json()["data"]["name"].as_str().unwrap().to_owned();
    let copied = start(&dir.path().join("snapshots").join(name), &[]);
    assert_eq!(copied.samples("x", "2m", now).len(), left);
    drop(copied);
    let wrong = house.request("POST", "/api/v1/admin/tsdb/snapshot?skip_head=x", &[], b"");
    let text =
        "invalid parameter \"skip_head\": unable to parse boolean: strconv.ParseBool: parsing \"x\": invalid syntax";
    assert_eq!((wrong.status, wrong.error().1.as_str()), (400, text));
    // What is written later stays, also over a restart.
    assert_eq!(house.write(&batch(&[(&[("__name__", "y")], &[(now - 500, 7.0)])])).status, 204);
    house.kill();
    let house = start(dir.path(), &[]);
    assert_eq!(house.samples("y", "2m", now), [(now - 500, 7.0)]);
    assert_eq!(house.samples("x", "2m", now).len(), left);
}

#[test]
fn a_query_is_explained_before_it_runs_and_refused_by_what_it_would_read() {
    let dir = directory();
    let house = start(dir.path(), &["--limit-query-samples-max", "1000"]);
    let now = now_ms();
    let samples: Vec<(i64, f64)> = (0..2000).map(|i| (now - 2_000_000 + i * 1000, 1.0)).collect();
    let written = batch(&[(&[("__name__", "x"), ("i", "1")], &samples), (&[("__name__", "y")], &samples[1900..])]);
    assert_eq!(house.write(&written).status, 204);
    let explain =
        |query: &str| house.post("/api/v1/query", &[("query", query), ("explain", "1")]).json()["data"].clone();
    let small = explain("sum(rate(y[1h])) + on () nosuch");
    assert_eq!((&small["resultType"], &small["result"]), (&"vector".into(), &serde_json::json!([])));
    let selectors = &small["explain"]["selectors"];
    assert_eq!(
        (&selectors[0]["selector"], &selectors[0]["series"]),
        (&"{__name__=\"y\"}".into(), &1.into()),
        "{small}"
    );
    assert_eq!(selectors[1]["series"], 0);
    let about = selectors[0]["samples"].as_u64().unwrap();
    assert!((90..=110).contains(&about) && selectors[0]["chunks"].as_u64().unwrap() > 0, "{small}");
    assert_eq!(small["explain"]["total"]["samples"], about);
    assert!(small["explain"].get("refused").is_none(), "{small}");
    let large = explain("sum_over_time(x[1h])");
    assert!(large["explain"]["refused"].as_str().unwrap().contains("query_samples_max"), "{large}");
    refused(&house, "/api/v1/query?query=sum_over_time(x%5B1h%5D)", 422, "execution", "samples to be read");
    refused(&house, "/api/v1/query?query=1&explain=maybe", 400, "bad_data", "invalid parameter \"explain\"");
    assert_eq!(house.query("count(x)", now)["result"][0]["value"][1], "1");
}
