//! Wires that alter what passes, and members that lie or flood. Over real loopback sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::{Defence, EngineConfig};

/// Text that must not be seen on a wire.
const SECRET: &str = "the tide table of the inner harbour";

/// Bytes from the listener's side before one is altered, a connection each: inside the agreement on Noise, inside its
/// handshake, and in what follows under its keys.
const PLACES: [usize; 4] = [10, 60, 300, 700];

/// A machine in the middle that alters one bit on each of its first connections, and then only listens.
struct Wire {
    port: u16,
    altered: Arc<AtomicUsize>,
    /// Whether [`SECRET`] passed in the clear.
    seen: Arc<AtomicUsize>,
    carried: Arc<AtomicUsize>,
}

impl Wire {
    async fn before(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let [altered, seen, carried] = [0; 3].map(|n| Arc::new(AtomicUsize::new(n)));
        let wire = Self { port, altered: altered.clone(), seen: seen.clone(), carried: carried.clone() };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                let place = PLACES.get(altered.load(Ordering::Relaxed)).copied();
                let count =
                    |place| Copy { place, altered: altered.clone(), seen: seen.clone(), carried: carried.clone() };
                tokio::spawn(count(place).run(far_in, near_out));
                tokio::spawn(count(None).run(near_in, far_out));
            }
        });
        wire
    }
}

/// One direction of a connection.
struct Copy {
    place: Option<usize>,
    altered: Arc<AtomicUsize>,
    seen: Arc<AtomicUsize>,
    carried: Arc<AtomicUsize>,
}

impl Copy {
    async fn run(self, mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) {
        let (mut buffer, mut passed) = (vec![0; 16 << 10], 0);
        while let Ok(got @ 1..) = from.read(&mut buffer).await {
            let bytes = &mut buffer[..got];
            if bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
                self.seen.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(place) = self.place
                && (passed..passed + got).contains(&place)
            {
                bytes[place - passed] ^= 1;
                self.altered.fetch_add(1, Ordering::Relaxed);
            }
            passed += got;
            self.carried.fetch_add(got, Ordering::Relaxed);
            if to.write_all(bytes).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    }
}

fn port_of(peer: &Peer) -> u16 {
    let text = peer.listen_addresses()[0].to_string();
    text.split('/').nth(4).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wire_that_alters_what_passes_costs_connections_and_nothing_else() {
    let a = listening("/ip4/127.0.0.1/tcp/0").await;
    let home = soon(a.create_space("home")).await.unwrap();
    let left = soon(home.document("/a")).await.unwrap();
    soon(left.edit(|d| d.put("note", SECRET)).unwrap().durable()).await.unwrap();
    let wire = Wire::before(port_of(&a)).await;
    let by = vec![format!("/ip4/127.0.0.1/tcp/{}", wire.port)];
    let invitation = soon(home.invite(Role::Writer).addresses(by)).await.unwrap();
    let b = soon(builder().spawn()).await.unwrap();
    let there = soon(b.join(&invitation)).await.unwrap();
    let right = soon(there.document("/a")).await.unwrap();
    until(&right, |v| v.get("note").is_some()).await;
    assert!(wire.altered.load(Ordering::Relaxed) >= PLACES.len(), "every altered connection was tried and given up");
    soon(right.edit(|d| d.put("back", true)).unwrap().synced(1)).await.unwrap();
    until(&left, |v| v.get("back").is_some()).await;
    assert_eq!((left.heads().unwrap(), left.value().unwrap()), (right.heads().unwrap(), right.value().unwrap()));
    assert_eq!(wire.seen.load(Ordering::Relaxed), 0, "what passes is not to be read");
    // What the altered connections cost: a handshake each, which is less than what one whole connection carries.
    let carried = wire.carried.load(Ordering::Relaxed);
    assert!(carried < 64 << 10, "{carried} bytes");
    for peer in [&a, &b] {
        assert_eq!(soon(peer.status()).await.unwrap().network.violations, 0, "the wire lied, not the peer behind it");
    }
}

/// Two honest members that edit, each round when it is `due`, beside a third that is what `third` makes it and that `begins` once
/// all are members. Bytes that the two have said to each other.
async fn two_edit_beside(
    third: impl FnOnce(Builder) -> Builder,
    begins: impl FnOnce(),
    due: impl Fn(u64) -> bool,
) -> u64 {
    let often = |config: &mut EngineConfig| config.reconcile_period = Duration::from_millis(200);
    let listening = || builder().engine(often).listen("/ip4/127.0.0.1/tcp/0");
    let c = soon(third(listening()).spawn()).await.unwrap();
    let its = soon(c.create_space("home")).await.unwrap();
    let join = async |peer: &Peer, by: &Space, role: Role| {
        let invitation = soon(by.invite(role)).await.unwrap();
        soon(peer.join(&invitation)).await.unwrap()
    };
    // Whoever dials asks: the first asks the third, and the second the first.
    let a = soon(listening().spawn()).await.unwrap();
    join(&a, &its, Role::Admin).await;
    let home = join(&a, &its, Role::Writer).await;
    let b = soon(builder().engine(often).spawn()).await.unwrap();
    let there = join(&b, &home, Role::Writer).await;
    let left = soon(home.document("/a")).await.unwrap();
    let right = soon(there.document("/a")).await.unwrap();
    begins();
    for round in 0..=40u64 {
        let waiting = async {
            while !due(round) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "round {round} is not due");
        soon(left.edit(|d| d.put(&format!("a{round}"), round)).unwrap().durable()).await.unwrap();
        soon(right.edit(|d| d.put(&format!("b{round}"), round)).unwrap().durable()).await.unwrap();
        let has = |value: &Value| ["a", "b"].iter().all(|who| value.get(&format!("{who}{round}")).is_some());
        until(&left, has).await;
        until(&right, has).await;
    }
    assert_eq!((left.heads().unwrap(), left.value().unwrap()), (right.heads().unwrap(), right.value().unwrap()));
    let known = soon(home.list("/")).await.unwrap().items.len();
    assert_eq!(known, 1, "nothing was made of lies");
    let status = soon(a.status()).await.unwrap();
    assert_eq!(status.engine.orphans, 0);
    let to_honest = status.engine.links.iter().find(|link| link.peer == b.peer_id()).expect("the honest one is linked");
    to_honest.bytes_sent + to_honest.bytes_received
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_sets_never_end_keeps_nobody_apart_and_costs_nobody_else_anything() {
    let quiet = two_edit_beside(|honest| honest, || {}, |_| true).await;
    let told = Arc::new(LyingSets::default());
    let begins = || told.begun.store(true, Ordering::Relaxed);
    // 100,000 bytes of lies in all, told between the rounds.
    let due = |round| told.bytes.load(Ordering::Relaxed) >= round * 2_500;
    let busy = two_edit_beside(|honest| honest.liar(Lies::Sets(told.clone())), begins, due).await;
    assert!(busy <= 2 * quiet, "the honest ones said {busy} bytes to each other instead of {quiet}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_floods_a_topic_is_heard_at_a_rate_and_drowns_nobody() {
    let ((a, home), (b, there)) = pair("/ip4/127.0.0.1/tcp/0").await;
    let flood = |config: &mut EngineConfig| config.without = Some(Defence::Publishing);
    let c = soon(builder().engine(flood).spawn()).await.unwrap();
    let its = soon(c.join(&soon(home.invite(Role::Writer)).await.unwrap())).await.unwrap();
    let began = tokio::time::Instant::now();
    let heard = home.topic::<String>("/news").unwrap();
    let mut heard = heard.subscribe();
    let (noisy, honest) = (its.topic::<String>("/news").unwrap(), there.topic::<String>("/news").unwrap());
    let junk = "z".repeat(2_000);
    // Far faster than anybody may, until its peer is closed.
    let flooding = tokio::spawn(async move {
        while let Ok(published) = noisy.publish(&junk) {
            if published.await.is_err() {
                break;
            }
        }
    });
    until_status(&a, "more comes than is taken", |status| status.engine.topic_refused > 0).await;
    let (mut news, mut floods) = (Vec::new(), 0u64);
    let last = 20;
    for n in 0..last {
        // Well within what an honest peer may say, and all the way through the flood.
        let more = |status: &PeerStatus| status.engine.topic_refused >= n * 250;
        until_status(&a, "the flood goes on", more).await;
        soon(honest.publish(&format!("news {n}")).unwrap()).await.unwrap();
        soon(async {
            loop {
                let signal = heard.next().await.expect("the peer runs");
                if signal.value.starts_with("news") {
                    return news.push(signal.value);
                }
                floods += 1;
            }
        })
        .await;
    }
    assert_eq!(news, (0..last).map(|n| format!("news {n}")).collect::<Vec<_>>());
    // Documents go on as well.
    let (left, right) = (soon(home.document("/a")).await.unwrap(), soon(there.document("/a")).await.unwrap());
    soon(right.edit(|d| d.put("calm", true)).unwrap().durable()).await.unwrap();
    until(&left, |value| value.get("calm").is_some()).await;
    let status = soon(a.status()).await.unwrap();
    let most = crate::topic::DEVICE.burst + crate::topic::DEVICE.per_second * (1 + began.elapsed().as_secs());
    assert!(floods * 2_000 <= most, "{floods} signals of the flood were heard");
    let queues = status.engine.links.len() * crate::topic::QUEUE_BYTES;
    assert!(status.engine.topic_bytes <= (crate::topic::RECENT_BYTES + queues) as u64, "{status:?}");
    assert!(status.engine.links.iter().any(|link| link.peer == b.peer_id()));
    soon(c.shutdown()).await.unwrap();
    soon(flooding).await.unwrap();
}

async fn until_status(peer: &Peer, what: &str, holds: impl Fn(&PeerStatus) -> bool) {
    let waiting = async {
        while !holds(&peer.status().await.unwrap()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "{what}: {:?}", peer.status().await);
}
