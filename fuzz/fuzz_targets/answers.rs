//! Parses bodies of errors, and the headers of an AIStore.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_fuzz::answers, 1 << 20);
