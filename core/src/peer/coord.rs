//! The strong path for programs: [`Coordinator`], [`Lock`], [`Election`], [`Tree`], [`Queue`].
//!
//! ```no_run
//! use std::time::Duration;
//! # async fn f(space: foreshore::peer::Space) -> Result<(), Box<dyn std::error::Error>> {
//! let coordinator = space.coordinator().await?;
//! let lock = coordinator.lock("/cron").deadline(Duration::from_secs(5)).await?;
//! println!("{}", lock.token());                       // goes with every write that the lock is to protect
//! lock.run(async { /* … */ }).await?;                 // Err(Lost): the future was dropped, because the lock was
//! lock.release().await?;
//! # Ok(()) }
//! ```
//!
//! A [`Coordinator`] is one session with the space's voters, over whichever of them answers. What it holds it holds as long as
//! the session lives; [`Lock::lost`] says when to stop, at two thirds of the session's time without an acknowledged sign of
//! life, which is before anybody else can get it.
//!
//! A space needs voters for any of this: its creator is one, `foreshore voters` makes others. Without a majority of them every
//! call fails with [`CoordFailure::NoQuorum`] at its deadline, and nothing is guessed.

mod line;
mod lock;
mod queue;
mod recipes;
mod tree;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;

use super::client::Client;
use super::hub::{Mail, SessionBox};
use super::space::{Space, unexpected};
use crate::coord::claim::Kind;
use crate::coord::command::Command as Call;
use crate::coord::error::CoordError;
use crate::coord::path::NodePath;
use crate::coord::reply::Answer;
use crate::coord::serve::client::State;
use crate::coord::serve::talk::{Found, Query};
use crate::engine::{ClientId, Command, CommandError, CoordCommand, CoordReply, Reply};

pub(crate) use self::line::LineBox;
pub use self::line::{Line, MAX_LINE_BYTES};
pub use self::lock::{AcquireLock, Campaign, Election, Leadership, Lock, LockLost, Observer};
pub use self::queue::{ClaimedItem, Queue};
pub use self::recipes::{Barrier, Counter, DoubleBarrier, Group, Inside, Membership, Permit, Semaphore};
pub use self::tree::{CreateNode, NodeData, Tree};
pub use crate::coord::acl::{Acl, AclEntry, Identity, Perms};
pub use crate::coord::op::{Mode, Op, OpAnswer};
pub use crate::coord::serve::client::State as SessionState;
pub use crate::coord::serve::talk::{Holding, Leading};
pub use crate::coord::stat::{Life, Stat};
pub use crate::coord::token::FencingToken;
pub use crate::coord::watch::{EventKind, Watch};
pub use crate::engine::{CoordFailure, CoordStatus, Operation};

/// How long a session outlives its last sign of life where nothing else is said: long enough for a change of leader and of
/// voter, short enough that others do not wait long for who died.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10);

/// How long a call waits for its answer where nothing else is said.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);

/// How a session stands, and how often what it held had to be taken for lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionNow {
    pub(crate) state: State,
    pub(crate) lapses: u64,
}

/// A session with a space's voters. Cheap to clone; it is closed by [`Coordinator::close`], or when its last handle is
/// dropped, and what it holds is released then.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

struct Inner {
    client: Arc<Client>,
    id: ClientId,
    session: Arc<SessionBox>,
    patience: Duration,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.client.tell(Command::Coord(CoordCommand::Close { client: self.id }), Box::new(drop));
    }
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator").field("session", &self.inner.id).field("state", &self.state()).finish()
    }
}

/// A session to be awaited, from [`Space::coordinator`].
#[must_use = "a session is opened when it is awaited"]
#[derive(Debug, Clone)]
pub struct OpenCoordinator {
    space: Space,
    ttl: Duration,
    patience: Duration,
}

impl OpenCoordinator {
    /// How long the session outlives its last sign of life. Default [`DEFAULT_TTL`]; brought within 1 s and an hour.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long calls wait for an answer. Default [`DEFAULT_PATIENCE`].
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

/// A boxed future, `Send` where there are threads.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// A boxed future, `Send` where there are threads.
#[cfg(target_arch = "wasm32")]
pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;

impl IntoFuture for OpenCoordinator {
    type Output = Result<Coordinator, CommandError>;
    type IntoFuture = Boxed<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Space { client, id: space, .. } = &self.space;
            let open = CoordCommand::Open { space: *space, ttl: self.ttl };
            let id = match client.call(Command::Coord(open)).await? {
                Reply::Coord(CoordReply::Client(id)) => id,
                other => return Err(unexpected(&other)),
            };
            let session = client.hub.watch_session(id);
            let inner = Inner { client: client.clone(), id, session, patience: self.patience };
            Ok(Coordinator { inner: Arc::new(inner) })
        })
    }
}

impl Space {
    /// A session with this space's voters. It is given at once, and opened when a voter answers.
    pub fn coordinator(&self) -> OpenCoordinator {
        OpenCoordinator { space: self.clone(), ttl: DEFAULT_TTL, patience: DEFAULT_PATIENCE }
    }

    /// How the space's group of voters stands, as seen from this peer.
    pub async fn coordination(&self) -> Result<CoordStatus, CommandError> {
        self.coordination_status(true).await
    }

    /// [`Space::coordination`] without the digest of the state, which costs a walk over all of it.
    pub async fn coordination_at_a_glance(&self) -> Result<CoordStatus, CommandError> {
        self.coordination_status(false).await
    }

    async fn coordination_status(&self, hash: bool) -> Result<CoordStatus, CommandError> {
        match self.client.call(Command::Coord(CoordCommand::Status { space: self.id, hash })).await? {
            Reply::Coord(CoordReply::Status(status)) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    /// Changes the group of voters. Ask the peer that leads; others answer [`CoordFailure::NotLeader`] with who does. It is done
    /// when [`Space::coordination`] shows it.
    pub async fn change_voters(&self, operation: Operation) -> Result<(), CommandError> {
        let command = CoordCommand::Operate { space: self.id, operation };
        self.client.call(Command::Coord(command)).await.map(drop)
    }
}

impl Coordinator {
    /// How the session stands.
    pub fn state(&self) -> State {
        self.inner.session.now.borrow().state
    }

    /// Waits until the session stands differently than `seen`; how it stands then. Once it is over nothing changes any more,
    /// and this waits for ever.
    pub async fn changed(&self, seen: State) -> State {
        let mut now = self.inner.session.now.subscribe();
        if let Ok(now) = now.wait_for(|now| now.state != seen).await {
            return now.state;
        }
        std::future::pending().await
    }

    /// Waits until a voter serves the session. `Err`: it is over.
    pub async fn connected(&self) -> Result<(), CommandError> {
        let mut now = self.inner.session.now.subscribe();
        let seen = now.wait_for(|now| matches!(now.state, State::Connected | State::Lost)).await;
        match seen.map(|now| now.state) {
            Ok(State::Connected) => Ok(()),
            _ => Err(CoordFailure::Lost.into()),
        }
    }

    /// Waits until the session is over, or the peer is closed.
    pub async fn over(&self) {
        let mut now = self.inner.session.now.subscribe();
        // An error: the peer is closed.
        let _ = now.wait_for(|now| now.state == State::Lost).await;
    }

    /// For how long, from the moment of asking, what this session holds is certainly its own if nothing more is heard from the
    /// voters. Zero: it may be another's already. It grows again with each acknowledged sign of life; for whoever has to tell
    /// another process when to stop.
    pub async fn lease(&self) -> Result<Duration, CommandError> {
        match self.ask(CoordCommand::Lease { client: self.inner.id }).await? {
            CoordReply::Lease(left) => Ok(left),
            _ => Err(mismatch()),
        }
    }

    /// A lock to be awaited. It is exclusive and waits its turn for ever, unless it is told otherwise.
    pub fn lock(&self, path: impl Into<String>) -> AcquireLock {
        AcquireLock::new(self.clone(), path.into())
    }

    /// An election.
    pub fn election(&self, path: impl Into<String>) -> Election {
        Election::new(self.clone(), path.into())
    }

    /// The tree.
    pub fn tree(&self) -> Tree {
        Tree::new(self.clone())
    }

    /// A queue.
    pub fn queue(&self, path: impl Into<String>) -> Queue {
        Queue::new(self.clone(), path.into())
    }

    /// Who holds a lock, and how many wait for it; everything that was acknowledged to anyone before is in it.
    pub async fn holders(&self, path: impl Into<String>) -> Result<(Vec<Holding>, u32), CommandError> {
        match self.read(Query::Lock(path.into()), true, false).await?.1 {
            Found::Lock(holders, waiting) => Ok((holders, waiting)),
            _ => Err(mismatch()),
        }
    }

    /// Sets a watch that stays; what happens comes from [`Coordinator::events`].
    pub async fn watch(&self, watch: Watch, path: &str) -> Result<(), CommandError> {
        self.set_watch(watch, path, true).await
    }

    /// Takes back a watch that stays.
    pub async fn unwatch(&self, watch: Watch, path: &str) -> Result<(), CommandError> {
        self.set_watch(watch, path, false).await
    }

    async fn set_watch(&self, watch: Watch, path: &str, on: bool) -> Result<(), CommandError> {
        let path = NodePath::parse(path).map_err(|error| CoordFailure::Coord(error.into()))?;
        let wait = Some(self.inner.patience);
        self.ask(CoordCommand::Watch { client: self.inner.id, watch, path, on, wait }).await.map(drop)
    }

    /// What happens to what is watched, from now on: by [`Coordinator::watch`], and by reads that watch.
    pub fn events(&self) -> CoordinatorEvents {
        CoordinatorEvents { session: self.inner.client.hub.watch_session(self.inner.id), _keep: self.clone() }
    }

    /// Ends the session: what it holds is released when this returns, or its time is over.
    pub async fn close(&self) -> Result<(), CommandError> {
        self.ask(CoordCommand::Close { client: self.inner.id }).await.map(drop)
    }

    async fn ask(&self, command: CoordCommand) -> Result<CoordReply, CommandError> {
        match self.inner.client.call(Command::Coord(command)).await? {
            Reply::Coord(reply) => Ok(reply),
            other => Err(unexpected(&other)),
        }
    }

    /// Has something done; the entry, and the outcome.
    pub(crate) async fn call(&self, command: Call, wait: Option<Duration>) -> Result<(u64, Answer), CommandError> {
        match self.ask(CoordCommand::Call { client: self.inner.id, command, wait }).await? {
            CoordReply::Answer { zxid, answer } => Ok((zxid, answer)),
            _ => Err(mismatch()),
        }
    }

    /// Asks for a grant. One that comes and is not taken, since whoever asked has given up meanwhile, is given back.
    pub(crate) async fn acquire(
        &self,
        kind: Kind,
        path: &str,
        command: Call,
        wait: Option<Duration>,
    ) -> Result<FencingToken, CommandError> {
        let (coordinator, path) = (self.clone(), path.to_owned());
        let unclaimed = move |reply| {
            if let Reply::Coord(CoordReply::Answer { answer: Answer::Granted(token), .. }) = reply {
                coordinator.post(Call::Release { kind, path, token });
            }
        };
        let command = CoordCommand::Call { client: self.inner.id, command, wait };
        match self.inner.client.call_or(Command::Coord(command), unclaimed).await? {
            Reply::Coord(CoordReply::Answer { answer: Answer::Granted(token), .. }) => Ok(token),
            Reply::Coord(_) => Err(mismatch()),
            other => Err(unexpected(&other)),
        }
    }

    /// Has something done that nobody waits for, however long that takes: a lock that is let go of while there is no quorum
    /// is not held on to when there is one again.
    pub(crate) fn post(&self, command: Call) {
        let command = CoordCommand::Call { client: self.inner.id, command, wait: None };
        self.inner.client.tell(Command::Coord(command), Box::new(drop));
    }

    pub(crate) async fn read(&self, query: Query, linear: bool, watch: bool) -> Result<(u64, Found), CommandError> {
        let wait = Some(self.inner.patience);
        match self.ask(CoordCommand::Read { client: self.inner.id, query, linear, watch, wait }).await? {
            CoordReply::Found { zxid, found } => Ok((zxid, found)),
            _ => Err(mismatch()),
        }
    }

    pub(crate) fn patience(&self) -> Duration {
        self.inner.patience
    }

    pub(crate) fn now(&self) -> watch::Receiver<SessionNow> {
        self.inner.session.now.subscribe()
    }
}

/// An answer of another kind than what was asked for.
pub(crate) fn mismatch() -> CommandError {
    CommandError::Invalid { what: "answer", why: "it is not of the kind that was asked for".into() }
}

/// Whether a failure is this answer of the group.
pub(crate) fn is(error: &CommandError, wanted: &CoordError) -> bool {
    matches!(error, CommandError::Coord(CoordFailure::Coord(found)) if found == wanted)
}

/// Something that happened to what a session watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEvent {
    /// The entry that did it.
    pub zxid: u64,
    /// What.
    pub kind: EventKind,
    /// Where.
    pub path: String,
}

/// Events of a session, from [`Coordinator::events`]. It keeps the session alive.
pub struct CoordinatorEvents {
    session: Arc<SessionBox>,
    _keep: Coordinator,
}

impl fmt::Debug for CoordinatorEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoordinatorEvents").finish_non_exhaustive()
    }
}

impl CoordinatorEvents {
    /// The next event. `None`: the peer is closed. Where more than
    /// [`MAX_WAITING_EVENTS`](super::MAX_WAITING_EVENTS) waited, they are gone, and [`EventKind::Resync`] of the root is the
    /// next one.
    pub async fn next(&mut self) -> Option<NodeEvent> {
        std::future::poll_fn(|cx| self.poll_next_event(cx)).await
    }

    fn poll_next_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<NodeEvent>> {
        self.session.mail.poll_mail(cx).map(|mail| {
            mail.map(|mail| match mail {
                Mail::Item(event) => event,
                Mail::Missed(_) => NodeEvent { zxid: 0, kind: EventKind::Resync, path: "/".into() },
            })
        })
    }
}

impl futures::Stream for CoordinatorEvents {
    type Item = NodeEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<NodeEvent>> {
        self.poll_next_event(cx)
    }
}
