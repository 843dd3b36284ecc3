//! Lines: how a door of this peer speaks to a voter for clients of its own.
//!
//! A door has its clients' word for what is asked and whether they live, so it needs none of what [`Client`] does for a
//! program. A line is one channel to one voter: asks go one way, in order, what the voter tells comes back in order. It ends
//! with the link, or with the replica; then the client comes back and attaches its session over another line, here or at
//! another peer.

use super::commands::{answered, failed};
use super::*;
use crate::engine::command::Outcome;
use crate::wire::DecodeError;

/// Most lines of one store.
const MAX_LINES: usize = 4_096;

/// One line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    space: SpaceId,
    /// The voter at its other end.
    at: PeerId,
}

impl Engine {
    pub(super) fn open_line(&mut self, space: SpaceId) -> Outcome {
        self.space(&space)?;
        if self.coord.lines.len() >= MAX_LINES {
            return Err(failed(CoordFailure::Busy));
        }
        let at = match self.ensure_voter(space) {
            true => self.identity().peer,
            false => {
                let linked = self.linked_voters(space);
                let draw = self.rng.next_u64();
                let chosen = linked.get((draw % linked.len().max(1) as u64) as usize);
                *chosen.ok_or_else(|| failed(CoordFailure::NoQuorum))?
            }
        };
        // Drawn, since a voter may still know channels of an earlier life of this peer.
        let line = LineId(self.rng.next_u64() >> 16);
        self.coord.lines.insert(line, Line { space, at });
        self.coord.ticked.get_or_insert(self.now.mono);
        answered(CoordReply::Line { line, voter: at }).map(Some)
    }

    pub(super) fn say(&mut self, line: LineId, asks: Vec<Ask>) -> Outcome {
        let Line { space, at } = *self.coord.lines.get(&line).ok_or_else(|| failed(CoordFailure::UnknownClient))?;
        if at != self.identity().peer {
            for ask in asks {
                self.send_coord(space, at, TALK, Frame::Ask(line.0, ask).to_bytes());
            }
        } else if let Some(voter) = self.coord.voters.get_mut(&space) {
            asks.into_iter().for_each(|ask| voter.ask(line.0, ask));
        } else {
            self.lose_line(line);
        }
        answered(CoordReply::Done).map(Some)
    }

    pub(super) fn end_line(&mut self, line: LineId) {
        let Some(Line { space, at }) = self.coord.lines.remove(&line) else { return };
        if at == self.identity().peer
            && let Some(voter) = self.coord.voters.get_mut(&space)
        {
            voter.leave(line.0);
        }
    }

    /// What a voter tells, if a line is meant.
    pub(super) fn tell_line(&mut self, space: SpaceId, from: PeerId, frame: &[u8]) -> Option<Result<(), DecodeError>> {
        if self.coord.lines.is_empty() {
            return None;
        }
        let mut r = Reader::new(frame.get(1..)?);
        let line = LineId(r.varint("channel").ok()?);
        self.coord.lines.get(&line).filter(|found| found.space == space && found.at == from)?;
        Some(match Frame::parse(frame) {
            Ok(Frame::Tell(_, tell)) => {
                self.emit(Event::Coord(CoordEvent::Line { line, tell: Some(Box::new(tell)) }));
                Ok(())
            }
            Ok(_) => Err(DecodeError::Invalid { field: "frame for a line" }),
            Err(error) => Err(error),
        })
    }

    /// What this peer's own voter tells a line.
    pub(super) fn tell_own_line(&mut self, space: SpaceId, line: LineId, tell: Tell) {
        let me = self.identity().peer;
        if self.coord.lines.get(&line).is_some_and(|found| found.space == space && found.at == me) {
            self.emit(Event::Coord(CoordEvent::Line { line, tell: Some(Box::new(tell)) }));
        }
    }

    pub(super) fn end_lines_to(&mut self, peer: PeerId) {
        let lost: Vec<LineId> =
            self.coord.lines.iter().filter(|(_, line)| line.at == peer).map(|(line, _)| *line).collect();
        lost.into_iter().for_each(|line| self.lose_line(line));
    }

    /// Lines to a replica of this store that is no more.
    pub(super) fn tick_lines(&mut self) {
        let me = self.identity().peer;
        let lost = |line: &Line| line.at == me && !self.coord.voters.contains_key(&line.space);
        let lost: Vec<LineId> = self.coord.lines.iter().filter(|(_, line)| lost(line)).map(|(line, _)| *line).collect();
        lost.into_iter().for_each(|line| self.lose_line(line));
    }

    fn lose_line(&mut self, line: LineId) {
        if self.coord.lines.remove(&line).is_some() {
            self.emit(Event::Coord(CoordEvent::Line { line, tell: None }));
        }
    }
}
