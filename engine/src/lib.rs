//! The LSM engine of Varve: head, codecs, label index, segments, manifest, background steps
