//! Requests and reads: what is sent, again where need be, and what came of it.

use super::{Answer, Call, CallError, Client, Link, Output, ReadError, Reply, Standing, State, Want};
use crate::coord::command::Command;
use crate::coord::error::CoordError;
use crate::coord::path::NodePath;
use crate::coord::serve::talk::{Ask, Found, MAX_REARM, Query, Refusal, Subject, Tell};
use crate::coord::session::MAX_IN_FLIGHT;
use crate::coord::watch::{EventKind, Watch};
use crate::id::PeerId;

impl Client {
    /// A voter serves the session: it is told what is watched, and everything that has no answer is sent again.
    pub(super) fn served(&mut self, now: u64, peer: PeerId, zxid: u64) {
        self.tried.clear();
        self.at = Some((peer, Link::Serving));
        self.set_state(State::Connected);
        for (scheme, secret) in self.secrets.clone() {
            self.send(peer, Ask::Authenticate { id: 0, scheme, secret });
        }
        let watches: Vec<_> = self.staying.iter().chain(&self.once).cloned().collect();
        for chunk in watches.chunks(MAX_REARM) {
            self.send(peer, Ask::Rearm { seen: self.seen, watches: chunk.to_vec() });
        }
        self.seen = self.seen.max(zxid);
        self.ask_standing(now);
        self.resend_calls(now);
        self.wants.values_mut().for_each(|want| want.sent = false);
        self.flush(now);
    }

    /// Everything that has no answer, in order.
    pub(super) fn resend_calls(&mut self, now: u64) {
        let again: Vec<u64> = self.numbered.values().copied().collect();
        again.into_iter().for_each(|name| self.send_call(now, name));
    }

    /// Requests that wait were acknowledged, so their outcomes are not kept: asks where they stand.
    fn ask_standing(&mut self, now: u64) {
        let waiting = self.calls.iter().filter(|(_, call)| call.waits);
        let waiting: Vec<(u64, u64)> = waiting.filter_map(|(name, call)| Some((*name, call.seq?))).collect();
        for (call, seq) in waiting {
            // Over the bound of reads the outcome is told by the voter only.
            let _ = self.want(now, Want::Standing { call, seq });
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
            if !matches!(want.ask, Want::Standing { .. }) {
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
    pub(super) fn flush(&mut self, now: u64) {
        let Some((peer, Link::Serving)) = self.at else { return };
        while let Some(name) = self.unsent.front().copied()
            && self.next_seq - self.acked_below() < MAX_IN_FLIGHT
        {
            self.unsent.pop_front();
            if let Some(call) = self.calls.get_mut(&name) {
                call.seq = Some(self.next_seq);
                self.numbered.insert(self.next_seq, name);
                self.next_seq += 1;
                self.send_call(now, name);
            }
        }
        let ready: Vec<(u64, Want)> = self
            .wants
            .iter()
            .filter(|(_, want)| !want.sent && self.is_due(&want.ask))
            .map(|(name, want)| (*name, want.ask.clone()))
            .collect();
        for (id, want) in ready {
            self.wants.entry(id).and_modify(|want| want.sent = true);
            let ask = match want {
                Want::Read { query, linear, watch, after } => {
                    Ask::Read { id, after: after.min(self.next_seq), linear, query, watch }
                }
                Want::Watch { watch, path, on: true } => Ask::Watch { id, watch, path: path.as_str().into() },
                Want::Watch { watch, path, on: false } => Ask::Unwatch { id, watch, path: path.as_str().into() },
                Want::Authenticate { scheme, secret } => Ask::Authenticate { id, scheme, secret },
                Want::Standing { seq, .. } => {
                    Ask::Read { id, after: seq + 1, linear: false, query: Query::Standing(seq), watch: false }
                }
            };
            self.send(peer, ask);
        }
    }

    /// A read goes out when the requests before it did; those that were taken back have no number to wait for.
    fn is_due(&self, want: &Want) -> bool {
        !matches!(want, Want::Read { after, .. } if *after > self.next_seq && !self.unsent.is_empty())
    }

    fn send_call(&mut self, now: u64, name: u64) {
        let (Some((peer, Link::Serving)), acked_below) = (self.at, self.acked_below()) else { return };
        let Some(call) = self.calls.get_mut(&name) else { return };
        let Some(seq) = call.seq else { return };
        call.sent = now;
        let command = call.command.clone();
        self.send(peer, Ask::Call { seq, acked_below, command });
    }

    pub(super) fn on_answer(&mut self, now: u64, tell: Tell) {
        match tell {
            Tell::Reply { seq, zxid, reply } => {
                self.seen = self.seen.max(zxid);
                self.on_reply(now, seq, zxid, reply);
            }
            Tell::Read { id, zxid, found } => {
                self.seen = self.seen.max(zxid);
                self.on_read(now, id, zxid, found);
            }
            Tell::Event { zxid, kind, path } => {
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
                self.out.push_back(Output::Event { zxid, kind, path });
            }
            Tell::Refused { of, why } => self.on_refused(now, of, why),
            Tell::Skipped => {
                self.ask_standing(now);
                self.flush(now);
            }
            _ => {}
        }
    }

    fn on_reply(&mut self, now: u64, seq: u64, zxid: u64, reply: Reply) {
        // A reply to a number is also proof of life: the entry renewed the session.
        let waiting = || self.calls.iter().find(|(_, call)| call.waits && call.seq == Some(seq)).map(|(name, _)| *name);
        let Some(name) = self.numbered.get(&seq).copied().or_else(waiting) else { return };
        let Some(call) = self.calls.get_mut(&name) else { return };
        let sent = call.sent;
        match &reply {
            // A retry went wrong on the way; the voter or this client sends it again.
            Err(CoordError::OutOfOrder { .. } | CoordError::SessionMoved) => return,
            Err(CoordError::SessionExpired) => return self.lose(),
            Ok(Answer::Queued { .. }) => {
                let first = !std::mem::replace(&mut call.waits, true);
                self.numbered.remove(&seq);
                if first && !call.dropped {
                    self.out.push_back(Output::Reply { call: name, zxid, reply });
                }
            }
            _ => {
                let renews = !call.waits;
                self.settle(name, zxid, reply);
                if !renews {
                    return self.flush(now);
                }
            }
        }
        self.prove_alive(sent);
        self.flush(now);
    }

    /// A request has its outcome.
    fn settle(&mut self, name: u64, zxid: u64, reply: Reply) {
        let Some(Call { seq, dropped, command, .. }) = self.calls.remove(&name) else { return };
        if let Some(seq) = seq {
            self.numbered.remove(&seq);
        }
        if !dropped {
            self.out.push_back(Output::Reply { call: name, zxid, reply });
        }
        if command == Command::Close {
            self.lose();
        }
    }

    fn on_read(&mut self, now: u64, id: u64, zxid: u64, found: Result<Found, CoordError>) {
        let Some(want) = self.wants.remove(&id) else { return };
        match (want.ask, &found) {
            (Want::Standing { call, .. }, Ok(Found::Standing(standing))) => {
                match standing {
                    Standing::Waits => {}
                    Standing::Holds(token) => self.settle(call, 0, Ok(Answer::Granted(*token))),
                    Standing::Over => self.settle(call, 0, Err(CoordError::DeadlinePassed)),
                }
                return;
            }
            (Want::Standing { .. }, _) => return,
            (Want::Watch { watch, path, on: true }, Ok(_)) => drop(self.staying.insert((watch, path))),
            (Want::Watch { watch, path, on: false }, _) => drop(self.staying.remove(&(watch, path))),
            (Want::Authenticate { scheme, secret }, Ok(_)) => self.secrets.push((scheme, secret)),
            (Want::Read { query, watch: true, .. }, found) => self.note_watch(&query, found.as_ref().err()),
            _ => {}
        }
        self.out.push_back(Output::Read { read: id, zxid, found: found.map_err(ReadError::from) });
        self.flush(now);
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
            (Some((_, Link::Entering { nonce, .. })), Subject::Entry(own), _) if nonce == own => self.leave_voter(now),
            // The voter forgot the session: it was started anew, most likely.
            (Some((peer, Link::Serving)), _, Refusal::NoSession) => {
                self.set_state(State::Suspended);
                self.enter(now, peer);
            }
            // What cannot be sent at all is refused before it gets a number, so this is for later.
            (_, Subject::Call(_), _) => self.resend = true,
            (_, Subject::Read(id), Refusal::Busy) => {
                self.wants.entry(id).and_modify(|want| want.sent = false);
            }
            (_, Subject::Read(id), _) => {
                if let Some(want) = self.wants.remove(&id)
                    && !matches!(want.ask, Want::Standing { .. })
                {
                    self.out.push_back(Output::Read { read: id, zxid: self.seen, found: Err(why.into()) });
                }
            }
            _ => {}
        }
    }
}
