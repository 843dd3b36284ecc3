//! Signs of life: gathered over a tick, renewed by the leader, confirmed by a majority, then acknowledged.

use std::collections::BTreeMap;

use super::read::Round;
use super::{ChannelId, Voter};
use crate::coord::duty::Touch;
use crate::coord::serve::talk::{Frame, MAX_TOUCHED, Pass, Passed, Refusal, Subject, Tell};
use crate::coord::session::SessionId;
use crate::id::PeerId;

/// Ticks after which a round that nobody answered is begun again: an election, about.
const ROUND_TICKS: u32 = 10;

/// A sign of life: over which channel, and the client's number for it.
type Sign = (ChannelId, u64);

#[derive(Debug, Default)]
pub(super) struct Touches {
    waiting: BTreeMap<SessionId, Sign>,
    number: u64,
    round: Option<(u64, BTreeMap<SessionId, Sign>)>,
    age: u32,
    /// Confirmed, and to be acknowledged when this much is applied.
    due: BTreeMap<u64, Vec<(SessionId, Sign)>>,
}

impl Voter {
    pub(super) fn ping(&mut self, id: ChannelId, n: u64) {
        match self.channels.get(&id).and_then(|channel| channel.owned) {
            Some(owned) => drop(self.touches.waiting.insert(owned.session, (id, n))),
            None => self.tell(id, Tell::Refused { of: Subject::Ping(n), why: Refusal::NoSession }),
        }
    }

    pub(super) fn tick_touches(&mut self) {
        self.touches.age += 1;
        if self.touches.age >= ROUND_TICKS {
            self.renew_touches();
        }
        let Some(leader) = self.leader() else { return };
        if self.touches.round.is_some() || self.touches.waiting.is_empty() {
            return;
        }
        let mut signs = std::mem::take(&mut self.touches.waiting);
        if let Some(beyond) = signs.keys().nth(MAX_TOUCHED).copied() {
            self.touches.waiting = signs.split_off(&beyond);
        }
        self.touches.number += 1;
        self.touches.age = 0;
        let (round, sessions) = (self.touches.number, signs.keys().copied().collect());
        self.touches.round = Some((round, signs));
        if self.leads() {
            self.lead_touch(self.me, round, sessions);
        } else {
            self.send(leader, &Frame::Pass(Pass::Touch { round, sessions }));
        }
    }

    /// A round that will not be answered: what it carried goes with the next one, unless newer signs have come.
    pub(super) fn renew_touches(&mut self) {
        for (session, sign) in self.touches.round.take().into_iter().flat_map(|(_, signs)| signs) {
            self.touches.waiting.entry(session).or_insert(sign);
        }
    }

    /// Takes signs of life as the leader. They count from now; whether this voter leads at all, a round has to show.
    pub(super) fn lead_touch(&mut self, from: PeerId, round: u64, sessions: Vec<SessionId>) {
        let Some(duties) = &mut self.duties else { return };
        let renewed = sessions.into_iter().filter(|session| duties.touch(*session) == Touch::Renewed).collect();
        // Without a round nothing is acknowledged, and clients ask again.
        self.begin_round(Round::Touch { from, round, renewed });
    }

    pub(super) fn confirm_touch(&mut self, from: PeerId, round: u64, index: u64, renewed: Vec<SessionId>) {
        if from == self.me {
            self.touched(round, index, renewed);
        } else {
            self.send(from, &Frame::Passed(Passed::Touched { round, index, renewed }));
        }
    }

    pub(super) fn touched(&mut self, round: u64, index: u64, renewed: Vec<SessionId>) {
        let Some((_, mut signs)) = self.touches.round.take_if(|(number, _)| *number == round) else { return };
        let confirmed = renewed.into_iter().filter_map(|session| Some((session, signs.remove(&session)?)));
        self.touches.due.entry(index).or_default().extend(confirmed);
    }

    /// Acknowledges what is confirmed and applied. A session that ended by then is none any more.
    pub(super) fn flush_pongs(&mut self) {
        let zxid = self.group.applied().index;
        while let Some(due) = self.touches.due.first_entry().filter(|due| *due.key() <= zxid) {
            for (session, (id, n)) in due.remove() {
                if self.owners.get(&session) == Some(&id) {
                    self.tell(id, Tell::Pong { n, zxid });
                }
            }
        }
    }
}
