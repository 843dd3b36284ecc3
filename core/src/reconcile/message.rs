//! What two peers say to each other while they find the difference of one domain. Bytes are drawn in
//! [the module above](super).

use super::item::{KeyName, Root};
use super::range::{Bound, FANOUT, Fingerprint, Range};
use super::riblt::Symbol;
use super::sketch::SketchDigest;
use crate::id::Path;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Largest encoded message. It leaves room in a frame for what the engine puts around it.
pub const MAX_MESSAGE: usize = 60 * 1024;
/// Symbols in one message: 59,904 bytes and a header.
pub const MAX_SYMBOLS_A_MESSAGE: usize = 4_608;
/// Ids in one message: 57,344 bytes and a header.
pub const MAX_IDS_A_MESSAGE: usize = 7_168;
/// A set of up to this many items is described without a sketch: telling all of it costs no more than the sketch would.
pub const SMALL_SET: u64 = 16;
/// Ranges in one [`Message::Compare`].
pub const MAX_RANGES_A_MESSAGE: usize = 128;

/// One step of a reconcile session. `serial` names the session on its stream, so that what belongs to an abandoned one
/// is recognised and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Requester: this is my set; what differs?
    Root {
        /// The session that begins.
        serial: u8,
        /// The key that ids are under.
        key: KeyName,
        /// How many symbols to plan for at least, from an earlier attempt; over the budget: use ranges.
        at_least: u32,
        /// Number of items.
        count: u64,
        /// The set's root.
        root: Root,
        /// The set's sketch, of more than [`SMALL_SET`] items.
        sketch: Option<SketchDigest>,
    },
    /// Responder: nothing, our roots are equal.
    Equal {
        /// The session.
        serial: u8,
    },
    /// Responder: exactly one of our sets is empty, so everything differs.
    OneSided {
        /// The session.
        serial: u8,
    },
    /// Responder: my whole set, since it is smaller than the symbols would be.
    Ids {
        /// The session.
        serial: u8,
        /// Every id, in any order.
        ids: Vec<u64>,
    },
    /// Responder: my next coded symbols.
    Symbols {
        /// The session.
        serial: u8,
        /// Index of the first.
        start: u32,
        /// How many are planned in all; the first window of them comes unasked.
        target: u32,
        /// The symbols.
        symbols: Vec<Symbol>,
    },
    /// Requester: go on up to this symbol.
    More {
        /// The session.
        serial: u8,
        /// One past the last symbol that may be sent.
        upto: u32,
    },
    /// Responder: too much differs for symbols, compare ranges.
    UseRanges {
        /// The session.
        serial: u8,
    },
    /// Responder: my set has changed under the session, begin again.
    Stale {
        /// The session.
        serial: u8,
    },
    /// Requester: what do you have in these ranges?
    Compare {
        /// The session.
        serial: u8,
        /// Each range, and what is asked about it.
        ranges: Vec<(Range, Ask)>,
    },
    /// Responder: this. Answers the first ranges of the oldest [`Message::Compare`] not answered yet; the rest is asked again.
    Compared {
        /// The session.
        serial: u8,
        /// In the order of the question.
        answers: Vec<Answer>,
    },
    /// Requester: I know what differs (or gave up); forget the session.
    Done {
        /// The session.
        serial: u8,
    },
}

/// What is asked about a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Does it have this fingerprint?
    Fingerprint(Fingerprint),
    /// List its ids.
    List,
}

/// What is answered about a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Same fingerprint here.
    Equal,
    /// Its parts in order, from the range's start. If the last part ends before the range does, the rest is asked again.
    Parts(Vec<Part>),
}

/// A piece of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it ends; none: where the range ends. Only the last part may have none.
    pub to: Option<Bound>,
    /// What it holds.
    pub holds: Holds,
}

/// What a piece of a range holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Items with this fingerprint.
    Fingerprint(Fingerprint),
    /// These ids.
    Ids(Vec<u64>),
}

impl Message {
    /// The session it belongs to.
    pub fn serial(&self) -> u8 {
        match self {
            Self::Root { serial, .. }
            | Self::Equal { serial }
            | Self::OneSided { serial }
            | Self::Ids { serial, .. }
            | Self::Symbols { serial, .. }
            | Self::More { serial, .. }
            | Self::UseRanges { serial }
            | Self::Stale { serial }
            | Self::Compare { serial, .. }
            | Self::Compared { serial, .. }
            | Self::Done { serial } => *serial,
        }
    }

    /// Whether it is for the responder; otherwise it is for the requester.
    pub fn is_for_responder(&self) -> bool {
        matches!(self, Self::Root { .. } | Self::More { .. } | Self::Compare { .. } | Self::Done { .. })
    }

    /// Its name, for errors and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Root { .. } => "Root",
            Self::Equal { .. } => "Equal",
            Self::OneSided { .. } => "OneSided",
            Self::Ids { .. } => "Ids",
            Self::Symbols { .. } => "Symbols",
            Self::More { .. } => "More",
            Self::UseRanges { .. } => "UseRanges",
            Self::Stale { .. } => "Stale",
            Self::Compare { .. } => "Compare",
            Self::Compared { .. } => "Compared",
            Self::Done { .. } => "Done",
        }
    }
}

impl Codec for Message {
    fn encode(&self, w: &mut Writer) {
        let mut head = |kind: u8, serial: &u8| {
            w.u8(kind).u8(*serial);
        };
        match self {
            Self::Root { serial, key, at_least, count, root, sketch } => {
                head(0, serial);
                key.encode(w);
                w.varint(u64::from(*at_least)).varint(*count);
                root.encode(w);
                if let Some(sketch) = sketch.as_ref().filter(|_| *count > SMALL_SET) {
                    sketch.encode(w);
                }
            }
            Self::Equal { serial } => head(1, serial),
            Self::OneSided { serial } => head(2, serial),
            Self::Ids { serial, ids } => {
                head(3, serial);
                encode_ids(w, ids);
            }
            Self::Symbols { serial, start, target, symbols } => {
                head(4, serial);
                w.varint(u64::from(*start)).varint(u64::from(*target));
                w.list(symbols, |w, symbol| symbol.encode(w));
            }
            Self::More { serial, upto } => {
                head(5, serial);
                w.varint(u64::from(*upto));
            }
            Self::UseRanges { serial } => head(6, serial),
            Self::Stale { serial } => head(7, serial),
            Self::Compare { serial, ranges } => {
                head(8, serial);
                let mut bounds = BoundWriter::default();
                w.list(ranges, |w, (range, ask)| {
                    bounds.write(w, &range.from);
                    bounds.write_option(w, range.to.as_ref());
                    encode_ask(w, ask);
                });
            }
            Self::Compared { serial, answers } => {
                head(9, serial);
                let mut bounds = BoundWriter::default();
                w.list(answers, |w, answer| encode_answer(w, &mut bounds, answer));
            }
            Self::Done { serial } => head(10, serial),
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = r.u8("reconcile message")?;
        let serial = r.u8("reconcile serial")?;
        Ok(match kind {
            0 => {
                let (key, at_least) = (KeyName::decode(r)?, read_u32(r, "planned symbols")?);
                let (count, root) = (r.varint("item count")?, Root::decode(r)?);
                let sketch = (count > SMALL_SET).then(|| SketchDigest::decode(r)).transpose()?;
                Self::Root { serial, key, at_least, count, root, sketch }
            }
            1 => Self::Equal { serial },
            2 => Self::OneSided { serial },
            3 => Self::Ids { serial, ids: decode_ids(r)? },
            4 => Self::Symbols {
                serial,
                start: read_u32(r, "first symbol")?,
                target: read_u32(r, "planned symbols")?,
                symbols: r.list(MAX_SYMBOLS_A_MESSAGE, "symbols", Symbol::decode)?,
            },
            5 => Self::More { serial, upto: read_u32(r, "last symbol")? },
            6 => Self::UseRanges { serial },
            7 => Self::Stale { serial },
            8 => {
                let mut bounds = BoundReader::default();
                let ranges = r.list(MAX_RANGES_A_MESSAGE, "ranges", |r| {
                    let range = Range { from: bounds.read(r)?, to: bounds.read_option(r)? };
                    Ok((range, decode_ask(r)?))
                })?;
                Self::Compare { serial, ranges }
            }
            9 => {
                let mut bounds = BoundReader::default();
                let answers = r.list(MAX_RANGES_A_MESSAGE, "answers", |r| decode_answer(r, &mut bounds))?;
                Self::Compared { serial, answers }
            }
            10 => Self::Done { serial },
            _ => return Err(DecodeError::Invalid { field: "reconcile message" }),
        })
    }
}

impl Answer {
    /// An upper bound on its encoded size.
    pub(super) fn size_bound(&self) -> usize {
        match self {
            Self::Equal => 1,
            Self::Parts(parts) => 2 + parts.iter().map(Part::size_bound).sum::<usize>(),
        }
    }
}

impl Part {
    fn size_bound(&self) -> usize {
        let holds = match &self.holds {
            Holds::Fingerprint(_) => 17,
            Holds::Ids(ids) => 3 + 8 * ids.len(),
        };
        holds + self.to.as_ref().map_or(1, |to| 1 + to.size_bound())
    }
}

impl Bound {
    /// An upper bound on its encoded size.
    pub(super) fn size_bound(&self) -> usize {
        4 + self.path.len() + 10
    }
}

fn read_u32(r: &mut Reader<'_>, field: &'static str) -> Result<u32, DecodeError> {
    r.varint_max(u64::from(u32::MAX), field).map(|value| value as u32)
}

fn encode_ids(w: &mut Writer, ids: &[u64]) {
    w.list(ids, |w, id| {
        w.u64_le(*id);
    });
}

fn decode_ids(r: &mut Reader<'_>) -> Result<Vec<u64>, DecodeError> {
    r.list(MAX_IDS_A_MESSAGE, "ids", |r| r.u64_le("id"))
}

fn encode_ask(w: &mut Writer, ask: &Ask) {
    match ask {
        Ask::Fingerprint(sum) => w.u8(0).array(&sum.to_le_bytes()),
        Ask::List => w.u8(1),
    };
}

fn decode_ask(r: &mut Reader<'_>) -> Result<Ask, DecodeError> {
    match r.u8("ask")? {
        0 => r.array("fingerprint").map(|sum| Ask::Fingerprint(Fingerprint::from_le_bytes(sum))),
        1 => Ok(Ask::List),
        _ => Err(DecodeError::Invalid { field: "ask" }),
    }
}

fn encode_answer(w: &mut Writer, bounds: &mut BoundWriter, answer: &Answer) {
    match answer {
        Answer::Equal => {
            w.varint(0);
        }
        Answer::Parts(parts) => {
            w.list(parts, |w, part| {
                bounds.write_option(w, part.to.as_ref());
                match &part.holds {
                    Holds::Fingerprint(sum) => {
                        w.u8(0).array(&sum.to_le_bytes());
                    }
                    Holds::Ids(ids) => {
                        w.u8(1);
                        encode_ids(w, ids);
                    }
                }
            });
        }
    }
}

/// An answer without parts is [`Answer::Equal`].
fn decode_answer(r: &mut Reader<'_>, bounds: &mut BoundReader) -> Result<Answer, DecodeError> {
    let parts = r.list(FANOUT, "parts", |r| {
        let to = bounds.read_option(r)?;
        let holds = match r.u8("part")? {
            0 => Holds::Fingerprint(Fingerprint::from_le_bytes(r.array("fingerprint")?)),
            1 => Holds::Ids(decode_ids(r)?),
            _ => return Err(DecodeError::Invalid { field: "part" }),
        };
        Ok(Part { to, holds })
    })?;
    Ok(if parts.is_empty() { Answer::Equal } else { Answer::Parts(parts) })
}

/// Writes bounds as (bytes shared with the bound before, the bytes after them, id).
#[derive(Default)]
struct BoundWriter {
    last: Vec<u8>,
}

impl BoundWriter {
    fn write(&mut self, w: &mut Writer, bound: &Bound) {
        let shared = shared_prefix(&self.last, &bound.path);
        w.varint(shared as u64).bytes(&bound.path[shared..]).varint(bound.id);
        self.last.clone_from(&bound.path);
    }

    fn write_option(&mut self, w: &mut Writer, bound: Option<&Bound>) {
        w.option(bound, |w, bound| self.write(w, bound));
    }
}

#[derive(Default)]
struct BoundReader {
    last: Vec<u8>,
}

impl BoundReader {
    /// Longest bound: a path, and the zero byte that makes it lie after every item of that path.
    const MAX_LEN: usize = Path::MAX_LEN + 1;

    fn read(&mut self, r: &mut Reader<'_>) -> Result<Bound, DecodeError> {
        let shared = r.varint_max(self.last.len() as u64, "bound")? as usize;
        let rest = r.bytes(Self::MAX_LEN - shared.min(Self::MAX_LEN), "bound")?;
        if rest.first().is_some_and(|first| self.last.get(shared) == Some(first)) {
            // A longer shared prefix would be a second spelling.
            return Err(DecodeError::Invalid { field: "bound" });
        }
        self.last.truncate(shared);
        self.last.extend_from_slice(rest);
        Ok(Bound { path: self.last.clone(), id: r.varint("bound id")? })
    }

    fn read_option(&mut self, r: &mut Reader<'_>) -> Result<Option<Bound>, DecodeError> {
        r.option("bound", |r| self.read(r))
    }
}

fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
