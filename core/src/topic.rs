//! Topics: signals that are handed on and kept nowhere.
//!
//! A program publishes a *signal* at a path; everybody connected who may read the path and wants it is handed it, best
//! effort. This module is the whole protocol as a pure machine: [`State`] is one peer's topics of one space, with a
//! [`Message`] going in and out for each link, and time as an argument.
//!
//! **Promise.** At most once a receiver, and in the order of their sender: a *stream* is what one running peer publishes at
//! one path, its signals are numbered from 1 in each incarnation of the peer, and a receiver keeps a high-water mark a
//! stream and hands out only what lies above it. What the numbers skip was missed, and the next signal says how many; the
//! first that is heard of an incarnation says none. An older incarnation than one heard of is refused.
//!
//! **Who.** A signal carries its sender's signature over the space and everything in it, and counts only if the sender's
//! device holds a write grant for the path. It goes to peers that replicate the path, as documents do, so it reaches nobody
//! who may not read it. A relay can hold back, and can do nothing else.
//!
//! **Spreading.** [PlumTree](https://doi.org/10.1109/SRDS.2007.27) (Leitão, Pereira, Rodrigues 2007), a tree a stream: a
//! signal goes to every neighbour at once; who receives one for the second time asks the later link to be silent about that
//! stream. A silent link tells twice a second at most how far its streams have come; who is behind for [`GRAFT_AFTER`], or has
//! lost the link that a stream came by, asks for the stream again and for what was missed of it, which neighbours keep for
//! a moment ([`RECENT_BYTES`]). One tree for all senders, as documents have it, would not do: what one sender's signals
//! prune may be another's only way, and a document's announcement mends that where here the signal is gone.
//!
//! **Slow receivers.** What was sent on a link is acknowledged, and at most [`WINDOW`] bytes are not; what does not fit waits
//! in a queue of [`QUEUE_BYTES`] for that link alone, and where that is full, the oldest of the sender that has most in it is
//! dropped and counted. So a link that stalls loses its own signals, and a sender that floods its own.
//!
//! **Bounds on rates** are token buckets: a peer's own publishing ([`PUBLISH`]) is refused over it with a [`TopicError`];
//! what a link brings ([`LINK`]) and what a device sends ([`DEVICE`]) is dropped over it and counted. An honest peer stays
//! within them, and nobody is disconnected for being over them. Checks run in the order of their cost: size, mark, age, the
//! link's rate, the right, the signature, the device's rate.
//!
//! **What is forgotten.** Marks are bounded a device and in all. Whatever mark goes, its device's *floor* rises to the newest
//! issue time that the stream had shown, and nothing older begins a stream anew: so a recorded signal is never delivered
//! twice, and a device with too many streams harms its own only.
//!
//! **Old signals** are no news to a newcomer either: one that says it was issued more than [`MAX_AGE`] ago by the receiver's
//! wall clock is refused. It is the only use of clocks here; a sender whose clock is further behind is not heard.
//!
//! **Not here.** Storage, who may read and write (asked of the caller), what a payload means, queues of local subscribers.

use std::time::Duration;

mod bucket;
mod message;
mod peering;
mod receive;
mod recent;
mod signal;
mod state;
mod streams;

#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "vectors"))]
pub(crate) mod vectors;

pub(crate) use bucket::Bucket;
pub use bucket::Rate;
pub use message::{MAX_TAGS, Message};
pub use receive::{MayWrite, Misbehaviour};
pub use signal::{Signal, StreamTag};
pub use state::{Figures, State, TopicError, TopicEvent};

/// Longest payload. With its header a signal stays under 6 KiB, as what is pushed eagerly does.
pub const MAX_PAYLOAD: usize = 4 * 1024;
/// How far ahead of this peer's clock an incarnation may lie that others say it has had.
pub const MAX_LEAD: Duration = Duration::from_secs(366 * 24 * 3600);
/// The highest number of a signal: 285,000 years at a thousand a second. Counts of what was missed stay exact in every language.
pub const MAX_SEQ: u64 = (1 << 53) - 1;
/// How old a signal may say it is. Shorter refuses more clocks; longer lets a recorded signal be played to newcomers longer.
pub const MAX_AGE: Duration = Duration::from_secs(600);

/// What a signal costs of a rate beside its payload: its header, and about 0.1 ms for its signature at 1 MiB/s.
pub const SIGNAL_CHARGE: u64 = 512;
/// What a peer may publish in a space: about 250 small signals a second for ever, 500 at once.
pub const PUBLISH: Rate = Rate { per_second: 128 << 10, burst: 256 << 10 };
/// What is taken of a device: twice what it may publish, and what can have gathered on the way in queues.
pub const DEVICE: Rate = Rate { per_second: 256 << 10, burst: 1 << 20 };
/// What is taken from a link, of all senders: at worst a sixth of a core goes into checking signatures.
pub const LINK: Rate = Rate { per_second: 1 << 20, burst: 2 << 20 };

/// Bytes of signals that a link's peer may not have acknowledged. At 64 KiB a round trip of 100 ms carries 640 KB/s.
pub const WINDOW: u64 = 64 << 10;
/// Bytes of signals that wait for a link. A second of one sender's fastest.
pub const QUEUE_BYTES: usize = 128 << 10;
/// Bytes of signals that a space keeps for neighbours who ask again: some seconds of a busy space.
pub const RECENT_BYTES: usize = 256 << 10;

/// How often a silent link tells how far streams have come.
pub const HAVE_EVERY: Duration = Duration::from_millis(500);
/// How long a stream may be behind what a neighbour has before it is asked for there: several round trips. Shorter mends a
/// broken tree sooner and asks for more that was on its way.
pub const GRAFT_AFTER: Duration = Duration::from_millis(500);
/// How long a link that was asked to be silent may go on before it is asked again.
pub const PRUNE_AGAIN: Duration = Duration::from_secs(5);

/// Most paths at which a peer publishes in one incarnation; at the bound it begins the next one.
pub const MAX_OWN_PATHS: usize = 1_024;
/// Most streams of a device that have marks; the one heard least recently goes.
pub const MAX_DEVICE_STREAMS: usize = 256;
/// Most streams of a space that have marks, at most 1.5 KB each; the device that has most loses one.
pub const MAX_STREAMS: usize = 4_096;
/// Most devices of which marks or a floor are kept; a further one's signals are dropped until one has passed.
pub const MAX_DEVICES: usize = 4_096;
/// Most streams that a link is expected to bring.
pub const MAX_EXPECTED: usize = 1_024;
