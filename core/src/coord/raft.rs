//! Consensus as a pure state machine: Raft (Ongaro and Ousterhout, 2014; Ongaro's thesis for pre-vote, transfer and
//! ReadIndex), by the crate `raft`, wrapped so that nothing it must not see reaches it.
//!
//! ```text
//!  tick, message, propose,        ┌──────────────────────────┐   Send, Persist, Applied,
//!  read, persisted, changes  ───▶ │ group: raft + machine     │ ──▶ ReadReady, Role, Membership, …
//!                                 └──────────────────────────┘
//!   message: our own bytes      admit: what may be stepped      rows, store: what a disk holds
//! ```
//!
//! A driver calls the inputs of [`Group`] and carries out what [`Group::poll`] gives, in order:
//!
//! ```text
//! loop {
//!     feed what there is: group.message(..), group.tick(), group.propose(..), group.persisted(..)
//!     while let Some(output) = group.poll() { Send: write to the link; Persist: hand to the disk; … }
//! }
//! ```
//!
//! **Invariants.**
//! - What depends on a write leaves after [`Group::persisted`] for it. Only a leader's appends and heartbeats may leave
//!   earlier, and they not while its own term or vote is on its way to the disk.
//! - One write is under way at a time; what comes meanwhile is one write again.
//! - A replica's randomness is its seed: the timeout of an election is pinned after every tick and every step.
//! - No byte of a network reaches consensus before [`admit`](group) has checked it, and none reaches its parser at all.
//! - A read is answered after a round to a majority, never by a clock.
//!
//! What it is not: a driver. It has no clock, no disk, no link, and it does not know what an entry means.

pub mod config;
pub mod entry;
pub mod group;
pub(crate) mod log;
pub mod member;
pub mod message;
pub mod rebuild;
pub mod rows;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod store;

pub use config::{Config, ConfigError};
pub use group::{Counters, Group, Halt, Output, Role, Standing, Ticket};
pub use log::Position;
pub use member::{Change, Generation, Member, MemberId, Membership, Rebuild, StoreId};
pub use rows::{Identity, OpenError, Stored, Write};
pub use store::{LogStore, MemoryLog};

#[cfg(test)]
mod tests;
