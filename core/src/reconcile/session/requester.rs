//! The side that asks and decodes.

use std::collections::VecDeque;

use rand_chacha::ChaCha12Rng;

use super::ranges::Ranges;
use super::{
    ItemSource, MAX_ATTEMPTS, MAX_SYMBOLS, Outcome, SessionError, SymbolStream, WINDOW, compare_ids, unexpected,
};
use crate::id::SpaceId;
use crate::reconcile::item::{IdKey, KeyName, Root};
use crate::reconcile::message::Message;
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
            sketch: source.sketch().digest(),
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
            }));
        }
        let State::Symbols(symbols) = &mut self.state else {
            return Err(SessionError::Unexpected { message: "Symbols" });
        };
        let expected = symbols.decoder.taken() as u32;
        if start != expected {
            return Err(SessionError::Gap { expected, got: start });
        }
        if theirs.is_empty() || start.saturating_add(theirs.len() as u32) > symbols.granted {
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
            Progress::NeedMore if symbols.wants_more() => {
                let upto = symbols.grant();
                self.outbox.extend(upto.map(|upto| Message::More { serial: self.serial, upto }));
                Ok(None)
            }
            Progress::NeedMore | Progress::Inconsistent => {
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

impl Symbols {
    /// Symbols after which a session stops: four times the plan decodes whatever the sketch's error, unless something is
    /// wrong that more symbols do not mend.
    fn budget(&self) -> u32 {
        self.target.saturating_mul(4).saturating_add(256).min(MAX_SYMBOLS)
    }

    fn wants_more(&self) -> bool {
        (self.decoder.taken() as u32) < self.budget()
    }

    /// Raises the number of symbols that may come, if it is time to.
    fn grant(&mut self) -> Option<u32> {
        let taken = self.decoder.taken() as u32;
        let upto = if taken < self.target {
            // Still on the way to the plan: keep the window filled, half a window at a time.
            let upto = self.target.min(taken + WINDOW);
            (self.granted < upto && self.granted - taken <= WINDOW / 2).then_some(upto)?
        } else if taken == self.granted {
            taken + (taken / 8).clamp(16, WINDOW)
        } else {
            return None;
        };
        self.granted = upto.min(self.budget());
        Some(self.granted)
    }
}
