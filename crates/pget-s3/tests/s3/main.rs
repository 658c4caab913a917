//! `S3Source` against real S3 servers (versitygw, gofakes3), behind a bad network (toxiproxy), and against the misbehaving server, which stands for AWS, GCS and Azure where those cannot be had.

mod answers;
mod clouds;
mod common;
mod every_mode;
mod learned;
mod network;
mod real;
mod standin;
mod verify;
mod writer;
