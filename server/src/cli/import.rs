//! `varve import`: takes old data into a running server.
//!
//! What is read is sent by remote write, batch by batch, each acknowledged; so an import is an ordinary client, a
//! server needs no stop for it, and it may run again over the same data without harm.

mod blocks;
mod resume;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use varve_model::TimeRange;
use varve_vfs::{Clock, Env};

use super::client::{self, Server};
use super::progress::{Progress, Unit, amount, duration};
use super::sender::Outcome;
use super::{fail, query};

const PROMETHEUS_HELP: &str = "\
DIR is a data directory of Prometheus, a snapshot of one, or a single block. Indexes of version 1 to 3 and all encodings \
of chunks are read (floats, native histograms), every checksum is verified, deleted samples stay deleted. What Prometheus \
has in memory (about the last two hours) is in its write-ahead log and is not read: to have that too, take a snapshot \
(POST /api/v1/admin/tsdb/snapshot of a Prometheus with --web.enable-admin-api) and import its directory.";

const OPENMETRICS_HELP: &str = "\
FILE is text in the OpenMetrics format, as `promtool tsdb create-blocks-from openmetrics` takes it and `promtool tsdb \
dump-openmetrics` writes it; every sample needs a timestamp. `-` reads standard input.";

/// The command.
pub(super) fn command() -> Command {
    let text = |name: &'static str, value_name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value_name).allow_hyphen_values(true).help(help)
    };
    let common = [
        text("start", "TIME", "Leave out samples before: seconds since 1970, RFC 3339, or -30d (before now)"),
        text("end", "TIME", "Leave out samples after"),
        text("label", "NAME=VALUE", "Label to set on every series; may be given several times")
            .action(ArgAction::Append),
        text("resume", "FILE", "Where to note what is done: a run that was interrupted goes on from there")
            .value_parser(value_parser!(PathBuf)),
    ];
    let prometheus = Command::new("prometheus")
        .about("Import blocks of a Prometheus data directory")
        .after_help(PROMETHEUS_HELP)
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .required(true)
                .num_args(1..)
                .value_parser(value_parser!(PathBuf))
                .help("Data directories or blocks"),
        )
        .args(client::args("Server to write to"))
        .args(common.clone());
    let openmetrics = Command::new("openmetrics")
        .about("Import a text in the OpenMetrics format")
        .after_help(OPENMETRICS_HELP)
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .default_value("-")
                .value_parser(value_parser!(PathBuf))
                .help("The text"),
        )
        .args(client::args("Server to write to"))
        .args(common);
    Command::new("import")
        .about("Import old data into a running server")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(prometheus)
        .subcommand(openmetrics)
}

/// Imports.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let done = match matches.subcommand() {
        Some(("prometheus", matches)) => Job::of(matches).and_then(|job| blocks::run(&job, matches)),
        Some(("openmetrics", matches)) => Job::of(matches).and_then(|job| text::run(&job, matches)),
        _ => return ExitCode::from(2),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => fail(why),
    }
}

/// What both kinds of import are told.
struct Job {
    env: Env,
    server: Server,
    range: TimeRange,
    labels: Vec<(String, String)>,
    resume: Option<PathBuf>,
}

impl Job {
    fn of(matches: &ArgMatches) -> Result<Job, String> {
        let env = Env::os();
        let now = env.clock.wall().0.div_euclid(1_000_000);
        let time = |name: &str| {
            let text = matches.get_one::<String>(name);
            text.map(|text| query::moment(text, now).map_err(|why| format!("--{name}: {why}"))).transpose()
        };
        let range = TimeRange {
            min: time("start")?.unwrap_or(TimeRange::ALL.min),
            max: time("end")?.unwrap_or(TimeRange::ALL.max),
        };
        let labels = matches.get_many::<String>("label").into_iter().flatten();
        let labels = labels
            .map(|text| match text.split_once('=') {
                Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
                _ => Err(format!("--label: {text:?} is not NAME=VALUE")),
            })
            .collect::<Result<_, _>>()?;
        let resume = matches.get_one::<PathBuf>("resume").cloned();
        Ok(Job { env, server: Server::of(matches)?, range, labels, resume })
    }

    fn progress(&self, unit: Unit, total: u64) -> Progress {
        let clock: std::sync::Arc<dyn Clock> = std::sync::Arc::clone(&self.env.clock);
        Progress::new(clock, unit, total)
    }

    /// Says before the work what retention will not keep.
    fn warn_of_retention(&self, progress: &mut Progress, oldest: i64) {
        let asked = self.server.send("GET", "/api/v1/status/flags", &[], b"").and_then(|answer| answer.read());
        let Ok(flags) = asked.map(|body| serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default()) else {
            return;
        };
        let retention = flags["data"]["retention-ms"].as_str().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
        let now = self.env.clock.wall().0.div_euclid(1_000_000);
        let age = now.saturating_sub(oldest.max(self.range.min));
        if retention > 0 && age > retention {
            progress.say(&format!(
                "the data begins {} ago, but the server keeps {}: what is older is refused or removed again; restart it \
                 with --retention-ms {}d (0 keeps everything) to have it all",
                days(age),
                days(retention),
                age / 86_400_000 + 1
            ));
        }
    }

    /// The last lines: what was stored and what was not.
    fn summarize(&self, progress: &mut Progress, outcome: &Outcome, left_out: u64, damages: u64) -> bool {
        let refused: u64 = outcome.refused.values().sum();
        let seconds = progress.elapsed().as_secs_f64();
        let rate = outcome.stored as f64 / seconds.max(1e-3);
        progress.say(&format!(
            "{} samples stored in {} ({}/s), {refused} refused, {left_out} left out, {} batches sent again",
            outcome.stored,
            duration(seconds.round() as u64),
            amount(Unit::Samples, rate as u64),
            outcome.retries
        ));
        for (reason, count) in &outcome.refused {
            progress.say(&format!("  {count} refused: {reason}"));
            if reason.contains("retention_ms") {
                progress.say(
                    "    to have them: restart the server with a longer --retention-ms (such as 730d; 0 keeps \
                     everything) and run the import again",
                );
            }
        }
        if damages > 0 {
            progress.say(&format!("  {damages} damaged places were passed over"));
        }
        refused == 0 && damages == 0
    }
}

/// A span of time in days, or in smaller units below two of them.
fn days(ms: i64) -> String {
    if ms >= 2 * 86_400_000 { format!("{} days", ms / 86_400_000) } else { duration(ms.unsigned_abs() / 1000) }
}
