//! Frozen bytes: what this version writes is read and understood by every later one.

use super::*;
use crate::id::{Path, PeerId, SpaceId};
use crate::soft::OwnerId;
use crate::time::WallTime;
use crate::trust::DeviceKey;
use crate::trust::device::Signature;
use crate::wire::Codec;

const SPACE: SpaceId = SpaceId([0x11; 32]);

fn signal() -> Signal {
    let key = DeviceKey::from_seed(&[0x22; 32]);
    let unsigned = Signal {
        sender: OwnerId { device: key.device(), peer: PeerId([0x33; 32]) },
        incarnation: 0x0102_0304_0506_0708,
        seq: 300,
        issue: WallTime(1_790_000_000_000),
        path: Path::parse("/a/b").unwrap(),
        payload: b"{}".as_slice().into(),
        signature: Signature([0; 64]),
    };
    unsigned.signed(&key, &SPACE)
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

const TAG: &str = "10c5c457eb309442";
const SIGNAL: &str = concat!(
    "a09aa5f47a6759802ff955f8dc2d2a14a5c99d23be97f864127ff9383455a4f033333333333333333333333333333333",
    "333333333333333333333333333333330807060504030201ac0280b083c59868042f612f62027b7d3f6f779abaf3a29e",
    "f794ae097e173a0e9bb10741a78d5c8998d5bbf1059f77f3003bdb05a799707341f562541d102781fc13e085f8ec08a0",
    "8f2295ad21adc209",
);
const HAVE: &str = "010110c5c457eb309442ac02";
const PRUNE: &str = "020110c5c457eb309442";
const GRAFT: &str = "030110c5c457eb30944200";
const ACK: &str = "04e807";

#[cfg_attr(test, test)]
fn a_signal_is_written_as_ever_and_still_holds() {
    let bytes = text(&signal().to_bytes());
    assert_eq!(bytes, SIGNAL);
    signal().verify(&SPACE).unwrap();
    assert_eq!(text(&signal().tag().0), TAG);
}

#[cfg_attr(test, test)]
fn messages_are_written_as_ever() {
    let tag = signal().tag();
    for (message, expected) in [
        (Message::Signal(Box::new(signal())), format!("00{SIGNAL}")),
        (Message::Have(vec![(tag, 300)]), HAVE.to_owned()),
        (Message::Prune(vec![tag]), PRUNE.to_owned()),
        (Message::Graft(vec![(tag, 0)]), GRAFT.to_owned()),
        (Message::Ack { bytes: 1_000 }, ACK.to_owned()),
        (Message::Former { incarnation: 0x0102 }, "050201000000000000".to_owned()),
    ] {
        let bytes = message.to_bytes();
        assert_eq!(text(&bytes), expected, "{message:?}");
        assert_eq!(Message::from_bytes(&bytes).unwrap(), message);
    }
}

/// All of it, where there is no test harness.
#[cfg(feature = "vectors")]
pub(crate) fn check() {
    a_signal_is_written_as_ever_and_still_holds();
    messages_are_written_as_ever();
}
