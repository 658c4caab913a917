//! The companion of a shared segment, as another process may have left it.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_fuzz::shared_header, 1 << 20);
