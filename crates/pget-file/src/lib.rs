//! Reads files by positional reads straight into the slot.
