//! Fenced registers: a value in a document that only the newest holder of a lock writes.
//!
//! A register is one scalar under a key of a map, a token and a value in one, so that no merge tears them apart:
//!
//! ```text
//!  bytes  c5 66 73 01   what no other bytes begin with, and the version
//!         token         u64, big-endian: FencingToken::as_u64
//!         value         tagged JSON, UTF-8
//! ```
//!
//! In JSON a register is `{"$fenced": {"token": n, "value": …}}`. Where a [`Value`] or a patch shows a key under which
//! several registers were written at the same time, it shows the one of the greatest token.
//!
//! **At a read the greatest token wins**, over all values that were written at the same time, on every peer alike; of two
//! values under one token the greater bytes. **At a write** a token below one that this replica has seen is refused with
//! [`EditError::Fenced`]. Changes from others are never refused for it: a replica that is cut off may take, and show, what a
//! holder wrote who was replaced meanwhile, until it hears of the newer one. So a register keeps a stale holder's write from
//! lasting, not from being made; it is no defence against a writer that makes tokens up.

use automerge::{ReadDoc, ScalarValue};
use serde_json::{Value as Json, json};

use super::edit::{EditError, MAX_BYTES};
use super::value::Value;

/// Not UTF-8, and named so that nobody's bytes are taken for a register by chance. The last byte is the version.
const MAGIC: [u8; 4] = [0xc5, b'f', b's', 1];

/// What a fenced register holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Fenced {
    /// The token of the lock under which it was written.
    pub token: u64,
    /// The value.
    pub value: Value,
}

impl Fenced {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, EditError> {
        let bytes = self.bytes();
        if bytes.len() > MAX_BYTES {
            return Err(EditError::TooLarge { what: "a fenced register", bytes: bytes.len(), max: MAX_BYTES });
        }
        Ok(bytes)
    }

    /// The bytes, however long.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.token.to_be_bytes());
        bytes.extend(self.value.to_tagged_json().to_string().into_bytes());
        bytes
    }

    /// `None`: it is no register, or one of a newer version.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (token, json) = bytes.strip_prefix(&MAGIC)?.split_first_chunk()?;
        let value = Value::from_json(&serde_json::from_slice(json).ok()?).ok()?;
        Some(Self { token: u64::from_be_bytes(*token), value })
    }

    /// What `{"$fenced": …}` holds, of bytes that are a register and are written in the one way that we write.
    pub(super) fn to_json(bytes: &[u8]) -> Option<Json> {
        let register = Self::parse(bytes).filter(|register| register.bytes() == bytes)?;
        Some(json!({ "token": register.token, "value": register.value.to_tagged_json() }))
    }

    /// The bytes of a register that JSON describes.
    pub(super) fn from_json(json: &Json) -> Option<Vec<u8>> {
        let members = json.as_object().filter(|members| members.len() == 2)?;
        let token = members.get("token")?.as_u64()?;
        let value = Value::from_json(members.get("value")?).ok()?;
        Some(Self { token, value }.bytes())
    }
}

type Found = (Vec<u8>, Fenced);

/// The values under a key of an object, as it stands or stood, each with the register that it is.
fn values(
    doc: &impl ReadDoc,
    obj: &automerge::ObjId,
    key: &str,
    heads: Option<&[automerge::ChangeHash]>,
) -> Vec<Option<Found>> {
    let all = match heads {
        Some(heads) => doc.get_all_at(obj, key, heads),
        None => doc.get_all(obj, key),
    };
    let register = |(value, _): (automerge::Value<'_>, _)| match value.as_scalar()? {
        ScalarValue::Bytes(bytes) => Fenced::parse(bytes).map(|register| (bytes.clone(), register)),
        _ => None,
    };
    all.into_iter().flatten().map(register).collect()
}

/// The register of the greatest token. The token is behind the same bytes in all of them and big-endian, so the order of bytes
/// is the order of tokens.
fn winner(registers: impl IntoIterator<Item = Found>) -> Option<Found> {
    registers.into_iter().max_by(|a, b| a.0.cmp(&b.0))
}

/// The register under a key of an object, as it stands or stood. `None`: nothing there is one.
pub(super) fn read(
    doc: &impl ReadDoc,
    obj: &automerge::ObjId,
    key: &str,
    heads: Option<&[automerge::ChangeHash]>,
) -> Option<Fenced> {
    winner(values(doc, obj, key, heads).into_iter().flatten()).map(|(_, register)| register)
}

/// What a key shows that has several values, if each of them is a register. Where somebody has written something else at the same
/// time Automerge chooses, as it does everywhere.
pub(super) fn shown(
    doc: &impl ReadDoc,
    obj: &automerge::ObjId,
    key: &str,
    heads: Option<&[automerge::ChangeHash]>,
) -> Option<Value> {
    let registers: Option<Vec<Found>> = values(doc, obj, key, heads).into_iter().collect();
    winner(registers?).map(|(bytes, _)| Value::Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::document::edit::MapDraft;
    use crate::document::hot::HotError;
    use crate::document::hot::tests::Desk;
    use crate::document::local::LocalChange;

    fn write(desk: &mut Desk, value: &str, token: u64) -> LocalChange {
        desk.edit(|d| d.put_fenced("owner", value, token))
    }

    fn seen(desk: &mut Desk) -> Option<(u64, String)> {
        let found = desk.hot.read(|view| view.fenced("owner")).unwrap()?;
        Some((found.token, found.value.as_str().unwrap().to_owned()))
    }

    fn refused(desk: &mut Desk, f: impl FnOnce(&mut MapDraft<'_>) -> Result<(), EditError>) -> EditError {
        match desk.hot.edit(&Default::default(), f) {
            Err(HotError::Edit(error)) => error,
            other => panic!("it was not refused: {:?}", other.map(|(_, change)| change)),
        }
    }

    #[test]
    fn the_greatest_token_wins_at_a_read_on_every_peer() {
        let (mut a, mut b) = (Desk::new(1), Desk::new(2));
        assert_eq!(seen(&mut a), None);
        let first = write(&mut a, "first", 7);
        b.take(&[&first]);
        // The holder of 7 is cut off and writes on; whoever holds the lock now writes elsewhere.
        let (stale, fresh) = (write(&mut a, "stale", 7), write(&mut b, "fresh", 9));
        assert_eq!(seen(&mut a), Some((7, "stale".into())));
        a.take(&[&fresh]);
        b.take(&[&stale]);
        for desk in [&mut a, &mut b] {
            assert_eq!(seen(desk), Some((9, "fresh".into())));
            let error = refused(desk, |d| d.put_fenced("owner", "later", 8));
            assert!(matches!(error, EditError::Fenced { token: 8, seen: 9 }), "{error}");
        }
        // One write settles it: nothing is left of what was overtaken.
        let settled = write(&mut a, "settled", 9);
        b.take(&[&settled]);
        assert_eq!(seen(&mut b), Some((9, "settled".into())));
    }

    #[test]
    fn what_is_no_register_is_not_taken_for_one_and_not_overwritten() {
        let mut a = Desk::new(1);
        a.edit(|d| d.put("owner", "somebody"));
        assert_eq!(a.hot.read(|view| view.fenced("owner")).unwrap(), None);
        let error = refused(&mut a, |d| d.put_fenced("owner", "x", 1));
        assert!(matches!(error, EditError::WrongKind { .. }), "{error}");
        let long = "l".repeat(MAX_BYTES);
        let error = refused(&mut a, |d| d.put_fenced("other", long.as_str(), 1));
        assert!(matches!(error, EditError::TooLarge { .. }), "{error}");
        let deep = (0..200).fold(Value::Null, |inner, _| Value::List(vec![inner]));
        assert!(matches!(refused(&mut a, |d| d.put_fenced("other", deep, 1)), EditError::TooDeep { .. }));
        a.edit(|d| d.put("bytes", Value::Bytes(vec![2; 40])));
        assert_eq!(a.hot.read(|view| view.fenced("bytes")).unwrap(), None);
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_register_are_refused_and_those_that_are_come_back(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            token in any::<u64>(),
            text in ".{0,20}",
        ) {
            let _ = Fenced::parse(&bytes);
            let register = Fenced { token, value: Value::Str(text) };
            prop_assert_eq!(Fenced::parse(&register.to_bytes().unwrap()), Some(register));
        }
    }
}
