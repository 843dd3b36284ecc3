//! Lines, for doors.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use super::super::client::Client;
use super::super::space::{Space, unexpected};
use super::mismatch;
use crate::coord::serve::talk::{Ask, Found, Tell};
use crate::engine::{Command, CommandError, CoordCommand, CoordReply, LineId, Reply};
use crate::id::PeerId;

/// Most bytes that wait for the reader of a [`Line`], each message counted with 128 bytes more. Beyond it the line ends.
pub const MAX_LINE_BYTES: usize = 32 << 20;

/// What a message counts for beyond what it carries.
const TELL_BYTES: usize = 128;

/// One channel to one voter, raw: for doors, which speak for clients of their own. What the voter answers to each
/// [`Ask`] is said at [`Tell`]; both keep their order.
///
/// Dropping it ends the line. Its session lives on for its time, and attaches over another line by its password.
pub struct Line {
    client: Arc<Client>,
    id: LineId,
    voter: PeerId,
    told: Arc<LineBox>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("id", &self.id).field("voter", &self.voter).finish_non_exhaustive()
    }
}

impl Space {
    /// A line to a voter: this peer's own where it votes, else one that it is connected with.
    /// [`CoordFailure::NoQuorum`](super::CoordFailure::NoQuorum): there is none at the moment.
    pub async fn line(&self) -> Result<Line, CommandError> {
        let client = self.client.clone();
        match client.call(Command::Coord(CoordCommand::OpenLine { space: self.id() })).await? {
            // Nothing is told before something is asked.
            Reply::Coord(CoordReply::Line { line, voter }) => {
                let told = client.hub.watch_line(line);
                Ok(Line { client, id: line, voter, told })
            }
            Reply::Coord(_) => Err(mismatch()),
            other => Err(unexpected(&other)),
        }
    }
}

impl Line {
    /// The voter at the other end.
    pub fn voter(&self) -> PeerId {
        self.voter
    }

    /// Whether that is this peer itself.
    pub fn is_own(&self) -> bool {
        self.voter == self.client.peer
    }

    /// Says these, in order; never waits. How much is under way is the caller's to bound: a voter takes
    /// [`MAX_IN_FLIGHT`](crate::coord::session::MAX_IN_FLIGHT) requests of a session and
    /// [`MAX_READS`](crate::coord::serve::voter::MAX_READS) reads, and refuses more.
    pub fn say(&self, asks: Vec<Ask>) {
        if !asks.is_empty() {
            self.client.tell(Command::Coord(CoordCommand::Say { line: self.id, asks }), Box::new(drop));
        }
    }

    /// What the voter says next. `None`: the line has ended.
    pub async fn next(&self) -> Option<Tell> {
        std::future::poll_fn(|cx| self.told.poll_next(cx)).await
    }

    /// What the voter has said already and nobody has read.
    pub fn try_next(&self) -> Option<Tell> {
        self.told.lock().pop()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.client.hub.forget_line(self.id);
        self.client.tell(Command::Coord(CoordCommand::EndLine { line: self.id }), Box::new(drop));
    }
}

/// What waits for the reader of a line.
#[derive(Default)]
pub(crate) struct LineBox {
    waiting: Mutex<Waiting>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Waiting {
    tells: VecDeque<Tell>,
    bytes: usize,
    ended: bool,
}

impl Waiting {
    fn pop(&mut self) -> Option<Tell> {
        let tell = self.tells.pop_front()?;
        self.bytes -= weigh(&tell);
        Some(tell)
    }
}

impl LineBox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what the voter says. A reader that is too slow has lost the line.
    pub(crate) fn push(&self, tell: Tell) {
        let mut waiting = self.lock();
        if waiting.ended {
            return;
        }
        waiting.bytes += weigh(&tell);
        waiting.tells.push_back(tell);
        if waiting.bytes > MAX_LINE_BYTES {
            *waiting = Waiting { ended: true, ..Waiting::default() };
        }
        drop(waiting);
        self.waker.wake();
    }

    /// Nothing follows.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.waker.wake();
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Tell>> {
        self.waker.register(cx.waker());
        let mut waiting = self.lock();
        match waiting.pop() {
            Some(tell) => Poll::Ready(Some(tell)),
            None if waiting.ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// About how many bytes a message holds.
fn weigh(tell: &Tell) -> usize {
    TELL_BYTES
        + match tell {
            Tell::Read { found: Ok(found), .. } => weigh_found(found),
            Tell::Event { path, .. } => path.as_str().len(),
            _ => 0,
        }
}

fn weigh_found(found: &Found) -> usize {
    match found {
        Found::Data(data, _) => data.len(),
        Found::Children(names, _) | Found::Paths(names) => names.iter().map(|name| name.len() + 24).sum(),
        Found::Many(all) => all.iter().flatten().map(|found| weigh_found(found) + TELL_BYTES).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_is_too_slow_loses_the_line_and_not_the_memory() {
        let told = LineBox::default();
        let data: Arc<[u8]> = vec![0; 1 << 20].into();
        let stat = crate::coord::stat::Stat {
            czxid: 1,
            mzxid: 1,
            pzxid: 1,
            ctime: 0,
            mtime: 0,
            version: 0,
            cversion: 0,
            aversion: 0,
            life: crate::coord::stat::Life::Persistent,
            data_length: 1 << 20,
            num_children: 0,
        };
        for id in 0..33 {
            told.push(Tell::Read { id, zxid: 1, found: Ok(Found::Data(data.clone(), stat)) });
        }
        let waiting = told.lock();
        assert!(waiting.ended && waiting.tells.is_empty() && waiting.bytes == 0);
    }
}
