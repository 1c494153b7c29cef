//! File patterns: `*`, `?` and `[…]` within one name, no `**`. Sorted, so that order does not depend on the disk.

use std::path::{Path, PathBuf};

use crate::regex::Regex;

/// Files one pattern may name.
const FILES_MAX: usize = 100_000;

/// The files that match; a pattern without a wildcard matches the file of that name, if it exists. What cannot be
/// listed matches nothing.
pub(crate) fn glob(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = vec![PathBuf::from(if pattern.starts_with('/') { "/" } else { "" })];
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    for part in &parts {
        let mut next = Vec::new();
        if !part.contains(['*', '?', '[']) {
            next.extend(found.iter().map(|dir| dir.join(part)).filter(|path| path.exists()));
        } else {
            let matcher = Regex::new(&translate(part))?;
            for dir in &found {
                next.extend(list(dir).into_iter().filter(|name| matcher.is_match(name)).map(|name| dir.join(name)));
                if next.len() > FILES_MAX {
                    return Err(format!("{pattern}: more than {FILES_MAX} files"));
                }
            }
        }
        found = next;
    }
    found.sort();
    if parts.is_empty() { Ok(Vec::new()) } else { Ok(found) }
}

#[expect(clippy::disallowed_methods, reason = "the operator's files, not the data of the engine")]
fn list(dir: &Path) -> Vec<String> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// A pattern as a regular expression.
fn translate(pattern: &str) -> String {
    let mut out = String::new();
    let mut in_class = false;
    for c in pattern.chars() {
        match c {
            '*' if !in_class => out.push_str("[^/]*"),
            '?' if !in_class => out.push_str("[^/]"),
            '[' if !in_class => {
                in_class = true;
                out.push('[');
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '-' | '^' if in_class => out.push(c),
            c if c.is_alphanumeric() || c == '_' => out.push(c),
            c => {
                out.push('\\');
                out.push(c);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "makes the files it looks for")]
    fn patterns_name_files() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yml", "c.json", "a+.yml"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let of = |pattern: &str| -> Vec<String> {
            let found = glob(&dir.path().join(pattern).display().to_string()).unwrap();
            found.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(of("*.yml"), ["a+.yml", "a.yml", "b.yml"]);
        assert_eq!(of("[ab].yml"), ["a.yml", "b.yml"]);
        assert_eq!(of("?.json"), ["c.json"]);
        assert_eq!(of("a+*"), ["a+.yml"]);
        assert_eq!(of("c.json"), ["c.json"]);
        assert!(of("nosuch.yml").is_empty() && of("nosuch/*.yml").is_empty());
    }
}
