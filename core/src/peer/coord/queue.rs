//! Queues of work.

use std::time::Duration;

use super::{Coordinator, FencingToken, is, mismatch};
use crate::coord::command::Command as Call;
use crate::coord::error::CoordError;
use crate::coord::reply::Answer;
use crate::coord::serve::talk::{Found, Query};
use crate::engine::{CommandError, CoordFailure};

/// A queue, from [`Coordinator::queue`]: work that is handed to one session at a time, in order, at least once.
#[derive(Debug, Clone)]
pub struct Queue {
    coordinator: Coordinator,
    path: String,
}

/// An item that is this session's to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedItem {
    /// Its number: its place in the queue.
    pub item: u64,
    /// What was put in.
    pub body: Vec<u8>,
    /// How often it was claimed, this time included.
    pub attempt: u32,
    /// What acknowledges it; greater than that of every claim before.
    pub token: FencingToken,
}

impl Queue {
    pub(super) fn new(coordinator: Coordinator, path: String) -> Self {
        Self { coordinator, path }
    }

    async fn call(&self, call: Call) -> Result<Answer, CommandError> {
        let wait = Some(self.coordinator.patience());
        self.coordinator.call(call, wait).await.map(|(_, answer)| answer)
    }

    /// Puts an item at the end; its number. It is tried `max_attempts` times, then put aside.
    pub async fn put(&self, body: impl Into<Vec<u8>>, max_attempts: u32) -> Result<u64, CommandError> {
        let body: Vec<u8> = body.into();
        match self.call(Call::Enqueue { path: self.path.clone(), body: body.into(), max_attempts }).await? {
            Answer::Enqueued { item } => Ok(item),
            _ => Err(mismatch()),
        }
    }

    /// Takes the first item that nobody works on; `None` if there is none. It is this session's alone for `visibility`.
    pub async fn claim(&self, visibility: Duration) -> Result<Option<ClaimedItem>, CommandError> {
        let visibility_ms = u64::try_from(visibility.as_millis()).unwrap_or(u64::MAX);
        let claimed = self.call(Call::Claim { path: self.path.clone(), visibility_ms }).await;
        let (item, attempt, token) = match claimed {
            Ok(Answer::Claimed { item, attempt, token }) => (item, attempt, token),
            Ok(_) => return Err(mismatch()),
            Err(error) if is(&error, &CoordError::QueueEmpty) => return Ok(None),
            Err(error) => return Err(error),
        };
        match self.coordinator.read(Query::Item(self.path.clone(), item), false, false).await?.1 {
            Found::Item(body, _) => Ok(Some(ClaimedItem { item, body: body.to_vec(), attempt, token })),
            _ => Err(mismatch()),
        }
    }

    /// The item is done.
    pub async fn ack(&self, claimed: &ClaimedItem) -> Result<(), CommandError> {
        let ClaimedItem { item, token, .. } = *claimed;
        self.call(Call::Ack { path: self.path.clone(), item, token }).await.map(drop)
    }

    /// The item was not done: others may try.
    pub async fn nack(&self, claimed: &ClaimedItem) -> Result<(), CommandError> {
        let ClaimedItem { item, token, .. } = *claimed;
        self.call(Call::Nack { path: self.path.clone(), item, token }).await.map(drop)
    }

    /// How many items are ready and being worked on, and the numbers of those that were put aside.
    pub async fn state(&self) -> Result<(u32, u32, Vec<u64>), CommandError> {
        match self.coordinator.read(Query::Queue(self.path.clone()), true, false).await?.1 {
            Found::Queue { ready, claimed, dead } => Ok((ready, claimed, dead)),
            _ => Err(mismatch()),
        }
    }

    /// What an item holds, and how often it was claimed; `None` if there is no such item. It stays where it is.
    pub async fn item(&self, item: u64) -> Result<Option<(Vec<u8>, u32)>, CommandError> {
        match self.coordinator.read(Query::Item(self.path.clone(), item), true, false).await {
            Ok((_, Found::Item(body, attempts))) => Ok(Some((body.to_vec(), attempts))),
            Ok(_) => Err(mismatch()),
            Err(error) if is(&error, &CoordError::NoItem) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An item that was put aside goes back to its place.
    pub async fn revive(&self, item: u64) -> Result<(), CommandError> {
        self.call(Call::Revive { path: self.path.clone(), item }).await.map(drop)
    }

    /// Deletes an item that was put aside.
    pub async fn discard(&self, item: u64) -> Result<(), CommandError> {
        self.call(Call::Discard { path: self.path.clone(), item }).await.map(drop)
    }
}

impl From<CoordError> for CommandError {
    fn from(error: CoordError) -> Self {
        CommandError::Coord(CoordFailure::Coord(error))
    }
}
