//! What happened in a run: every line enters a hash, the last lines are kept for people.
//!
//! Two runs of one seed give the same hash, or something on the pure side asked for a clock, drew randomness of its own,
//! or walked a table in an order that is not its own.

use std::collections::VecDeque;
use std::fmt;

use crate::time::Timestamp;

/// Lines kept for a failure report.
pub const KEPT_LINES: usize = 400;

/// The record of a run.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    hasher: blake3::Hasher,
    kept: VecDeque<String>,
    lines: u64,
    echo: bool,
}

impl Trace {
    /// An empty trace. With `echo`, every line is printed to stderr as it is added.
    pub fn new(echo: bool) -> Self {
        Self { echo, ..Self::default() }
    }

    /// Adds a line.
    pub fn line(&mut self, at: Timestamp, what: fmt::Arguments<'_>) {
        let line = format!("{:>11.6} {what}", at.as_micros() as f64 / 1e6);
        self.hasher.update(line.as_bytes()).update(b"\n");
        self.lines += 1;
        if self.echo {
            eprintln!("{line}");
        }
        if self.kept.len() == KEPT_LINES {
            self.kept.pop_front();
        }
        self.kept.push_back(line);
    }

    /// Whether lines are printed as they are added.
    pub fn is_echoed(&self) -> bool {
        self.echo
    }

    /// Lines so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The hash of all lines so far.
    pub fn hash(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }

    /// The last lines, oldest first.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.kept.iter().map(String::as_str)
    }
}

/// The first eight hexadecimal digits of a hash of `bytes`: names a frame or a heads list in a line.
pub fn short(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..8].to_owned()
}
