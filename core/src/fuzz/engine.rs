//! A peer that talks to an authorised and hostile one, and to a stranger, while an honest member is linked.
//!
//! An input is a flag byte and steps ([`super::parts`]): the first byte says what, the rest with what. The hostile peer
//! may write `/pub` and has a device key, so what it signs holds. Afterwards: nothing panicked, no bound was passed, the
//! honest link stands, both honest peers have one root, what the guest has no right to is as its owner left it, and
//! nothing of it was told to the guest.

use std::collections::BTreeMap;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::world::{SECRET, World, guest, path};
use super::{Target, Verdict, join, parts};
use crate::document::chunk::{Chunk, ChunkLimits};
use crate::id::{Actor, ChangeHash, DocumentId, Incarnation, Path, PeerId, Prefix};
use crate::io::{CloseReason, Input, LinkId};
use crate::soft::{self, LeaseTerms, OwnerId};
use crate::time::Timestamp;
use crate::topic;
use crate::trust::fact::Link;
use crate::trust::{
    DeviceKey, Endorsement, EndorsementKind, Fact, FactBody, Handshake, Present, Roster, Side, Tombstone,
};
use crate::wire::v1::{DocumentUpdate, Message, SpaceTag, decode_frame};
use crate::wire::{Codec, Writer};

pub(super) const TARGETS: &[Target] = &[Target::new("engine", seeds, engine).room(64 << 20).max_len(16 << 10)];

/// Most steps of one input.
const MAX_STEPS: usize = 40;

/// Bytes that the guest may be told in all: the largest honest answer to each of its steps, with room.
const MAX_TOLD: usize = 4 << 20;

pub(crate) const GUEST: PeerId = PeerId([66; 32]);
pub(crate) const STRANGER: PeerId = PeerId([67; 32]);
const PATHS: [&str; 4] = ["/pub/x", "/pub/y", "/own/a", "/pub/z/w"];

/// The guest's own side of its link.
pub(crate) struct Guest {
    pub(crate) key: DeviceKey,
    pub(crate) link: LinkId,
    pub(crate) tag: SpaceTag,
    /// Which end of its link it is.
    side: Side,
    /// What it says it is a member by.
    facts: Vec<Fact>,
    /// Bodies of soft news that it has said.
    pub(crate) recorded: Vec<Vec<u8>>,
    /// Number of its next numbered message.
    number: u64,
    /// Its newest fact.
    pub(crate) newest: Option<(u64, crate::id::FactHash)>,
    soft: soft::State,
    /// Lives of its as a sender of signals.
    lives: u64,
    rng: ChaCha12Rng,
}

fn engine(bytes: &[u8]) -> Verdict {
    let Some((&flags, rest)) = bytes.split_first() else { return Verdict::refused(&"nothing") };
    let mut world = World::two();
    #[cfg(feature = "coord")]
    if flags & 1 != 0 {
        let start = crate::engine::CoordCommand::Start;
        let _ = world.ask(0, crate::engine::Command::Coord(start));
        world.run_for(3_000);
    }
    let mut expected = private(&mut world);
    let mut guest = Guest::new(&world);
    guest.enter(&mut world);
    let stranger = world.link();
    world.input(0, Input::Linked { link: stranger, peer: STRANGER, initiator: flags & 2 != 0 });
    let (mut told, mut kind) = (0, 0u64);
    for step in parts(rest).into_iter().take(MAX_STEPS) {
        let Some((&what, with)) = step.split_first() else { continue };
        guest.act(&mut world, stranger, what % 16, with, &mut expected);
        let said = overhear(&mut world, stranger);
        told += said;
        kind = kind.rotate_left(3) ^ u64::from(what % 16) ^ (said as u64).ilog2_or_zero() << 8;
        assert!(told + world.strong_bytes <= MAX_TOLD, "the guest is told without end");
        check_bounds(&mut world);
    }
    let why = world.closed.get(&guest.link).map_or(0, reason);
    conclude(world, &guest, stranger, &expected);
    Verdict { accepted: why == 0, kind: kind ^ why << 48 }
}

fn reason(reason: &CloseReason) -> u64 {
    let CloseReason::Protocol { detail } = reason else { return 1 };
    let letters = detail.bytes().filter(|byte| !byte.is_ascii_digit());
    2 + letters.fold(0u64, |hash, byte| (hash * 31 + u64::from(byte)) % 8_191)
}

trait Log2 {
    fn ilog2_or_zero(self) -> u64;
}

impl Log2 for u64 {
    fn ilog2_or_zero(self) -> u64 {
        u64::from(self.checked_ilog2().unwrap_or(0))
    }
}

/// Documents that the guest may not touch.
pub(crate) fn private(world: &mut World) -> BTreeMap<Path, Vec<ChangeHash>> {
    let mut all = world.list(0);
    all.retain(|path, _| !path.as_str().starts_with("/pub/"));
    assert_eq!(all.len(), 2, "they are there");
    all
}

/// Looks at what was said on links without an end here: to members without the right nothing private, to strangers nothing.
pub(crate) fn overhear(world: &mut World, stranger: LinkId) -> usize {
    let mut bytes = 0;
    while let Some((link, frame)) = world.heard.pop_front() {
        bytes += frame.len();
        let shown = frame.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!shown, "a private document was shown");
        if link == stranger {
            for (message, _) in decode_frame(&frame).expect("an own frame reads") {
                let nothing = matches!(
                    message,
                    Message::Hello { .. }
                        | Message::Unsupported { .. }
                        | Message::Open { .. }
                        | Message::Refused { .. }
                );
                assert!(nothing, "a stranger was told {message:?}");
            }
        }
    }
    bytes
}

fn check_bounds(world: &mut World) {
    let status = world.status(0);
    assert!(status.soft_bytes <= soft::MAX_SPACE_BYTES as u64, "soft state over its bound");
    assert!(status.topic_streams <= topic::MAX_STREAMS as u64, "streams over their bound");
    assert!(status.links.len() <= 8, "links without end");
}

fn conclude(mut world: World, guest: &Guest, stranger: LinkId, expected: &BTreeMap<Path, Vec<ChangeHash>>) {
    for link in [guest.link, stranger] {
        world.input(0, Input::Unlinked { link });
    }
    world.run_for(60_000);
    assert_eq!(world.fell_out, None, "an honest peer was made to look hostile");
    for n in 0..2 {
        let mut kept = world.list(n);
        kept.retain(|path, _| !path.as_str().starts_with("/pub/"));
        assert_eq!(&kept, expected, "what the guest has no right to has changed at {n}");
    }
    let (a, b) = (world.status(0), world.status(1));
    assert_eq!(a.spaces[0].root, b.spaces[0].root, "two honest peers have not converged");
    assert_eq!(a.spaces[0].members, b.spaces[0].members, "two honest peers know other members");
}

impl Guest {
    pub(crate) fn new(world: &World) -> Self {
        Self::of(world, guest(), world.facts.clone())
    }

    /// Somebody with a key of its own and no grant.
    #[cfg(test)]
    pub(crate) fn stranger(world: &World) -> Self {
        Self::of(world, DeviceKey::from_seed(&[67; 32]), Vec::new())
    }

    /// Somebody who may read what the guest may write.
    #[cfg(test)]
    pub(crate) fn reader(world: &mut World) -> Self {
        let key = DeviceKey::from_seed(&[68; 32]);
        let facts = world.admit(&key, crate::trust::Role::Reader, "/pub");
        Self::of(world, key, facts)
    }

    fn of(world: &World, key: DeviceKey, facts: Vec<Fact>) -> Self {
        let owner = OwnerId { device: key.device(), peer: GUEST };
        let terms = LeaseTerms { ttl: std::time::Duration::from_secs(15), period: std::time::Duration::from_secs(5) };
        let incarnation = soft::incarnation(world.now().wall, Incarnation(7));
        let mut soft = soft::State::new(world.space, owner, incarnation, terms);
        soft.connect(LinkId(0), vec![Prefix::root()]);
        let rng = ChaCha12Rng::from_seed([7; 32]);
        let (link, tag, recorded) = (LinkId(0), [0; 4], Vec::new());
        let side = Side::Initiator;
        Self { key, link, tag, side, facts, recorded, number: 1, newest: None, soft, lives: 0, rng }
    }

    /// Links and proves its membership, as an honest peer would.
    pub(crate) fn enter(&mut self, world: &mut World) {
        let link = world.link();
        world.input(0, Input::Linked { link, peer: GUEST, initiator: false });
        self.enter_as(world, link, GUEST);
    }

    /// Is linked by seat 0, which then asks and is answered: rounds are their initiator's to drive.
    #[cfg(test)]
    pub(crate) fn be_asked(&mut self, world: &mut World) {
        let link = world.link();
        self.side = Side::Acceptor;
        world.input(0, Input::Linked { link, peer: GUEST, initiator: true });
        self.enter_as(world, link, GUEST);
    }

    /// Proves its membership on a link that is open.
    pub(crate) fn enter_as(&mut self, world: &mut World, link: LinkId, peer: PeerId) {
        self.link = link;
        self.number = 1;
        let hello = world.heard.iter().filter(|(link, _)| *link == self.link).find_map(|(_, frame)| {
            let messages = decode_frame(frame).expect("an own frame reads");
            messages.into_iter().find_map(|(message, _)| match message {
                Message::Hello { nonce, .. } => Some(nonce),
                _ => None,
            })
        });
        // Refused a link: at the bound, or shut out for what it did before.
        let Some(theirs) = hello else { return };
        let (mine, other) = ((peer, [9; 16]), (world.peer(0), theirs));
        let (from, to) = if self.side == Side::Initiator { (mine, other) } else { (other, mine) };
        let handshake = Handshake {
            space: world.space,
            initiator: from.0,
            acceptor: to.0,
            initiator_nonce: from.1,
            acceptor_nonce: to.1,
        };
        let tag = handshake.tag_of(self.side);
        self.tag = *handshake.tag_of(Side::Initiator).first_chunk().expect("four of 16 bytes");
        let roster = Roster::load(world.space, self.facts.clone());
        let present = Present::create(&self.key, &handshake, self.side, None, &roster, world.now().wall);
        self.say(world, &Message::Hello { versions: vec![1], nonce: [9; 16], window: 1 << 20, epoch: 7 });
        self.say(world, &Message::Open { tags: vec![tag] });
        self.say(world, &Message::Present { space: self.tag, proof: present.to_bytes() });
        let prefixes = vec![Prefix::root()];
        self.say(world, &Message::Interests { space: self.tag, prefixes, facts_root: [0; 24], facts: 0 });
    }

    pub(crate) fn say(&self, world: &mut World, message: &Message) {
        let mut bytes = Vec::new();
        message.append_to(&mut bytes);
        world.input(0, Input::Frame { link: self.link, bytes });
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.number += 1;
        self.number - 1
    }

    fn act(
        &mut self,
        world: &mut World,
        stranger: LinkId,
        what: u8,
        with: &[u8],
        expected: &mut BTreeMap<Path, Vec<ChangeHash>>,
    ) {
        let first = usize::from(with.first().copied().unwrap_or(0));
        match what {
            0 => world.input(0, Input::Frame { link: self.link, bytes: with.to_vec() }),
            1 => self.message(world, with),
            2 => world.input(0, Input::Frame { link: stranger, bytes: with.to_vec() }),
            3 => world.run_for(1 << (first % 15)),
            4 => {
                let heads = world.edit(0, "/own/a", "x", &first.to_string());
                if let Some(heads) = heads {
                    expected.insert(path("/own/a"), heads);
                }
            }
            5 => {
                world.input(0, Input::Unlinked { link: self.link });
                self.enter(world);
            }
            #[cfg(feature = "coord")]
            6 => {
                let bytes = [&world.space.0[..], with].concat();
                world.input(0, Input::Coord { peer: GUEST, bytes });
            }
            7 => self.change(world, with),
            8 => self.fact(world, with),
            9 => self.soft(world, first, with),
            10 => self.topic(world, first, with),
            11 => self.tombstone(world, with),
            12 => self.part(world, with),
            13 => {
                let own = world.heard.iter().map(|(_, bytes)| bytes.clone()).nth(first);
                if let Some(bytes) = own {
                    world.input(0, Input::Frame { link: self.link, bytes });
                }
            }
            14 => drop(world.edit(0, PATHS[first % 2], "y", &with.len().to_string())),
            _ => drop(world.edit(1, PATHS[first % 2], "z", &with.len().to_string())),
        }
    }

    /// A message of any kind with the right tag, and the right number where it has one.
    fn message(&mut self, world: &mut World, with: &[u8]) {
        let Some((&kind, rest)) = with.split_first() else { return };
        let mut body = Writer::new();
        match kind {
            0 | 1 | 2 | 6 | 7 | 20 | 21 | 26 | 28 => {}
            17..=19 => drop(body.array(&self.tag).varint(self.next())),
            _ => drop(body.array(&self.tag)),
        }
        body.raw(rest);
        let mut frame = Writer::new();
        frame.u8(kind).bytes(&body.finish());
        world.input(0, Input::Frame { link: self.link, bytes: frame.finish() });
    }

    fn place(&self, world: &World, with: &[u8]) -> (Path, u32, DocumentId) {
        let byte = |n: usize| with.get(n).copied().unwrap_or(0);
        let (path, generation) = (path(PATHS[usize::from(byte(0) % 4)]), u32::from(byte(1) % 3));
        let document = DocumentId::derive(&world.space, &path, generation);
        (path, generation, document)
    }

    pub(crate) fn update(&mut self, world: &mut World, documents: Vec<DocumentUpdate>) {
        let number = self.next();
        self.say(world, &Message::Update { space: self.tag, number, documents });
    }

    /// A change with a right hash and the guest's signature over it, whatever it says.
    fn change(&mut self, world: &mut World, with: &[u8]) {
        let (path, generation, document) = self.place(world, with);
        let kind = if with.get(2).is_some_and(|byte| byte & 1 != 0) {
            EndorsementKind::Chain
        } else {
            EndorsementKind::Single
        };
        let bytes = with.get(3..).unwrap_or_default().to_vec();
        let parsed = Chunk::parse(bytes.clone(), &ChunkLimits::default());
        let (actor, seq, hash) = match &parsed {
            Ok(chunk) => (chunk.actor().clone(), chunk.seq(), chunk.hash()),
            Err(_) => (Actor::from_bytes(&[1; 16]).expect("16 bytes"), 1, ChangeHash([1; 32])),
        };
        let signed = Endorsement::foreign(&self.key, &world.space, document, actor, (seq, hash), kind);
        let mut w = Writer::new();
        signed.encode_wire(&mut w, None, None);
        let endorsements = vec![w.finish()];
        let update = DocumentUpdate { path, generation, chunks: vec![bytes], endorsements, tombstones: vec![] };
        self.update(world, vec![update]);
    }

    /// A fact of any body, signed by the guest and in its chain.
    /// A message about the space that this link is about.
    #[cfg(test)]
    pub(crate) fn tagged(&self, message: Message) -> Message {
        let mut frame = Vec::new();
        message.append_to(&mut frame);
        let head = 1 + frame[1..].iter().position(|byte| byte & 0x80 == 0).map_or(0, |at| at + 1);
        let about_a_space = !matches!(frame[0], 0 | 1 | 2 | 6 | 7 | 20 | 21 | 26 | 28);
        if about_a_space && frame.len() >= head + 4 {
            frame[head..head + 4].copy_from_slice(&self.tag);
        }
        let mut read = decode_frame(&frame).expect("an own frame reads");
        read.pop().map_or(message, |(message, _)| message)
    }

    fn fact(&mut self, world: &mut World, with: &[u8]) {
        let Some((&flags, bytes)) = with.split_first() else { return };
        let Ok(fact) = Fact::from_bytes(bytes) else { return };
        let link = match flags % 3 {
            0 => Link::behind(self.newest),
            1 => fact.link(),
            _ => Link::Unchained,
        };
        let body: FactBody = fact.body().clone();
        let fact = Fact::sign(&self.key, &world.space, link, body).unwrap_or(fact);
        if flags % 3 == 0 && *fact.signer() == self.key.device() {
            self.newest = Some((fact.link().seq(), fact.hash()));
        }
        let number = self.next();
        self.say(world, &Message::Facts { space: self.tag, number, facts: vec![fact.to_bytes()] });
    }

    pub(crate) fn soft(&mut self, world: &mut World, first: usize, with: &[u8]) {
        self.soft_at(world, PATHS[first % 4], with);
    }

    /// Sets a soft entry and says what there is to say, after what an honest peer would have answered: news are heard only from
    /// who has told what it has.
    pub(crate) fn soft_at(&mut self, world: &mut World, at: &str, with: &[u8]) {
        let now = world.now();
        let said = world.heard.iter().filter(|(link, _)| *link == self.link);
        for (message, _) in said.flat_map(|(_, frame)| decode_frame(frame).expect("an own frame reads")) {
            let Message::Soft { body, .. } = message else { continue };
            match soft::Message::from_bytes(&body).expect("an own message reads") {
                soft::Message::Digest { first, last, graft, asks, answers, owners } => {
                    // It keeps the protocol, so what the guest thinks of it does not matter.
                    let _ = self.soft.on_digest(LinkId(0), now, (first, last, graft), (asks, answers), owners);
                }
                soft::Message::Fetch(fetches) => self.soft.on_fetch(LinkId(0), now, fetches),
                _ => {}
            }
        }
        let value: std::sync::Arc<[u8]> = with.into();
        let _ = self.soft.set(now, (&self.key, &mut self.rng), path(at), value);
        self.soft.tick(now, &self.key, &mut self.rng);
        for message in self.soft.poll_link(LinkId(0), now.mono, true) {
            let body = message.to_bytes();
            self.recorded.push(body.clone());
            self.say(world, &Message::Soft { space: self.tag, body });
        }
    }

    /// Publishes, whatever the rate: each signal is the first of another life.
    pub(crate) fn topic(&mut self, world: &mut World, first: usize, with: &[u8]) {
        let now = world.now();
        self.lives += 1;
        let owner = OwnerId { device: self.key.device(), peer: GUEST };
        let mut life = topic::State::new(world.space, owner, self.lives, Timestamp::ZERO);
        // Signals do not go back to their sender: this one goes to whoever is not it.
        life.connect(LinkId(1), STRANGER, vec![Prefix::root()], Timestamp::ZERO);
        let _ = life.publish(now, &self.key, path(PATHS[first % 4]), with.into());
        for body in life.poll_link(LinkId(1), now.mono) {
            self.say(world, &Message::Topic { space: self.tag, body });
        }
    }

    fn tombstone(&mut self, world: &mut World, with: &[u8]) {
        let (path, generation, _) = self.place(world, with);
        let heads = with.get(2..).unwrap_or_default().chunks(32).take(8).map(|head| {
            let mut hash = [0; 32];
            hash[..head.len()].copy_from_slice(head);
            ChangeHash(hash)
        });
        let heads: Vec<ChangeHash> = heads.collect();
        let Ok(tombstone) = Tombstone::sign(&self.key, &world.space, path.clone(), generation, heads) else { return };
        let tombstones = vec![tombstone.to_bytes()];
        let update = DocumentUpdate { path, generation, chunks: vec![], endorsements: vec![], tombstones };
        self.update(world, vec![update]);
    }

    /// A piece of a change, of any length that it claims.
    fn part(&mut self, world: &mut World, with: &[u8]) {
        let (path, generation, _) = self.place(world, with);
        let number_at = |at: usize| {
            let mut bytes = [0; 8];
            let found = with.get(at..).unwrap_or_default();
            let len = found.len().min(8);
            bytes[..len].copy_from_slice(&found[..len]);
            u64::from_le_bytes(bytes)
        };
        let (total, offset) = (number_at(2), number_at(10));
        let bytes = with.get(18..).unwrap_or_default().to_vec();
        let (space, number, hash) = (self.tag, self.next(), ChangeHash([with.len() as u8; 32]));
        self.say(world, &Message::Part { space, number, path, generation, hash, total, offset, bytes });
    }
}

fn step(what: u8, with: &[u8]) -> Vec<u8> {
    [&[what], with].concat()
}

fn program(flags: u8, steps: &[Vec<u8>]) -> Vec<u8> {
    [vec![flags], join(steps.iter().map(Vec::as_slice))].concat()
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = message_steps().chunks(5).map(|steps| program(0, steps)).collect();
    let changes: Vec<Vec<u8>> =
        super::changes::chunks().iter().map(|chunk| step(7, &[&[0, 0, 1][..], chunk].concat())).collect();
    seeds.push(program(0, &changes));
    let backwards: Vec<Vec<u8>> = changes.iter().rev().cloned().collect();
    seeds.push(program(0, &backwards));
    let facts: Vec<Vec<u8>> =
        super::statements::facts().iter().map(|fact| step(8, &[&[0][..], fact].concat())).collect();
    seeds.push(program(0, &facts));
    let part = [&[1, 0][..], &70_000u64.to_le_bytes(), &0u64.to_le_bytes(), &[7; 300]].concat();
    let mixed = [
        step(9, &[0, 1, 2]),
        step(10, &[1, 1, 2]),
        step(3, &[13]),
        step(4, &[5]),
        step(14, &[0, 1]),
        step(15, &[1]),
        step(9, &[2, 9]),
        step(11, &[&[0, 0][..], &[5; 32]].concat()),
        step(12, &part),
        step(5, &[]),
        step(13, &[0]),
        step(
            2,
            &super::wire::messages().iter().take(3).fold(Vec::new(), |mut frame, message| {
                message.append_to(&mut frame);
                frame
            }),
        ),
        step(3, &[14]),
    ];
    seeds.push(program(2, &mixed));
    #[cfg(feature = "coord")]
    seeds.push(program(1, &strong_steps()));
    seeds
}

/// Each message as a step, with the guest's domain where it names one.
fn message_steps() -> Vec<Vec<u8>> {
    let domain: [u8; 4] = *blake3::hash(b"/pub").as_bytes().first_chunk().expect("four of 32 bytes");
    let of = |message: &Message| {
        let mut frame = Vec::new();
        message.append_to(&mut frame);
        let mut r = crate::wire::Reader::new(&frame);
        let kind = r.u8("kind").ok()?;
        let mut body = r.bytes(frame.len(), "body").ok()?.to_vec();
        if matches!(kind, 8 | 11 | 12 | 16 | 23 | 164) {
            body[4..8].copy_from_slice(&domain);
        }
        let skip = match kind {
            0 | 1 | 2 | 6 | 7 | 20 | 21 | 26 | 28 => 0,
            17..=19 => 5,
            _ => 4,
        };
        Some(step(1, &[&[kind][..], &body[skip..]].concat()))
    };
    // After the beginning, which an honest peer says once.
    super::wire::messages().iter().skip(4).filter_map(of).collect()
}

#[cfg(feature = "coord")]
fn strong_steps() -> Vec<Vec<u8>> {
    use crate::coord::serve::talk::{Ask, Frame, Query};
    let asks = [
        Ask::Open { nonce: 1, ttl_ms: 10_000 },
        Ask::Read { id: 3, after: 0, linear: true, query: Query::Children("/".into()), watch: true },
        Ask::Ping { n: 300 },
    ];
    asks.into_iter().map(|ask| step(6, &[&[0][..], &Frame::Ask(300, ask).to_bytes()].concat())).collect()
}
