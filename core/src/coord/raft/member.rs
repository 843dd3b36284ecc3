//! Who is in a group: named members, the ids consensus gives them, and the changes of both.
//!
//! A member is a `(peer, store)` pair. Consensus counts votes by a number, and that number comes from the log: the entry
//! that adds a member carries the next unused one, and none is ever used twice. A store id is drawn when an empty log
//! store is made. So a voter that lost its disk has another store id, is nobody in the configuration, and has to be added
//! as a learner like any newcomer: it cannot vote twice in a term that it has forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::id::PeerId;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Members that a group may have, learners included. Majorities of more voters cost more than they give; the bound keeps
/// every table and message that lists members small.
pub const MAX_MEMBERS: usize = 32;

/// Rebuilds whose records a group keeps.
pub const MAX_REBUILDS: usize = 16;

/// Stores that are remembered after they left, the newest. None of them may come back.
pub const MAX_FORMER: usize = 256;

/// The greatest term, index or id. Consensus adds to these without a check; nothing read from outside passes it.
pub const MAX_NUMBER: u64 = 1 << 56;

/// A log store: 64 random bits, drawn when it is made empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u64);

/// What consensus calls a member. Given by the log, never given twice; 0 is nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// One member's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// The peer that runs it.
    pub peer: PeerId,
    /// The log store it votes with.
    pub store: StoreId,
}

impl Codec for Member {
    fn encode(&self, w: &mut Writer) {
        w.array(&self.peer.0).u64_le(self.store.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { peer: PeerId(r.array("member peer")?), store: StoreId(r.u64_le("member store")?) })
    }
}

/// Which life of a group: a number that a rebuild raises, and a tag that keeps groups of one number apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation {
    /// 1 for a founded group.
    pub number: u64,
    /// A hash of how this life began.
    pub tag: [u8; 8],
}

const FOUNDING_CONTEXT: &str = "foreshore 1 group founding";
const REBUILD_CONTEXT: &str = "foreshore 1 group rebuild";

impl Generation {
    /// The first life of a group of these founders.
    fn founded(members: &BTreeMap<MemberId, Member>) -> Self {
        let mut w = Writer::new();
        encode_members(members, &mut w);
        Self { number: 1, tag: tag(FOUNDING_CONTEXT, &w.finish()) }
    }

    /// The life that a rebuild begins.
    fn rebuilt(record: &Rebuild) -> Self {
        Self { number: record.from.number + 1, tag: tag(REBUILD_CONTEXT, &record.to_bytes()) }
    }
}

fn tag(context: &str, bytes: &[u8]) -> [u8; 8] {
    let mut tag = [0; 8];
    tag.copy_from_slice(&blake3::derive_key(context, bytes)[..8]);
    tag
}

impl Codec for Generation {
    fn encode(&self, w: &mut Writer) {
        w.varint(self.number).array(&self.tag);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { number: r.varint_max(MAX_NUMBER, "generation")?, tag: r.array("generation tag")? })
    }
}

/// The audit record of a rebuild: what the new life began from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuild {
    /// The generation that lost its quorum.
    pub from: Generation,
    /// Who went on.
    pub survivor: Member,
    /// The survivor's last entry, all of which count from now on.
    pub last_index: u64,
    /// Its term.
    pub last_term: u64,
    /// Up to where the survivor knew that a quorum had agreed. What lies between this and `last_index` was accepted
    /// without proof, and what other voters had beyond it is lost.
    pub proved: u64,
    /// The state's digest at `last_index`.
    pub digest: [u8; 32],
}

impl Codec for Rebuild {
    fn encode(&self, w: &mut Writer) {
        self.from.encode(w);
        self.survivor.encode(w);
        w.varint(self.last_index).varint(self.last_term).varint(self.proved).array(&self.digest);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            from: Generation::decode(r)?,
            survivor: Member::decode(r)?,
            last_index: r.varint_max(MAX_NUMBER, "rebuild index")?,
            last_term: r.varint_max(MAX_NUMBER, "rebuild term")?,
            proved: r.varint_max(MAX_NUMBER, "rebuild proved")?,
            digest: r.array("rebuild digest")?,
        })
    }
}

/// A change of the membership, as the log holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A newcomer that receives everything and votes on nothing.
    AddLearner {
        /// The next unused id.
        id: MemberId,
        /// Who.
        member: Member,
    },
    /// A learner becomes a voter.
    Promote {
        /// Which.
        id: MemberId,
    },
    /// A voter or learner leaves.
    Remove {
        /// Which.
        id: MemberId,
    },
    /// A learner takes a voter's place in one step, by joint consensus: at no moment does the group tolerate less.
    Replace {
        /// The voter that leaves.
        voter: MemberId,
        /// The learner that takes its place.
        learner: MemberId,
    },
}

impl Change {
    /// Encoded sizes do not exceed this.
    pub const MAX_LEN: usize = 64;
}

impl Codec for Change {
    fn encode(&self, w: &mut Writer) {
        match self {
            Self::AddLearner { id, member } => {
                w.u8(1).varint(id.0);
                member.encode(w);
            }
            Self::Promote { id } => {
                w.u8(2).varint(id.0);
            }
            Self::Remove { id } => {
                w.u8(3).varint(id.0);
            }
            Self::Replace { voter, learner } => {
                w.u8(4).varint(voter.0).varint(learner.0);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8("change")? {
            1 => Ok(Self::AddLearner { id: decode_id(r)?, member: Member::decode(r)? }),
            2 => Ok(Self::Promote { id: decode_id(r)? }),
            3 => Ok(Self::Remove { id: decode_id(r)? }),
            4 => Ok(Self::Replace { voter: decode_id(r)?, learner: decode_id(r)? }),
            _ => Err(DecodeError::Invalid { field: "change" }),
        }
    }
}

/// A member's id, which is not 0.
pub(crate) fn decode_id(r: &mut Reader<'_>) -> Result<MemberId, DecodeError> {
    match r.varint_max(MAX_NUMBER, "member id")? {
        0 => Err(DecodeError::Invalid { field: "member id" }),
        id => Ok(MemberId(id)),
    }
}

/// The configuration at one index of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Which life of the group.
    pub generation: Generation,
    /// The id that the next newcomer gets; every id below it has been given.
    pub next_id: u64,
    /// Everyone who has a part, by id.
    pub members: BTreeMap<MemberId, Member>,
    /// Those who vote.
    pub voters: BTreeSet<MemberId>,
    /// Those who only receive.
    pub learners: BTreeSet<MemberId>,
    /// While a replacement is under way: those who voted before it, whose majority is needed too.
    pub outgoing: BTreeSet<MemberId>,
    /// The stores that left last, oldest first, at most [`MAX_FORMER`]. Such a store knows itself under an id that is gone,
    /// so it is not added again: its peer joins with an empty one.
    pub former: Vec<StoreId>,
    /// Every rebuild so far, oldest first, at most [`MAX_REBUILDS`].
    pub rebuilds: Vec<Rebuild>,
}

impl Membership {
    /// A new group: every founder votes. Founders are numbered in their own order, so that all begin alike.
    pub fn founded(founders: &[Member]) -> Self {
        let sorted: BTreeSet<Member> = founders.iter().copied().collect();
        let members: BTreeMap<MemberId, Member> = (1..).map(MemberId).zip(sorted).collect();
        Self {
            generation: Generation::founded(&members),
            next_id: members.len() as u64 + 1,
            voters: members.keys().copied().collect(),
            members,
            learners: BTreeSet::new(),
            outgoing: BTreeSet::new(),
            former: Vec::new(),
            rebuilds: Vec::new(),
        }
    }

    /// Nobody yet: what a newcomer knows of a group that it was told to join.
    pub fn unknown(generation: Generation) -> Self {
        Self {
            generation,
            next_id: 1,
            members: BTreeMap::new(),
            voters: BTreeSet::new(),
            learners: BTreeSet::new(),
            outgoing: BTreeSet::new(),
            former: Vec::new(),
            rebuilds: Vec::new(),
        }
    }

    /// The configuration after a rebuild: the survivor alone, under an id of its own.
    pub fn rebuilt(&self, record: Rebuild) -> Self {
        let id = MemberId(self.next_id);
        let mut rebuilds = self.rebuilds.clone();
        if rebuilds.len() == MAX_REBUILDS {
            rebuilds.remove(0);
        }
        let generation = Generation::rebuilt(&record);
        let members = BTreeMap::from([(id, record.survivor)]);
        rebuilds.push(record);
        Self {
            generation,
            next_id: id.0 + 1,
            members,
            voters: BTreeSet::from([id]),
            learners: BTreeSet::new(),
            outgoing: BTreeSet::new(),
            former: Vec::new(),
            rebuilds,
        }
    }

    /// The id of a member by name.
    pub fn id_of(&self, member: &Member) -> Option<MemberId> {
        self.members.iter().find(|(_, known)| *known == member).map(|(id, _)| *id)
    }

    /// Whether a replacement is under way.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `change` is possible here. A change that is not changes nothing, on every replica alike.
    pub fn allows(&self, change: &Change) -> bool {
        if self.is_joint() {
            return false;
        }
        match change {
            Change::AddLearner { id, member } => {
                let new = self.id_of(member).is_none() && !self.former.contains(&member.store);
                id.0 == self.next_id && self.members.len() < MAX_MEMBERS && new
            }
            Change::Promote { id } => self.learners.contains(id),
            Change::Remove { id } => {
                self.members.contains_key(id) && (self.voters.len() > 1 || !self.voters.contains(id))
            }
            Change::Replace { voter, learner } => self.voters.contains(voter) && self.learners.contains(learner),
        }
    }

    /// Takes the sets that consensus computed after `change` (`None`: after leaving a joint configuration).
    pub(crate) fn follow(&mut self, change: Option<&Change>, sets: &raft::eraftpb::ConfState) {
        if let Some(Change::AddLearner { id, member }) = change {
            self.members.insert(*id, *member);
            self.next_id = id.0 + 1;
        }
        let set = |ids: &[u64]| ids.iter().copied().map(MemberId).collect::<BTreeSet<_>>();
        self.voters = set(&sets.voters);
        self.learners = set(&sets.learners);
        self.outgoing = set(&sets.voters_outgoing);
        let Self { members, voters, learners, outgoing, former, .. } = self;
        let gone =
            members.extract_if(.., |id, _| !voters.contains(id) && !learners.contains(id) && !outgoing.contains(id));
        former.extend(gone.map(|(_, member)| member.store));
        former.drain(..former.len().saturating_sub(MAX_FORMER));
    }

    /// The same in consensus' own terms.
    pub(crate) fn conf_state(&self) -> raft::eraftpb::ConfState {
        let list = |ids: &BTreeSet<MemberId>| ids.iter().map(|id| id.0).collect::<Vec<_>>();
        raft::eraftpb::ConfState {
            voters: list(&self.voters),
            learners: list(&self.learners),
            voters_outgoing: list(&self.outgoing),
            auto_leave: self.is_joint(),
            ..Default::default()
        }
    }
}

fn encode_members(members: &BTreeMap<MemberId, Member>, w: &mut Writer) {
    w.varint(members.len() as u64);
    for (id, member) in members {
        w.varint(id.0);
        member.encode(w);
    }
}

/// A map in ascending order of its keys.
fn decode_members(r: &mut Reader<'_>) -> Result<BTreeMap<MemberId, Member>, DecodeError> {
    let mut last = 0;
    let list = r.list(MAX_MEMBERS, "members", |r| {
        let id = decode_id(r)?;
        if id.0 <= std::mem::replace(&mut last, id.0) {
            return Err(DecodeError::Invalid { field: "members" });
        }
        Ok((id, Member::decode(r)?))
    })?;
    Ok(list.into_iter().collect())
}

fn decode_set(
    r: &mut Reader<'_>,
    members: &BTreeMap<MemberId, Member>,
    field: &'static str,
) -> Result<BTreeSet<MemberId>, DecodeError> {
    let mut last = 0;
    let list = r.list(MAX_MEMBERS, field, |r| {
        let id = decode_id(r)?;
        let ascends = id.0 > std::mem::replace(&mut last, id.0);
        if ascends && members.contains_key(&id) { Ok(id) } else { Err(DecodeError::Invalid { field }) }
    })?;
    Ok(list.into_iter().collect())
}

impl Codec for Membership {
    fn encode(&self, w: &mut Writer) {
        self.generation.encode(w);
        w.varint(self.next_id);
        encode_members(&self.members, w);
        for set in [&self.voters, &self.learners, &self.outgoing] {
            w.varint(set.len() as u64);
            set.iter().for_each(|id| {
                w.varint(id.0);
            });
        }
        w.list(&self.former, |w, store| {
            w.u64_le(store.0);
        });
        w.list(&self.rebuilds, |w, record| record.encode(w));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let generation = Generation::decode(r)?;
        let next_id = r.varint_max(MAX_NUMBER, "next id")?;
        let members = decode_members(r)?;
        if members.keys().any(|id| id.0 >= next_id) {
            return Err(DecodeError::Invalid { field: "next id" });
        }
        let voters = decode_set(r, &members, "voters")?;
        let learners = decode_set(r, &members, "learners")?;
        let outgoing = decode_set(r, &members, "outgoing voters")?;
        if !voters.is_disjoint(&learners) || !outgoing.is_disjoint(&learners) || voters.is_empty() != members.is_empty()
        {
            return Err(DecodeError::Invalid { field: "voters" });
        }
        let former = r.list(MAX_FORMER, "former stores", |r| Ok(StoreId(r.u64_le("former store")?)))?;
        let rebuilds = r.list(MAX_REBUILDS, "rebuilds", Rebuild::decode)?;
        Ok(Self { generation, next_id, members, voters, learners, outgoing, former, rebuilds })
    }
}
