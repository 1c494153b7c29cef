//! What a server takes: processor time and memory of its process, bytes of its folder.

use std::collections::BTreeMap;
use std::path::Path;

/// CPU seconds and peak resident MiB of a process; zeros where there is none.
pub(crate) fn usage(pid: u32) -> (f64, u64) {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return (0.0, 0) };
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))
        .map_or(0, |l| l.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024);
    (ticks / 100.0, peak)
}

/// Bytes of each entry of a folder.
pub(crate) fn folder(path: &Path) -> BTreeMap<String, u64> {
    let Ok(entries) = std::fs::read_dir(path) else { return BTreeMap::new() };
    entries.flatten().map(|entry| (entry.file_name().to_string_lossy().into_owned(), bytes(&entry.path()))).collect()
}

fn bytes(path: &Path) -> u64 {
    // A server merges meanwhile: what has gone counts nothing.
    let Ok(metadata) = path.symlink_metadata() else { return 0 };
    if metadata.is_dir() { folder(path).values().sum() } else { metadata.len() }
}
