//! Wire bytes to and from Varve's model: pure, bounded, fuzzed
