//! The journal of a part, as it may be found.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_file::fuzzing::journal, 1 << 20);
