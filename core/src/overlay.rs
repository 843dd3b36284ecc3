//! Who is whose neighbour: bounded, symmetric views of a space's peers, as in HyParView (Leitão, Pereira, Rodrigues:
//! HyParView: a membership protocol for reliable gossip-based broadcast, DSN 2007).
//!
//! [`State`] is one peer's part for one space, a pure machine: links, messages and time go in, [`Effect`]s come out. Fresh
//! changes are pushed to neighbours only; a link that is none still compares roots, and is closed when nobody else needs it.
//!
//! ```text
//!   up to FULL_MESH known peers     everybody is everybody's neighbour, and nothing is said about it
//!   beyond                          DEGREE neighbours are looked for, MAX_DEGREE at most are kept
//!
//!   known peers ── Effect::Link ──▶ link ──▶ neighbour ── Disconnect ──▶ quiet link ── Effect::Surplus ──▶ known peers
//!                                              ▲                             │
//!                                              └───── Neighbour, accepted ───┘
//! ```
//!
//! **Symmetry.** A link begins as a neighbour on both sides. Either side makes it quiet by [`Message::Disconnect`]; it
//! becomes a neighbour again by a [`Message::Neighbour`] that the other side answers with another one. A request is granted
//! if there is room, or if the asker has next to nobody (priority, as in the paper); then another neighbour has to go.
//!
//! **Who goes.** The one over which the least flows ([`Carried`]): where a link is a branch of somebody's tree, all that hangs
//! from it hears later until the tree has grown anew, and of a thousand peers' links two in three are no branches. Among
//! equals, the one that says it has the most neighbours, so that who has few keeps them; never one of the [`PROVEN`] that have
//! been neighbours for longest, whatever others claim or bring. Two peers that both have more than [`DEGREE`] part when they
//! speak next, unless something flows between them or they have only just met.
//!
//! **Known peers** (the passive view) come from own links and from samples that neighbours exchange ([`Message::Peers`]). A
//! sample is hearsay: at most [`MAX_PER_SOURCE`] peers are kept of one source, peers met in person are kept before them, and
//! what cannot be reached is forgotten. Now and then a known peer is linked with for no other reason than that it is not a
//! neighbour: two parts of a space that were cut apart, and have found enough neighbours each, find each other so.
//!
//! **Invariants.** At most [`MAX_DEGREE`] neighbours that speak this protocol, but for those that came within the last
//! seconds, once more than [`FULL_MESH`] peers are known. Memory is bounded by [`MAX_KNOWN`] and by the number of links. The
//! choice is random but for the rules above, and randomness is an argument.
//!
//! **Only among equals.** All of this is among links whose ends replicate the same ([`Share::Whole`]): whichever of them go,
//! what remains leads everywhere. A link over which only a part is shared may be the only way of that part, so it stays a
//! neighbour; such links count among those that are looked for and not among those that are let go. A link over which nothing
//! is shared is given up.
//!
//! **Not here.** Dialling, who may read what, and trees of broadcast (`engine::broadcast`). A peer that does not speak this
//! protocol stays a neighbour.

use std::time::Duration;

mod known;
mod message;
mod state;

#[cfg(test)]
mod tests;

pub use message::{Contact, Message, Wish};
pub use state::{Carried, Effect, Share, State};

/// Most known peers with which everybody is everybody's neighbour. A dozen links cost less than what a tree loses in delay.
pub const FULL_MESH: usize = 12;
/// Known peers at which a peer goes back to a full mesh: below [`FULL_MESH`], so that one who comes and goes moves nobody.
const BACK_TO_MESH: usize = 10;
/// Neighbours that are looked for beyond a full mesh: log₁₀ of a thousand peers and three for luck. With six a random graph
/// stays connected when half of its peers fail at once, and 1,024 peers lie within six links of each other.
pub const DEGREE: usize = 6;
/// Most neighbours beyond a full mesh. The room above [`DEGREE`] is for newcomers.
pub const MAX_DEGREE: usize = 8;
/// Neighbours that no newcomer displaces. Half of what is looked for: neither can an attacker surround a peer that has old
/// friends, nor can a clique close itself off.
pub const PROVEN: usize = 3;
/// Neighbours at or below which a request has priority.
const LONELY: usize = 1;

/// Most known peers, links aside. The paper keeps a few times log(n); 64 costs some 20 KB with addresses.
pub const MAX_KNOWN: usize = 64;
/// Most known peers that one source told of.
pub const MAX_PER_SOURCE: usize = 16;
/// Most peers in a sample.
pub const MAX_SAMPLE: usize = 8;
/// Most addresses of a peer.
pub const MAX_ADDRESSES: usize = 4;
/// Longest address in bytes.
pub const MAX_ADDRESS: usize = 128;
/// Most links that are asked for at once.
const MAX_ATTEMPTS: usize = 3;
/// The same for who has next to no neighbour: many of those known may be long gone, and each attempt at one takes its time.
const LONELY_ATTEMPTS: usize = 12;

/// How long a link is up before its ends introduce themselves: one that is used for one question costs nothing.
const INTRODUCE_AFTER: Duration = Duration::from_secs(1);
/// How often known peers are exchanged with a neighbour beyond a full mesh, jittered by a half; and in one, while there is
/// news of peers.
const SHUFFLE: Duration = Duration::from_secs(15);
/// The same in a full mesh without news.
const SHUFFLE_IN_MESH: Duration = Duration::from_secs(600);
/// Shortest time between two answers to one peer.
const ANSWER_EVERY: Duration = Duration::from_secs(2);
/// How often somebody is linked with who is no neighbour, jittered by a half. A cluster of 32 that was cut in two finds
/// together within some seconds; each such link costs a handshake.
const EXPLORE: Duration = Duration::from_secs(60);
/// How long an asked-for link may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Pause after a neighbour was lost, before it is looked for again: a network that has only just gone needs a moment.
const PARTED: Duration = Duration::from_millis(250);
/// Pause after the first failure to link with a peer; doubled with each further one.
const RETRY: Duration = Duration::from_secs(1);
/// Longest pause between two attempts: a peer that comes back is found within it.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Failures after which a peer is tried ten times as rarely: it has been away for a quarter of an hour.
const LONG_GONE: u8 = 40;
/// Pause before a peer that has refused, or has been let go, is asked or asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Failures after which a peer that was never met is forgotten, and one that was is not counted among the known ones.
const HOPELESS: u8 = 3;
/// Pause between two neighbours that go, so that many who find themselves in excess do not all let go at once.
const TRIM_EVERY: Duration = Duration::from_millis(700);
/// How old a neighbour is before two that have enough part: one that was found by looking around is there to stay for a
/// while, so that it takes the place of another.
const YOUNG: Duration = Duration::from_secs(60);
/// How long a quiet link is kept before it counts as surplus.
const SURPLUS_AFTER: Duration = Duration::from_secs(20);
