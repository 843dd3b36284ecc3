use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::document::edit::{EditError, Expand, MapDraft, Mark};
use crate::document::hot::EditOptions;
use crate::document::hot::tests::{Desk, json as value};

/// Something one of two devices does.
#[derive(Debug, Clone)]
enum Act {
    Text { at: usize, remove: usize, insert: String },
    Mark { from: usize, len: usize, value: Option<bool>, link: bool },
    ListInsert { at: usize, value: u8 },
    ListDelete { at: usize },
    ListPut { at: usize, value: u8 },
    Put { key: u8, value: u8 },
    Delete { key: u8 },
    Fence { key: u8, token: u64 },
    Nested { key: u8, at: usize, insert: String },
    Count { by: i64 },
    Exchange,
    Look,
}

fn acts() -> impl Strategy<Value = Vec<(bool, Act)>> {
    let at = 0usize..12;
    let act = prop_oneof![
        4 => (at.clone(), 0usize..4, "[a-c😀]{0,3}").prop_map(|(at, remove, insert)| Act::Text { at, remove, insert }),
        2 => (at.clone(), 1usize..6, proptest::option::of(any::<bool>()), any::<bool>())
            .prop_map(|(from, len, value, link)| Act::Mark { from, len, value, link }),
        2 => (at.clone(), any::<u8>()).prop_map(|(at, value)| Act::ListInsert { at, value }),
        1 => at.clone().prop_map(|at| Act::ListDelete { at }),
        1 => (at.clone(), any::<u8>()).prop_map(|(at, value)| Act::ListPut { at, value }),
        2 => (0u8..4, any::<u8>()).prop_map(|(key, value)| Act::Put { key, value }),
        1 => (0u8..6).prop_map(|key| Act::Delete { key }),
        2 => (2u8..6, 1u64..9).prop_map(|(key, token)| Act::Fence { key, token }),
        2 => (0u8..4, at, "[x-z]{1,2}").prop_map(|(key, at, insert)| Act::Nested { key, at, insert }),
        1 => (-3i64..4).prop_map(|by| Act::Count { by }),
        2 => Just(Act::Exchange),
        2 => Just(Act::Look),
    ];
    proptest::collection::vec((any::<bool>(), act), 1..40)
}

/// A value that is a different kind of thing for different numbers.
fn thing(n: u8) -> Value {
    match n % 6 {
        0 => value(json!({"t": {"$text": "in"}, "n": {"$counter": 1}})),
        1 => value(json!([1, [2]])),
        2 => Value::text("t"),
        3 => Value::Counter(i64::from(n)),
        _ => Value::Int(i64::from(n)),
    }
}

fn act(d: &mut MapDraft<'_>, act: &Act) -> Result<(), EditError> {
    match act {
        Act::Text { at, remove, insert } => {
            let mut body = d.text("body")?;
            let at = (*at).min(body.len());
            let to = (at + remove).min(body.len());
            body.splice(at..to, insert)
        }
        Act::Mark { from, len, value, link } => {
            let mut body = d.text("body")?;
            let (from, to) = ((*from).min(body.len()), (from + len).min(body.len()));
            let (name, expand) = if *link { ("link", Expand::None) } else { ("bold", Expand::After) };
            body.mark(from..to, name, value.map_or(Value::Null, Value::Bool), expand)
        }
        Act::ListInsert { at, value } => {
            let mut items = d.list("items")?;
            let at = (*at).min(items.len());
            items.insert(at, thing(*value))
        }
        Act::ListDelete { at } => {
            let mut items = d.list("items")?;
            if *at < items.len() { items.delete(*at) } else { Ok(()) }
        }
        Act::ListPut { at, value } => {
            let mut items = d.list("items")?;
            if *at < items.len() { items.put(*at, thing(*value)) } else { Ok(()) }
        }
        Act::Put { key, value } => d.map("meta")?.put(&key.to_string(), thing(*value)),
        Act::Delete { key } => d.map("meta")?.delete(&key.to_string()).map(drop),
        Act::Fence { key, token } => match d.map("meta")?.put_fenced(&key.to_string(), "held", *token) {
            Err(EditError::Fenced { .. } | EditError::WrongKind { .. }) => Ok(()),
            done => done,
        },
        Act::Nested { key, at, insert } => {
            let mut meta = d.map("meta")?;
            let key = key.to_string();
            let Ok(mut map) = meta.map(&key) else { return Ok(()) };
            map.counter("n")?.add(2)?;
            let mut text = map.text("t")?;
            let at = (*at).min(text.len());
            text.splice(at..at, insert)
        }
        Act::Count { by } => d.counter("votes")?.add(*by),
        Act::Exchange | Act::Look => Ok(()),
    }
}

/// A watcher: a plain value and the marks of the body, kept by patches alone.
struct Watcher {
    heads: Vec<ChangeHash>,
    value: Value,
    marks: Vec<std::collections::BTreeMap<String, Value>>,
}

impl Watcher {
    fn new(desk: &mut Desk) -> Self {
        Self { heads: desk.hot.heads().unwrap(), value: desk.hot.value().unwrap(), marks: Vec::new() }
    }

    fn look(&mut self, desk: &mut Desk) {
        let patches = desk.hot.patches_since(&self.heads).unwrap();
        for patch in &patches {
            apply(&mut self.value, std::slice::from_ref(patch)).unwrap_or_else(|_| panic!("{patch:?} in {patches:?}"));
            if let Patch::Text { at, edits, marks } = patch
                && at == &[Step::from("body")]
            {
                self.follow(edits, marks);
            }
        }
        self.heads = desk.hot.heads().unwrap();
        assert_eq!(self.value, desk.hot.value().unwrap(), "{patches:#?}");
        let (_, _) = desk
            .hot
            .edit(&EditOptions::default(), |d| {
                assert_eq!(self.marks, spread(&d.text("body")?.marks()?, self.marks.len()), "{patches:#?}");
                Ok(())
            })
            .unwrap();
    }

    fn follow(&mut self, edits: &[TextEdit], marks: &[MarkEdit]) {
        for edit in edits.iter().rev() {
            let new = std::iter::repeat_n(Default::default(), edit.insert.encode_utf16().count());
            self.marks.splice(edit.from..edit.to, new);
        }
        for mark in marks {
            for unit in &mut self.marks[mark.from..mark.to] {
                match mark.value {
                    Value::Null => drop(unit.remove(&mark.name)),
                    _ => drop(unit.insert(mark.name.clone(), mark.value.clone())),
                }
            }
        }
    }
}

fn spread(marks: &[Mark], len: usize) -> Vec<std::collections::BTreeMap<String, Value>> {
    let mut units = vec![std::collections::BTreeMap::new(); len];
    for mark in marks {
        for unit in &mut units[mark.from..mark.to] {
            unit.insert(mark.name.clone(), mark.value.clone());
        }
    }
    units
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn patches_lead_exactly_from_one_value_to_the_next(acts in acts()) {
        follow_two_devices(&acts);
    }
}

/// Two devices act; a watcher of the first has to be led from each value to the next by patches alone.
fn follow_two_devices(acts: &[(bool, Act)]) {
    let (mut a, mut b) = (Desk::new(1), Desk::new(2));
    let mut watcher = Watcher::new(&mut a);
    let mut history = vec![(a.hot.heads().unwrap(), a.hot.value().unwrap())];
    let (mut from_a, mut from_b) = (Vec::new(), Vec::new());
    for (left, one) in acts {
        let (desk, sent) = if *left { (&mut a, &mut from_a) } else { (&mut b, &mut from_b) };
        match one {
            Act::Exchange => {
                a.take(&std::mem::take(&mut from_b).iter().collect::<Vec<_>>());
                b.take(&std::mem::take(&mut from_a).iter().collect::<Vec<_>>());
            }
            Act::Look => watcher.look(&mut a),
            other => sent.extend(desk.hot.edit(&EditOptions::default(), |d| act(d, other)).unwrap().1),
        }
        history.push((a.hot.heads().unwrap(), a.hot.value().unwrap()));
    }
    watcher.look(&mut a);
    // Any state to any other, backwards too.
    for step in [1, 5, 11] {
        for pair in history.iter().step_by(step).collect::<Vec<_>>().windows(2) {
            for (from, to) in [(pair[0], pair[1]), (pair[1], pair[0])] {
                let patches = a.hot.diff(&from.0, &to.0).unwrap();
                let mut value = from.1.clone();
                apply(&mut value, &patches).unwrap();
                assert_eq!(value, to.1, "{patches:#?}");
            }
        }
    }
}

#[test]
fn marks_are_exact_where_automerge_announces_none() {
    let text = |at, remove, insert: &str| Act::Text { at, remove, insert: insert.to_owned() };
    let bold = |from, len, value| Act::Mark { from, len, value, link: false };
    follow_two_devices(&[
        (true, text(0, 0, "😀😀")),
        (true, text(3, 0, "a")),
        (true, Act::Exchange),
        (false, text(5, 0, "😀😀")),
        (true, text(5, 0, "")),
        (true, text(3, 2, "a😀a")),
        (true, Act::Exchange),
        (false, bold(8, 3, Some(true))),
        (true, text(2, 3, "😀a")),
        (true, Act::Look),
        (true, text(11, 0, "😀😀")),
        (true, bold(8, 5, None)),
        (true, Act::Exchange),
        (false, bold(8, 3, Some(true))),
    ]);
}

#[test]
fn text_edits_are_in_old_positions_sorted_and_disjoint() {
    let mut a = Desk::new(1);
    a.edit(|d| d.text("body")?.push("one 😀 two three"));
    let before = a.hot.heads().unwrap();
    a.edit(|d| d.text("body")?.splice(0..3, "1"));
    a.edit(|d| {
        let mut body = d.text("body")?;
        let end = body.len();
        body.splice(end - 5..end, "3")?;
        body.mark(0..1, "bold", true, Expand::None)
    });
    let patches = a.hot.patches_since(&before).unwrap();
    let expected = json!([{"action": "text", "at": ["body"],
        "edits": [{"from": 0, "to": 3, "insert": "1"}, {"from": 11, "to": 16, "insert": "3"}],
        "marks": [{"from": 0, "to": 1, "name": "bold", "value": true}]}]);
    assert_eq!(Json::Array(patches.iter().map(Patch::to_json).collect()), expected);
}

#[test]
fn who_watches_a_part_hears_of_that_part() {
    let mut a = Desk::new(1);
    a.edit(|d| {
        d.list("items")?.push(value(json!({"t": 1})))?;
        d.list("items")?.push(value(json!({"t": 2})))
    });
    let seen = a.hot.heads().unwrap();
    a.edit(|d| {
        d.text("body")?.push("elsewhere")?;
        d.list("items")?.map(1)?.put("t", 3)
    });
    let part = [Step::from("items"), Step::from(1)];
    let patches = a.hot.patches_within(&part, &seen).unwrap();
    assert_eq!(
        patches.iter().map(Patch::to_json).collect::<Vec<_>>(),
        [json!({"action": "put", "at": ["items", 1, "t"], "value": 3})]
    );
    let seen = a.hot.heads().unwrap();
    a.edit(|d| d.list("items")?.delete(0));
    assert_eq!(a.hot.patches_within(&part, &seen).unwrap().len(), 1);
    let seen = a.hot.heads().unwrap();
    a.edit(|d| d.put("items", Value::List(vec![])));
    assert_eq!(a.hot.patches_within(&part, &seen).unwrap().len(), 1);
}

#[test]
fn concurrent_values_are_announced_as_a_conflict() {
    let (mut a, mut b) = (Desk::new(1), Desk::new(2));
    let one = a.edit(|d| d.put("title", "a"));
    let two = b.edit(|d| d.put("title", "b"));
    let (seen_a, seen_b) = (a.hot.heads().unwrap(), b.hot.heads().unwrap());
    a.take(&[&two]);
    b.take(&[&one]);
    let conflict = Patch::Conflict { at: vec!["title".into()] };
    assert!(a.hot.patches_since(&seen_a).unwrap().contains(&conflict));
    assert!(b.hot.patches_since(&seen_b).unwrap().contains(&conflict));
}
