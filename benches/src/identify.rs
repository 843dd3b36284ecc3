//! Finding what differs between two item sets, without anything around it: reconcile sessions against crate negentropy
//! over the same hashes.

use anyhow::{Context, ensure};
use foreshore::id::{ChangeHash, DocumentId, SpaceId};
use foreshore::reconcile::riblt::PrefixCache;
use foreshore::reconcile::session::{ItemSource, Outcome, Requester, Responder};
use foreshore::reconcile::{IdKey, Item, Root, Sketch, Summary};
use foreshore::wire::Codec;
use negentropy::{Id, Negentropy, NegentropyStorageVector};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;

/// What a reconcile message is wrapped in on the stream: frame length, type, length, space and domain.
const ENVELOPE: usize = 3 + 1 + 3 + 4 + 4;

/// What finding the difference took.
pub(crate) struct Identified {
    pub(crate) bytes: usize,
    pub(crate) round_trips: usize,
}

/// The item of document `index` after its `version`th change; ids and heads are hashes, so any hash serves.
fn item(index: usize, version: u64) -> Item {
    let hash = |what: u64| {
        let mut bytes = [0; 32];
        for (chunk, part) in bytes.chunks_exact_mut(8).zip(0..) {
            chunk.copy_from_slice(&mixed(index as u64 ^ (what << 40) ^ (part << 48)).to_le_bytes());
        }
        bytes
    };
    let id: [u8; 16] = *hash(1).first_chunk().expect("32 bytes hold 16");
    Item::document(&DocumentId(id), &[ChangeHash(hash(2 + version))])
}

/// The finaliser of SplitMix64, for numbers that look random.
fn mixed(x: u64) -> u64 {
    let x = (x.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The items of a replica in which the first `changed` documents have been changed once.
fn items(documents: usize, changed: usize) -> impl Iterator<Item = Item> {
    (0..documents).map(move |index| item(index, u64::from(index < changed)))
}

/// A replica's items as a peer keeps them at hand.
struct Replica {
    items: Vec<Item>,
    summary: Summary,
}

impl Replica {
    fn new(space: &SpaceId, documents: usize, changed: usize) -> Self {
        let mut summary = Summary::new();
        summary.keep_prefix(PrefixCache::new(IdKey::default_of(space)));
        let items: Vec<Item> = items(documents, changed).collect();
        items.iter().for_each(|item| summary.add(item));
        Self { items, summary }
    }
}

impl ItemSource for Replica {
    fn root(&self) -> Root {
        self.summary.root()
    }
    fn count(&self) -> u64 {
        self.summary.count()
    }
    fn sketch(&self) -> &Sketch {
        self.summary.sketch()
    }
    fn for_each_id(&self, key: &IdKey, visit: &mut dyn FnMut(u64)) {
        self.items.iter().for_each(|item| visit(key.item_id(item)));
    }
    fn for_each_ranged(&self, key: &IdKey, visit: &mut dyn FnMut(&str, u64)) {
        // Only reached when symbols lead nowhere; one path for all is as good as any.
        self.items.iter().for_each(|item| visit("/a", key.item_id(item)));
    }
    fn cached_prefix(&self, key: &IdKey) -> Option<&PrefixCache> {
        self.summary.prefix().filter(|prefix| prefix.key() == key)
    }
}

/// A session between a replica and one in which `changed` documents are newer.
pub(crate) fn sessions(documents: usize, changed: usize) -> anyhow::Result<Identified> {
    let space = SpaceId([7; 32]);
    let (mine, theirs) = (Replica::new(&space, documents, 0), Replica::new(&space, documents, changed));
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let (mut requester, mut responder) = (Requester::new(space, 0, &mine), Responder::new(space));
    let mut identified = Identified { bytes: 0, round_trips: 0 };
    let mut outcome = None;
    loop {
        let mut quiet = true;
        while let Some(message) = requester.poll() {
            quiet = false;
            identified.bytes += message.to_bytes().len() + ENVELOPE;
            responder.on_message(&theirs, message)?;
        }
        // The requester's last word asks for nothing.
        identified.round_trips += usize::from(!quiet && outcome.is_none());
        while let Some(message) = responder.poll(&theirs) {
            quiet = false;
            identified.bytes += message.to_bytes().len() + ENVELOPE;
            outcome = requester.on_message(&mine, &mut rng, message)?.or(outcome);
        }
        if quiet {
            break;
        }
    }
    match outcome.context("the session did not end")? {
        Outcome::Diff { diff, .. } => {
            ensure!((diff.only_mine.len(), diff.only_theirs.len()) == (changed, changed), "found {}", diff.len());
        }
        other => anyhow::bail!("unexpected outcome {other:?}"),
    }
    Ok(identified)
}

/// Crate negentropy over the same hashes, frames unlimited, every item under one timestamp.
pub(crate) fn negentropy(documents: usize, changed: usize) -> anyhow::Result<Identified> {
    let storage = |changed: usize| -> anyhow::Result<NegentropyStorageVector> {
        let mut storage = NegentropyStorageVector::with_capacity(documents);
        for item in items(documents, changed) {
            storage.insert(0, Id::from_byte_array(item.0))?;
        }
        storage.seal()?;
        Ok(storage)
    };
    let mut client = Negentropy::owned(storage(0)?, 0)?;
    let mut server = Negentropy::owned(storage(changed)?, 0)?;
    let mut message = client.initiate()?;
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let mut identified = Identified { bytes: 0, round_trips: 0 };
    loop {
        let answer = server.reconcile(&message)?;
        identified.bytes += message.len() + answer.len();
        identified.round_trips += 1;
        match client.reconcile_with_ids(&answer, &mut have, &mut need)? {
            Some(next) => message = next,
            None => break,
        }
    }
    anyhow::ensure!(
        (have.len(), need.len()) == (changed, changed),
        "negentropy found {} and {}",
        have.len(),
        need.len()
    );
    Ok(identified)
}
