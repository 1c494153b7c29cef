//! The durable log of Varve: topics, partitions, offsets, consumer groups
