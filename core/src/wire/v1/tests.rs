//! What each message's bytes are, and what they are not.

use super::*;
use crate::id::PeerId;
use proptest::prelude::*;

fn samples() -> Vec<Message> {
    let path = Path::parse("/a/b").unwrap();
    let heads = vec![ChangeHash([1; 32]), ChangeHash([2; 32])];
    let documents = vec![DocumentHeads { path: path.clone(), generation: 3, heads: heads.clone() }];
    let space = [9; 4];
    vec![
        Message::Hello { versions: vec![1], nonce: [3; 16], window: 1 << 20, epoch: 77 },
        Message::Unsupported { versions: vec![2, 1] },
        Message::Open { tags: vec![[1; 16]] },
        Message::Present { space, proof: vec![1, 2] },
        Message::Refused { space },
        Message::Interests { space, prefixes: vec![Prefix::root()], facts_root: [4; 24], facts: 3 },
        Message::Roots { kind: RootsKind::Ask, root: [5; 24], arrival: 300 },
        Message::Roots { kind: RootsKind::Answer, root: [5; 24], arrival: 300 },
        Message::Roots { kind: RootsKind::BusyAnswer, root: [5; 24], arrival: 300 },
        Message::Reconcile { space, domain: [1; 4], body: vec![7; 9] },
        Message::Cursor { space, arrival: 5 },
        Message::CursorReached { space, mine: Some(9) },
        Message::Want { space, domain: [1; 4], theirs: vec![1], mine: vec![2, 3], key: KeyName::Epoch(0), last: true },
        Message::Unmatched { space, domain: [1; 4], ids: vec![1] },
        Message::Heads { space, documents: documents.clone() },
        Message::FetchSince { space, documents },
        Message::Fetch { space, path: path.clone(), generation: 0, hashes: heads.clone() },
        Message::Shipped { space, domain: [1; 4] },
        Message::Update {
            space,
            number: 1,
            documents: vec![DocumentUpdate {
                path: path.clone(),
                generation: 1,
                chunks: vec![vec![1], vec![2]],
                endorsements: vec![vec![3]],
                tombstones: vec![vec![4]],
            }],
        },
        Message::Facts { space, number: 2, facts: vec![vec![1]] },
        Message::Part {
            space,
            number: 3,
            path: path.clone(),
            generation: 0,
            hash: heads[0],
            total: 10,
            offset: 5,
            bytes: vec![1; 5],
        },
        Message::Ack { number: 7, except: vec![3] },
        Message::Credit { bytes: 9 },
        Message::Have { space, documents: vec![(DocumentId([1; 16]), [2; 8])] },
        Message::Prune { space, domain: [5; 4] },
        Message::Graft { space, documents: vec![DocumentId([1; 16])] },
        Message::Soft { space, body: vec![3, 0] },
        Message::SoftAck,
        Message::Reached { space, arrival: 300 },
        Message::Held {
            space,
            documents: vec![DocumentHeads { path: path.clone(), generation: 1, heads: heads.clone() }],
            parts: vec![(ChangeHash([8; 32]), 70_000)],
        },
        Message::Vouch { space, former: vec![(7, 300)], set_aside: vec![(3, 9)] },
        Message::Peers {
            space,
            peers: vec![PeerAddresses { peer: PeerId([3; 32]), addresses: vec!["/ip4/192.0.2.1/tcp/1".into()] }],
        },
        Message::Topic { space, body: vec![4, 9] },
        Message::Overlay { space, body: vec![2, 0] },
        Message::PruneAuthor { space, domain: [5; 4], author: [6; 8] },
        Message::GraftAuthor { space, domain: [5; 4], author: [7; 8] },
    ]
}

#[test]
fn every_message_survives_a_frame() {
    let mut frame = Vec::new();
    samples().iter().for_each(|m| m.append_to(&mut frame));
    let decoded = decode_frame(&frame).unwrap();
    assert_eq!(decoded.iter().map(|(_, len)| len).sum::<usize>(), frame.len());
    assert_eq!(decoded.into_iter().map(|(m, _)| m).collect::<Vec<_>>(), samples());
}

#[test]
fn unknown_optional_messages_are_skipped_and_unknown_required_ones_refused() {
    let mut frame = vec![200, 3, 1, 2, 3];
    Message::Ack { number: 1, except: vec![] }.append_to(&mut frame);
    assert_eq!(decode_frame(&frame).unwrap(), [(Message::Ack { number: 1, except: vec![] }, 4)]);
    assert!(decode_frame(&[100, 0]).is_err());
}

#[test]
fn roots_stay_within_their_budget() {
    let mut frame = Vec::new();
    Message::Roots { kind: RootsKind::Ask, root: [1; 24], arrival: 1 << 20 }.append_to(&mut frame);
    assert!(frame.len() + 2 <= 32, "{} bytes and a two-byte length prefix", frame.len());
}

proptest! {
    #[test]
    fn random_frames_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = decode_frame(&bytes);
    }

    #[test]
    fn altered_frames_never_panic(at in 0usize..2000, to: u8) {
        let mut frame = Vec::new();
        samples().iter().for_each(|m| m.append_to(&mut frame));
        let at = at % frame.len();
        frame[at] = to;
        let _ = decode_frame(&frame);
    }
}
