//! One reconcile session: two peers find out what their item sets of one domain differ in.
//!
//! Two roles. The [`Requester`] asks, decodes and ends up knowing the difference; the [`Responder`] answers and learns
//! nothing but that it is over. Which peer is which is the caller's choice for each session: whoever learns first that roots
//! differ does well to become the requester, since that saves half a round trip. Both roles may run at once on one
//! stream; [`Message::is_for_responder`] tells whose a message is.
//!
//! ```text
//! Requester                                Responder
//!   Root {root, sketch}   ───────────────▶  same root: Equal
//!                         ◀───────────────  estimate d; small set: Ids; else about 2 d Symbols
//!   peel; too few: More   ───────────────▶
//!                         ◀───────────────  Symbols
//!   Done                  ───────────────▶  forget
//! ```
//!
//! When symbols do not lead anywhere (over [`MAX_SYMBOLS`], or inconsistent), the requester goes on with `Compare`, and the
//! responder answers from a [`RangeTree`](super::range::RangeTree). When the outcome is that nothing differs although the
//! roots do, two items share an id: the session begins again under a fresh random key, at last by listing.
//!
//! Both sides work on a snapshot: a set of at most 4,096 symbols' need is served from the source's
//! [`PrefixCache`]; more takes 24 bytes an item while the session lives. If the
//! set changes before that snapshot is taken, the session begins again by itself.
//!
//! - Bounds: [`MAX_SYMBOLS`] symbols, [`MAX_DIFFERENCES`] ids, [`MAX_RANGES`] ranges, [`MAX_ATTEMPTS`] beginnings; at most
//!   [`WINDOW`] symbols and [`MAX_COMPARES`] comparisons under way.
//! - Cost at the responder: one `Root` of 100 bytes may make it visit every item (about 200 ns each). Whoever owns the stream limits
//!   how often a peer may begin a session.
//! - The ids of an outcome are claims: a hostile responder may name ids that nobody has. They are asked for and not
//!   found; nothing is changed by them.

use thiserror::Error;

use super::item::{IdKey, Root};
use super::message::{MAX_SYMBOLS_A_MESSAGE, Message};
use super::riblt::{Diff, Encoder, PrefixCache, Symbol};
use super::sketch::Sketch;

mod ranges;
mod requester;
mod responder;

pub use requester::Requester;
pub use responder::Responder;

/// Most symbols of one session, which covers about 380,000 differences; past it, ranges are compared. At the requester
/// they weigh 8 MiB.
pub const MAX_SYMBOLS: u32 = 1 << 19;
/// Symbols under way without being asked for one by one: 240 KB, so a 20 ms round trip still carries 12 MB/s, and at
/// most as much is sent in vain after a large difference has been decoded.
pub const WINDOW: u32 = 4 * MAX_SYMBOLS_A_MESSAGE as u32;
/// Most ids in an outcome found by ranges; the rest is found next time. 16 MiB.
pub const MAX_DIFFERENCES: usize = 1 << 21;
/// Most ranges compared in one session; 10,000,000 items that all differ take about 100,000.
pub const MAX_RANGES: usize = 1 << 18;
/// Most times that a session begins again by itself.
pub const MAX_ATTEMPTS: u8 = 8;
/// Comparisons under way at once, each answered by up to 60 KiB.
pub const MAX_COMPARES: usize = 8;

/// What a session reads: one domain's item set as a peer keeps it.
///
/// All methods describe the same set, which may change between two calls into a session and not within one.
pub trait ItemSource {
    /// The set's root. Asked once or twice a message.
    fn root(&self) -> Root;
    /// Number of items.
    fn count(&self) -> u64;
    /// The set's sketch.
    fn sketch(&self) -> &Sketch;
    /// Visits the id under `key` of every item once, in any order. For the [default](IdKey::is_default) key ids may be
    /// kept; for another one they come from [`IdKey::item_id`].
    fn for_each_id(&self, key: &IdKey, visit: &mut dyn FnMut(u64));
    /// Visits (path, id under `key`) of every item once, in ascending order of paths.
    fn for_each_ranged(&self, key: &IdKey, visit: &mut dyn FnMut(&str, u64));
    /// The symbols kept for this key, if any.
    fn cached_prefix(&self, key: &IdKey) -> Option<&PrefixCache>;
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The sets are equal.
    Equal,
    /// They differ in this.
    Diff {
        /// The key that the ids are under.
        key: IdKey,
        /// The ids.
        diff: Diff,
        /// Whether that is all; otherwise [`MAX_DIFFERENCES`] cut it off, and another session finds the rest.
        complete: bool,
    },
    /// The requester has items and the responder none: everything is only the requester's.
    AllMine,
    /// The responder has items and the requester none: everything is only the responder's.
    AllTheirs,
    /// No answer after [`MAX_ATTEMPTS`] beginnings: the sets change too fast, or the peer misleads. Try later.
    Unsettled,
}

/// A peer's message does not follow the protocol. The session is over; the stream should be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A message that does not belong into the state that the session is in.
    #[error("unexpected {message} in a reconcile session")]
    Unexpected {
        /// Its name.
        message: &'static str,
    },
    /// Symbols that do not follow the ones before.
    #[error("symbols begin at {got} and not at {expected}")]
    Gap {
        /// Where they should begin.
        expected: u32,
        /// Where they begin.
        got: u32,
    },
    /// A range's parts that do not lie inside it in order, or an answer that does not fit its question.
    #[error("an answer about a range does not fit its question")]
    Answer,
    /// More under way than the protocol allows.
    #[error("too many {message} messages under way")]
    Flood {
        /// Their name.
        message: &'static str,
    },
}

/// How many symbols to plan for, given a sketch's estimate of how many items differ.
///
/// Up to the fine estimate's limit it leaves room for that estimate's error (16 to 18 %), so that one burst suffices in
/// 96 or more of 100 sessions: a further round trip costs more than 8 bytes a difference. One changed document, which is two
/// items, is what most sessions find; three symbols fewer make it 98 of 100 there instead of 99, and 39 bytes less in each.
/// Above the limit the estimate is coarse and the burst long, so symbols flow until the requester has enough.
pub fn planned_symbols(estimate: u64) -> u32 {
    const FINE: u64 = 3_600;
    let planned = match estimate {
        0..=2 => 4 + 2 * estimate,
        3..FINE => 7 + 2 * estimate,
        _ => estimate.saturating_mul(27) / 20,
    };
    u32::try_from(planned).unwrap_or(u32::MAX)
}

/// The set changed between two blocks of symbols, so they would not belong together.
#[derive(Debug)]
struct Stale;

/// A set's symbols in order, all of one snapshot.
#[derive(Debug)]
struct SymbolStream {
    key: IdKey,
    /// The snapshot, as long as only the cached prefix was copied.
    root: Root,
    /// Symbols made and not taken yet.
    ready: Vec<Symbol>,
    taken: u32,
    encoder: Option<Encoder>,
}

impl SymbolStream {
    /// A stream that is likely to be read up to `target`.
    fn new(source: &(impl ItemSource + ?Sized), key: &IdKey, target: u32) -> Self {
        let mut stream = Self { key: key.clone(), root: source.root(), ready: Vec::new(), taken: 0, encoder: None };
        match source.cached_prefix(key) {
            Some(prefix) if target as usize <= PrefixCache::LEN => stream.ready.extend_from_slice(prefix.symbols()),
            _ => stream.encoder = Some(snapshot(source, key)),
        }
        stream
    }

    /// The next `count` symbols.
    fn next(&mut self, source: &(impl ItemSource + ?Sized), count: usize) -> Result<Vec<Symbol>, Stale> {
        if self.ready.len() < count {
            let missing = count - self.ready.len();
            self.make(source, missing)?;
        }
        let rest = self.ready.split_off(count);
        self.taken += count as u32;
        Ok(std::mem::replace(&mut self.ready, rest))
    }

    /// Makes at least `count` more, and about as many as there are already so that looks at every id stay few.
    fn make(&mut self, source: &(impl ItemSource + ?Sized), count: usize) -> Result<(), Stale> {
        let made = self.taken as usize + self.ready.len();
        if self.encoder.is_none() {
            if source.root() != self.root {
                return Err(Stale);
            }
            let mut encoder = snapshot(source, &self.key);
            encoder.block(made, &mut Vec::new());
            self.encoder = Some(encoder);
        }
        let block = count.max(made.min(MAX_SYMBOLS_A_MESSAGE));
        if let Some(encoder) = &mut self.encoder {
            encoder.block(block, &mut self.ready);
        }
        Ok(())
    }
}

fn snapshot(source: &(impl ItemSource + ?Sized), key: &IdKey) -> Encoder {
    // The count sizes a buffer only; it is the source's own and never a peer's.
    let mut encoder = Encoder::with_capacity(usize::try_from(source.count()).unwrap_or(0));
    source.for_each_id(key, &mut |id| encoder.push(key, id));
    encoder
}

/// Compares own ids with a peer's, both unsorted, and adds what differs to `diff`.
fn compare_ids(mine: &mut [u64], theirs: &mut [u64], diff: &mut Diff) {
    mine.sort_unstable();
    theirs.sort_unstable();
    let (mut i, mut j) = (0, 0);
    loop {
        match (mine.get(i), theirs.get(j)) {
            (Some(my), Some(their)) if my == their => {
                i += 1;
                j += 1;
            }
            (Some(my), Some(their)) if my > their => {
                diff.only_theirs.push(*their);
                j += 1;
            }
            (Some(my), _) => {
                diff.only_mine.push(*my);
                i += 1;
            }
            (None, Some(their)) => {
                diff.only_theirs.push(*their);
                j += 1;
            }
            (None, None) => return,
        }
    }
}

fn unexpected(message: &Message) -> SessionError {
    SessionError::Unexpected { message: message.name() }
}

#[cfg(test)]
mod tests;
