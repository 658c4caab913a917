//! Reads AIStore objects in parallel ranges, straight from their target.
