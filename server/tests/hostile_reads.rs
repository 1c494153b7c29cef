//! Hostile reads: garbage, giants and wrong types at every endpoint that answers; each is a 4xx with a JSON error, in
//! time, and the server goes on with its data intact.

mod house;

use house::{House, batch, directory, now_ms, start};

/// A refusal in Prometheus's form; says what was asked.
#[track_caller]
fn refused(house: &House, method: &str, path: &str, body: &[u8]) {
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = house.request(method, path, &headers, body);
    let asked: String = format!("{method} {path} {}", String::from_utf8_lossy(body)).chars().take(120).collect();
    assert!((400..500).contains(&answer.status), "{asked}: {} {}", answer.status, answer.head);
    assert!(!answer.error().1.is_empty(), "{asked}");
}

#[test]
fn every_read_refuses_what_it_cannot_understand() {
    let dir = directory();
    let house = start(dir.path(), &["--web-enable-admin-api", "--limit-query-ms-max", "5s"]);
    let now = now_ms();
    assert_eq!(house.write(&batch(&[(&[("__name__", "x")], &[(now, 1.0)])])).status, 204);

    let deep_regex = format!("x{{a=~\"{}a{}\"}}", "(".repeat(5_000), ")".repeat(5_000)).replace('+', "%2B");
    let wide_regex = "x{a=~\"(a{1000}){1000}\"}".to_owned();
    let deep_query = format!("{}x{}", "(".repeat(50_000), ")".repeat(50_000));
    let queries = [
        "",
        "x{",
        "sum(",
        "\u{0}",
        "x[",
        "1 +",
        "{}",
        &deep_regex,
        &wide_regex,
        &deep_query,
        "x offset 99999999999999y",
    ];
    for path in [
        "/api/v1/query",
        "/api/v1/query_range",
        "/api/v1/query_exemplars",
        "/api/v1/format_query",
        "/api/v1/parse_query",
    ] {
        for query in queries.iter().filter(|query| **query != "{}" || path.ends_with("query")) {
            // Parsing alone bounds neither the value of a regular expression nor what a selector finds.
            let only_parses = path.ends_with("format_query") || path.ends_with("parse_query");
            if only_parses && *query == "{}" {
                continue;
            }
            let escaped = query.replace('%', "%25").replace('&', "%26").replace('+', "%2B");
            let form = format!("query={escaped}&start=1&end=2&step=1");
            refused(&house, "POST", path, form.as_bytes());
        }
        refused(&house, "GET", &format!("{path}?query=%f"), b"");
        refused(&house, "GET", &format!("{path}?query=%ff%fe"), b"");
        refused(&house, "DELETE", path, b"");
    }
    for wrong in [
        "time=x",
        "time=NaN",
        "time=1e400",
        "timeout=x",
        "timeout=-1",
        "limit=-1",
        "limit=x",
        "limit=1e3",
        "lookback_delta=x",
        "explain=2",
        "time=2026-02-30T00:00:00Z",
    ] {
        refused(&house, "GET", &format!("/api/v1/query?query=x&{wrong}"), b"");
    }
    for wrong in [
        "start=1&end=2",
        "start=2&end=1&step=1",
        "start=1&end=2&step=0",
        "start=1&end=2&step=-1",
        "start=0&end=1e15&step=1",
        "start=1&end=2&step=1e300",
        "start=1&end=2&step=1&limit=x",
        "start=&end=&step=",
    ] {
        refused(&house, "GET", &format!("/api/v1/query_range?query=x&{wrong}"), b"");
    }
    for (path, wrong) in [
        (
            "/api/v1/series",
            vec!["", "match[]=", "match[]=%7B%7D", "match[]=x%7B", "match[]=x&start=y", "match[]=x&limit=z"],
        ),
        ("/api/v1/labels", vec!["match[]=x%7B", "match[]=%7B%7D", "start=y", "limit=-5"]),
        ("/api/v1/label/a/values", vec!["match[]=1", "end=y", "limit=9999999999999999999999"]),
        ("/api/v1/metadata", vec!["limit=x", "limit_per_metric=1.5"]),
        ("/federate", vec!["match[]=x%7B", "match[]=sum(x)"]),
        ("/api/v1/rules", vec!["type=x", "exclude_alerts=2x", "group_limit=0", "group_next_token=a", "match[]=%7B%7D"]),
        ("/api/v1/status/tsdb", vec!["limit=0", "limit=-1", "limit=10001", "limit=x"]),
    ] {
        for query in wrong {
            refused(&house, "GET", &format!("{path}?{query}"), b"");
        }
    }
    for wrong in ["", "match[]=x%7B", "match[]=x&start=y", "match[]=sum(x)"] {
        refused(&house, "POST", &format!("/api/v1/admin/tsdb/delete_series?{wrong}"), b"");
    }
    refused(&house, "POST", "/api/v1/admin/tsdb/snapshot?skip_head=maybe", b"");
    refused(&house, "POST", "/-/quit", b"");
    for tenant in ["a/b", "a||b", "../x", &"t".repeat(300), &["t"; 100].join("|")] {
        let answer = house.request("GET", "/api/v1/query?query=x", &[("X-Scope-OrgID", tenant)], b"");
        assert_eq!((answer.status, answer.error().0.as_str()), (400, "bad_data"), "{tenant}");
    }

    // A path and a parameter of a long head.
    for bytes in [8_000, 60_000] {
        let long = "a".repeat(bytes);
        let answer = house.request("GET", &format!("/api/v1/query?query=x&match[]={long}"), &[], b"");
        assert!([200, 400, 414, 431].contains(&answer.status), "{bytes}: {}", answer.status);
        assert!((400..500).contains(&house.request("GET", &format!("/{long}"), &[], b"").status));
    }
    // Thousands of selectors are asked one by one, and found or given up in time.
    let many = vec!["match[]=x"; 5_000].join("&");
    assert_eq!(
        house
            .request(
                "POST",
                "/api/v1/series",
                &[("Content-Type", "application/x-www-form-urlencoded")],
                many.as_bytes()
            )
            .json()["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    assert_eq!(house.query("x", now)["result"][0]["value"][1], "1");
    assert_eq!(house.get("/-/ready").status, 200);
}
