//! Rows of a store, and what programs and people hand in as text.

use std::str::FromStr;

use super::statements::{stored, stored_endorsements};
use super::world::World;
use super::{Target, Verdict, growing, join, parts, strict};
use crate::document::quarantine::Bisection;
use crate::document::row::StoredRow;
use crate::document::{Cursor, Value};
use crate::engine::index::Entry;
use crate::engine::keys::{self, SpaceRecord};
use crate::id::{ChangeHash, DeviceId, DocumentId, Path, PeerId, Prefix, Seed, SpaceId};
use crate::io::Table;
use crate::reconcile::{LtHash, Sketch, Summary};
use crate::session::{Bookmark, Ranges, Vouched};
#[cfg(all(feature = "redb", not(target_arch = "wasm32")))]
use crate::store::redb::journal::fuzz as file;
use crate::wire::Codec;

pub(super) const TARGETS: &[Target] = &[
    Target::new("row", row_seeds, row),
    Target::new("store", stores, store).room(16 << 20).max_len(16 << 10),
    Target::new("bookmark", bookmarks, bookmark).repaired(seal_bookmark),
    Target::new("text", texts, text),
    Target::new("value", values, value),
    #[cfg(all(feature = "redb", not(target_arch = "wasm32")))]
    Target::new("journal", file::seeds, journal).repaired(|bytes| file::seal(bytes)),
];

/// The store's journal: what its records hold, and where they end.
#[cfg(all(feature = "redb", not(target_arch = "wasm32")))]
fn journal(bytes: &[u8]) -> Verdict {
    match file::read(bytes) {
        Ok(records) => Verdict::accepted(records.min(9) as u64),
        Err(error) => Verdict::refused(&error),
    }
}

/// How rows are read, by the first byte of the input: the key and the value follow as parts.
fn row(bytes: &[u8]) -> Verdict {
    let Some((&kind, rest)) = bytes.split_first() else { return Verdict::refused(&"nothing") };
    let parts = parts(rest);
    let (key, value) = (parts.first().copied().unwrap_or_default(), parts.get(1).copied().unwrap_or_default());
    let verdict = match kind {
        0 => growing::<SpaceRecord>(value),
        1 => index_row(key, value),
        2 => stored(key, value),
        3 => match StoredRow::read(key, value) {
            Ok(row) => Verdict::accepted(row.bytes.len().min(9) as u64),
            Err(error) => Verdict::refused(&error),
        },
        4 => growing::<Vouched>(value),
        5 => strict::<Ranges>(value),
        6 => strict::<LtHash>(value),
        7 => strict::<Sketch>(value),
        8 => match Summary::from_bytes(value) {
            Ok(summary) => {
                assert_eq!(summary.to_bytes(), value, "a second spelling was taken");
                Verdict::accepted(0)
            }
            Err(error) => Verdict::refused(&error),
        },
        9 => strict::<Bisection>(value),
        10 => {
            let found = keys::parse_vouched(key);
            if let Some((peer, epoch, number)) = found {
                assert_eq!(keys::vouched(&peer, epoch, number), key);
            }
            Verdict::accepted(u64::from(found.is_some()) | u64::from(keys::parse_chunk(key).is_some()) << 1)
        }
        _ => return Verdict::refused(&"no such row"),
    };
    Verdict { kind: verdict.kind.rotate_left(5) ^ u64::from(kind), ..verdict }
}

fn index_row(key: &[u8], value: &[u8]) -> Verdict {
    let (number, path, generation) = match keys::parse_index(key) {
        Ok(parsed) => parsed,
        Err(error) => return Verdict::refused(&error),
    };
    assert_eq!(keys::index(number, &path, generation), key, "a second spelling was taken");
    match Entry::decode(&SpaceId([1; 32]), path, generation, value) {
        Ok(entry) => {
            assert_eq!(entry.encode(), value, "a second spelling was taken");
            Verdict::accepted(entry.heads.len().min(4) as u64)
        }
        Err(error) => Verdict::refused(&error),
    }
}

fn row_seeds() -> Vec<Vec<u8>> {
    let record = SpaceRecord {
        id: SpaceId([1; 32]),
        name: "default".into(),
        root_seed: Some(Seed([2; 32])),
        interests: Some(vec![Prefix::root()]),
        addresses: vec!["/ip4/192.0.2.7/tcp/4801".into()],
    };
    let path = Path::parse("/a/b").expect("a path");
    let mut entry = Entry::new(&record.id, path.clone(), 1);
    entry.heads.push(ChangeHash([3; 32]));
    (entry.bytes, entry.chunks, entry.arrival) = (300, 2, 9);
    entry.packed = Some(Box::new((4, 5)));
    entry.tombstones = Some(Box::new(vec![vec![1, 2, 3]]));
    let mut ranges = Ranges::default();
    ranges.add(1, 5);
    ranges.add(8, 300);
    let mut vouched = Vouched::default();
    vouched.record(&[Prefix::root()], 9, 8, &ranges);
    let document = DocumentId([4; 16]);
    let chunk = [&[0u8][..], &super::changes::chunks()[0]].concat();
    let mut rows: Vec<(u8, Vec<u8>, Vec<u8>)> = vec![
        (0, vec![], record.to_bytes()),
        (1, keys::index(7, &path, 1), entry.encode()),
        (3, keys::chunk(&document, 9), chunk),
        (3, keys::chunk(&document, 10), vec![1, 5, 2, 9, 9]),
        (4, vec![], vouched.to_bytes()),
        (5, vec![], ranges.to_bytes()),
        (6, vec![], LtHash::new().to_bytes()),
        (7, vec![], Sketch::new().to_bytes()),
        (8, vec![], Summary::new().to_bytes()),
        (9, vec![], Bisection::new(9).to_bytes()),
        (10, keys::vouched(&PeerId([1; 32]), 7, 3), vec![]),
    ];
    rows.extend(stored_endorsements().into_iter().map(|(key, value)| (2, key, value)));
    let spell =
        |(kind, key, value): &(u8, Vec<u8>, Vec<u8>)| [vec![*kind], join([key.as_slice(), value.as_slice()])].concat();
    rows.iter().map(spell).collect()
}

/// A whole store of which rows were replaced: it opens, or says that it is damaged, and never kills its process.
/// Parts: table, key, value, and again.
fn store(bytes: &[u8]) -> Verdict {
    let mut world = World::one();
    for row in parts(bytes).chunks_exact(3).take(8) {
        let Some(table) = row[0].first().and_then(|n| Table::ALL.get(usize::from(*n))) else { continue };
        world.overwrite(0, *table, row[1], row[2]);
    }
    world.start(0);
    world.run_for(20_000);
    let opened = world.is_open(0);
    if opened {
        world.use_it(0);
    }
    Verdict::accepted(u64::from(opened))
}

fn stores() -> Vec<Vec<u8>> {
    let world = World::one();
    let mut seeds = Vec::new();
    for (n, table) in (0u8..).zip(Table::ALL) {
        for (key, value) in world.rows(0, table).filter(|(_, value)| value.len() < 4_000) {
            seeds.push(join([&[n][..], key, value]));
        }
    }
    seeds
}

fn bookmark(bytes: &[u8]) -> Verdict {
    match Bookmark::from_bytes(bytes) {
        Ok(bookmark) => {
            assert_eq!(bookmark.to_bytes(), bytes, "a second spelling was taken");
            let text = bookmark.to_string();
            assert_eq!(Bookmark::from_str(&text).as_ref(), Ok(&bookmark), "its text says something else");
            let mut both = bookmark.clone();
            assert!(both.merge(&bookmark).is_ok() && both == bookmark, "a bookmark and itself are more");
            Verdict::accepted(bookmark.documents().count().min(9) as u64)
        }
        Err(error) => Verdict::refused(&error),
    }
}

fn seal_bookmark(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len().saturating_sub(4));
    let sum = blake3::derive_key("foreshore 1 bookmark checksum", bytes);
    bytes.extend_from_slice(&sum[..4]);
}

fn bookmarks() -> Vec<Vec<u8>> {
    let mut bookmark = Bookmark::new(SpaceId([1; 32]));
    let empty = bookmark.to_bytes();
    for (n, path) in ["/a", "/a/b", "/ü"].into_iter().enumerate() {
        let path = Path::parse(path).expect("a path");
        let _ = bookmark.see(&path, n as u32, [ChangeHash([n as u8 + 1; 32]), ChangeHash([9; 32])]);
    }
    let full = bookmark.to_bytes();
    // With a point of a folded one, and an extension of a later version.
    let mut w = crate::wire::Writer::new();
    w.varint(1)
        .array(&[1; 32])
        .u8(1)
        .array(&[2; 32])
        .varint(0)
        .varint(1)
        .array(&[3; 32])
        .u64_le(7)
        .str("/")
        .varint(300);
    w.extensions(&[(1, b"soft"), (9, b"later")]).array(&[0; 4]);
    let mut folded = w.finish();
    seal_bookmark(&mut folded);
    vec![empty, full, folded]
}

/// Everything that is parsed from text is written as text that parses to the same.
fn text(bytes: &[u8]) -> Verdict {
    fn same<T: FromStr + ToString + PartialEq>(text: &str) -> bool {
        let Ok(value) = T::from_str(text) else { return false };
        let again = T::from_str(&value.to_string());
        assert!(again.is_ok_and(|again| again == value), "{text:?} is written as something else");
        true
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::refused(&"no text") };
    #[cfg(feature = "coord")]
    let node = same::<crate::coord::NodePath>(text);
    #[cfg(not(feature = "coord"))]
    let node = false;
    let tried = [
        same::<Path>(text),
        same::<Prefix>(text),
        same::<SpaceId>(text),
        same::<PeerId>(text),
        same::<DeviceId>(text),
        same::<ChangeHash>(text),
        same::<Bookmark>(text),
        same::<Cursor>(text),
        same::<crate::document::hot::ObjectId>(text),
        node,
    ];
    if let Ok(path) = Path::parse(text) {
        assert!(path.as_str().len() <= Path::MAX_LEN && path.as_str().starts_with('/'));
    }
    let kind = tried.iter().fold(0, |kind, fits| kind << 1 | u64::from(*fits));
    Verdict { accepted: kind != 0, kind }
}

fn texts() -> Vec<Vec<u8>> {
    let bookmark = bookmarks().iter().filter_map(|bytes| Bookmark::from_bytes(bytes).ok()).next_back();
    let mut texts: Vec<String> = ["/", "/a/b", "/ü/\u{1f600}", "/a//b", "/a/../b", "/a/.", "@4f2a", "_root", "1@0102"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    texts.push(SpaceId([1; 32]).to_string());
    texts.push(PeerId([2; 32]).to_string());
    texts.push(ChangeHash([3; 32]).to_string());
    texts.extend(bookmark.map(|bookmark| bookmark.to_string()));
    texts.push(format!("12@{}", "ab".repeat(16)));
    texts.push(format!("<12@{}", "ab".repeat(16)));
    texts.into_iter().map(String::into_bytes).collect()
}

/// A value is written as JSON that gives the same value.
fn value(bytes: &[u8]) -> Verdict {
    let json: serde_json::Value = match serde_json::from_slice(bytes) {
        Ok(json) => json,
        Err(error) => return Verdict::refused(&error.classify()),
    };
    match Value::from_json(&json) {
        Ok(value) => {
            let again = Value::from_json(&value.to_tagged_json());
            assert_eq!(again.as_ref(), Ok(&value), "another value came back");
            Verdict::accepted(value.kind() as u64)
        }
        Err(error) => Verdict::refused(&error),
    }
}

fn values() -> Vec<Vec<u8>> {
    let nested = format!("{}1{}", "[".repeat(101), "]".repeat(101));
    [
        r#"{"a":[1,2.5,"x",null,true],"b":{"$bytes":"AAEC"},"c":{"$time":5},"d":{"$counter":3}}"#,
        r#"{"$text":"hello"}"#,
        r#"{"$float":"NaN"}"#,
        r#"{"$$text":1}"#,
        r#"{"$uint":18446744073709551615}"#,
        "-9223372036854775808",
        &nested,
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
