//! Taking rights back: revocations, expiry made binding, root successions, and proofs of equivocation.
//!
//! A revocation keeps what this store has of the device: its endorsements are gathered by a scan, a page at a time, and go
//! into the list behind the frontier. So whoever revokes has to replicate all that the ended grants cover, or has to say that
//! nothing is to be kept.

use std::collections::{BTreeMap, BTreeSet};

use super::command::Outcome;
use super::storage::ReadPurpose;
use super::{CommandError, Engine, Keep, Reply, keys};
use crate::id::{Actor, ChangeHash, DeviceId, DocumentId, FactHash, Prefix, SpaceId};
use crate::io::{ReadOp, RequestId, Rows, StorageFailure, Table, WriteOp};
use crate::trust::endorsement::ActorPreimage;
use crate::trust::roster::Ending;
use crate::trust::statement::{Contradiction, MAX_FRONTIER};
use crate::trust::tombstone::TombstoneHash;
use crate::trust::{
    Claim, Deed, DeviceKey, Endorsement, EndorsementKind, EquivocationProof, Fact, FactBody, FactError, Grant,
    Inventory, RootKey, Roster, Tombstone,
};
use crate::wire::Codec;

/// Rows of one page of the scan over endorsements.
const PAGE: usize = 4_096;

/// A revocation whose list is being gathered.
#[derive(Debug)]
pub(super) struct Revoking {
    request: RequestId,
    space: SpaceId,
    /// The grants of each device that are to end; none: all.
    targets: BTreeMap<DeviceId, BTreeSet<FactHash>>,
    found: BTreeMap<DeviceId, Vec<Endorsement>>,
    /// Documents by the names under which something of them is set aside: it may be waiting for others to sign anew what it
    /// stands on, and is known here like the rest.
    aside: BTreeMap<DocumentId, DocumentId>,
}

impl Revoking {
    /// The key of a row of the table Endorsements as it is of its document.
    fn row_of<'a>(&self, key: &'a [u8]) -> Option<std::borrow::Cow<'a, [u8]>> {
        let (name, rest) = key.split_first_chunk()?;
        Some(match self.aside.get(&DocumentId(*name)) {
            Some(document) => [&document.0, rest].concat().into(),
            None => key.into(),
        })
    }

    /// The device to be revoked whose changes an endorsement covers: it signed it, or somebody else did for what it made
    /// before it contradicted itself.
    fn concerned(&self, roster: &Roster, endorsement: &Endorsement) -> Option<DeviceId> {
        if self.targets.contains_key(&endorsement.device) {
            return Some(endorsement.device);
        }
        let device = roster.claimed_author(endorsement)?;
        self.targets.contains_key(&device).then_some(device)
    }
}

/// Somebody's chain that another one of the same actor contradicts.
#[derive(Debug)]
pub(super) struct Suspicion {
    space: SpaceId,
    document: DocumentId,
    /// The number at which the chains part, as far as they are here.
    seq: u64,
    /// Covers the change that was refused.
    newcomer: Endorsement,
}

impl Engine {
    pub(super) fn revoke(
        &mut self,
        request: RequestId,
        id: SpaceId,
        device: DeviceId,
        grants: Vec<FactHash>,
        keep: Keep,
    ) -> Outcome {
        let targets = BTreeMap::from([(device, grants.into_iter().collect())]);
        self.begin_revoking(request, id, targets, keep)
    }

    /// Revokes every grant that has ended by this store's clock: from then on it is a fact and no clock's matter.
    pub(super) fn revoke_expired(&mut self, request: RequestId, id: SpaceId) -> Outcome {
        let (now, roster) = (self.now.wall, &self.space(&id)?.roster);
        let mut targets: BTreeMap<DeviceId, BTreeSet<FactHash>> = BTreeMap::new();
        for fact in roster.facts() {
            let Some(grant) = fact.grant().filter(|grant| grant.expired(now)) else { continue };
            let in_force = roster.grant_facts_of(&grant.subject).any(|known| known.hash() == fact.hash());
            if in_force && self.signer_for(&id, &[grant]).is_some() {
                targets.entry(grant.subject).or_default().insert(fact.hash());
            }
        }
        if targets.is_empty() {
            return Ok(Some(Reply::Revoked(Vec::new())));
        }
        self.begin_revoking(request, id, targets, Keep::Known)
    }

    fn begin_revoking(
        &mut self,
        request: RequestId,
        id: SpaceId,
        targets: BTreeMap<DeviceId, BTreeSet<FactHash>>,
        keep: Keep,
    ) -> Outcome {
        let own = self.identity().device;
        let state = self.space(&id)?;
        let interests = state.interests(&own);
        for (device, grants) in &targets {
            let meant = |fact: &&Fact| grants.is_empty() || grants.contains(&fact.hash());
            let ended: Vec<&Grant> =
                state.roster.grant_facts_of(device).filter(meant).filter_map(Fact::grant).collect();
            if ended.is_empty() {
                return Err(revocation(FactError::NothingToRevoke));
            }
            if self.signer_for(&id, &ended).is_none() {
                let path = ended.first().map_or_else(Prefix::root, |grant| grant.prefix.clone()).to_string();
                return Err(CommandError::Denied { action: "revoke under", path });
            }
            let unseen = ended.iter().find(|grant| {
                grant.is_own() && grant.role.writes() && !interests.iter().any(|held| held.contains(&grant.prefix))
            });
            if let Some(grant) = unseen.filter(|_| keep == Keep::Known) {
                return Err(CommandError::Invalid {
                    what: "revocation",
                    why: format!(
                        "this store does not replicate all of {}, so it cannot say what is to be kept",
                        grant.prefix
                    ),
                });
            }
        }
        let set_aside = state.index.newest_first().filter(|entry| entry.aside.is_some());
        let aside = set_aside.map(|entry| (keys::aside(&entry.id), entry.id)).collect();
        let revoking = Revoking { request, space: id, targets, found: BTreeMap::new(), aside };
        match keep {
            Keep::Known => self.scan_for(Box::new(revoking), Vec::new()),
            Keep::Nothing => self.finish_revoking(revoking, keep),
        }
        Ok(None)
    }

    fn scan_for(&mut self, revoking: Box<Revoking>, from: Vec<u8>) {
        let scan = ReadOp::Scan { table: Table::Endorsements, from, to: None, limit: PAGE };
        self.read(ReadPurpose::Revoke(revoking), vec![scan]);
    }

    pub(super) fn on_revoke_scan(&mut self, mut revoking: Box<Revoking>, rows: Result<Vec<Rows>, StorageFailure>) {
        let rows = match rows {
            Ok(rows) => rows.into_iter().next().unwrap_or_default(),
            Err(failure) => return self.reply(revoking.request, Err(CommandError::Storage(failure))),
        };
        let Some(state) = self.spaces.get(&revoking.space) else { return };
        let mut last = None;
        for (key, value) in rows.iter() {
            last = Some(key);
            // Rows of other spaces belong to no document of this one.
            let Some(key) = revoking.row_of(key) else { continue };
            let Ok(mut endorsement) = Endorsement::from_storage(&key, value) else { continue };
            let Some(device) = revoking.concerned(&state.roster, &endorsement) else { continue };
            let entry = state.index.by_id(&endorsement.document);
            if entry.is_some_and(|entry| state.roster.endorses(&endorsement, &entry.path).is_ok()) {
                // The list says up to where the device's chain counts, whoever answers for it.
                endorsement.device = device;
                revoking.found.entry(device).or_default().push(endorsement);
            }
        }
        let found: usize = revoking.found.values().map(Vec::len).sum();
        if found > MAX_FRONTIER {
            return self
                .reply(revoking.request, Err(revocation(FactError::FrontierTooLarge { entries: found as u64 })));
        }
        match last.filter(|_| rows.len() == PAGE).map(|key| [key, &[0]].concat()) {
            Some(from) => self.scan_for(revoking, from),
            None => self.finish_revoking(*revoking, Keep::Known),
        }
    }

    fn finish_revoking(&mut self, revoking: Revoking, keep: Keep) {
        let Revoking { request, space, targets, mut found, aside: _ } = revoking;
        let mut revoked = Vec::new();
        for (device, grants) in targets {
            let tombstones = if keep == Keep::Known { self.tombstones_of(&space, &device) } else { BTreeSet::new() };
            let endorsements = found.remove(&device).unwrap_or_default();
            match self.sign_revocation(space, device, Ending { grants, endorsements, tombstones, before: None }) {
                Ok(()) => revoked.push(device),
                // Those before it stand.
                Err(error) => return self.reply(request, Err(error)),
            }
        }
        self.pending.replies.push((request, Ok(Reply::Revoked(revoked))));
    }

    fn sign_revocation(&mut self, space: SpaceId, device: DeviceId, ending: Ending) -> Result<(), CommandError> {
        let state = self.space(&space)?;
        let meant = |fact: &&Fact| ending.grants.is_empty() || ending.grants.contains(&fact.hash());
        let ended: Vec<&Grant> = state.roster.grant_facts_of(&device).filter(meant).filter_map(Fact::grant).collect();
        let path = ended.first().map_or_else(Prefix::root, |grant| grant.prefix.clone()).to_string();
        let Some(key) = self.signer_for(&space, &ended) else {
            return Err(CommandError::Denied { action: "revoke under", path });
        };
        let Some(state) = self.spaces.get_mut(&space) else { return Err(CommandError::UnknownSpace(space)) };
        let made = state.roster.revoke(&key, device, ending).map_err(revocation)?;
        self.keep_facts(space, made, None);
        Ok(())
    }

    /// The key in whose name these grants can be revoked here: the device's, or the root's where that is kept here.
    fn signer_for(&self, space: &SpaceId, grants: &[&Grant]) -> Option<DeviceKey> {
        let (identity, state) = (self.identity(), self.spaces.get(space)?);
        let may = |device: &DeviceId| {
            grants.iter().all(|grant| {
                grant.subject == *device
                    || state.roster.root() == Some(*device)
                    || state.roster.is_admin(device, &grant.prefix)
            })
        };
        if may(&identity.device) {
            return Some(identity.key.clone());
        }
        let root = RootKey::from_seed(state.record.root_seed.as_ref()?).signer().clone();
        may(&root.device()).then_some(root)
    }

    fn tombstones_of(&self, space: &SpaceId, device: &DeviceId) -> BTreeSet<TombstoneHash> {
        let Some(state) = self.spaces.get(space) else { return BTreeSet::new() };
        let all = state.index.newest_first().filter_map(|entry| entry.tombstones.as_deref()).flatten();
        let read = all.filter_map(|bytes| Tombstone::from_bytes(bytes).ok());
        read.filter(|tombstone| tombstone.device() == device).map(|tombstone| tombstone.hash()).collect()
    }

    /// Hands the space to another root key: a new one, or `successor`.
    pub(super) fn rotate_root(&mut self, request: RequestId, id: SpaceId, successor: Option<RootKey>) -> Outcome {
        let seed = self.space(&id)?.record.root_seed;
        let no_root = || CommandError::Denied { action: "rotate the root of", path: Prefix::root().to_string() };
        let root = RootKey::from_seed(&seed.ok_or_else(no_root)?.0);
        let successor = match successor {
            Some(successor) => successor,
            None => RootKey::generate(&mut self.rng),
        };
        let state = self.spaces.get_mut(&id).ok_or(CommandError::UnknownSpace(id))?;
        let made = state.roster.succeed(&root, &successor).map_err(|error| match error {
            FactError::NotAuthorised => no_root(),
            error => CommandError::Invalid { what: "succession", why: error.to_string() },
        })?;
        // One batch holds the fact and the key: a crash leaves the space with the old root or with the new one.
        state.record.root_seed = Some(crate::id::Seed(*successor.seed()));
        let (number, record) = (state.number, state.record.to_bytes());
        self.pending.ops.push(WriteOp::Put(Table::Meta, keys::space(number), record));
        self.keep_facts(id, made, None);
        self.pending.replies.push((request, Ok(Reply::RootKey(Some(Box::new(successor))))));
        Ok(None)
    }

    /// Looks for the other side of what contradicts the log, to prove it to everybody. `contradicted`: actor, number, and the
    /// endorsed change on whose chain the contradiction is: another endorsement of the actor may well be on the log's own.
    pub(super) fn suspect(
        &mut self,
        space: SpaceId,
        document: DocumentId,
        contradicted: &[(Actor, u64, ChangeHash)],
        endorsements: &[Endorsement],
    ) {
        let Some(state) = self.spaces.get(&space) else { return };
        if !state.roster.is_member(&self.identity().device) {
            return;
        }
        let mut seen: BTreeSet<&Actor> = BTreeSet::new();
        let mut suspicions = Vec::new();
        for (actor, seq, tip) in contradicted {
            let own = |it: &&Endorsement| matches!(it.actor, ActorPreimage::Own { .. }) && it.hash == *tip;
            if let Some(newcomer) = endorsements.iter().find(own).filter(|_| seen.insert(actor)) {
                suspicions.push(Suspicion { space, document, seq: *seq, newcomer: newcomer.clone() });
            }
        }
        for suspicion in suspicions {
            let from = crate::trust::endorsement::storage_prefix(&document, &suspicion.newcomer.actor());
            let to = keys::successor(&from);
            let scan = ReadOp::Scan { table: Table::Endorsements, from, to, limit: 64 };
            self.read(ReadPurpose::Suspect(Box::new(suspicion)), vec![scan]);
        }
    }

    /// Whether a claim has put an actor's changes from a number on out of a document, as far as its log tells: one whose two
    /// endorsements are on one chain after all has no effect.
    fn is_out(&self, space: &SpaceId, document: &DocumentId, actor: &Actor, seq: u64) -> bool {
        let log = self.documents.get(document).and_then(|working| working.log.as_ref());
        let cleared = |claim: &Claim| {
            let ((_, high), (low_seq, low)) = (claim.high, claim.low);
            let below = log.and_then(|log| log.by_seq(actor, low_seq)).is_some_and(|row| row.hash() == low);
            !claim.is_plain() && below && log.is_some_and(|log| log.contains(&high))
        };
        let claims = self.spaces.get(space).map(|state| state.roster.claims(document)).unwrap_or_default();
        claims.iter().any(|claim| claim.actor == *actor && claim.seq <= seq && !cleared(claim))
    }

    /// The endorsements of a contested actor are there: prove that its device made two chains, and vouch for what the two have
    /// in common, since no endorsement of that device counts for it any more.
    pub(super) fn on_suspect_rows(&mut self, suspicion: &Suspicion, rows: Result<Vec<Rows>, StorageFailure>) {
        let Suspicion { space, document, seq, newcomer } = suspicion;
        let rows = rows.ok().and_then(|rows| rows.into_iter().next()).unwrap_or_default();
        let known = rows.iter().filter_map(|(key, value)| Endorsement::from_storage(key, value).ok());
        let mut known = known.filter(|it| it.device == newcomer.device && it.actor == newcomer.actor);
        let Some(known) = known.find(|it| it.seq >= *seq && it.hash != newcomer.hash) else { return };
        let actor = newcomer.actor();
        if self.is_out(space, document, &actor, *seq) {
            return;
        }
        let Some(state) = self.spaces.get(space) else { return };
        let side = |it: &Endorsement| Contradiction { seq: it.seq, hash: it.hash, signature: it.signature };
        let mut sides = [side(&known), side(newcomer)];
        sides.sort_by_key(|side| side.hash);
        let proof = EquivocationProof::Changes {
            document: *document,
            device: newcomer.device,
            actor: newcomer.actor.clone(),
            seq: *seq,
            sides,
        };
        let mut facts = vec![FactBody::Equivocation(Box::new(proof))];
        let log = self.documents.get(document).and_then(|working| working.log.as_ref());
        let common = log.and_then(|log| log.by_seq(&actor, seq.saturating_sub(1))).map(|row| (row.seq(), row.hash()));
        let path = state.index.by_id(document).map(|entry| entry.path.clone());
        let identity = self.identity();
        let may_vouch = path.is_some_and(|path| state.roster.can_write(&identity.device, &path));
        if let Some(newest) = common.filter(|_| may_vouch) {
            let kind = EndorsementKind::Chain;
            let vouch = Endorsement::foreign(&identity.key, space, *document, actor, newest, kind);
            let deeds = vec![Deed::Endorsement(Box::new(vouch))];
            // What is vouched for comes first: who learns of the proof then has something that covers the rest.
            facts.insert(0, FactBody::Inventory(Box::new(Inventory { device: identity.device, deeds })));
        }
        let key = identity.key.clone();
        let Some(state) = self.spaces.get_mut(space) else { return };
        // Without room for facts there is no proof, and the first of the two chains stays here.
        let made: Vec<FactHash> =
            facts.into_iter().filter_map(|body| state.roster.author(&key, body).ok()).flat_map(|made| made.1).collect();
        self.keep_facts(*space, made, None);
    }
}

fn revocation(error: FactError) -> CommandError {
    CommandError::Invalid { what: "revocation", why: error.to_string() }
}
