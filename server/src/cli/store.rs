//! `varve check` and `varve dump`: look at data that no server has open.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use varve_vfs::Env;

use super::fail;

/// `varve check DIR`
pub(super) fn check_command() -> Command {
    let dir =
        Arg::new("dir").value_name("DIR").required(true).value_parser(value_parser!(PathBuf)).help("Data directory");
    Command::new("check")
        .about("Verify every byte of a data directory; exit 1 and name the place of each damage")
        .arg(dir)
}

/// `varve dump FILE`
pub(super) fn dump_command() -> Command {
    let file = Arg::new("file")
        .value_name("FILE")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help("A log file or segment");
    Command::new("dump").about("Print any file of a data directory readably").arg(file)
}

/// Verifies a data directory.
pub(super) fn check(matches: &ArgMatches) -> ExitCode {
    let Some(dir) = matches.get_one::<PathBuf>("dir") else { return ExitCode::from(2) };
    let damages = match varve_engine::check(&Env::os(), dir) {
        Ok(damages) => damages,
        Err(error) => return fail(error),
    };
    let mut out = std::io::stdout().lock();
    for damage in &damages {
        let _ = writeln!(out, "{}: damaged at byte {}: {}", damage.path.display(), damage.at, damage.what);
    }
    if damages.is_empty() {
        let _ = writeln!(out, "{}: every byte is what was written", dir.display());
        ExitCode::SUCCESS
    } else {
        fail(format!("{}: {} damaged places", dir.display(), damages.len()))
    }
}

/// Prints a file.
pub(super) fn dump(matches: &ArgMatches) -> ExitCode {
    let Some(file) = matches.get_one::<PathBuf>("file") else { return ExitCode::from(2) };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let dumped = varve_engine::dump(&Env::os(), file, &mut out);
    // A closed pipe is no error of ours.
    let _ = out.flush();
    match dumped {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}
