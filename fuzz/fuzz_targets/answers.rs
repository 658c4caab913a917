//! Bodies of errors, and an AIStore's headers.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_fuzz::answers, 1 << 20);
