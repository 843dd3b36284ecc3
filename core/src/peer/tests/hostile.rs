//! Wires between peers that alter what passes. Over real loopback sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

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
