//! Hostile peers against real engines: an authorised liar, a reader, and a stranger, while two honest peers work.
//!
//! A [`Scene`] is two honest members in step and a guest that may write `/pub` and has keys of its own, so whatever it signs
//! holds. Each scenario lets the honest ones work while the guest does one hostile thing, and then asks:
//!
//! - did the honest peers converge, and do they still talk to each other;
//! - did they say at most twice to each other what they say on a day without the guest;
//! - is what the guest has no right to as its owner left it, and was nothing of it shown;
//! - are tables and queues within their bounds.
//!
//! A [`Defence`] can be left out: the same scenario has to see the difference then, or it proves nothing.

mod changes;
mod facts;
mod sets;
mod transient;

use crate::config::{Defence, EngineConfig};
use crate::document::chunk::{Chunk, ChunkError, ChunkLimits};
use crate::engine::StatusReport;
use crate::fuzz::engine::{Guest, STRANGER, overhear, private};
use crate::fuzz::world::{SECRET, World, path};
use crate::id::{ChangeHash, DocumentId, Path, Prefix};
use crate::io::{CloseReason, Input, LinkId, Table};
use crate::trust::{Endorsement, EndorsementKind};
use crate::wire::Writer;
use crate::wire::v1::{DocumentUpdate, Message, decode_frame};
use std::collections::BTreeMap;

struct Scene {
    world: World,
    guest: Guest,
    expected: BTreeMap<Path, Vec<ChangeHash>>,
    /// What the honest ones left where the guest may write.
    public: BTreeMap<Path, Vec<ChangeHash>>,
    edits: u32,
}

/// What a day came to.
struct Day {
    /// What the honest peers said to each other.
    honest_bytes: usize,
    /// Figures of who was spoken to, before the guest went.
    status: StatusReport,
    /// Rows of its changes and facts then.
    rows: [usize; 2],
    /// Whether what the honest ones wrote where the guest may write is as they left it.
    as_left: bool,
}

/// Eight honest edits, and something that the guest does after each.
fn day(set: impl Fn(&mut EngineConfig), act: impl FnMut(&mut Scene)) -> Day {
    Scene::new(set).live(act)
}

/// What the honest peers say to each other on a day on which the guest is linked and silent.
fn quiet() -> usize {
    day(usual, |_| {}).honest_bytes
}

impl Day {
    /// The guest cost the honest peers no more than as much again.
    fn is_cheap(&self, quiet: usize) {
        assert!(self.honest_bytes <= 2 * quiet, "{} bytes instead of {quiet}", self.honest_bytes);
    }
}

impl Scene {
    fn new(set: impl Fn(&mut EngineConfig)) -> Self {
        let mut world = World::two_with(&set);
        let expected = private(&mut world);
        let mut guest = Guest::new(&world);
        guest.enter(&mut world);
        // Whatever changes from now on is pushed to it.
        guest.say(&mut world, &Message::Cursor { space: guest.tag, arrival: 0 });
        world.run_for(500);
        Self { world, guest, expected, public: BTreeMap::new(), edits: 0 }
    }

    /// The same with a guest that was linked by seat 0, and so is asked.
    fn asked(set: impl Fn(&mut EngineConfig)) -> Self {
        let mut scene = Self::new(set);
        scene.world.input(0, Input::Unlinked { link: scene.guest.link });
        scene.guest.be_asked(&mut scene.world);
        scene
    }

    fn live(mut self, mut act: impl FnMut(&mut Self)) -> Day {
        let before = self.world.honest_bytes;
        for _ in 0..8 {
            self.work();
            act(&mut self);
        }
        self.world.run_for(2_000);
        let status = self.world.status(0);
        let rows = [Table::Chunks, Table::Facts].map(|table| self.world.rows(0, table).count());
        let as_left = self.is_as_left();
        Day { honest_bytes: self.end() - before, status, rows, as_left }
    }

    /// Whether what the honest ones wrote where the guest may write, and where it may not, is as they left it.
    fn is_as_left(&mut self) -> bool {
        let left: Vec<(Path, Vec<ChangeHash>)> =
            self.public.iter().chain(&self.expected).map(|(path, heads)| (path.clone(), heads.clone())).collect();
        (0..2).all(|n| {
            let list = self.world.list(n);
            left.iter().all(|(path, heads)| list.get(path) == Some(heads))
        })
    }

    /// What seat 0 has said to the guest since this was last asked; it is acknowledged.
    fn hear(&mut self) -> Vec<Message> {
        let mut heard = Vec::new();
        while let Some((link, frame)) = self.world.heard.pop_front() {
            let shown = frame.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
            assert!(!shown, "a private document was shown");
            if link == self.guest.link {
                heard.extend(decode_frame(&frame).expect("an own frame reads").into_iter().map(|(message, _)| message));
            }
        }
        let number = |message: &Message| match message {
            Message::Update { number, .. } | Message::Facts { number, .. } | Message::Part { number, .. } => {
                Some(*number)
            }
            _ => None,
        };
        if let Some(number) = heard.iter().filter_map(number).max() {
            self.say(&Message::Ack { number, except: Vec::new() });
        }
        heard
    }

    fn send(&mut self, update: DocumentUpdate) {
        self.guest.update(&mut self.world, vec![update]);
    }

    /// One honest edit, in turn by either peer and in turn where the guest may write and where not.
    fn work(&mut self) {
        self.edits += 1;
        let value = format!("edit {}", self.edits);
        match self.edits % 3 {
            0 => {
                let heads = self.world.edit(0, "/own/a", "x", &value).expect("an honest edit");
                self.expected.insert(path("/own/a"), heads);
            }
            1 => {
                let heads = self.world.edit(1, "/pub/y", "z", &value).expect("an honest edit");
                self.public.insert(path("/pub/y"), heads);
            }
            _ => {
                let heads = self.world.edit(0, "/pub/x", "y", &value).expect("an honest edit");
                self.public.insert(path("/pub/x"), heads);
            }
        }
        self.world.run_for(200);
    }

    fn say(&mut self, message: &Message) {
        self.guest.say(&mut self.world, message);
    }

    /// Whether the guest's link was closed, and why.
    fn closed(&self) -> Option<&CloseReason> {
        self.world.closed.get(&self.guest.link)
    }

    /// The guest goes; the honest ones have a while. Comes back with what they have said to each other in all.
    fn end(mut self) -> usize {
        overhear(&mut self.world, LinkId(u64::MAX));
        let link = self.guest.link;
        self.world.input(0, Input::Unlinked { link });
        self.world.run_for(60_000);
        assert_eq!(self.world.fell_out, None, "an honest peer was made to look hostile");
        for n in 0..2 {
            let mut kept = self.world.list(n);
            kept.retain(|path, _| !path.as_str().starts_with("/pub/"));
            assert_eq!(kept, self.expected, "what the guest has no right to has changed at {n}");
        }
        let roots = [0, 1].map(|n| self.world.status(n).spaces[0].root.clone());
        assert_eq!(roots[0], roots[1], "two honest peers have not converged");
        self.world.honest_bytes
    }
}

fn usual(_: &mut EngineConfig) {}

fn without(defence: Defence) -> impl Fn(&mut EngineConfig) {
    move |config| config.without = Some(defence)
}

/// An endorsement by the guest of a change at a path.
fn signed(scene: &Scene, at: &str, bytes: &[u8], kind: EndorsementKind) -> Endorsement {
    let document = DocumentId::derive(&scene.world.space, &path(at), 0);
    let chunk = Chunk::parse(bytes.to_vec(), &ChunkLimits::default()).expect("a change");
    let (actor, newest) = (chunk.actor().clone(), (chunk.seq(), chunk.hash()));
    Endorsement::foreign(&scene.guest.key, &scene.world.space, document, actor, newest, kind)
}

fn update(at: &str, chunks: Vec<Vec<u8>>, endorsements: &[Endorsement]) -> DocumentUpdate {
    let written = |it: &Endorsement| {
        let mut w = Writer::new();
        it.encode_wire(&mut w, None, None);
        w.finish()
    };
    let endorsements = endorsements.iter().map(written).collect();
    DocumentUpdate { path: path(at), generation: 0, chunks, endorsements, tombstones: vec![] }
}

/// An update with one change at a path, endorsed by the guest.
fn endorsed(scene: &Scene, at: &str, bytes: Vec<u8>) -> DocumentUpdate {
    let signed = signed(scene, at, &bytes, EndorsementKind::Single);
    update(at, vec![bytes], &[signed])
}

/// Changes of one actor, each on top of the one before, of about so many bytes that no packing makes smaller.
fn chain(actor: [u8; 16], changes: u32, size: usize) -> Vec<Vec<u8>> {
    use automerge::transaction::Transactable;
    let mut doc = automerge::Automerge::new().with_actor(automerge::ActorId::from(actor));
    for n in 0..changes {
        let mut noise = vec![0; size];
        blake3::Hasher::new().update(&actor).update(&n.to_le_bytes()).finalize_xof().fill(&mut noise);
        let mut tx = doc.transaction();
        tx.put(automerge::ROOT, "noise", noise).expect("a root takes bytes");
        tx.commit();
    }
    doc.get_changes(&[]).into_iter().map(|mut change| change.bytes().into_owned()).collect()
}

/// A change of about 30 KB.
fn large(n: u8) -> Vec<u8> {
    chain([n; 16], 1, 30_000).remove(0)
}

#[test]
fn a_guest_is_told_nothing_outside_its_prefix_whatever_it_asks_for() {
    let asks = |scene: &mut Scene| {
        let space = scene.guest.tag;
        let heads = ["/own/a", "/own/b", "/pub/x"].map(|at| crate::wire::v1::DocumentHeads {
            path: path(at),
            generation: 0,
            heads: vec![],
        });
        scene.say(&Message::Interests { space, prefixes: vec![Prefix::root()], facts_root: [1; 24], facts: 9 });
        scene.say(&Message::FetchSince { space, documents: heads.to_vec() });
        scene.say(&Message::Heads { space, documents: heads.to_vec() });
        scene.say(&Message::Cursor { space, arrival: 0 });
        scene.world.run_for(2_000);
        let shown = |(_, frame): &(LinkId, Vec<u8>)| frame.windows(SECRET.len()).any(|w| w == SECRET.as_bytes());
        scene.world.heard.iter().any(shown)
    };
    let mut scene = Scene::new(usual);
    assert!(!asks(&mut scene), "a private document was shown");
    scene.end();
    let mut bare = Scene::new(without(Defence::Reading));
    assert!(asks(&mut bare), "without the defence it is");
}

/// Says every message that there is, about the space whose id a stranger may know.
#[test]
fn a_stranger_learns_nothing_whatever_it_says() {
    let says = |set: &dyn Fn(&mut EngineConfig)| {
        let mut scene = Scene::new(set);
        let link = scene.world.link();
        scene.world.heard.clear();
        scene.world.input(0, Input::Linked { link, peer: STRANGER, initiator: false });
        // Its own key, and no grant.
        let mut stranger = Guest::stranger(&scene.world);
        stranger.enter_as(&mut scene.world, link, STRANGER);
        for message in crate::fuzz::wire::messages().into_iter().skip(4) {
            let with_tag = stranger.tagged(message);
            stranger.say(&mut scene.world, &with_tag);
        }
        scene.world.run_for(2_000);
        let told: Vec<Message> = scene
            .world
            .heard
            .iter()
            .filter(|(at, _)| *at == link)
            .flat_map(|(_, frame)| decode_frame(frame).expect("an own frame reads"))
            .map(|(message, _)| message)
            .filter(|message| {
                !matches!(
                    message,
                    Message::Hello { .. } | Message::Open { .. } | Message::Present { .. } | Message::Refused { .. }
                )
            })
            .collect();
        scene.world.input(0, Input::Unlinked { link });
        scene.end();
        told
    };
    assert_eq!(says(&usual), []);
    assert_ne!(says(&without(Defence::Membership)), [], "without the defence it learns something");
}

/// A sender without measure is heard as far as its rate goes; neither memory nor the honest link pay for the rest.
#[test]
fn signals_without_end_are_passed_on_at_a_rate() {
    let mut scene = Scene::new(usual);
    for _ in 0..3_000 {
        scene.guest.topic(&mut scene.world, 0, &[7; 2_000]);
    }
    let status = scene.world.status(0);
    // No time has passed, so this is what may come at once.
    let most = crate::topic::DEVICE.burst / 2_000;
    assert!((1..=most).contains(&status.topic_delivered), "{} of 3000 were heard", status.topic_delivered);
    assert!(status.topic_bytes <= (crate::topic::RECENT_BYTES + 4 * crate::topic::QUEUE_BYTES) as u64);
    scene.work();
    scene.end();
}

/// Data beyond the credit that was given: the link ends, before more than the window waits.
#[test]
fn data_beyond_the_credit_costs_the_link() {
    let sent = |set: &dyn Fn(&mut EngineConfig)| {
        let mut scene = Scene::new(|config| {
            set(config);
            config.link_window = 64 << 10;
        });
        let mut bytes = 0;
        // Storage does not answer meanwhile, as on a slow disk.
        scene.world.hold_storage(0, true);
        for n in 0..32u32 {
            let update = endorsed(&scene, &format!("/pub/d{n}"), large(n as u8));
            scene.guest.update(&mut scene.world, vec![update]);
            if scene.closed().is_some() {
                break;
            }
            bytes += 30_000;
        }
        scene.world.hold_storage(0, false);
        let closed = scene.closed().is_some();
        scene.end();
        (closed, bytes)
    };
    let (closed, bytes) = sent(&usual);
    assert!(closed && bytes <= 3 * (64 << 10), "{bytes} bytes were taken");
    assert_eq!(sent(&without(Defence::Credit)), (false, 32 * 30_000), "without the defence all of it waits");
}

/// A body that inflates a thousandfold: it is given up before it has unfolded.
#[test]
fn bombs_are_refused_before_they_unfold() {
    let body = miniz_oxide::deflate::compress_to_vec(&vec![0; 20 << 20], 9);
    let bomb = crate::fuzz::changes::framed(2, &body);
    let parse = |limits: &ChunkLimits| Chunk::parse(bomb.clone(), limits);
    assert!(matches!(parse(&ChunkLimits::default()), Err(ChunkError::TooLarge { .. } | ChunkError::Inflate)));
    let lax = ChunkLimits { max_inflated: 1 << 30, max_ratio: usize::MAX, ..ChunkLimits::default() };
    assert!(matches!(parse(&lax), Err(ChunkError::Checksum)), "without the bound it is inflated");
}
