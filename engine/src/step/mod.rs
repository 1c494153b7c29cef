//! Step: one piece of background work: planned purely, run without locks, installed shortly.

pub mod merge;

use varve_vfs::Env;

use crate::error::Result;

/// Work to do, from [`crate::Engine::next_step`].
#[derive(Debug)]
pub struct Step {}

impl Step {
    /// `flush`, `compact` or `expire`.
    pub fn name(&self) -> &'static str {
        unimplemented!()
    }

    /// Does the work: reads and writes files, holds no lock.
    pub fn run(self, _env: &Env) -> Result<Done> {
        unimplemented!()
    }
}

/// Work done, for [`crate::Engine::install`].
#[derive(Debug)]
pub struct Done {}
