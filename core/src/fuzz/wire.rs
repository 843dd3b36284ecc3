//! Frames of the sync stream.

use super::{Target, Verdict, join, parts};
use crate::id::{ChangeHash, DocumentId, Path, PeerId, Prefix};
use crate::reconcile::KeyName;
use crate::wire::v1::exchange::PeerAddresses;
use crate::wire::v1::{DocumentHeads, DocumentUpdate, Message, RootsKind, decode_frame};

pub(super) const TARGETS: &[Target] = &[
    Target::new("frame", frames, frame).max_len(crate::io::MAX_FRAME),
    Target::new("page", pages, page).room(4 << 20),
];

/// What is read is written as the same bytes, but for optional fields and messages of a later version.
fn frame(bytes: &[u8]) -> Verdict {
    let messages = match decode_frame(bytes) {
        Ok(messages) => messages,
        Err(error) => return Verdict::refused(&error),
    };
    let (mut again, mut kinds) = (Vec::new(), 0);
    for (message, _) in &messages {
        message.append_to(&mut again);
        kinds |= 1 << (std::mem::discriminant(message).hash_bits() % 63);
    }
    let sizes: usize = messages.iter().map(|(_, size)| size).sum();
    assert!(sizes <= bytes.len(), "messages are larger than their frame");
    assert!(again.len() <= bytes.len(), "what is written again is longer");
    if again.len() == bytes.len() {
        assert_eq!(again, bytes, "a second spelling was taken");
    }
    let twice = decode_frame(&again).expect("what was read is written so that it reads");
    assert!(messages.iter().map(|(m, _)| m).eq(twice.iter().map(|(m, _)| m)), "another message came back");
    Verdict::accepted(kinds)
}

trait HashBits {
    fn hash_bits(&self) -> u64;
}

impl<T> HashBits for std::mem::Discriminant<T> {
    /// The discriminant as a number that is the same in every run of a build.
    fn hash_bits(&self) -> u64 {
        let text = format!("{self:?}");
        text.bytes().fold(0, |hash, byte| (hash * 31 + u64::from(byte)) & 0xffff_ffff)
    }
}

fn frames() -> Vec<Vec<u8>> {
    let messages = messages();
    let one = |message: &Message| {
        let mut frame = Vec::new();
        message.append_to(&mut frame);
        frame
    };
    let mut frames: Vec<Vec<u8>> = messages.iter().map(one).collect();
    frames.push(frames.concat());
    frames
}

/// One message of each kind.
pub(crate) fn messages() -> Vec<Message> {
    let (space, domain) = ([1; 4], [2; 4]);
    let path = || Path::parse("/a/b").expect("a path");
    let hash = ChangeHash([3; 32]);
    let heads = || vec![DocumentHeads { path: path(), generation: 1, heads: vec![hash] }];
    let update = DocumentUpdate {
        path: path(),
        generation: 0,
        chunks: vec![vec![0x85, 0x6f, 0x4a, 0x83], vec![]],
        endorsements: vec![vec![1, 2]],
        tombstones: vec![vec![3]],
    };
    let told = PeerAddresses { peer: PeerId([4; 32]), addresses: vec!["/ip4/192.0.2.7/tcp/4801".into()] };
    let root = [5; 24];
    let roots = |kind| Message::Roots { kind, root, arrival: 300 };
    vec![
        Message::Hello { versions: vec![1, 2], nonce: [6; 16], window: 1 << 22, epoch: 7 },
        Message::Unsupported { versions: vec![1] },
        Message::Open { tags: vec![[8; 16]] },
        Message::Present { space, proof: vec![9; 40] },
        Message::Refused { space },
        Message::Interests { space, prefixes: vec![Prefix::root()], facts_root: root, facts: 3 },
        roots(RootsKind::Ask),
        roots(RootsKind::Answer),
        roots(RootsKind::BusyAnswer),
        Message::Reconcile { space, domain, body: vec![1, 2, 3] },
        Message::Cursor { space, arrival: 300 },
        Message::CursorReached { space, mine: Some(4) },
        Message::Want { space, domain, theirs: vec![1, 2], mine: vec![3], key: KeyName::Session([9; 16]), last: true },
        Message::Unmatched { space, domain, ids: vec![4] },
        Message::Heads { space, documents: heads() },
        Message::FetchSince { space, documents: heads() },
        Message::Fetch { space, path: path(), generation: 0, hashes: vec![hash, hash] },
        Message::Shipped { space, domain },
        Message::Update { space, number: 1, documents: vec![update] },
        Message::Facts { space, number: 2, facts: vec![vec![1; 100]] },
        Message::Part {
            space,
            number: 3,
            path: path(),
            generation: 0,
            hash,
            total: 70_000,
            offset: 60_000,
            bytes: vec![1; 60],
        },
        Message::Ack { number: 3, except: vec![2] },
        Message::Credit { bytes: 1 << 20 },
        Message::Have { space, documents: vec![(DocumentId([1; 16]), [2; 8])] },
        Message::Prune { space, domain },
        Message::Graft { space, documents: vec![DocumentId([1; 16])] },
        Message::Soft { space, body: vec![0] },
        Message::SoftAck,
        Message::Reached { space, arrival: 9 },
        Message::Held { space, documents: heads(), parts: vec![(hash, 1_000)] },
        Message::Peers { space, peers: vec![told] },
        Message::Vouch { space, former: vec![(1, 2)], set_aside: vec![(3, 4)] },
        Message::Topic { space, body: vec![0] },
        Message::Overlay { space, body: vec![0] },
        Message::PruneAuthor { space, domain, author: [7; 8] },
    ]
}

/// A portable copy: it is read, or refused.
fn page(bytes: &[u8]) -> Verdict {
    match crate::engine::read_page(bytes) {
        Ok((_, facts, documents)) => Verdict::accepted((facts.len() + documents.len()).min(20) as u64),
        Err(error) => Verdict::refused(&error),
    }
}

fn pages() -> Vec<Vec<u8>> {
    let mut w = crate::wire::Writer::new();
    w.varint(1).array(&[7; 32]).list(&[vec![1u8; 80]], |w, fact| {
        w.bytes(fact);
    });
    let updates: Vec<DocumentUpdate> = messages()
        .into_iter()
        .filter_map(|message| if let Message::Update { documents, .. } = message { Some(documents) } else { None })
        .flatten()
        .collect();
    w.list(&updates, |w, update| update.encode_unbounded(w));
    let page = w.finish();
    // Read as parts as well, so that both shapes of damage are tried.
    let both = join(parts(&page));
    vec![page, both]
}
