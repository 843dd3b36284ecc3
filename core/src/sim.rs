//! The simulator: whole clusters of engines on virtual time, with everything that can go wrong, from one seed.
//!
//! ```text
//!  scenario ──▶ cluster ──▶ node = engine + disk + clock + program
//!                  │  ▲
//!                  ▼  │          check: what was promised, what holds
//!               network          trace: what happened, hashed
//! ```
//!
//! [`scenario::run`] takes a seed and gives a [`scenario::Report`], or a [`scenario::Failure`] that says how to replay it.
//! A run has three parts: a storm, in which programs edit and faults strike; the heal, after which everything has to
//! converge within a bounded time and then be silent; and the account, in which every promise made in the storm is looked
//! up in the engines and in their reopened stores.
//!
//! **Invariants.** A seed gives one trace: no clock, no randomness of its own, no unordered table. The simulator drives an
//! engine by the contract of [`crate::io`] alone and breaks it only where a test plants a bug.
//!
//! `hostile` sets liars, readers and strangers on the same engines, with frames of their own making.
//!
//! What it is not: a model of the protocol. It runs the real engine, byte for byte.

pub mod check;
pub mod clock;
pub mod cluster;
pub mod dice;
pub mod disk;
mod movers;
pub mod network;
pub mod node;
mod overlay;
pub mod program;
pub mod queue;
pub mod scenario;
pub mod soft;
pub mod topics;
pub mod trace;

pub use scenario::{Failure, NAMES, Options, Report, Scenario, run, run_scenario};

#[cfg(all(test, feature = "sim"))]
mod hostile;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod toy;
