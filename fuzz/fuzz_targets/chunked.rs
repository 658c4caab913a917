//! Parses the chunked transfer coding.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_http::fuzzing::chunked, 64 << 10);
