//! `varve query`: asks a running server and prints a table, or its JSON.

use std::io::Write;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;
use varve_vfs::Env;

use super::client::{self, Server};
use super::fail;
use crate::config::value::parse_duration_ms;
use crate::http::json::push_time;
use crate::http::params::parse_time;

/// The command.
pub(super) fn command() -> Command {
    let text = |name: &'static str, value_name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value_name).allow_hyphen_values(true).help(help)
    };
    Command::new("query")
        .about("Ask a running server a PromQL query")
        .arg(Arg::new("expr").value_name("EXPR").required(true).help("The query"))
        .args(client::args("Server to ask; any that speaks Prometheus's API"))
        .arg(text("time", "TIME", "Time of an instant query: seconds since 1970, RFC 3339, or -5m (before now)"))
        .arg(text("start", "TIME", "First time of a range query"))
        .arg(text("end", "TIME", "Last time of a range query [default: now]"))
        .arg(text("step", "DURATION", "Step of a range query [default: a 60th of the range]"))
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the answer as JSON"))
}

/// Asks and prints.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    match ask(matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(why),
    }
}

fn ask(matches: &ArgMatches) -> Result<(), String> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let now = Env::os().clock.wall().0.div_euclid(1_000_000);
    let time = |name: &str| text(name).map(|text| moment(text, now)).transpose();
    let mut form = vec![("query", text("expr").unwrap_or_default().to_owned())];
    let path = match time("start")? {
        None => {
            if let Some(at) = time("time")? {
                form.push(("time", seconds(at)));
            }
            "/api/v1/query"
        }
        Some(start) => {
            let end = time("end")?.unwrap_or(now);
            let step = text("step").map_or_else(|| seconds((end.saturating_sub(start) / 60).max(1)), str::to_owned);
            form.extend([("start", seconds(start)), ("end", seconds(end)), ("step", step)]);
            "/api/v1/query_range"
        }
    };
    let answer = Server::of(matches)?.post(path, &form)?;
    let status = answer.status;
    let body = answer.read()?;
    let mut out = std::io::stdout().lock();
    let parsed: Value =
        serde_json::from_slice(&body).map_err(|_| format!("status {status}: {}", String::from_utf8_lossy(&body)))?;
    if parsed["status"] != "success" {
        return Err(format!("{}: {}", word(&parsed["errorType"]), word(&parsed["error"])));
    }
    for note in ["warnings", "infos"] {
        for text in parsed[note].as_array().into_iter().flatten() {
            let _ = writeln!(std::io::stderr().lock(), "{}: {}", note.trim_end_matches('s'), word(text));
        }
    }
    // A closed pipe is no error of ours.
    let _ = if matches.get_flag("json") {
        out.write_all(&body).and_then(|()| out.write_all(b"\n"))
    } else {
        out.write_all(table(&parsed["data"]).as_bytes())
    };
    Ok(())
}

/// A time as the API takes it, or a duration before now.
pub(super) fn moment(text: &str, now: i64) -> Result<i64, String> {
    match text.strip_prefix('-').and_then(parse_duration_ms) {
        Some(ms) => Ok(now.saturating_sub(ms)),
        None => parse_time(text),
    }
}

fn seconds(ms: i64) -> String {
    let mut out = Vec::new();
    push_time(&mut out, ms);
    String::from_utf8_lossy(&out).into_owned()
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The result as lines of label set, time and value.
fn table(data: &Value) -> String {
    let mut rows: Vec<[String; 3]> = Vec::new();
    let point = |series: String, point: &Value| {
        let value = &point[1];
        let value = if value.is_object() {
            format!("count={} sum={}", word(&value["count"]), word(&value["sum"]))
        } else {
            word(value)
        };
        [series, word(&point[0]), value]
    };
    match data["resultType"].as_str() {
        Some("scalar" | "string") => rows.push(point(String::new(), &data["result"])),
        _ => {
            for series in data["result"].as_array().into_iter().flatten() {
                let name = metric(&series["metric"]);
                let single = ["value", "histogram"].iter().filter_map(|key| series.get(key));
                let many = ["values", "histograms"].iter().filter_map(|key| series[key].as_array()).flatten();
                rows.extend(single.chain(many).map(|value| point(name.clone(), value)));
            }
        }
    }
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let (first, second) = (width(0), width(1));
    rows.iter().map(|[series, time, value]| format!("{series:first$}  {time:>second$}  {value}\n")).collect()
}

/// A label set as PromQL writes it.
fn metric(labels: &Value) -> String {
    let Some(labels) = labels.as_object() else { return String::new() };
    let name = labels.get("__name__").map(word).unwrap_or_default();
    let inner: Vec<String> = labels
        .iter()
        .filter(|(label, _)| *label != "__name__")
        .map(|(label, value)| format!("{label}={:?}", word(value)))
        .collect();
    if inner.is_empty() && !name.is_empty() { name } else { format!("{name}{{{}}}", inner.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_becomes_aligned_lines() {
        let data = serde_json::json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "job": "a"}, "value": [1.5, "1"]},
            {"metric": {}, "value": [1.5, "NaN"]},
        ]});
        assert_eq!(table(&data), "up{job=\"a\"}  1.5  1\n{}           1.5  NaN\n");
    }

    #[test]
    fn moments_are_times_or_durations_before_now() {
        assert_eq!(moment("-5m", 1_000_000), Ok(700_000));
        assert_eq!(moment("12.5", 0), Ok(12_500));
        assert!(moment("soon", 0).is_err());
    }
}
