//! The `trivium` binary.

fn main() {}
