//! What is known of the peer at the other end of a link, and what it is still to be told.

use std::collections::{BTreeMap, BTreeSet};

use super::lease::OwnerTag;
use super::message::Summary;
use super::scope::union;
use crate::id::{Path, Prefix};
use crate::time::Timestamp;

/// Orders leases and their renewals: incarnation, seq, index.
pub(super) type Reached = (u64, u64, u8);

/// What the peer has of one owner.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The newest lease and renewal that it has, as far as known.
    pub(super) known: Option<Reached>,
    /// It has been sent, or has said that it has, everything that arrived here up to this number.
    pub(super) sent: u64,
    /// What that renewal vouched for, where it said so or was told.
    pub(super) scope: Vec<Prefix>,
    /// The scope that it was last told of by name, and the one that it last named.
    pub(super) told: Option<Vec<Prefix>>,
    pub(super) heard: Option<Vec<Prefix>>,
    /// Entries that it asked for.
    pub(super) wanted: BTreeSet<Path>,
    /// It hears of this owner from others first.
    pub(super) lazy: bool,
    /// It was told that we do.
    pub(super) pruned: bool,
    /// It brought a lease from before an owner's lapse: it is to be shown the later one.
    pub(super) refute: bool,
    /// Not to be asked about this owner again before this.
    pub(super) next_fetch: Timestamp,
}

impl View {
    /// The peer has a renewal that vouches for `scope`.
    pub(super) fn reached(&mut self, reached: Reached, scope: &[Prefix]) {
        if self.known == Some(reached) {
            self.scope = union(&self.scope, scope);
        } else if self.known < Some(reached) {
            (self.known, self.scope) = (Some(reached), scope.to_vec());
        }
    }
}

/// A link on which the space is spoken of.
#[derive(Debug, Default)]
pub(super) struct Peering {
    /// What both ends replicate and may read.
    pub(super) domains: Vec<Prefix>,
    /// The peer has said what it has; before that it is told nothing.
    pub(super) ready: bool,
    pub(super) digest_due: bool,
    /// The peer's digest is wanted in return, with this token.
    pub(super) asks: Option<u8>,
    /// The peer wants this end's digest with this token.
    pub(super) answers: Option<u8>,
    /// This peer slept: until the answer with this token comes, what arrives may have waited unseen, and no news counts.
    pub(super) barrier: Option<u8>,
    token: u8,
    /// A digest that is arriving.
    pub(super) arriving: Option<BTreeMap<OwnerTag, Summary>>,
    pub(super) views: BTreeMap<OwnerTag, View>,
    /// Owners of whom the peer may lack something.
    pub(super) dirty: BTreeSet<OwnerTag>,
    /// Owners of whom it lacks a renewal that has come from elsewhere: told together, a moment later or with what cannot wait.
    pub(super) calm: BTreeSet<OwnerTag>,
    /// What to ask for, and whether the lease is wanted too.
    pub(super) fetch: BTreeMap<OwnerTag, bool>,
    pub(super) prune: BTreeSet<OwnerTag>,
    pub(super) graft: BTreeSet<OwnerTag>,
    pub(super) have: BTreeSet<OwnerTag>,
}

impl Peering {
    pub(super) fn new(domains: Vec<Prefix>) -> Self {
        Self { domains, digest_due: true, ..Self::default() }
    }

    /// Has the peers exchange digests again.
    pub(super) fn restart(&mut self) -> u8 {
        self.token = self.token.wrapping_add(1);
        self.asks = Some(self.token);
        (self.digest_due, self.ready) = (true, false);
        self.token
    }

    pub(super) fn view(&mut self, owner: OwnerTag) -> &mut View {
        self.views.entry(owner).or_default()
    }

    /// The peer may lack something of the owner; one that hears of it from others does not.
    pub(super) fn mark(&mut self, owner: OwnerTag) {
        if !self.views.get(&owner).is_some_and(|view| view.lazy) {
            self.dirty.insert(owner);
        }
    }

    /// The peer may lack a renewal of the owner that can wait for others.
    pub(super) fn mark_calm(&mut self, owner: OwnerTag) {
        if !self.views.get(&owner).is_some_and(|view| view.lazy) {
            self.calm.insert(owner);
        }
    }

    /// What could wait has waited.
    pub(super) fn ripen(&mut self) {
        self.dirty.append(&mut self.calm);
    }

    /// Entries of the owner are new. A peer that hears of it from others is told that they exist: the others may not
    /// cover them.
    pub(super) fn mark_entries(&mut self, owner: OwnerTag) {
        if self.views.get(&owner).is_some_and(|view| view.lazy) {
            self.have.insert(owner);
        } else {
            self.dirty.insert(owner);
        }
    }

    /// Speaks of the owner again and asks the peer to.
    pub(super) fn graft(&mut self, owner: OwnerTag) {
        if let Some(view) = self.views.get_mut(&owner)
            && std::mem::take(&mut view.pruned)
        {
            self.graft.insert(owner);
        }
    }

    pub(super) fn forget(&mut self, owner: &OwnerTag) {
        self.views.remove(owner);
        self.dirty.remove(owner);
        self.calm.remove(owner);
        self.prune.remove(owner);
        self.graft.remove(owner);
        self.have.remove(owner);
    }

    /// Whether something waits that the window of a link does not hold back.
    pub(super) fn has_words(&self) -> bool {
        self.digest_due
            || !self.fetch.is_empty()
            || !self.prune.is_empty()
            || !self.graft.is_empty()
            || (self.ready && !self.have.is_empty())
    }

    pub(super) fn has_news(&self) -> bool {
        self.ready && !self.dirty.is_empty()
    }
}
