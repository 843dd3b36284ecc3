use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

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

/// Puts a right checksum over a body that was tampered with.
fn reseal(bytes: &[u8]) -> Vec<u8> {
    match bytes.get(9..) {
        Some(_) if bytes[8] == TYPE_CHANGE => {
            let start = bytes.len() - Reader::new(&bytes[9..]).bytes(1 << 20, "body").map_or(0, <[u8]>::len);
            craft::frame(TYPE_CHANGE, &bytes[start..])
        }
        _ => bytes.to_vec(),
    }
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
                    tamper(&mut rng, &mut bytes);
                }
                if let Ok(accepted) = parse(&reseal(&bytes)) {
                    agrees_with_automerge(&accepted);
                }
            }
        }
    }
}

fn tamper(rng: &mut ChaCha12Rng, bytes: &mut Vec<u8>) {
    let at = rng.next_u32() as usize % bytes.len().max(1);
    match rng.next_u32() % 6 {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << (rng.next_u32() % 8),
        1 if !bytes.is_empty() => bytes[at] = [0, 0x7f, 0x80, 0xff, 1, 2][rng.next_u32() as usize % 6],
        2 => bytes.insert(at, rng.next_u32() as u8),
        3 if !bytes.is_empty() => drop(bytes.remove(at)),
        4 => bytes.truncate(at.max(bytes.len() / 2)),
        _ if !bytes.is_empty() => bytes[at] = bytes[at].wrapping_add(1),
        _ => {}
    }
}
