//! Addresses of every transport, to where their requests would go.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_fuzz::address, 4 << 20);
