use serde_json::json;

use super::*;
use crate::document::chunk::{Chunk, ChunkLimits};
use crate::document::edit::{Expand, MapDraft, PutMode};
use crate::document::local::{LocalChange, own_actor};
use crate::time::WallTime;

/// A device with its copy of the one document of these tests.
pub(in crate::document) struct Desk {
    pub(in crate::document) hot: HotDocument,
}

/// The cold side reads of the bytes what the hot side says of them.
pub(in crate::document) fn check(change: &LocalChange) {
    let parse = |bytes: &Vec<u8>| Chunk::parse(bytes.clone(), &ChunkLimits::default()).unwrap();
    let chunk = parse(&change.bytes);
    assert_eq!((chunk.hash(), chunk.actor(), chunk.deps()), (change.hash, &change.actor, change.deps.as_slice()));
    assert_eq!((chunk.seq(), chunk.start_op(), chunk.max_op()), (change.seq, change.start_op, change.max_op));
    assert!(change.layers.iter().all(|layer| parse(layer).is_layer()));
}

pub(in crate::document) fn author(device: u8) -> Author {
    Author { device: DeviceId([device; 32]), document: DocumentId([7; 16]), incarnation: Incarnation(1) }
}

pub(in crate::document) fn json(json: serde_json::Value) -> Value {
    Value::from_json(&json).unwrap()
}

pub(in crate::document) fn template() -> Template {
    Template::new(&json(json!({"body": {"$text": ""}, "items": [], "votes": {"$counter": 0}, "meta": {}}))).unwrap()
}

impl Desk {
    pub(in crate::document) fn new(device: u8) -> Self {
        Self { hot: HotDocument::new(author(device), template()).unwrap() }
    }

    pub(in crate::document) fn edit(
        &mut self,
        f: impl FnOnce(&mut MapDraft<'_>) -> Result<(), EditError>,
    ) -> LocalChange {
        let change = self.hot.edit(&EditOptions::at(WallTime(5000)), f).unwrap().1.expect("the edit changes something");
        check(&change);
        change
    }

    pub(in crate::document) fn take(&mut self, changes: &[&LocalChange]) {
        for change in changes {
            let hash = |bytes: &[u8]| Chunk::parse_stored(bytes.to_vec()).expect("edits make changes").hash();
            let chunks = change.layers.iter().cloned().chain([change.bytes.clone()]);
            let chunks = chunks.map(|bytes| (hash(&bytes), bytes)).collect();
            self.hot.push_remote(chunks).unwrap();
        }
    }

    pub(in crate::document) fn text(&mut self) -> String {
        self.hot.value().unwrap().get("body").unwrap().as_str().unwrap().to_owned()
    }
}

fn same(a: &mut Desk, b: &mut Desk) {
    assert_eq!(a.hot.heads().unwrap(), b.hot.heads().unwrap());
    assert_eq!(a.hot.value().unwrap().digest(), b.hot.value().unwrap().digest());
}

#[test]
fn opening_never_writes_and_the_first_edit_brings_the_layers() {
    let mut a = Desk::new(1);
    assert_eq!(a.hot.heads().unwrap(), vec![]);
    assert_eq!(a.text(), "");
    let first = a.edit(|d| d.text("body")?.splice(0..0, "hi"));
    let second = a.edit(|d| d.text("body")?.push("!"));
    assert_eq!(first.layers.len(), 1);
    assert!(second.layers.is_empty());
    assert_eq!(a.hot.heads().unwrap(), vec![second.hash]);
    assert_eq!((second.seq, second.deps.clone()), (2, vec![first.hash]));
    assert_eq!(first.actor, own_actor(&DeviceId([1; 32]), &DocumentId([7; 16]), Incarnation(1), 0));
}

#[test]
fn two_devices_that_begin_offline_edit_the_same_objects() {
    let (mut a, mut b) = (Desk::new(1), Desk::new(2));
    let one = a.edit(|d| {
        d.text("body")?.push("left")?;
        d.list("items")?.push("x")?;
        d.counter("votes")?.add(2)
    });
    let two = b.edit(|d| {
        d.text("body")?.push("right")?;
        d.list("items")?.push("y")?;
        d.counter("votes")?.add(3)
    });
    a.take(&[&two]);
    b.take(&[&one]);
    same(&mut a, &mut b);
    let value = a.hot.value().unwrap();
    assert_eq!(value.get("votes"), Some(&Value::Counter(5)));
    assert!(matches!(value.get("items"), Some(Value::List(items)) if items.len() == 2));
    assert_eq!(a.text().len(), "leftright".len());
}

#[test]
fn a_later_version_of_a_template_meets_the_earlier_one() {
    let later = template().extend(&json(json!({"extra": {"$text": "new"}}))).unwrap();
    let mut a = Desk::new(1);
    let mut b = Desk { hot: HotDocument::new(author(2), later).unwrap() };
    let one = a.edit(|d| d.put("title", "a"));
    let two = b.edit(|d| d.text("extra")?.push("er"));
    assert_eq!(two.layers.len(), 2);
    a.take(&[&two]);
    b.take(&[&one]);
    same(&mut a, &mut b);
    assert_eq!(a.hot.value().unwrap().get("extra"), Some(&Value::text("newer")));
}

#[test]
fn a_template_joins_a_document_that_is_open() {
    let mut a = Desk { hot: HotDocument::new(author(1), Template::default()).unwrap() };
    let first = a.edit(|d| d.put("k", 1));
    a.hot.widen(&template()).unwrap();
    a.hot.widen(&template()).unwrap();
    assert_eq!(a.hot.heads().unwrap(), vec![first.hash]);
    let second = a.edit(|d| d.text("body")?.push("hi"));
    assert_eq!((second.layers.len(), second.deps.contains(&first.hash)), (1, true));
    let mut b = Desk::new(2);
    b.take(&[&first, &second]);
    same(&mut a, &mut b);
    let other = Template::new(&json(json!({"body": 1}))).unwrap();
    assert!(matches!(a.hot.widen(&other), Err(HotError::Template(TemplateError::Taken { .. }))));
}

#[test]
fn an_actor_with_hidden_changes_is_not_used() {
    let mut a = Desk::new(1);
    let first = a.edit(|d| d.put("k", 1));
    let mut again = HotDocument::new(author(1), template()).unwrap();
    again.block_actors([&first.actor]);
    let (_, next) = again.edit(&EditOptions::default(), |d| d.put("k", 2)).unwrap();
    assert_eq!(next.unwrap().actor_n, 1);
}

#[test]
fn every_kind_survives_a_reload() {
    let mut a = Desk::new(1);
    let everything = json(json!({
        "null": null, "yes": true, "int": -3, "uint": {"$uint": 7}, "float": 1.5, "nan": {"$float": "NaN"},
        "string": "s", "bytes": {"$bytes": "AAEC"}, "time": {"$time": 1234}, "counter": {"$counter": 9},
        "text": {"$text": "a😀b"}, "list": [1, {"deep": [[], {}]}], "map": {"k": {"$text": ""}},
    }));
    let change = a.edit(|d| d.put("all", everything.clone()));
    let chunks = change.layers.iter().cloned().chain([change.bytes.clone()]).collect();
    let mut again = HotDocument::load(author(1), template(), chunks).unwrap();
    assert_eq!(again.value().unwrap().get("all"), Some(&everything));
    assert_eq!(again.heads().unwrap(), vec![change.hash]);
    let (_, next) = again.edit(&EditOptions::default(), |d| d.put("k", 1)).unwrap();
    assert_eq!(next.unwrap().seq, 2);
}

#[test]
fn an_edit_that_fails_or_changes_nothing_leaves_no_trace() {
    let mut a = Desk::new(1);
    let before = a.hot.value().unwrap();
    let error = a.hot.edit(&EditOptions::default(), |d| {
        d.put("x", 1)?;
        d.text("body")?.push("gone")?;
        d.list("nothing").map(drop)
    });
    assert!(matches!(error, Err(HotError::Edit(EditError::NotFound { .. }))), "{error:?}");
    assert_eq!(a.hot.value().unwrap(), before);
    let (_, none) = a.hot.edit(&EditOptions::default(), |d| d.counter("votes")?.add(0)).unwrap();
    assert_eq!(none, None);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        a.hot.edit(&EditOptions::default(), |d| -> Result<(), EditError> {
            d.put("x", 1)?;
            panic!("the program's own")
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(a.hot.value().unwrap(), before);
    assert_eq!(a.hot.heads().unwrap(), vec![]);
    assert_eq!(a.edit(|d| d.put("x", 2)).seq, 1);
}

#[test]
fn bounds_are_refused_by_name() {
    let mut a = Desk::new(1);
    let mut refused =
        |f: &dyn Fn(&mut MapDraft<'_>) -> Result<(), EditError>| match a.hot.edit(&EditOptions::default(), |d| f(d)) {
            Err(HotError::Edit(error)) => error,
            other => panic!("{other:?}"),
        };
    assert!(matches!(refused(&|d| d.put("b", vec![0; 64 * 1024 + 1])), EditError::TooLarge { bytes: 65_537, .. }));
    assert!(matches!(refused(&|d| d.put(&"k".repeat(1025), 1)), EditError::TooLarge { what: "a key", .. }));
    assert!(matches!(refused(&|d| d.text("body")?.splice(1..1, "x")), EditError::OutOfRange { index: 1, len: 0 }));
    assert!(matches!(refused(&|d| d.list("items")?.delete(0)), EditError::OutOfRange { .. }));
    assert!(matches!(refused(&|d| d.text("items").map(drop)), EditError::WrongKind { .. }));
    let mut deep = Value::Null;
    for _ in 0..100 {
        deep = Value::List(vec![deep]);
    }
    assert!(matches!(refused(&|d| d.put("deep", deep.clone())), EditError::TooDeep { .. }));
}

#[test]
fn text_indexes_are_utf16_and_pairs_stay_whole() {
    let mut a = Desk::new(1);
    a.edit(|d| {
        let mut body = d.text("body")?;
        body.push("a😀b")?;
        assert_eq!(body.len(), 4);
        body.splice(2..2, "x")?; // inside the pair: moves to its end
        assert_eq!(body.to_string(), "a😀xb");
        body.splice(2..3, "")?; // both ends move to the pair's end
        assert_eq!(body.to_string(), "a😀xb");
        body.splice(1..2, "")?;
        assert_eq!(body.to_string(), "axb");
        body.update("a𝄞b")?;
        assert_eq!(body.len(), 4);
        Ok(())
    });
    assert_eq!(a.text(), "a𝄞b");
}

#[test]
fn marks_cover_utf16_ranges() {
    let mut a = Desk::new(1);
    a.edit(|d| {
        let mut body = d.text("body")?;
        body.push("x😀yz")?;
        body.mark(1..4, "bold", true, Expand::None)?;
        let marks = body.marks()?;
        assert_eq!((marks[0].from, marks[0].to, marks[0].name.as_str()), (1, 4, "bold"));
        body.unmark(1..3, "bold")?;
        let marks = body.marks()?;
        assert_eq!(marks.iter().map(|m| (m.from, m.to)).collect::<Vec<_>>(), [(3, 4)]);
        Ok(())
    });
    let spans = a.hot.read(|view| view.text("body").map(|text| text.spans())).unwrap().unwrap();
    let runs: Vec<_> = spans.iter().map(|span| (span.text.as_str(), span.marks.len())).collect();
    assert_eq!(runs, [("x😀", 0), ("y", 1), ("z", 0)]);
}

#[test]
fn an_edit_at_older_heads_is_isolated_and_obeys_the_chain_rule() {
    let (mut a, mut b) = (Desk::new(1), Desk::new(2));
    let first = a.edit(|d| d.text("body")?.push("hello"));
    let page = a.hot.heads().unwrap();
    b.take(&[&first]);
    let remote = b.edit(|d| d.text("body")?.splice(0..0, ">>> "));
    a.take(&[&remote]);
    assert_eq!(a.text(), ">>> hello");
    let options = EditOptions::default();
    // The page has not seen the remote change: position 5 is the end of "hello".
    let (_, late) = a.hot.edit_at(&page, &options, |d| d.text("body")?.splice(5..5, " world")).unwrap();
    let late = late.unwrap();
    assert_eq!(a.text(), ">>> hello world");
    assert_eq!((late.actor_n, late.seq), (0, 2));
    assert!(late.deps.contains(&first.hash) && !late.deps.contains(&remote.hash));
    // A second page stands on `page` too, and actor 0 has moved on since: another actor.
    let (_, other) = a.hot.edit_at(&page, &options, |d| d.text("body")?.splice(1..2, "a")).unwrap();
    let other = other.unwrap();
    check(&late);
    check(&other);
    assert_eq!((other.actor_n, other.seq), (1, 1));
    assert_eq!(a.text(), ">>> hallo world");
    let third = a.edit(|d| d.put("k", 1));
    assert_eq!((third.actor_n, third.seq), (0, 3));
    assert!(third.deps.contains(&late.hash), "the actor's previous change is a direct dependency");
    b.take(&[&late, &other, &third]);
    same(&mut a, &mut b);
}

#[test]
fn pages_that_lag_reuse_a_few_actors() {
    let mut a = Desk::new(1);
    let page = a.edit(|d| d.put("k", 0)).hash;
    let mut used = BTreeSet::new();
    let mut mine = vec![page];
    for i in 0..30 {
        a.edit(|d| d.put("other", i));
        let (_, change) = a.hot.edit_at(&mine, &EditOptions::default(), |d| d.put("mine", i)).unwrap();
        let change = change.unwrap();
        used.insert(change.actor_n);
        mine = vec![change.hash];
    }
    assert_eq!(used.into_iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_change_never_leaves_a_gap_of_operations() {
    let (mut a, mut b) = (Desk::new(1), Desk::new(2));
    let first = a.edit(|d| d.put("k", 0));
    b.take(&[&first]);
    let big = b.edit(|d| d.text("body")?.push(&"x".repeat(70_000)));
    a.take(&[&big]);
    let (_, late) = a.hot.edit_at(&[first.hash], &EditOptions::default(), |d| d.put("k", 1)).unwrap();
    let late = late.unwrap();
    assert!(late.start_op <= first.max_op + (1 << 16), "{} after {}", late.start_op, first.max_op);
    b.take(&[&late]);
    same(&mut a, &mut b);
    assert_eq!(a.hot.value().unwrap().get("k"), Some(&Value::Int(1)));
    assert_eq!(a.edit(|d| d.put("k", 2)).seq, 3);
}

#[test]
fn changes_wait_and_are_applied_together() {
    let (mut a, mut b) = (Desk::new(1), Desk::new(2));
    let changes: Vec<_> = (0..50).map(|i| a.edit(|d| d.list("items")?.push(i))).collect();
    // In any order: the batch sorts itself.
    b.take(&changes.iter().rev().collect::<Vec<_>>());
    assert!(b.hot.has_pending());
    same(&mut a, &mut b);
    assert!(!b.hot.has_pending());
    let mut small = Desk { hot: HotDocument::new(author(3), template()).unwrap().pending_max(10) };
    small.take(&[&changes[0]]);
    assert!(!small.hot.has_pending(), "past the bound they are applied at once");
    let chunks = changes.iter().flat_map(|c| c.layers.iter().cloned().chain([c.bytes.clone()])).collect();
    small.hot.reload(chunks).unwrap();
    same(&mut a, &mut small);
}

#[test]
fn a_damaged_chunk_quarantines_and_a_reload_without_it_heals() {
    let mut a = Desk::new(1);
    let good = a.edit(|d| d.put("k", 1));
    let mut bad = good.bytes.clone();
    *bad.last_mut().unwrap() ^= 1;
    a.hot.push_remote(vec![(ChangeHash([1; 32]), bad)]).unwrap();
    assert!(matches!(a.hot.value(), Err(HotError::Quarantined { .. })));
    assert!(a.hot.is_quarantined());
    assert!(matches!(a.hot.edit(&EditOptions::default(), |d| d.put("k", 2)), Err(HotError::Quarantined { .. })));
    a.hot.reload(good.layers.iter().cloned().chain([good.bytes.clone()]).collect()).unwrap();
    assert_eq!(a.hot.value().unwrap().get("k"), Some(&Value::Int(1)));
    assert_eq!(a.edit(|d| d.put("k", 2)).seq, 2);
}

#[test]
fn own_changes_that_are_not_stored_yet_survive_a_reload() {
    let (mut a, mut b) = (Desk::new(1), Desk::new(2));
    let stored = b.edit(|d| d.put("theirs", 1));
    a.take(&[&stored]);
    let mine = a.edit(|d| d.put("mine", 2));
    a.hot.push_remote(vec![(ChangeHash([1; 32]), b"nonsense".to_vec())]).unwrap();
    assert!(a.hot.value().is_err());
    let chunks: Vec<_> = stored.layers.iter().cloned().chain([stored.bytes.clone()]).collect();
    a.hot.reload(chunks).unwrap();
    assert_eq!(a.hot.value().unwrap().get("mine"), Some(&Value::Int(2)));
    let next = a.edit(|d| d.put("mine", 3));
    assert_eq!((next.seq, next.deps), (2, vec![mine.hash]));
    // What the own change stands on is hidden now: another actor goes on.
    a.hot.reload(stored.layers).unwrap();
    assert_eq!(a.edit(|d| d.put("mine", 4)).actor_n, 1);
}

#[test]
fn a_snapshot_and_its_tail_load_like_the_changes() {
    let mut a = Desk::new(1);
    let first = a.edit(|d| d.text("body")?.push("snap"));
    let snapshot = a.hot.doc.as_ref().unwrap().save();
    let tail = a.edit(|d| d.text("body")?.push("shot"));
    let mut b = Desk { hot: HotDocument::load(author(2), template(), vec![snapshot, tail.bytes.clone()]).unwrap() };
    same(&mut a, &mut b);
    let missing = HotDocument::load(author(2), template(), vec![tail.bytes]);
    assert!(matches!(missing, Err(HotError::MissingDependencies { count: 1 })));
    assert_eq!(a.hot.value_at(&[first.hash]).unwrap().get("body"), Some(&Value::text("snap")));
    assert_eq!(a.hot.value_at(&[]).unwrap().get("body"), Some(&Value::text("")));
    let nowhere = a.hot.value_at(&[ChangeHash([9; 32])]);
    assert!(matches!(nowhere, Err(HotError::UnknownHeads { .. })));
}

#[test]
fn json_is_put_by_difference_replacement_or_merge() {
    let mut a = Desk::new(1);
    a.edit(|d| d.put_json("/meta", &json!({"n": 1, "tags": ["a", "b", "c"], "sub": {"x": 1}}), PutMode::Diff));
    a.edit(|d| d.put_json("", &json!({"body": "abc", "votes": 4, "meta": {"tags": ["z"]}}), PutMode::Merge));
    let expected = json!({"n": 1, "tags": ["z"], "sub": {"x": 1}});
    assert_eq!(a.hot.value().unwrap().get("meta").unwrap().to_json(), expected);
    assert_eq!(a.hot.value().unwrap().get("body"), Some(&Value::text("abc")));
    assert_eq!(a.hot.value().unwrap().get("votes"), Some(&Value::Counter(4)));
    a.edit(|d| d.put_json("/meta", &json!({"sub": {"x": null, "y": 2}}), PutMode::Merge));
    a.edit(|d| d.put_json("/meta/tags/-", &json!("end"), PutMode::Diff));
    a.edit(|d| d.put_json("/meta/sub/y", &json!(3), PutMode::Replace));
    a.edit(|d| d.delete_at("/meta/n").map(drop));
    assert_eq!(a.hot.value().unwrap().get("meta").unwrap().to_json(), json!({"tags": ["z", "end"], "sub": {"y": 3}}));
    let read = a.hot.read(|view| view.pointer("/meta/tags/1")).unwrap().unwrap();
    assert_eq!(read, Some(Value::Str("end".into())));
    let refused = a.hot.edit(&EditOptions::default(), |d| d.put_json("/no/where", &json!(1), PutMode::Diff));
    assert!(matches!(refused, Err(HotError::Edit(EditError::NotFound { .. }))));
    let refused = a.hot.edit(&EditOptions::default(), |d| d.put_json("meta", &json!(1), PutMode::Diff));
    assert!(matches!(refused, Err(HotError::Edit(EditError::Pointer { .. }))));
}

#[test]
fn reconciling_keeps_what_others_type() {
    let (mut a, mut b) = (Desk::new(1), Desk::new(2));
    let base = a.edit(|d| {
        d.text("body")?.push("one two three")?;
        d.put_json("/items", &json!([{"t": "a"}, {"t": "b"}]), PutMode::Diff)
    });
    b.take(&[&base]);
    let whole = json!({"body": "one 2 three", "items": [{"t": "a!"}, {"t": "b"}], "votes": 1, "meta": {}});
    let one = a.edit(|d| d.reconcile_all(&json(whole.clone())));
    let two = b.edit(|d| {
        d.text("body")?.push(" four")?;
        d.list("items")?.push("c")?;
        d.counter("votes")?.add(10)
    });
    a.take(&[&two]);
    b.take(&[&one]);
    same(&mut a, &mut b);
    let expected =
        json!({"body": "one 2 three four", "items": [{"t": "a!"}, {"t": "b"}, "c"], "votes": 11, "meta": {}});
    assert_eq!(a.hot.value().unwrap().to_json(), expected);
}

#[test]
fn documents_do_not_open_inside_documents() {
    let cell = HotCell::new(HotDocument::new(author(1), template()).unwrap());
    let inner = cell.with(|_| cell.with(|hot| hot.value().map(drop)).err()).unwrap();
    assert!(matches!(inner, Some(HotError::Reentrant)));
    assert!(cell.with(|hot| hot.heads()).unwrap().unwrap().is_empty());
}
