//! The pget program.
fn main() {}
