//! The group of voters: how it stands, and its changes.

use std::time::Duration;

use foreshore::engine::{CoordFailure, CoordStatus, Operation};
use foreshore::peer::{CommandError, PeerId, Space, peer_text};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::super::{Service, refused};
use crate::failure::{Code, Failure};
use crate::request::{Strong, VoterChange, Voting};

/// How long a change may take: a newcomer has to be linked, get a snapshot and catch up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a newcomer may take to answer before it is asked again.
const ANSWER: Duration = Duration::from_secs(5);

/// Between looks at how the group stands.
const LOOK: Duration = Duration::from_millis(50);

/// How often a leader that stops asks somebody else to lead.
const ASK: Duration = Duration::from_millis(1_200);

/// The shortest end of a peer's id that stands for it.
const LEAST_END: usize = 3;

impl Service {
    pub(in crate::service) async fn voters(&self, space: &str) -> Result<Strong, Failure> {
        let space = self.space(space).await?;
        self.strong(&space).await
    }

    /// How a space's group stands.
    pub(in crate::service) async fn strong(&self, space: &Space) -> Result<Strong, Failure> {
        let status = space.coordination().await.map_err(refused)?;
        Ok(strong(status, self.shared.peer.peer_id()))
    }

    /// Has every group that this peer leads led by another voter, if there is one that can: so that nobody has to notice that
    /// this one is gone.
    pub(crate) async fn hand_over(&self, bound: Duration) {
        let spaces = self.shared.peer.spaces().await.unwrap_or_default();
        let handed = futures::future::join_all(spaces.iter().map(|info| async {
            if let Ok(Some(space)) = self.shared.peer.space(info.id).await {
                hand_over(&space).await;
            }
        }));
        if timeout(bound, handed).await.is_err() {
            tracing::warn!("no other voter took the lead in time");
        }
    }

    pub(in crate::service) async fn change_voters(&self, space: &str, change: VoterChange) -> Result<Strong, Failure> {
        let space = self.space(space).await?;
        let known = self.known(&space).await?;
        let find = |text: &str| find(&known, text);
        match change {
            VoterChange::Add { peer, learner } => {
                let peer = find(&peer)?;
                let is_member = |status: &CoordStatus| status.voters.contains(&peer) || status.learners.contains(&peer);
                operate(&space, Operation::Add(peer), is_member).await?;
                if !learner {
                    operate(&space, Operation::Promote(peer), |status| status.voters.contains(&peer)).await?;
                }
            }
            VoterChange::Promote { peer } => {
                let peer = find(&peer)?;
                operate(&space, Operation::Promote(peer), |status| status.voters.contains(&peer)).await?;
            }
            VoterChange::Remove { peer } => {
                let peer = find(&peer)?;
                let is_gone = |status: &CoordStatus| !status.voters.contains(&peer) && !status.learners.contains(&peer);
                let status = space.coordination().await.map_err(refused)?;
                if status.leads && is_gone(&status) {
                    return Err(refused(CoordFailure::NotAMember.into()));
                }
                operate(&space, Operation::Remove(peer), is_gone).await?;
            }
            VoterChange::Replace { voter, newcomer } => {
                let (voter, newcomer) = (find(&voter)?, find(&newcomer)?);
                let replaced =
                    |status: &CoordStatus| !status.voters.contains(&voter) && status.voters.contains(&newcomer);
                operate(&space, Operation::Replace { voter, newcomer }, replaced).await?;
            }
            VoterChange::Transfer { peer } => {
                let me = self.shared.peer.peer_id();
                let to = peer.as_deref().map(find).transpose()?;
                let operation = to.map_or(Operation::HandOver, Operation::Transfer);
                let leads = |status: &CoordStatus| match to {
                    Some(to) => status.leader == Some(to),
                    None => status.leader.is_some_and(|leader| leader != me),
                };
                // Whoever is led by another already has nothing to hand over, and is told so.
                operate(&space, operation, |status| leads(status) && (to == Some(me) || !status.leads)).await?;
            }
        }
        self.strong(&space).await
    }

    /// Peers that a change can name.
    async fn known(&self, space: &Space) -> Result<Vec<PeerId>, Failure> {
        let status = space.coordination().await.map_err(refused)?;
        let links = self.shared.peer.status().await.map_err(refused)?.engine.links;
        let linked = links.iter().map(|link| link.peer);
        let mut known: Vec<PeerId> = status.voters.into_iter().chain(status.learners).chain(linked).collect();
        known.push(self.shared.peer.peer_id());
        known.sort();
        known.dedup();
        Ok(known)
    }
}

fn find(known: &[PeerId], text: &str) -> Result<PeerId, Failure> {
    let meant = |peer: &&PeerId| {
        let id = peer_text(peer);
        id == text || (text.len() >= LEAST_END && id.ends_with(text))
    };
    let mut found = known.iter().filter(meant);
    match (found.next(), found.next()) {
        (Some(peer), None) => Ok(*peer),
        (None, _) => Err(Failure::new(Code::NotFound, format_args!("no member and no connected peer is {text}"))
            .hint("`foreshore peers` lists who is connected, `foreshore voters` the members")),
        _ => Err(Failure::invalid("peer", format_args!("several end in {text}")).hint("give more of its id")),
    }
}

/// Has a change made, and waits until it is there.
async fn operate(space: &Space, operation: Operation, is_there: impl Fn(&CoordStatus) -> bool) -> Result<(), Failure> {
    let (deadline, linked) = (Instant::now() + PATIENCE, Instant::now() + ANSWER);
    let mut why = CoordFailure::ChangeLater("it did not take effect in time".into());
    let changed = async {
        loop {
            let status = space.coordination().await.map_err(refused)?;
            if status.leads && is_there(&status) {
                return Ok(());
            }
            match timeout(ANSWER, space.change_voters(operation)).await {
                Ok(Ok(())) => break,
                Ok(Err(CommandError::Coord(later))) if may_come(&later, Instant::now() < linked) => why = later,
                Ok(Err(error)) => return Err(refused(error)),
                Err(_) => why = CoordFailure::ChangeLater("the peer does not answer".into()),
            }
            sleep(LOOK).await;
        }
        while !is_there(&space.coordination().await.map_err(refused)?) {
            sleep(LOOK).await;
        }
        Ok(())
    };
    match timeout_at(deadline, changed).await {
        Ok(changed) => changed,
        Err(_) => Err(refused(why.into())),
    }
}

/// Whether asking again may help: the group is busy or without a leader, or the newcomer, `linking`, is not linked yet.
fn may_come(failure: &CoordFailure, linking: bool) -> bool {
    match failure {
        CoordFailure::ChangeLater(_) | CoordFailure::NotLeader { leader: None } => true,
        CoordFailure::NotAVoter => linking,
        _ => false,
    }
}

async fn hand_over(space: &Space) {
    loop {
        match space.coordination().await {
            Ok(status) if status.leads && status.voters.len() > 1 => {}
            _ => return,
        }
        // Without a successor there is nothing to wait for; one may come while this is tried again.
        let _ = space.change_voters(Operation::HandOver).await;
        let asked = Instant::now();
        while asked.elapsed() < ASK {
            sleep(LOOK).await;
            if !space.coordination().await.is_ok_and(|status| status.leads) {
                return;
            }
        }
    }
}

fn strong(status: CoordStatus, me: PeerId) -> Strong {
    let role = match () {
        () if !status.serves => "none",
        () if status.leads => "leader",
        () if status.learners.contains(&me) => "learner",
        () if !status.voters.contains(&me) => "joining",
        () if status.leader.is_none() => "candidate",
        () => "follower",
    };
    let lag = |peer: &PeerId| {
        let found = status.progress.iter().find(|(member, _)| member == peer);
        found.map(|(_, matched)| status.last.saturating_sub(*matched))
    };
    let member = |peer: &PeerId, votes| Voting {
        peer: peer_text(peer),
        votes,
        leads: status.leader == Some(*peer),
        me: *peer == me,
        lag: lag(peer),
    };
    let voters = status.voters.iter().map(|peer| member(peer, true));
    let members = voters.chain(status.learners.iter().map(|peer| member(peer, false))).collect();
    Strong {
        role: role.into(),
        leader: status.leader.as_ref().map(peer_text),
        term: status.term,
        generation: status.generation,
        committed: status.committed,
        applied: status.applied,
        last: status.last,
        members,
        sessions: status.sessions,
        nodes: status.nodes,
        proposals: status.proposals,
        digest: Some(status.digest).filter(|digest| !digest.is_empty()),
        broken: status.broken,
    }
}
