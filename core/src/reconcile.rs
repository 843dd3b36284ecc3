//! Anti-entropy: what two peers' item sets of one domain differ in, for bytes in proportion to the difference.
//!
//! An [`Item`] names one state of one document, or one tombstone. A peer keeps a [`Summary`] of each domain's set
//! at hand; a [`session`] between two peers turns two summaries into two lists of ids. Cheapest layer first:
//!
//! | layer | module | source | when |
//! |---|---|---|---|
//! | root | [`LtHash`], [`Root`] | Bellare and Micciancio 1997; eprint 2019/227 | always: equal roots end it |
//! | size of the difference | [`Sketch`] | Alon, Matias and Szegedy 1996 | with the root, to size the first answer |
//! | coded symbols | [`riblt`] | Yang, Gilad and Alizadeh 2024 | usually: up to 380,000 differences |
//! | ranges | [`range`] | Meyer 2023 | nearly everything differs, or symbols lead nowhere |
//!
//! # Bytes
//!
//! A [`message::Message`] is its kind (1 byte), the session's serial (1 byte), and:
//!
//! ```text
//! 0 Root       key: 00 epoch varint | 01 nonce[16] · at least varint · count varint · root[24]
//!              · 64 fine and 16 coarse counter bytes                           111 to 131 bytes in all
//! 1 Equal      nothing                                                          2 bytes
//! 2 OneSided   nothing
//! 3 Ids        n varint · n × id u64 le                                         at most 7,168 ids
//! 4 Symbols    start varint · target varint · n varint
//!              · n × (sum u64 le · check u32 le · count i8)                     at most 4,608 symbols
//! 5 More       up to varint
//! 6 UseRanges  nothing
//! 7 Stale      nothing
//! 8 Compare    n varint · n × (from bound · to option bound · ask)              at most 128 ranges
//!              ask: 00 fingerprint[16] | 01 (list)
//! 9 Compared   n varint · n × (parts varint · parts × (to option bound · holds))
//!              holds: 00 fingerprint[16] | 01 n varint · n × id u64 le          no parts: equal
//! 10 Done      nothing
//!
//! bound: bytes shared with the bound before it in this message varint · further bytes varint-prefixed · id varint
//! option: 00 | 01 then the thing
//! ```
//!
//! No message exceeds 60 KiB. What it comes to, both directions:
//!
//! | differences *d* | bytes | round trips before shipping |
//! |---|---|---|
//! | 0 | 114 (nothing where the stream's combined root is equal) | 1 |
//! | 2 (one changed document) | 260 | 1 |
//! | 200 to 3,000 | 22 to 26 a difference | 1 in 97 of 100 sessions, else 2 |
//! | 20,000 to 200,000 | 18 a difference | 2 to 15, the window always under way |
//! | most of a large set | 8 to 10 an item of the responder | 1 a 8 × 60 KiB, at least 4 |
//!
//! # Invariants
//!
//! - Pure: a set is read through [`session::ItemSource`], time plays no part, randomness comes in.
//! - Ids are 64 bits under an [`IdKey`]. A collision hides a difference only until roots are compared again: the
//!   session then begins anew under a random key. An attacker costs time, never convergence.
//! - Nothing here ships anything, keeps the sets, or decides when to reconcile.

mod item;
mod lthash;
pub mod message;
pub mod range;
pub mod riblt;
pub mod session;
mod sketch;
mod summary;
#[cfg(any(test, feature = "vectors"))]
pub(crate) mod vectors;

pub use item::{IdKey, Item, KeyName, Root};
pub use lthash::LtHash;
pub use sketch::{Sketch, SketchDigest};
pub use summary::Summary;
