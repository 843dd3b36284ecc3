//! Laws and bytes of bookmarks.

use proptest::prelude::*;

use super::*;
use crate::wire::v1::MAX_RANGES;
use crate::wire::{Codec, Writer};

const SPACE: SpaceId = SpaceId([5; 32]);
const PEER: PeerId = PeerId([7; 32]);

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn prefix(text: &str) -> Prefix {
    Prefix::parse(text).unwrap()
}

fn hash(n: u8) -> ChangeHash {
    ChangeHash([n; 32])
}

fn point(epoch: u64, under: &str, seq: u64) -> Point {
    Point { peer: PEER, epoch, prefix: prefix(under), seq }
}

fn sample() -> Bookmark {
    let mut bookmark = Bookmark::new(SPACE).with_hint(PEER);
    bookmark.see(&path("/lists/food"), 0, [hash(2), hash(1)]).unwrap();
    bookmark.see_deleted(&path("/old"), 3).unwrap();
    bookmark.add_point(point(9, "/notes", 300)).unwrap();
    bookmark
}

/// The bytes of a payload with a right checksum.
fn sealed(payload: &[u8]) -> Vec<u8> {
    let sum = blake3::derive_key("foreshore 1 bookmark checksum", payload);
    [payload, &sum[..4]].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_format_1_are_frozen() {
    let bytes = sample().to_bytes();
    assert_eq!(hex(&bytes), FROZEN);
    assert_eq!(Bookmark::from_bytes(&bytes).unwrap(), sample());
    assert_eq!(sample().to_string(), FROZEN_TEXT);
    assert_eq!(FROZEN_TEXT.parse::<Bookmark>().unwrap(), sample());
    assert_eq!(FROZEN_TEXT.to_uppercase().parse::<Bookmark>().unwrap(), sample());
}

const FROZEN: &str = concat!(
    "0105050505050505050505050505050505050505050505050505050505050505050107070707070707070707070707070707",
    "07070707070707070707070707070707020b2f6c697374732f666f6f64000002010101010101010101010101010101010101",
    "01010101010101010101010101010202020202020202020202020202020202020202020202020202020202020202042f6f6c",
    "640301000107070707070707070707070707070707070707070707070707070707070707070900000000000000062f6e6f74",
    "6573ac0200a8ca9fa1",
);
const FROZEN_TEXT: &str = concat!(
    "fsb1qyzs2pg9q5zs2pg9q5zs2pg9q5zs2pg9q5zs2pg9q5zs2pg9q5zs2qg8qurswpc8qurswpc8qurswpc8qurswpc8qurswpc8",
    "qurswpc8qupqktmvd9ehgue0vehk7eqqqqpqzqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgzqgpqyqszqgpq",
    "yqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgzz7mmvvspszqqpqurswpc8qurswpc8qurswpc8qurswpc8qurswpc8qurswpc8",
    "qursjqqqqqqqqqqqqchkumm5v4e6cqsq4r9flgg",
);

#[test]
fn the_rows_of_store_format_1_and_the_message_of_wire_version_1_are_frozen() {
    let mut aside = Ranges::default();
    aside.add(3, 9);
    aside.add(300, 301);
    assert_eq!(hex(&aside.to_bytes()), "020309ac02ad02");
    let mut vouched = Vouched::default();
    vouched.record(&[prefix("/a")], 300, 7, &aside);
    assert_eq!(hex(&vouched.to_bytes()), "01022f61ac0207020309ac02ad0200");
    let (former, set_aside) = (vec![(9, 300)], aside.iter().collect());
    let mut frame = Vec::new();
    crate::wire::v1::Message::Vouch { space: [1; 4], former, set_aside }.append_to(&mut frame);
    assert_eq!(hex(&frame), "a01701010101010900000000000000ac02020309ac02ad0200");
}

#[test]
fn a_newer_format_is_refused_and_named() {
    let mut bytes = sample().to_bytes();
    bytes.truncate(bytes.len() - 4);
    bytes[0] = 2;
    assert_eq!(Bookmark::from_bytes(&sealed(&bytes)), Err(BookmarkError::Newer { got: 2, supported: 1 }));
}

#[test]
fn what_a_later_version_adds_as_an_extension_is_kept_and_passed_on() {
    let mut w = Writer::new();
    w.varint(1).array(&SPACE.0).u8(0).varint(0).varint(0).extensions(&[(SOFT_EXTENSION, b"soft"), (77, b"new")]);
    let bytes = sealed(&w.finish());
    let read = Bookmark::from_bytes(&bytes).unwrap();
    assert_eq!(read.extension(SOFT_EXTENSION), Some(b"soft".as_slice()));
    assert_eq!(read.to_bytes(), bytes);
    let mut joined = sample();
    joined.merge(&read).unwrap();
    assert_eq!(joined.extension(77), Some(b"new".as_slice()));
}

#[test]
fn text_that_is_no_bookmark_is_told_from_a_damaged_one() {
    let malformed = |text: &str| matches!(text.parse::<Bookmark>(), Err(BookmarkError::Malformed { .. }));
    assert!(malformed("") && malformed("hello") && malformed("fsi1qqqq") && malformed(&"q".repeat(200_000)));
    let text = sample().to_string();
    for at in 4..text.len() {
        let mut letters: Vec<char> = text.chars().collect();
        letters[at] = if letters[at] == 'q' { 'p' } else { 'q' };
        let altered: String = letters.into_iter().collect();
        assert!(altered.parse::<Bookmark>().is_err(), "letter {at}");
    }
    assert_eq!(text[..text.len() - 8].parse::<Bookmark>(), Err(BookmarkError::Damaged));
}

/// The last letter carries bits that belong to no byte, and any of them passed.
#[test]
fn every_other_last_letter_is_damage() {
    let text = sample().to_string();
    let (rest, last) = text.split_at(text.len() - 1);
    for letter in "qpzry9x8gf2tvdw0s3jn54khce6mua7l".chars().filter(|letter| !last.contains(*letter)) {
        assert!(format!("{rest}{letter}").parse::<Bookmark>().is_err(), "{letter} in the place of {last}");
    }
    assert_eq!(text.to_uppercase().parse(), Ok(sample()));
}

#[test]
fn bytes_have_one_form() {
    let head = |w: &mut Writer| {
        w.varint(1).array(&SPACE.0).u8(0).varint(2);
    };
    let mut twice = Writer::new();
    head(&mut twice);
    for _ in 0..2 {
        twice.str("/a").varint(0).u8(0).varint(1).array(&[1; 32]);
    }
    twice.varint(0).extensions(&[]);
    assert!(matches!(Bookmark::from_bytes(&sealed(&twice.finish())), Err(BookmarkError::Malformed { .. })));
}

#[test]
fn a_bookmark_of_another_space_is_not_joined() {
    let other = Bookmark::new(SpaceId([6; 32]));
    let refused = sample().merge(&other).unwrap_err();
    assert_eq!(refused, BookmarkError::OtherSpace { got: SpaceId([6; 32]), expected: SPACE });
}

#[test]
fn a_bookmark_at_its_bound_refuses_and_stays_as_it_was() {
    let mut bookmark = Bookmark::new(SPACE);
    for n in 0..MAX_DOCUMENTS {
        bookmark.see(&path(&format!("/{n}")), 0, [hash(1)]).unwrap();
    }
    let full = bookmark.clone();
    let refused = bookmark.merge(&sample()).unwrap_err();
    assert_eq!(refused, BookmarkError::TooMany { what: "documents", max: MAX_DOCUMENTS });
    assert!(bookmark.see(&path("/0"), 0, (1..=MAX_HEADS as u8 + 1).map(hash)).is_err());
    assert_eq!(bookmark, full);
    assert!(Bookmark::from_bytes(&full.to_bytes()).is_ok());
    assert!(full.is_long());
}

#[test]
fn the_largest_bookmark_fits_its_bound() {
    let mut bookmark = Bookmark::new(SPACE).with_hint(PEER);
    for n in 0..MAX_DOCUMENTS {
        let long = path(&format!("/{n:03}{}", "x".repeat(Path::MAX_LEN - 4)));
        bookmark.see(&long, u32::MAX, (0..MAX_HEADS as u8).map(hash)).unwrap();
    }
    for n in 0..MAX_POINTS as u64 {
        let long = format!("/{}", "x".repeat(Path::MAX_LEN - 1));
        bookmark.add_point(point(n, &long, u64::MAX)).unwrap();
    }
    assert!(bookmark.to_bytes().len() <= MAX_BOOKMARK, "{}", bookmark.to_bytes().len());
    assert_eq!(bookmark.to_string().parse::<Bookmark>().unwrap(), bookmark);
}

#[test]
fn a_point_that_says_as_much_as_others_takes_their_place() {
    let mut bookmark = Bookmark::new(SPACE);
    for (under, seq) in [("/a/b", 5), ("/a/c", 9), ("/b", 3)] {
        bookmark.add_point(point(1, under, seq)).unwrap();
    }
    bookmark.add_point(point(1, "/a", 7)).unwrap();
    let points: Vec<(String, u64)> = bookmark.points().map(|p| (p.prefix.to_string(), p.seq)).collect();
    assert_eq!(points, [("/a".into(), 7), ("/a/c".into(), 9), ("/b".into(), 3)]);
    bookmark.add_point(point(1, "/a/c", 2)).unwrap();
    assert_eq!(bookmark.points().count(), 3);
}

#[test]
fn a_newer_state_of_a_path_takes_the_place_of_older_ones() {
    let mut bookmark = sample();
    let here = point(1, "/", 50);
    let seen = Seen { heads: [hash(9)].into(), deleted: false };
    bookmark.supersede(&path("/lists/food"), 1, seen.clone(), &here).unwrap();
    let of_path: Vec<_> = bookmark.documents().filter(|(p, ..)| p.as_str() == "/lists/food").collect();
    assert_eq!(of_path, [(&path("/lists/food"), 1, &seen)]);
    // More heads than are named: the store's point stands for the document.
    let many = Seen { heads: (0..=MAX_HEADS as u8).map(hash).collect(), deleted: false };
    bookmark.supersede(&path("/lists/food"), 1, many, &here).unwrap();
    assert_eq!(bookmark.documents().count(), 0);
    assert_eq!(bookmark.points().collect::<Vec<_>>(), [point(1, "/", 50)]);
}

#[test]
fn the_common_prefix_is_the_longest_that_contains_both() {
    for (a, b, common) in [
        ("/a/b", "/a/c", "/a"),
        ("/a/b", "/a/bc", "/a"),
        ("/a", "/a/c", "/a"),
        ("/a/c", "/a", "/a"),
        ("/a", "/b", "/"),
        ("/", "/b", "/"),
        ("/a/b/c", "/a/b/d/e", "/a/b"),
    ] {
        assert_eq!(common_prefix(&prefix(a), &prefix(b)).as_str(), common, "{a} {b}");
    }
}

#[test]
fn equal_roots_vouch_for_their_domains_up_to_their_time() {
    let mut vouched = Vouched::default();
    vouched.record(&[prefix("/a"), prefix("/b")], 100, 40, &Ranges::default());
    assert!(vouched.proves(&prefix("/a"), 100, 0) && vouched.proves(&prefix("/b/c"), 1, 40));
    assert!(!vouched.proves(&prefix("/a"), 101, 0), "beyond");
    assert!(!vouched.proves(&prefix("/"), 1, 0), "wider");
    assert!(!vouched.proves(&prefix("/a"), 100, 41), "something was set aside here since");
    vouched.record(&[prefix("/a")], 90, 60, &Ranges::default());
    assert!(!vouched.proves(&prefix("/a"), 90, 41), "a late answer says nothing new");
    let mut aside = Ranges::default();
    aside.add(50, 70);
    vouched.record(&[prefix("/a")], 120, 60, &aside);
    assert!(!vouched.proves(&prefix("/a"), 50, 41) && !vouched.proves(&prefix("/b"), 69, 0));
    assert!(vouched.proves(&prefix("/a"), 49, 41) && vouched.proves(&prefix("/a"), 70, 41));
    assert_eq!(Vouched::from_bytes(&vouched.to_bytes()).unwrap(), vouched);
}

fn seen() -> impl Strategy<Value = (u8, u32, Seen)> {
    let heads = proptest::collection::btree_set((0u8..20).prop_map(hash), 1..4);
    (0u8..6, 0u32..2, heads, any::<bool>())
        .prop_map(|(path, generation, heads, deleted)| (path, generation, Seen { heads, deleted }))
}

fn bookmark() -> impl Strategy<Value = Bookmark> {
    let points = proptest::collection::vec((0u64..3, 0usize..4, 0u64..50), 0..4);
    (proptest::collection::vec(seen(), 0..5), points).prop_map(|(documents, points)| {
        let mut bookmark = Bookmark::new(SPACE);
        for (n, generation, seen) in documents {
            bookmark.add(&path(&format!("/{n}")), generation, &seen).unwrap();
        }
        for (epoch, under, seq) in points {
            bookmark.add_point(point(epoch, ["/", "/a", "/a/b", "/c"][under], seq)).unwrap();
        }
        bookmark
    })
}

fn joined(a: &Bookmark, b: &Bookmark) -> Bookmark {
    let mut joined = a.clone();
    joined.merge(b).unwrap();
    joined
}

proptest! {
    #[test]
    fn joining_is_a_join(a in bookmark(), b in bookmark(), c in bookmark()) {
        prop_assert_eq!(joined(&a, &a), a.clone());
        prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
    }

    #[test]
    fn bookmarks_survive_bytes_and_text(a in bookmark()) {
        prop_assert_eq!(&Bookmark::from_bytes(&a.to_bytes()).unwrap(), &a);
        prop_assert_eq!(&a.to_string().parse::<Bookmark>().unwrap(), &a);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Bookmark::from_bytes(&bytes);
        let _ = Bookmark::from_bytes(&sealed(&bytes));
        let _ = Vouched::from_bytes(&bytes);
        let _ = Ranges::from_bytes(&bytes);
    }

    #[test]
    fn whatever_is_added_to_ranges_stays_in_them(added in proptest::collection::vec((0u64..400, 0u64..12), 0..60)) {
        let mut ranges = Ranges::default();
        for (from, length) in &added {
            ranges.add(*from, from + length);
        }
        for (from, length) in &added {
            prop_assert!((*from..from + length).all(|seq| ranges.holds(seq)));
        }
        prop_assert!(ranges.iter().count() <= MAX_RANGES);
        prop_assert_eq!(Ranges::from_bytes(&ranges.to_bytes()).unwrap(), ranges);
    }
}
