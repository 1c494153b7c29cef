//! Shared data of the benchmarks.
