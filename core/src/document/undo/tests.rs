use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::document::edit::{EditError, Expand, MapDraft};
use crate::document::hot::tests::{Desk, json as value};
use crate::document::value::Value;

struct Writer {
    desk: Desk,
    undo: UndoManager,
    now: u64,
}

impl Writer {
    fn new(device: u8, scope: At) -> Self {
        Self { desk: Desk::new(device), undo: UndoManager::new(scope, 100), now: 0 }
    }

    /// One step: a change after the capture window has closed.
    fn step(&mut self, f: impl FnOnce(&mut MapDraft<'_>) -> Result<(), EditError>) -> LocalChange {
        self.now += 1000;
        self.more(f)
    }

    fn more(&mut self, f: impl FnOnce(&mut MapDraft<'_>) -> Result<(), EditError>) -> LocalChange {
        let change = self.desk.edit(f);
        self.undo.record(&mut self.desk.hot, &change, self.now).unwrap();
        change
    }

    fn undo(&mut self) -> Option<LocalChange> {
        self.undo.undo(&mut self.desk.hot, &EditOptions::default()).unwrap()
    }

    fn redo(&mut self) -> Option<LocalChange> {
        self.undo.redo(&mut self.desk.hot, &EditOptions::default()).unwrap()
    }

    fn json(&mut self) -> serde_json::Value {
        self.desk.hot.value().unwrap().to_json()
    }
}

#[test]
fn typing_within_the_window_is_one_step() {
    let mut a = Writer::new(1, vec![]);
    for (at, letter) in ["h", "e", "y"].into_iter().enumerate() {
        a.more(|d| d.text("body")?.splice(at..at, letter));
    }
    a.undo.boundary();
    a.more(|d| d.text("body")?.push("!"));
    a.step(|d| d.text("body")?.push("?"));
    let texts: Vec<String> = (0..4)
        .map(|_| {
            a.undo();
            a.desk.text()
        })
        .collect();
    assert_eq!(texts, ["hey!", "hey", "", ""]);
    assert!(!a.undo.can_undo() && a.undo.can_redo());
    let texts: Vec<String> = (0..4)
        .map(|_| {
            a.redo();
            a.desk.text()
        })
        .collect();
    assert_eq!(texts, ["hey", "hey!", "hey!?", "hey!?"]);
    a.undo();
    a.step(|d| d.text("body")?.push("."));
    assert!(!a.undo.can_redo(), "a new change ends redoing");
}

#[test]
fn undoing_past_a_deletion_finds_what_came_back() {
    let mut a = Writer::new(1, vec![]);
    a.step(|d| d.text("body")?.push("one 😀 two"));
    a.step(|d| d.text("body")?.splice(2..8, ""));
    a.step(|d| d.text("body")?.splice(0..1, "ZZ"));
    let texts: Vec<String> = (0..3)
        .map(|_| {
            a.undo();
            a.desk.text()
        })
        .collect();
    assert_eq!(texts, ["onwo", "one 😀 two", ""]);
    let texts: Vec<String> = (0..3)
        .map(|_| {
            a.redo();
            a.desk.text()
        })
        .collect();
    assert_eq!(texts, ["one 😀 two", "onwo", "ZZnwo"]);
    let texts: Vec<String> = (0..3)
        .map(|_| {
            a.undo();
            a.desk.text()
        })
        .collect();
    assert_eq!(texts, ["onwo", "one 😀 two", ""]);
}

#[test]
fn what_others_wrote_stays() {
    let (mut a, mut b) = (Writer::new(1, vec![]), Desk::new(2));
    let base = a.step(|d| {
        d.text("body")?.push("hello world")?;
        d.put("title", "mine")?;
        d.put("color", "red")?;
        d.counter("votes")?.add(5)?;
        d.put("page", value(json!({"text": {"$text": "x"}})))
    });
    b.take(&[&base]);
    let theirs = b.edit(|d| {
        d.text("body")?.splice(5..5, ", BRAVE")?;
        d.put("title", "theirs")?;
        d.counter("votes")?.add(10)?;
        d.map("page")?.text("text")?.push("Y")
    });
    a.desk.take(&[&theirs]);
    a.undo().unwrap();
    let left =
        json!({"body": ", BRAVE", "title": "theirs", "votes": 10, "page": {"text": "xY"}, "items": [], "meta": {}});
    assert_eq!(a.json(), left);
    let redone = a.redo().unwrap();
    assert_eq!(a.json()["body"], json!("hello, BRAVE world"));
    assert_eq!((a.json()["color"].clone(), a.json()["votes"].clone()), (json!("red"), json!(15)));
    assert_eq!(redone.actor_n, 0, "undo and redo stay on one actor");
}

#[test]
fn a_deleted_object_comes_back_and_its_own_history_with_it() {
    let mut a = Writer::new(1, vec![]);
    a.step(|d| d.put("page", value(json!({"text": {"$text": ""}, "list": [{"n": {"$counter": 1}}]}))));
    a.step(|d| d.map("page")?.text("text")?.push("typed"));
    a.step(|d| d.map("page")?.list("list")?.map(0)?.counter("n")?.add(4));
    a.step(|d| d.delete("page").map(drop));
    a.undo();
    assert_eq!(a.json()["page"], json!({"text": "typed", "list": [{"n": 5}]}));
    a.undo();
    a.undo();
    assert_eq!(a.json()["page"], json!({"text": "", "list": [{"n": 1}]}));
    a.undo();
    assert!(a.json().get("page").is_none());
    for _ in 0..3 {
        a.redo();
    }
    assert_eq!(a.json()["page"], json!({"text": "typed", "list": [{"n": 5}]}));
}

#[test]
fn lists_and_marks_go_back_too() {
    let mut a = Writer::new(1, vec![]);
    a.step(|d| d.list("items")?.splice(0..0, ["a", "b", "c", "d"].map(Value::from)));
    a.step(|d| d.list("items")?.put(1, "B"));
    a.step(|d| d.list("items")?.splice(1..3, []));
    a.step(|d| d.text("body")?.push("bold"));
    a.step(|d| d.text("body")?.mark(0..2, "b", true, Expand::None));
    a.undo();
    let marks = a.desk.hot.edit(&EditOptions::default(), |d| d.text("body")?.marks()).unwrap().0;
    assert_eq!(marks, []);
    a.redo();
    let marks = a.desk.hot.edit(&EditOptions::default(), |d| d.text("body")?.marks()).unwrap().0;
    assert_eq!((marks[0].from, marks[0].to), (0, 2));
    a.undo();
    a.undo();
    let lists: Vec<_> = (0..3)
        .map(|_| {
            a.undo();
            a.json()["items"].clone()
        })
        .collect();
    assert_eq!(lists, [json!(["a", "B", "c", "d"]), json!(["a", "b", "c", "d"]), json!([])]);
    let lists: Vec<_> = (0..3)
        .map(|_| {
            a.redo();
            a.json()["items"].clone()
        })
        .collect();
    assert_eq!(lists, [json!(["a", "b", "c", "d"]), json!(["a", "B", "c", "d"]), json!(["a", "d"])]);
}

#[test]
fn a_scope_leaves_everything_else_alone() {
    let mut a = Writer::new(1, vec!["body".into()]);
    a.step(|d| d.text("body")?.push("in"));
    a.step(|d| d.put("title", "out"));
    let both = a.step(|d| {
        d.put("title", "out again")?;
        d.text("body")?.push("side")
    });
    assert!(a.undo.record(&mut a.desk.hot, &both, a.now).unwrap());
    a.undo();
    assert_eq!((a.json()["body"].clone(), a.json()["title"].clone()), (json!("in"), json!("out again")));
}

#[derive(Debug, Clone)]
enum Act {
    Mine { at: usize, remove: usize, insert: String },
    List { at: usize, remove: usize, insert: Vec<u8> },
    Put { key: u8, value: u8 },
    Theirs { at: usize, remove: usize, insert: String },
    Exchange,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0usize..20, 0usize..5, "[a-c😀]{0,4}").prop_map(|(at, remove, insert)| Act::Mine { at, remove, insert }),
        2 => (0usize..8, 0usize..3, proptest::collection::vec(any::<u8>(), 0..3))
            .prop_map(|(at, remove, insert)| Act::List { at, remove, insert }),
        2 => (0u8..3, any::<u8>()).prop_map(|(key, value)| Act::Put { key, value }),
        3 => (0usize..20, 0usize..3, "[A-C]{1,3}").prop_map(|(at, remove, insert)| Act::Theirs { at, remove, insert }),
        2 => Just(Act::Exchange),
    ];
    proptest::collection::vec(act, 1..24)
}

fn splice(d: &mut MapDraft<'_>, at: usize, remove: usize, insert: &str) -> Result<(), EditError> {
    let mut body = d.text("body")?;
    let at = at.min(body.len());
    let to = (at + remove).min(body.len());
    body.splice(at..to, insert)
}

fn mine(a: &mut Writer, act: &Act) -> Option<LocalChange> {
    a.now += 1000;
    let edit = |d: &mut MapDraft<'_>| match act {
        Act::Mine { at, remove, insert } => splice(d, *at, *remove, insert),
        Act::List { at, remove, insert } => {
            let mut items = d.list("items")?;
            let at = (*at).min(items.len());
            let to = (at + remove).min(items.len());
            items.splice(at..to, insert.iter().map(|n| Value::Int((*n).into())))
        }
        Act::Put { key, value } if value % 3 == 0 => d.map("meta")?.delete(&key.to_string()).map(drop),
        Act::Put { key, value: n } if n % 3 == 1 => {
            d.map("meta")?.put(&key.to_string(), value(json!({"t": {"$text": "x"}, "n": n})))
        }
        Act::Put { key, value } => d.map("meta")?.put(&key.to_string(), Value::Int((*value).into())),
        _ => Ok(()),
    };
    let (_, change) = a.desk.hot.edit(&EditOptions::default(), edit).unwrap();
    if let Some(change) = &change {
        a.undo.record(&mut a.desk.hot, change, a.now).unwrap();
    }
    change
}

fn capitals(text: &str) -> Vec<char> {
    text.chars().filter(char::is_ascii_uppercase).collect()
}

fn is_part_of(part: &[char], whole: &[char]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|c| rest.any(|other| other == c))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn alone_undo_and_redo_retrace_every_step(acts in acts()) {
        let mut a = Writer::new(1, vec![]);
        let mut states = vec![a.json()];
        for act in &acts {
            if mine(&mut a, act).is_some() {
                states.push(a.json());
            }
        }
        for _ in 0..2 {
            for state in states.iter().rev().skip(1) {
                prop_assert!(a.undo.can_undo());
                a.undo();
                prop_assert_eq!(&a.json(), state);
            }
            prop_assert!(!a.undo.can_undo());
            for state in states.iter().skip(1) {
                a.redo();
                prop_assert_eq!(&a.json(), state);
            }
        }
    }

    #[test]
    fn undo_never_takes_what_others_wrote(acts in acts(), undos in 1usize..12) {
        let (mut a, mut b) = (Writer::new(1, vec![]), Desk::new(2));
        let (mut from_a, mut from_b) = (Vec::new(), Vec::new());
        for act in &acts {
            match act {
                Act::Theirs { at, remove, insert } => {
                    let edit = |d: &mut MapDraft<'_>| splice(d, *at, *remove, insert);
                    from_b.extend(b.hot.edit(&EditOptions::default(), edit).unwrap().1);
                }
                Act::Exchange => {
                    a.desk.take(&std::mem::take(&mut from_b).iter().collect::<Vec<_>>());
                    b.take(&std::mem::take(&mut from_a).iter().collect::<Vec<_>>());
                }
                own => from_a.extend(mine(&mut a, own)),
            }
        }
        for _ in 0..undos {
            let before = capitals(&a.desk.text());
            from_a.extend(a.undo());
            let after = capitals(&a.desk.text());
            prop_assert!(is_part_of(&before, &after), "{:?} of {:?}", before, after);
        }
        for _ in 0..undos {
            let before = capitals(&a.desk.text());
            from_a.extend(a.redo());
            let after = capitals(&a.desk.text());
            // Redoing an own deletion takes back what undoing it had brought back, nothing more.
            prop_assert!(is_part_of(&after, &before) || is_part_of(&before, &after));
        }
        a.desk.take(&from_b.iter().collect::<Vec<_>>());
        b.take(&from_a.iter().collect::<Vec<_>>());
        prop_assert_eq!(a.desk.hot.heads().unwrap(), b.hot.heads().unwrap());
        prop_assert_eq!(a.desk.hot.value().unwrap(), b.hot.value().unwrap());
    }
}
