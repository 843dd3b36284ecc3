//! Fresh changes, pushed as they become durable: PlumTree (Leitão, Pereira, Rodrigues: Epidemic Broadcast Trees, SRDS 2007)
//! over the authorised sync streams.
//!
//! A change goes to every neighbour that wants its path. *Own* changes go eagerly to all of them: one hop. What is
//! *forwarded* goes eagerly along a tree and is announced by its hash elsewhere. The tree makes itself: whoever receives a
//! change for the second time asks the later sender to announce from now on ([`Message::PruneAuthor`]); whoever hears of one
//! much earlier than it comes, or loses the link that brought it, asks to have it pushed ([`Message::GraftAuthor`]); whoever does not
//! receive an announced change within [`GRAFT_AFTER`] asks for it and for eagerness ([`Message::Graft`]); whoever does not
//! receive what a pushed change stands on, asks for that by hash ([`Message::Fetch`]).
//!
//! **A tree an author.** Eager and lazy are kept for each (link, domain, author). A duplicate in one domain says nothing of
//! another, and the links that bring one author's changes first are not those that bring another's: with one tree for all, a
//! change that begins far from the root of it goes up and down again, and what one author's changes prune is another's
//! shortest way. The earlier [`Message::Prune`], which means every author, is understood and not sent.
//!
//! **A spare branch** stays where one is not enough. On a network that loses or delays messages, whichever link brings a change
//! first is chance; a tree that is pruned after each is no shortest one, and every loss on it is a loss to all below. So a link
//! that was clearly the faster one lately ([`HEAD_START`]) is pruned only after it has come second [`CREDIT`] times since, as
//! long as it is the only such one beside the first. Of 1,024 peers with a fifth of all messages sent again a delay later, 99 in
//! 100 have a change within 7 delays; within 9 without spares. On a calm network one is gone after as many changes.
//!
//! A change leaves at once when the peer has acknowledged everything before it, as it has between two keystrokes. Where
//! changes come faster than acknowledgements they gather for
//! [`EngineConfig::push_interval`](crate::config::EngineConfig::push_interval) and share a message and an endorsement: on
//! `clownschool`, typed as fast as three peers can, sending with every acknowledgement took 1.8 times the bytes of the
//! changes. A change is never sent to a link that sent it, nor anything at all to one that is no neighbour
//! (`engine::overlay`).
//!
//! Invariant: nothing depends on broadcast. What is dropped at a bound, or lost with a link, is found by comparing roots.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::batch::Draft;
use super::link::{Link, LinkSpace};
use super::ship::{Loaded, Outbox, Packer, pack};
use super::space::domain_tag;
use crate::document::Log;
use crate::id::{ChangeHash, DeviceId, DocumentId, Path, Prefix, SpaceId};
use crate::io::LinkId;
use crate::time::Timestamp;
use crate::touched::TouchedMap;
use crate::trust::{Endorsement, Roster};
use crate::wire::v1::{AuthorTag, DomainTag, MAX_DOCUMENTS, Message, SpaceTag};

/// Fresh changes that may wait for a link's next push; beyond it the link falls back to reconciliation.
const FRESH_BYTES: usize = 1 << 20;
/// How long an announced change, or one that another stands on, may take before it is asked for: several times a push
/// interval and a round trip, with room for a busy machine. Shorter mends a broken tree sooner and asks for more that was
/// on its way.
const GRAFT_AFTER: Duration = Duration::from_millis(500);
/// How much earlier than the change its announcement comes where that would have been the faster way: more than what changes
/// gather for, and than what a disk takes to let the next batch begin.
const HEAD_START: Duration = Duration::from_millis(25);
/// Most documents of which something is waited for on a link; beyond it the roots are compared.
const MAX_EXPECTED: usize = 4_096;
/// How often a peer is told how far into our log it has come. A link that breaks costs what was sent since, once more.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Pushes that may wait for their acknowledgement and count as points in our log.
const MAX_POINTS: usize = 64;
/// Changes whose first sender is remembered. At 8,192 the window holds some seconds of a busy space, and a duplicate
/// comes within a few network delays.
const MAX_RECENT: usize = 8_192;

/// How often a link that was clearly the faster one lately may come second before it is asked to announce: where two ways are
/// late by turns both stay, and one that has become slow for good costs this many copies.
const CREDIT: u8 = 4;

/// Most trees that each of a link's sets of a space keeps, about 20 bytes a tree. One that is forgotten begins anew, at the
/// cost of a duplicate.
const MAX_TREES: usize = 2_048;
/// How long a peer that was asked to announce may go on pushing before it is asked again: longer than what was under way
/// takes.
const PRUNE_AGAIN: Duration = Duration::from_secs(5);

/// First bytes of a change's hash, which name it in an announcement.
type Announced = [u8; 8];

/// What waits for a link's next push.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    documents: BTreeMap<(SpaceId, DocumentId), FreshDocument>,
    bytes: usize,
    last_push: Option<Timestamp>,
    push_at: Option<Timestamp>,
    /// What the peer has of our log once it has acknowledged a message: the message's number and our arrival number.
    points: VecDeque<(u64, u64)>,
    told_at: Option<Timestamp>,
}

impl Fresh {
    pub(super) fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// When the next push is due.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.push_at
    }
}

/// News of one document.
#[derive(Debug)]
struct FreshDocument {
    path: Path,
    generation: u32,
    /// In topological order, each with its author; `None`: it was made here.
    changes: Vec<(ChangeHash, Arc<[u8]>, Option<AuthorTag>)>,
    endorsements: BTreeMap<Vec<u8>, Endorsement>,
    tombstones: Vec<Vec<u8>>,
}

/// Who was the first to send a change, for the latest ones.
#[derive(Debug, Default)]
pub(super) struct Recent {
    first: BTreeMap<ChangeHash, (LinkId, Timestamp)>,
    order: VecDeque<ChangeHash>,
    /// Which link brought an author's latest change first: where this peer hangs in that author's trees.
    feeds: BTreeMap<(SpaceId, AuthorTag), LinkId>,
}

impl Recent {
    pub(super) fn note(&mut self, change: ChangeHash, link: LinkId, now: Timestamp) {
        if self.first.insert(change, (link, now)).is_none() {
            self.order.push_back(change);
            if self.order.len() > MAX_RECENT
                && let Some(oldest) = self.order.pop_front()
            {
                self.first.remove(&oldest);
            }
        }
    }

    /// Who brought a change first, and when.
    pub(super) fn first_sender(&self, change: &ChangeHash) -> Option<(LinkId, Timestamp)> {
        self.first.get(change).copied()
    }

    pub(super) fn note_feed(&mut self, space: SpaceId, author: AuthorTag, link: LinkId) {
        if self.feeds.len() >= MAX_TREES && !self.feeds.contains_key(&(space, author)) {
            self.feeds.pop_first();
        }
        self.feeds.insert((space, author), link);
    }

    /// How many authors' changes a link brings first.
    fn brought(&self, link: LinkId, space: &SpaceId) -> usize {
        self.feeds.iter().filter(|((of, _), feed)| of == space && **feed == link).count()
    }

    /// Forgets a link that brings nothing any more, and returns whose changes it brought.
    fn cut(&mut self, link: LinkId, space: Option<SpaceId>) -> BTreeMap<SpaceId, BTreeSet<AuthorTag>> {
        let mut cut: BTreeMap<SpaceId, BTreeSet<AuthorTag>> = BTreeMap::new();
        self.feeds.retain(|(of, author), feed| {
            let goes = *feed == link && space.is_none_or(|space| space == *of);
            if goes {
                cut.entry(*of).or_default().insert(*author);
            }
            !goes
        });
        cut
    }
}

/// What a link's two ends have agreed on for one space.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Domains and authors whose forwarded changes the peer wants announced.
    lazy: BTreeSet<(DomainTag, AuthorTag)>,
    /// Domains in which it wants everybody's announced.
    lazy_domains: BTreeSet<DomainTag>,
    /// Domains and authors whose changes were pushed to the peer, which did not mind.
    fed: BTreeSet<(DomainTag, AuthorTag)>,
    /// Those for which we asked the peer so, and when.
    pruned: BTreeMap<(DomainTag, AuthorTag), Timestamp>,
    /// How often the peer may still come second with an author's changes: it was the first by [`HEAD_START`] lately.
    credit: BTreeMap<(DomainTag, AuthorTag), u8>,
    /// To which tree what was last announced of a document belongs: the one that a graft means.
    announced: BTreeMap<DocumentId, (DomainTag, AuthorTag)>,
    /// Documents of which the peer has what is not here, with the time to ask for it.
    expected: BTreeMap<DocumentId, (Timestamp, Expected)>,
}

/// What should come by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// A change that the peer announced.
    Announced(Announced),
    /// Whatever lies below what the peer sent.
    Missing,
}

impl Tree {
    /// When the first thing that was expected is to be asked for.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.expected.values().map(|(at, _)| *at).min()
    }

    /// Whether nothing is waited for.
    pub(super) fn is_complete(&self) -> bool {
        self.expected.is_empty()
    }

    #[cfg(test)]
    pub(super) fn pruned_count(&self) -> usize {
        self.pruned.len()
    }

    /// Other domains have other trees.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The peer wants the forwarded changes of a domain announced.
    pub(super) fn on_prune(&mut self, domain: DomainTag) {
        self.fed.retain(|(of, _)| *of != domain);
        self.lazy_domains.insert(domain);
    }

    /// The peer wants an author's changes in a domain announced.
    pub(super) fn on_prune_author(&mut self, domain: DomainTag, author: AuthorTag) {
        if self.lazy.len() >= MAX_TREES {
            self.lazy.pop_first();
        }
        self.lazy.insert((domain, author));
        self.fed.remove(&(domain, author));
    }

    fn note_fed(&mut self, domain: DomainTag, author: AuthorTag) {
        if self.fed.len() < MAX_TREES {
            self.fed.insert((domain, author));
        }
    }

    fn is_lazy(&self, domain: DomainTag, author: AuthorTag) -> bool {
        self.lazy_domains.contains(&domain) || self.lazy.contains(&(domain, author))
    }

    fn announce(&mut self, document: DocumentId, tree: (DomainTag, AuthorTag)) {
        if self.announced.len() >= MAX_EXPECTED {
            self.announced.pop_first();
        }
        self.announced.insert(document, tree);
    }

    /// The peer wants a document's changes pushed again. Of which author they were is not known for ever.
    fn on_graft(&mut self, document: &DocumentId) {
        self.lazy_domains.clear();
        match self.announced.remove(document) {
            Some(tree) => drop(self.lazy.remove(&tree)),
            None => self.lazy.clear(),
        }
    }

    /// The peer wants an author's changes in a domain pushed again.
    pub(super) fn on_graft_author(&mut self, domain: DomainTag, author: AuthorTag) {
        self.lazy_domains.remove(&domain);
        self.lazy.remove(&(domain, author));
    }

    /// Forgets that the peer was asked to announce the changes of some authors, by whom and when, and returns which.
    fn unprune(&mut self, meant: impl Fn(&AuthorTag, Timestamp) -> bool) -> Vec<(DomainTag, AuthorTag)> {
        self.pruned.extract_if(.., |(_, author), at| meant(author, *at)).map(|(tree, _)| tree).collect()
    }

    /// What was announced and is waited for does not come any more the way it was to come.
    fn hurry(&mut self, now: Timestamp) {
        let announced = |(_, expected): &&mut (Timestamp, Expected)| matches!(expected, Expected::Announced(_));
        self.expected.values_mut().filter(announced).for_each(|(at, _)| *at = now);
    }

    /// The peer was clearly faster than another.
    fn give_credit(&mut self, tree: (DomainTag, AuthorTag)) {
        if self.credit.len() < MAX_TREES || self.credit.contains_key(&tree) {
            self.credit.insert(tree, CREDIT);
        }
    }

    /// The peer came second.
    fn take_credit(&mut self, tree: &(DomainTag, AuthorTag)) {
        if let Some(left) = self.credit.get_mut(tree) {
            *left -= 1;
            if *left == 0 {
                self.credit.remove(tree);
            }
        }
    }

    /// Asks the peer to announce, unless that was just done. Whether it is to be sent.
    fn prune(&mut self, tree: (DomainTag, AuthorTag), now: Timestamp) -> bool {
        if self.pruned.get(&tree).is_some_and(|at| *at + PRUNE_AGAIN > now) {
            return false;
        }
        if self.pruned.len() >= MAX_TREES {
            self.pruned.pop_first();
        }
        self.pruned.insert(tree, now);
        self.credit.remove(&tree);
        true
    }
}

/// The tag by which links name an author; no device: it is not known who answers for a change alone.
pub(super) fn author_tag(device: Option<&DeviceId>) -> AuthorTag {
    device.map_or([0; 8], |device| *device.0.first_chunk().expect("32 bytes hold 8"))
}

/// The domain that a path lies in.
fn domain_of(domains: &[Prefix], path: &Path) -> Option<DomainTag> {
    domains.iter().find(|prefix| prefix.covers(path)).map(domain_tag)
}

impl Engine {
    /// Hands a draft to every link that wants it, and returns those that will get it.
    pub(super) fn push(&mut self, draft: &Draft) -> Vec<LinkId> {
        let (space, path, id) = (draft.space, &draft.entry.path, draft.entry.id);
        let (now, interval) = (self.now.mono, self.config.push_interval);
        let log = self.documents.get(&id).and_then(|w| w.log.as_ref());
        let (mut told, mut faster) = (Vec::new(), Vec::new());
        for (link_id, link) in self.links.iter_mut() {
            let Some(common) = link.spaces.get_mut(&space) else { continue };
            if let Some((at, Expected::Announced(change))) = common.tree.expected.get(&id)
                && *at + HEAD_START <= now + GRAFT_AFTER
                && let Some(late) = draft.fresh.iter().find(|f| !f.local && f.hash.0.starts_with(change))
            {
                faster.push((*link_id, late.author));
            }
            if let Some((_, Expected::Announced(change))) = common.tree.expected.get(&id)
                && (draft.entry.deleted() || log.is_some_and(|log| log.contains_prefix(change)))
            {
                common.tree.expected.remove(&id);
            }
            if !common.pushing || !super::space::covered(&common.domains, path) {
                continue;
            }
            let news = draft.fresh.iter().filter(|f| !f.senders.contains(link_id));
            let tombstones = !draft.tombstones.is_empty() && !draft.tombstone_senders.contains(link_id);
            let size = news.clone().map(|f| f.bytes.len()).sum::<usize>() + 256;
            if news.clone().next().is_none() && !tombstones {
                continue;
            }
            link.sync.in_step = false;
            if !self.config.push {
                continue;
            }
            if common.quiet {
                link.sync.fell_behind();
                continue;
            }
            self.busy_links.insert(*link_id);
            if link.out.fresh.bytes + size > FRESH_BYTES {
                link.sync.gap();
                continue;
            }
            let idle = link.out.is_idle();
            let fresh = &mut link.out.fresh;
            fresh.bytes += size;
            let patience = if idle { now } else { fresh.last_push.map_or(now, |at| at + interval).max(now) };
            fresh.push_at.get_or_insert(patience);
            let document = fresh.documents.entry((space, id)).or_insert_with(|| FreshDocument {
                path: path.clone(),
                generation: draft.entry.generation,
                changes: Vec::new(),
                endorsements: BTreeMap::new(),
                tombstones: Vec::new(),
            });
            document.changes.extend(news.map(|f| (f.hash, f.bytes.clone(), (!f.local).then_some(f.author))));
            document.endorsements.extend(draft.endorsements.iter().map(|(key, e)| (key.clone(), e.clone())));
            if tombstones {
                document.tombstones.extend(draft.tombstones.iter().cloned());
            }
            told.push(*link_id);
        }
        faster.into_iter().for_each(|(link, author)| self.try_faster(link, space, author));
        told
    }

    /// A link announced a change that another brought only later: what was the fastest way once is none any more, or one
    /// message was lost on it. The next changes come both ways, and whichever is slower for some time is pruned.
    fn try_faster(&mut self, id: LinkId, space: SpaceId, author: AuthorTag) {
        let now = self.now.mono;
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(common) = link.spaces.get_mut(&space).filter(|common| !common.quiet) else { return };
        let trees = common.tree.unprune(|of, since| *of == author && since + PRUNE_AGAIN <= now);
        for (domain, author) in trees.iter().copied() {
            link.out.control(Message::GraftAuthor { space: common.tag, domain, author });
            common.tree.give_credit((domain, author));
            self.busy_links.insert(id);
        }
        let feed = self.recent.feeds.get(&(space, author)).and_then(|feed| self.links.get_mut(feed));
        if let Some(common) = feed.and_then(|link| link.spaces.get_mut(&space)) {
            trees.into_iter().for_each(|tree| common.tree.give_credit(tree));
        }
    }

    /// Sends what has gathered for a link, if it is time.
    pub(super) fn push_due(&mut self, id: LinkId) {
        let (now, arrival) = (self.now.mono, self.durable_arrival());
        let own = author_tag(self.identity.as_ref().map(|identity| &identity.device));
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.out.fresh.push_at.is_none_or(|at| at > now) || !link.out.has_room() {
            return;
        }
        let fresh = &mut link.out.fresh;
        let documents = std::mem::take(&mut fresh.documents);
        (fresh.bytes, fresh.push_at, fresh.last_push) = (0, None, Some(now));
        let mut by_space: BTreeMap<SpaceId, Vec<(DocumentId, FreshDocument)>> = BTreeMap::new();
        for ((space, document), fresh) in documents {
            by_space.entry(space).or_default().push((document, fresh));
        }
        for (space, mut documents) in by_space {
            let Some(common) = link.spaces.get_mut(&space).filter(|common| !common.quiet) else { continue };
            let mut announced = Vec::new();
            for (document, fresh) in &mut documents {
                let Some(domain) = domain_of(&common.domains, &fresh.path) else { continue };
                let tree = &common.tree;
                let lazy = |author: &Option<AuthorTag>| author.filter(|author| tree.is_lazy(domain, *author));
                let last = fresh.changes.iter().rev().find_map(|(change, _, author)| Some((*change, lazy(author)?)));
                if let Some((change, author)) = last {
                    fresh.changes.retain(|(.., author)| lazy(author).is_none());
                    announced.push((*document, *change.0.first_chunk().expect("32 bytes hold 8")));
                    common.tree.announce(*document, (domain, author));
                }
                for (.., author) in &fresh.changes {
                    common.tree.note_fed(domain, author.unwrap_or(own));
                }
            }
            for documents in pack(announced, |_| 24, MAX_DOCUMENTS) {
                link.out.control(Message::Have { space: common.tag, documents });
            }
            send_fresh(&mut link.out, common.tag, documents, self.spaces.get(&space).map(|s| &s.roster));
        }
        if link.sync.is_clean() {
            let number = link.out.last_number();
            let points = &mut link.out.fresh.points;
            points.push_back((number, arrival));
            // Of those that wait, the older ones say less.
            if points.len() > MAX_POINTS {
                points.pop_front();
            }
        }
    }

    /// The peer has acknowledged everything up to a number: once a while it is told how far into our log that takes it.
    pub(super) fn tell_reached(&mut self, id: LinkId, number: u64) {
        let now = self.now.mono;
        let Some(link) = self.links.get_mut(&id) else { return };
        let clean = link.sync.is_clean();
        let fresh = &mut link.out.fresh;
        if !clean {
            return fresh.points.clear();
        }
        let mut reached = None;
        while let Some((_, arrival)) = fresh.points.pop_front_if(|(sent, _)| *sent <= number) {
            reached = Some(arrival);
        }
        let Some(arrival) = reached.filter(|_| fresh.told_at.is_none_or(|at| at + TELL_EVERY <= now)) else { return };
        fresh.told_at = Some(now);
        for common in link.spaces.values().filter(|common| common.pushing && !common.quiet) {
            link.out.control(Message::Reached { space: common.tag, arrival });
        }
        self.busy_links.insert(id);
    }

    /// Whether what was expected is here.
    fn has_come(&self, space: &SpaceId, document: &DocumentId, expected: &Expected) -> bool {
        let entry = self.spaces.get(space).and_then(|s| s.index.by_id(document));
        if entry.is_some_and(|e| e.deleted()) {
            return true;
        }
        match expected {
            Expected::Missing => self.wanted_of(document).is_empty(),
            Expected::Announced(change) => {
                let log = self.documents.get(document).and_then(|w| w.log.as_ref());
                entry.is_some_and(|e| e.heads.iter().any(|h| h.0.starts_with(change)))
                    || log.is_some_and(|log: &Log| log.contains_prefix(change))
            }
        }
    }

    /// Waits for something of a document, and asks this peer for it if it does not come.
    pub(super) fn expect(&mut self, id: LinkId, space: SpaceId, document: DocumentId, expected: Expected) {
        let at = self.now.mono + GRAFT_AFTER;
        let Some(tree) = self.links.get(&id).and_then(|link| link.spaces.get(&space)).map(|s| &s.tree) else { return };
        let earlier = tree.expected.get(&document).copied();
        let full = tree.expected.len() >= MAX_EXPECTED;
        let waiting = earlier.filter(|(_, earlier)| !self.has_come(&space, &document, earlier));
        let link = self.links.get_mut(&id).expect("looked up above");
        if earlier.is_none() && full {
            return link.sync.gap();
        }
        // The newest is what matters; patience began with the one that is still missing.
        let entry = (waiting.map_or(at, |(at, _)| at), expected);
        link.spaces.get_mut(&space).expect("looked up above").tree.expected.insert(document, entry);
    }

    pub(super) fn on_have(&mut self, id: LinkId, space: SpaceId, documents: Vec<(DocumentId, Announced)>) {
        for (document, change) in documents {
            let expected = Expected::Announced(change);
            if !self.has_come(&space, &document, &expected) {
                self.expect(id, space, document, expected);
            }
        }
    }

    /// What was expected and did not come is asked for: announced changes eagerly from now on, what is missing below
    /// others by hash.
    pub(super) fn ask_overdue(&mut self, id: LinkId) {
        let now = self.now.mono;
        let Some(link) = self.links.get(&id) else { return };
        let mut due = Vec::new();
        for (space, common) in &link.spaces {
            let overdue = common.tree.expected.iter().filter(|(_, (at, _))| *at <= now);
            due.extend(overdue.map(|(document, (_, expected))| (*space, *document, *expected)));
        }
        let mut grafts: BTreeMap<SpaceId, Vec<DocumentId>> = BTreeMap::new();
        for (space, document, expected) in due {
            let come = self.has_come(&space, &document, &expected);
            let wanted = self.wanted_of(&document);
            let place = self.place_of(&space, &document);
            let link = self.links.get_mut(&id).expect("looked up above");
            let common = link.spaces.get_mut(&space).expect("listed above");
            common.tree.expected.remove(&document);
            match (come, expected, place) {
                (true, ..) | (false, Expected::Missing, None) => {}
                (false, Expected::Announced(_), _) => grafts.entry(space).or_default().push(document),
                (false, Expected::Missing, Some((path, generation))) => {
                    link.out.control(Message::Fetch { space: common.tag, path, generation, hashes: wanted });
                    // Should that lead nowhere, the roots tell.
                    link.sync.look_later(now);
                }
            }
        }
        for (space, documents) in grafts {
            let link = self.links.get_mut(&id).expect("looked up above");
            let common = link.spaces.get_mut(&space).expect("listed above");
            // Whose the changes are is not known here: it may be that any of these trees is the one that is broken.
            common.tree.pruned.clear();
            for documents in documents.chunks(MAX_DOCUMENTS) {
                link.out.control(Message::Graft { space: common.tag, documents: documents.to_vec() });
            }
        }
        self.busy_links.insert(id);
    }

    pub(super) fn on_graft(&mut self, id: LinkId, space: SpaceId, documents: Vec<DocumentId>) {
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let common = link.spaces.get_mut(&space).expect("checked by the caller");
        documents.iter().for_each(|document| common.tree.on_graft(document));
        let domains = common.domains.clone();
        let Some(state) = self.spaces.get(&space) else { return };
        let covered = |d: &DocumentId| state.index.by_id(d).is_some_and(|e| super::space::covered(&domains, &e.path));
        let documents: Vec<DocumentId> = documents.into_iter().filter(covered).collect();
        self.send_heads(id, space, &documents, true);
    }

    /// A link brought a change that `first` had brought before. One of the two may announce instead of forwarding: never
    /// the author, whose own changes come eagerly anyway; otherwise the later one, as long as the earlier one is eager.
    pub(super) fn on_duplicate(
        &mut self,
        late: LinkId,
        (first, at): (LinkId, Timestamp),
        author: Option<DeviceId>,
        space: SpaceId,
        path: &Path,
    ) {
        let is_author = |link: &LinkId| {
            let device = self.links.get(link).and_then(|link| link.spaces.get(&space)?.device);
            author.is_some() && device == author
        };
        let prune = if is_author(&late) { first } else { late };
        let (tag, now) = (author_tag(author.as_ref()), self.now.mono);
        let other_is_eager = self.is_eager(&first, &space, path, tag) || is_author(&first) || is_author(&late);
        if let Some(link) = self.links.get_mut(&late) {
            link.duplicates += 1;
        }
        if !other_is_eager {
            return;
        }
        if at + HEAD_START <= now
            && let Some(common) = self.links.get_mut(&first).and_then(|link| link.spaces.get_mut(&space))
            && let Some(domain) = domain_of(&common.domains, path)
        {
            common.tree.give_credit((domain, tag));
        }
        let may_stay = prune == late && self.is_spare(&late, &first, &space, path, tag);
        let Some(link) = self.links.get_mut(&prune) else { return };
        // What a difference brings twice is no sign of a faster way.
        let resolving = link.is_resolving();
        let wanted = |common: &&mut LinkSpace| common.pushing && !common.quiet && !resolving;
        let Some(common) = link.spaces.get_mut(&space).filter(wanted) else { return };
        let Some(domain) = domain_of(&common.domains, path) else { return };
        if may_stay {
            common.tree.take_credit(&(domain, tag));
        } else if common.tree.prune((domain, tag), now) {
            link.out.control(Message::PruneAuthor { space: common.tag, domain, author: tag });
            self.busy_links.insert(prune);
        }
    }

    /// A link is gone, or is no neighbour any more. Whose changes came over it would be heard of only as they are announced
    /// elsewhere, and asked for [`GRAFT_AFTER`] that: everybody who was asked to announce them is asked to push them again,
    /// and the next one shows who is first. Costs a copy of one change from each of them.
    pub(super) fn regrow(&mut self, lost: LinkId, space: Option<SpaceId>) {
        let now = self.now.mono;
        for (space, authors) in self.recent.cut(lost, space) {
            let mut hurried = Vec::new();
            for (id, link) in self.links.iter_mut().filter(|(id, _)| **id != lost) {
                let Some(common) = link.spaces.get_mut(&space).filter(|common| !common.quiet) else { continue };
                for (domain, author) in common.tree.unprune(|of, _| authors.contains(of)) {
                    link.out.control(Message::GraftAuthor { space: common.tag, domain, author });
                    self.busy_links.insert(*id);
                }
                common.tree.hurry(now);
                hurried.push(*id);
            }
            hurried.into_iter().for_each(|id| self.ask_overdue(id));
        }
    }

    /// Whether a link that came second may go on pushing: it was clearly the faster one lately, and no third one was.
    fn is_spare(&self, link: &LinkId, first: &LinkId, space: &SpaceId, path: &Path, author: AuthorTag) -> bool {
        let has_credit = |common: &LinkSpace| {
            domain_of(&common.domains, path).is_some_and(|domain| common.tree.credit.contains_key(&(domain, author)))
        };
        let has = |link: &Link| link.spaces.get(space).is_some_and(has_credit);
        if !self.links.get(link).is_some_and(has) {
            return false;
        }
        !self.links.iter().any(|(id, other)| id != link && id != first && has(other))
    }

    /// Whether a link forwards an author's changes of this path here.
    fn is_eager(&self, link: &LinkId, space: &SpaceId, path: &Path, author: AuthorTag) -> bool {
        let common = self.links.get(link).and_then(|link| link.spaces.get(space)).filter(|common| !common.quiet);
        common.is_some_and(|common| {
            domain_of(&common.domains, path).is_some_and(|tag| !common.tree.pruned.contains_key(&(tag, author)))
        })
    }
}

/// How many authors' changes flow over a link in a space, either way.
pub(super) fn carried(links: &TouchedMap<LinkId, Link>, recent: &Recent, space: &SpaceId, id: LinkId) -> usize {
    let fed = links.get(&id).and_then(|link| link.spaces.get(space)).map_or(0, |common| common.tree.fed.len());
    fed + recent.brought(id, space)
}

fn send_fresh(out: &mut Outbox, space: SpaceTag, documents: Vec<(DocumentId, FreshDocument)>, roster: Option<&Roster>) {
    let mut packer = Packer::new(space, roster);
    for (document, fresh) in documents {
        let heads: BTreeSet<ChangeHash> = fresh.changes.iter().map(|(hash, ..)| *hash).collect();
        // An endorsement goes with the change that it names; who has that change has an endorsement of it.
        let endorsements = fresh.endorsements.into_values().filter(|e| heads.contains(&e.hash)).collect();
        let changes = fresh.changes.into_iter().map(|(hash, bytes, _)| (hash, bytes.to_vec())).collect();
        let (path, generation, tombstones) = (fresh.path, fresh.generation, fresh.tombstones);
        packer.add(out, Loaded { document, path, generation, heads, changes, endorsements, tombstones });
    }
    packer.flush(out);
}
