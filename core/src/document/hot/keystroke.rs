//! The bytes of a key press.
//!
//! Automerge 0.12 encodes a change to hash it and throws the bytes away; to have them again it searches its columns, which
//! takes about as long as the edit itself. What the commonest edits come to, one piece of text put in or one element taken
//! out at the present heads, is known before the commit. So their bytes are written here, and the commit's hash, the
//! SHA-256 of the bytes that Automerge made, proves them. Where it does not, and for every other edit, the change is
//! collected from the document. A mistake here could cost time, never a wrong byte.
//!
//! The encoding is that of a change chunk (<https://automerge.org/automerge-binary-format-spec/>).

use automerge::{ActorId, ObjId};

use crate::document::chunk::{MAGIC, TYPE_CHANGE, hash_body};
use crate::document::edit::{Op, Splice};
use crate::id::{Actor, ChangeHash};
use crate::wire::Writer;

/// Automerge compresses longer chunks.
const PLAIN: usize = 256;

/// The latest change made here, for the next that stands on it alone.
pub(super) struct Last {
    pub(super) n: u32,
    pub(super) actor: Actor,
    pub(super) hash: ChangeHash,
    pub(super) seq: u64,
    pub(super) max_op: u64,
    /// Where it left the caret, if it put text in.
    pub(super) caret: Option<Caret>,
}

/// A place in a text behind an element.
#[derive(Clone)]
pub(in crate::document) struct Caret {
    pub(in crate::document) text: ObjId,
    /// In UTF-16 code units.
    pub(in crate::document) at: usize,
    pub(in crate::document) behind: Op,
}

/// What a change says besides its operations.
pub(super) struct Frame<'a> {
    /// Sorted.
    pub(super) deps: &'a [automerge::ChangeHash],
    pub(super) actor: &'a Actor,
    pub(super) seq: u64,
    pub(super) start_op: u64,
    pub(super) seconds: i64,
    pub(super) message: &'a str,
}

/// The chunk of a change that is one splice, if its hash is `hash`.
pub(super) fn prove(splice: &Splice, frame: &Frame<'_>, hash: &ChangeHash) -> Option<Vec<u8>> {
    let own = ActorId::from(frame.actor.as_bytes());
    let mut others: Vec<&ActorId> = splice.actors().filter(|actor| **actor != own).collect();
    others.sort_unstable();
    others.dedup();
    let place = |actor: &ActorId| others.binary_search(&actor).map_or(0, |at| at as i64 + 1);
    let columns = columns(splice, frame.start_op, place);

    let mut w = Writer::new();
    w.list(frame.deps, |w, dep| {
        w.array(&dep.0);
    });
    w.bytes(frame.actor.as_bytes()).varint(frame.seq).varint(frame.start_op).raw(&signed(frame.seconds));
    w.str(frame.message);
    w.list(&others, |w, actor| {
        w.bytes(actor.to_bytes());
    });
    let filled: Vec<&(u64, Vec<u8>)> = columns.iter().filter(|(_, data)| !data.is_empty()).collect();
    w.list(&filled, |w, (id, data)| {
        w.varint(*id).varint(data.len() as u64);
    });
    for (_, data) in filled {
        w.raw(data);
    }
    let body = w.finish();
    if body.len() > PLAIN || hash_body(&body) != *hash {
        return None;
    }
    let mut w = Writer::new();
    w.array(&MAGIC).raw(&hash.0[..4]).u8(TYPE_CHANGE).bytes(&body);
    let chunk = w.finish();
    (chunk.len() <= PLAIN).then_some(chunk)
}

/// The operations in columns, by the numbers of the format.
fn columns(splice: &Splice, start_op: u64, place: impl Fn(&ActorId) -> i64) -> [(u64, Vec<u8>); 12] {
    let n = splice.ops();
    let all = |value: i64| vec![Some(value); n];
    let (text_at, text_by) = (splice.text.counter as i64, place(&splice.text.actor));
    // The elements that operations refer to: what each is put behind, or what it takes out.
    let mut keys: Vec<(Option<i64>, i64)> = Vec::with_capacity(n);
    let first = splice.removed.as_ref().or(splice.behind.as_ref());
    keys.push(first.map_or((None, 0), |op| (Some(place(&op.actor)), op.counter as i64)));
    // Each further character goes behind the one before it, which this change made.
    keys.extend((1..n as i64).map(|i| (Some(0), start_op as i64 + i - 1)));
    let key_by: Vec<Option<i64>> = keys.iter().map(|key| key.0).collect();
    let key_at: Vec<i64> = keys.iter().map(|key| key.1).collect();
    let inserts = splice.removed.is_none();
    let (action, predecessors) = if inserts { (1, 0) } else { (3, 1) };
    // Strings of as many bytes as the character has; nothing where an element goes.
    let lengths = splice.inserted.chars().map(|c| Some((c.len_utf8() as i64) << 4 | 6)).collect();
    [
        (1, runs(&all(text_by), unsigned)),
        (2, runs(&all(text_at), unsigned)),
        (17, runs(&key_by, unsigned)),
        (19, deltas(&key_at)),
        (52, if inserts { [unsigned(0), unsigned(n as i64)].concat() } else { unsigned(n as i64) }),
        (66, runs(&all(action), unsigned)),
        (86, runs(&if inserts { lengths } else { all(0) }, unsigned)),
        (87, splice.inserted.clone().into_bytes()),
        (112, runs(&all(predecessors), unsigned)),
        (113, if inserts { Vec::new() } else { runs(&key_by, unsigned) }),
        (115, if inserts { Vec::new() } else { deltas(&key_at) }),
        // Keys of maps, marks: there are none.
        (148, Vec::new()),
    ]
}

/// Differences from one to the next, the first from 0, in runs.
fn deltas(values: &[i64]) -> Vec<u8> {
    let before = std::iter::once(0).chain(values.iter().copied());
    let steps: Vec<Option<i64>> = values.iter().zip(before).map(|(value, before)| Some(value - before)).collect();
    runs(&steps, signed)
}

/// Run lengths: equal neighbours as (count, value), others as (-count, values), nothing as (0, count); empty where there
/// is nothing at all.
fn runs(values: &[Option<i64>], write: impl Fn(i64) -> Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut alone: Vec<i64> = Vec::new();
    let spill = |out: &mut Vec<u8>, alone: &mut Vec<i64>| {
        if !alone.is_empty() {
            out.extend(signed(-(alone.len() as i64)));
            alone.drain(..).for_each(|value| out.extend(write(value)));
        }
    };
    if values.iter().all(Option::is_none) {
        return out;
    }
    for group in values.chunk_by(|a, b| a == b) {
        match group {
            [Some(value)] => alone.push(*value),
            [Some(value), ..] => {
                spill(&mut out, &mut alone);
                out.extend(signed(group.len() as i64));
                out.extend(write(*value));
            }
            _ => {
                spill(&mut out, &mut alone);
                out.push(0);
                out.extend(unsigned(group.len() as i64));
            }
        }
    }
    spill(&mut out, &mut alone);
    out
}

/// LEB128 of what is not negative.
fn unsigned(value: i64) -> Vec<u8> {
    let mut w = Writer::new();
    w.varint(value.unsigned_abs());
    w.finish()
}

/// Signed LEB128.
fn signed(mut value: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(2);
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if (value == 0 && byte & 0x40 == 0) || (value == -1 && byte & 0x40 != 0) {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use automerge::ReadDoc;
    use proptest::prelude::*;

    use crate::document::edit::{EditError, Expand, MapDraft};
    use crate::document::hot::tests::{Desk, check};
    use crate::document::hot::{EditOptions, their_hash};
    use crate::document::local::LocalChange;
    use crate::time::WallTime;

    impl Desk {
        /// An edit whose bytes are those that the document itself has of it.
        fn press(&mut self, f: impl FnOnce(&mut MapDraft<'_>) -> Result<(), EditError>) -> Option<LocalChange> {
            let change = self.hot.edit(&EditOptions::at(WallTime(7000)), f).unwrap().1?;
            check(&change);
            let doc = self.hot.ready().unwrap();
            let mut collected = doc.get_change_by_hash(&their_hash(&change.hash)).unwrap();
            assert_eq!(collected.bytes(), change.bytes);
            Some(change)
        }

        fn len(&mut self) -> usize {
            self.text().encode_utf16().count()
        }
    }

    #[test]
    fn typing_is_proved_and_not_collected() {
        let mut a = Desk::new(1);
        a.press(|d| d.text("body")?.push("the first edit brings the layers"));
        for (n, key) in ["a", "é", "😀", "字", "two", "\n"].iter().enumerate() {
            a.press(|d| d.text("body")?.push(key));
            assert_eq!(a.hot.proven, n + 1, "{key:?} at the end");
        }
        // Behind an element that has to be looked up, one after the other, at the start, and taken out.
        a.press(|d| d.text("body")?.splice(3..3, "x"));
        a.press(|d| d.text("body")?.splice(4..4, "y"));
        a.press(|d| d.text("body")?.splice(0..0, "z"));
        a.press(|d| d.text("body")?.splice(4..5, ""));
        a.press(|d| d.text("body")?.splice(4..4, "w"));
        assert_eq!(a.hot.proven, 11);
        a.press(|d| d.text("body")?.splice(0..3, ""));
        a.press(|d| d.text("body")?.splice(0..1, "r"));
        a.press(|d| d.put("other", 1));
        let long = "l".repeat(300);
        a.press(|d| d.text("body")?.push(&long));
        assert_eq!(a.hot.proven, 11, "edits of several kinds of operations, and large ones, are collected");
        a.press(|d| d.text("body")?.push("!"));
        assert_eq!(a.hot.proven, 12);
    }

    #[test]
    fn another_s_elements_and_heads_are_named_as_automerge_names_them() {
        let (mut a, mut b) = (Desk::new(1), Desk::new(2));
        let first = a.press(|d| d.text("body")?.push("common")).unwrap();
        b.take(&[&first]);
        b.press(|d| d.text("body")?.push("!"));
        let beside = b.press(|d| d.text("body")?.splice(3..3, "B")).unwrap();
        let mine = a.press(|d| d.text("body")?.splice(3..3, "A")).unwrap();
        let before = b.hot.proven;
        // Two heads, and elements of both.
        b.take(&[&mine]);
        b.press(|d| d.text("body")?.splice(4..4, "x"));
        b.press(|d| d.text("body")?.splice(1..2, ""));
        assert_eq!(b.hot.proven, before + 2);
        assert_eq!(beside.deps.len(), 1);
    }

    #[derive(Debug, Clone)]
    enum Step {
        In(usize, String),
        Out(usize, usize),
        Mark(usize, usize),
        Exchange,
    }

    fn step() -> impl Strategy<Value = Step> {
        let text = prop::sample::select(vec!["a", "é", "😀", "字", "xy", "\n", "👩‍👩‍👧"]);
        prop_oneof![
            6 => (any::<usize>(), text).prop_map(|(at, text)| Step::In(at, text.to_owned())),
            3 => (any::<usize>(), 1usize..3).prop_map(|(at, n)| Step::Out(at, n)),
            1 => (any::<usize>(), 1usize..4).prop_map(|(at, n)| Step::Mark(at, n)),
            1 => Just(Step::Exchange),
        ]
    }

    proptest! {
        /// Whatever two people do, each change has the bytes that the document has of it.
        #[test]
        fn bytes_are_those_of_the_document(steps in prop::collection::vec((any::<bool>(), step()), 1..60)) {
            let mut desks = [Desk::new(1), Desk::new(2)];
            let mut fresh: [Vec<LocalChange>; 2] = Default::default();
            for (who, step) in steps {
                let (me, len) = (usize::from(who), desks[usize::from(who)].len());
                let made = match step {
                    Step::In(at, text) => desks[me].press(|d| d.text("body")?.splice(at % (len + 1)..at % (len + 1), &text)),
                    Step::Out(at, n) if len > 0 => {
                        let from = at % len;
                        desks[me].press(|d| d.text("body")?.splice(from..(from + n).min(len), ""))
                    }
                    Step::Mark(at, n) if len > 0 => {
                        let from = at % len;
                        let to = (from + n).min(len);
                        desks[me].press(|d| d.text("body")?.mark(from..to, "bold", true, Expand::After))
                    }
                    Step::Exchange => {
                        for me in 0..2 {
                            let theirs = std::mem::take(&mut fresh[1 - me]);
                            desks[me].take(&theirs.iter().collect::<Vec<_>>());
                        }
                        continue;
                    }
                    _ => continue,
                };
                fresh[me].extend(made);
            }
        }
    }
}
