//! How peers find and reach each other: relays, peer exchange, the address book. Over real loopback sockets.

use super::*;
use crate::store::Redb;

/// The address of a peer's TCP listener, with its id.
fn tcp(peer: &Peer) -> String {
    let addresses = peer.listen_addresses();
    let tcp =
        addresses.iter().map(ToString::to_string).find(|text| text.contains("/tcp/") && !text.contains("circuit"));
    tcp.expect("it listens on TCP")
}

/// Waits until a peer's figures satisfy a condition.
async fn eventually(peer: &Peer, what: &str, holds: impl Fn(&PeerStatus) -> bool) -> PeerStatus {
    let waiting = async {
        loop {
            let status = peer.status().await.unwrap();
            if holds(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(status) => status,
        Err(_) => panic!("{what} does not come about: {:#?}", peer.status().await.unwrap()),
    }
}

fn member_links(status: &PeerStatus) -> usize {
    status.engine.links.iter().filter(|link| !link.spaces.is_empty()).count()
}

async fn linked_with(peer: &Peer, other: &Peer) -> PeerStatus {
    let id = other.peer_id();
    eventually(peer, "a link between members", |status| {
        status.engine.links.iter().any(|link| link.peer == id && !link.spaces.is_empty())
    })
    .await
}

async fn relay(limits: RelayLimits) -> Peer {
    soon(builder().listen("/ip4/127.0.0.1/tcp/0").serve_relay(limits).spawn()).await.unwrap()
}

/// A peer that nobody can dial but through the relay.
async fn behind(relay: &Peer) -> Peer {
    let peer = soon(builder().relay(tcp(relay)).spawn()).await.unwrap();
    eventually(&peer, "a reservation", |status| status.network.reservations == 1).await;
    // The address by which it is reached is told by an event of its own.
    eventually(&peer, "a relayed address", |_| peer.listen_addresses().iter().any(Address::is_relayed)).await;
    peer
}

async fn invitation(space: &Space) -> String {
    soon(space.invite(Role::Writer)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_peers_that_cannot_dial_each_other_meet_over_a_relay_that_is_no_member() {
    let relay = relay(RelayLimits::default()).await;
    let a = behind(&relay).await;
    let home = soon(a.create_space("home")).await.unwrap();
    let circuits = a.listen_addresses();
    assert!(!circuits.is_empty() && circuits.iter().all(Address::is_relayed), "{circuits:?}");
    let b = soon(builder().spawn()).await.unwrap();
    let there = soon(b.join(&invitation(&home).await)).await.unwrap();
    let left = soon(home.document("/a")).await.unwrap();
    soon(left.edit(|d| d.put("from", "a")).unwrap().durable()).await.unwrap();
    let right = soon(there.document("/a")).await.unwrap();
    until(&right, |v| v.get("from").is_some()).await;
    soon(right.edit(|d| d.put("back", "b")).unwrap().synced(1)).await.unwrap();
    for (peer, other) in [(&a, &b), (&b, &a)] {
        let status = linked_with(peer, other).await;
        let link = status.network.links.iter().find(|link| link.peer == other.peer_id()).unwrap();
        assert!(link.relayed && link.address.is_relayed(), "{link:?}");
    }
    assert!(soon(relay.spaces()).await.unwrap().is_empty());
    let relayed = soon(relay.status()).await.unwrap();
    assert_eq!(member_links(&relayed), 0, "it carries what it cannot read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_over_its_bytes_is_closed_and_a_new_one_goes_on_where_it_ended() {
    let relay = relay(RelayLimits { bytes: 256 << 10, ..RelayLimits::default() }).await;
    let a = behind(&relay).await;
    let home = soon(a.create_space("home")).await.unwrap();
    for n in 0..12 {
        let document = soon(home.document(&format!("/d{n}"))).await.unwrap();
        // Text that does not compress.
        let noise: String = (0..50_000u64)
            .map(|i| char::from(b' ' + (blake3::hash(&(i * 12 + n).to_le_bytes()).as_bytes()[0] % 90)))
            .collect();
        soon(document.edit(|d| d.put("noise", noise)).unwrap().durable()).await.unwrap();
    }
    let b = soon(builder().spawn()).await.unwrap();
    let mut events = b.events();
    let there = soon(b.join(&invitation(&home).await)).await.unwrap();
    for n in 0..12 {
        let document = soon(there.document(&format!("/d{n}"))).await.unwrap();
        until(&document, |v| v.get("noise").is_some()).await;
    }
    let mut circuits = 0;
    soon(async {
        while circuits < 2 {
            circuits += usize::from(matches!(events.next().await, Some(PeerEvent::Linked { .. })));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_keeps_no_more_reservations_than_it_is_told_and_gives_a_place_that_is_freed() {
    let relay = relay(RelayLimits { reservations: 1, ..RelayLimits::default() }).await;
    let first = behind(&relay).await;
    let second = soon(builder().relay(tcp(&relay)).spawn()).await.unwrap();
    // Refused twice at least: it connects anew for each attempt.
    let mut connected = 0;
    let mut before = false;
    soon(async {
        while connected < 2 {
            let status = second.status().await.unwrap();
            assert_eq!(status.network.reservations, 0, "there is one place, and it is taken");
            let now = status.network.connections > 0;
            connected += usize::from(now && !before) + usize::from(now);
            before = now;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    soon(first.shutdown()).await.unwrap();
    eventually(&second, "the freed place", |status| status.network.reservations == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_behind_a_relay_come_back_when_it_does() {
    let directory = tempfile::tempdir().unwrap();
    let start = async |at: &str| {
        // The port and the store's lock may take a moment to be free again.
        soon(async {
            loop {
                if let Ok(store) = Redb::open(directory.path())
                    && let Ok(relay) = builder_of(store).listen(at).serve_relay(RelayLimits::default()).spawn().await
                {
                    return relay;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    };
    let relay = start("/ip4/127.0.0.1/tcp/0").await;
    let at = tcp(&relay);
    let a = behind(&relay).await;
    let home = soon(a.create_space("home")).await.unwrap();
    let b = soon(builder().spawn()).await.unwrap();
    soon(b.join(&invitation(&home).await)).await.unwrap();
    linked_with(&b, &a).await;
    soon(relay.shutdown()).await.unwrap();
    drop(relay);
    eventually(&a, "the loss", |s| s.network.reservations == 0 && member_links(s) == 0).await;
    let relay = start(at.split("/p2p/").next().unwrap()).await;
    assert_eq!(tcp(&relay), at, "it is the same relay");
    eventually(&a, "a new reservation", |status| status.network.reservations == 1).await;
    linked_with(&b, &a).await;
}

fn builder_of(store: Redb) -> Builder {
    Peer::builder().store(store).redial(Duration::from_millis(20), Duration::from_millis(200))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_know_one_and_the_same_find_each_other() {
    let hub = listening("/ip4/127.0.0.1/tcp/0").await;
    let home = soon(hub.create_space("home")).await.unwrap();
    let a = listening("/ip4/127.0.0.1/tcp/0").await;
    soon(a.join(&invitation(&home).await)).await.unwrap();
    linked_with(&a, &hub).await;
    let c = listening("/ip4/127.0.0.1/tcp/0").await;
    soon(c.join(&invitation(&home).await)).await.unwrap();
    linked_with(&c, &a).await;
    // Who cannot be dialled is found all the same: it is told of the others and dials them.
    let deaf = soon(builder().spawn()).await.unwrap();
    soon(deaf.join(&invitation(&home).await)).await.unwrap();
    linked_with(&deaf, &a).await;
    linked_with(&deaf, &c).await;
    // The one that introduced them is needed no more.
    soon(hub.shutdown()).await.unwrap();
    linked_with(&a, &c).await;
    let known = soon(a.known_peers()).await.unwrap();
    let standing = |peer: &Peer| known.iter().find(|known| known.peer == peer.peer_id()).map(|known| known.standing);
    assert_eq!(standing(&c), Some(Standing::Met));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_do_not_exchange_know_only_whom_they_were_told_to_dial() {
    let quiet = || builder().listen("/ip4/127.0.0.1/tcp/0").network(|net| net.peer_exchange = false);
    let hub = listening("/ip4/127.0.0.1/tcp/0").await;
    let home = soon(hub.create_space("home")).await.unwrap();
    let a = soon(quiet().spawn()).await.unwrap();
    let there = soon(a.join(&invitation(&home).await)).await.unwrap();
    let b = soon(quiet().spawn()).await.unwrap();
    let here = soon(b.join(&invitation(&home).await)).await.unwrap();
    let (left, right) = (soon(there.document("/a")).await.unwrap(), soon(here.document("/a")).await.unwrap());
    soon(left.edit(|d| d.put("x", 1)).unwrap().durable()).await.unwrap();
    until(&right, |v| v.get("x").is_some()).await;
    for peer in [&a, &b] {
        let known = soon(peer.known_peers()).await.unwrap();
        assert_eq!(known.iter().map(|known| known.peer).collect::<Vec<_>>(), [hub.peer_id()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_restarts_without_any_configured_address_and_finds_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let a = listening("/ip4/127.0.0.1/tcp/0").await;
    let home = soon(a.create_space("home")).await.unwrap();
    let without_addresses = soon(home.invite(Role::Writer).addresses(Vec::new())).await.unwrap();
    let b = soon(builder_of(Redb::open(directory.path()).unwrap()).bootstrap(tcp(&a)).spawn()).await.unwrap();
    soon(b.join(&without_addresses)).await.unwrap();
    linked_with(&b, &a).await;
    soon(b.shutdown()).await.unwrap();
    drop(b);
    let store = soon(async {
        loop {
            match Redb::open(directory.path()) {
                Ok(store) => return store,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await;
    let again = soon(builder_of(store).spawn()).await.unwrap();
    linked_with(&again, &a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_peer_is_left_alone_until_it_is_asked_for() {
    let a = soon(builder().listen("/ip4/127.0.0.1/tcp/0").spawn()).await.unwrap();
    let home = soon(a.create_space("home")).await.unwrap();
    let b = soon(builder().network(|net| net.max_dialled = 0).spawn()).await.unwrap();
    let without_addresses = soon(home.invite(Role::Writer).addresses(Vec::new())).await.unwrap();
    soon(b.join(&without_addresses)).await.unwrap();
    let mut events = b.events();
    assert!(!soon(b.dial_peer(a.peer_id())).await.unwrap(), "nothing is known of it");
    let c = soon(builder().listen("/ip4/127.0.0.1/tcp/0").spawn()).await.unwrap();
    soon(c.join(&invitation(&home).await)).await.unwrap();
    linked_with(&c, &a).await;
    assert!(soon(b.dial(tcp(&c).parse().unwrap())).await.unwrap());
    linked_with(&b, &c).await;
    // It hears of A, and does not dial it by itself.
    soon(async {
        while !b.known_peers().await.unwrap().iter().any(|known| known.peer == a.peer_id()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(soon(b.dial_peer(a.peer_id())).await.unwrap());
    linked_with(&b, &a).await;
    assert!(soon(b.drop_peer(a.peer_id())).await.unwrap());
    soon(async {
        loop {
            if let Some(PeerEvent::Unlinked { peer, .. }) = events.next().await
                && peer == a.peer_id()
            {
                return;
            }
        }
    })
    .await;
    assert!(soon(b.dial_peer(a.peer_id())).await.unwrap());
    linked_with(&b, &a).await;
}

#[tokio::test]
async fn a_relay_is_named_by_its_id() {
    let nameless = soon(Peer::builder().in_memory().relay("/ip4/192.0.2.1/tcp/4801").spawn()).await;
    assert!(matches!(nameless, Err(SpawnError::Address(error)) if error.why.contains("/p2p/")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_network_is_no_reason_to_give_up_a_link_that_answers() {
    let ((a, _home), (b, _there)) = pair("/ip4/127.0.0.1/tcp/0").await;
    let before = linked_with(&b, &a).await.network.links[0].link;
    let trips = soon(b.status()).await.unwrap().engine.links[0].round_trips;
    b.network_changed();
    let after = eventually(&b, "an answer", |status| status.engine.links.iter().any(|l| l.round_trips > trips)).await;
    assert_eq!(after.network.links[0].link, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_of_a_link_know_its_round_trip_time() {
    let ((a, _home), (b, _there)) = pair("/ip4/127.0.0.1/tcp/0").await;
    for peer in [&a, &b] {
        let whole = |status: &PeerStatus| status.network.links.iter().any(|link| link.rtt.is_some());
        let status = eventually(peer, "a round-trip time", whole).await;
        assert!(status.network.links[0].rtt > Some(Duration::ZERO));
    }
}
