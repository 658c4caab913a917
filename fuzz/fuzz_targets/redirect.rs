//! Where redirects lead, and what goes along.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_http::fuzzing::redirect, 256 << 10);
