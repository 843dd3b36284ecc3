use std::collections::BTreeMap;

use automerge::sync::{BloomFilter, Message as Theirs, State, SyncDoc as _};
use automerge::transaction::Transactable as _;
use automerge::{AutoCommit, ROOT};
use foreshore::document::Chunk;
use foreshore::id::ChangeHash;
use proptest::prelude::*;

use super::connection::path_of;
use super::exchange::Exchange;
use super::graph::Graph;
use super::message::{Ephemeral, Said, Say};
use super::sync::{Filter, Have, SyncError, SyncMessage};

fn hash(n: u8) -> ChangeHash {
    ChangeHash(*blake3::hash(&[n]).as_bytes())
}

fn theirs(hash: ChangeHash) -> automerge::ChangeHash {
    automerge::ChangeHash(hash.0)
}

#[test]
fn ids_of_documents_have_one_spelling() {
    let id = bs58::encode([7; 16]).with_check().into_string();
    assert_eq!(path_of("/automerge", &id).unwrap().as_str(), format!("/automerge/{id}"));
    assert_eq!(path_of("/", &id).unwrap().as_str(), format!("/{id}"));
    let short = bs58::encode([7; 15]).with_check().into_string();
    for other in ["", "../x", "automerge:x", &id[1..], &format!("{id}1"), &short, &id.to_lowercase()] {
        assert_eq!(path_of("/automerge", other), None, "{other}");
    }
}

#[test]
fn sync_messages_are_automerges() {
    let hashes: Vec<ChangeHash> = (0..100).map(hash).collect();
    let mut sorted = hashes.clone();
    sorted.sort();
    let message = SyncMessage {
        heads: sorted[..2].to_vec(),
        need: sorted[5..8].to_vec(),
        have: vec![Have { last_sync: sorted[..1].to_vec(), filter: Filter::of(hashes.iter()) }],
        changes: Vec::new(),
        reset: false,
        read_only: false,
    };
    let read = Theirs::decode(&message.encode()).unwrap();
    assert_eq!(read.heads, message.heads.iter().map(|it| theirs(*it)).collect::<Vec<_>>());
    assert_eq!(read.need.len(), 3);
    let bloom = &read.have[0].bloom;
    assert_eq!(*bloom, BloomFilter::from_hashes(hashes.iter().map(|it| theirs(*it)).collect::<Vec<_>>().iter()));
    let filter = &message.have[0].filter;
    for n in 0..=255 {
        assert_eq!(filter.passes(&hash(n)), bloom.contains_hash(&theirs(hash(n))), "{n}");
    }
    assert!((0..100).all(|n| filter.passes(&hash(n))));
    assert_eq!(SyncMessage::decode(&read.encode()).unwrap(), message);
}

#[test]
fn filters_that_are_none_are_refused_by_name() {
    let with = |filter: &[u8]| {
        let mut bytes = vec![0x42, 0, 0, 1, 0, filter.len() as u8];
        bytes.extend_from_slice(filter);
        bytes.push(0);
        SyncMessage::decode(&bytes)
    };
    assert!(with(&[]).is_ok());
    assert!(with(&[1, 10, 7, 0, 0]).is_ok());
    // No bits; more probes than there is memory; more or fewer bits than it says.
    for filter in [&[1, 0, 7][..], &[1, 10, 0xff, 0xff, 0xff, 0xff, 15, 0, 0], &[1, 10, 0, 0, 0], &[1, 10, 7, 0]] {
        assert!(matches!(with(filter), Err(SyncError::Filter { .. })), "{filter:?}");
    }
    assert_eq!(SyncMessage::decode(&[]), Err(SyncError::Cut("type")));
    assert_eq!(SyncMessage::decode(&[0x41]), Err(SyncError::Type(0x41)));
    let many = [&[0x42][..], &[0xff; 9], &[1]].concat();
    assert_eq!(SyncMessage::decode(&many), Err(SyncError::Number("heads")));
}

/// A store that has changes and no document.
#[derive(Default)]
struct Store {
    graph: Graph,
    chunks: BTreeMap<ChangeHash, Chunk>,
    waiting: BTreeMap<ChangeHash, Chunk>,
    exchange: Exchange,
}

impl Store {
    fn take(&mut self, pieces: &[Vec<u8>]) {
        for bytes in pieces {
            let chunk = Chunk::parse_stored(bytes.clone()).unwrap();
            self.waiting.insert(chunk.hash(), chunk);
        }
        let mut before = usize::MAX;
        while self.waiting.len() < before {
            before = self.waiting.len();
            let (graph, chunks) = (&mut self.graph, &mut self.chunks);
            self.waiting.retain(|hash, chunk| {
                let taken = graph.insert(*hash, chunk.deps());
                if taken {
                    chunks.insert(*hash, chunk.clone());
                }
                !taken
            });
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let message = SyncMessage::decode(bytes).unwrap();
        let before = self.graph.heads();
        self.take(&message.changes);
        self.exchange.receive(&self.graph, &before, message);
    }

    fn say(&mut self) -> Option<Vec<u8>> {
        let waiting = self.waiting.iter().map(|(hash, chunk)| (*hash, chunk.deps().to_vec())).collect();
        let mut answer = self.exchange.answer(&self.graph, &waiting)?;
        answer.message.changes = answer.changes.iter().map(|hash| self.chunks[hash].bytes().to_vec()).collect();
        Some(answer.message.encode())
    }
}

struct Client {
    doc: AutoCommit,
    state: State,
}

impl Client {
    fn hear(&mut self, bytes: &[u8]) {
        let message = Theirs::decode(bytes).unwrap();
        self.doc.sync().receive_sync_message(&mut self.state, message).unwrap();
    }

    fn say(&mut self) -> Option<Vec<u8>> {
        self.doc.sync().generate_sync_message(&mut self.state).map(Theirs::encode)
    }
}

/// Lets the two talk until neither has anything to say. Returns in how many messages.
fn talk(store: &mut Store, client: &mut Client) -> usize {
    for messages in 0.. {
        let (said, told) = (client.say(), store.say());
        said.iter().for_each(|bytes| store.hear(bytes));
        told.iter().for_each(|bytes| client.hear(bytes));
        if said.is_none() && told.is_none() {
            return messages;
        }
        assert!(messages < 40, "they do not come to an end");
    }
    unreachable!()
}

fn same(store: &Store, client: &mut Client) {
    let heads: Vec<ChangeHash> = client.doc.get_heads().iter().map(|head| ChangeHash(head.0)).collect();
    assert_eq!(store.graph.heads(), heads);
    assert!(store.waiting.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_store_without_a_document_syncs_with_automerge(
        steps in prop::collection::vec((0..3u8, 1..40u8), 1..12), seed in 0..200u8,
    ) {
        let mut base = AutoCommit::new();
        for n in 0..seed {
            base.put(ROOT, format!("k{}", n % 7), i64::from(n)).unwrap();
            base.commit();
        }
        // The store has what another client wrote, the client has what was there before.
        let mut writer = Client { doc: base.fork(), state: State::new() };
        let mut client = Client { doc: base.fork(), state: State::new() };
        let mut store = Store::default();
        let mut known = 0;
        for (what, count) in steps {
            let doc = match what {
                0 => Some(&mut writer.doc),
                1 => Some(&mut client.doc),
                _ => None,
            };
            match doc {
                Some(doc) => for n in 0..count {
                    doc.put(ROOT, format!("x{}", n % 5), i64::from(n)).unwrap();
                    doc.commit();
                },
                None => {
                    talk(&mut store, &mut client);
                    same(&store, &mut client);
                }
            }
            // What the writer has comes to the store by another way, all or a part of it.
            let all: Vec<Vec<u8>> = writer.doc.get_changes(&[]).iter().map(|it| it.raw_bytes().to_vec()).collect();
            known = known.max(all.len() / 2);
            store.take(&all[..known]);
        }
        talk(&mut store, &mut client);
        same(&store, &mut client);
        // One that has lost everything gets all of it again.
        let mut fresh = Client { doc: AutoCommit::new(), state: State::new() };
        store.exchange = Exchange::default();
        talk(&mut store, &mut fresh);
        same(&store, &mut fresh);
    }

    #[test]
    fn no_bytes_end_the_readers(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Said::decode(&bytes);
        if let Ok(message) = SyncMessage::decode(&bytes) {
            prop_assert_eq!(SyncMessage::decode(&message.encode()).unwrap().heads, message.heads);
        }
        let _ = SyncMessage::decode(&[&[0x42], bytes.as_slice()].concat());
    }
}

/// A frame as a client writes it.
fn frame(fields: &[(&str, &dyn Fn(&mut minicbor::Encoder<&mut Vec<u8>>))]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut e = minicbor::Encoder::new(&mut bytes);
    e.map(fields.len() as u64).unwrap();
    for (key, write) in fields {
        e.str(key).unwrap();
        write(&mut e);
    }
    bytes
}

#[test]
fn frames_are_read_and_written() {
    let text = |text: &'static str| move |e: &mut minicbor::Encoder<&mut Vec<u8>>| _ = e.str(text).unwrap();
    let join = frame(&[
        ("type", &text("join")),
        ("senderId", &text("me")),
        ("peerMetadata", &|e| {
            e.map(2).unwrap().str("storageId").unwrap().undefined().unwrap();
            e.str("isEphemeral").unwrap().bool(true).unwrap();
        }),
        ("supportedProtocolVersions", &|e| _ = e.begin_array().unwrap().str("1").unwrap().end().unwrap()),
    ]);
    let expected = Said::Join { sender: "me".into(), storage: None, versions: vec!["1".into()] };
    assert_eq!(Said::decode(&join).unwrap(), expected);
    let sync = frame(&[
        ("type", &text("request")),
        ("documentId", &text("doc")),
        ("something", &|e| _ = e.array(2).unwrap().u8(1).unwrap().map(0).unwrap()),
        ("data", &|e| _ = e.tag(minicbor::data::Tag::new(64)).unwrap().bytes(&[1, 2]).unwrap()),
    ]);
    assert_eq!(Said::decode(&sync).unwrap(), Said::Sync { document: "doc".into(), data: vec![1, 2], request: true });
    let said =
        Ephemeral { document: "doc".into(), sender: "you".into(), session: "s".into(), count: 1 << 40, data: vec![9] };
    assert_eq!(Said::decode(&Say::Ephemeral(&said).encode("door", "me")).unwrap(), Said::Ephemeral(said));
    let lacking = frame(&[("type", &text("sync")), ("documentId", &text("doc"))]);
    assert!(Said::decode(&lacking).unwrap_err().to_string().contains("data"));
    assert_eq!(Said::decode(&frame(&[("type", &text("metrics"))])).unwrap(), Said::Other);
    for wrong in [&[][..], &[0xff], &[0xa1, 0x61], b"{}"] {
        assert!(Said::decode(wrong).is_err(), "{wrong:?}");
    }
}
