//! What the doors read of clients that nobody here wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use foreshore::coord::serve::talk::{Ask, Tell};
use foreshore::fuzz::{Target, Verdict, join, parts};
use foreshore::id::ChangeHash;
use foreshore::peer::coord::Identity;
use foreshore::wire::Codec as _;
use foreshore_node::doors::automerge_repo::exchange::Exchange;
use foreshore_node::doors::automerge_repo::graph::Graph;
use foreshore_node::doors::automerge_repo::message::{Ephemeral, MAX_ID, Said, Say};
use foreshore_node::doors::automerge_repo::sync::{Filter, Have, SyncMessage};
use foreshore_node::doors::zookeeper::jute::{Reader, Writer};
use foreshore_node::doors::zookeeper::request::{Connect, code};
use foreshore_node::doors::zookeeper::talk::{MAX_OUTSTANDING, Talk};
use tokio::time::Instant;

use super::own;

pub(super) fn targets() -> [Target; 3] {
    [
        own("zookeeper", conversations, zookeeper),
        own("repo", messages, repo),
        own("repo-sync", sync_messages, repo_sync),
    ]
}

/// A conversation of a client with its voter. Each part of the input is a frame of the client, or behind an odd first byte
/// something that the voter tells.
///
/// What the voter is asked it can read; what the client is told is whole frames; what waits has a bound.
fn zookeeper(bytes: &[u8]) -> Verdict {
    let now = Instant::now();
    let mut talk = Talk::new(Duration::from_secs(10), 1, 7, Some(Identity::new("ip", "127.0.0.1")), now);
    let mut answers = 0;
    for part in parts(bytes) {
        let Some((kind, body)) = part.split_first() else { continue };
        let outcome = match kind % 2 {
            // The socket is not read from meanwhile.
            0 if !talk.has_room() => continue,
            0 => talk.on_frame(now, body).map(|_| ()),
            _ => Tell::from_bytes(body).map_or(Ok(()), |tell| talk.on_tell(now, tell)),
        };
        for ask in talk.take_asks() {
            let bytes = ask.to_bytes();
            let read = Ask::from_bytes(&bytes).unwrap_or_else(|error| panic!("the voter cannot read {ask:?}: {error}"));
            assert_eq!(read.to_bytes(), bytes, "the voter reads another question");
        }
        let out = std::mem::take(talk.out());
        let mut r = Reader::new(&out);
        while r.remaining() > 0 {
            assert!(matches!(r.buffer("frame"), Ok(Some(frame)) if frame.len() >= 16), "an answer that is no frame");
            answers += 1;
        }
        assert!(talk.outstanding() <= MAX_OUTSTANDING, "{} requests wait", talk.outstanding());
        if let Err(end) = outcome {
            return Verdict::refused(&end);
        }
    }
    let connects = Connect::parse(bytes).is_ok();
    Verdict::accepted(talk.outstanding().min(4) as u64 * 16 + u64::from(connects) * 8 + answers.min(7))
}

fn conversations() -> Vec<Vec<u8>> {
    let frame = |xid: i32, code: i32, body: &dyn Fn(&mut Writer)| {
        let mut w = Writer::default();
        w.i32(xid).i32(code);
        body(&mut w);
        [&[0], w.finish().as_slice()].concat()
    };
    let path = |w: &mut Writer| _ = w.string("/a");
    let watched = |w: &mut Writer| _ = w.string("/a").bool(true);
    let create = |w: &mut Writer| {
        w.string("/a").buffer(b"x").i32(1).i32(31).string("world").string("anyone").i32(3);
    };
    let timed = |w: &mut Writer| {
        create(w);
        w.i64(1_000);
    };
    let set = |w: &mut Writer| _ = w.string("/a").buffer(b"y").i32(-1);
    let multi = |w: &mut Writer| {
        w.i32(code::SET_DATA).bool(false).i32(-1);
        set(w);
        w.i32(code::CHECK).bool(false).i32(-1).string("/b").i32(2).i32(-1).bool(true).i32(-1);
    };
    let looks = |w: &mut Writer| {
        w.i32(code::GET_DATA).bool(false).i32(-1);
        watched(w);
        w.i32(-1).bool(true).i32(-1);
    };
    let watches = |w: &mut Writer| {
        w.i64(3);
        (0..5).for_each(|_| _ = w.list(&["/a", "/b"], |w, path| _ = w.string(path)));
    };
    let acl = |w: &mut Writer| _ = w.string("/a").i32(1).i32(1).string("auth").string("").i32(-1);
    let auth = |w: &mut Writer| _ = w.i32(0).string("digest").buffer(b"me:secret");
    let mode = |w: &mut Writer| _ = w.string("/a").i32(1);
    let bodies: [(i32, &dyn Fn(&mut Writer)); 20] = [
        (code::CREATE2, &create),
        (code::CREATE_TTL, &timed),
        (code::SET_DATA, &set),
        (code::DELETE, &|w| _ = w.string("/a").i32(0)),
        (code::MULTI, &multi),
        (code::MULTI_READ, &looks),
        (code::GET_DATA, &watched),
        (code::EXISTS, &watched),
        (code::GET_CHILDREN2, &watched),
        (code::GET_ACL, &path),
        (code::SET_ACL, &acl),
        (code::SYNC, &path),
        (code::SET_WATCHES2, &watches),
        (code::ADD_WATCH, &mode),
        (code::REMOVE_WATCHES, &mode),
        (code::AUTH, &auth),
        (code::WHO_AM_I, &|_| ()),
        (code::PING, &|_| ()),
        (code::GET_EPHEMERALS, &path),
        (code::CLOSE, &|_| ()),
    ];
    let frames: Vec<Vec<u8>> =
        bodies.iter().enumerate().map(|(n, (code, body))| frame(n as i32 + 1, *code, body)).collect();
    let tell = |tell: Tell| [&[1], tell.to_bytes().as_slice()].concat();
    let tells = [
        tell(Tell::Pong { n: 1, zxid: 9 }),
        tell(Tell::Status { led: false, voters: Vec::new() }),
        tell(Tell::Lost),
        tell(Tell::Skipped),
    ];
    let all = join(frames.iter().chain(&tells).map(Vec::as_slice));
    let each = frames.iter().map(|frame| join([frame.as_slice()]));
    each.chain([all]).collect()
}

/// A frame of automerge-repo's: what is read of it keeps to its bounds, and what can be passed on reads the same there.
fn repo(bytes: &[u8]) -> Verdict {
    match Said::decode(bytes) {
        Ok(Said::Ephemeral(it)) => {
            assert!(it.document.len().max(it.sender.len()).max(it.session.len()) <= MAX_ID, "an id without a bound");
            let again = Said::decode(&Say::Ephemeral(&it).encode("here", "there"));
            assert_eq!(again.ok(), Some(Said::Ephemeral(it)), "something else is passed on");
            Verdict::accepted(0)
        }
        Ok(Said::Sync { document, data, request }) => {
            assert!(document.len() <= MAX_ID, "an id without a bound");
            Verdict::accepted(1 + u64::from(request) + 2 * u64::from(SyncMessage::decode(&data).is_ok()))
        }
        Ok(Said::Join { sender, .. }) => {
            assert!(sender.len() <= MAX_ID, "an id without a bound");
            Verdict::accepted(5)
        }
        Ok(Said::Subscribe { add, remove }) => Verdict::accepted(6 + (add.len() + remove.len()).min(4) as u64),
        Ok(Said::Unavailable { .. }) => Verdict::accepted(11),
        Ok(Said::Leave) => Verdict::accepted(12),
        Ok(Said::Other) => Verdict::accepted(13),
        Err(error) => Verdict::refused(&error.to_string()),
    }
}

fn messages() -> Vec<Vec<u8>> {
    let ephemeral =
        Ephemeral { document: "d".into(), sender: "a".into(), session: "s".into(), count: 3, data: vec![1, 2] };
    let sync = SyncMessage { heads: vec![hash(1)], ..SyncMessage::default() }.encode();
    let said = [
        Say::Peer { storage: "st" },
        Say::Sync { document: "d", data: &sync },
        Say::Unavailable { document: "d" },
        Say::Ephemeral(&ephemeral),
        Say::HeadsChanged { document: "d", storage: "st", heads: &[hash(1)], timestamp: 5 },
        Say::Error { message: "no" },
    ];
    // `{type: join, senderId, supportedProtocolVersions: ["1"], peerMetadata: {storageId}}`, and with an endless map.
    let join = b"\xa4dtypedjoinhsenderIdaax\x19supportedProtocolVersions\x81a1lpeerMetadata\xa1istorageIdbst".to_vec();
    let change = b"\xbfdtypex\x1aremote-subscription-changecadd\x9fbst\xffhsenderIdaa\xff".to_vec();
    said.iter().map(|say| say.encode("a", "b")).chain([join, change]).collect()
}

fn hash(n: u8) -> ChangeHash {
    ChangeHash([n; 32])
}

/// Sync messages of a client, one a part, to a document of a few changes: what is answered can be read, and nothing is sent
/// that is not there or was sent before.
fn repo_sync(bytes: &[u8]) -> Verdict {
    let mut graph = Graph::default();
    graph.insert(hash(1), &[]);
    graph.insert(hash(2), &[hash(1)]);
    graph.insert(hash(3), &[hash(1)]);
    graph.insert(hash(4), &[hash(2), hash(3)]);
    let (mut exchange, mut kind) = (Exchange::default(), 0);
    for part in parts(bytes) {
        let message = match SyncMessage::decode(part) {
            Ok(message) => message,
            Err(error) => return Verdict::refused(&error),
        };
        // Filters of nothing are written as no filter, and flags are not written.
        let written = SyncMessage::decode(&message.encode()).expect("what was read is written so that it reads");
        assert_eq!((&written.heads, &written.changes), (&message.heads, &message.changes), "another message");
        exchange.receive(&graph, &graph.heads(), message);
        if let Some(answer) = exchange.answer(&graph, &BTreeMap::new()) {
            assert!(answer.changes.iter().all(|change| graph.has(change)), "a change that is not there");
            assert!(answer.changes.len() <= graph.len(), "a change twice");
            assert!(SyncMessage::decode(&answer.message.encode()).is_ok(), "an answer that nobody can read");
            kind = (kind * 5 + 1 + answer.changes.len() as u64) % 1_000;
        }
    }
    Verdict::accepted(kind)
}

fn sync_messages() -> Vec<Vec<u8>> {
    let have = |from: &[u8], to: &[u8]| Have {
        last_sync: from.iter().map(|n| hash(*n)).collect(),
        filter: Filter::of(to.iter().map(|n| hash(*n)).collect::<Vec<_>>().iter()),
    };
    let first = SyncMessage { have: vec![have(&[], &[])], ..SyncMessage::default() }.encode();
    let some = SyncMessage { heads: vec![hash(2)], have: vec![have(&[1], &[2])], ..SyncMessage::default() }.encode();
    let wants = SyncMessage { heads: vec![hash(9)], need: vec![hash(3)], ..SyncMessage::default() }.encode();
    let lost =
        SyncMessage { have: vec![have(&[8], &[8])], changes: vec![vec![1; 8]], ..SyncMessage::default() }.encode();
    let each = [&first, &some, &wants, &lost].map(|message| join([message.as_slice()]));
    each.into_iter().chain([join([first.as_slice(), &some, &wants, &lost])]).collect()
}
