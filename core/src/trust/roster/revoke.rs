//! Making revocations: the list of what is kept, in inventories, and the revocation behind them.

use std::collections::BTreeSet;

use super::Roster;
use crate::id::{DeviceId, FactHash};
use crate::trust::device::{DeviceKey, RootKey};
use crate::trust::endorsement::{Endorsement, EndorsementKind};
use crate::trust::fact::{Fact, FactBody, FactError, MAX_FACT_BODY};
use crate::trust::statement::{Deed, FrontierDigest, Inventory, MAX_INVENTORY, Revocation, Succession};
use crate::trust::tombstone::TombstoneHash;

/// What a revocation is to end, and what it is to keep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ending {
    /// The grants, at most [`MAX_REVOKED_GRANTS`](crate::trust::statement::MAX_REVOKED_GRANTS); none: the device is removed,
    /// with every grant that it has and may yet be given.
    pub grants: BTreeSet<FactHash>,
    /// The device's endorsements that are kept.
    pub endorsements: Vec<Endorsement>,
    /// Its tombstones that are kept.
    pub tombstones: BTreeSet<TombstoneHash>,
    /// Of its facts those before this one of its chain are kept; `None`: all that are known.
    pub before: Option<FactHash>,
}

impl Roster {
    /// Revokes grants of a device in the name of `key`: an admin of everything that they cover, the root, or the device
    /// itself. Refused, with nothing changed, without that right. Comes back with every fact that was made, to be stored
    /// and passed on.
    pub fn revoke(&mut self, key: &DeviceKey, subject: DeviceId, ending: Ending) -> Result<Vec<FactHash>, FactError> {
        let meant = |fact: &&Fact| ending.grants.is_empty() || ending.grants.contains(&fact.hash());
        // What was revoked before can be cut shorter, too.
        let known = self.indexes_of(&subject).iter().map(|index| &self.facts[*index as usize]);
        let mut ended = known.filter(meant).filter_map(Fact::grant).peekable();
        let names_succession = ending
            .grants
            .iter()
            .any(|hash| self.fact(hash).is_some_and(|fact| matches!(fact.body(), FactBody::Succession(_))));
        if ended.peek().is_none() && !names_succession {
            return Err(FactError::NothingToRevoke);
        }
        if !ended.all(|grant| self.may_revoke(&key.device(), grant)) {
            return Err(FactError::NotAuthorised);
        }
        let (chain, facts) = self.kept_facts(&subject, ending.before);
        let deeds = deeds(ending.endorsements, facts, ending.tombstones);
        let mut digest = FrontierDigest::new();
        for deed in &deeds {
            match deed {
                Deed::Endorsement(it) => digest.endorsement(&it.document, &it.actor(), it.seq, &it.hash),
                Deed::Fact(hash) => digest.fact(hash),
                Deed::Tombstone(hash) => digest.tombstone(hash),
            };
        }
        let frontier = digest.finish(chain);
        if frontier.entries > crate::trust::statement::MAX_FRONTIER as u64 {
            return Err(FactError::FrontierTooLarge { entries: frontier.entries });
        }
        let grants = ending.grants.into_iter().collect();
        let revocation = FactBody::Revocation(Box::new(Revocation { subject, grants, frontier }));
        let mut made = Vec::new();
        let pieces = inventories(subject, deeds);
        // All of it or nothing: a list without its revocation would stand in the chain for ever.
        self.has_room(key, pieces.len() as u64 + 1)?;
        let pieces = pieces.into_iter().map(|piece| FactBody::Inventory(Box::new(piece)));
        for body in pieces.chain([revocation]) {
            made.extend(self.author(key, body)?.1);
        }
        Ok(made)
    }

    /// Puts endorsements where everybody gets them with the facts, and before the documents, as far as there is room for facts.
    /// Comes back with every fact that was made.
    pub(crate) fn post(&mut self, key: &DeviceKey, endorsements: Vec<Endorsement>) -> Vec<FactHash> {
        let deeds = deeds(endorsements, BTreeSet::new(), BTreeSet::new());
        let mut made = Vec::new();
        for piece in inventories(key.device(), deeds) {
            // What was made before stays made, and has to be stored.
            let Ok((_, admitted)) = self.author(key, FactBody::Inventory(Box::new(piece))) else { break };
            made.extend(admitted);
        }
        made
    }

    /// Hands the space to another root key, in the name of the present one.
    pub fn succeed(&mut self, root: &RootKey, successor: &RootKey) -> Result<Vec<FactHash>, FactError> {
        let key = root.signer();
        if self.root() != Some(key.device()) {
            return Err(FactError::NotAuthorised);
        }
        let succession = Succession::new(&self.space, &key.device(), successor);
        Ok(self.author(key, FactBody::Succession(Box::new(succession)))?.1)
    }

    /// The end of the chain that is kept of a device, and its facts off it that are kept too.
    fn kept_facts(&self, device: &DeviceId, before: Option<FactHash>) -> (Option<(u64, FactHash)>, BTreeSet<FactHash>) {
        let Some(before) = before else { return (self.chain_end(device), self.facts_off_chain(device)) };
        let end = self.fact(&before).and_then(|fact| fact.link().previous());
        let end = end.and_then(|hash| Some((self.fact(&hash)?.link().seq(), hash)));
        let unchained = self
            .facts_off_chain(device)
            .into_iter()
            .filter(|hash| *hash != before && self.fact(hash).is_some_and(|fact| fact.link().seq() == 0));
        (end, unchained.collect())
    }
}

/// Deeds in the order in which a frontier hashes them.
fn deeds(
    mut endorsements: Vec<Endorsement>,
    facts: BTreeSet<FactHash>,
    tombstones: BTreeSet<TombstoneHash>,
) -> Vec<Deed> {
    endorsements.sort_by_cached_key(|it| (it.document, it.actor(), it.seq, it.hash, it.kind == EndorsementKind::Chain));
    endorsements.dedup();
    let endorsements = endorsements.into_iter().map(|it| Deed::Endorsement(Box::new(it)));
    endorsements.chain(facts.into_iter().map(Deed::Fact)).chain(tombstones.into_iter().map(Deed::Tombstone)).collect()
}

/// Deeds in as few inventories as hold them.
fn inventories(device: DeviceId, deeds: Vec<Deed>) -> Vec<Inventory> {
    /// What an inventory takes beside its deeds: the device and their number.
    const BESIDE: usize = 32 + 2;
    let (mut pieces, mut size) = (Vec::<Inventory>::new(), BESIDE);
    for deed in deeds {
        let len = deed.encoded_len();
        match pieces.last_mut().filter(|piece| piece.deeds.len() < MAX_INVENTORY && size + len <= MAX_FACT_BODY) {
            Some(piece) => {
                size += len;
                piece.deeds.push(deed);
            }
            None => {
                size = BESIDE + len;
                pieces.push(Inventory { device, deeds: vec![deed] });
            }
        }
    }
    pieces
}
