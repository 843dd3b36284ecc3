//! The `foreshore` binary.

fn main() {}
