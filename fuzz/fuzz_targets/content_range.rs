//! Checks the headers of an answer, `Content-Range` among them.
#![cfg_attr(fuzzing, no_main)]

pget_fuzz::target!(pget_http::fuzzing::content_range, 256 << 10);
