//! Facts on links: who may do what travels before anything else, and whole.

use std::collections::BTreeSet;

use super::link::Fate;
use super::ship::Shipment;
use super::space::fact_item;
use super::sync::Handled;
use super::{Engine, Event};
use crate::id::{FactHash, Prefix, SpaceId};
use crate::io::LinkId;
use crate::reconcile::IdKey;
use crate::trust::Fact;
use crate::wire::Codec;
use crate::wire::v1::Message;

/// Facts that are sent whole when interests show that the facts differ; more are reconciled.
const FEW_FACTS: usize = 64;

impl Engine {
    /// Sends facts: all of them, or those with these hashes.
    pub(super) fn ship_facts(&mut self, id: LinkId, space: SpaceId, only: Option<&BTreeSet<FactHash>>) {
        let Some(state) = self.spaces.get(&space) else { return };
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let Some(common) = link.spaces.get(&space) else { return };
        let facts: Vec<Vec<u8>> = match only {
            None => state.roster.facts().map(Codec::to_bytes).collect(),
            Some(only) => only.iter().filter_map(|hash| state.roster.fact(hash)).map(Codec::to_bytes).collect(),
        };
        link.out.facts(common.tag, facts);
        self.busy_links.insert(id);
    }

    pub(super) fn ship_facts_by_id(&mut self, id: LinkId, space: SpaceId, key: &IdKey, ids: &BTreeSet<u64>) {
        let Some(state) = self.spaces.get(&space) else { return };
        let hashes = state.roster.hashes().filter(|h| ids.contains(&key.item_id(&fact_item(h))));
        let hashes: BTreeSet<FactHash> = hashes.copied().collect();
        self.ship_facts(id, space, Some(&hashes));
    }

    /// The peer says what it replicates, and how its facts stand.
    pub(super) fn on_interests(
        &mut self,
        id: LinkId,
        space: SpaceId,
        prefixes: Vec<Prefix>,
        root: [u8; 24],
        facts: u64,
    ) {
        let Some(state) = self.spaces.get_mut(&space) else { return };
        let differ = state.facts.root().0 != root;
        let few = state.roster.len() <= FEW_FACTS;
        let _ = facts;
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let common = link.spaces.get_mut(&space).expect("checked by the caller");
        common.wanted = Some(prefixes);
        link.sync.unsure();
        if differ && few {
            self.ship_facts(id, space, None);
        }
        self.refresh_domains(id, space);
        self.pull_soon(space);
    }

    /// Ends what links have of a space whose other ends were members and are none any more. They have been told the facts
    /// that say so; nothing else follows, and whatever they say is answered like a stranger's.
    pub(super) fn part_with_revoked(&mut self, space: SpaceId) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        links.into_iter().for_each(|id| self.part_if_revoked(id, space));
    }

    fn part_if_revoked(&mut self, id: LinkId, space: SpaceId) {
        let Some(state) = self.spaces.get(&space) else { return };
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(common) = link.spaces.get(&space) else { return };
        let Some(device) = common.device else { return };
        // What a member proved itself by may still wait for what stands before it.
        if state.roster.is_member(&device) || !state.roster.is_revoked(&device) {
            return;
        }
        link.out.ship(Shipment::marker(space, Message::Refused { space: common.tag }));
        link.spaces.remove(&space);
        link.sync.forget_question(space);
        self.soft_unlinked(id, Some(space));
        self.topic_unlinked(id, Some(space));
        self.overlay_unlinked(id, Some(space));
        self.busy_links.insert(id);
    }

    pub(super) fn on_facts(
        &mut self,
        id: LinkId,
        space: SpaceId,
        number: u64,
        facts: &[Vec<u8>],
        bytes: usize,
    ) -> Handled {
        self.take_number(id, number, 1, bytes)?;
        let facts = facts.iter().filter_map(|f| Fact::from_bytes(f).ok()).collect();
        self.admit_facts(space, facts, Some(id));
        self.pending.resolved.push((id, number, Fate::Stored));
        Ok(())
    }

    /// Offers facts to a roster; what is admitted is stored with the next batch.
    pub(super) fn admit_facts(&mut self, space: SpaceId, facts: Vec<Fact>, source: Option<LinkId>) {
        let Some(state) = self.spaces.get_mut(&space) else { return };
        let admitted = state.roster.insert_all(facts);
        self.keep_facts(space, admitted, source);
    }

    /// Stores facts that a roster has admitted, with the next batch.
    pub(super) fn keep_facts(&mut self, space: SpaceId, admitted: Vec<FactHash>, source: Option<LinkId>) {
        let Some(state) = self.spaces.get(&space) else { return };
        let facts = admitted.iter().filter_map(|hash| Some((*hash, state.roster.fact(hash)?.clone())));
        self.pending.facts.extend(facts.map(|(hash, fact)| (space, fact, vec![hash], source)));
    }

    /// New facts are durable: pass them on, and see who may now read what.
    pub(super) fn on_facts_durable(&mut self, space: SpaceId, admitted: &[FactHash], sources: &BTreeSet<LinkId>) {
        let only: BTreeSet<FactHash> = admitted.iter().copied().collect();
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        let changes = self.spaces.get_mut(&space).map(|state| state.roster.take_changes()).unwrap_or_default();
        self.begin_review(space, changes);
        for id in links {
            let member = self.links[&id].spaces.get(&space).is_some_and(|s| s.device.is_some() && s.wanted.is_some());
            if member && !sources.contains(&id) {
                self.ship_facts(id, space, Some(&only));
            }
            self.refresh_domains(id, space);
            if let Some(link) = self.links.get_mut(&id).filter(|link| link.spaces.contains_key(&space)) {
                // What came ahead of its author's grant was refused, and rounds may have been spent on it in vain.
                link.sync.start_over();
                self.busy_links.insert(id);
            }
        }
        #[cfg(feature = "coord")]
        self.check_lives(space);
        self.emit(Event::MembersChanged { space });
    }
}
