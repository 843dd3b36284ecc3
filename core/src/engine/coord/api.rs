//! What programs ask of the strong path, and what they are told.

use std::time::Duration;

use thiserror::Error;

use super::RoleNow;
use crate::coord::command::Command as Request;
use crate::coord::error::CoordError;
use crate::coord::path::NodePath;
use crate::coord::raft::group::ChangeError;
use crate::coord::reply::Answer;
use crate::coord::serve::client::{CallError, CallRefused, ReadError, State};
use crate::coord::serve::talk::{Ask, Found, Query, Refusal, Tell};
use crate::coord::session::SessionId;
use crate::coord::watch::{EventKind, Watch};
use crate::id::{PeerId, SpaceId};

/// The largest state that a [`CoordStatus`] hashes. A hash reads all of it, and nothing else happens meanwhile: 32 MiB are
/// tens of milliseconds.
pub const MAX_DIGEST_BYTES: usize = 32 << 20;

/// A program's session, as this engine knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// A line between a door of this peer and a voter; see [`CoordCommand::OpenLine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineId(pub u64);

/// What a program asks of the strong path.
#[derive(Debug)]
#[non_exhaustive]
pub enum CoordCommand {
    /// Serves the groups that this store votes in, from now on. → [`CoordReply::Done`].
    Start,
    /// A session. → [`CoordReply::Client`], at once; how it stands is told by [`CoordEvent::State`].
    Open {
        /// The space.
        space: SpaceId,
        /// How long it outlives its last sign of life.
        ttl: Duration,
    },
    /// A request of a session. → [`CoordReply::Answer`] with its outcome, not that it waits.
    Call {
        /// The session.
        client: ClientId,
        /// What.
        command: Request,
        /// How long to wait for the outcome; `None`: until [`Command::Cancel`](crate::engine::Command::Cancel).
        wait: Option<Duration>,
    },
    /// A read. → [`CoordReply::Found`].
    Read {
        /// The session.
        client: ClientId,
        /// What.
        query: Query,
        /// Whether it sees everything that was acknowledged to anyone.
        linear: bool,
        /// Whether a one-shot watch is set with it.
        watch: bool,
        /// How long to wait for it.
        wait: Option<Duration>,
    },
    /// A watch that stays, or one less. → [`CoordReply::Found`].
    Watch {
        /// The session.
        client: ClientId,
        /// What is watched.
        watch: Watch,
        /// Where.
        path: NodePath,
        /// Set or taken back.
        on: bool,
        /// How long to wait for it.
        wait: Option<Duration>,
    },
    /// Ends a session: what it holds is released. → [`CoordReply::Done`] when that is so, or its time is over.
    Close {
        /// The session.
        client: ClientId,
    },
    /// For how long from now on a session's holdings are certainly still its own. → [`CoordReply::Lease`].
    Lease {
        /// The session.
        client: ClientId,
    },
    /// A line to one voter, for a door that speaks for clients of its own: to this store's if it has one, else to one that
    /// is linked. → [`CoordReply::Line`]; what the voter says comes as [`CoordEvent::Line`].
    OpenLine {
        /// The space.
        space: SpaceId,
    },
    /// Says something over a line, in order. → [`CoordReply::Done`] when it is on its way.
    Say {
        /// The line.
        line: LineId,
        /// What.
        asks: Vec<Ask>,
    },
    /// Ends a line. Its session lives on for its time. → [`CoordReply::Done`].
    EndLine {
        /// The line.
        line: LineId,
    },
    /// How a space's group stands, as seen from here. → [`CoordReply::Status`].
    Status {
        /// The space.
        space: SpaceId,
        /// Whether the state is hashed for it, which reads all of it.
        hash: bool,
    },
    /// A change of the group, by the voter that leads (but [`Operation::Rebuild`]). → [`CoordReply::Done`] when it is proposed.
    Operate {
        /// The space.
        space: SpaceId,
        /// What.
        operation: Operation,
    },
}

/// A change of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A linked peer whose device may vote receives the log from now on.
    Add(PeerId),
    /// One that receives votes.
    Promote(PeerId),
    /// One leaves.
    Remove(PeerId),
    /// One that receives takes a voter's place in one step.
    Replace {
        /// The voter that leaves.
        voter: PeerId,
        /// Who takes its place.
        newcomer: PeerId,
    },
    /// Another voter leads.
    Transfer(PeerId),
    /// Another voter leads: whichever is best placed.
    HandOver,
    /// A majority is gone for good: the group begins anew with this store as its only voter, under the next generation.
    /// Everything that this replica holds counts as agreed on. The others have to be gone: what they agree on by themselves is
    /// lost. Refused where a leader is known.
    Rebuild,
}

/// The answer to a [`CoordCommand`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CoordReply {
    /// Nothing but success.
    Done,
    /// A session.
    Client(ClientId),
    /// What a request came to, and at which entry.
    Answer {
        /// The entry; 0 if that is not known any more.
        zxid: u64,
        /// The outcome.
        answer: Answer,
    },
    /// What was read, and of which state.
    Found {
        /// The newest entry in it.
        zxid: u64,
        /// What.
        found: Found,
    },
    /// How long what a session holds is its own, nothing more being heard; zero if it may be another's already.
    Lease(Duration),
    /// A line.
    Line {
        /// Its name.
        line: LineId,
        /// Whom it speaks to.
        voter: PeerId,
    },
    /// How the group stands.
    Status(Box<CoordStatus>),
}

/// How a space's group stands, as seen from a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoordStatus {
    /// Whether this store has a replica.
    pub serves: bool,
    /// Whether it leads.
    pub leads: bool,
    /// The term.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<PeerId>,
    /// Who votes.
    pub voters: Vec<PeerId>,
    /// Who only receives.
    pub learners: Vec<PeerId>,
    /// The newest entry that was applied here.
    pub applied: u64,
    /// The newest entry that is known to be committed.
    pub committed: u64,
    /// The newest entry of the log here, committed or not.
    pub last: u64,
    /// The newest entry that each member is known to have. Only the one that leads knows; elsewhere it is empty.
    pub progress: Vec<(PeerId, u64)>,
    /// Entries that this replica appended as the leader, since it was opened.
    pub proposals: u64,
    /// Open sessions.
    pub sessions: u64,
    /// Nodes of the tree.
    pub nodes: u64,
    /// Of these, nodes that end with a session.
    pub ephemerals: u64,
    /// What nodes of the tree count for, in bytes.
    pub tree_bytes: u64,
    /// Watches of clients of this replica, the paths that are watched, and the clients that watch.
    pub watches: (u64, u64, u64),
    /// BLAKE3 of the state, hexadecimal: equal on every replica at an equal index. Empty where nodes and items of queues hold
    /// more than [`MAX_DIGEST_BYTES`], and where it was not asked for.
    pub digest: String,
    /// 1 when the group was founded, one more each time it was rebuilt.
    pub generation: u64,
    /// Why the store's replica is not served, if it is not.
    pub broken: Option<String>,
}

/// What programs are told of the strong path.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CoordEvent {
    /// A session stands differently.
    State {
        /// Which.
        client: ClientId,
        /// How.
        state: State,
        /// Its name, once it is open.
        session: Option<SessionId>,
    },
    /// The voter at the other end of a line says something.
    Line {
        /// Which.
        line: LineId,
        /// What; `None`: the line has ended, and what was said last may be lost.
        tell: Option<Box<Tell>>,
    },
    /// Something that a session watches happened.
    Changed {
        /// Which.
        client: ClientId,
        /// At which entry.
        zxid: u64,
        /// What.
        kind: EventKind,
        /// Where.
        path: NodePath,
    },
    /// The part of this store's replica changed.
    Role {
        /// The space.
        space: SpaceId,
        /// What it is now.
        role: RoleNow,
    },
    /// The group's members changed.
    Voters {
        /// The space.
        space: SpaceId,
    },
    /// This store's replica does not serve: its log cannot be read, or its disk failed.
    VoterRefused {
        /// The space.
        space: SpaceId,
        /// Why, and what to do.
        why: String,
    },
}

/// Why the strong path did not do something.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CoordFailure {
    /// The group says no.
    #[error("{0}: {hint}", hint = .0.hint())]
    Coord(CoordError),
    /// No majority answered in time, or the space has no voters. Nothing was done.
    #[error("no quorum answers: nothing was done; a majority of the space's voters has to be reachable")]
    NoQuorum,
    /// It was sent, and no answer came: it was done, or it was not.
    #[error("the outcome is unknown: it was sent, and no answer came")]
    Unknown,
    /// The session is over, and with it everything that it held.
    #[error("the session is over: open another; what it held is gone")]
    Lost,
    /// Too much waits.
    #[error("too much waits already: try again later")]
    Busy,
    /// It does not fit into a frame.
    #[error("it is too large")]
    TooLarge,
    /// No session or line of this name.
    #[error("no such session or line")]
    UnknownClient,
    /// This store has no replica of the group.
    #[error("this peer does not vote in the space's group")]
    NotServing,
    /// Another voter leads; ask there.
    #[error("another voter leads: ask it")]
    NotLeader {
        /// Who, as far as is known.
        leader: Option<PeerId>,
    },
    /// The group does not take the change.
    #[error("{0}")]
    Change(String),
    /// The group does not take the change now: another is under way, a learner lags, or too much waits. Ask again.
    #[error("{0}")]
    ChangeLater(String),
    /// The peer is not linked, or its device holds no grant to vote in this space.
    #[error("that peer is not connected, or its device may not vote here: invite it as a voter")]
    NotAVoter,
    /// The peer never votes, whatever it was granted: it is a browser's, or set so.
    #[error("that peer never votes: a browser's storage may be rolled back unseen; make a native peer a voter")]
    CannotVote,
    /// No member of the group has this peer.
    #[error("that peer is no member of the group")]
    NotAMember,
}

impl CoordFailure {
    pub(super) fn from_change(error: ChangeError) -> Self {
        match error {
            ChangeError::Pending | ChangeError::Behind { .. } | ChangeError::Busy => {
                CoordFailure::ChangeLater(error.to_string())
            }
            error => CoordFailure::Change(error.to_string()),
        }
    }
}

impl From<CallError> for CoordFailure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent => CoordFailure::NoQuorum,
            CallError::Unknown => CoordFailure::Unknown,
            CallError::Busy => CoordFailure::Busy,
            CallError::TooLarge => CoordFailure::TooLarge,
            CallError::Lost => CoordFailure::Lost,
        }
    }
}

impl From<CallRefused> for CoordFailure {
    fn from(error: CallRefused) -> Self {
        match error {
            CallRefused::Coord(error) => CoordFailure::Coord(error),
            CallRefused::Call(error) => error.into(),
        }
    }
}

impl From<ReadError> for CoordFailure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Coord(error) => CoordFailure::Coord(error),
            ReadError::Refused(Refusal::Busy) => CoordFailure::Busy,
            ReadError::Refused(Refusal::TooLarge) => CoordFailure::TooLarge,
            ReadError::Refused(_) => CoordFailure::NoQuorum,
            ReadError::Lost => CoordFailure::Lost,
        }
    }
}
