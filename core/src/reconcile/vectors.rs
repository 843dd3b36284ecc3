//! What is frozen: peers of every later version compute these bytes.

use serde_json::{Value, json};

use super::message::{Answer, Ask, Holds, Message, Part};
use super::range::{Bound, Range, RangeTree};
use super::riblt::{Encoder, Symbol};
use super::{IdKey, Item, KeyName, LtHash, Root, Sketch};
use crate::id::{ChangeHash, DocumentId, SpaceId};
use crate::wire::Codec;

const SPACE: SpaceId = SpaceId([7; 32]);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn items(count: u8) -> Vec<Item> {
    (0..count).map(|n| Item(*blake3::hash(&[n]).as_bytes())).collect()
}

fn item_vectors() -> Value {
    let document = DocumentId([1; 16]);
    let tags = [([1; 4], Root([2; 24])), ([3; 4], Root([4; 24]))];
    let ids = |name| items(3).iter().map(|item| IdKey::new(&SPACE, name).item_id(item)).collect::<Vec<_>>();
    json!({
        "document": hex(&Item::document(&document, &[ChangeHash([2; 32]), ChangeHash([3; 32])]).0),
        "tombstone": hex(&Item::tombstone(&[4; 32]).0),
        "combined root": hex(&Root::combined(tags.iter().map(|(tag, root)| (tag, root))).0),
        "ids under epoch 0": ids(KeyName::Epoch(0)),
        "ids under epoch 1": ids(KeyName::Epoch(1)),
        "ids under a session": ids(KeyName::Session([5; 16])),
    })
}

fn summary_vectors() -> Value {
    let (mut hash, mut sketch) = (LtHash::new(), Sketch::new());
    let empty = hash.root();
    for item in items(200) {
        hash.add(&item);
        sketch.add(&item);
    }
    json!({
        "root of nothing": hex(&empty.0),
        "root of 200": hex(&hash.root().0),
        "hash of the state of 200": hex(blake3::hash(&hash.to_bytes()).as_bytes()),
        "sketch of 200": hex(&sketch.to_bytes()),
        "digest of 200": hex(&sketch.digest().to_bytes()),
    })
}

fn symbol_vectors() -> Value {
    let key = IdKey::default_of(&SPACE);
    let mut symbols: Vec<Symbol> = Vec::new();
    Encoder::new(&key, items(20).iter().map(|item| key.item_id(item))).block(1 << 19, &mut symbols);
    let first: Vec<String> = symbols[..12].iter().map(|symbol| hex(&symbol.to_bytes())).collect();
    let used = |symbol: &&Symbol| **symbol != Symbol::default();
    let all: Vec<u8> = symbols.iter().flat_map(|symbol| symbol.to_bytes()).collect();
    json!({
        "first 12 of 20 ids": first,
        "used of the first 524288": symbols.iter().filter(used).count(),
        "hash of the first 524288": hex(blake3::hash(&all).as_bytes()),
    })
}

fn range_vectors() -> Value {
    let key = IdKey::default_of(&SPACE);
    let tree = RangeTree::new(&key, |visit| {
        for (n, item) in items(100).iter().enumerate() {
            visit(&format!("/a/{n:03}"), key.item_id(item));
        }
    });
    json!({
        "fingerprint of 100": hex(&tree.fingerprint(0..100).to_le_bytes()),
        "fingerprint of 3 to 90": hex(&tree.fingerprint(3..90).to_le_bytes()),
        "bound at 10": String::from_utf8_lossy(&tree.bound_at(10).path),
    })
}

fn message_vectors() -> Value {
    let bound = |path: &str, id| Bound { path: path.as_bytes().to_vec(), id };
    let first = Range { from: Bound::default(), to: Some(bound("/a/b", 0)) };
    let second = Range { from: bound("/a/b", 0), to: None };
    let parts = vec![
        Part { to: Some(bound("/a/a", 9)), holds: Holds::Fingerprint(1 << 100) },
        Part { to: None, holds: Holds::Ids(vec![1, u64::MAX]) },
    ];
    let symbol = Symbol::from_bytes(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 255]).expect("13 bytes");
    let sketch = Some(Sketch::new().digest());
    let root = |key| Message::Root { serial: 1, key, at_least: 300, count: 1_000_000, root: Root([6; 24]), sketch };
    let messages = [
        root(KeyName::Epoch(0)),
        root(KeyName::Session([8; 16])),
        Message::Equal { serial: 2 },
        Message::OneSided { serial: 3 },
        Message::Ids { serial: 4, ids: vec![1, 2] },
        Message::Symbols { serial: 5, start: 200, target: 400, symbols: vec![symbol] },
        Message::More { serial: 6, upto: 500 },
        Message::UseRanges { serial: 7 },
        Message::Stale { serial: 8 },
        Message::Compare { serial: 9, ranges: vec![(first, Ask::Fingerprint(3)), (second, Ask::List)] },
        Message::Compared { serial: 10, answers: vec![Answer::Equal, Answer::Parts(parts)] },
        Message::Done { serial: 255 },
    ];
    messages.iter().map(|message| json!([message.name(), hex(&message.to_bytes())])).collect()
}

#[cfg_attr(test, test)]
fn frozen_bytes_have_not_moved() {
    let frozen: Value =
        serde_json::from_str(include_str!("../../../tests/vectors/reconcile.json")).expect("valid JSON");
    let computed = json!({
        "space": hex(&SPACE.0),
        "items": item_vectors(),
        "summary": summary_vectors(),
        "symbols": symbol_vectors(),
        "ranges": range_vectors(),
        "messages": message_vectors(),
    });
    for (part, value) in frozen.as_object().expect("an object of parts") {
        assert_eq!(&computed[part], value, "{part} moved: peers of earlier versions would not understand");
    }
    assert_eq!(computed, frozen, "computed:\n{computed:#}");
}

/// All of it, where there is no test harness.
#[cfg(feature = "vectors")]
pub(crate) fn check() {
    frozen_bytes_have_not_moved();
}
