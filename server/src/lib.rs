//! The varve server as a library, for its binary and its tests.
