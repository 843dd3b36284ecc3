//! A sync stream: handshake, credit, frames.
//!
//! ```text
//! both   Hello {versions, nonce, window, epoch}
//! both   Open {a tag for every space}           a tag means nothing to who lacks the space
//! both   Present {proof}  or  Refused           for every tag; Refused also for a proof that fails
//! both   Interests                              from here on the peer is a member
//! ```
//!
//! **Credit.** Numbered messages (updates, facts, parts) may be under way up to the window that the receiver named;
//! it gives credit back when it has dealt with them, stored or refused. So what a peer can make wait here is bounded.

use std::collections::{BTreeMap, BTreeSet};

use super::broadcast::Tree;
use super::confirmed::Confirmed;
use super::held::PeerHeld;
use super::ship::Outbox;
use super::space::{canonical, domain_tag};
use super::sync::{DomainRun, Sync, VISITS};
use super::{Engine, Event, LinkStatus, Phase};
use crate::config::lacks;
use crate::id::{DeviceId, PeerId, Prefix, SpaceId};
use crate::io::{CloseReason, LinkId, MAX_FRAME, Output};
use crate::time::Timestamp;
use crate::topic::Bucket;
use crate::trust::{Handshake, Present, Side};
use crate::wire::Codec;
use crate::wire::v1::{DomainTag, MAX_SPACES, Message, SpaceTag, VERSIONS, decode_frame};

/// Numbered messages that may wait to be dealt with at once, besides the bytes bound.
const MAX_UNRESOLVED: usize = 65_536;

/// What became of something that a peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// It is durable, or of no concern here.
    Stored,
    /// It waits in memory for what it depends on.
    Waits,
    /// It was refused or dropped.
    Refused,
}

/// A numbered message that is being dealt with.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Documents of it that no batch has dealt with.
    pub(super) left: usize,
    pub(super) bytes: u64,
    /// The worst that became of any of them.
    pub(super) fate: Fate,
}

/// What the peer said first.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerHello {
    nonce: [u8; 16],
    pub(super) epoch: u64,
}

/// A space that both ends have.
#[derive(Debug)]
pub(super) struct LinkSpace {
    pub(super) tag: SpaceTag,
    handshake: Handshake,
    /// The peer's device, once proved.
    pub(super) device: Option<DeviceId>,
    /// The interests and the root of the facts that the peer was last told.
    said: Option<(Vec<Prefix>, [u8; 24])>,
    /// The peer was asked for what lies behind a cursor, ahead of any roots.
    pub(super) cursor_said: bool,
    /// The peer's cursor has been served: it need not be again.
    pub(super) cursor_served: bool,
    /// What the peer replicates, once said.
    pub(super) wanted: Option<Vec<Prefix>>,
    /// What both replicate and may read.
    pub(super) domains: Vec<Prefix>,
    /// Fresh changes go to the peer: it has been in step, or its differences are on their way.
    pub(super) pushing: bool,
    /// The peer is no neighbour here: nothing fresh, soft or passing goes over the link, and roots alone are compared.
    pub(super) quiet: bool,
    /// How fresh changes travel between the two ends.
    pub(super) tree: Tree,
    /// What the peer holds of an earlier link.
    pub(super) held: PeerHeld,
    /// Sessions and resolutions of domains.
    pub(super) runs: BTreeMap<DomainTag, DomainRun>,
}

/// One open sync stream.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: PeerId,
    pub(super) initiator: bool,
    nonce: [u8; 16],
    pub(super) opened_at: Timestamp,
    pub(super) hello: Option<PeerHello>,
    /// Tags that the peer has sent, for spaces that may be added here later.
    peer_tags: Vec<[u8; 16]>,
    /// Spaces whose tags the peer was sent: a proof of ours means nothing to it before.
    announced: BTreeSet<SpaceId>,
    pub(super) spaces: BTreeMap<SpaceId, LinkSpace>,
    by_tag: BTreeMap<SpaceTag, SpaceId>,
    pub(super) out: Outbox,
    /// Numbered messages of the peer that are not dealt with.
    pub(super) incoming: BTreeMap<u64, Incoming>,
    incoming_bytes: u64,
    next_incoming: u64,
    /// Refused or incomplete numbers to be named in the next acknowledgement.
    not_stored: Vec<u64>,
    ack_due: Option<u64>,
    credit_due: u64,
    pub(super) sync: Sync,
    /// Looks at items that the peer may still cause by beginning sessions.
    pub(super) visits: Bucket,
    /// Heads that the peer is known to have stored, of recently acknowledged documents.
    pub(super) confirmed: Confirmed,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) duplicates: u64,
    /// Messages that told where peers are.
    pub(super) told: u64,
}

impl Link {
    fn new(peer: PeerId, initiator: bool, nonce: [u8; 16], now: Timestamp) -> Self {
        Self {
            peer,
            initiator,
            nonce,
            opened_at: now,
            hello: None,
            peer_tags: Vec::new(),
            announced: BTreeSet::new(),
            spaces: BTreeMap::new(),
            by_tag: BTreeMap::new(),
            out: Outbox::default(),
            incoming: BTreeMap::new(),
            incoming_bytes: 0,
            next_incoming: 1,
            not_stored: Vec::new(),
            ack_due: None,
            credit_due: 0,
            sync: Sync::default(),
            visits: Bucket::new(VISITS, now),
            confirmed: Confirmed::default(),
            bytes_sent: 0,
            bytes_received: 0,
            duplicates: 0,
            told: 0,
        }
    }

    fn space_of(&self, tag: &SpaceTag) -> Option<SpaceId> {
        self.by_tag.get(tag).copied()
    }

    pub(super) fn status(&self, link: LinkId) -> LinkStatus {
        let members = self.spaces.iter().filter(|(_, s)| s.device.is_some());
        LinkStatus {
            link,
            peer: self.peer,
            device: members.clone().find_map(|(_, s)| s.device),
            spaces: members.clone().map(|(id, _)| *id).collect(),
            in_step: self.sync.in_step,
            neighbour: members.clone().any(|(_, s)| !s.quiet && !s.domains.is_empty()),
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            round_trips: self.sync.round_trips,
            duplicates: self.duplicates,
        }
    }

    /// Whether nothing that was sent or received is still on its way into a store.
    pub(super) fn settled(&self) -> bool {
        self.incoming.is_empty() && self.out.settled()
    }
}

/// Why a message ends its stream.
pub(super) fn protocol(detail: impl Into<String>) -> CloseReason {
    CloseReason::Protocol { detail: detail.into() }
}

type Handled = Result<(), CloseReason>;

impl Engine {
    pub(super) fn on_linked(&mut self, id: LinkId, peer: PeerId, initiator: bool) {
        if !matches!(self.phase, Phase::Open) || self.links.len() >= self.config.max_links {
            self.out.push_back(Output::Close { link: id, reason: CloseReason::Shutdown });
            return;
        }
        let nonce = self.random();
        let mut link = Link::new(peer, initiator, nonce, self.now.mono);
        let versions = VERSIONS.to_vec();
        let (window, epoch) = (self.config.link_window as u64, self.identity().log_epoch);
        link.out.control(Message::Hello { versions, nonce, window, epoch });
        self.links.insert(id, link);
        self.busy_links.insert(id);
    }

    pub(super) fn on_unlinked(&mut self, id: LinkId) {
        let _gone = self.links.remove(&id);
        #[cfg(feature = "coord")]
        _gone.into_iter().for_each(|link| self.coord_unlinked(link.peer));
        self.soft_unlinked(id, None);
        self.topic_unlinked(id, None);
        self.overlay_unlinked(id, None);
        self.busy_links.remove(&id);
        self.sessions.forget_link(id);
        self.regrow(id, None);
    }

    pub(super) fn close_link(&mut self, id: LinkId, reason: CloseReason) {
        if let Some(mut link) = self.links.remove(&id) {
            self.sessions.forget_link(id);
            // What was already said (a typed refusal) still leaves before the stream ends.
            for bytes in link.out.last_words() {
                self.out.push_back(Output::Send { link: id, bytes });
            }
            self.soft_unlinked(id, None);
            self.topic_unlinked(id, None);
            self.overlay_unlinked(id, None);
            #[cfg(feature = "coord")]
            self.coord_unlinked(link.peer);
            self.busy_links.remove(&id);
            self.regrow(id, None);
            self.out.push_back(Output::Close { link: id, reason });
        }
    }

    pub(super) fn on_frame(&mut self, id: LinkId, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.bytes_received += bytes.len() as u64 + 2;
        link.sync.on_heard(self.now.mono);
        self.busy_links.insert(id);
        if bytes.len() > MAX_FRAME {
            return self.close_link(id, protocol(format!("a frame of {} bytes", bytes.len())));
        }
        let messages = match decode_frame(bytes) {
            Ok(messages) => messages,
            Err(error) => return self.close_link(id, protocol(error.to_string())),
        };
        for (message, bytes) in messages {
            if !self.links.contains_key(&id) {
                return;
            }
            if let Err(reason) = self.on_message(id, message, bytes) {
                return self.close_link(id, reason);
            }
        }
    }

    fn on_message(&mut self, id: LinkId, message: Message, bytes: usize) -> Handled {
        let link = self.links.get_mut(&id).expect("checked by the caller");
        match (link.hello.is_some(), &message) {
            (false, Message::Hello { .. } | Message::Unsupported { .. }) => {}
            (false, _) => return Err(protocol("a message before the hello")),
            (true, Message::Hello { .. }) => return Err(protocol("a second hello")),
            (true, _) => {}
        }
        match message {
            Message::Hello { versions, nonce, window, epoch } => self.on_hello(id, &versions, nonce, window, epoch),
            Message::Unsupported { .. } => Err(CloseReason::Version),
            Message::Open { tags } => {
                link.peer_tags.extend(tags);
                if link.peer_tags.len() > 4 * MAX_SPACES {
                    return Err(protocol("too many tags"));
                }
                self.match_tags(id);
                Ok(())
            }
            Message::Present { space, proof } => self.on_present(id, space, &proof),
            Message::Refused { space } => {
                if let Some(space) = link.space_of(&space) {
                    link.spaces.remove(&space);
                    link.sync.forget_question(space);
                    self.soft_unlinked(id, Some(space));
                    self.topic_unlinked(id, Some(space));
                    self.overlay_unlinked(id, Some(space));
                }
                Ok(())
            }
            Message::Ack { number, except } => self.on_ack(id, number, &except),
            Message::Credit { bytes } => link.out.add_credit(bytes),
            Message::SoftAck => {
                self.on_soft_ack(id);
                Ok(())
            }
            Message::Roots { kind, root, arrival } => self.on_roots(id, kind, root, arrival),
            message => self.on_space_message(id, message, bytes),
        }
    }

    /// Messages about one space: from a proved member only.
    fn on_space_message(&mut self, id: LinkId, message: Message, size: usize) -> Handled {
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let Some(tag) = message.space() else { return Ok(()) };
        let Some(space) = link.space_of(tag).filter(|s| link.spaces.get(s).is_some_and(|s| s.device.is_some())) else {
            // The peer speaks of a space in which it is (no longer) nobody.
            let tag = *tag;
            link.out.control(Message::Refused { space: tag });
            return Ok(());
        };
        match message {
            Message::Interests { prefixes, facts_root, facts, .. } => {
                self.on_interests(id, space, prefixes, facts_root, facts);
                Ok(())
            }
            Message::Reconcile { domain, body, .. } => self.on_reconcile(id, space, domain, &body),
            Message::Cursor { arrival, .. } => {
                self.on_cursor(id, space, arrival);
                Ok(())
            }
            Message::CursorReached { mine, .. } => {
                self.on_cursor_reached(id, space, mine);
                Ok(())
            }
            Message::Want { domain, theirs, mine, key, last, .. } => {
                self.on_want(id, space, domain, theirs, mine, key, last)
            }
            Message::Unmatched { domain, ids, .. } => {
                self.on_unmatched(id, space, domain, &ids);
                Ok(())
            }
            Message::Shipped { domain, .. } => {
                self.on_shipped(id, space, domain);
                Ok(())
            }
            Message::Heads { documents, .. } => {
                self.on_heads(id, space, documents, true);
                Ok(())
            }
            Message::FetchSince { documents, .. } => {
                self.on_heads(id, space, documents, false);
                Ok(())
            }
            Message::Fetch { path, generation, hashes, .. } => {
                self.on_fetch(id, space, &path, generation, hashes);
                Ok(())
            }
            Message::Update { number, documents, .. } => self.on_update(id, space, number, documents, size),
            Message::Facts { number, facts, .. } => self.on_facts(id, space, number, &facts, size),
            Message::Part { number, path, generation, hash, total, offset, bytes, .. } => {
                self.on_part(id, space, (number, size), (path, generation, hash), total, offset, &bytes)
            }
            Message::Reached { arrival, .. } => {
                self.on_reached(id, space, arrival);
                Ok(())
            }
            Message::Held { documents, parts, .. } => {
                self.on_held(id, space, documents, parts);
                Ok(())
            }
            Message::Have { documents, .. } => {
                self.on_have(id, space, documents);
                Ok(())
            }
            Message::Prune { domain, .. } => {
                let link = self.links.get_mut(&id).expect("checked by the caller");
                let common = link.spaces.get_mut(&space).expect("found above");
                // A tag that names no domain is of before the interests changed.
                if common.domains.iter().any(|prefix| domain_tag(prefix) == domain) {
                    common.tree.on_prune(domain);
                }
                Ok(())
            }
            Message::PruneAuthor { domain, author, .. } => {
                let link = self.links.get_mut(&id).expect("checked by the caller");
                let common = link.spaces.get_mut(&space).expect("found above");
                if common.domains.iter().any(|prefix| domain_tag(prefix) == domain) {
                    common.tree.on_prune_author(domain, author);
                }
                Ok(())
            }
            Message::GraftAuthor { domain, author, .. } => {
                let link = self.links.get_mut(&id).expect("checked by the caller");
                link.spaces.get_mut(&space).expect("found above").tree.on_graft_author(domain, author);
                Ok(())
            }
            Message::Overlay { body, .. } => self.on_overlay(id, space, &body),
            Message::Vouch { former, set_aside, .. } => {
                self.sessions.on_vouch(id, space, former, &set_aside);
                Ok(())
            }
            Message::Peers { peers, .. } => self.on_peers(id, space, peers),
            Message::Graft { documents, .. } => {
                self.on_graft(id, space, documents);
                Ok(())
            }
            Message::Soft { body, .. } => self.on_soft(id, space, &body),
            Message::Topic { body, .. } => self.on_topic(id, space, &body),
            _ => Err(protocol("a message out of its place")),
        }
    }

    fn on_hello(&mut self, id: LinkId, versions: &[u64], nonce: [u8; 16], window: u64, epoch: u64) -> Handled {
        let link = self.links.get_mut(&id).expect("checked by the caller");
        if !versions.iter().any(|v| VERSIONS.contains(v)) {
            link.out.control(Message::Unsupported { versions: VERSIONS.to_vec() });
            return Err(CloseReason::Version);
        }
        link.hello = Some(PeerHello { nonce, epoch });
        link.out.add_credit(window)?;
        let tags: Vec<[u8; 16]> = self.spaces.keys().filter_map(|s| self.own_tag(id, s)).collect();
        let spaces = self.spaces.keys().copied().collect();
        let link = self.links.get_mut(&id).expect("checked by the caller");
        link.announced = spaces;
        link.out.control(Message::Open { tags });
        self.present_early(id);
        Ok(())
    }

    pub(super) fn handshake(&self, id: LinkId, space: &SpaceId) -> Option<(Handshake, Side)> {
        let link = self.links.get(&id)?;
        let hello = link.hello?;
        let me = self.identity().peer;
        let (initiator, acceptor, initiator_nonce, acceptor_nonce, side) = if link.initiator {
            (me, link.peer, link.nonce, hello.nonce, Side::Initiator)
        } else {
            (link.peer, me, hello.nonce, link.nonce, Side::Acceptor)
        };
        Some((Handshake { space: *space, initiator, acceptor, initiator_nonce, acceptor_nonce }, side))
    }

    fn own_tag(&self, id: LinkId, space: &SpaceId) -> Option<[u8; 16]> {
        self.handshake(id, space).map(|(handshake, side)| handshake.tag_of(side))
    }

    /// Says on every link that this store has a space now.
    pub(super) fn open_space_on_links(&mut self, space: SpaceId) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for id in links {
            self.announce_space(id, space);
            self.busy_links.insert(id);
            self.match_tags(id);
        }
    }

    /// Sends a space's tag, unless the peer has it. A peer's tag may match while this store's own joining is still being
    /// written; the tag has to be there before the proof all the same.
    fn announce_space(&mut self, id: LinkId, space: SpaceId) {
        let Some(tag) = self.own_tag(id, &space) else { return };
        let link = self.links.get_mut(&id).expect("a link with a tag");
        if link.announced.insert(space) {
            link.out.control(Message::Open { tags: vec![tag] });
        }
    }

    /// Presents this device for every space that both have and that was not presented for; refuses the other tags.
    fn match_tags(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let tags = std::mem::take(&mut link.peer_tags);
        let mut unmatched = Vec::new();
        for tag in tags {
            match self.space_of_peer_tag(id, &tag) {
                // It was presented for ahead of its tag.
                Some((space, ..)) if self.links[&id].spaces.contains_key(&space) => {}
                Some((space, handshake, side)) => self.present(id, space, handshake, side),
                None => unmatched.push(tag),
            }
        }
        let link = self.links.get_mut(&id).expect("looked up above");
        link.peer_tags = unmatched;
    }

    fn space_of_peer_tag(&self, id: LinkId, tag: &[u8; 16]) -> Option<(SpaceId, Handshake, Side)> {
        self.spaces.keys().find_map(|space| {
            let (handshake, side) = self.handshake(id, space)?;
            (handshake.tag_of(other(side)) == *tag).then_some((*space, handshake, side))
        })
    }

    pub(super) fn present(&mut self, id: LinkId, space: SpaceId, handshake: Handshake, side: Side) {
        let identity = self.identity();
        let incarnation = Some(identity.incarnation);
        let roster = &self.spaces[&space].roster;
        let present = Present::create(&identity.key, &handshake, side, incarnation, roster, self.now.wall);
        let tag: SpaceTag = handshake.tag_of(Side::Initiator)[..4].try_into().expect("four of 16 bytes");
        self.announce_space(id, space);
        let link = self.links.get_mut(&id).expect("checked by the caller");
        link.by_tag.insert(tag, space);
        link.spaces.entry(space).or_insert_with(|| LinkSpace {
            tag,
            handshake,
            device: None,
            said: None,
            cursor_said: false,
            cursor_served: false,
            wanted: None,
            domains: Vec::new(),
            pushing: false,
            quiet: false,
            tree: Tree::default(),
            held: PeerHeld::default(),
            runs: BTreeMap::new(),
        });
        link.out.control(Message::Present { space: tag, proof: present.to_bytes() });
    }

    fn on_present(&mut self, id: LinkId, tag: SpaceTag, proof: &[u8]) -> Handled {
        let present = Present::from_bytes(proof).map_err(|error| protocol(error.to_string()))?;
        let link = self.links.get_mut(&id).expect("checked by the caller");
        // Its tag came before its proof, so a space that is not known by now is none of ours.
        let Some(space) = link.space_of(&tag) else { return Ok(()) };
        let Some(common) = link.spaces.get(&space) else { return Ok(()) };
        let side = other(if link.initiator { Side::Initiator } else { Side::Acceptor });
        let roster = &self.spaces[&space].roster;
        let verified = present.verify(&common.handshake, side, roster, self.now.wall);
        let verified = match verified {
            Err(_) if lacks!(self.config, Membership) => Ok(crate::trust::Verified {
                device: present.device,
                incarnation: present.incarnation,
                reads: Vec::new(),
                new_facts: Vec::new(),
            }),
            verified => verified,
        };
        match verified {
            Ok(verified) => {
                let peer = link.peer;
                let common = link.spaces.get_mut(&space).expect("found above");
                if common.device.replace(verified.device).is_some() {
                    // It began anew, and knows nothing of what was said before.
                    (common.said, common.cursor_said) = (None, false);
                }
                self.admit_facts(space, verified.new_facts, Some(id));
                self.acquaintances.remember(peer, space, verified.device);
                self.emit(Event::Joined { link: id, peer, device: verified.device, space });
                self.say_interests(id, space);
                self.send_held(id, space);
                self.say_cursor(id, space);
            }
            Err(_) => {
                link.out.control(Message::Refused { space: tag });
                link.spaces.remove(&space);
                self.soft_unlinked(id, Some(space));
                self.topic_unlinked(id, Some(space));
                self.overlay_unlinked(id, Some(space));
            }
        }
        Ok(())
    }

    pub(super) fn send_interests(&mut self, id: LinkId, space: SpaceId) {
        let common = self.links.get(&id).and_then(|link| link.spaces.get(&space));
        if common.is_some_and(|common| common.device.is_some()) {
            self.say_interests(id, space);
        }
    }

    /// Says what is replicated here, unless the peer knows. The caller has authorised it.
    pub(super) fn say_interests(&mut self, id: LinkId, space: SpaceId) {
        let device = self.identity().device;
        let Some(state) = self.spaces.get_mut(&space) else { return };
        let prefixes = state.interests(&device);
        let facts_root = state.facts.root().0;
        let facts = state.roster.len() as u64;
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(common) = link.spaces.get_mut(&space) else { return };
        let said = Some((prefixes.clone(), facts_root));
        if std::mem::replace(&mut common.said, said.clone()) == said {
            return;
        }
        link.out.control(Message::Interests { space: common.tag, prefixes, facts_root, facts });
        self.busy_links.insert(id);
    }

    /// Works out anew what both ends replicate.
    pub(super) fn refresh_domains(&mut self, id: LinkId, space: SpaceId) {
        let own = self.identity().device;
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(common) = link.spaces.get_mut(&space) else { return };
        let (Some(device), Some(wanted)) = (common.device, &common.wanted) else { return };
        let Some(state) = self.spaces.get(&space) else { return };
        let domains = match lacks!(self.config, Reading) {
            true => canonical(wanted.clone()),
            false => canonical(state.common_domains(&own, &device, wanted, self.now.wall)),
        };
        if domains != common.domains {
            common.domains = domains;
            common.runs.clear();
            common.tree.forget();
            // Equal roots over other domains say nothing of these.
            link.sync.in_step_arrival = 0;
            link.sync.unsure();
        }
        self.busy_links.insert(id);
        self.overlay_domains(id, space);
        self.soft_domains(id, space);
        self.topic_domains(id, space);
        #[cfg(feature = "coord")]
        self.coord_linked(id, space);
    }

    pub(super) fn on_interests_changed(&mut self, space: SpaceId) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for id in links {
            self.send_interests(id, space);
            self.refresh_domains(id, space);
        }
    }

    /// Counts a numbered message in. Numbers come in order, so that acknowledgements can name the last one.
    pub(super) fn take_number(&mut self, id: LinkId, number: u64, documents: usize, bytes: usize) -> Handled {
        let window = self.config.link_window as u64;
        let link = self.links.get_mut(&id).expect("checked by the caller");
        if number != link.next_incoming {
            return Err(protocol(format!("message {number} where {} is next", link.next_incoming)));
        }
        link.next_incoming += 1;
        link.incoming_bytes += bytes as u64;
        let beyond = link.incoming_bytes > window + MAX_FRAME as u64 || link.incoming.len() >= MAX_UNRESOLVED;
        if beyond && !lacks!(self.config, Credit) {
            return Err(protocol("more data than credit was given for"));
        }
        let incoming = Incoming { left: documents, bytes: bytes as u64, fate: Fate::Stored };
        link.incoming.insert(number, incoming);
        if documents == 0 {
            self.on_resolved(id, number, Fate::Stored);
        }
        Ok(())
    }

    /// One document of a numbered message has been dealt with.
    pub(super) fn on_resolved(&mut self, id: LinkId, number: u64, fate: Fate) {
        let now = self.now.mono;
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(incoming) = link.incoming.get_mut(&number) else { return };
        incoming.left = incoming.left.saturating_sub(1);
        incoming.fate = incoming.fate.max(fate);
        while let Some(first) = link.incoming.first_entry()
            && first.get().left == 0
        {
            let (number, done) = (*first.key(), first.remove());
            link.credit_due += done.bytes;
            link.incoming_bytes -= done.bytes;
            link.ack_due = Some(number);
            match done.fate {
                Fate::Stored => continue,
                // What it waits for is on its way more often than not, and asked for if it is not.
                Fate::Waits => link.sync.look_later(now),
                Fate::Refused => link.sync.gap(),
            }
            link.not_stored.push(number);
        }
        self.busy_links.insert(id);
    }

    /// Queues what is owed: acknowledgements at once, credit when it is worth a message.
    pub(super) fn settle_debts(&mut self, id: LinkId) {
        let threshold = self.config.link_window as u64 / 4;
        let Some(link) = self.links.get_mut(&id) else { return };
        if let Some(number) = link.ack_due.take() {
            let except = std::mem::take(&mut link.not_stored);
            link.out.control(Message::Ack { number, except });
        }
        if link.credit_due >= threshold {
            let bytes = std::mem::take(&mut link.credit_due);
            link.out.control(Message::Credit { bytes });
        }
        self.answer_deferred(id);
    }

    fn on_ack(&mut self, id: LinkId, number: u64, except: &[u64]) -> Handled {
        let now = self.now.mono;
        let link = self.links.get_mut(&id).expect("checked by the caller");
        let done = link.out.acknowledge(number)?;
        for (number, documents) in done {
            if except.contains(&number) {
                // The peer asks for what it lacks; equal roots will confirm the rest.
                link.sync.look_later(now);
                continue;
            }
            for (document, heads) in documents {
                link.confirmed.note(document, heads);
            }
        }
        self.tell_reached(id, number);
        self.check_sync_waits();
        Ok(())
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Initiator => Side::Acceptor,
        Side::Acceptor => Side::Initiator,
    }
}
