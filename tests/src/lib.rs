//! What crosses crates: editing traces, processes, crashes.
#![deny(missing_docs)]
