//! The protocol between states, without engines: time is a number, links are function calls.

use std::time::Duration;

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::*;
use crate::id::{DeviceId, Incarnation, Path, PeerId, Prefix, SpaceId};
use crate::io::LinkId;
use crate::time::{Now, Timestamp, WallTime};
use crate::trust::DeviceKey;
use crate::wire::Codec;

const SPACE: SpaceId = SpaceId([9; 32]);
const TERMS: LeaseTerms = LeaseTerms { ttl: Duration::from_secs(15), period: Duration::from_secs(5) };

fn at(millis: u64) -> Now {
    Now { mono: Timestamp::from_micros(millis * 1000), wall: WallTime(1_790_000_000_000 + millis as i64) }
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn anybody(_: &DeviceId, _: &Path) -> bool {
    true
}

/// One peer, with one link at a time.
struct Peer {
    link: LinkId,
    state: State,
    key: DeviceKey,
    rng: ChaCha12Rng,
}

impl Peer {
    fn new(n: u8) -> Self {
        Self::opened(n, 1_790_000_000_000)
    }

    fn opened(n: u8, wall: i64) -> Self {
        let key = DeviceKey::from_seed(&[n; 32]);
        let owner = OwnerId { device: key.device(), peer: PeerId([n; 32]) };
        let incarnation = incarnation(WallTime(wall), Incarnation(u64::from(n)));
        let state = State::new(SPACE, owner, incarnation, TERMS);
        Self { link: LinkId(0), state, key, rng: ChaCha12Rng::from_seed([n; 32]) }
    }

    /// A link to somebody who may see everything; the one before is gone.
    fn connect(&mut self) {
        self.state.disconnect(self.link);
        self.link.0 += 1;
        self.state.connect(self.link, vec![Prefix::root()]);
    }

    fn set(&mut self, now: Now, at: &str, value: &str) {
        self.state.set(now, (&self.key, &mut self.rng), path(at), value.as_bytes().into()).unwrap();
    }

    fn delete(&mut self, now: Now, at: &str) -> bool {
        self.state.delete(now, (&self.key, &mut self.rng), &path(at))
    }

    fn tick(&mut self, now: Now) {
        self.state.tick(now, &self.key, &mut self.rng);
    }

    fn take(&mut self, now: Now, message: Message) -> Result<(), Misbehaviour> {
        match message {
            Message::News(news) => self.state.on_news(self.link, now, news, &anybody),
            Message::Digest { first, last, graft, asks, answers, owners } => {
                self.state.on_digest(self.link, now, (first, last, graft), (asks, answers), owners)
            }
            Message::Fetch(fetches) => {
                self.state.on_fetch(self.link, now, fetches);
                Ok(())
            }
            Message::Prune(owners) => {
                self.state.on_prune(self.link, owners);
                Ok(())
            }
            Message::Have(owners) => {
                self.state.on_have(self.link, now, owners);
                Ok(())
            }
        }
    }

    fn says(&mut self, now: Now) -> Vec<Message> {
        let messages = self.state.poll_link(self.link, now.mono, true);
        messages.iter().for_each(|m| assert_eq!(Message::from_bytes(&m.to_bytes()).as_ref(), Ok(m)));
        messages
    }

    fn shows(&self, now: Now) -> Vec<String> {
        let (items, more) = self.state.list(&Prefix::root(), None, 1000, now.mono);
        assert!(!more);
        items.iter().map(|i| format!("{}={}", i.path, String::from_utf8_lossy(&i.value))).collect()
    }

    /// A renewal that was recorded: the news of the newest one, as a peer that knows the lease gets it.
    fn renewal(&mut self, now: Now) -> News {
        self.tick(now);
        let found = self.says(now).into_iter().find_map(|message| match message {
            Message::News(news) => news.into_iter().find(|n| matches!(n, News::Renewal { .. })),
            _ => None,
        });
        found.expect("a renewal is due")
    }
}

/// Lets two peers talk until neither has anything to say.
fn talk(now: Now, a: &mut Peer, b: &mut Peer) {
    for _ in 0..100 {
        let (from_a, from_b) = (a.says(now), b.says(now));
        if from_a.is_empty() && from_b.is_empty() {
            return;
        }
        from_a.into_iter().for_each(|m| b.take(now, m).unwrap());
        from_b.into_iter().for_each(|m| a.take(now, m).unwrap());
    }
    panic!("they never come to an end");
}

fn meet(now: Now, a: &mut Peer, b: &mut Peer) {
    a.connect();
    b.connect();
    talk(now, a, b);
}

/// An owner with one entry, and a peer that knows it.
fn acquainted() -> (Peer, Peer) {
    let (mut owner, mut other) = (Peer::new(1), Peer::new(2));
    owner.set(at(0), "/a", "1");
    meet(at(0), &mut owner, &mut other);
    assert_eq!(other.shows(at(0)), ["/a=1"]);
    (owner, other)
}

#[test]
fn a_lease_that_is_renewed_lives_and_one_that_is_not_lapses_in_time() {
    let (mut owner, mut other) = acquainted();
    for second in 1..=1000 {
        let now = at(second * 1000);
        owner.tick(now);
        talk(now, &mut owner, &mut other);
        other.tick(now);
        assert_eq!(other.shows(now), ["/a=1"], "after {second} s");
    }
    other.tick(at(1_014_999));
    assert_eq!(other.shows(at(1_014_999)), ["/a=1"]);
    assert_eq!(other.shows(at(1_015_001)), [""; 0], "even before anything has been tidied up");
    other.tick(at(1_015_001));
    assert_eq!(other.state.figures(), (0, 1, 0));
}

#[test]
fn age_gathers_along_the_way() {
    let (mut owner, mut relay) = acquainted();
    owner.renewal(at(5_000));
    owner.state.disconnect(owner.link);
    let mut far = Peer::new(3);
    // The relay has the news of time zero; what it passes on at 12 s has three seconds to live.
    meet(at(12_000), &mut relay, &mut far);
    assert_eq!(far.shows(at(14_999)), ["/a=1"]);
    assert_eq!(far.shows(at(15_001)), [""; 0]);
}

#[test]
fn a_recorded_lease_raises_no_dead_at_a_newcomer() {
    let (_, mut witness) = acquainted();
    let limit = 15_000 + MAX_SKEW.as_millis() as u64;
    for (later, raised) in [(limit, true), (limit + 1, false)] {
        // Whoever replays it says that it is fresh.
        let mut newcomer = Peer::new(4);
        newcomer.connect();
        witness.connect();
        witness
            .take(
                at(0),
                Message::Digest { first: true, last: true, graft: false, asks: None, answers: None, owners: vec![] },
            )
            .unwrap();
        for message in witness.says(at(0)) {
            newcomer.take(at(later), message).unwrap();
        }
        assert_eq!(!newcomer.shows(at(later)).is_empty(), raised, "{later}");
    }
}

#[test]
fn hoarded_preimages_revive_nobody() {
    let (mut owner, mut other) = acquainted();
    let hoard: Vec<News> = (1..=40).map(|i| owner.renewal(at(5_000 * i))).collect();
    // The first is taken in time; then nothing comes for a while, and the rest all at once.
    other.take(at(5_000), Message::News(vec![hoard[0].clone()])).unwrap();
    for renewal in &hoard[1..3] {
        other.tick(at(40_000));
        other.take(at(40_000), Message::News(vec![renewal.clone()])).unwrap();
        assert_eq!(other.shows(at(40_000)), [""; 0]);
    }
    // One that is on time by the anchor's schedule is a sign of life; the lease is asked for, since it was forgotten.
    other.take(at(200_000), Message::News(vec![hoard[39].clone()])).unwrap();
    let asked = other.says(at(200_000));
    assert!(asked.iter().any(|m| matches!(m, Message::Fetch(f) if f[0].lease)), "{asked:?}");
}

#[test]
fn hoarded_preimages_in_time_end_with_the_lease() {
    let (mut owner, mut other) = acquainted();
    let hoard: Vec<News> = (1..=64).map(|i| owner.renewal(at(5_000 * i))).collect();
    // The owner died at once; somebody doles its preimages out one by one, each as late as it can.
    let mut last = 0;
    for (i, renewal) in (1..).zip(&hoard) {
        let now = at(5_000 * i + 14_000);
        other.tick(now);
        other.take(now, Message::News(vec![renewal.clone()])).unwrap();
        last = 5_000 * i + 14_000;
    }
    let bound = 64 * 5_000 + 2 * 15_000;
    assert!(last + 15_000 <= bound);
    other.tick(at(bound));
    assert_eq!(other.shows(at(bound)), [""; 0]);
}

#[test]
fn what_has_lapsed_comes_back_by_a_later_renewal_only() {
    let (mut owner, mut other) = acquainted();
    let (mut relay, mut copy) = (Peer::new(3), Peer::new(4));
    owner.connect();
    meet(at(1_000), &mut owner, &mut relay);
    other.state.disconnect(other.link);
    other.tick(at(16_000));
    assert_eq!(other.shows(at(16_000)), [""; 0]);
    // A peer that got the same renewal later offers it: it is no sign of life.
    meet(at(14_000), &mut relay, &mut copy);
    other.connect();
    copy.connect();
    talk(at(14_500), &mut copy, &mut other);
    assert_eq!(other.shows(at(14_500)), [""; 0]);
    // The owner itself goes on, and is believed.
    owner.tick(at(20_000));
    meet(at(20_000), &mut owner, &mut other);
    assert_eq!(other.shows(at(20_000)), ["/a=1"]);
}

#[test]
fn forgeries_cost_the_connection_and_change_nothing() {
    let (mut owner, _) = acquainted();
    owner.connect();
    let empty = Message::Digest { first: true, last: true, graft: false, asks: None, answers: None, owners: vec![] };
    owner.take(at(0), empty).unwrap();
    let said = owner.says(at(0));
    let Some(Message::News(news)) = said.last() else { panic!("{said:?}") };
    let News::Lease { lease, index, preimage, age, hops, entries, checksum, scope } = news[0].clone() else { panic!() };
    let mut victim = Peer::new(5);
    victim.connect();
    let mut tell = |lease: Lease, preimage, entries: Vec<SoftEntry>| {
        let news =
            News::Lease { lease: Box::new(lease), index, preimage, age, hops, entries, checksum, scope: scope.clone() };
        victim.take(at(10), Message::News(vec![news])).map(|()| victim.shows(at(10)))
    };
    let changed = |change: fn(&mut Lease)| {
        let mut other = Lease::clone(&lease);
        change(&mut other);
        other
    };
    let forged = [
        changed(|l| l.seq += 1),
        changed(|l| l.floor += 1),
        changed(|l| l.terms.ttl += Duration::from_secs(1)),
        changed(|l| l.issue.0 += 1),
        changed(|l| l.owner.peer.0[0] ^= 1),
        changed(|l| l.incarnation += 1),
    ];
    for lease in forged {
        assert_eq!(tell(lease, preimage, entries.clone()), Err(Misbehaviour::Signature));
    }
    assert_eq!(tell(Lease::clone(&lease), [7; 16], entries.clone()), Err(Misbehaviour::Chain));
    let mut entry = entries[0].clone();
    entry.value = Some(b"2".as_slice().into());
    assert_eq!(tell(Lease::clone(&lease), preimage, vec![entry]), Err(Misbehaviour::Signature));
    let mut entry = entries[0].clone();
    entry.path = path("/b");
    assert_eq!(tell(Lease::clone(&lease), preimage, vec![entry]), Err(Misbehaviour::Signature));
    assert_eq!(tell(*lease, preimage, entries).unwrap(), ["/a=1"]);
}

#[test]
fn entries_without_the_right_are_dropped_and_made_good_once_it_is_there() {
    let (mut owner, mut other) = (Peer::new(1), Peer::new(2));
    owner.set(at(0), "/a", "1");
    owner.set(at(0), "/b", "2");
    owner.connect();
    other.connect();
    let only_a = |_: &DeviceId, at: &Path| at.as_str() == "/a";
    for _ in 0..10 {
        for message in owner.says(at(0)) {
            match message {
                Message::News(news) => other.state.on_news(other.link, at(0), news, &only_a).unwrap(),
                message => other.take(at(0), message).unwrap(),
            }
        }
        other.says(at(0)).into_iter().for_each(|m| owner.take(at(0), m).unwrap());
    }
    assert_eq!(other.shows(at(0)), ["/a=1"]);
    assert!(other.state.refused() > 0);
    for second in 1..20 {
        owner.tick(at(second * 1000));
        talk(at(second * 1000), &mut owner, &mut other);
    }
    assert_eq!(other.shows(at(19_000)), ["/a=1", "/b=2"], "the grant has come, and a renewal's checksum with it");
}

#[test]
fn what_waited_in_the_buffers_of_a_sleeper_does_not_count() {
    let (mut owner, mut other) = acquainted();
    let late = owner.renewal(at(5_000));
    other.state.wake(Duration::ZERO);
    other.take(at(7_000), Message::News(vec![late])).unwrap();
    other.tick(at(15_500));
    assert_eq!(other.shows(at(15_500)), [""; 0], "it counted as of unknown age");
    // Once the peer has answered, everything is as before.
    talk(at(15_500), &mut owner, &mut other);
    owner.tick(at(15_500));
    talk(at(15_500), &mut owner, &mut other);
    assert_eq!(other.shows(at(15_500)), ["/a=1"]);
}

/// The owner was asked to be silent, since the receiver has heard of it first by another link, which is gone now.
fn silenced() -> (Peer, Peer, OwnerTag) {
    let (mut owner, mut other) = acquainted();
    let tag = owner.state.own.tag;
    other.state.links.get_mut(&other.link).unwrap().view(tag).pruned = true;
    owner.take(at(0), Message::Prune(vec![tag])).unwrap();
    owner.tick(at(1000));
    assert!(owner.says(at(1000)).is_empty(), "it does as it was asked");
    (owner, other, tag)
}

#[test]
fn silence_that_crosses_a_digest_is_ended_when_it_is_missed() {
    let (mut owner, mut other, _) = silenced();
    // As one that was sent before the owner heard that it is to be silent.
    owner.state.links.get_mut(&owner.link).unwrap().digest_due = true;
    owner.says(at(1000)).into_iter().for_each(|message| other.take(at(1000), message).unwrap());
    for second in 1..20 {
        owner.tick(at(second * 1000));
        other.tick(at(second * 1000));
        talk(at(second * 1000), &mut owner, &mut other);
    }
    assert_eq!(other.shows(at(19_000)), ["/a=1"]);
}

#[test]
fn an_owner_that_was_asked_to_be_silent_is_asked_for_when_its_lease_runs_out() {
    let (mut owner, mut other, tag) = silenced();
    // Too late for anything but that: the receiver was held up, and did not notice.
    other.tick(at(30_000));
    assert!(other.shows(at(30_000)).is_empty());
    let asked = other.says(at(30_000));
    assert!(asked.iter().any(|m| matches!(m, Message::Fetch(f) if f.iter().any(|f| f.owner == tag))), "{asked:?}");
    asked.into_iter().for_each(|message| owner.take(at(30_000), message).unwrap());
    for second in 30..40 {
        owner.tick(at(second * 1000));
        other.tick(at(second * 1000));
        talk(at(second * 1000), &mut owner, &mut other);
    }
    assert_eq!(other.shows(at(39_000)), ["/a=1"]);
}

#[test]
fn an_owner_that_slept_signs_anew_what_had_lapsed() {
    let (mut owner, mut other) = acquainted();
    owner.tick(at(3_600_000));
    other.tick(at(3_600_000));
    assert_eq!(other.shows(at(3_600_000)), [""; 0]);
    talk(at(3_600_000), &mut owner, &mut other);
    assert_eq!(other.shows(at(3_600_000)), ["/a=1"]);
    // A short nap only skips renewals.
    owner.tick(at(3_612_000));
    let said = owner.says(at(3_612_000));
    assert!(
        matches!(&said[..], [Message::News(news)] if matches!(news[..], [News::Renewal { index: 2, .. }])),
        "{said:?}"
    );
}

#[test]
fn a_receiver_keeps_a_bounded_number_of_owners_and_counts_the_rest() {
    let mut other = Peer::new(2);
    other.connect();
    let empty = Message::Digest { first: true, last: true, graft: false, asks: None, answers: None, owners: vec![] };
    let mut crowd = |n: u64| {
        let mut owner = Peer::new(1);
        let who = OwnerId { device: owner.key.device(), peer: PeerId([n as u8; 32]) };
        let who = OwnerId { peer: PeerId(blake3::hash(&n.to_le_bytes()).into()), ..who };
        owner.state = State::new(SPACE, who, 1, TERMS);
        owner.set(at(0), "/a", "1");
        owner.connect();
        owner.take(at(0), empty.clone()).unwrap();
        for message in owner.says(at(0)) {
            if matches!(message, Message::News(_)) {
                other.take(at(0), message).unwrap();
            }
        }
    };
    (0..MAX_OWNERS as u64 + 3).for_each(&mut crowd);
    let (owners, floors, _) = other.state.figures();
    assert_eq!((owners, floors, other.state.refused()), (MAX_OWNERS, 0, 3));
}

#[test]
fn a_renewal_on_the_wire_is_small() {
    let (mut owner, _) = acquainted();
    let renewal = owner.renewal(at(5_000));
    let body = Message::News(vec![renewal]).to_bytes();
    let mut frame = Vec::new();
    crate::wire::v1::Message::Soft { space: [0; 4], body }.append_to(&mut frame);
    let mut ack = Vec::new();
    crate::wire::v1::Message::SoftAck.append_to(&mut ack);
    // Each is a frame of its own, with a length prefix of one byte.
    let prefixes = 2;
    assert!(frame.len() + ack.len() + prefixes <= 48, "{} and {} bytes", frame.len(), ack.len());
}

/// What an owner may do.
#[derive(Debug, Clone)]
enum Deed {
    Set(u8, u8),
    Delete(u8),
    Renew,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        4 => (0..6u8, any::<u8>()).prop_map(|(key, value)| Deed::Set(key, value)),
        2 => (0..6u8).prop_map(Deed::Delete),
        1 => Just(Deed::Renew),
    ];
    proptest::collection::vec(deed, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// The merge is a join: any order, any repetition and any loss of news come to the same, once the peers have
    /// compared what they have.
    #[test]
    fn news_in_any_order_comes_to_the_same(deeds in deeds(), order in any::<u64>()) {
        let (mut owner, mut orderly) = acquainted();
        let mut said = owner.says(at(0));
        let mut now = at(0);
        for deed in &deeds {
            match deed {
                Deed::Set(key, value) => owner.set(now, &format!("/k/{key}"), &value.to_string()),
                Deed::Delete(key) => drop(owner.delete(now, &format!("/k/{key}"))),
                Deed::Renew => {
                    now = at((now.mono.as_micros() / 1000) + 500);
                    owner.tick(now);
                }
            }
            for message in owner.says(now) {
                said.push(message.clone());
                orderly.take(now, message).unwrap();
            }
        }
        let mut disorderly = Peer::new(3);
        let mut start = acquainted().0;
        meet(at(0), &mut start, &mut disorderly);
        // Some twice, some not at all, in an order that the number decides.
        let mut dice = ChaCha12Rng::seed_from_u64(order);
        for _ in 0..said.len() * 2 {
            let i = rand_core::Rng::next_u32(&mut dice) as usize % said.len();
            disorderly.take(now, said[i].clone()).unwrap();
        }
        owner.connect();
        disorderly.connect();
        talk(now, &mut owner, &mut disorderly);
        now = at(now.mono.as_micros() / 1000 + 5_000);
        owner.tick(now);
        talk(now, &mut owner, &mut disorderly);
        prop_assert_eq!(owner.shows(now), disorderly.shows(now));
        prop_assert_eq!(owner.shows(now), orderly.shows(now));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(message) = Message::from_bytes(&bytes) {
            prop_assert_eq!(message.to_bytes(), bytes);
        }
    }

    #[test]
    fn altered_news_is_refused_or_harmless(at_byte in any::<prop::sample::Index>(), to: u8) {
        let (mut owner, _) = acquainted();
        owner.connect();
        owner.take(at(0), Message::Digest { first: true, last: true, graft: false, asks: None, answers: None, owners: vec![] }).unwrap();
        let mut bytes = owner.says(at(0)).pop().unwrap().to_bytes();
        let i = at_byte.index(bytes.len());
        bytes[i] = to;
        let mut victim = Peer::new(5);
        victim.connect();
        if let Ok(message) = Message::from_bytes(&bytes) {
            let _ = victim.take(at(0), message);
        }
        let shown = victim.shows(at(0));
        prop_assert!(shown.is_empty() || shown == ["/a=1"], "{:?}", shown);
    }
}
