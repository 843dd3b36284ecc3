//! Between programs and the log: clients, the voters that serve them, and what they say to each other.
//!
//! ```text
//!   program ── Client ───── asks ────▶ Voter ── passes on ──▶ Voter that leads
//!                     ◀─── tells ─────  │                       │
//!                                     watches, reads          duties: what time brings about
//!                                       └───── Group<Machine>: the log, and the state it gives ─────┘
//! ```
//!
//! Both halves are pure: a driver carries frames, ticks and writes. A client speaks to any voter; a voter that does not lead
//! passes requests on, and answers when it has applied them itself, so a client never reads what is older than its own writes.
//!
//! - **Order.** A session's requests are done in the order of their numbers, and its reads after the requests before them.
//! - **Exactly once.** Whatever is lost is sent again under its number, by the voter when leaders change, by the client when
//!   voters do; the machine does it once.
//! - **Signs of life** are no entries. Those of all sessions of a voter go to the leader once a tick; it renews them, has a
//!   majority confirm that it still leads, and only then are they acknowledged. A leader that was deposed confirms nothing.
//! - **Appends are shared.** What a voter is handed between two looks at what follows becomes one append, and what a leader is
//!   passed while that is on its way to its disk and a majority becomes the next one.
//! - **Events first.** What an entry changed is told before anything read after it, since both go down one link in order.

pub mod client;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod talk;
pub mod voter;

#[cfg(test)]
mod tests;
