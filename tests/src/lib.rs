//! What crosses crates: editing traces, processes, crashes.
#![deny(missing_docs)]

pub mod cable;
pub mod cluster;
pub mod crash;
pub mod fuzz;
pub mod http;
pub mod netns;
pub mod stage;
pub mod traces;
pub mod typist;
pub mod voters;
pub mod zookeeper;

/// Whether the long form of tests is asked for (`cargo xtask test --long`): more seeds, more kills, larger sizes.
pub fn is_long() -> bool {
    std::env::var_os("FORESHORE_LONG").is_some_and(|value| value != "0")
}
