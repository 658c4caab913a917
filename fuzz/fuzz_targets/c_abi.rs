//! Passes texts, numbers and handles through the C ABI.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_fuzz::c_abi, 8 << 20);
