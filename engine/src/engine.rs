//! Engine: opens a data directory, hands out its shards, snapshots and steps.

use std::path::Path;
use std::sync::Arc;

use varve_model::write::Metadata;
use varve_model::{Limits, Millis, TenantId, TenantName};
use varve_vfs::Env;

use crate::error::Result;
use crate::settings::EngineSettings;
use crate::shard::Shard;
use crate::snapshot::Snapshot;
use crate::status::{EngineStatus, Recovery};
use crate::step::{Done, Step};

/// An open data directory. Shared by all; each [`Shard`] has one owner.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// Opens or creates the directory `dir`: locks it, opens the log, replays it. All acknowledged data is visible when
    /// it returns. Damaged segments and log batches are set aside and reported in [`Recovery`], not errors.
    pub fn open(
        _env: Env,
        _dir: &Path,
        _settings: EngineSettings,
        _limits: Limits,
    ) -> Result<(Arc<Engine>, Vec<Shard>, Recovery)> {
        unimplemented!()
    }

    /// The id of a tenant; makes it (durably) when the name is new.
    pub fn tenant(&self, _name: &TenantName) -> Result<TenantId> {
        unimplemented!()
    }

    /// The id of a tenant, `None` when it never wrote.
    pub fn find_tenant(&self, _name: &TenantName) -> Option<TenantId> {
        unimplemented!()
    }

    /// Number of shards.
    pub fn partitions(&self) -> u32 {
        unimplemented!()
    }

    /// A consistent view of everything applied so far. O(shards), waits for nobody.
    pub fn snapshot(&self) -> Snapshot {
        unimplemented!()
    }

    /// The engine in figures.
    pub fn status(&self) -> EngineStatus {
        unimplemented!()
    }

    /// The most urgent piece of background work, `None` when there is none. At most one step per shard is out at once;
    /// what was planned must be run and installed (or dropped, which gives it back).
    pub fn next_step(&self, _now: Millis) -> Option<Step> {
        unimplemented!()
    }

    /// Makes the result of a step visible and durable.
    pub fn install(&self, _done: Done) -> Result<()> {
        unimplemented!()
    }

    /// Asks all shards to freeze their heads, at their next turn or idle call, and flushes to be planned.
    pub fn request_flush(&self) {
        unimplemented!()
    }

    /// Keeps metadata of metric families, the last one of a family; durable when it returns.
    pub fn put_metadata(&self, _tenant: TenantId, _metadata: &[Metadata]) -> Result<()> {
        unimplemented!()
    }

    /// Metadata of a tenant's metric families in order of names.
    pub fn metadata(&self, _tenant: TenantId) -> Vec<Metadata> {
        unimplemented!()
    }
}
