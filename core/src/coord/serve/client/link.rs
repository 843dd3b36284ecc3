//! Which voter, and what it says.

use super::{Client, Link, Options, Output, Session, State};
use crate::coord::serve::talk::{Ask, Frame, Refusal, Subject, Tell};
use crate::id::PeerId;
use crate::wire::DecodeError;
use rand_core::Rng as _;

/// Least time in milliseconds that a voter is given to answer.
const LEAST_PATIENCE_MS: u64 = 1_000;

/// Most: a session that lives for an hour does not make its requests wait for one.
const MOST_PATIENCE_MS: u64 = 5_000;

/// A session that no voter ever opened or found is tried with the next one after this long.
const REACH_MS: u64 = 5_000;

impl Client {
    /// There is a link to a peer.
    pub fn linked(&mut self, now: u64, peer: PeerId) {
        let Some((at, Link::Reaching { .. })) = self.at else { return };
        if at == peer {
            self.enter(now, peer);
        } else if self.voters.contains(&peer) && !self.tried.contains(&peer) {
            // One that is there serves sooner than one that may not be reached at all.
            self.tried.remove(&at);
            self.tried.insert(peer);
            self.enter(now, peer);
        }
    }

    /// There is no link to a peer any more.
    pub fn gone(&mut self, now: u64, peer: PeerId) {
        if self.at.is_some_and(|(at, _)| at == peer) {
            self.leave_voter(now);
        }
    }

    /// Which peers may vote, as facts say: used until a voter says it better.
    pub fn know_voters(&mut self, now: u64, voters: impl IntoIterator<Item = PeerId>) {
        self.voters.extend(voters);
        if self.at.is_none() && self.state != State::Lost {
            self.next_voter(now);
        }
    }

    /// A frame came from a peer. One of a voter that is not this client's any more is ignored.
    pub fn frame(&mut self, now: u64, from: PeerId, bytes: &[u8]) -> Result<(), DecodeError> {
        let Frame::Tell(channel, tell) = Frame::parse(bytes)? else {
            return Err(DecodeError::Invalid { field: "frame for a client" });
        };
        if channel == self.options.channel && self.at.is_some_and(|(at, _)| at == from) && self.state != State::Lost {
            self.heard = now;
            self.on_tell(now, from, tell);
        }
        Ok(())
    }

    /// Time went by: to be said at least ten times in a session's time.
    pub fn tick(&mut self, now: u64) {
        if self.state == State::Lost {
            return;
        }
        if self.lease_until().is_some_and(|until| now >= until) {
            self.set_state(State::Lapsed);
        }
        let patience = self.patience();
        let (mut leave, mut sign) = (false, false);
        match self.at {
            None => self.next_voter(now),
            Some((_, Link::Reaching { since })) => leave = now >= since + REACH_MS,
            Some((_, Link::Entering { since, .. })) => {
                // A voter that knows no leader cannot serve anybody; others may be on the other side of a cut.
                leave = now >= since + 3 * patience || self.leaderless.is_some_and(|since| now >= since + patience);
            }
            Some((_, Link::Serving)) => {
                let waits = !self.signs.is_empty() || !self.numbered.is_empty();
                let silent = waits && now >= self.heard + patience;
                let unproved = self.signs.front().is_some_and(|(_, sent)| now >= sent + 2 * patience);
                leave = silent || unproved || self.leaderless.is_some_and(|since| now >= since + 2 * patience);
                sign = self.signs.back().map_or(self.alive_at(), |(_, sent)| *sent) + self.rhythm() <= now;
            }
        }
        if leave {
            self.leave_voter(now);
        } else if sign && let Some((peer, _)) = self.at {
            self.expect(now);
            self.signed += 1;
            self.signs.push_back((self.signed, now));
            // More than a session's worth of them need not be remembered.
            if self.signs.len() > 16 {
                self.signs.pop_front();
            }
            self.send(peer, Ask::Ping { n: self.signed });
        }
        self.resend_refused();
        self.flush();
    }

    /// Milliseconds between signs of life: a sixth of the session's time, so that three may be lost.
    pub(super) fn rhythm(&self) -> u64 {
        self.session.as_ref().map_or(self.options.ttl_ms, |session| session.ttl_ms) / 6
    }

    fn alive_at(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.alive)
    }

    /// How long a voter may be silent while something waits for it: two tries fit into the time until the session lapses.
    fn patience(&self) -> u64 {
        (self.rhythm() * 3 / 2).clamp(LEAST_PATIENCE_MS, MOST_PATIENCE_MS)
    }

    /// Tries the next voter, in an order of the client's own, so that clients spread.
    pub(super) fn next_voter(&mut self, now: u64) {
        if self.voters.iter().all(|voter| self.tried.contains(voter)) {
            self.tried.clear();
        }
        let rest: Vec<PeerId> = self.voters.difference(&self.tried).copied().collect();
        if rest.is_empty() {
            self.at = None;
            return;
        }
        let peer = rest[(self.dice.next_u64() % rest.len() as u64) as usize];
        self.tried.insert(peer);
        self.at = Some((peer, Link::Reaching { since: now }));
        self.out.push_back(Output::Reach(peer));
    }

    pub(super) fn leave_voter(&mut self, now: u64) {
        if self.session.is_some() && self.state == State::Connected {
            self.set_state(State::Suspended);
        }
        self.leaderless = None;
        self.next_voter(now);
    }

    /// The session is alive, and another channel's, or the voter forgot it: attaches it once more.
    pub(super) fn take_back(&mut self, now: u64) {
        if let Some((peer, Link::Serving)) = self.at {
            if self.state == State::Connected {
                self.set_state(State::Suspended);
            }
            self.enter(now, peer);
        }
    }

    /// Opens the session, or attaches it.
    pub(super) fn enter(&mut self, now: u64, peer: PeerId) {
        let nonce = self.dice.next_u64();
        self.heard = now;
        self.at = Some((peer, Link::Entering { since: now, nonce }));
        self.signs.clear();
        self.refused.clear();
        let ask = match &self.session {
            Some(Session { id, password, .. }) => {
                Ask::Attach { nonce, session: *id, password: *password, seen: self.seen }
            }
            None => Ask::Open { nonce, ttl_ms: self.options.ttl_ms },
        };
        self.send(peer, ask);
    }

    fn on_tell(&mut self, now: u64, from: PeerId, tell: Tell) {
        let entering = match self.at {
            Some((_, Link::Entering { since, nonce })) => Some((since, nonce)),
            _ => None,
        };
        let mine = |nonce: u64| entering.filter(|(_, own)| *own == nonce).map(|(since, _)| since);
        match tell {
            Tell::Opened { nonce, session, password, ttl_ms, zxid } => {
                if let Some(since) = mine(nonce) {
                    self.session = Some(Session { id: session, password, ttl_ms, alive: since });
                    self.served(from, zxid);
                }
            }
            Tell::Attached { nonce, next_seq: _, ttl_ms, zxid } => {
                if let Some(since) = mine(nonce) {
                    if let Some(session) = &mut self.session {
                        (session.ttl_ms, session.alive) = (ttl_ms, since);
                    }
                    self.served(from, zxid);
                }
            }
            Tell::Failed { nonce, error } => {
                if mine(nonce).is_some() {
                    self.entry_failed(now, &error);
                }
            }
            Tell::Status { led, voters } => {
                self.leaderless = if led { None } else { self.leaderless.or(Some(now)) };
                if !voters.is_empty() {
                    self.voters = voters.into_iter().collect();
                }
            }
            Tell::Refused { why: Refusal::NotServing, .. } => {
                self.voters.remove(&from);
                self.leave_voter(now);
            }
            Tell::Refused { of: Subject::Entry(nonce), .. } => {
                if mine(nonce).is_some() {
                    self.leave_voter(now);
                }
            }
            // What else comes before the session is attached, while the voter is being reached too, is of an earlier stay with
            // it. It proves nothing about the new one, it may come after a gap, and is asked for again.
            _ if self.voter().is_none() => {}
            Tell::Lost => self.lose(),
            // An attempt of this client's own to attach elsewhere, given up long ago, has been carried out now; or somebody
            // else has the password. The session is alive: it is taken back.
            Tell::Moved => self.take_back(now),
            Tell::Pong { n, zxid } => {
                self.see(zxid);
                if let Some(place) = self.signs.iter().position(|(number, _)| *number == n) {
                    let sent = self.signs.drain(..=place).next_back().map_or(0, |(_, sent)| sent);
                    self.prove_alive(sent);
                }
            }
            other => self.on_answer(now, other),
        }
    }

    /// The session was alive for its whole time from `sent` on.
    fn prove_alive(&mut self, sent: u64) {
        if let Some(session) = &mut self.session {
            session.alive = session.alive.max(sent);
        }
        if self.state == State::Lapsed && self.voter().is_some() {
            self.set_state(State::Connected);
        }
    }

    /// The channel's number among those of this peer.
    pub fn options(&self) -> &Options {
        &self.options
    }
}
