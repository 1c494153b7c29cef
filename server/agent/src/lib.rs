//! The agent: scrapes targets as Prometheus does, from the same YAML.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod config;
mod glob;
pub mod regex;
pub mod relabel;
pub mod yaml;
