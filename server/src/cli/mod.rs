//! The command line: one file a command.

mod client;
mod export;
mod import;
mod progress;
mod query;
mod sender;
mod serve;
mod store;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clap::Command;

const ABOUT: &str = "Varve: a durable log and time-series database in one binary.

It takes Prometheus remote write and the text exposition format, answers PromQL to Grafana and every other client of \
Prometheus's HTTP API, and acknowledges nothing that is not on disk.";

const EXAMPLES: &str = "\
Examples:
  varve serve                                        data in ./varve-data, HTTP at 127.0.0.1:8278
  varve serve --data-dir /srv/varve --listen 0.0.0.0:8278 --retention-ms 90d
  varve query 'rate(varve_samples_accepted_total[5m])'
  varve query up --start -1h --step 1m
  varve import prometheus /var/lib/prometheus        take over the blocks of a Prometheus
  varve check /srv/varve                             verify every byte (with the server stopped)
";

/// The whole command line.
pub fn command() -> Command {
    Command::new("varve")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve::command())
        .subcommand(query::command())
        .subcommand(import::command())
        .subcommand(export::command())
        .subcommand(store::check_command())
        .subcommand(store::dump_command())
}

/// Runs the command that the process was given.
pub fn run() -> ExitCode {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches),
        Some(("query", matches)) => query::run(matches),
        Some(("import", matches)) => import::run(matches),
        Some(("export", matches)) => export::run(matches),
        Some(("check", matches)) => store::check(matches),
        Some(("dump", matches)) => store::dump(matches),
        _ => ExitCode::from(2),
    }
}

/// Says on standard error why the command failed.
fn fail(why: impl Display) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "varve: {why}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
