//! The side that asks and decodes.

use std::collections::VecDeque;

use rand_chacha::ChaCha12Rng;

use super::ranges::Ranges;
use super::{
    ItemSource, MAX_ATTEMPTS, MAX_SYMBOLS, Outcome, SessionError, SymbolStream, WINDOW, compare_ids, unexpected,
};
use crate::id::SpaceId;
use crate::reconcile::item::{IdKey, KeyName, Root};
use crate::reconcile::message::{Message, SMALL_SET};
use crate::reconcile::riblt::{Decoder, Diff, Progress, Symbol};

/// Finds out what a peer's item set of one domain differs in from one's own.
///
/// Drain [`Requester::poll`] after [`Requester::new`] and after each message; [`Requester::on_message`] returns the
/// outcome once there is one.
#[derive(Debug)]
pub struct Requester {
    space: SpaceId,
    serial: u8,
    key: IdKey,
    stage: Stage,
    attempts: u8,
    /// The set as the last `Root` described it.
    asked_root: Root,
    asked_count: u64,
    state: State,
    outbox: VecDeque<Message>,
}

/// Most messages of symbols in one session. [`MAX_SYMBOLS`] fill 114; the rest is for grants that end in between.
const MAX_SYMBOL_MESSAGES: u32 = 1_000;

/// How far the session has gone against ids that collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Default,
    FreshKey,
    Listing,
}

#[derive(Debug)]
enum State {
    Asked,
    Symbols(Box<Symbols>),
    Ranges(Box<Ranges>),
    Over,
}

#[derive(Debug)]
struct Symbols {
    mine: SymbolStream,
    decoder: Decoder,
    target: u32,
    granted: u32,
    messages: u32,
}

impl Requester {
    /// Begins a session under the default key. `serial` differs from that of the stream's last session of the domain:
    /// count on from [`Requester::serial`] of that one.
    pub fn new(space: SpaceId, serial: u8, source: &(impl ItemSource + ?Sized)) -> Self {
        Self::with_key(space, serial, source, KeyName::Epoch(0))
    }

    /// Begins under another key: when the last session's difference has been shipped and roots still differ,
    /// [`KeyName::random`] finds what a collision hides.
    pub fn with_key(space: SpaceId, serial: u8, source: &(impl ItemSource + ?Sized), name: KeyName) -> Self {
        let stage = if name == KeyName::Epoch(0) { Stage::Default } else { Stage::FreshKey };
        let mut requester = Self {
            key: IdKey::new(&space, name),
            space,
            serial,
            stage,
            attempts: 0,
            asked_root: source.root(),
            asked_count: source.count(),
            state: State::Asked,
            outbox: VecDeque::new(),
        };
        requester.ask(source, 0);
        requester
    }

    /// The serial number that messages carry now. It moves on when the session begins again by itself.
    pub fn serial(&self) -> u8 {
        self.serial
    }

    /// The next message, at most [`MAX_MESSAGE`](crate::reconcile::message::MAX_MESSAGE) bytes.
    pub fn poll(&mut self) -> Option<Message> {
        if let Some(message) = self.outbox.pop_front() {
            return Some(message);
        }
        match &mut self.state {
            State::Ranges(ranges) => {
                let ranges = ranges.next_questions()?;
                Some(Message::Compare { serial: self.serial, ranges })
            }
            _ => None,
        }
    }

    /// Takes a message; returns the outcome when the session is over.
    ///
    /// # Errors
    /// If the peer does not follow the protocol.
    pub fn on_message(
        &mut self,
        source: &(impl ItemSource + ?Sized),
        rng: &mut ChaCha12Rng,
        message: Message,
    ) -> Result<Option<Outcome>, SessionError> {
        if message.is_for_responder() {
            return Err(unexpected(&message));
        }
        if message.serial() != self.serial || matches!(self.state, State::Over) {
            return Ok(None);
        }
        match (message, &mut self.state) {
            (Message::Equal { .. }, State::Asked) => Ok(self.end(Outcome::Equal, false)),
            (Message::OneSided { .. }, State::Asked) => {
                let outcome = if self.asked_count == 0 { Outcome::AllTheirs } else { Outcome::AllMine };
                Ok(self.end(outcome, false))
            }
            (Message::Ids { ids, .. }, State::Asked) => Ok(self.on_ids(source, rng, ids)),
            (Message::UseRanges { .. }, State::Asked) => {
                self.use_ranges(source);
                Ok(None)
            }
            (Message::Stale { .. }, State::Symbols(symbols)) => {
                let at_least = symbols.target;
                Ok(self.begin_again(source, at_least))
            }
            (Message::Stale { .. }, State::Asked | State::Ranges(_)) => Ok(self.begin_again(source, 0)),
            (Message::Symbols { start, target, symbols, .. }, State::Asked | State::Symbols(_)) => {
                self.on_symbols(source, rng, start, target, &symbols)
            }
            // Sent before the responder knew.
            (Message::Symbols { .. }, State::Ranges(_)) => Ok(None),
            (Message::Compared { answers, .. }, State::Ranges(ranges)) => {
                ranges.on_answers(answers)?;
                match ranges.finish() {
                    Some((diff, complete)) => Ok(self.conclude(source, rng, diff, complete, true)),
                    None => Ok(None),
                }
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    fn ask(&mut self, source: &(impl ItemSource + ?Sized), at_least: u32) {
        self.asked_root = source.root();
        self.asked_count = source.count();
        self.state = State::Asked;
        self.outbox.push_back(Message::Root {
            serial: self.serial,
            key: self.key.name(),
            at_least: if self.stage == Stage::Listing { u32::MAX } else { at_least },
            count: self.asked_count,
            root: self.asked_root,
            sketch: (self.asked_count > SMALL_SET).then(|| source.sketch().digest()),
        });
    }

    fn begin_again(&mut self, source: &(impl ItemSource + ?Sized), at_least: u32) -> Option<Outcome> {
        self.attempts += 1;
        if self.attempts >= MAX_ATTEMPTS {
            return self.end(Outcome::Unsettled, true);
        }
        self.serial = self.serial.wrapping_add(1);
        self.ask(source, at_least.min(MAX_SYMBOLS));
        None
    }

    fn use_ranges(&mut self, source: &(impl ItemSource + ?Sized)) {
        let list = self.stage == Stage::Listing;
        self.state = State::Ranges(Box::new(Ranges::new(source, &self.key, list)));
    }

    fn on_ids(
        &mut self,
        source: &(impl ItemSource + ?Sized),
        rng: &mut ChaCha12Rng,
        mut theirs: Vec<u64>,
    ) -> Option<Outcome> {
        let mut mine = Vec::with_capacity(usize::try_from(source.count()).unwrap_or(0));
        source.for_each_id(&self.key, &mut |id| mine.push(id));
        let mut diff = Diff::default();
        compare_ids(&mut mine, &mut theirs, &mut diff);
        diff.sort();
        self.conclude(source, rng, diff, true, false)
    }

    fn on_symbols(
        &mut self,
        source: &(impl ItemSource + ?Sized),
        rng: &mut ChaCha12Rng,
        start: u32,
        target: u32,
        theirs: &[Symbol],
    ) -> Result<Option<Outcome>, SessionError> {
        if matches!(self.state, State::Asked) {
            let target = target.min(MAX_SYMBOLS);
            self.state = State::Symbols(Box::new(Symbols {
                mine: SymbolStream::new(source, &self.key, target),
                decoder: Decoder::new(self.key.clone()),
                target,
                granted: target.min(WINDOW),
                messages: 0,
            }));
        }
        let State::Symbols(symbols) = &mut self.state else {
            return Err(SessionError::Unexpected { message: "Symbols" });
        };
        let expected = symbols.decoder.taken() as u32;
        if start != expected {
            return Err(SessionError::Gap { expected, got: start });
        }
        symbols.messages += 1;
        let upto = start.saturating_add(theirs.len() as u32);
        if theirs.is_empty() || upto > symbols.granted || symbols.messages > MAX_SYMBOL_MESSAGES {
            return Err(SessionError::Flood { message: "Symbols" });
        }
        let Ok(mine) = symbols.mine.next(source, theirs.len()) else {
            let at_least = symbols.target;
            return Ok(self.begin_again(source, at_least));
        };
        match symbols.decoder.push(theirs, &mine) {
            Progress::Complete => {
                let diff = self.take_diff();
                Ok(self.conclude(source, rng, diff, true, true))
            }
            Progress::NeedMore => {
                match symbols.next() {
                    Next::Wait => {}
                    Next::More(upto) => self.outbox.push_back(Message::More { serial: self.serial, upto }),
                    Next::GiveUp => self.use_ranges(source),
                }
                Ok(None)
            }
            Progress::Inconsistent => {
                self.use_ranges(source);
                Ok(None)
            }
        }
    }

    fn take_diff(&mut self) -> Diff {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Symbols(symbols) => symbols.decoder.finish().unwrap_or_default(),
            _ => Diff::default(),
        }
    }

    /// Ends with a difference, or goes on under another key when nothing differs although the roots do.
    fn conclude(
        &mut self,
        source: &(impl ItemSource + ?Sized),
        rng: &mut ChaCha12Rng,
        diff: Diff,
        complete: bool,
        open: bool,
    ) -> Option<Outcome> {
        if !diff.is_empty() {
            return self.end(Outcome::Diff { key: self.key.clone(), diff, complete }, open);
        }
        if !complete {
            return self.end(Outcome::Unsettled, open);
        }
        if source.root() == self.asked_root {
            self.stage = match self.stage {
                Stage::Default => Stage::FreshKey,
                Stage::FreshKey => Stage::Listing,
                // All ids are equal under a key that nobody could foresee: the root that was claimed is not the set's.
                Stage::Listing => return self.end(Outcome::Unsettled, open),
            };
            self.key = IdKey::new(&self.space, KeyName::random(rng));
        }
        self.begin_again(source, 0)
    }

    fn end(&mut self, outcome: Outcome, tell: bool) -> Option<Outcome> {
        self.state = State::Over;
        self.outbox.clear();
        if tell {
            self.outbox.push_back(Message::Done { serial: self.serial });
        }
        Some(outcome)
    }
}

/// What follows from symbols that did not suffice yet.
enum Next {
    Wait,
    More(u32),
    GiveUp,
}

impl Symbols {
    fn next(&mut self) -> Next {
        let taken = self.decoder.taken() as u32;
        let known = self.decoder.estimate().map(needed_symbols);
        if taken >= self.budget(known) {
            return Next::GiveUp;
        }
        let target = known.unwrap_or(self.target);
        let upto = if taken < target {
            // Still on the way there: keep the window filled, half a window at a time.
            let due = self.granted == taken || (taken >= WINDOW / 2 && self.granted - taken <= WINDOW / 2);
            if due { target.min(taken + WINDOW) } else { self.granted }
        } else if taken < self.granted {
            self.granted
        } else {
            // Past the plan. Where hardly a symbol is empty, the plan was far too low.
            let step = if known.is_some() { taken / 16 } else { taken };
            taken + step.clamp(16, WINDOW)
        };
        let upto = upto.min(self.budget(known));
        if upto <= self.granted {
            return Next::Wait;
        }
        self.granted = upto;
        Next::More(upto)
    }

    /// Symbols after which a session stops: eight times the sketch's plan, or twice what the symbols themselves ask for.
    /// Past that something is wrong that more symbols do not mend.
    fn budget(&self, known: Option<u32>) -> u32 {
        let plan = self.target.saturating_mul(8).min(known.unwrap_or(u32::MAX).saturating_mul(2));
        plan.saturating_add(256).min(MAX_SYMBOLS)
    }
}

/// How many symbols decode this many differences: 1.36 a difference and four deviations of that.
fn needed_symbols(differences: u64) -> u32 {
    let needed = differences.saturating_mul(34) / 25 + 4 * differences.isqrt() + 8;
    u32::try_from(needed).unwrap_or(u32::MAX)
}
