//! `Content-Range` and all header checks of an answer.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_http::fuzzing::content_range, 256 << 10);
