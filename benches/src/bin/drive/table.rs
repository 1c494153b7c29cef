//! The tables: figures of several servers side by side, and whether their answers are the same.

use std::path::Path;

use serde_json::Value;

/// How far two values may be apart, relative to the larger: sums are taken in different orders.
const TOLERANCE: f64 = 1e-9;

/// What was measured of one server.
struct Measured {
    name: String,
    load: Value,
    query: Value,
}

impl Measured {
    fn read(folder: &Path, name: &str) -> Option<Measured> {
        let read = |part: &str| {
            let text = std::fs::read_to_string(folder.join(format!("{name}.{part}.json"))).ok()?;
            serde_json::from_str(&text).ok()
        };
        Some(Measured { name: name.to_owned(), load: read("load")?, query: read("query")? })
    }

    fn queries(&self) -> &[Value] {
        self.query["queries"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Bytes a sample of the folder, and of what takes most of it.
    fn folder(&self) -> String {
        let samples = number(&self.load["samples"]);
        let mut parts: Vec<(&str, f64)> = self.query["folder"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, bytes)| (name.as_str(), number(bytes) / samples))
            .collect();
        parts.sort_by(|a, b| b.1.total_cmp(&a.1));
        let all: f64 = parts.iter().map(|(_, bytes)| bytes).sum();
        let shown = parts.iter().filter(|(_, bytes)| *bytes > all / 20.0).take(3);
        let shown: Vec<String> = shown.map(|(name, bytes)| format!("{name} {bytes:.2}")).collect();
        format!("{all:.2} ({})", shown.join(", "))
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn row(title: &str, cells: impl Iterator<Item = String>) {
    println!("| {title} | {} |", cells.collect::<Vec<_>>().join(" | "));
}

/// Prints the tables of the servers that were measured; answers are compared with those of `reference`.
pub(crate) fn print(folder: &Path, names: &[String], reference: &str) {
    let all: Vec<Measured> = names.iter().filter_map(|name| Measured::read(folder, name)).collect();
    assert!(!all.is_empty(), "{}: nothing was measured", folder.display());
    let names = || all.iter().map(|server| server.name.clone());
    let loads = |key: &str, digits: usize| {
        all.iter().map(move |server| format!("{:.digits$}", number(&server.load[key]))).collect::<Vec<_>>().into_iter()
    };
    row("", names());
    row("---", all.iter().map(|_| "---".to_owned()));
    row("acknowledged, k samples/s", loads("rate", 0));
    row("server CPU, µs a sample", loads("cpu_us", 3));
    let latency =
        |server: &Measured| format!("{:.1} / {:.1}", number(&server.load["p50_ms"]), number(&server.load["p99_ms"]));
    row("request p50 / p99, ms", all.iter().map(latency));
    let memory = |server: &Measured| {
        format!("{:.0} / {:.0}", number(&server.load["peak_mib"]), number(&server.query["peak_mib"]))
    };
    row("peak resident memory, loading / all, MiB", all.iter().map(memory));
    row("folder settled, bytes a sample", all.iter().map(Measured::folder));
    row("requests sent again", loads("retries", 0));
    println!();
    row("query, median of warm runs, ms (server CPU, ms)", names());
    row("---", all.iter().map(|_| "---".to_owned()));
    for (at, query) in all[0].queries().iter().enumerate() {
        let cell = |server: &Measured| match &server.queries()[at] {
            query if query["error"].is_null() => {
                format!("{:.1} ({:.0})", number(&query["median_ms"]), number(&query["cpu_ms"]))
            }
            _ => "refused".to_owned(),
        };
        row(query["title"].as_str().unwrap_or_default(), all.iter().map(cell));
    }
    println!();
    let Some(judge) = all.iter().find(|server| server.name == reference) else {
        println!("Answers were not compared: {reference} was not measured.");
        return;
    };
    for server in all.iter().filter(|server| server.name != reference) {
        let pairs = || judge.queries().iter().zip(server.queries());
        let refused = pairs().filter(|(a, b)| !a["error"].is_null() && !b["error"].is_null()).count();
        let differences: Vec<(&str, String)> =
            pairs().filter_map(|(a, b)| Some((a["title"].as_str().unwrap_or_default(), difference(a, b)?))).collect();
        let equal = judge.queries().len() - refused - differences.len();
        println!(
            "{}: {equal} of {} answers equal those of {reference} at {TOLERANCE:e}; {refused} are refused by both.",
            server.name,
            judge.queries().len()
        );
        for (title, what) in differences {
            println!("* {title}: {what}");
        }
    }
}

/// How two answers differ; `None` where they do not, or both are refusals.
fn difference(a: &Value, b: &Value) -> Option<String> {
    match (a["error"].as_str(), b["error"].as_str()) {
        (Some(_), Some(_)) => return None,
        (Some(error), None) => return Some(format!("answered, not refused ({error})")),
        (None, Some(error)) => return Some(format!("refused ({error})")),
        (None, None) => {}
    }
    let (a, b) = (a["points"].as_object()?, b["points"].as_object()?);
    let missing = a.keys().filter(|key| !b.contains_key(*key)).count();
    let more = b.keys().filter(|key| !a.contains_key(*key)).count();
    let distances = a.iter().filter_map(|(key, value)| Some(distance(value.as_str()?, b.get(key)?.as_str()?)));
    let off: Vec<f64> = distances.filter(|distance| *distance > TOLERANCE).collect();
    if missing + more + off.len() == 0 {
        return None;
    }
    let worst = off.iter().copied().fold(0.0, f64::max);
    Some(format!("of {} points {missing} missing, {more} more, {} off by up to {worst:.1e}", a.len(), off.len()))
}

/// How far apart two values are, relative to the larger.
fn distance(a: &str, b: &str) -> f64 {
    if a == b {
        return 0.0;
    }
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) if a.is_finite() && b.is_finite() => (a - b).abs() / a.abs().max(b.abs()),
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_differ_by_points_and_values() {
        let answer = |points: Value| json!({ "error": null, "points": points });
        let one = answer(json!({"a": "1", "b": "NaN"}));
        assert_eq!(difference(&one, &answer(json!({"a": "1.0000000000001", "b": "NaN"}))), None);
        for other in [json!({"a": "1.00001", "b": "NaN"}), json!({"a": "1"}), json!({"a": "1", "b": "2"})] {
            assert!(difference(&one, &answer(other.clone())).is_some(), "{other}");
        }
        let refused = json!({ "error": "422: no", "points": null });
        assert!(difference(&one, &refused).is_some() && difference(&refused, &one).is_some());
        assert_eq!(difference(&refused, &refused), None);
    }
}
