//! Taking in what peers send.

use std::collections::BTreeMap;

use thiserror::Error;

use super::message::Message;
use super::signal::{Signal, StreamTag};
use super::state::State;
use super::streams::Place;
use super::{GRAFT_AFTER, MAX_AGE};
use crate::id::{DeviceId, Path};
use crate::io::LinkId;
use crate::time::{Now, Timestamp, WallTime};

/// What no honest peer sends: it costs the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// Honest peers pass on only what they have checked.
    #[error("a signature on a signal does not hold")]
    Signature,
}

/// May a device write a path? Asked of the space's roster.
pub type MayWrite<'a> = &'a dyn Fn(&DeviceId, &Path) -> bool;

impl State {
    /// Takes in a message of `size` bytes from a link.
    pub fn on_message(
        &mut self,
        link: LinkId,
        now: Now,
        message: Message,
        size: usize,
        may_write: MayWrite<'_>,
    ) -> Result<(), Misbehaviour> {
        let Some(peering) = self.links.get_mut(&link) else { return Ok(()) };
        self.busy.insert(link);
        match message {
            Message::Signal(signal) => {
                peering.took(size);
                return self.on_signal(link, now, &signal, may_write);
            }
            Message::Ack { bytes } => peering.on_ack(bytes),
            Message::Former { incarnation } => self.on_former(now, incarnation),
            Message::Have(marks) => self.on_have(link, now.mono, marks),
            Message::Prune(tags) => {
                // A stream that is not known has no path here, and no place among those kept for the link.
                let known: Vec<StreamTag> = tags.into_iter().filter(|tag| self.mark(tag).is_some()).collect();
                let peering = self.links.get_mut(&link).expect("looked up above");
                known.into_iter().for_each(|tag| peering.on_prune(tag));
            }
            Message::Graft(marks) => self.on_graft(link, marks),
        }
        Ok(())
    }

    /// The checks, cheapest first.
    fn on_signal(
        &mut self,
        link: LinkId,
        now: Now,
        signal: &Signal,
        may_write: MayWrite<'_>,
    ) -> Result<(), Misbehaviour> {
        let place = if signal.sender == self.own.sender { self.own_place(signal) } else { self.streams.place(signal) };
        let missed = match place {
            Place::Duplicate => {
                self.on_duplicate(link, now.mono, signal);
                return Ok(());
            }
            Place::Old => {
                let peering = self.links.get_mut(&link).expect("checked by the caller");
                if peering.peer == signal.sender.peer {
                    peering.former = self.streams.outlived(signal);
                }
                return self.refuse();
            }
            Place::Fresh { missed } => missed,
        };
        let peering = self.links.get_mut(&link).expect("checked by the caller");
        let old = signal.issue < WallTime(now.wall.0.saturating_sub(MAX_AGE.as_millis() as i64));
        if old || !peering.covers(&signal.path) || peering.bucket.take(now.mono, signal.cost()).is_err() {
            return self.refuse();
        }
        if !may_write(&signal.sender.device, &signal.path) {
            return self.refuse();
        }
        signal.verify(&self.space).map_err(|_| Misbehaviour::Signature)?;
        let Some(mut gone) = self.streams.take(signal.sender.device, (now.mono, now.wall), signal.cost()) else {
            return self.refuse();
        };
        let tag = signal.tag();
        gone.extend(self.streams.advance(signal, tag, link));
        self.forget(&gone);
        self.emit(signal, missed, false);
        self.forward(now.mono, signal, tag, Some(link));
        Ok(())
    }

    /// An own signal has come back. One of another life of this peer is nothing to this one.
    fn own_place(&self, signal: &Signal) -> Place {
        let mine = signal.incarnation == self.own.incarnation && signal.seq <= self.own.mark(&signal.path);
        if mine { Place::Duplicate } else { Place::Old }
    }

    fn refuse(&mut self) -> Result<(), Misbehaviour> {
        self.refused += 1;
        Ok(())
    }

    /// A signal came that is here: one of the two links that brought the stream is asked to be silent about it, the later one
    /// unless it leads to the sender itself.
    fn on_duplicate(&mut self, late: LinkId, now: Timestamp, signal: &Signal) {
        let tag = signal.tag();
        if signal.sender == self.own.sender {
            return self.links.get_mut(&late).expect("checked by the caller").ask_silence(tag, now);
        }
        let direct = self.links[&late].peer == signal.sender.peer;
        let Some(slot) = self.streams.parent_mut(signal) else { return };
        let Some(parent) = *slot else {
            *slot = Some(late);
            return;
        };
        // The link that stays must be one that sends.
        let speaks = self.links.get(&parent).is_some_and(|peering| !peering.is_silent(&tag));
        if parent == late || !speaks {
            return;
        }
        let silent = if direct && !self.links[&late].is_silent(&tag) {
            *slot = Some(late);
            parent
        } else {
            late
        };
        self.links.get_mut(&silent).expect("looked up above").ask_silence(tag, now);
        self.busy.insert(silent);
    }

    /// A link that was asked to be silent says how far streams have come there.
    fn on_have(&mut self, link: LinkId, now: Timestamp, marks: Vec<(StreamTag, u64)>) {
        for (tag, seq) in marks {
            if self.mark(&tag).is_none_or(|mark| mark < seq) {
                let peering = self.links.get_mut(&link).expect("checked by the caller");
                peering.expect(tag, now + GRAFT_AFTER, seq);
            }
        }
    }

    /// The peer has lost the way by which it had streams.
    fn on_graft(&mut self, link: LinkId, marks: Vec<(StreamTag, u64)>) {
        let peering = self.links.get_mut(&link).expect("checked by the caller");
        let marks: BTreeMap<StreamTag, u64> = marks.into_iter().collect();
        marks.keys().for_each(|tag| peering.on_graft(tag));
        for parcel in self.recent.above(&marks) {
            if peering.covers(&parcel.path) {
                self.dropped += peering.enqueue(parcel.clone());
            }
        }
    }
}
