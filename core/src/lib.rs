//! Foreshore: a replicated store that keeps working when the network does not.
#![deny(missing_docs)]

pub mod config;
#[cfg(feature = "coord")]
pub mod coord;
pub mod doctor;
pub mod document;
pub mod engine;
pub mod error;
#[cfg(feature = "sim")]
pub mod fuzz;
pub mod id;
pub mod io;
pub mod overlay;
pub mod reconcile;
pub mod session;
pub mod soft;
pub mod time;
pub mod topic;
pub(crate) mod touched;
pub mod trust;
pub mod wire;

#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "net")]
pub mod peer;
#[cfg(any(feature = "sim", all(test, feature = "coord")))]
pub mod sim;
pub mod store;
#[cfg(feature = "vectors")]
pub mod vectors;

/// The README's example compiles.
#[cfg(all(doctest, feature = "net", feature = "redb"))]
#[doc = include_str!("../../README.md")]
mod readme {}
