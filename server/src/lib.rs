//! The varve server as a library, for its binary and its tests: configuration, HTTP, threads, command line.
//!
//! ```text
//! socket -> http::connection -> http (routes) -> http::ingest -> ingest -> shard queue -> shard thread -> answer
//!                                             -> http::read   -> a blocking thread + query pool       -> answer
//! ```

#![forbid(unsafe_code)]

pub mod app;
pub mod buffers;
pub mod cli;
pub mod config;
pub mod delta;
pub mod http;
pub mod ingest;
pub mod metrics;
pub mod process;
pub mod runtime;
pub mod scrape;
pub mod self_scrape;
pub mod shard;
