//! Topics: names, numbers and the file that keeps a topic's settings.
//!
//! ```text
//! topic file := record(64) zeros(448) record(64)        written whole, synced, renamed into place
//!  0 "VARVETOP"  8 u16 version  10 u16 zero  12 u32 partitions  16 u64 log file bytes
//! 24 u64 retention ms (max: none)  32 u64 retention bytes (max: none)  40 zero  60 u32 crc of 0..60
//! ```
//! The second record serves when the first is damaged.

use std::fmt;
use std::path::{Path, PathBuf};

use varve_vfs::{Env, Open};

use crate::error::{Error, Result};
use crate::wire;

/// Position of a record in a partition, counted from 0; dense.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Offset(pub u64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a partition within its topic, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PartitionId(pub u32);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Name of a topic by Kafka's rules: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicName(String);

impl TopicName {
    /// Checks a name.
    pub fn new(name: &str) -> Result<TopicName> {
        let refuse = |rule| Err(Error::Name { what: "topic", name: name.to_owned(), rule });
        if name.is_empty() || name.len() > 249 {
            return refuse("1 to 249 characters");
        }
        if name == "." || name == ".." {
            return refuse("not . or ..");
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return refuse("letters, digits, dot, underscore and hyphen only");
        }
        Ok(TopicName(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Name of a consumer group: 1 to 255 bytes of UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupName(String);

impl GroupName {
    /// Checks a name.
    pub fn new(name: &str) -> Result<GroupName> {
        if name.is_empty() || name.len() > 255 {
            return Err(Error::Name { what: "consumer group", name: name.to_owned(), rule: "1 to 255 bytes" });
        }
        Ok(GroupName(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a topic is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicSettings {
    /// Number of partitions; fixed when the topic is made. Default 1, at most 4096.
    pub partitions: u32,
    /// Size of a log file in bytes, 1 KiB to 1 GiB. Default 16 MiB. A larger batch gets a larger file.
    pub log_file_bytes: u64,
    /// Log files whose newest batch is older than this many milliseconds go. `None`: age removes nothing. 0: a file
    /// goes as soon as every internal consumer is past it, and none goes before one has told its position.
    pub retention_ms: Option<u64>,
    /// The oldest log files go while a partition has more bytes than this. `None`: size removes nothing.
    pub retention_bytes: Option<u64>,
}

impl Default for TopicSettings {
    fn default() -> TopicSettings {
        TopicSettings { partitions: 1, log_file_bytes: 16 << 20, retention_ms: None, retention_bytes: None }
    }
}

impl TopicSettings {
    /// Whether every value is in its range.
    pub fn check(&self) -> Result<()> {
        if self.partitions == 0 || self.partitions > 4096 {
            let got = u64::from(self.partitions);
            return Err(Error::Setting { setting: "partitions", got, must: "1 to 4096" });
        }
        if self.log_file_bytes < 1 << 10 || self.log_file_bytes > 1 << 30 || !self.log_file_bytes.is_multiple_of(8) {
            let got = self.log_file_bytes;
            return Err(Error::Setting { setting: "log_file_bytes", got, must: "1 KiB to 1 GiB, a multiple of 8" });
        }
        Ok(())
    }
}

const MAGIC: &[u8; 8] = b"VARVETOP";
const VERSION: u16 = 1;
const RECORD_BYTES: usize = 64;
const COPY_AT: usize = 512;

/// Name of the file that keeps the settings.
pub(crate) const TOPIC_FILE: &str = "topic";

fn encode(settings: &TopicSettings) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    wire::put(&mut record, 0, MAGIC);
    wire::put(&mut record, 8, &VERSION.to_le_bytes());
    wire::put(&mut record, 12, &settings.partitions.to_le_bytes());
    wire::put(&mut record, 16, &settings.log_file_bytes.to_le_bytes());
    wire::put(&mut record, 24, &settings.retention_ms.unwrap_or(u64::MAX).to_le_bytes());
    wire::put(&mut record, 32, &settings.retention_bytes.unwrap_or(u64::MAX).to_le_bytes());
    let crc = crc32fast::hash(&record[..60]);
    wire::put(&mut record, 60, &crc.to_le_bytes());
    record
}

fn decode(record: &[u8]) -> Option<(u16, TopicSettings)> {
    if record.get(..8)? != MAGIC || wire::u32_at(record, 60)? != crc32fast::hash(record.get(..60)?) {
        return None;
    }
    let some = |value: u64| (value != u64::MAX).then_some(value);
    let settings = TopicSettings {
        partitions: wire::u32_at(record, 12)?,
        log_file_bytes: wire::u64_at(record, 16)?,
        retention_ms: some(wire::u64_at(record, 24)?),
        retention_bytes: some(wire::u64_at(record, 32)?),
    };
    Some((wire::u16_at(record, 8)?, settings))
}

/// What the topic file says.
pub(crate) enum Kept {
    /// Both records or one of them: the flag says whether the other is damaged.
    Settings(TopicSettings, bool),
    /// Neither can be read.
    Damaged,
    /// There is no such file.
    Absent,
}

/// Reads a topic file's bytes; no panic on any input.
pub(crate) fn read_bytes(bytes: &[u8], path: &Path) -> Result<Kept> {
    let records = [bytes.get(..RECORD_BYTES), bytes.get(COPY_AT..COPY_AT + RECORD_BYTES)];
    let decoded = records.map(|record| record.and_then(decode));
    let damaged = decoded.iter().any(Option::is_none);
    for (version, settings) in decoded.into_iter().flatten() {
        if version != VERSION {
            return Err(Error::Version { path: path.to_owned(), found: version, newest: VERSION });
        }
        if settings.check().is_ok() {
            return Ok(Kept::Settings(settings, damaged));
        }
    }
    Ok(Kept::Damaged)
}

/// Reads the settings of the topic in `dir`.
pub(crate) fn read(env: &Env, dir: &Path) -> Result<Kept> {
    let path = dir.join(TOPIC_FILE);
    let file = match env.vfs.open(&path, Open::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Kept::Absent),
        Err(error) => return Err(Error::io("open", &path, error)),
    };
    let len = file.len().map_err(|error| Error::io("measure", &path, error))?.min(4096);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(4096)];
    file.read_at(&mut bytes, 0).map_err(|error| Error::io("read", &path, error))?;
    read_bytes(&bytes, &path)
}

/// Makes the settings of the topic in `dir` durable: new file, sync, rename, sync of the directory.
pub(crate) fn write(env: &Env, dir: &Path, settings: &TopicSettings) -> Result<()> {
    let path = dir.join(TOPIC_FILE);
    let fresh = dir.join("topic.new");
    let record = encode(settings);
    let mut bytes = vec![0; COPY_AT + RECORD_BYTES];
    wire::put(&mut bytes, 0, &record);
    wire::put(&mut bytes, COPY_AT, &record);
    remove_if_there(env, &fresh)?;
    let written = (|| {
        let file = env.vfs.open(&fresh, Open::Create).map_err(|error| Error::io("create", &fresh, error))?;
        file.write_at(&bytes, 0).map_err(|error| Error::io("write", &fresh, error))?;
        file.sync().map_err(|error| Error::io("sync", &fresh, error))?;
        env.vfs.rename(&fresh, &path).map_err(|error| Error::io("rename", &fresh, error))
    })();
    if written.is_err() {
        // A full disk must not keep the scrap.
        let _ = env.vfs.remove(&fresh);
        return written;
    }
    env.vfs.sync_dir(dir).map_err(|error| Error::io("sync", dir, error))
}

/// Removes a file; none there is fine.
pub(crate) fn remove_if_there(env: &Env, path: &Path) -> Result<()> {
    match env.vfs.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// Directory of a partition within its topic's.
pub(crate) fn partition_dir(topic_dir: &Path, partition: PartitionId) -> PathBuf {
    topic_dir.join(partition.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        for good in ["a", "metrics", "_offsets", "a.b-c_d9", &"x".repeat(249)] {
            assert_eq!(TopicName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(250)] {
            assert!(TopicName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_survive_one_damaged_copy() {
        let settings =
            TopicSettings { partitions: 7, log_file_bytes: 4096, retention_ms: Some(5), retention_bytes: None };
        let record = encode(&settings);
        let mut bytes = vec![0; COPY_AT + RECORD_BYTES];
        wire::put(&mut bytes, 0, &record);
        wire::put(&mut bytes, COPY_AT, &record);
        assert!(matches!(read_bytes(&bytes, Path::new("t")), Ok(Kept::Settings(s, false)) if s == settings));
        for at in 0..RECORD_BYTES {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(matches!(read_bytes(&flipped, Path::new("t")), Ok(Kept::Settings(s, true)) if s == settings));
            flipped[COPY_AT + at] ^= 4;
            assert!(matches!(read_bytes(&flipped, Path::new("t")), Ok(Kept::Damaged)));
        }
    }
}
