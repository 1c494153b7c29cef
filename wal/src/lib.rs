//! The durable log of Varve: topics, partitions, offsets, consumer groups. Payloads are bytes to it.
//!
//! ```text
//! <dir>/<topic>/topic                          settings, twice
//! <dir>/<topic>/<partition>/<base offset>.log  log file: header, batches, zeros, header again
//!                           <base offset>.idx  its index once it is sealed; a hint
//!                           oldest, newest     which log files must be there, so that a loss is seen
//!                           spare, spare-2     log files to be used again
//! ```
//!
//! * [`Log`] opens the directory and tells what was torn and what is damaged ([`Recovery`]).
//! * [`PartitionWriter`], one a partition, appends batches and makes a group durable with one write and one sync.
//! * [`Cursor`], any number, reads below the high-water mark and follows it.
//! * Consumer groups commit offsets; retention removes whole log files.
//!
//! What is acknowledged (a sync that returned `Ok`) survives power cuts, failed syncs and full disks; `docs/format.md`
//! has the bytes, `tests/` the proof.

mod batch;
mod bounds;
mod check;
mod counters;
mod dump;
mod error;
mod file;
mod index;
mod log;
mod offsets;
mod partition;
mod reader;
mod recover;
mod retention;
mod scan;
mod settings;
mod spares;
mod topic;
mod wire;
mod writer;

pub use batch::{HEADER_BYTES, Header, Malformed, RecordHeader, decode_all};
pub use check::check;
pub use counters::Counts;
pub use dump::dump;
pub use error::{Error, Result};
pub use file::{FileHeader, FileId};
pub use log::{Log, PartitionInfo, TopicInfo};
pub use reader::{Batch, Cursor, From};
pub use recover::{Damage, Recovery, Torn};
pub use retention::Retained;
pub use settings::LogSettings;
pub use topic::{GroupName, Offset, PartitionId, TopicName, TopicSettings};
pub use writer::PartitionWriter;
