//! The side that answers.

use std::collections::VecDeque;

use super::{ItemSource, MAX_COMPARES, MAX_SYMBOLS, SessionError, SymbolStream, WINDOW, planned_symbols, unexpected};
use crate::id::SpaceId;
use crate::reconcile::item::{IdKey, KeyName, Root};
use crate::reconcile::message::{
    Answer, Ask, Holds, MAX_IDS_A_MESSAGE, MAX_MESSAGE, MAX_SYMBOLS_A_MESSAGE, Message, Part,
};
use crate::reconcile::range::{Bound, LEAF, Range, RangeTree};
use crate::reconcile::riblt::Symbol;
use crate::reconcile::sketch::SketchDigest;

/// Answers one peer's sessions about one domain, one at a time.
///
/// Give it each message for a responder, and drain [`Responder::poll`] whenever the stream has room: symbols and
/// comparisons are made when they are polled, so a slow stream holds back the work as well as the bytes.
#[derive(Debug)]
pub struct Responder {
    space: SpaceId,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    /// One message is due and ends the session.
    Last(Message),
    Open(Box<Open>),
}

#[derive(Debug)]
struct Open {
    serial: u8,
    key: IdKey,
    symbols: Option<Symbols>,
    /// Ranges are to be used, and that has not been said yet.
    announce_ranges: bool,
    tree: Option<RangeTree>,
    compares: VecDeque<Vec<(Range, Ask)>>,
}

#[derive(Debug)]
struct Symbols {
    stream: SymbolStream,
    target: u32,
    granted: u32,
}

/// What a requester said about its set.
struct Claim {
    serial: u8,
    key: KeyName,
    at_least: u32,
    count: u64,
    root: Root,
    sketch: Option<SketchDigest>,
}

impl Responder {
    /// A responder without a session.
    pub fn new(space: SpaceId) -> Self {
        Self { space, state: State::Idle }
    }

    /// Whether it holds nothing and has nothing to say.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Takes a message.
    ///
    /// # Errors
    /// If the peer does not follow the protocol. The session is forgotten.
    pub fn on_message(&mut self, source: &(impl ItemSource + ?Sized), message: Message) -> Result<(), SessionError> {
        if let Message::Root { serial, key, at_least, count, root, sketch } = message {
            self.begin(source, Claim { serial, key, at_least, count, root, sketch });
            return Ok(());
        }
        let result = match &mut self.state {
            State::Open(open) if open.serial == message.serial() => open.on_message(message),
            // A session that this side has closed, or that never was: nothing hangs on its messages.
            _ if message.is_for_responder() => Ok(false),
            _ => Err(unexpected(&message)),
        };
        if !matches!(result, Ok(false)) {
            self.state = State::Idle;
        }
        result.map(|_| ())
    }

    /// The next message, at most [`MAX_MESSAGE`] bytes.
    pub fn poll(&mut self, source: &(impl ItemSource + ?Sized)) -> Option<Message> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => None,
            State::Last(message) => Some(message),
            State::Open(mut open) => match open.poll(source) {
                Poll::Nothing => {
                    self.state = State::Open(open);
                    None
                }
                Poll::Next(message) => {
                    self.state = State::Open(open);
                    Some(message)
                }
                Poll::Last(message) => Some(message),
            },
        }
    }

    fn begin(&mut self, source: &(impl ItemSource + ?Sized), claim: Claim) {
        let (serial, mine) = (claim.serial, source.count());
        if claim.root == source.root() {
            self.state = State::Last(Message::Equal { serial });
            return;
        }
        if (claim.count == 0) != (mine == 0) {
            self.state = State::Last(Message::OneSided { serial });
            return;
        }
        let estimate = match &claim.sketch {
            Some(sketch) => source.sketch().estimate(sketch).max(claim.count.abs_diff(mine)).max(1),
            // So few on one side that all of both is hardly more than what differs.
            None => claim.count.saturating_add(mine),
        };
        let target = planned_symbols(estimate).max(claim.at_least);
        let key = IdKey::new(&self.space, claim.key);
        let list_bytes = mine.saturating_mul(8);
        let symbol_bytes = u64::from(target) * Symbol::LEN as u64;
        if mine <= MAX_IDS_A_MESSAGE as u64 && list_bytes <= symbol_bytes {
            let mut ids = Vec::with_capacity(mine as usize);
            source.for_each_id(&key, &mut |id| ids.push(id));
            ids.truncate(MAX_IDS_A_MESSAGE);
            self.state = State::Last(Message::Ids { serial, ids });
            return;
        }
        // A range comparison in which nearly all differs costs about 10 bytes an item.
        let use_ranges = target > MAX_SYMBOLS || list_bytes.saturating_mul(5) / 4 < symbol_bytes;
        let symbols = (!use_ranges).then(|| Symbols {
            stream: SymbolStream::new(source, &key, target),
            target,
            granted: target.min(WINDOW),
        });
        self.state = State::Open(Box::new(Open {
            serial,
            key,
            symbols,
            announce_ranges: use_ranges,
            tree: None,
            compares: VecDeque::new(),
        }));
    }
}

enum Poll {
    Nothing,
    Next(Message),
    Last(Message),
}

impl Open {
    /// Whether the session is over.
    fn on_message(&mut self, message: Message) -> Result<bool, SessionError> {
        match message {
            Message::More { upto, .. } => {
                let Some(symbols) = &mut self.symbols else {
                    return Err(SessionError::Unexpected { message: "More" });
                };
                symbols.granted = symbols.granted.max(upto.min(MAX_SYMBOLS));
                if symbols.granted > symbols.stream.taken.saturating_add(2 * WINDOW) {
                    return Err(SessionError::Flood { message: "More" });
                }
                Ok(false)
            }
            Message::Compare { ranges, .. } => {
                self.symbols = None;
                if self.compares.len() >= MAX_COMPARES {
                    return Err(SessionError::Flood { message: "Compare" });
                }
                self.compares.push_back(ranges);
                Ok(false)
            }
            Message::Done { .. } => Ok(true),
            other => Err(unexpected(&other)),
        }
    }

    fn poll(&mut self, source: &(impl ItemSource + ?Sized)) -> Poll {
        let serial = self.serial;
        if std::mem::take(&mut self.announce_ranges) {
            return Poll::Next(Message::UseRanges { serial });
        }
        if let Some(ranges) = self.compares.pop_front() {
            let key = &self.key;
            let tree = self.tree.get_or_insert_with(|| RangeTree::new(key, |visit| source.for_each_ranged(key, visit)));
            return Poll::Next(Message::Compared { serial, answers: answer_all(tree, &ranges) });
        }
        let Some(symbols) = &mut self.symbols else {
            return Poll::Nothing;
        };
        let start = symbols.stream.taken;
        let count = (symbols.granted.saturating_sub(start) as usize).min(MAX_SYMBOLS_A_MESSAGE);
        if count == 0 {
            return Poll::Nothing;
        }
        match symbols.stream.next(source, count) {
            Ok(next) => Poll::Next(Message::Symbols { serial, start, target: symbols.target, symbols: next }),
            Err(_) => Poll::Last(Message::Stale { serial }),
        }
    }
}

/// Answers as many questions as fit into one message, at least one.
fn answer_all(tree: &RangeTree, ranges: &[(Range, Ask)]) -> Vec<Answer> {
    const HEADER: usize = 16;
    let mut room = MAX_MESSAGE - HEADER;
    let mut answers = Vec::new();
    for (range, ask) in ranges {
        // A list may use what room there is, the first one all of it.
        let answer = answer_one(tree, range, *ask, room);
        let size = answer.size_bound();
        if size > room && !answers.is_empty() {
            break;
        }
        room = room.saturating_sub(size);
        answers.push(answer);
    }
    answers
}

fn answer_one(tree: &RangeTree, range: &Range, ask: Ask, room: usize) -> Answer {
    let span = tree.span(range);
    match ask {
        Ask::Fingerprint(theirs) if tree.fingerprint(span.clone()) == theirs => Answer::Equal,
        Ask::Fingerprint(_) if span.len() > LEAF => {
            let part = |part: std::ops::Range<usize>| Part {
                to: (part.end < span.end).then(|| tree.bound_at(part.end)),
                holds: Holds::Fingerprint(tree.fingerprint(part)),
            };
            Answer::Parts(tree.split(span.clone()).map(part).collect())
        }
        Ask::Fingerprint(_) | Ask::List => {
            let most = room.saturating_sub(64 + crate::id::Path::MAX_LEN) / 8;
            let most = most.clamp(LEAF, MAX_IDS_A_MESSAGE);
            let end = span.end.min(span.start + most);
            let to: Option<Bound> = (end < span.end).then(|| tree.bound_at(end));
            Answer::Parts(vec![Part { to, holds: Holds::Ids(tree.ids(span.start..end).to_vec()) }])
        }
    }
}
