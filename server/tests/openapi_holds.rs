//! The OpenAPI description holds: schemathesis makes calls of it, sensible and hostile ones, and every answer must be of
//! a status, a type and a shape that the description names; none may be a failure of the server.
//!
//! Installs schemathesis from PyPI into the build directory, once. Skips loudly where that is not possible.

mod house;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use house::{batch, directory, now_ms, start};

fn run(program: &Path, args: &[&str]) -> Option<Output> {
    // What it leaves behind stays in the build directory.
    Command::new(program).args(args).current_dir(env!("CARGO_TARGET_TMPDIR")).output().ok()
}

/// The program, installed when it is not there yet.
fn schemathesis() -> Result<PathBuf, String> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    let program = place.join("bin/schemathesis");
    let works = |program: &Path| run(program, &["--version"]).is_some_and(|output| output.status.success());
    if works(&program) {
        return Ok(program);
    }
    let text = place.to_string_lossy();
    let steps = [
        (PathBuf::from("python3"), vec!["-m", "venv", &*text]),
        (place.join("bin/pip"), vec!["install", "--quiet", "--disable-pip-version-check", "schemathesis>=4,<5"]),
    ];
    for (program, args) in steps {
        let output = run(&program, &args).ok_or_else(|| format!("there is no {}", program.display()))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
    }
    if works(&program) { Ok(program) } else { Err("schemathesis does not start".to_owned()) }
}

#[test]
fn every_answer_is_as_described() {
    let program = match schemathesis() {
        Ok(program) => program,
        Err(why) => {
            eprintln!("SKIPPED: the OpenAPI description is not tested, schemathesis cannot be installed: {why}");
            return;
        }
    };
    let dir = directory();
    let house = start(dir.path(), &["--web-enable-admin-api"]);
    let now = now_ms();
    assert_eq!(house.write(&batch(&[(&[("__name__", "x"), ("job", "j")], &[(now, 1.0)])])).status, 204);
    let description = format!("http://{}/api/v1/openapi.json", house.address);
    let mut args = vec!["run", &description, "--seed", "1", "--no-color", "--phases", "examples,coverage,fuzzing"];
    args.extend(["--max-examples", "8", "--generation-database", "none"]);
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    args.extend(["--checks", checks]);
    let output = run(&program, &args).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // It is not that nothing was asked.
    let (_, generated) = said.split_once("Test cases:").unwrap_or_else(|| panic!("{said}"));
    let count: u32 = generated.split_whitespace().next().and_then(|n| n.replace(',', "").parse().ok()).unwrap_or(0);
    assert!(count > 300, "{said}");
    assert_eq!(house.query("x", now)["result"][0]["value"][1], "1", "the data is as it was");
}
