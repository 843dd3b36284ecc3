//! Soft state, topics and the choice of neighbours.

use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::{Target, Verdict, join, parts};
use crate::id::{DeviceId, Path, PeerId, Prefix, SpaceId};
use crate::io::LinkId;
use crate::soft::{self, LeaseTerms, MAX_FLOORS, MAX_OWNERS, MAX_SPACE_BYTES, OwnerId};
use crate::time::{Now, Timestamp, WallTime};
use crate::trust::DeviceKey;
use crate::wire::Codec;
use crate::{overlay, topic};

pub(super) const TARGETS: &[Target] = &[
    Target::new("soft", soft_seeds, soft_target).room(4 << 20),
    Target::new("topic", topic_seeds, topic_target).room(4 << 20),
    Target::new("overlay", overlay_seeds, overlay_target),
];

const SPACE: SpaceId = SpaceId([7; 32]);
const WALL: i64 = 1_790_000_000_000;
const TERMS: LeaseTerms = LeaseTerms { ttl: Duration::from_secs(15), period: Duration::from_secs(5) };
const LINK: LinkId = LinkId(1);

fn at(millis: u64) -> Now {
    Now { mono: Timestamp::from_micros(millis * 1_000), wall: WallTime(WALL + millis as i64) }
}

fn key(n: u8) -> DeviceKey {
    DeviceKey::from_seed(&[n; 32])
}

fn owner(n: u8) -> OwnerId {
    OwnerId { device: key(n).device(), peer: PeerId([n; 32]) }
}

/// Only paths under `/pub` may be written by others.
fn may_write(_: &DeviceId, path: &Path) -> bool {
    path.as_str().starts_with("/pub")
}

fn path(text: &str) -> Path {
    Path::parse(text).expect("a path")
}

/// A peer of soft state, itself an owner.
fn soft_state(n: u8) -> (soft::State, DeviceKey, ChaCha12Rng) {
    let mut state = soft::State::new(SPACE, owner(n), 1_000 + u64::from(n), TERMS);
    state.connect(LINK, vec![Prefix::root()]);
    (state, key(n), ChaCha12Rng::from_seed([n; 32]))
}

fn soft_target(bytes: &[u8]) -> Verdict {
    let (mut state, key, mut rng) = soft_state(1);
    let own = state.set(at(0), (&key, &mut rng), path("/own"), b"mine".as_slice().into());
    assert_eq!(own, Ok(1));
    let (mut kind, mut now) = (0u64, 0);
    for part in parts(bytes).into_iter().take(32) {
        let Some((wait, body)) = part.split_first() else { continue };
        now += u64::from(*wait) * 50;
        let message = match soft::Message::from_bytes(body) {
            Ok(message) => message,
            Err(error) => return Verdict::refused(&error),
        };
        assert_eq!(message.to_bytes(), body, "a second spelling was taken");
        let heard = hear(&mut state, at(now), message);
        if let Err(misbehaviour) = heard {
            return Verdict::refused(&misbehaviour);
        }
        state.tick(at(now), &key, &mut rng);
        let said = state.poll_link(LINK, at(now).mono, true).len();
        let (owners, floors, held) = state.figures();
        assert!(owners <= MAX_OWNERS && floors <= MAX_FLOORS && held <= MAX_SPACE_BYTES, "over a bound");
        kind = (kind << 3) ^ (said.min(3) as u64) ^ (owners.min(3) as u64) << 1;
    }
    let mine = state.get(&path("/own"), at(now).mono);
    assert!(mine.iter().any(|shown| shown.mine && shown.value.as_ref() == b"mine"), "an own entry was taken away");
    let others = state.list(&Prefix::root(), None, 1_000, at(now).mono).0;
    assert!(others.iter().all(|shown| shown.mine || shown.path.as_str().starts_with("/pub")), "written without right");
    Verdict::accepted(kind)
}

fn hear(state: &mut soft::State, now: Now, message: soft::Message) -> Result<(), soft::Misbehaviour> {
    match message {
        soft::Message::News(news) => state.on_news(LINK, now, news, &may_write),
        soft::Message::Digest { first, last, graft, asks, answers, owners } => {
            state.on_digest(LINK, now, (first, last, graft), (asks, answers), owners)
        }
        soft::Message::Fetch(fetches) => {
            state.on_fetch(LINK, now, fetches);
            Ok(())
        }
        soft::Message::Prune(owners) => {
            state.on_prune(LINK, owners);
            Ok(())
        }
        soft::Message::Have(owners) => {
            state.on_have(LINK, now, owners);
            Ok(())
        }
    }
}

fn after(wait: u8, body: &[u8]) -> Vec<u8> {
    [&[wait], body].concat()
}

fn soft_seeds() -> Vec<Vec<u8>> {
    let (mut other, key, mut rng) = soft_state(2);
    let mut said: Vec<Vec<u8>> = Vec::new();
    let mut rounds = Vec::new();
    for (millis, text) in [(0, "/pub/a"), (100, "/pub/b"), (200, "/elsewhere"), (5_100, "/pub/a"), (10_200, "/pub/c")] {
        let _ = other.set(at(millis), (&key, &mut rng), path(text), text.as_bytes().into());
        other.tick(at(millis), &key, &mut rng);
        for message in other.poll_link(LINK, at(millis).mono, true) {
            said.push(after(100, &message.to_bytes()));
        }
        rounds.push(join(said.iter().map(Vec::as_slice)));
    }
    let tag = owner(2).tag();
    let more =
        [soft::Message::Prune(vec![tag]), soft::Message::Prune(vec![owner(1).tag()]), soft::Message::Fetch(vec![])];
    said.extend(more.iter().map(|message| after(1, &message.to_bytes())));
    rounds.push(join(said.iter().map(Vec::as_slice)));
    rounds
}

fn topic_state(n: u8) -> topic::State {
    let mut state = topic::State::new(SPACE, owner(n), 5, Timestamp::ZERO);
    state.connect(LINK, PeerId([9; 32]), vec![Prefix::root()], Timestamp::ZERO);
    state.connect(LinkId(2), PeerId([8; 32]), vec![Prefix::root()], Timestamp::ZERO);
    state
}

fn topic_target(bytes: &[u8]) -> Verdict {
    let mut state = topic_state(1);
    let (mut kind, mut now) = (0u64, 0);
    let mut heard = std::collections::BTreeSet::new();
    for part in parts(bytes).into_iter().take(32) {
        let Some((wait, body)) = part.split_first() else { continue };
        now += u64::from(*wait) * 20;
        let message = match topic::Message::from_bytes(body) {
            Ok(message) => message,
            Err(error) => return Verdict::refused(&error),
        };
        assert_eq!(message.to_bytes(), body, "a second spelling was taken");
        if let Err(misbehaviour) = state.on_message(LINK, at(now), message, body.len(), &may_write) {
            return Verdict::refused(&misbehaviour);
        }
        for event in state.take_events() {
            assert!(event.path.as_str().starts_with("/pub"), "published without right");
            assert!(heard.insert((event.sender, event.path, event.seq)), "a signal was heard twice");
        }
        state.tick(at(now).mono);
        let said = state.poll_link(LINK, at(now).mono).len() + state.poll_link(LinkId(2), at(now).mono).len();
        let figures = state.figures();
        assert!(figures.streams <= topic::MAX_STREAMS as u64, "over a bound");
        assert!(figures.bytes <= (topic::RECENT_BYTES + 2 * topic::QUEUE_BYTES) as u64 + (64 << 10), "over a bound");
        kind = (kind << 2) ^ said.min(3) as u64;
    }
    Verdict::accepted(kind)
}

fn topic_seeds() -> Vec<Vec<u8>> {
    let mut other = topic_state(2);
    let mut said: Vec<Vec<u8>> = Vec::new();
    for (millis, text) in [(0, "/pub/a"), (10, "/pub/a"), (20, "/elsewhere"), (700, "/pub/b")] {
        let _ = other.publish(at(millis), &key(2), path(text), b"x".as_slice().into());
        other.tick(at(millis).mono);
        said.extend(other.poll_link(LINK, at(millis).mono).iter().map(|body| after(1, body)));
    }
    let tag = topic::StreamTag([1; 8]);
    let more = [
        topic::Message::Have(vec![(tag, 300)]),
        topic::Message::Graft(vec![(tag, 0)]),
        topic::Message::Prune(vec![tag]),
        topic::Message::Ack { bytes: 1_000 },
        topic::Message::Former { incarnation: 7 << 16 },
    ];
    said.extend(more.iter().map(|message| after(1, &message.to_bytes())));
    vec![join(said.iter().take(2).map(Vec::as_slice)), join(said.iter().map(Vec::as_slice))]
}

fn overlay_target(bytes: &[u8]) -> Verdict {
    let mut rng = ChaCha12Rng::seed_from_u64(3);
    let mut state = overlay::State::new(PeerId([1; 32]), Timestamp::ZERO);
    for n in 1..4 {
        state.connect(LinkId(n), PeerId([n as u8 + 1; 32]), overlay::Share::Whole, Timestamp::ZERO);
    }
    let (mut kind, mut now) = (0u64, Timestamp::ZERO);
    for part in parts(bytes).into_iter().take(32) {
        let Some((wait, body)) = part.split_first() else { continue };
        now = now + Duration::from_millis(u64::from(*wait) * 100);
        let message = match overlay::Message::from_bytes(body) {
            Ok(message) => message,
            Err(error) => return Verdict::refused(&error),
        };
        super::lenient(&message, body);
        state.on_message(LinkId(1 + u64::from(*wait) % 3), message, now, &mut rng, &|_| 0);
        state.tick(now, &mut rng, &|_| 0);
        let mut effects = 0;
        while state.poll().is_some() {
            effects += 1;
            assert!(effects < 1_000, "endless effects");
        }
        assert!(state.known() <= overlay::MAX_KNOWN, "over a bound");
        kind = (kind << 2) ^ (effects.min(3) as u64);
    }
    Verdict::accepted(kind)
}

fn overlay_seeds() -> Vec<Vec<u8>> {
    let mut rng = ChaCha12Rng::seed_from_u64(4);
    let mut other = overlay::State::new(PeerId([2; 32]), Timestamp::ZERO);
    other.set_addresses(vec!["/ip4/192.0.2.7/tcp/4801".into()]);
    for n in 1..20 {
        other.connect(LinkId(n), PeerId([n as u8 + 10; 32]), overlay::Share::Whole, Timestamp::ZERO);
    }
    let mut said = Vec::new();
    for second in 0..120 {
        other.tick(Timestamp::from_micros(second * 1_000_000), &mut rng, &|_| 0);
        while let Some(effect) = other.poll() {
            if let overlay::Effect::Send(_, message) = effect {
                said.push(after(10, &message.to_bytes()));
            }
        }
    }
    let mut kinds = std::collections::BTreeSet::new();
    said.retain(|part| kinds.insert((part.get(1).copied(), part.len())));
    said.truncate(12);
    vec![join(said.iter().map(Vec::as_slice))]
}
