//! Parses heads of answers: status line, headers, framing.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_http::fuzzing::head, 256 << 10);
