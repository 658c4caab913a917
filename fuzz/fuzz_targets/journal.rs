//! Reads the journal of a part with arbitrary content.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_file::fuzzing::journal, 1 << 20);
