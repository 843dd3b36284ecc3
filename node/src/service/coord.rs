//! The strong path: locks, elections, the tree, queues, voters.
//!
//! Short requests of commands share one session a space, which lives as long as the peer. What is held for as long as a command
//! runs (`hold`), and what is watched, has a session of its own, which ends with the command.

mod hold;
mod queue;
mod tree;
mod voters;

use std::collections::BTreeMap;
use std::time::Duration;

use foreshore::coord::CoordError;
use foreshore::coord::serve::client::State;
use foreshore::coord::watch::Watch;
use foreshore::engine::CoordFailure;
use foreshore::id::SpaceId;
use foreshore::peer::coord::{Coordinator, Leading};
use foreshore::peer::{CommandError, peer_text};
use tokio::sync::Mutex;

pub(super) use self::hold::LockWish;
use super::{Service, give, refused};
use crate::control::Items;
use crate::failure::{Code, Failure};
use crate::request::{Holder, LeaderLine, LockLine};

/// The sessions that short requests share.
pub(super) type Sessions = Mutex<BTreeMap<SpaceId, Coordinator>>;

/// Between looks at an election while no majority answers.
const RETRY: Duration = Duration::from_secs(1);

impl Service {
    /// The session of short requests in a space.
    async fn shared_session(&self, space: &str) -> Result<Coordinator, Failure> {
        let space = self.space(space).await?;
        let mut sessions = self.shared.sessions.lock().await;
        if let Some(session) = sessions.get(&space.id()).filter(|session| session.state() != State::Lost) {
            return Ok(session.clone());
        }
        let session = space.coordinator().await.map_err(refused)?;
        sessions.insert(space.id(), session.clone());
        Ok(session)
    }

    /// A session of a command's own.
    pub(crate) async fn own_session(&self, space: &str, ttl: Option<Duration>) -> Result<Coordinator, Failure> {
        let open = self.space(space).await?.coordinator();
        let open = match ttl {
            Some(ttl) => open.ttl(ttl),
            None => open,
        };
        open.await.map_err(refused)
    }

    /// Waits until the peer is told to stop: whoever only looks on ends then, so that nobody waits for it.
    pub(crate) async fn until_stopping(&self) {
        let mut stopping = self.shared.stopping.subscribe();
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    pub(super) async fn lock_holders(&self, space: &str, path: &str) -> Result<LockLine, Failure> {
        let session = self.shared_session(space).await?;
        let (holders, waiting) = session.holders(path).await.map_err(refused)?;
        let holders = holders.iter().map(|holding| Holder {
            session: holding.session.to_string(),
            shared: holding.share == foreshore::coord::claim::Share::Shared,
            token: holding.token.as_u64(),
        });
        Ok(LockLine { path: path.into(), holders: holders.collect(), waiting })
    }

    /// Who leads an election now.
    pub(crate) async fn leader(&self, space: &str, path: &str) -> Result<LeaderLine, Failure> {
        let leader = self.shared_session(space).await?.election(path).leader().await.map_err(refused)?;
        Ok(leader_line(path, leader))
    }

    pub(super) async fn observe(
        &self,
        space: &str,
        path: &str,
        count: Option<u64>,
        items: &Items,
    ) -> Result<(), Failure> {
        let session = self.own_session(space, None).await?;
        let mut events = session.events();
        session.watch(Watch::Leader, path).await.map_err(refused)?;
        let election = session.election(path);
        let (mut left, mut shown) = (count.unwrap_or(u64::MAX), None);
        while left > 0 {
            let line = match election.leader().await {
                Ok(leader) => leader_line(path, leader),
                Err(CommandError::Coord(CoordFailure::NoQuorum)) => unknown_leader(path),
                Err(error) => return Err(refused(error)),
            };
            let known = line.known;
            if shown.as_ref() != Some(&line) {
                give(items, &line).await?;
                shown = Some(line);
                left -= 1;
            }
            if left == 0 {
                break;
            }
            tokio::select! {
                event = events.next(), if known => if event.is_none() {
                    return Err(stopped());
                },
                () = tokio::time::sleep(RETRY), if !known => {}
                () = session.over() => return Err(session_over()),
                () = self.until_stopping() => return Err(stopped()),
            }
        }
        Ok(())
    }
}

fn leader_line(path: &str, leader: Option<Leading>) -> LeaderLine {
    LeaderLine {
        path: path.into(),
        known: true,
        session: leader.as_ref().map(|leading| leading.session.to_string()),
        token: leader.as_ref().map(|leading| leading.token.as_u64()),
        value: leader.map(|leading| leading.value.to_vec().into()),
    }
}

fn unknown_leader(path: &str) -> LeaderLine {
    LeaderLine { path: path.into(), known: false, session: None, token: None, value: None }
}

fn stopped() -> Failure {
    Failure::new(Code::Interrupted, "the peer stopped")
}

fn session_over() -> Failure {
    Failure::new(Code::Failed, CoordFailure::Lost).hint("no majority of the voters was reached for too long: ask again")
}

/// A refusal of the strong path, sorted into the codes that shells see.
pub(super) fn refused_coord(failure: &CoordFailure) -> Failure {
    let (code, hint) = match failure {
        CoordFailure::Coord(error) => return refused_by_group(error),
        CoordFailure::NoQuorum => {
            return Failure::new(Code::Timeout, failure)
                .hint("`foreshore voters` shows who votes and who leads, as far as this peer knows")
                .reason("no_quorum");
        }
        CoordFailure::Unknown => (Code::Unknown, "look whether it was done before you ask again"),
        CoordFailure::TooLarge => {
            return Failure::new(Code::Invalid, failure)
                .hint("a node holds at most 1 MiB, an item of a queue 256 KiB")
                .reason("too_large");
        }
        CoordFailure::NotServing => (Code::Failed, "ask a peer that votes; a voter that leads makes this one a voter"),
        CoordFailure::NotLeader { leader: Some(leader) } => {
            let message = format_args!("another voter leads: {}", peer_text(leader)).to_string();
            return Failure::new(Code::Failed, message)
                .hint("ask there, or have it hand over with `foreshore voters transfer`");
        }
        CoordFailure::NotLeader { leader: None } => {
            return Failure::new(Code::Timeout, "no voter leads at the moment")
                .hint("a majority of the voters has to be running and connected")
                .reason("no_quorum");
        }
        CoordFailure::ChangeLater(_) => (Code::Timeout, "ask again in a moment"),
        CoordFailure::NotAVoter => (
            Code::Failed,
            "`foreshore invite --role voter` makes an invitation for it; it has to be connected to this peer",
        ),
        CoordFailure::NotAMember => (Code::NotFound, "`foreshore voters` lists the members"),
        _ => return Failure::new(Code::Failed, failure),
    };
    Failure::new(code, failure).hint(hint)
}

fn refused_by_group(error: &CoordError) -> Failure {
    let code = match error {
        CoordError::NoNode | CoordError::NoItem | CoordError::QueueEmpty => Code::NotFound,
        CoordError::BadPath(_)
        | CoordError::BadArguments { .. }
        | CoordError::InvalidAcl
        | CoordError::TooLarge { .. } => Code::Invalid,
        CoordError::NoAuth => Code::Denied,
        CoordError::DeadlinePassed => Code::Timeout,
        CoordError::NodeExists
        | CoordError::BadVersion { .. }
        | CoordError::NotEmpty
        | CoordError::NoChildrenForEphemerals
        | CoordError::NotAvailable
        | CoordError::NotHeld
        | CoordError::WrongToken { .. } => Code::Conflict,
        CoordError::Multi { error, .. } => return refused_by_group(error),
        _ => Code::Failed,
    };
    let failure = Failure::new(code, error).hint(error.hint());
    match error {
        CoordError::TooLarge { .. } => failure.reason("too_large"),
        CoordError::BadVersion { .. } => failure.reason("other_version"),
        CoordError::NodeExists => failure.reason("exists"),
        CoordError::NotEmpty => failure.reason("has_children"),
        CoordError::NotAvailable => failure.reason("taken"),
        CoordError::DeadlinePassed => failure.reason("still_taken"),
        CoordError::NotHeld | CoordError::WrongToken { .. } => failure.reason("not_held"),
        _ => failure,
    }
}
