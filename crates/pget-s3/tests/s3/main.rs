//! `S3Source` against S3 servers.
//!
//! - Real servers: versitygw and gofakes3.
//! - A real server over the bad network of toxiproxy.
//! - The misbehaving server, which imitates AWS, GCS and Azure.

mod addresses;
mod answers;
mod clouds;
mod common;
mod credentials;
mod every_mode;
mod learned;
mod network;
mod real;
mod standin;
mod verify;
mod writer;
