//! Frozen bytes: what this version writes is read and understood by every later one.

use std::time::Duration;

use super::chain::leads;
use super::*;
use crate::id::{Path, PeerId, SpaceId};
use crate::time::WallTime;
use crate::trust::DeviceKey;
use crate::trust::device::Signature;
use crate::wire::Codec;

const SPACE: SpaceId = SpaceId([0x11; 32]);

fn key() -> DeviceKey {
    DeviceKey::from_seed(&[0x22; 32])
}

fn owner() -> OwnerId {
    OwnerId { device: key().device(), peer: PeerId([0x33; 32]) }
}

fn lease() -> Lease {
    let lease = Lease {
        owner: owner(),
        incarnation: 0x0102_0304_0506_0708,
        seq: 300,
        floor: 2,
        terms: LeaseTerms { ttl: Duration::from_secs(15), period: Duration::from_secs(5) },
        issue: WallTime(1_790_000_000_000),
        anchor: anchor(),
        count: 64,
        signature: Signature([0; 64]),
    };
    lease.signed(&key(), &SPACE)
}

/// The chain's end, three steps above a value of sevens.
fn anchor() -> Preimage {
    hex(ANCHOR).try_into().unwrap()
}

fn entry() -> SoftEntry {
    let value = Some(b"{}".as_slice().into());
    SoftEntry::sign(&key(), (&SPACE, &owner(), 0x0102_0304_0506_0708), 7, Path::parse("/a/b").unwrap(), value)
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

const TAG: &str = "ca39026f638e89d1";
const ANCHOR: &str = "da216c6fe5a81576f7e343b3138bb6e5";
const LEASE: &str = concat!(
    "a09aa5f47a6759802ff955f8dc2d2a14a5c99d23be97f864127ff9383455a4f033333333333333333333333333333333",
    "333333333333333333333333333333330807060504030201ac02029875882780b083c59868da216c6fe5a81576f7e343",
    "b3138bb6e540600325b65f2a2069d64d2f970c204e8d4bfcb40566db3e9f9cc12d473a5eb3ff25f840daf4521afd79f4",
    "46e2ba13e3560da35998cd4cd614766db0f719d98209",
);
const ENTRY: &str = concat!(
    "07042f612f6201027b7dae47f831926d561f32ba609ccd08cb05cd9cc8acb0f87f6d2f46c15b24f89fdf16085b280e74",
    "2a834cab612b500d406462a86b2b95317c2d72cd90784639f105",
);
const RENEWAL: &str = "000124ca39026f638e89d1ac020307070707070707070707070707070707dc0befbeadde";
const NEWS: &str = concat!(
    "000211a09aa5f47a6759802ff955f8dc2d2a14a5c99d23be97f864127ff9383455a4f033333333333333333333333333",
    "333333333333333333333333333333333333330807060504030201ac02029875882780b083c59868da216c6fe5a81576",
    "f7e343b3138bb6e540600325b65f2a2069d64d2f970c204e8d4bfcb40566db3e9f9cc12d473a5eb3ff25f840daf4521a",
    "fd79f446e2ba13e3560da35998cd4cd614766db0f719d982090307070707070707070707070707070707000107042f61",
    "2f6201027b7dae47f831926d561f32ba609ccd08cb05cd9cc8acb0f87f6d2f46c15b24f89fdf16085b280e742a834cab",
    "612b500d406462a86b2b95317c2d72cd90784639f10506ca39026f638e89d105000000000000000001000000",
);
const DIGEST: &str = "011b040501ca39026f638e89d10500000000000000ac020901000000";
const FETCH: &str = "0201ca39026f638e89d10101060000000000000007";

#[cfg_attr(test, test)]
fn owners_are_named_as_before() {
    assert_eq!(text(&owner().tag().0), TAG);
}

#[cfg_attr(test, test)]
fn chains_are_hashed_as_before() {
    let salt = super::lease::salt(&owner(), 0x0102_0304_0506_0708, 300);
    assert!(leads(&salt, (&anchor(), 0), (&[7; 16], 3)));
}

#[cfg_attr(test, test)]
fn leases_and_entries_are_written_and_signed_as_before() {
    assert_eq!(text(&lease().to_bytes()), LEASE);
    assert_eq!(text(&entry().to_bytes()), ENTRY);
    Lease::from_bytes(&hex(LEASE)).unwrap().verify(&SPACE).unwrap();
    let read = SoftEntry::from_bytes(&hex(ENTRY)).unwrap();
    read.verify(&SPACE, &owner(), 0x0102_0304_0506_0708).unwrap();
}

#[cfg_attr(test, test)]
fn messages_are_written_as_before() {
    let tag = owner().tag();
    let renewal = News::Renewal {
        owner: tag,
        seq: 300,
        index: 3,
        preimage: [7; 16],
        age: 1_500,
        hops: 2,
        checksum: Some(0xdead_beef),
        scope: None,
    };
    let news = News::Lease {
        lease: Box::new(lease()),
        index: 3,
        preimage: [7; 16],
        age: 0,
        hops: 1,
        entries: vec![entry()],
        checksum: None,
        scope: None,
    };
    let entries = News::Entries { owner: tag, incarnation: 5, entries: vec![], checksum: Some(1), scope: None };
    let summary = Summary { owner: tag, incarnation: 5, seq: 300, index: 9, checksum: 1 };
    let digest = Message::Digest {
        first: true,
        last: true,
        graft: false,
        asks: Some(4),
        answers: Some(5),
        owners: vec![summary],
    };
    let fetch = Message::Fetch(vec![Fetch { owner: tag, lease: true, held: vec![(6, 7)] }]);
    for (message, frozen) in [
        (Message::News(vec![renewal]), RENEWAL),
        (Message::News(vec![news, entries]), NEWS),
        (digest, DIGEST),
        (fetch, FETCH),
    ] {
        assert_eq!(text(&message.to_bytes()), frozen);
        assert_eq!(Message::from_bytes(&hex(frozen)).unwrap(), message);
    }
    let (seq, index, preimage, age, hops, checksum) = (300, 3, [7; 16], 1_500, 2, Some(0xdead_beef));
    let again = News::Again { owner: tag, seq, index, preimage, age, hops, checksum };
    // As the renewal but for its kind.
    let frozen = RENEWAL.replacen("000124", "000127", 1);
    assert_eq!(text(&Message::News(vec![again.clone()]).to_bytes()), frozen);
    assert_eq!(Message::from_bytes(&hex(&frozen)).unwrap(), Message::News(vec![again]));
    let prune = Message::Prune(vec![tag]).to_bytes();
    assert_eq!(text(&prune), format!("0301{TAG}"));
    assert_eq!(Message::from_bytes(&Message::Have(vec![summary]).to_bytes()).unwrap(), Message::Have(vec![summary]));
}

/// All of it, where there is no test harness.
#[cfg(feature = "vectors")]
pub(crate) fn check() {
    owners_are_named_as_before();
    chains_are_hashed_as_before();
    leases_and_entries_are_written_and_signed_as_before();
    messages_are_written_as_before();
}
