//! Parses addresses with every transport, up to the URL of the request.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_fuzz::address, 4 << 20);
