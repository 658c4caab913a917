//! Parses properties, headers, and the command line.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_fuzz::options, 8 << 20);
