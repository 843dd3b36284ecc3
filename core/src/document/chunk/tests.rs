use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::super::craft::{self, Craft, random_history};
use super::*;

fn parse(bytes: &[u8]) -> Result<Chunk, ChunkError> {
    Chunk::parse(bytes.to_vec(), &ChunkLimits::default())
}

/// Whatever is accepted must be the same thing to Automerge.
fn agrees_with_automerge(chunk: &Chunk) {
    let change = craft::automerge(chunk);
    assert_eq!(change.hash().0, chunk.hash().0);
    assert_eq!(change.actor_id().to_bytes(), chunk.actor().as_bytes());
    assert_eq!(change.seq(), chunk.seq());
    assert_eq!(change.start_op().get(), chunk.start_op());
    assert_eq!(change.len() as u64, chunk.op_count());
    assert_eq!(change.deps().iter().map(|d| ChangeHash(d.0)).collect::<Vec<_>>(), chunk.deps());
    assert_eq!(change.timestamp(), chunk.timestamp());
    assert_eq!(change.message(), chunk.message());
    assert_eq!(change.extra_bytes().len(), chunk.extra_len());
    let others: Vec<_> = chunk.other_actors().iter().map(Actor::as_bytes).collect();
    assert_eq!(change.other_actor_ids().iter().map(|a| a.to_bytes()).collect::<Vec<_>>(), others);
    // Encoded anew it is the same change, so nothing is lost when Automerge throws the chunk away.
    if super::super::ingest::check_form(chunk).is_ok() {
        let again = automerge::Change::from(change.decode());
        assert_eq!(again.hash().0, chunk.hash().0);
    }
    let stored = Chunk::parse_stored(chunk.bytes().to_vec()).unwrap();
    assert_eq!(&stored, chunk);
}

#[test]
fn real_changes_read_as_automerge_reads_them() {
    for seed in 0..4 {
        let chunks = random_history(&mut ChaCha12Rng::seed_from_u64(seed), 3, 80);
        assert!(chunks.iter().any(|chunk| chunk.bytes()[8] == TYPE_DEFLATED), "some are large enough to be deflated");
        chunks.iter().for_each(agrees_with_automerge);
    }
}

#[test]
fn everything_that_automerge_can_say_is_taken() {
    use automerge::marks::{ExpandMark, Mark};
    use automerge::transaction::Transactable;
    use automerge::{AutoCommit, ObjType, ROOT, ReadDoc, ScalarValue};
    let mut doc = AutoCommit::new();
    let text = doc.put_object(ROOT, "text", ObjType::Text).unwrap();
    doc.splice_text(&text, 0, 0, &"a long text, ".repeat(1_200)).unwrap();
    doc.commit();
    doc.splice_text(&text, 10, 12_000, "ß😀").unwrap();
    for expand in [ExpandMark::None, ExpandMark::Before, ExpandMark::After, ExpandMark::Both] {
        doc.mark(&text, Mark::new("em".into(), 1.5, 2, 9), expand).unwrap();
        doc.unmark(&text, "em", 3, 5, expand).unwrap();
    }
    let block = doc.split_block(&text, 4).unwrap();
    doc.put(&block, "type", "paragraph").unwrap();
    doc.commit();
    let list = doc.put_object(ROOT, "list", ObjType::List).unwrap();
    let scalars = [
        ScalarValue::Null,
        true.into(),
        false.into(),
        ScalarValue::Uint(u64::MAX),
        i64::MIN.into(),
        f64::NAN.into(),
        "".into(),
        vec![0u8; 9].into(),
        ScalarValue::counter(-3),
        ScalarValue::Timestamp(i64::MAX),
        ScalarValue::Unknown { type_code: 12, bytes: vec![1, 2] },
    ];
    for (at, value) in scalars.iter().enumerate() {
        doc.insert(&list, at, value.clone()).unwrap();
        doc.put(ROOT, format!("k{at}"), value.clone()).unwrap();
    }
    doc.insert_object(&list, 1, ObjType::Map).unwrap();
    doc.put_object(ROOT, "table", ObjType::Table).unwrap();
    doc.commit();
    let mut other = doc.fork();
    for (doc, by) in [(&mut doc, 2), (&mut other, 5)] {
        doc.increment(&list, 9, by).unwrap();
        doc.put(&list, 2, by).unwrap();
        doc.put(ROOT, "k1", by).unwrap();
        doc.delete(&list, 0).unwrap();
        doc.commit();
    }
    doc.merge(&mut other).unwrap();
    doc.delete(ROOT, "k1").unwrap();
    doc.put(&list, 1, "settled").unwrap();
    while doc.length(&list) > 0 {
        doc.delete(&list, 0).unwrap();
    }
    doc.put(ROOT, "last", 1).unwrap();
    doc.commit();
    for change in doc.get_changes(&[]) {
        agrees_with_automerge(&craft::parse(&change));
    }
}

#[test]
fn both_forms_of_a_change_are_one_change() {
    let mut craft = Craft::new(1);
    craft.message = vec![b'm'; 400];
    let body = craft.body();
    let plain = parse(&craft.bytes()).unwrap();
    let deflated = craft::frame_as(TYPE_DEFLATED, &body, &miniz_oxide::deflate::compress_to_vec(&body, 6));
    let deflated = parse(&deflated).unwrap();
    assert_eq!(plain.hash(), deflated.hash());
    assert!(deflated.bytes().len() < plain.bytes().len());
}

#[test]
fn signed_numbers_have_one_spelling() {
    let read = |bytes: &[u8]| columns::read_i64(&mut Reader::new(bytes), "n");
    for value in [0, 1, -1, 63, 64, -64, -65, 8191, 8192, i64::MAX, i64::MIN, i64::MAX / 2, i64::MIN / 2] {
        assert_eq!(read(&craft::leb_i64(value)), Ok(value));
    }
    for overlong in [&[0x80, 0x00][..], &[0xff, 0x7f], &[0xbf, 0x00], &[0x81, 0xff, 0x7f]] {
        assert_eq!(read(overlong), Err(DecodeError::Invalid { field: "n" }), "{overlong:x?}");
    }
    assert!(read(&[0xff; 10]).is_err());
}

proptest! {
    #[test]
    fn any_signed_number_survives(value: i64) {
        prop_assert_eq!(columns::read_i64(&mut Reader::new(&craft::leb_i64(value)), "n"), Ok(value));
    }

    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>, body: Vec<u8>) {
        let _ = parse(&bytes);
        let _ = parse(&craft::frame(TYPE_CHANGE, &body));
        let _ = parse(&craft::frame(TYPE_DEFLATED, &body));
        let _ = parse(&[&MAGIC[..], &bytes].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tampered_changes_are_refused_or_mean_the_same_to_automerge(seed: u64, flips in 1..4u32) {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        for chunk in random_history(&mut rng, 3, 12) {
            for _ in 0..16 {
                let mut bytes = chunk.bytes().to_vec();
                for _ in 0..flips {
                    craft::tamper(&mut rng, &mut bytes);
                }
                if let Ok(accepted) = parse(&craft::reseal(&bytes)) {
                    agrees_with_automerge(&accepted);
                }
            }
        }
    }
}
