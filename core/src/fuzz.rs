//! What fuzzers run: one entry point a decoder, and one for the engine as a whole.
//!
//! A [`Target`] takes any bytes and panics where an invariant does not hold: a decoder refuses or accepts, what it accepts
//! it writes again as the same bytes where the format has one spelling, and it takes no more memory than a multiple of what
//! it was given. The same targets are run by coverage-guided fuzzers (`fuzz/`, on a nightly compiler), by [`Campaign`] on
//! any compiler, and by tests over the committed inputs.
//!
//! | target | what it reads |
//! |---|---|
//! | `frame` | the messages of a frame of the sync stream |
//! | `fact`, `endorsement`, `tombstone`, `present`, `invitation`, `seal` | what is signed |
//! | `chunk`, `change`, `snapshot` | changes as they come, with a right hash put over them, and compacted ones |
//! | `reconcile`, `requester`, `responder`, `symbols` | what tells two sets apart, and both ends of a session with a liar |
//! | `soft`, `topic`, `overlay` | messages of what is kept nowhere, into the states that take them |
//! | `coord`, `entry`, `machine`, `raft`, `voter`, `client`, `log` | the strong path (feature `coord`) |
//! | `row`, `store`, `journal` | rows of a store; a whole store with some of them altered; the journal before it |
//! | `bookmark`, `text`, `value` | what programs and people hand in |
//! | `page` | portable copies |
//! | `stream`, `address`, `book` | the network's own (feature `net`) |
//! | `engine` | a peer that talks to an authorised and hostile one |
//!
//! What it is not: a proof. A campaign without coverage finds what grammar-shaped damage finds.

pub(crate) mod changes;
pub(crate) mod engine;
#[cfg(any(test, feature = "net"))]
pub(crate) mod lies;
mod mutate;
mod rows;
mod sets;
mod statements;
#[cfg(feature = "coord")]
mod strong;
mod transient;
pub(crate) mod wire;
pub(crate) mod world;

mod campaign;

use std::fmt;

pub use self::campaign::{Campaign, Finding, Meter};
pub use self::mutate::Mutator;
use crate::wire::Codec;

/// What became of an input that broke no invariant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it was taken for what the target reads.
    pub accepted: bool,
    /// Tells kinds of outcomes apart: inputs with an outcome of a new kind are worth mutating further.
    pub kind: u64,
}

impl Verdict {
    /// It was taken.
    pub fn accepted(kind: u64) -> Self {
        Self { accepted: true, kind }
    }

    /// It was refused, for this reason. Numbers in the reason do not make it another one.
    pub fn refused(why: &dyn fmt::Debug) -> Self {
        let mut text = format!("{why:?}");
        text.retain(|c| !c.is_ascii_digit());
        let hash = blake3::hash(text.as_bytes());
        Self { accepted: false, kind: hash.as_bytes()[..8].iter().fold(1, |kind, byte| kind << 7 ^ u64::from(*byte)) }
    }
}

/// One entry point.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder of inputs.
    pub name: &'static str,
    /// Inputs made of real encodings.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Puts right what damage alone never gets right, a checksum over the rest: half of a campaign's inputs go through it.
    pub repair: Option<fn(&mut Vec<u8>)>,
    /// Handles one input.
    ///
    /// # Panics
    /// If an invariant does not hold.
    pub run: fn(&[u8]) -> Verdict,
    /// Heap in bytes that one input may take, beside [`ROOM_FACTOR`] times its length.
    pub room: usize,
    /// Inputs longer than this are cut.
    pub max_len: usize,
}

/// Heap that an input may take for each of its bytes.
pub const ROOM_FACTOR: usize = 256;

impl Target {
    pub(crate) const fn new(name: &'static str, seeds: fn() -> Vec<Vec<u8>>, run: fn(&[u8]) -> Verdict) -> Self {
        Self { name, seeds, repair: None, run, room: 1 << 20, max_len: 4 << 10 }
    }

    pub(crate) const fn repaired(self, repair: fn(&mut Vec<u8>)) -> Self {
        Self { repair: Some(repair), ..self }
    }

    pub(crate) const fn room(self, room: usize) -> Self {
        Self { room, ..self }
    }

    pub(crate) const fn max_len(self, max_len: usize) -> Self {
        Self { max_len, ..self }
    }
}

/// Every target that the build's features have.
pub fn targets() -> Vec<Target> {
    let rooms: &[&[Target]] = &[
        wire::TARGETS,
        statements::TARGETS,
        changes::TARGETS,
        sets::TARGETS,
        transient::TARGETS,
        #[cfg(feature = "coord")]
        strong::TARGETS,
        rows::TARGETS,
        #[cfg(feature = "net")]
        crate::net::fuzz::TARGETS,
        engine::TARGETS,
    ];
    rooms.concat()
}

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    targets().into_iter().find(|target| target.name == name)
}

/// A format with one spelling: what decodes is written again as the same bytes.
fn strict<T: Codec>(bytes: &[u8]) -> Verdict {
    match T::from_bytes(bytes) {
        Ok(value) => {
            assert_eq!(value.to_bytes(), bytes, "a second spelling was taken");
            Verdict::accepted(0)
        }
        Err(error) => Verdict::refused(&error),
    }
}

/// A format that may grow: what decodes is written again as the same bytes, but for fields of a later version.
fn growing<T: Codec + PartialEq>(bytes: &[u8]) -> Verdict {
    match T::from_bytes(bytes) {
        Ok(value) => {
            lenient(&value, bytes);
            Verdict::accepted(0)
        }
        Err(error) => Verdict::refused(&error),
    }
}

/// The same where optional fields of a later version may be passed over: then what is written is shorter.
fn lenient<T: Codec + PartialEq>(value: &T, bytes: &[u8]) {
    let again = value.to_bytes();
    assert!(again.len() <= bytes.len(), "what is written again is longer");
    assert!(again.len() < bytes.len() || again == bytes, "a second spelling was taken");
    assert!(T::from_bytes(&again).is_ok_and(|twice| twice == *value), "another value came back");
}

/// Parts of an input, each behind its length in two bytes; what is short ends the list.
pub fn parts(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(2) {
        let len = usize::from(u16::from_le_bytes([head[0], head[1]])).min(rest.len());
        let (part, rest) = rest.split_at(len);
        parts.push(part);
        bytes = rest;
    }
    parts
}

/// Parts as [`parts`] reads them.
pub fn join<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        let len = u16::try_from(part.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&part[..usize::from(len)]);
    }
    bytes
}

/// Strings of hexadecimal digits in a frozen vector file, as bytes.
fn vectors(json: &str) -> Vec<Vec<u8>> {
    fn gather(json: &serde_json::Value, into: &mut Vec<Vec<u8>>) {
        match json {
            serde_json::Value::String(text) => into.extend(unhex(text)),
            serde_json::Value::Array(items) => items.iter().for_each(|item| gather(item, into)),
            serde_json::Value::Object(fields) => fields.values().for_each(|value| gather(value, into)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(json) = serde_json::from_str(json) {
        gather(&json, &mut found);
    }
    found
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(pair[0])? << 4 | digit(*pair.get(1)?)?) as u8);
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests;
