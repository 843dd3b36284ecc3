//! Soft state: what lives as long as its owner says so, and is gone everywhere soon after.
//!
//! Presence, service registries, load, cursors. An entry has one *owner*, and lives with the owner's *lease*; nothing of
//! it is ever stored. This module is the whole protocol as a pure machine: [`State`] is one peer's soft state of one
//! space, with a [`Message`] going in and out for each link, and time and randomness as arguments.
//!
//! ```text
//!   owner ── signs ──▶ lease  (incarnation, seq, anchor, ttl, period, issue, floor)      one a space, 5 min long
//!         ── signs ──▶ entry  (incarnation, version, path, value)                        one signature a write
//!         ── reveals ▶ preimage i of the anchor, every period                            16 bytes, no signature
//! ```
//!
//! **Owner.** A running peer ([`OwnerId`]: its device and its libp2p key). The device's key signs for it, so what may be
//! written follows from the device's grants, as for documents. One owner may hold one entry at a path; several owners
//! may hold one each at the same path.
//!
//! **Order.** `(incarnation, version)` orders everything an owner writes; versions are gap-free, and of two entries at a
//! path the later one counts: a join, so neither order nor repetition of messages matters. Every entry carries its own
//! signature, since a peer may be allowed to see some of an owner's entries and not others, and could not check a
//! signature over the whole. An incarnation begins when the engine opens its store; it is the wall clock's milliseconds
//! with 16 bits of the store's own incarnation below them, so that a later life is above an earlier one. Where that
//! fails (an older store, a clock that was set back), the owner is shown its own later lease, checks its own signature
//! on it, and goes on above it: as members of SWIM refute a rumour (Das, Gupta, Motivala 2002).
//!
//! **Renewal.** A lease's anchor is the end of a chain of hashes (Lamport 1981); preimage `i` says "alive at issue +
//! i × period" and can be checked by hashing. It touches neither entries nor signatures. After [`MAX_RENEWALS`] the owner
//! signs a new lease.
//!
//! **Expiry without synchronised clocks.** News of a lease carries the *age* it has gathered on its way; a receiver's
//! deadline is its own clock's now + ttl − age. A message may wait unseen in a stalled stream, so at most one is
//! unanswered a link: what comes later waits here, where it ages. So an entry outlives its owner's last renewal by at
//! most ttl + hops × the time after which a dead connection is given up.
//!
//! **What replays cannot do.** A preimage is refused when it comes more than a ttl behind the anchor's schedule by the
//! receiver's own clock since it first saw the anchor; so hoarded ones revive nobody, and no lease outlives count ×
//! period + 2 ttl anywhere. A lease whose schedule lies more than ttl + [`MAX_SKEW`] back by the wall clock is refused,
//! so an old one raises no dead at a newcomer. What has lapsed leaves a *floor* `(incarnation, seq, index)` behind, kept
//! as long as an old copy could pass that check.
//!
//! **Sleep.** Leases age through a machine's sleep ([`Clock`]); the schedules of anchors go by its monotonic clock alone, so
//! what was hoarded while a receiver slept is left to the check against the wall clock. After a sleep or a stop news counts
//! again once a peer has answered a question, since what lies in this peer's own buffers is of unknown age.
//!
//! **Deletions** are entries without a value. An owner that has gathered many signs a *floor version* into its lease and
//! writes its living entries anew above it: whatever an owner has at or below its floor is dead.
//!
//! **Spreading.** Over every link news of an owner goes once: a link that brings a renewal second is asked to stay silent
//! about that owner, and is asked to speak again when the first one fails ([PlumTree](https://doi.org/10.1109/SRDS.2007.27),
//! a tree an owner). Each message ends in a checksum over the owner's entries that both ends may see; where it differs,
//! the two compare entry by entry. Peers that meet tell each other one line an owner first.
//!
//! **Narrow links.** Peers replicate prefixes, so a renewal may reach a peer over links that cover less than the peer shows.
//! Whoever passes one on says what it vouches for: what every link on its way covered. Only entries there live on with it, so
//! none is kept alive by peers that would not have heard of its end.
//!
//! **Bounds.** [`MAX_VALUE`], [`MAX_OWNER_ENTRIES`], [`MAX_OWNER_BYTES`], refused to the owner with a [`SoftError`] and
//! dropped and counted at others; [`MAX_OWNERS`], [`MAX_SPACE_BYTES`] and [`MAX_FLOORS`] at a receiver.
//!
//! **Not here.** Who may read and write (asked of the caller), what a value means, and the window of a link.

use std::time::Duration;

mod chain;
mod clock;
mod entry;
mod floor;
mod lease;
mod message;
mod own;
mod peering;
mod receive;
mod replica;
mod scope;
mod spread;
mod state;

#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "vectors"))]
pub(crate) mod vectors;

pub use chain::{Chain, Preimage};
pub use clock::Clock;
pub use entry::SoftEntry;
pub use lease::{Lease, LeaseTerms, OwnerId, OwnerTag};
pub use message::{Fetch, Message, News, Summary};
pub use receive::{MayWrite, Misbehaviour};
pub use state::{Shown, SoftChange, SoftError, SoftEvent, State, incarnation};

/// Most renewals of one lease. With the default period a lease lasts over five minutes, and its signature costs next to
/// nothing; checking a preimage takes at most so many hashes, about 6 µs.
pub const MAX_RENEWALS: u8 = 64;
/// Most links that news of an owner may cross; each adds a keep-alive's time to the bound on an entry's life.
pub const MAX_HOPS: u8 = 8;
/// How far wall clocks may be apart before soft state of the one behind is refused by the one ahead. Longer lets a recorded
/// lease be replayed to newcomers for longer.
pub const MAX_SKEW: Duration = Duration::from_secs(600);
/// Shortest and longest time to live that a lease may name.
pub const TTL_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
/// Shortest period between renewals that a lease may name.
pub const MIN_PERIOD: Duration = Duration::from_millis(200);

/// Longest value of an entry.
pub const MAX_VALUE: usize = 8 * 1024;
/// Most living entries of an owner in a space.
pub const MAX_OWNER_ENTRIES: usize = 256;
/// Most bytes of an owner's paths and values in a space.
pub const MAX_OWNER_BYTES: usize = 64 * 1024;
/// Deletions that an owner gathers before it publishes a floor.
pub const MAX_DELETIONS: usize = 64;
/// Most owners that a peer keeps of a space; more are dropped and counted.
pub const MAX_OWNERS: usize = 4_096;
/// Most bytes of paths and values that a peer keeps of a space; more are dropped and counted.
pub const MAX_SPACE_BYTES: usize = 16 << 20;
/// Most floors of lapsed owners that a peer keeps of a space, about 300 bytes each; beyond it the one that would be
/// forgotten first goes.
pub const MAX_FLOORS: usize = 8_192;
