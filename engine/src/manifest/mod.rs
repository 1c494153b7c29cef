//! Manifest: what is durable besides the log's records and the segments' bytes: which segments live, up to which offset
//! each partition is in segments, tenants, metadata. Kept as edits in the log's partition `_manifest`/0.
//!
//! * [`Edit`]: one change; a record holds some and takes effect whole or not at all.
//! * [`Catalog`]: the sum of all edits.
//! * [`Store`]: appends, and reads back. Each log file that it begins starts with the whole catalog, so recovery needs
//!   the newest file alone, and an edit whose sync failed (it may be there after a crash or not) is void as soon as
//!   anything later is written.

pub(crate) mod catalog;
pub mod edit;
pub(crate) mod families;
pub(crate) mod store;

pub(crate) use catalog::Catalog;
pub(crate) use edit::{Edit, SegmentEntry};
pub(crate) use families::Families;
pub(crate) use store::Store;
