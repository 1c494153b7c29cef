//! Shard: one partition of the metrics topic and its head, owned by one thread.

use varve_model::Millis;

use crate::error::{Error, Result};
use crate::write::{Applied, Write};

/// The writer of one partition.
#[derive(Debug)]
pub struct Shard {}

impl Shard {
    /// Its partition.
    pub fn partition(&self) -> u32 {
        unimplemented!()
    }

    /// Stores the writes: log, ONE sync for all, apply, visible. One answer per write, in order.
    pub fn turn(&mut self, _writes: &[Write], _now: Millis) -> Vec<std::result::Result<Applied, Error>> {
        unimplemented!()
    }

    /// To be called when no write waits (and about once a second): closes the last group in the log, freezes the head
    /// when that is due.
    pub fn idle(&mut self, _now: Millis) -> Result<()> {
        unimplemented!()
    }

    /// Ends the shard: freezes what is in the head, so that the steps that remain can flush it.
    pub fn close(self) -> Result<()> {
        unimplemented!()
    }
}
