//! Attaches to a shared segment with an arbitrary companion, as another process may have written
//! it.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_fuzz::shared_header, 1 << 20);
