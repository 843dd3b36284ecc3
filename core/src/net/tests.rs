//! The driver over real loopback sockets, with a machine in the engine's place that echoes and records.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::sync::{mpsc, oneshot};

use super::driver::Machine;
use super::*;
use crate::engine::{Command, CommandError, Event, Reply};
use crate::id::{DeviceId, Incarnation, PeerId, SpaceId};
use crate::io::{CloseReason, Input, LinkId, MAX_FRAME, Output, RequestId, StorageTask};
use crate::time::Now;
use crate::wire::v1::exchange::PeerAddresses;

/// Longer than anything here takes on a busy machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the machine was told.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Linked { link: LinkId, peer: PeerId, initiator: bool },
    Frame { link: LinkId, bytes: Vec<u8> },
    Unlinked { link: LinkId },
    Wake,
}

/// Says what a script tells it to at a new link that it initiated, answers `?x` with `!x`, closes on `bye`, takes `join` for
/// a proof and what follows `tell ` for the addresses of as many peers as it has bytes.
struct Echo {
    seed: [u8; 32],
    script: Vec<Vec<u8>>,
    seen: mpsc::UnboundedSender<Seen>,
    outputs: VecDeque<Output>,
    open: bool,
    peers: std::collections::BTreeMap<LinkId, PeerId>,
}

const SPACE: SpaceId = SpaceId([7; 32]);

/// A peer with a valid key that nobody has.
fn invented(n: u32) -> PeerId {
    let mut seed = [9; 32];
    seed[..4].copy_from_slice(&n.to_le_bytes());
    identity::from_net(&identity::keypair(seed).public().to_peer_id()).unwrap()
}

impl Machine for Echo {
    fn handle(&mut self, now: Now, input: Input) {
        let seen = match input {
            Input::Wake if !self.open => {
                self.open = true;
                self.outputs.push_back(Output::Event(Event::Opened {
                    device: DeviceId([1; 32]),
                    peer_seed: crate::id::Seed(self.seed),
                    incarnation: Incarnation(1),
                    spaces: Vec::new(),
                }));
                self.outputs.push_back(Output::Wake { at: now.mono + Duration::from_millis(5) });
                return;
            }
            Input::Wake => Seen::Wake,
            Input::Linked { link, peer, initiator } => {
                self.peers.insert(link, peer);
                if initiator {
                    self.outputs.extend(self.script.iter().map(|bytes| Output::Send { link, bytes: bytes.clone() }));
                }
                Seen::Linked { link, peer, initiator }
            }
            Input::Frame { link, bytes } => {
                let (peer, device) = (self.peers[&link], DeviceId([2; 32]));
                if bytes == b"join" {
                    self.outputs.push_back(Output::Event(Event::Joined { link, peer, device, space: SPACE }));
                } else if let Some(many) = bytes.strip_prefix(b"tell ") {
                    let addresses = vec!["/ip4/127.0.0.1/tcp/1".to_owned(), "/unix/x".into(), "\u{0}".into()];
                    let told = |n: &u8| PeerAddresses { peer: invented((*n).into()), addresses: addresses.clone() };
                    let me = PeerAddresses { peer: PeerId([0; 32]), addresses: addresses.clone() };
                    let peers = many.iter().map(told).chain([me]).collect();
                    self.outputs.push_back(Output::Event(Event::PeersTold { link, peer, device, space: SPACE, peers }));
                }
                if bytes == b"bye" {
                    self.outputs.push_back(Output::Send { link, bytes: b"farewell".to_vec() });
                    let reason = CloseReason::Protocol { detail: "it said bye".into() };
                    self.outputs.push_back(Output::Close { link, reason });
                } else if let Some(rest) = bytes.strip_prefix(b"?") {
                    let answer = [b"!", rest].concat();
                    self.outputs.push_back(Output::Send { link, bytes: answer });
                }
                Seen::Frame { link, bytes }
            }
            Input::Unlinked { link } => Seen::Unlinked { link },
            Input::Command { request, command: Command::Close } => {
                return self.outputs.push_back(Output::Event(Event::Reply { request, result: Ok(Reply::Done) }));
            }
            _ => return,
        };
        let _ = self.seen.send(seen);
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

struct NoStorage;

impl crate::store::TaskStore for NoStorage {
    fn submit(&mut self, _: StorageTask) {}
    fn close(self: Box<Self>) {}
}

struct Node {
    peer: PeerId,
    listen: Vec<Address>,
    requests: mpsc::UnboundedSender<Request>,
    seen: mpsc::UnboundedReceiver<Seen>,
    notices: mpsc::UnboundedReceiver<Notice>,
    _storage: mpsc::UnboundedSender<Input>,
}

impl Node {
    async fn start(seed: u8, listen: &[&str], bootstrap: &[Address], script: &[&[u8]]) -> Result<Self, StartError> {
        Self::limited(seed, listen, bootstrap, script, |_| {}).await
    }

    async fn limited(
        seed: u8,
        listen: &[&str],
        bootstrap: &[Address],
        script: &[&[u8]],
        limit: impl FnOnce(&mut NetConfig),
    ) -> Result<Self, StartError> {
        let (seen, machine_seen) = mpsc::unbounded_channel();
        let (requests, driver_requests) = mpsc::unbounded_channel();
        let (_, edits) = mpsc::unbounded_channel();
        let (storage, storage_done) = mpsc::unbounded_channel();
        let (notice, notices) = mpsc::unbounded_channel();
        let (started, opened) = oneshot::channel();
        let mut config = NetConfig {
            listen: listen.iter().map(|text| text.parse().unwrap()).collect(),
            bootstrap: bootstrap.to_vec(),
            backoff: Backoff { min: Duration::from_millis(10), max: Duration::from_millis(200) },
            ..NetConfig::default()
        };
        limit(&mut config);
        let script = script.iter().map(|frame| frame.to_vec()).collect();
        let driver = Driver::new(Parts {
            machine: Echo {
                seed: [seed; 32],
                script,
                seen,
                outputs: VecDeque::new(),
                open: false,
                peers: Default::default(),
            },
            config,
            overlay: false,
            runtime: Runtime::new(tokio::runtime::Handle::current()),
            transport: Box::new(native),
            storage: Box::new(NoStorage),
            storage_done,
            requests: driver_requests,
            edits,
            notices: Box::new(move |event| drop(notice.send(event))),
            started,
            rng: ChaCha12Rng::seed_from_u64(seed.into()),
        });
        tokio::spawn(driver.run());
        let opened = soon(opened).await.expect("the driver answers")?;
        Ok(Self { peer: opened.peer, listen: opened.listen, requests, seen: machine_seen, notices, _storage: storage })
    }

    /// The first thing seen that `pick` takes; what comes before it is passed over.
    async fn until<R>(&mut self, mut pick: impl FnMut(&Seen) -> Option<R>) -> R {
        soon(async {
            loop {
                let seen = self.seen.recv().await.expect("the driver runs");
                if let Some(result) = pick(&seen) {
                    return result;
                }
            }
        })
        .await
    }

    async fn linked(&mut self) -> (LinkId, PeerId, bool) {
        self.until(|seen| match seen {
            Seen::Linked { link, peer, initiator } => Some((*link, *peer, *initiator)),
            _ => None,
        })
        .await
    }

    async fn unlinked(&mut self) -> LinkId {
        self.until(|seen| if let Seen::Unlinked { link } = seen { Some(*link) } else { None }).await
    }

    async fn frame(&mut self) -> Vec<u8> {
        self.until(|seen| if let Seen::Frame { bytes, .. } = seen { Some(bytes.clone()) } else { None }).await
    }

    async fn block(&self, peer: PeerId, blocked: bool) {
        let (done, answer) = oneshot::channel();
        assert!(self.requests.send(Request::Block { peer, blocked, done }).is_ok());
        soon(answer).await.unwrap();
    }

    async fn status(&self) -> NetStatus {
        let (done, answer) = oneshot::channel();
        assert!(self.requests.send(Request::Status(done)).is_ok());
        soon(answer).await.unwrap()
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens within the patience of a test")
}

async fn frames_go_both_ways_over(listen: &str) {
    let big = [b"?".as_slice(), &vec![7; MAX_FRAME - 1]].concat();
    let mut server = Node::start(1, &[listen], &[], &[]).await.unwrap();
    let mut client = Node::start(2, &[], &server.listen, &[b"?small", &big, b"last"]).await.unwrap();
    let (_, peer, initiator) = client.linked().await;
    assert_eq!((peer, initiator), (server.peer, true));
    let (_, peer, initiator) = server.linked().await;
    assert_eq!((peer, initiator), (client.peer, false));
    assert_eq!(server.frame().await, b"?small");
    assert_eq!(server.frame().await, big);
    assert_eq!(server.frame().await, b"last");
    assert_eq!(client.frame().await, b"!small");
    assert_eq!(client.frame().await[1..], big[1..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_go_both_ways_over_tcp() {
    frames_go_both_ways_over("/ip4/127.0.0.1/tcp/0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_go_both_ways_over_quic() {
    frames_go_both_ways_over("/ip4/127.0.0.1/udp/0/quic-v1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_go_both_ways_over_websocket() {
    frames_go_both_ways_over("/ip4/127.0.0.1/tcp/0/ws").await;
}

#[tokio::test]
async fn the_driver_runs_on_one_thread_too() {
    frames_go_both_ways_over("/ip4/127.0.0.1/tcp/0").await;
}

#[tokio::test]
async fn wakes_come_when_asked_for() {
    let mut node = Node::start(1, &[], &[], &[]).await.unwrap();
    node.until(|seen| (*seen == Seen::Wake).then_some(())).await;
}

#[tokio::test]
async fn peers_that_dial_each_other_end_with_one_link() {
    let mut a = Node::start(1, &["/ip4/127.0.0.1/tcp/0"], &[], &[]).await.unwrap();
    let mut b = Node::start(2, &["/ip4/127.0.0.1/tcp/0"], &a.listen, &[]).await.unwrap();
    let (done, added) = oneshot::channel();
    assert!(a.requests.send(Request::Dial { address: b.listen[0].clone(), done }).is_ok());
    assert!(soon(added).await.unwrap());
    a.linked().await;
    b.linked().await;
    soon(async {
        // Condition: both sides settle on one connection, the same link on each.
        loop {
            let (left, right) = (a.status().await, b.status().await);
            let one = |status: &NetStatus| status.connections == 1 && status.links.len() == 1;
            if one(&left) && one(&right) && left.links[0].dialled != right.links[0].dialled {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_blocked_peer_is_cut_off_and_comes_back_when_let_in() {
    let mut server = Node::start(1, &["/ip4/127.0.0.1/tcp/0"], &[], &[]).await.unwrap();
    let mut client = Node::start(2, &[], &server.listen, &[]).await.unwrap();
    let (first, ..) = client.linked().await;
    server.linked().await;
    server.block(client.peer, true).await;
    assert_eq!(client.unlinked().await, first);
    server.unlinked().await;
    assert_eq!(server.status().await.links, []);
    soon(async {
        while server.status().await.refused == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.block(client.peer, false).await;
    let (second, ..) = client.linked().await;
    assert!(second > first, "numbers of links are never reused");
    server.linked().await;
}

#[tokio::test]
async fn what_was_queued_leaves_before_the_engine_closes_a_link() {
    let mut server = Node::start(1, &["/ip4/127.0.0.1/tcp/0"], &[], &[]).await.unwrap();
    let mut client = Node::start(2, &[], &server.listen, &[b"bye"]).await.unwrap();
    assert_eq!(client.frame().await, b"farewell");
    client.unlinked().await;
    // It is dialled again, and says the same.
    client.linked().await;
    assert_eq!(server.frame().await, b"bye");
    assert!(server.status().await.violations > 0);
}

#[tokio::test]
async fn a_restarted_server_is_found_again() {
    let mut server = Node::start(1, &["/ip4/127.0.0.1/tcp/0"], &[], &[]).await.unwrap();
    let mut client = Node::start(2, &[], &server.listen, &[]).await.unwrap();
    client.linked().await;
    let at = server.listen[0].to_string();
    let at = at.split("/p2p/").next().unwrap().to_owned();
    let (done, closed) = oneshot::channel();
    assert!(server.requests.send(Request::Shutdown(done)).is_ok());
    soon(closed).await.unwrap().unwrap();
    client.unlinked().await;
    soon(async { while server.notices.recv().await.is_some() {} }).await;
    let mut server = soon(async {
        loop {
            // The port may take a moment to be free again.
            if let Ok(server) = Node::start(1, &[&at], &[], &[]).await {
                break server;
            }
        }
    })
    .await;
    client.linked().await;
    server.linked().await;
}

#[tokio::test]
async fn a_taken_address_is_named_when_starting_fails() {
    let first = Node::start(1, &["/ip4/127.0.0.1/tcp/0"], &[], &[]).await.unwrap();
    let at = first.listen[0].to_string();
    let at = at.split("/p2p/").next().unwrap();
    match Node::start(2, &[at], &[], &[]).await {
        Err(StartError::Listen { address, .. }) => assert_eq!(address.to_string(), at),
        other => panic!("it started: {}", other.is_ok()),
    }
}

#[tokio::test]
async fn commands_after_a_shutdown_are_refused() {
    let node = Node::start(1, &[], &[], &[]).await.unwrap();
    let (done, closed) = oneshot::channel();
    assert!(node.requests.send(Request::Shutdown(done)).is_ok());
    let (answer, refused) = oneshot::channel();
    let sink: Sink = Box::new(move |result| drop(answer.send(result)));
    let command = Request::Command { request: RequestId(0), command: Command::Spaces, sink };
    let sent = node.requests.send(command).is_ok();
    soon(closed).await.unwrap().unwrap();
    let result = soon(refused).await;
    assert!(!sent || matches!(result, Ok(Err(CommandError::Closed))));
}

#[tokio::test]
async fn an_empty_frame_costs_the_sender_the_link_and_is_counted() {
    let server = Node::start(1, &["/ip4/127.0.0.1/tcp/0"], &[], &[]).await.unwrap();
    let mut client = Node::start(2, &[], &server.listen, &[b"first", b""]).await.unwrap();
    client.linked().await;
    client.unlinked().await;
    soon(async {
        while server.status().await.violations == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_member_that_invents_peers_fills_its_share_of_the_book_and_keeps_nobody_from_being_met() {
    let all: Vec<u8> = (0..=255).collect();
    let lies = [b"tell ".as_slice(), &all].concat();
    let server = Node::start(1, &["/ip4/127.0.0.1/tcp/0"], &[], &[]).await.unwrap();
    let mut liar = Node::start(2, &[], &server.listen, &[b"tell 1", b"join", &lies, &lies, b"?heard"]).await.unwrap();
    assert_eq!(liar.frame().await, b"!heard");
    let known = || async {
        let (done, answer) = oneshot::channel();
        assert!(server.requests.send(Request::Known(done)).is_ok());
        soon(answer).await.unwrap()
    };
    let book = known().await;
    assert!(book.len() <= 1 + book::MAX_PER_SOURCE, "{} peers", book.len());
    assert!(book.iter().any(|known| known.peer == liar.peer && known.standing == Standing::Met));
    // Nobody is there, and so they are forgotten; who is there stays.
    soon(async {
        while known().await.len() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(known().await[0].peer, liar.peer);
}

/// Waits until a peer's figures satisfy a condition.
async fn figures(node: &Node, holds: impl Fn(&NetStatus) -> bool) -> NetStatus {
    soon(async {
        loop {
            let status = node.status().await;
            if holds(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

const ANY: &str = "/ip4/127.0.0.1/tcp/0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_of_an_address_are_bounded_and_members_of_it_are_not() {
    let bounded = |config: &mut NetConfig| {
        config.limits.trusted.clear();
        config.limits.connections_per_address = 2;
        config.limits.handshakes_per_address = crate::topic::Rate { per_second: 1_000, burst: 1_000 };
    };
    let server = Node::limited(1, &[ANY], &[], &[], bounded).await.unwrap();
    let mut strangers = Vec::new();
    for seed in 2..6 {
        strangers.push(Node::start(seed, &[], &server.listen, &[]).await.unwrap());
    }
    let unbounded = Node::limited(20, &[ANY], &[], &[], |config| config.limits.trusted.clear()).await.unwrap();
    let mut all = Vec::new();
    for seed in 21..25 {
        all.push(Node::start(seed, &[], &unbounded.listen, &[]).await.unwrap());
    }
    figures(&unbounded, |status| status.links.len() == 4).await;
    let status = figures(&server, |status| status.links.len() == 2 && status.refused > 3).await;
    assert!(status.connections <= 3, "one may be on its way out: {status:?}");
    // A member from the same address finds no place for strangers, and needs one only until it has proved itself.
    drop(strangers.pop());
    drop(strangers);
    figures(&server, |status| status.links.is_empty()).await;
    let mut members = Vec::new();
    for seed in 10..16 {
        members.push(Node::start(seed, &[], &server.listen, &[b"join"]).await.unwrap());
    }
    figures(&server, |status| status.links.len() == 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_slowed_to_the_rate_and_nothing_of_it_is_lost() {
    // With the defaults, none of this is too fast.
    for (frames, slowed) in
        [(crate::topic::Rate { per_second: 400, burst: 10 }, true), (PeerLimits::default().frames, false)]
    {
        flood(frames, slowed).await;
    }
}

async fn flood(rate: crate::topic::Rate, slowed: bool) {
    let mut server = Node::limited(1, &[ANY], &[], &[], |config| config.limits.frames = rate).await.unwrap();
    let flood: Vec<Vec<u8>> = (0..200u8).map(|n| vec![b'f', n]).collect();
    let flood: Vec<&[u8]> = flood.iter().map(Vec::as_slice).collect();
    let client = Node::start(2, &[], &server.listen, &flood).await.unwrap();
    for n in 0..200 {
        assert_eq!(server.frame().await, [b'f', n]);
    }
    let status = server.status().await;
    assert_eq!((status.throttled > 0, status.violations, status.links.len()), (slowed, 0, 1), "{status:?}");
    drop(client);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_goes_on_breaking_the_protocol_is_shut_out_until_it_is_let_in() {
    let strict = |config: &mut NetConfig| config.limits.violations = 2;
    let server = Node::limited(1, &[ANY], &[], &[], strict).await.unwrap();
    let liar = Node::start(2, &[], &server.listen, &[b"bye"]).await.unwrap();
    let honest = Node::start(3, &[], &server.listen, &[]).await.unwrap();
    let status = figures(&server, |status| status.shunned == 1 && status.refused > 2).await;
    assert!((2..=3).contains(&status.violations), "{status:?}");
    figures(&server, |status| status.links.iter().any(|link| link.peer == honest.peer)).await;
    server.block(liar.peer, false).await;
    figures(&server, |status| status.violations > 3).await;
    drop((liar, honest));
}

/// Connections that never say a word: they take the places of their own address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_are_never_finished_leave_room_for_other_addresses() {
    for (bounded, gets_in) in [(4, true), (u32::MAX, false)] {
        let few = |config: &mut NetConfig| {
            config.limits.trusted.clear();
            config.limits.pending_per_address = bounded;
            config.max_pending = 8;
        };
        let server = Node::limited(1, &[ANY], &[], &[], few).await.unwrap();
        let text = server.listen[0].to_string();
        let port = text.split('/').nth(4).unwrap().parse().unwrap();
        let mut silent = Vec::new();
        for _ in 0..20 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            silent.push(soon(socket.connect(([127, 0, 0, 1], port).into())).await.unwrap());
        }
        let before = figures(&server, |status| status.refused >= 12).await.refused;
        let honest = Node::start(2, &[], &server.listen, &[]).await.unwrap();
        if gets_in {
            figures(&server, |status| status.links.len() == 1).await;
        } else {
            // Without the bound of an address, every place is taken.
            figures(&server, |status| status.refused > before).await;
            assert!(server.status().await.links.is_empty());
        }
        drop((silent, honest));
    }
}
