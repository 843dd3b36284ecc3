//! Requests and reads: what is sent, again where need be, and what came of it.

use super::{Answer, Call, CallError, Client, Link, Output, ReadError, Reply, Standing, State, Want, Wanted};
use crate::coord::command::Command;
use crate::coord::error::CoordError;
use crate::coord::op::{Mode, Op, OpAnswer};
use crate::coord::path::NodePath;
use crate::coord::serve::talk::{Ask, Found, MAX_REARM, Query, Refusal, Subject, Tell};
use crate::coord::session::MAX_IN_FLIGHT;
use crate::coord::watch::{EventKind, Watch};
use crate::id::PeerId;

impl Client {
    /// A voter serves the session: it is told what is watched, and everything that has no answer is sent again.
    pub(super) fn served(&mut self, peer: PeerId, zxid: u64) {
        self.tried.clear();
        self.at = Some((peer, Link::Serving));
        self.set_state(State::Connected);
        for (scheme, secret) in self.secrets.clone() {
            self.send(peer, Ask::Authenticate { id: 0, scheme, secret });
        }
        self.wants.retain(|_, want| !want.ask.is_own());
        self.wants.values_mut().for_each(|want| want.sent = false);
        self.rearm(peer);
        self.see(zxid);
        self.ask_standing();
        let again: Vec<u64> = self.numbered.values().copied().collect();
        again.into_iter().for_each(|name| self.send_call(name));
        self.flush();
    }

    /// Sets all watches again, from where everything was told. What was missed is told whole or not at all: a voter may be gone
    /// in the middle of it, and the next one remember more.
    fn rearm(&mut self, peer: PeerId) {
        let watches: Vec<_> = self.staying.iter().chain(&self.once).cloned().collect();
        self.rearmed = watches.is_empty();
        self.held.clear();
        if self.rearmed {
            self.retold.clear();
            return self.ahead.clear();
        }
        self.retold.clone_from(&self.ahead);
        for chunk in watches.chunks(MAX_REARM) {
            self.send(peer, Ask::Rearm { seen: self.told, watches: chunk.to_vec() });
        }
        let id = self.name();
        self.wants.insert(id, Wanted { ask: Want::Rearmed, sent: true });
        self.send(peer, Want::Rearmed.ask(id, 0));
    }

    /// Requests that the voter had no room for, in order. The others are on their way.
    pub(super) fn resend_refused(&mut self) {
        for seq in std::mem::take(&mut self.refused) {
            if let Some(name) = self.numbered.get(&seq).copied() {
                self.send_call(name);
            }
        }
    }

    /// Requests that wait were acknowledged, so their outcomes are not kept: asks where they stand.
    fn ask_standing(&mut self) {
        let waiting = self.calls.iter().filter(|(_, call)| call.waits);
        let waiting: Vec<(u64, u64)> = waiting.filter_map(|(name, call)| Some((*name, call.seq?))).collect();
        for (call, seq) in waiting {
            let id = self.name();
            self.wants.insert(id, Wanted { ask: Want::Standing { call, seq }, sent: false });
        }
    }

    pub(super) fn entry_failed(&mut self, now: u64, error: &CoordError) {
        match error {
            CoordError::SessionExpired | CoordError::WrongPassword => self.lose(),
            _ => self.leave_voter(now),
        }
    }

    /// The session is over.
    pub(super) fn lose(&mut self) {
        self.set_state(State::Lost);
        self.at = None;
        for (call, found) in std::mem::take(&mut self.calls) {
            let why = if found.seq.is_some() { CallError::Unknown } else { CallError::Lost };
            if !found.dropped {
                self.out.push_back(Output::Failed { call, why });
            }
        }
        for (read, want) in std::mem::take(&mut self.wants) {
            if !want.ask.is_own() {
                self.out.push_back(Output::Read { read, zxid: self.seen, found: Err(ReadError::Lost) });
            }
        }
        self.numbered.clear();
        self.unsent.clear();
    }

    fn acked_below(&self) -> u64 {
        self.numbered.first_key_value().map_or(self.next_seq, |(seq, _)| *seq)
    }

    /// Sends what may be sent.
    pub(super) fn flush(&mut self) {
        let Some((peer, Link::Serving)) = self.at else { return };
        while let Some(name) = self.unsent.front().copied()
            && self.next_seq - self.acked_below() < MAX_IN_FLIGHT
        {
            self.unsent.pop_front();
            if let Some(call) = self.calls.get_mut(&name) {
                call.seq = Some(self.next_seq);
                self.numbered.insert(self.next_seq, name);
                self.next_seq += 1;
                self.send_call(name);
            }
        }
        let due = self.wants.iter().filter(|(_, want)| !want.sent && self.is_due(&want.ask));
        let due: Vec<(u64, Want)> = due.map(|(name, want)| (*name, want.ask.clone())).collect();
        for (id, want) in due {
            self.wants.entry(id).and_modify(|want| want.sent = true);
            self.send(peer, want.ask(id, self.next_seq));
        }
    }

    /// A read goes out when the requests before it did; those that were taken back have no number to wait for.
    fn is_due(&self, want: &Want) -> bool {
        !matches!(want, Want::Read { after, .. } if *after > self.next_seq && !self.unsent.is_empty())
    }

    fn send_call(&mut self, name: u64) {
        let Some((peer, Link::Serving)) = self.at else { return };
        let Some(call) = self.calls.get(&name) else { return };
        let Some(seq) = call.seq else { return };
        let (acked_below, command) = (self.acked_below(), call.command.clone());
        self.send(peer, Ask::Call { seq, acked_below, command });
    }

    pub(super) fn on_answer(&mut self, now: u64, tell: Tell) {
        match tell {
            Tell::Reply { seq, zxid, reply } => {
                self.see(zxid);
                self.on_reply(now, seq, zxid, reply);
            }
            Tell::Read { id, zxid, found } => {
                self.see(zxid);
                self.on_read(id, zxid, found);
            }
            Tell::Event { zxid, kind, path } => self.on_event(zxid, kind, path),
            Tell::Refused { of, why } => self.on_refused(now, of, why),
            Tell::Skipped => {
                self.ask_standing();
                self.flush();
            }
            _ => {}
        }
    }

    fn on_event(&mut self, zxid: u64, kind: EventKind, path: NodePath) {
        if !self.rearmed {
            return self.held.push((zxid, kind, path));
        }
        self.tell_event(zxid, kind, path);
    }

    fn tell_event(&mut self, zxid: u64, kind: EventKind, path: NodePath) {
        // Others of the same entry may follow, and the voter be gone before.
        self.see(zxid.saturating_sub(1));
        self.seen = self.seen.max(zxid);
        let spent: &[Watch] = match kind {
            EventKind::Created | EventKind::Changed => &[Watch::Data, Watch::Exists],
            EventKind::Deleted => &[Watch::Data, Watch::Exists, Watch::Children],
            EventKind::Children => &[Watch::Children],
            _ => &[],
        };
        for watch in spent {
            self.once.remove(&(*watch, path.clone()));
        }
        let event = (zxid, kind, path.clone());
        if let Some(left) = self.retold.get_mut(&event).filter(|left| **left > 0) {
            *left -= 1;
            return;
        }
        *self.ahead.entry(event).or_default() += 1;
        self.out.push_back(Output::Event { zxid, kind, path });
    }

    /// An answer is no proof of life: it may be the first answer to what was sent again since.
    fn on_reply(&mut self, now: u64, seq: u64, zxid: u64, reply: Reply) {
        let waiting = || self.calls.iter().find(|(_, call)| call.waits && call.seq == Some(seq)).map(|(name, _)| *name);
        let Some(name) = self.numbered.get(&seq).copied().or_else(waiting) else { return };
        let Some(call) = self.calls.get_mut(&name) else { return };
        match &reply {
            // A retry went wrong on the way; the voter sends it again.
            Err(CoordError::OutOfOrder { .. }) => return,
            Err(CoordError::SessionMoved) => return self.take_back(now),
            // A late copy of a request that waits, acknowledged meanwhile: it waits still.
            Err(CoordError::AnswerForgotten) if call.waits => return,
            Err(CoordError::SessionExpired) => return self.lose(),
            Ok(Answer::Queued { .. }) => {
                let first = !std::mem::replace(&mut call.waits, true);
                self.numbered.remove(&seq);
                if first && !call.dropped {
                    self.out.push_back(Output::Reply { call: name, zxid, reply });
                }
            }
            _ => self.settle(now, name, zxid, reply),
        }
        self.flush();
    }

    /// A request has its outcome.
    fn settle(&mut self, now: u64, name: u64, zxid: u64, reply: Reply) {
        let Some(Call { seq, dropped, command, .. }) = self.calls.remove(&name) else { return };
        if let Some(seq) = seq {
            self.numbered.remove(&seq);
        }
        match (dropped, &command, &reply) {
            (false, ..) => self.out.push_back(Output::Reply { call: name, zxid, reply }),
            // Nobody knows of this node, and it would stand for somebody as long as the session lives.
            (
                true,
                Command::Op(Op::Create { mode: Mode::Ephemeral, .. }),
                Ok(Answer::Op(OpAnswer::Created { path, .. })),
            ) => {
                let delete = Command::Op(Op::Delete { path: path.as_str().to_owned(), version: -1 });
                if let Ok(delete) = self.call(now, delete) {
                    self.calls.entry(delete).and_modify(|call| call.dropped = true);
                }
            }
            _ => {}
        }
        if command == Command::Close {
            self.lose();
        }
    }

    fn on_read(&mut self, id: u64, zxid: u64, found: Result<Found, CoordError>) {
        let Some(want) = self.wants.remove(&id) else { return };
        match (want.ask, &found) {
            (Want::Standing { call, .. }, Ok(Found::Standing(standing))) => {
                match standing {
                    Standing::Waits => {}
                    Standing::Holds(token) => self.settle(self.heard, call, 0, Ok(Answer::Granted(*token))),
                    Standing::Over => self.settle(self.heard, call, 0, Err(CoordError::DeadlinePassed)),
                }
                return;
            }
            (Want::Standing { .. }, _) => return,
            (Want::Rearmed, _) => {
                for (zxid, kind, path) in std::mem::take(&mut self.held) {
                    self.tell_event(zxid, kind, path);
                }
                self.rearmed = true;
                self.retold.clear();
                return self.see(zxid);
            }
            (Want::Watch { watch, path, on: true }, Ok(_)) => drop(self.staying.insert((watch, path))),
            (Want::Watch { watch, path, on: false }, _) => drop(self.staying.remove(&(watch, path))),
            (Want::Authenticate { scheme, secret }, Ok(_)) => self.secrets.push((scheme, secret)),
            (Want::Read { query, watch: true, .. }, found) => self.note_watch(&query, found.as_ref().err()),
            _ => {}
        }
        self.out.push_back(Output::Read { read: id, zxid, found: found.map_err(ReadError::from) });
        self.flush();
    }

    /// A read set a watch, which the next voter is to have too.
    fn note_watch(&mut self, query: &Query, error: Option<&CoordError>) {
        let (path, watch) = match (query, error) {
            (Query::Data(path) | Query::Exists(path), None) => (path, Watch::Data),
            (Query::Exists(path), Some(CoordError::NoNode)) => (path, Watch::Exists),
            (Query::Children(path), None) => (path, Watch::Children),
            (Query::Leader(path), None) => (path, Watch::Leader),
            (Query::Queue(path), None) => (path, Watch::Queue),
            _ => return,
        };
        let Ok(path) = NodePath::parse(path) else { return };
        match watch {
            Watch::Leader | Watch::Queue => self.staying.insert((watch, path)),
            _ => self.once.insert((watch, path)),
        };
    }

    fn on_refused(&mut self, now: u64, of: Subject, why: Refusal) {
        match (self.at, of, why) {
            // The voter forgot the session: it was started anew, most likely.
            (Some((_, Link::Serving)), _, Refusal::NoSession) => self.take_back(now),
            // What cannot be sent at all is refused before it gets a number, so this is for later.
            (_, Subject::Call(seq), _) => drop(self.refused.insert(seq)),
            // It cannot hold this client's watches.
            (_, Subject::Rearm, _) => self.leave_voter(now),
            (_, Subject::Read(id), Refusal::Busy) => {
                self.wants.entry(id).and_modify(|want| want.sent = false);
            }
            (_, Subject::Read(id), _) => {
                if let Some(want) = self.wants.remove(&id)
                    && !want.ask.is_own()
                {
                    self.out.push_back(Output::Read { read: id, zxid: self.seen, found: Err(why.into()) });
                }
            }
            _ => {}
        }
    }
}
