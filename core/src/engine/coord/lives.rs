//! Which life of a group counts: groups that are begun anew, and replicas whose life is over.
//!
//! A group that lost its majority for good is begun anew on one survivor, by a command (see [`crate::coord::raft::rebuild`]).
//! The survivor signs a fact of it: the new life's number, its first voter and the digest of the state it begins with. Every
//! member learns of it as of other facts, and:
//!
//! - a replica of an earlier life stops, and starts with an empty log when the new group adds it;
//! - two facts of one number mean that two survivors were each taken for the only one: replicas of that life stop until one of
//!   them is begun anew once more, under the next number.

use super::*;
use crate::coord::command::{Body, Entry};
use crate::coord::raft::Standing;
use crate::coord::raft::rebuild::rebuild;
use crate::engine::command::Outcome;
use crate::id::Prefix;
use crate::trust::{FactBody, Generation as GroupLife, GroupVoter};

/// What follows when a write of the strong path is durable.
#[derive(Debug)]
pub(super) enum Then {
    /// A replica goes on.
    Persisted(crate::coord::raft::Ticket),
    /// A group begins anew with these rows.
    Rebuilt { request: RequestId, rows: Vec<(Vec<u8>, Vec<u8>)> },
    /// The log of a life that is over is gone: the new group's question is answered.
    Forgotten { peer: PeerId, generation: Vec<u8> },
}

/// The rows of a space's log, from the first to behind the last.
fn rows_of(space: SpaceId) -> (Vec<u8>, Vec<u8>) {
    ([space.0.as_slice(), &[0]].concat(), [space.0.as_slice(), &[u8::MAX]].concat())
}

fn to_op(space: SpaceId, write: Write) -> WriteOp {
    let row = |key: Vec<u8>| [space.0.as_slice(), &key].concat();
    match write {
        Write::Put(key, value) => WriteOp::Put(Table::Raft, row(key), value),
        Write::Delete(from, to) => WriteOp::DeleteRange(Table::Raft, row(from), row(to)),
    }
}

impl Engine {
    /// A voter's write as operations of the store.
    pub(super) fn coord_ops(space: SpaceId, writes: Vec<Write>) -> Vec<WriteOp> {
        writes.into_iter().map(|write| to_op(space, write)).collect()
    }

    /// Begins a space's group anew from this store's replica.
    pub(super) fn rebuild_group(&mut self, space: SpaceId, request: RequestId) -> Outcome {
        let refused = |why: &str| Err(CoordFailure::Change(why.into()).into());
        let device = self.identity().device;
        let found = self.space(&space)?;
        if found.record.root_seed.is_none()
            && !found.roster.is_voter(&device)
            && !found.roster.is_admin(&device, &Prefix::root())
        {
            return refused("this device may not: it takes the space's root key, or a grant to vote or to administer");
        }
        if let Some(voter) = self.coord.voters.get(&space) {
            let role = voter.group().role();
            if matches!(role.standing, Standing::Removed | Standing::Waiting) {
                return refused("this replica does not vote: it was removed, or has not been taken in yet");
            }
            if role.leader.is_some() {
                return refused("the group has a leader, so it has a majority: change its voters instead");
            }
        } else if !self.coord.broken.contains_key(&space) {
            return Err(CoordFailure::NotServing.into());
        }
        if self.coord.writes.values().any(|writing| writing.space == space) {
            return Err(CoordFailure::ChangeLater("a write is under way; ask again".into()).into());
        }
        // From here on the old replica says nothing more, and nobody founds another.
        self.coord.voters.remove(&space);
        self.coord.broken.insert(space, "its group is being begun anew".into());
        let (from, to) = rows_of(space);
        let scan = ReadOp::Scan { table: Table::Raft, from, to: Some(to), limit: usize::MAX };
        self.read(crate::engine::storage::ReadPurpose::CoordRebuild(space, request), vec![scan]);
        Ok(None)
    }

    pub(in crate::engine) fn on_rebuild_rows(
        &mut self,
        space: SpaceId,
        request: RequestId,
        rows: Result<Vec<Rows>, StorageFailure>,
    ) {
        let outcome = match rows {
            Ok(rows) => {
                let rows = rows.iter().flat_map(Rows::iter);
                let rows = rows.filter_map(|(key, value)| Some((key.strip_prefix(&space.0)?.to_vec(), value.to_vec())));
                self.write_rebuilt(space, request, rows.collect())
            }
            Err(failure) => Err(failure.into()),
        };
        if let Err(error) = outcome {
            self.rebuild_failed(space, request, error);
        }
    }

    /// The replica stays stopped, with its rows as they were: a restart finds it again.
    pub(super) fn rebuild_failed(&mut self, space: SpaceId, request: RequestId, error: super::super::CommandError) {
        let why = format!("its group was not begun anew ({error}); restart the peer to have the replica as it was");
        self.coord.broken.insert(space, why.clone());
        self.emit(Event::Coord(CoordEvent::VoterRefused { space, why }));
        self.reply(request, Err(error));
    }

    fn write_rebuilt(
        &mut self,
        space: SpaceId,
        request: RequestId,
        rows: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<(), super::super::CommandError> {
        let change = |why: String| CoordFailure::Change(why);
        let survivor = Stored::open(rows).map_err(|error| change(error.to_string()))?;
        // Behind every life that is known, of which none may be left that could add this peer.
        let behind = self.lives(space).map(|life| life.n).fold(survivor.identity().generation.number, u64::max);
        let me = Member { peer: self.identity().peer, store: StoreId(self.rng.next_u64()) };
        let generation = u32::try_from(behind).unwrap_or(u32::MAX);
        let opening = Entry { stamp: self.now.wall, body: Body::Generation { generation } }.to_bytes();
        let rebuilt = rebuild(&survivor, me, behind, &mut Machine::new(), &opening);
        let rebuilt = rebuilt.map_err(|error| change(error.to_string()))?;
        let rows = rebuilt.writes.iter().filter_map(|write| match write {
            Write::Put(key, value) => Some((key.clone(), value.clone())),
            Write::Delete(..) => None,
        });
        let then = Then::Rebuilt { request, rows: rows.collect() };
        let ops = Self::coord_ops(space, rebuilt.writes);
        self.write_coord(Writing { space, then, ops, retry_at: None });
        Ok(())
    }

    /// The new life is durable.
    pub(super) fn on_rebuilt(&mut self, space: SpaceId, request: RequestId, rows: Vec<(Vec<u8>, Vec<u8>)>) {
        let seed = u64::from_le_bytes(self.draw());
        match Stored::open(rows).and_then(|stored| Group::open(config(), stored, Machine::new(), seed)) {
            Ok(group) => {
                self.coord.broken.remove(&space);
                self.coord.over.remove(&space);
                self.start_voter(space, group);
                self.proclaim_life(space);
                // Another survivor may have begun one of the same number meanwhile.
                self.check_lives(space);
                self.emit(Event::Coord(CoordEvent::Voters { space }));
                self.reply(request, Ok(super::super::Reply::Coord(CoordReply::Done)));
            }
            Err(error) => self.rebuild_failed(space, request, CoordFailure::Change(error.to_string()).into()),
        }
    }

    /// Has every member learn of the life that this store's replica was begun anew in, if it was and they have not. Said once
    /// it is durable, and again after a crash in between.
    pub(super) fn proclaim_life(&mut self, space: SpaceId) {
        let me = self.identity().peer;
        let Some(voter) = self.coord.voters.get(&space) else { return };
        let membership = voter.group().membership();
        let Some(record) = membership.rebuilds.last().filter(|record| record.survivor.peer == me) else { return };
        let life = GroupLife {
            n: membership.generation.number,
            voters: vec![GroupVoter { peer: me, store: record.survivor.store.0 }],
            digest: record.digest,
        };
        if self.lives(space).any(|known| *known == life) {
            return;
        }
        let key = &self.identity.as_ref().expect("open").key;
        let Some(state) = self.spaces.get_mut(&space) else { return };
        match state.roster.author(key, FactBody::Generation(Box::new(life))) {
            Ok((fact, hashes)) => self.pending.facts.push((space, fact, hashes, None)),
            Err(error) => {
                let why = format!("its members cannot be told that the group was begun anew: {error}");
                self.emit(Event::Coord(CoordEvent::VoterRefused { space, why }));
            }
        }
    }

    fn lives(&self, space: SpaceId) -> impl Iterator<Item = &GroupLife> {
        let facts = self.spaces.get(&space).into_iter().flat_map(|found| found.roster.facts());
        facts.filter_map(|fact| match fact.body() {
            FactBody::Generation(life) => Some(&**life),
            _ => None,
        })
    }

    /// Stops this store's replica if its life is over, or if there are two of its number.
    pub(in crate::engine) fn check_lives(&mut self, space: SpaceId) {
        let Some(voter) = self.coord.voters.get(&space) else { return };
        let mine = voter.group().identity().generation.number;
        let Some(newest) = self.lives(space).map(|life| life.n).max() else { return };
        let of_mine: Vec<&GroupLife> = self.lives(space).filter(|life| life.n == mine).collect();
        let twice = of_mine.iter().any(|life| Some(life) != of_mine.first());
        let why = if newest > mine {
            format!(
                "the group was begun anew as generation {newest}; this replica is of generation {mine}, which is over"
            )
        } else if twice {
            format!(
                "two groups were begun anew as generation {mine}; begin one of them anew once more (`voters rebuild`)"
            )
        } else {
            return;
        };
        self.coord.voters.remove(&space);
        self.coord.over.insert(space, mine);
        self.coord.broken.insert(space, why.clone());
        self.emit(Event::Coord(CoordEvent::VoterRefused { space, why }));
    }

    /// Whether a later life than this one is known.
    pub(super) fn is_over(&self, space: SpaceId, generation: u64) -> bool {
        self.lives(space).any(|life| life.n > generation)
    }

    /// A replica whose life is over makes room for one in the new group. Whether there is something to wait for.
    pub(super) fn forget_over(&mut self, space: SpaceId, peer: PeerId, generation: &Generation) -> bool {
        let newest = self.lives(space).map(|life| life.n).max();
        let is_over = self.coord.over.get(&space).is_some_and(|mine| *mine < generation.number);
        if !is_over || newest != Some(generation.number) {
            return false;
        }
        let forgetting = |writing: &Writing| writing.space == space;
        if !self.coord.writes.values().any(forgetting) {
            let (from, to) = rows_of(space);
            let then = Then::Forgotten { peer, generation: generation.to_bytes() };
            self.write_coord(Writing {
                space,
                then,
                ops: vec![WriteOp::DeleteRange(Table::Raft, from, to)],
                retry_at: None,
            });
        }
        true
    }

    pub(super) fn on_forgotten(&mut self, space: SpaceId, peer: PeerId, generation: &[u8]) {
        self.coord.over.remove(&space);
        self.coord.broken.remove(&space);
        self.on_enlist(space, peer, generation);
    }
}
