//! Import of Prometheus's blocks: finds them, reads series by series in the order of the index, and sends.
//!
//! Blocks are taken from old to new. A block that another one was made of (its `parents`), or that is marked for
//! deletion, is left out: its successor says what is left of it. Damage does not end the import: the place is named,
//! that chunk, series or block is passed over, and the command fails at the end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use serde_json::{Value, json};
use varve_model::labels::push_label;
use varve_model::{Column, Millis, SeriesHash, TimeRange};
use varve_protocol::tsdb::{ChunkMeta, Index, Segment, Tombstone, decode_chunk, tombstones};
use varve_vfs::{Env, Map, Open};

use super::Job;
use super::resume::Notes;
use crate::cli::progress::{Progress, Unit, amount};
use crate::cli::sender::Sender;

/// Bytes of a meta.json or a file of tombstones.
const SMALL_BYTES_MAX: u64 = 256 << 20;
/// Damages that are told one by one.
const DAMAGES_TOLD_MAX: u64 = 20;

/// A block and what its meta.json says.
struct Block {
    dir: PathBuf,
    ulid: String,
    min: Millis,
    max: Millis,
    samples: u64,
    series: u64,
    parents: Vec<String>,
    deletable: bool,
}

/// How far an import is: which block, which of its series.
#[derive(Clone)]
struct Position {
    ulid: String,
    series: usize,
}

/// Imports; whether all went well.
pub(super) fn run(job: &Job, matches: &ArgMatches) -> Result<bool, String> {
    let dirs: Vec<&PathBuf> = matches.get_many("dir").into_iter().flatten().collect();
    let mut progress = job.progress(Unit::Samples, 0);
    let blocks = find(&job.env, &dirs, &job.range, &mut progress)?;
    let total: u64 = blocks.iter().map(|block| block.samples).sum();
    progress.say(&format!("{} blocks, {}", blocks.len(), amount(Unit::Samples, total)));
    let Some(oldest) = blocks.iter().map(|block| block.min).min() else { return Ok(true) };
    job.warn_of_retention(&mut progress, oldest);
    let mut progress = job.progress(Unit::Samples, total);

    let notes = Notes::new(&job.env, job.resume.as_deref());
    let begin = notes.read()?.map(|note| position(&note, &blocks)).transpose()?;
    let mut notes = notes;
    let mut save = |position: &Position| notes.write(json!({"block": position.ulid, "series": position.series}));
    let first = Position { ulid: String::new(), series: 0 };
    let mut import = Import {
        job,
        sender: Sender::new(&job.server, first, &mut save),
        progress: &mut progress,
        left_out: 0,
        damages: 0,
    };
    let mut waiting = begin;
    for block in &blocks {
        let mut from = 0;
        if let Some(position) = &waiting {
            if position.ulid != block.ulid {
                import.progress.skip(block.samples);
                continue;
            }
            from = position.series;
            import.progress.skip((block.samples as f64 * from as f64 / block.series.max(1) as f64) as u64);
            waiting = None;
        }
        import.block(block, from).map_err(|why| match &job.resume {
            Some(path) => format!("{why}\nrun the same command again to go on (noted in {})", path.display()),
            None => format!("{why}\nwhat was acknowledged is stored; the import may run again over all of it"),
        })?;
    }
    import.sender.flush(import.progress)?;
    let Import { sender, left_out, damages, .. } = import;
    let outcome = sender.outcome;
    notes.finish();
    Ok(job.summarize(&mut progress, &outcome, left_out, damages))
}

/// The position in a note.
fn position(note: &Value, blocks: &[Block]) -> Result<Position, String> {
    let ulid = note["block"].as_str().unwrap_or_default().to_owned();
    if !blocks.iter().any(|block| block.ulid == ulid) {
        return Err(format!("the import to go on with was in block {ulid:?}, which is not here"));
    }
    Ok(Position { ulid, series: note["series"].as_u64().unwrap_or(0) as usize })
}

struct Import<'a> {
    job: &'a Job,
    sender: Sender<'a, Position>,
    progress: &'a mut Progress,
    /// Samples that were deleted or are out of the asked range.
    left_out: u64,
    damages: u64,
}

/// Why a block is not read to its end.
enum Stop {
    /// A file of it cannot be read; the next block can.
    Damage(PathBuf, String),
    /// Nothing can be sent any more.
    Import(String),
}

impl Stop {
    fn damage(path: &Path, why: &dyn std::fmt::Display) -> Stop {
        Stop::Damage(path.to_owned(), why.to_string())
    }
}

impl Import<'_> {
    fn damage(&mut self, path: &Path, what: &dyn std::fmt::Display) {
        self.damages += 1;
        if self.damages <= DAMAGES_TOLD_MAX {
            self.progress.say(&format!("{}: {what}", path.display()));
        }
    }

    /// Sends a block from one of its series on. An error ends the import; damage ends only the block.
    fn block(&mut self, block: &Block, from: usize) -> Result<(), String> {
        match self.block_or_damage(block, from) {
            Err(Stop::Damage(path, why)) => {
                self.damage(&path, &why);
                Ok(())
            }
            Err(Stop::Import(why)) => Err(why),
            Ok(()) => Ok(()),
        }
    }

    fn block_or_damage(&mut self, block: &Block, from: usize) -> Result<(), Stop> {
        let env = &self.job.env;
        let index_path = block.dir.join("index");
        let index_file = map(env, &index_path).map_err(|why| Stop::damage(&index_path, &why))?;
        let index = Index::open(&index_file).map_err(|error| Stop::damage(&index_path, &error))?;
        let files = chunk_files(env, &block.dir.join("chunks"))?;
        let mut segments = Vec::new();
        for (path, file) in &files {
            let segment = Segment::open(file).map_err(|error| Stop::damage(path, &error))?;
            segments.push((path.as_path(), segment));
        }
        // Without knowing what was deleted nothing of the block may be taken.
        let deleted_path = block.dir.join("tombstones");
        let deleted = match small(env, &deleted_path).map_err(|why| Stop::damage(&deleted_path, &why))? {
            None => Vec::new(),
            Some(bytes) => tombstones(&bytes).map_err(|error| Stop::damage(&deleted_path, &error))?,
        };
        let (mut labels, mut chunks, mut label_bytes) = (Vec::new(), Vec::new(), Vec::new());
        let mut column = Column::default();
        for number in from..index.series_count() {
            self.sender.reach(Position { ulid: block.ulid.clone(), series: number });
            if self.sender.is_full() {
                self.sender.flush(self.progress).map_err(Stop::Import)?;
            }
            let reference = match index.series(number, &mut labels, &mut chunks) {
                Ok(reference) => reference,
                Err(error) => {
                    self.damage(&index_path, &error);
                    continue;
                }
            };
            label_bytes.clear();
            self.write_labels(&labels, &mut label_bytes);
            let first = deleted.partition_point(|tombstone| tombstone.series < reference);
            let end = deleted.partition_point(|tombstone| tombstone.series <= reference);
            let deleted = deleted.get(first..end).unwrap_or_default();
            self.series(&label_bytes, &chunks, deleted, &segments, &mut column).map_err(Stop::Import)?;
        }
        Ok(())
    }

    fn write_labels(&self, labels: &[(&str, &str)], out: &mut Vec<u8>) {
        let set = &self.job.labels;
        let kept = labels.iter().copied().filter(|(name, _)| !set.iter().any(|(other, _)| other == name));
        let set = set.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in kept.chain(set).filter(|(_, value)| !value.is_empty()) {
            push_label(out, name.as_bytes(), value.as_bytes());
        }
    }

    fn series(
        &mut self,
        label_bytes: &[u8],
        chunks: &[ChunkMeta],
        deleted: &[Tombstone],
        segments: &[(&Path, Segment<'_>)],
        column: &mut Column,
    ) -> Result<(), String> {
        let hash = SeriesHash::of(label_bytes).unwrap_or_default();
        let mut begun = false;
        for meta in chunks {
            if !self.job.range.overlaps(&TimeRange { min: meta.min, max: meta.max }) {
                continue;
            }
            let Some((path, segment)) = segments.get(meta.segment as usize) else {
                self.damage(Path::new("index"), &format!("a chunk in file {}, which is not there", meta.segment + 1));
                continue;
            };
            column.clear();
            let decoded = segment.chunk(meta.at).map_err(|error| error.to_string()).and_then(|(encoding, data)| {
                decode_chunk(encoding, data, column).map_err(|what| format!("damaged at byte {}: {what}", meta.at))
            });
            if let Err(why) = decoded {
                self.damage(path, &why);
                continue;
            }
            let range = self.job.range;
            let wanted =
                |time: Millis| range.contains(time) && !deleted.iter().any(|stone| stone.range().contains(time));
            if self.sender.is_full() {
                self.sender.flush(self.progress)?;
                begun = false;
            }
            let mut left_out = 0;
            for (index, (&time, &value)) in column.times.iter().zip(&column.values).enumerate() {
                if !wanted(time) {
                    left_out += 1;
                    continue;
                }
                if !begun {
                    self.sender.begin(label_bytes, hash);
                    begun = true;
                }
                self.sender.push(time, value, column.start(index));
            }
            let starts = std::mem::take(&mut column.histogram_starts);
            for (index, (time, histogram)) in column.histograms.drain(..).enumerate() {
                if !wanted(time) {
                    left_out += 1;
                    continue;
                }
                if self.sender.is_full() {
                    self.sender.flush(self.progress)?;
                    begun = false;
                }
                if !begun {
                    self.sender.begin(label_bytes, hash);
                    begun = true;
                }
                self.sender.push_histogram(time, histogram, starts.get(index).copied().unwrap_or(0));
                self.progress.add(1);
            }
            self.left_out += left_out;
            self.progress.add(column.times.len() as u64);
        }
        Ok(())
    }
}

/// All blocks of the directories that have samples in the range, from old to new.
fn find(env: &Env, dirs: &[&PathBuf], range: &TimeRange, progress: &mut Progress) -> Result<Vec<Block>, String> {
    let mut blocks: Vec<Block> = Vec::new();
    for dir in dirs {
        let names = env.vfs.list(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let has = |name: &str| names.iter().any(|other| other == name);
        let before = blocks.len();
        if has("meta.json") {
            blocks.push(read_meta(env, dir)?);
        } else {
            for name in &names {
                let inner = dir.join(name);
                let is_block = !name.contains(".tmp")
                    && env.vfs.list(&inner).is_ok_and(|names| names.iter().any(|name| name == "meta.json"));
                if is_block {
                    blocks.push(read_meta(env, &inner)?);
                }
            }
        }
        if has("wal") {
            progress.say(&format!(
                "{}: the newest samples (about two hours) are in its write-ahead log and are not read; take a snapshot \
                 to have them (see `varve import prometheus --help`)",
                dir.display()
            ));
        }
        if blocks.len() == before {
            return Err(format!("{}: no block of Prometheus is here (a directory with a meta.json)", dir.display()));
        }
    }
    let replaced: BTreeSet<String> = blocks.iter().flat_map(|block| block.parents.iter().cloned()).collect();
    blocks.retain(|block| {
        let left = if block.deletable || replaced.contains(&block.ulid) {
            Some("it was compacted into another block")
        } else if block.min > range.max || block.max < range.min {
            Some("it has nothing of the time asked for")
        } else {
            None
        };
        if let Some(why) = left {
            progress.say(&format!("{}: left out, {why}", block.dir.display()));
        }
        left.is_none()
    });
    blocks.sort_by(|a, b| (a.min, &a.ulid).cmp(&(b.min, &b.ulid)));
    blocks.dedup_by(|a, b| a.ulid == b.ulid && !a.ulid.is_empty());
    Ok(blocks)
}

fn read_meta(env: &Env, dir: &Path) -> Result<Block, String> {
    let path = dir.join("meta.json");
    let failed = |why: &str| format!("{}: {why}", path.display());
    let text = small(env, &path)?.ok_or_else(|| failed("cannot be read"))?;
    let meta: Value = serde_json::from_slice(&text).map_err(|error| failed(&error.to_string()))?;
    match meta["version"].as_u64() {
        Some(1) => {}
        Some(found) => {
            return Err(failed(&format!("block version {found} is newer than what is understood here (up to 1)")));
        }
        None => return Err(failed("no version")),
    }
    let stat = |name: &str| meta["stats"][name].as_u64().unwrap_or(0);
    let parents = meta["compaction"]["parents"].as_array().into_iter().flatten();
    let ulid = meta["ulid"].as_str().map(str::to_owned);
    Ok(Block {
        dir: dir.to_owned(),
        ulid: ulid.unwrap_or_else(|| dir.display().to_string()),
        min: meta["minTime"].as_i64().ok_or_else(|| failed("no minTime"))?,
        max: meta["maxTime"].as_i64().ok_or_else(|| failed("no maxTime"))?,
        samples: stat("numSamples"),
        series: stat("numSeries"),
        parents: parents.filter_map(|parent| parent["ulid"].as_str()).map(str::to_owned).collect(),
        deletable: meta["compaction"]["deletable"].as_bool().unwrap_or(false),
    })
}

fn map(env: &Env, path: &Path) -> Result<Map, String> {
    let file = env.vfs.open(path, Open::Read).map_err(|error| error.to_string())?;
    if file.is_empty().map_err(|error| error.to_string())? {
        return Err("the file is empty".to_owned());
    }
    file.map().map_err(|error| error.to_string())
}

/// A small file as a whole; `None` when it is not there.
fn small(env: &Env, path: &Path) -> Result<Option<Vec<u8>>, String> {
    let file = match env.vfs.open(path, Open::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let read = || {
        let len = file.len()?;
        if len > SMALL_BYTES_MAX {
            return Err(std::io::Error::other("the file is too large"));
        }
        let mut bytes = vec![0; len as usize];
        file.read_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    read().map(Some).map_err(|error| format!("{}: {error}", path.display()))
}

/// The chunk files in the order of their numbers.
fn chunk_files(env: &Env, dir: &Path) -> Result<Vec<(PathBuf, Map)>, Stop> {
    let mut names = env.vfs.list(dir).map_err(|error| Stop::damage(dir, &error))?;
    names.retain(|name| name.parse::<u32>().is_ok());
    names.sort_by_key(|name| name.parse::<u32>().unwrap_or(u32::MAX));
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        let path = dir.join(name);
        let file = map(env, &path).map_err(|why| Stop::damage(&path, &why))?;
        files.push((path, file));
    }
    Ok(files)
}
