//! promtool as a client: it checks health, pushes metrics, and asks instant and range queries, series and labels.
//!
//! Skips loudly where promtool is not installed; what only the newer one can do is asked of that.
#![expect(clippy::disallowed_methods, reason = "an end-to-end test writes files for programs it starts")]

mod house;

use std::path::Path;
use std::process::Command;

use house::real::{installed, output, prometheus_3, run};
use house::{House, batch, directory, now_ms, start};

fn ask(program: &Path, args: &[&str]) -> String {
    run(Command::new(program).args(args))
}

fn queries(program: &Path, house: &House, end: i64) {
    let url = format!("http://{}", house.address);
    let (begin, end) = (format!("{}", end - 60), format!("{end}"));
    let promtool = |args: &[&str]| ask(program, args);
    let found = promtool(&["query", "instant", "--time", &end, &url, "sum by (job) (requests_total)"]);
    assert_eq!(found, format!("{{job=\"a\"}} => 120 @[{end}]\n{{job=\"b\"}} => 240 @[{end}]\n"));
    let found = promtool(&["query", "instant", "--time", &end, &url, "1 + 1"]);
    assert_eq!(found, format!("scalar: 2 @[{end}]\n"));
    let (from, to) = (format!("--start={begin}"), format!("--end={end}"));
    let found = promtool(&["query", "range", &from, &to, "--step=30s", &url, "rate(requests_total{job=\"b\"}[30s])"]);
    assert_eq!(found.lines().filter(|line| line.starts_with("4 @[")).count(), 2, "{found}");
    let found = promtool(&["query", "series", "--match=requests_total", &from, &to, &url]);
    assert_eq!(found.lines().count(), 2, "{found}");
    assert!(found.contains("__name__=\"requests_total\"") && found.contains("job=\"b\""), "{found}");
    let found = promtool(&["query", "labels", &from, &to, &url, "job"]);
    assert_eq!(found, "a\nb\n");
    let mut wrong = Command::new(program);
    let wrong = output(wrong.args(["query", "instant", &url, "rate(requests_total)"]));
    assert!(!wrong.status.success());
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(said.contains("expected type range vector"), "{said}");
}

#[test]
fn promtool_is_answered() {
    if !installed(&["promtool"]) {
        return;
    }
    let dir = directory();
    let house = start(dir.path(), &[]);
    let end = now_ms() / 1000;
    for (job, speed) in [("a", 2), ("b", 4)] {
        let samples: Vec<(i64, f64)> = (0..=60).map(|i| ((end - 60 + i) * 1000, (i * speed) as f64)).collect();
        let written = house.write(&batch(&[(&[("__name__", "requests_total"), ("job", job)], &samples)]));
        assert_eq!(written.status, 204);
    }
    queries(Path::new("promtool"), &house, end);

    let Some(bin) = prometheus_3() else { return };
    let program = bin.join("promtool");
    queries(&program, &house, end);
    let url = format!("http://{}", house.address);
    ask(&program, &["check", "healthy", "--url", &url]);
    ask(&program, &["check", "ready", "--url", &url]);
    let text = dir.path().join("push.prom");
    std::fs::write(&text, "# HELP pushed Pushed.\n# TYPE pushed gauge\npushed{by=\"promtool\"} 7\n").unwrap();
    let target = format!("{url}/api/v1/write");
    ask(&program, &["push", "metrics", "--label", "job=batch", &target, &text.display().to_string()]);
    let found = house.query("pushed{by=\"promtool\",job=\"batch\"}", now_ms());
    assert_eq!(found["result"][0]["value"][1], "7", "{found}");
    let metadata = house.get("/api/v1/metadata?metric=pushed").json();
    assert_eq!(metadata["data"]["pushed"][0]["type"], "gauge", "{metadata}");
}
