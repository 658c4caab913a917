//! Follows redirects, and checks the request of each hop.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_http::fuzzing::redirect, 256 << 10);
