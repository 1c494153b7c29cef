//! `varve serve`: every setting is a flag and a variable, made from the table of settings.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tracing_subscriber::EnvFilter;

use super::fail;
use crate::config::value::{Kind, pretty};
use crate::config::{self, Settings, TABLE};
use crate::runtime;

/// The command with all its flags.
pub(super) fn command() -> Command {
    let config = Arg::new("config")
        .long("config")
        .env("VARVE_CONFIG")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("TOML file with settings; flags and VARVE_* variables win over it");
    let defaults = Settings::default();
    let flags = TABLE.iter().map(|setting| {
        let value_name = match setting.kind {
            Kind::Bytes => "BYTES",
            Kind::Millis => "DURATION",
            Kind::Count => "NUMBER",
            Kind::Switch => "BOOL",
            Kind::Text => "TEXT",
            Kind::Names => "NAMES",
        };
        let default = pretty(setting.kind, &(setting.show)(&defaults));
        let flag = Arg::new(setting.key())
            .long(setting.flag())
            .env(setting.variable())
            .hide_env_values(true)
            .value_name(value_name)
            .action(ArgAction::Set)
            .help_heading(match setting.section {
                "server" => "Server",
                "engine" => "Storage",
                _ => "Limits",
            })
            .help(format!("{} [default: {default}]", setting.doc));
        match setting.kind {
            Kind::Switch => flag
                .value_parser(PossibleValuesParser::new(["true", "false"]))
                .num_args(0..=1)
                .default_missing_value("true"),
            // As in Prometheus, the flag may be given several times.
            Kind::Names => flag.action(ArgAction::Append),
            _ => flag,
        }
    });
    Command::new("serve").about("Run the server").args_override_self(true).arg(config).args(flags)
}

/// Runs the server until a signal stops it.
pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let file = matches.get_one::<PathBuf>("config");
    let given = |setting: &config::Setting| {
        let values = matches.get_many::<String>(&setting.key())?;
        Some(values.map(String::as_str).collect::<Vec<_>>().join(","))
    };
    let settings = match config::load(file.map(PathBuf::as_path), &given) {
        Ok(settings) => settings,
        Err(error) => return fail(error),
    };
    let filter = match EnvFilter::try_new(&settings.server.log) {
        Ok(filter) => filter,
        Err(error) => return fail(format!("setting `log`: {error}")),
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    match runtime::serve(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}
