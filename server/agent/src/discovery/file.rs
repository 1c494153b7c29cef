//! `file_sd_configs`: lists of targets in JSON or YAML files. Looked at every few seconds, read when one has changed,
//! and all read anew each refresh interval.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Publisher, TargetGroup, ticks};
use crate::Surroundings;
use crate::config::{Group, read_file};
use crate::glob::glob;
use crate::yaml;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(3);

/// What tells that a file has changed.
type Mark = (Option<SystemTime>, u64);

pub(super) async fn run(
    patterns: Vec<String>,
    refresh: Duration,
    surroundings: Arc<Surroundings>,
    publisher: Publisher,
) {
    let mut files = Files::default();
    let mut ticks = ticks(LOOK.min(refresh));
    let mut read_all = tokio::time::Instant::now();
    loop {
        ticks.tick().await;
        let now = tokio::time::Instant::now();
        let all = now >= read_all;
        if all {
            read_all = now + refresh;
        }
        let looked = look(files, patterns.clone(), all).await;
        files = looked.files;
        surroundings.metrics.discovery_failures.add(looked.failures);
        if let Some(list) = looked.list {
            publisher.publish(list);
        }
    }
}

/// What a look came to.
struct Looked {
    files: Files,
    failures: u64,
    /// Everything known; `None` when that is not known.
    list: Option<Vec<TargetGroup>>,
}

/// Looks on a thread that may wait for the disk. A look that panics costs what was remembered of the files, so that the
/// next reads all.
async fn look(mut files: Files, patterns: Vec<String>, all: bool) -> Looked {
    let read = files.read;
    let looked = tokio::task::spawn_blocking(move || {
        let (list, failures) = files.look(&patterns, all);
        Looked { files, failures, list: Some(list) }
    });
    looked.await.unwrap_or_else(|error| {
        tracing::error!(%error, "file discovery keeps what it knew");
        Looked { files: Files { known: BTreeMap::new(), read }, failures: 1, list: None }
    })
}

/// What was read of each file.
struct Files {
    known: BTreeMap<PathBuf, (Mark, Vec<TargetGroup>)>,
    /// How a file is read; replaced in a test.
    read: fn(&Path) -> Result<Vec<TargetGroup>, String>,
}

impl Default for Files {
    fn default() -> Files {
        Files { known: BTreeMap::new(), read }
    }
}

impl Files {
    /// Reads what has changed, or all; gives everything known, and how often it failed.
    fn look(&mut self, patterns: &[String], all: bool) -> (Vec<TargetGroup>, u64) {
        let mut failures = 0;
        let mut found: Vec<PathBuf> = Vec::new();
        for pattern in patterns {
            match glob(pattern) {
                Ok(paths) => found.extend(paths),
                Err(error) => {
                    failures += 1;
                    tracing::error!(pattern, %error, "file discovery cannot list files");
                }
            }
        }
        found.sort();
        found.dedup();
        self.known.retain(|path, _| found.contains(path));
        for path in found {
            let mark = mark(&path);
            let known = self.known.get(&path).map(|(known, _)| *known);
            if !all && known == Some(mark) {
                continue;
            }
            match (self.read)(&path) {
                Ok(groups) => {
                    self.known.insert(path, (mark, groups));
                }
                Err(error) => {
                    failures += 1;
                    if known != Some(mark) {
                        tracing::error!(path = %path.display(), %error, "file discovery keeps what it knew of a file");
                    }
                    self.known.entry(path).or_default().0 = mark;
                }
            }
        }
        (self.known.values().flat_map(|(_, groups)| groups.iter().cloned()).collect(), failures)
    }
}

fn mark(path: &Path) -> Mark {
    std::fs::metadata(path).map_or((None, 0), |metadata| (metadata.modified().ok(), metadata.len()))
}

fn read(path: &Path) -> Result<Vec<TargetGroup>, String> {
    let text = read_file(path)?;
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let groups = if is_json { parse_json(text.as_bytes())? } else { Group::read_list(&yaml::parse(&text)?)? };
    let name = path.display().to_string();
    let of = |(i, group)| TargetGroup::of(group, format!("{name}:{i}"), Some(("__meta_filepath", &name)));
    Ok(groups.into_iter().enumerate().map(of).collect())
}

/// Reads the JSON form of a list of groups, strictly.
pub(super) fn parse_json(bytes: &[u8]) -> Result<Vec<Group>, String> {
    use serde_json::Value;
    let json: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let list = match json {
        Value::Null => Vec::new(),
        Value::Array(list) => list,
        _ => return Err("expected a list of target groups".to_owned()),
    };
    let text = |value: Value, what: &str| match value {
        Value::String(text) => Ok(text),
        other => Err(format!("{what} must be texts, not {other}")),
    };
    let mut groups = Vec::new();
    for item in list {
        let object = match item {
            Value::Object(object) => object,
            Value::Null => return Err("nil target group item found".to_owned()),
            other => return Err(format!("a target group must be an object, not {other}")),
        };
        let mut group = Group::default();
        for (key, value) in object {
            match (key.as_str(), value) {
                ("targets" | "labels", Value::Null) => {}
                ("targets", Value::Array(targets)) => {
                    let targets: Result<_, String> =
                        targets.into_iter().map(|target| text(target, "targets")).collect();
                    group.targets = targets?;
                }
                ("labels", Value::Object(labels)) => {
                    for (name, value) in labels {
                        if name.is_empty() {
                            return Err("\"\" is not a valid label name".to_owned());
                        }
                        group.labels.push((name, text(value, "labels")?));
                    }
                }
                ("targets" | "labels", _) => return Err(format!("{key} of a target group has a wrong type")),
                _ => return Err(format!("json: unknown field {key:?}")),
            }
        }
        groups.push(group);
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "makes the files it reads")]
    fn files_are_read_when_they_change_and_kept_when_they_break() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let patterns =
            [dir.path().join("*.json").display().to_string(), dir.path().join("b.yml").display().to_string()];
        let mut files = Files::default();
        let addresses = |(list, failures): (Vec<TargetGroup>, u64)| -> (Vec<String>, u64) {
            (list.iter().flat_map(|group| &group.targets).map(|target| target[0].1.clone()).collect(), failures)
        };
        let known = |texts: &[&str], failures| (texts.iter().map(|text| (*text).to_owned()).collect(), failures);
        assert!(files.look(&patterns, true).0.is_empty());
        std::fs::write(&path, r#"[{"targets": ["x:1", "y:2"], "labels": {"a": "b"}}]"#).unwrap();
        std::fs::write(dir.path().join("b.yml"), "- targets: ['z:3']\n").unwrap();
        let (list, failures) = files.look(&patterns, false);
        assert_eq!(
            list[0].labels,
            [("a".to_owned(), "b".to_owned()), ("__meta_filepath".to_owned(), path.display().to_string())]
        );
        assert_eq!(addresses((list, failures)), known(&["x:1", "y:2", "z:3"], 0));
        std::fs::write(&path, "[{]").unwrap();
        assert_eq!(addresses(files.look(&patterns, false)), known(&["x:1", "y:2", "z:3"], 1));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(addresses(files.look(&patterns, false)), known(&["z:3"], 0));
    }

    /// A look that panicked took what was known with it and ended the source, without a word.
    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "makes the file it reads")]
    async fn a_look_that_panics_is_told_and_the_next_reads_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        std::fs::write(&path, r#"[{"targets": ["x:1"]}]"#).unwrap();
        let patterns = vec![path.display().to_string()];
        let files = look(Files::default(), patterns.clone(), true).await.files;
        let broken = Files { read: |_| panic!("broken on purpose"), ..files };
        let looked = look(broken, patterns.clone(), true).await;
        assert_eq!((looked.list, looked.failures), (None, 1));
        let looked = look(Files { read, ..looked.files }, patterns, false).await;
        assert_eq!((looked.list.unwrap().len(), looked.failures), (1, 0));
    }

    #[test]
    fn json_is_read_strictly() {
        assert_eq!(parse_json(b"null"), Ok(vec![]));
        assert_eq!(parse_json(br#"[{"targets":["a"]}]"#).unwrap()[0].targets, ["a"]);
        for (text, what) in [
            ("{", "EOF"),
            ("{}", "expected a list"),
            ("[null]", "nil target group"),
            ("[{\"targets\":[1]}]", "targets must be texts"),
            ("[{\"target\":[]}]", "unknown field \"target\""),
            ("[{\"labels\":{\"\":\"x\"}}]", "not a valid label name"),
        ] {
            let error = parse_json(text.as_bytes()).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
