//! Locks and elections.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::time::Duration;

use futures::future::{Either, select};
use tokio::sync::watch;

use super::recipes::Look;
use super::{Boxed, Coordinator, FencingToken, Leading, SessionNow, is, mismatch};
use crate::coord::claim::{Kind, Share, Wait};
use crate::coord::command::Command as Call;
use crate::coord::error::CoordError;
use crate::coord::serve::client::State;
use crate::coord::serve::talk::{Found, Query};
use crate::coord::watch::Watch;
use crate::engine::CommandError;

/// The lock was lost: the session lapsed or ended while it was held. Whoever has it now has a greater token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lock was lost: this program may not act in its name any more")]
pub struct LockLost;

/// A lock to be awaited, from [`Coordinator::lock`]. Dropping the future takes the wish back, and gives back a grant that
/// crosses it.
#[must_use = "a lock is asked for when it is awaited"]
#[derive(Debug, Clone)]
pub struct AcquireLock {
    coordinator: Coordinator,
    path: String,
    share: Share,
    wait: Wait,
    delay: Duration,
}

impl AcquireLock {
    pub(super) fn new(coordinator: Coordinator, path: String) -> Self {
        Self { coordinator, path, share: Share::Exclusive, wait: Wait::Forever, delay: Duration::ZERO }
    }

    /// With others that share it.
    pub fn shared(mut self) -> Self {
        self.share = Share::Shared;
        self
    }

    /// Waits at most so long, by the clock of the voter that leads.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.wait = Wait::Deadline(millis(deadline));
        self
    }

    /// Does not wait: it is had at once, or [`CoordError::NotAvailable`](crate::coord::CoordError::NotAvailable).
    pub fn try_once(mut self) -> Self {
        self.wait = Wait::Try;
        self
    }

    /// If this session expires while it holds the lock, nobody gets it for so long: time for what the holder had under way to
    /// end. At most a minute.
    pub fn lock_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl IntoFuture for AcquireLock {
    type Output = Result<Lock, CommandError>;
    type IntoFuture = Boxed<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let held =
                Held::ask(self.coordinator, Kind::Lock, self.path, self.share, self.wait, self.delay, Vec::new());
            Ok(Lock { held: held.await? })
        })
    }
}

/// A grant, as a lock and a leadership share it.
struct Held {
    coordinator: Coordinator,
    kind: Kind,
    path: String,
    token: FencingToken,
    now: watch::Receiver<SessionNow>,
    /// How often the session had lapsed when it was asked for.
    lapses: u64,
    released: bool,
}

impl Held {
    async fn ask(
        coordinator: Coordinator,
        kind: Kind,
        path: String,
        share: Share,
        wait: Wait,
        delay: Duration,
        value: Vec<u8>,
    ) -> Result<Self, CommandError> {
        let now = coordinator.now();
        let lapses = now.borrow().lapses;
        let command =
            Call::Acquire { kind, path: path.clone(), share, wait, delay_ms: millis(delay), value: value.into() };
        // A deadline is counted by the leader; beyond it no leader answers at all.
        let patience = match wait {
            Wait::Try => Some(coordinator.patience()),
            Wait::Deadline(ms) => Some(Duration::from_millis(ms) + coordinator.patience()),
            Wait::Forever => None,
        };
        let token = coordinator.acquire(kind, &path, command, patience).await?;
        Ok(Self { coordinator, kind, path, token, now, lapses, released: false })
    }

    fn is_lost(&self) -> bool {
        let now = self.now.borrow();
        now.state == State::Lost || now.lapses != self.lapses
    }

    /// Does not keep the grant.
    fn loss(&self) -> Boxed<()> {
        let (mut now, lapses) = (self.now.clone(), self.lapses);
        Box::pin(async move {
            // An error: the peer is closed, and with it the session.
            let _ = now.wait_for(|now| now.state == State::Lost || now.lapses != lapses).await;
        })
    }

    async fn run<F: Future>(&self, work: F) -> Result<F::Output, LockLost> {
        if self.is_lost() {
            return Err(LockLost);
        }
        match select(std::pin::pin!(work), self.loss()).await {
            Either::Left((done, _)) => Ok(done),
            Either::Right(((), _)) => Err(LockLost),
        }
    }

    fn release_call(&self) -> Call {
        Call::Release { kind: self.kind, path: self.path.clone(), token: self.token }
    }

    /// Where it fails, or the future is dropped, dropping this says it again: a release that was done already is refused by its
    /// token.
    async fn release(mut self) -> Result<(), CommandError> {
        let wait = Some(self.coordinator.patience());
        let released = self.coordinator.call(self.release_call(), wait).await.map(drop);
        self.released = match &released {
            Ok(()) | Err(CommandError::Closed) => true,
            Err(error) => is(error, &CoordError::NotHeld),
        };
        released
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.released {
            self.coordinator.post(self.release_call());
        }
    }
}

/// A lock that is held. Dropping it gives it back, without waiting for that.
#[must_use = "a lock is given back when it is dropped"]
pub struct Lock {
    held: Held,
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("path", &self.held.path).field("token", &self.held.token).finish()
    }
}

impl Lock {
    /// The fencing token: greater than that of every holder before. Whatever the lock protects is to refuse a lesser token
    /// than one it has seen.
    pub fn token(&self) -> FencingToken {
        self.held.token
    }

    /// Whether it was lost.
    pub fn is_lost(&self) -> bool {
        self.held.is_lost()
    }

    /// Waits until it is lost: from then on nothing may be done in its name.
    pub async fn lost(&self) {
        self.held.loss().await;
    }

    /// [`Lock::lost`] apart from the lock, for whoever keeps the lock elsewhere. It ends with the session, too.
    pub fn loss(&self) -> impl Future<Output = ()> + Unpin + use<> {
        self.held.loss()
    }

    /// Runs work as long as the lock is held. `Err`: it was lost, and the work dropped where it stood.
    pub async fn run<F: Future>(&self, work: F) -> Result<F::Output, LockLost> {
        self.held.run(work).await
    }

    /// Gives it back, and waits until that is done. Where it cannot be done now it is done as soon as there is a quorum again,
    /// or with the session's end.
    pub async fn release(self) -> Result<(), CommandError> {
        self.held.release().await
    }
}

/// An election, from [`Coordinator::election`].
#[derive(Debug, Clone)]
pub struct Election {
    coordinator: Coordinator,
    path: String,
}

impl Election {
    pub(super) fn new(coordinator: Coordinator, path: String) -> Self {
        Self { coordinator, path }
    }

    /// Stands for election, to be awaited: it is answered when this session leads. `value` is what others learn of the leader.
    pub fn campaign(&self, value: impl Into<Vec<u8>>) -> Campaign {
        Campaign { election: self.clone(), value: value.into(), wait: Wait::Forever }
    }

    /// Who leads, from now on.
    pub async fn observe(&self) -> Result<Observer, CommandError> {
        let look = Look::new(&self.coordinator);
        // It stays for as long as the session: another observer of it may need it.
        self.coordinator.watch(Watch::Leader, &self.path).await?;
        Ok(Observer { election: self.clone(), look, told: None })
    }

    /// Who leads now; everything that was acknowledged to anyone before is in it.
    pub async fn leader(&self) -> Result<Option<Leading>, CommandError> {
        match self.coordinator.read(Query::Leader(self.path.clone()), true, false).await?.1 {
            Found::Leader(leader) => Ok(leader),
            _ => Err(mismatch()),
        }
    }
}

/// An election as others see it, from [`Election::observe`].
pub struct Observer {
    election: Election,
    look: Look,
    told: Option<Option<Leading>>,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("path", &self.election.path).field("told", &self.told).finish()
    }
}

impl Observer {
    /// Who leads: at once the first time, then whenever it is somebody else, nobody, or the leader says something else of
    /// itself. Changes that follow each other closely may be one.
    ///
    /// # Errors
    /// [`CoordFailure::Lost`](crate::engine::CoordFailure::Lost): the session is over.
    pub async fn next(&mut self) -> Result<Option<Leading>, CommandError> {
        loop {
            let leader = self.election.leader().await?;
            if self.told.as_ref() != Some(&leader) {
                self.told = Some(leader.clone());
                return Ok(leader);
            }
            self.look.again().await?;
        }
    }
}

/// A candidacy to be awaited. Dropping it withdraws.
#[must_use = "a candidacy begins when it is awaited"]
#[derive(Debug, Clone)]
pub struct Campaign {
    election: Election,
    value: Vec<u8>,
    wait: Wait,
}

impl Campaign {
    /// Stands at most so long.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.wait = Wait::Deadline(millis(deadline));
        self
    }
}

impl IntoFuture for Campaign {
    type Output = Result<Leadership, CommandError>;
    type IntoFuture = Boxed<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Election { coordinator, path } = self.election;
            let share = Share::Exclusive;
            let held = Held::ask(coordinator, Kind::Election, path, share, self.wait, Duration::ZERO, self.value);
            Ok(Leadership { held: held.await? })
        })
    }
}

/// A leadership. Dropping it resigns, without waiting for that.
#[must_use = "a leadership is resigned when it is dropped"]
pub struct Leadership {
    held: Held,
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership").field("path", &self.held.path).field("token", &self.held.token).finish()
    }
}

impl Leadership {
    /// The fencing token: greater than that of every leader before.
    pub fn token(&self) -> FencingToken {
        self.held.token
    }

    /// Whether it was lost.
    pub fn is_lost(&self) -> bool {
        self.held.is_lost()
    }

    /// Waits until it is lost: from then on nothing may be done in its name.
    pub async fn lost(&self) {
        self.held.loss().await;
    }

    /// [`Leadership::lost`] apart from the leadership, for whoever keeps that elsewhere. It ends with the session, too.
    pub fn loss(&self) -> impl Future<Output = ()> + Unpin + use<> {
        self.held.loss()
    }

    /// Leads as long as the leadership lasts. `Err`: it was lost, and the work dropped where it stood.
    pub async fn run<F: Future>(&self, work: F) -> Result<F::Output, LockLost> {
        self.held.run(work).await
    }

    /// Replaces what others learn of this leader.
    pub async fn proclaim(&self, value: impl Into<Vec<u8>>) -> Result<(), CommandError> {
        let Held { coordinator, path, token, .. } = &self.held;
        let call = Call::Proclaim { path: path.clone(), token: *token, value: value.into().into() };
        coordinator.call(call, Some(coordinator.patience())).await.map(drop)
    }

    /// Resigns, and waits until that is done.
    pub async fn resign(self) -> Result<(), CommandError> {
        self.held.release().await
    }
}
