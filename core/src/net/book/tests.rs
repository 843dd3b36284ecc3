use libp2p::identity::Keypair;
use proptest::prelude::*;
use rand_core::SeedableRng;

use super::*;

const AT: fn(u64) -> Timestamp = |ms| Timestamp::from_micros(ms * 1000);
const WALL: WallTime = WallTime(1_800_000_000_000);
const SPACE: SpaceId = SpaceId([7; 32]);

fn peer(n: u16) -> NetPeerId {
    let mut seed = [0; 32];
    seed[..2].copy_from_slice(&n.to_le_bytes());
    Keypair::ed25519_from_bytes(seed).unwrap().public().to_peer_id()
}

fn book() -> Book {
    Book::new(peer(0), Backoff::default(), ChaCha12Rng::seed_from_u64(3))
}

fn address(port: u16) -> Multiaddr {
    format!("/ip4/192.0.2.1/tcp/{port}").parse().unwrap()
}

fn device(n: u8) -> DeviceId {
    DeviceId([n; 32])
}

fn all(_: &NetPeerId) -> bool {
    true
}

#[test]
fn a_liar_fills_its_own_share_and_nothing_else() {
    let mut book = book();
    book.meet(peer(1), SPACE, Some(address(1)), WALL);
    assert!(book.tell(device(2), peer(2), vec![address(2)], AT(0)));
    for n in 100..1_000 {
        assert!(book.tell(device(9), peer(n), vec![address(n)], AT(0)));
    }
    let entries = book.entries();
    assert_eq!(entries.len(), 2 + MAX_PER_SOURCE);
    assert!(entries.iter().any(|e| e.peer == peer(1)) && entries.iter().any(|e| e.peer == peer(2)));
    assert!(entries.iter().any(|e| e.peer == peer(999)), "its newest word takes the place of its oldest");
}

#[test]
fn all_hearsay_together_has_a_bound_and_never_pushes_out_who_was_met() {
    let mut book = book();
    for n in 1..=300 {
        book.meet(peer(n), SPACE, Some(address(n)), WALL);
    }
    for n in 0..2_000 {
        book.tell(device((n / 30) as u8), peer(1_000 + n), vec![address(1)], AT(0));
    }
    let met = book.entries().iter().filter(|e| e.standing == Standing::Met).count();
    assert_eq!(met, 300);
    assert!(book.entries().len() <= MAX_PEERS);
    for n in 300..=900 {
        book.meet(peer(n), SPACE, Some(address(n)), WALL);
    }
    assert_eq!(book.entries().len(), MAX_PEERS);
    assert!(book.entries().iter().all(|e| e.standing == Standing::Met), "who is met takes the place of hearsay");
}

#[test]
fn peers_that_were_met_are_dialled_before_those_that_were_found_and_those_that_were_told() {
    let mut book = book();
    book.tell(device(9), peer(3), vec![address(3)], AT(0));
    book.find(peer(2), address(2), AT(0));
    book.meet(peer(1), SPACE, Some(address(1)), WALL);
    book.disconnected(&peer(1), Duration::ZERO, AT(0));
    let order: Vec<_> = std::iter::from_fn(|| book.due(AT(1_000), all)).map(|(peer, _)| peer).collect();
    assert_eq!(order, [peer(1), peer(2), peer(3)]);
    assert_eq!(book.dialling(), 3);
}

#[test]
fn what_others_say_of_a_peer_comes_after_what_worked_and_what_it_said_itself() {
    let mut book = book();
    book.tell(device(9), peer(1), vec![address(66)], AT(0));
    assert!(!book.tell(device(8), peer(1), vec![address(67)], AT(0)), "nobody takes over another's word");
    book.meet(peer(1), SPACE, Some(address(1)), WALL);
    assert!(book.say(peer(1), vec![address(2)]));
    assert!(!book.say(peer(1), vec![address(2)]));
    assert_eq!(book.entries()[0].addresses, [address(1), address(2), address(66)]);
    let told = book.told_of(&peer(1), &SPACE, Scope::Routed, WALL).unwrap().1;
    assert_eq!(told, [address(2).to_string(), address(1).to_string()], "hearsay is not told on");
}

#[test]
fn whoever_saw_a_peer_since_says_where_it_went() {
    let mut book = book();
    book.tell(device(9), peer(1), vec![address(66)], AT(0));
    book.meet(peer(1), SPACE, Some(address(1)), WALL);
    let told = |book: &Book| book.entries()[0].addresses[1..].to_vec();
    // Its first source is gone, and it listens elsewhere.
    assert!(book.tell(device(8), peer(1), vec![address(67)], AT(0)));
    assert!(!book.tell(device(8), peer(1), vec![address(67)], AT(0)), "that is nothing new");
    assert_eq!(told(&book), [address(67), address(66)]);
    for n in 100..200 {
        assert!(book.tell(device(7), peer(1), vec![address(n)], AT(0)));
    }
    assert_eq!(told(&book), [address(199), address(67), address(66)], "a device has one say");
    for n in 10..20 {
        book.tell(device(n), peer(1), vec![address(n.into())], AT(0));
    }
    assert_eq!(told(&book), [19, 18, 17, 16].map(address));
}

#[test]
fn only_members_met_in_a_space_lately_are_named_to_others_of_it() {
    let mut book = book();
    let other = SpaceId([8; 32]);
    book.meet(peer(1), SPACE, Some(address(1)), WALL);
    book.meet(peer(2), other, Some(address(2)), WALL);
    book.meet(peer(3), SPACE, None, WALL);
    book.meet(peer(4), SPACE, Some("/ip4/127.0.0.1/tcp/4".parse().unwrap()), WALL);
    book.tell(device(9), peer(5), vec![address(5)], AT(0));
    let named = |book: &mut Book, link, now| -> Vec<NetPeerId> {
        book.sample(&peer(77), &SPACE, link, now).into_iter().map(|(peer, _)| peer).collect()
    };
    assert_eq!(named(&mut book, Scope::Routed, WALL), [peer(1)]);
    assert_eq!(named(&mut book, Scope::Loopback, WALL).len(), 2);
    assert_eq!(book.sample(&peer(1), &SPACE, Scope::Routed, WALL), [], "a peer is not told of itself");
    assert_eq!(named(&mut book, Scope::Routed, WallTime(WALL.0 + 25 * 3_600_000)), []);
    for n in 100..200 {
        book.meet(peer(n), SPACE, Some(address(n)), WALL);
    }
    assert_eq!(named(&mut book, Scope::Routed, WALL).len(), MAX_TOLD_PEERS);
}

#[test]
fn a_peer_that_was_only_heard_of_is_forgotten_when_nobody_answers() {
    let mut book = book();
    book.tell(device(9), peer(1), vec![address(1)], AT(0));
    book.meet(peer(2), SPACE, Some(address(2)), WALL);
    book.disconnected(&peer(2), Duration::ZERO, AT(0));
    let mut now = AT(0);
    for _ in 0..GIVE_UP {
        now = now + Duration::from_secs(60);
        while let Some((peer, _)) = book.due(now, all) {
            book.failed(&peer, now);
        }
    }
    assert_eq!(book.entries().iter().map(|e| e.peer).collect::<Vec<_>>(), [peer(2)]);
}

#[test]
fn a_peer_that_is_gone_for_long_is_tried_rarely_and_at_once_when_it_is_hurried() {
    let mut book = book();
    book.meet(peer(1), SPACE, Some(address(1)), WALL);
    book.disconnected(&peer(1), Duration::ZERO, AT(0));
    let mut now = AT(0);
    let mut waits = Vec::new();
    for _ in 0..200 {
        let next = book.next_at(all).unwrap();
        waits.push(next.since(now));
        now = next;
        assert!(book.due(now, all).is_some());
        book.failed(&peer(1), now);
    }
    let longest = |waits: &[Duration]| *waits.iter().max().unwrap();
    assert!(longest(&waits[..40]) <= Backoff::default().max);
    assert!(longest(&waits[100..]) > 2 * Backoff::default().max);
    book.hurry_all(now);
    assert!(book.due(now, all).is_some());
}

#[test]
fn a_stranger_is_left_alone_and_a_rumour_about_one_forgotten() {
    let mut book = book();
    book.find(peer(1), address(1), AT(0));
    book.tell(device(9), peer(2), vec![address(2)], AT(0));
    book.is_strange(&peer(1), AT(0));
    book.is_strange(&peer(2), AT(0));
    assert_eq!(book.due(AT(599_000), all), None);
    assert_eq!(book.due(AT(600_000), all).unwrap().0, peer(1));
    assert_eq!(book.entries().len(), 1);
}

#[test]
fn a_dropped_peer_rests_until_it_is_asked_for() {
    let mut book = book();
    book.meet(peer(1), SPACE, Some(address(1)), WALL);
    assert!(book.drop_peer(&peer(1)));
    book.disconnected(&peer(1), Duration::ZERO, AT(0));
    assert_eq!(book.due(AT(60_000), all), None);
    assert_eq!(book.next_at(all), None);
    assert!(book.hurry(&peer(1), AT(60_000)));
    assert!(book.due(AT(60_000), all).is_some());
    assert!(!book.drop_peer(&peer(9)) && !book.hurry(&peer(9), AT(0)));
}

#[test]
fn who_was_met_outlives_a_restart_and_hearsay_does_not() {
    let mut before = book();
    before.meet(peer(1), SPACE, Some(address(1)), WALL);
    before.say(peer(1), vec![address(2)]);
    before.tell(device(9), peer(2), vec![address(3)], AT(0));
    before.meet(peer(3), SPACE, None, WALL);
    assert!(before.take_dirty() && !before.is_dirty());
    let row = before.encode();
    let mut after = book();
    assert!(after.restore(&row, AT(5), WALL));
    let entries = after.entries();
    assert_eq!(entries.iter().map(|e| e.peer).collect::<Vec<_>>(), [peer(1)]);
    assert_eq!(entries[0].addresses, [address(1), address(2)]);
    assert_eq!(entries[0].spaces, [SPACE]);
    assert_eq!(after.due(AT(5), all).unwrap().0, peer(1));
    let mut late = book();
    assert!(late.restore(&row, AT(5), WallTime(WALL.0 + 31 * 24 * 3_600_000)));
    assert!(late.entries().is_empty(), "what was not met for a month is dropped");
}

/// The row of one peer, as version 1 writes it.
const ROW: &str = "010126002408011220cecc1507dc1ddd7295951c290888f095adb9044d1b73d696e6df065d683bd4fc80c0e285\
                   e368010707070707070707070707070707070707070707070707070707070707070707010804c0000201060001\
                   010804c000020106000200";

#[test]
fn the_row_keeps_its_bytes() {
    let mut book = book();
    book.meet(peer(1), SPACE, Some(address(1)), WALL);
    book.say(peer(1), vec![address(2)]);
    let hex: String = book.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, ROW);
}

#[test]
fn a_full_row_stays_within_its_bound() {
    let mut book = book();
    for n in 1..=400 {
        book.meet(peer(n), SPACE, Some(address(n)), WallTime(WALL.0 + i64::from(n)));
    }
    let row = book.encode();
    assert!(row.len() < 16 << 10, "{} bytes", row.len());
    let mut after = self::book();
    assert!(after.restore(&row, AT(0), WALL));
    assert_eq!(after.entries().len(), row::MAX_KEPT);
    assert!(after.entries().iter().any(|e| e.peer == peer(400)), "the last met are kept");
}

proptest! {
    #[test]
    fn damaged_rows_never_panic(bytes: Vec<u8>, at in 0usize..200, to: u8) {
        let mut fresh = book();
        fresh.restore(&bytes, AT(0), WALL);
        let mut known = book();
        known.meet(peer(1), SPACE, Some(address(1)), WALL);
        let mut row = known.encode();
        let at = at % row.len();
        row[at] = to;
        fresh.restore(&row, AT(0), WALL);
    }
}
