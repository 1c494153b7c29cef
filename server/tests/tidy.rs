//! The house checks itself: what would break it without breaking a build.
//!
//! No floor knows a higher one, no source file stands outside a module or without a head comment, every setting, metric
//! and endpoint is in the documents, and no large blob is in the tree.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]
#![expect(clippy::disallowed_methods, reason = "a test that reads the source tree")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use varve_server::http::ROUTES;
use varve_server::{config, metrics};

/// Crates with their floor; a crate may use lower floors only.
const FLOORS: &[(&str, &str, u32)] = &[
    ("varve-vfs", "wal/vfs", 0),
    ("varve-model", "engine/model", 1),
    ("varve-wal", "wal", 1),
    ("varve-engine", "engine", 2),
    ("varve-query", "query", 3),
    ("varve-protocol", "server/protocol", 4),
    ("varve-agent", "server/agent", 5),
    ("varve-server", "server", 6),
];

/// What no crate below the server may touch.
const SERVER_ONLY: &[&str] =
    &["tokio::", "std::thread::spawn", "thread::Builder", "Instant::now", "SystemTime::now", "async fn"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let ours = !matches!(name.as_str(), "target" | ".git" | "varve-data" | "node_modules");
        if path.is_dir() && ours {
            walk(&path, found)
        } else if path.is_file() {
            found.push(path)
        }
    }
}

fn files(below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(&root().join(below), &mut found);
    found.sort_unstable();
    found
}

fn sources(below: &str) -> Vec<PathBuf> {
    files(below).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn document(name: &str) -> String {
    read(&root().join("docs").join(name))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn no_floor_knows_a_higher_one() {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().map(|(name, _, floor)| (*name, *floor)).collect();
    let mut faults = Vec::new();
    for (name, folder, floor) in FLOORS {
        let manifest: toml::Table = read(&root().join(folder).join("Cargo.toml")).parse().unwrap();
        let dependencies = manifest.get("dependencies").and_then(|d| d.as_table()).cloned().unwrap_or_default();
        for dependency in dependencies.keys() {
            if floors.get(dependency.as_str()).is_some_and(|other| other >= floor) {
                faults.push(format!("{name} (floor {floor}) must not depend on {dependency}"));
            }
        }
    }
    // The agent is handed a sink; what is behind it is not its business.
    let manifest = read(&root().join("server/agent/Cargo.toml"));
    for floor in ["varve-engine", "varve-query", "varve-wal"] {
        if manifest.contains(floor) {
            faults.push(format!("varve-agent must not know {floor}"));
        }
    }
    report(&faults);
}

#[test]
fn below_the_server_nothing_starts_threads_reads_clocks_or_is_async() {
    let mut faults = Vec::new();
    for (_, folder, floor) in FLOORS.iter().filter(|(_, _, floor)| *floor < 5) {
        for path in sources(&format!("{folder}/src")) {
            let file = shown(&path);
            if file == "wal/vfs/src/os.rs" || (*floor == 5 && file.starts_with("server/src")) {
                continue;
            }
            let text = read(&path);
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in SERVER_ONLY.iter().filter(|word| code.contains(*word)) {
                faults.push(format!("{file}: {word}"));
            }
        }
    }
    for path in sources("server/src") {
        let file = shown(&path);
        let text = read(&path);
        if file != "server/src/runtime.rs" && (text.contains("thread::Builder") || text.contains("thread::spawn(")) {
            faults.push(format!("{file}: only runtime.rs starts threads"));
        }
        if file != "server/src/http/error.rs" && text.contains("StatusCode::") {
            faults.push(format!("{file}: only http/error.rs chooses status codes"));
        }
    }
    report(&faults);
}

#[test]
fn every_source_file_has_a_head_and_a_module_that_names_it() {
    let mut faults = Vec::new();
    let all = sources("");
    let texts: BTreeMap<&PathBuf, String> = all.iter().map(|path| (path, read(path))).collect();
    for path in &all {
        let file = shown(path);
        if !texts[path].starts_with("//!") {
            faults.push(format!("{file}: no head comment"));
        }
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let folder = path.parent().unwrap();
        let inside = file.contains("/src/") && !file.contains("/src/bin/");
        if !inside || matches!(stem.as_str(), "lib" | "main") {
            continue;
        }
        let (name, place) = if stem == "mod" {
            (folder.file_name().unwrap().to_string_lossy().into_owned(), folder.parent().unwrap())
        } else {
            (stem, folder)
        };
        let named = texts.iter().any(|(other, text)| {
            let own = other.with_extension("");
            (other.parent() == Some(place) || own == place) && text.contains(&format!("mod {name};"))
        });
        if !named {
            faults.push(format!("{file}: no module names it"));
        }
    }
    report(&faults);
}

#[test]
fn every_setting_metric_and_endpoint_is_documented() {
    let (settings, operations, compatibility) =
        (document("config.md"), document("operations.md"), document("compatibility.md"));
    let mut faults = Vec::new();
    for setting in config::TABLE {
        if !settings.contains(&format!("`{}`", setting.name)) {
            faults.push(format!("docs/config.md: setting {}", setting.name));
        }
    }
    for metric in metrics::TABLE {
        if !operations.contains(&format!("`{}`", metric.name)) {
            faults.push(format!("docs/operations.md: metric {}", metric.name));
        }
    }
    for route in ROUTES {
        if !compatibility.contains(&format!("`{}`", route.path)) {
            faults.push(format!("docs/compatibility.md: endpoint {}", route.path));
        }
    }
    report(&faults);
}

#[test]
fn nothing_large_is_in_the_tree() {
    const BYTES_MAX: u64 = 256 << 10;
    let faults: Vec<String> = files("")
        .iter()
        .filter(|path| path.metadata().unwrap().len() > BYTES_MAX)
        .map(|path| format!("{}: larger than {BYTES_MAX} bytes", shown(path)))
        .collect();
    report(&faults);
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let manifest = read(&root().join("Cargo.toml"));
    let list = manifest.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let mut own: BTreeSet<&str> = FLOORS.iter().map(|(name, _, _)| *name).collect();
    // Their names say it, or the comment of their group does.
    own.extend([
        "bytes",
        "serde",
        "serde_json",
        "hyper-util",
        "tower",
        "tracing",
        "tracing-subscriber",
        "proptest",
        "criterion",
        "tempfile",
    ]);
    let faults: Vec<String> = list
        .lines()
        .filter(|line| line.contains(" = ") && !line.contains('#'))
        .filter(|line| !own.contains(line.split(' ').next().unwrap_or_default()))
        .map(|line| format!("Cargo.toml: no reason: {line}"))
        .collect();
    report(&faults);
}
