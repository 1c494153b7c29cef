//! The words of Varve as types: plain data, no files, no threads, no wire formats.

pub mod exemplar;
pub mod histogram;
pub mod labels;
pub mod limit;
pub mod matcher;
pub mod sample;
pub mod tenant;
pub mod write;

pub use exemplar::Exemplar;
pub use histogram::Histogram;
pub use labels::{Labels, LabelsBuilder, SeriesHash};
pub use limit::{Limits, RefusalReason};
pub use matcher::{MatchOp, Matcher};
pub use sample::{Column, Millis, STALE_NAN_BITS, Sample, TimeRange, is_stale};
pub use tenant::{TenantId, TenantName};
pub use write::WriteBatch;
