//! The LSM engine of Varve: head, codecs, label index, segments, manifest, background steps.
//!
//! ```text
//! Write -> Shard::turn: resolve series -> record -> log (one sync) -> Head::apply -> Applied
//!                                                      replay = the same apply
//! Head --freeze--> FrozenHead --flush--> segment --compact--> segment --expire--> gone
//! Snapshot = Arc<Version> + one view per head: select -> Selection -> read -> Column
//! ```
//! No thread, no clock, no file but through [`varve_vfs::Env`]: background work is [`Step`]s that the owner runs.

pub mod check;
pub mod codec;
pub mod copy;
pub mod deletion;
pub mod engine;
pub mod error;
pub mod estimate;
mod head;
pub mod index;
pub mod manifest;
mod open;
pub mod record;
pub mod segment;
pub mod settings;
pub mod shard;
pub mod snapshot;
mod state;
pub mod status;
pub mod step;
mod tenants;
pub mod write;

pub use check::{check, dump};
pub use copy::Copied;
pub use deletion::DeletionSpec;
pub use engine::Engine;
pub use error::{Error, Result};
pub use estimate::Estimate;
pub use settings::EngineSettings;
pub use shard::Shard;
pub use snapshot::{Selection, Snapshot};
pub use status::{Cardinality, Damage, EngineStatus, Recovery, ShardStatus, TenantStatus};
pub use step::{Done, Step};
pub use write::{Applied, Refused, Write, route};
