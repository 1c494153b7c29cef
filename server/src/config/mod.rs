//! Configuration: one table of settings, filled from flags, then `VARVE_*` variables, then a TOML file, then defaults.
//!
//! A setting is one line of [`settings`]'s table; its flag, its environment variable, its TOML key, its line in
//! `varve serve --help` and its row in `docs/config.md` all come from there.

pub mod docs;
pub mod feature;
pub mod load;
pub mod settings;
pub mod value;

pub use feature::EnabledFeatures;
pub use load::{LoadError, load};
pub use settings::{ServerSettings, Setting, Settings, TABLE};
