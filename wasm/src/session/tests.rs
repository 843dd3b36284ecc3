//! Pages are played by hand here: a copy of the value, edits with numbers, events that cross.

use foreshore::document::patch::{self, Patch};
use foreshore::document::value::Value;
use foreshore::document::{Template, TextEdit};
use foreshore::peer::{Document, Peer, Space};
use serde_json::json;

use super::*;

async fn space() -> Space {
    let peer = Peer::builder().in_memory().spawn().await.unwrap();
    peer.create_space("test").await.unwrap()
}

async fn notes(space: &Space) -> Document {
    let initial = Value::from_json(&json!({ "body": { "$text": "" }, "list": [], "n": { "$counter": 0 } })).unwrap();
    space.document_with("/notes", &Template::new(&initial).unwrap()).await.unwrap()
}

/// A page: what it shows, and the last event that it applied.
struct Page {
    value: Value,
    seq: u64,
    base: u64,
}

impl Page {
    fn begin(document: Document) -> (Self, Session) {
        let (session, first) = Session::begin(document).unwrap();
        (Self { value: Value::from_json(&first["value"]).unwrap(), seq: 0, base: 0 }, session)
    }

    /// Types at the end of the text, here at once; what it sends.
    fn types(&mut self, text: &str) -> Edit {
        let end = self.body().encode_utf16().count();
        let edit = TextEdit { from: end, to: end, insert: text.into() };
        let patch = Patch::Text { at: vec!["body".into()], edits: vec![edit], marks: Vec::new() };
        patch::apply(&mut self.value, &[patch]).unwrap();
        self.seq += 1;
        let op = json!({ "o": "text", "at": ["body"], "edits": [{ "from": end, "to": end, "insert": text }] });
        self.sends(vec![op])
    }

    fn sends(&self, ops: Vec<Json>) -> Edit {
        let ops = ops.into_iter().map(|op| serde_json::from_value(op).unwrap()).collect();
        Edit { seq: self.seq, base: self.base, ops, message: None }
    }

    fn body(&self) -> String {
        self.value.get("body").and_then(Value::as_str).unwrap().to_owned()
    }

    /// Applies an event if it leads from what the page shows; what it answers.
    fn hears(&mut self, event: &Json) -> Option<u64> {
        if event["seq"] != self.seq {
            return None;
        }
        match event.get("value") {
            Some(value) => self.value = Value::from_json(value).unwrap(),
            None => {
                let texts = event["patches"].as_array().unwrap().iter().map(|p| {
                    assert_eq!(p["action"], "text", "{p}");
                    let edits = p["edits"].as_array().unwrap().iter().map(|e| TextEdit {
                        from: e["from"].as_u64().unwrap() as usize,
                        to: e["to"].as_u64().unwrap() as usize,
                        insert: e["insert"].as_str().unwrap().into(),
                    });
                    Patch::Text { at: vec!["body".into()], edits: edits.collect(), marks: Vec::new() }
                });
                patch::apply(&mut self.value, &texts.collect::<Vec<_>>()).unwrap();
            }
        }
        self.base = event["id"].as_u64().unwrap();
        Some(self.base)
    }
}

#[tokio::test]
async fn an_event_that_crossed_an_edit_is_dropped_and_computed_anew() {
    let document = notes(&space().await).await;
    let (mut page, mut session) = Page::begin(document.clone());
    session.edit(&page.types("one")).unwrap();
    // Somebody else writes, and an event goes out, while the page types on.
    document.edit(|d| d.text("body")?.splice(0..0, ">> ")).unwrap();
    let crossed = session.pump().unwrap().unwrap();
    assert_eq!(session.pump().unwrap(), None, "one event at a time");
    let edit = page.types(" two");
    assert_eq!(page.hears(&crossed), None, "it knows nothing of the newest edit");
    session.edit(&edit).unwrap();
    let event = session.pump().unwrap().unwrap();
    let ack = page.hears(&event).unwrap();
    session.ack(ack);
    assert_eq!(page.body(), ">> one two");
    assert_eq!(page.value, document.value().unwrap());
    assert_eq!(session.pump().unwrap(), None, "nothing is left to tell");
}

#[tokio::test]
async fn edits_made_on_an_applied_event_stand_on_it() {
    let document = notes(&space().await).await;
    let (mut page, mut session) = Page::begin(document.clone());
    for round in 0..20 {
        document.edit(|d| d.text("body")?.splice(0..0, "x")).unwrap();
        let event = session.pump().unwrap().unwrap();
        let ack = page.hears(&event).unwrap();
        // The acknowledgement may come before the edit or, with it, be the edit's base.
        if round % 2 == 0 {
            session.ack(ack);
        }
        session.edit(&page.types("y")).unwrap();
        let event = session.pump().unwrap().unwrap();
        assert_eq!(event["patches"], json!([]), "the page shows it all");
        session.ack(page.hears(&event).unwrap());
        assert_eq!(page.value, document.value().unwrap());
    }
}

#[tokio::test]
async fn a_refused_edit_and_what_stands_on_it_are_taken_back() {
    let document = notes(&space().await).await;
    let (mut page, mut session) = Page::begin(document.clone());
    session.edit(&page.types("kept")).unwrap();
    page.seq += 1;
    let bad = page.sends(vec![json!({ "o": "text", "at": ["nowhere"], "edits": [] })]);
    let on_top = page.types(" lost");
    assert_eq!(session.edit(&bad).unwrap_err().code, "INVALID");
    let reset = session.pump().unwrap().unwrap();
    assert_eq!(page.hears(&reset), None, "it has edited since");
    assert_eq!(session.edit(&on_top).unwrap_err().code, "ABORTED");
    let reset = session.pump().unwrap().unwrap();
    session.ack(page.hears(&reset).unwrap());
    assert_eq!(page.body(), "kept");
    session.edit(&page.types("!")).unwrap();
    assert_eq!(document.value().unwrap().get("body").unwrap().as_str(), Some("kept!"));
}

#[tokio::test]
async fn a_page_goes_on_with_another_host_at_the_last_edit_that_is_stored() {
    let document = notes(&space().await).await;
    let (mut page, mut session) = Page::begin(document.clone());
    let stored = session.edit(&page.types("stored")).unwrap().hash().unwrap();
    let lost = page.types(" and sent again");
    // The host dies here: the second edit never came.
    let unknown = ChangeHash([7; 32]);
    let standings = [(vec![unknown], 2), (vec![stored], 1), (Vec::new(), 0)];
    let (mut session, _, standing) = Session::resume(document.clone(), &standings).unwrap();
    assert_eq!(standing, Some(1));
    page.base = 0;
    session.edit(&Edit { base: 0, ..lost }).unwrap();
    let event = session.pump().unwrap().unwrap();
    session.ack(page.hears(&event).unwrap());
    assert_eq!(page.body(), "stored and sent again");
    assert_eq!(page.value, document.value().unwrap());
    let (_, first, standing) = Session::resume(document, &[(vec![unknown], 9)]).unwrap();
    assert_eq!(standing, None, "begin anew");
    assert_eq!(first["value"]["body"], json!({ "$text": "stored and sent again" }));
}

#[tokio::test]
async fn edits_that_do_not_fit_are_refused_whole() {
    let document = notes(&space().await).await;
    document.edit(|d| d.put("m", Value::from_json(&json!({ "l": [1, { "t": { "$text": "x" } }] })).unwrap())).unwrap();
    let (mut page, mut session) = Page::begin(document.clone());
    let before = document.value().unwrap();
    for bad in [
        json!({ "o": "put", "at": [], "v": 1 }),
        json!({ "o": "put", "at": ["body", "x"], "v": 1 }),
        json!({ "o": "put", "at": ["m", "l", 9], "v": 1 }),
        json!({ "o": "put", "at": ["m", "l", "key"], "v": 1 }),
        json!({ "o": "del", "at": ["list", 0], "n": 1 }),
        json!({ "o": "ins", "at": ["list", 1], "vs": [1] }),
        json!({ "o": "ins", "at": ["n"], "vs": [1] }),
        json!({ "o": "inc", "at": ["body"], "by": 1 }),
        json!({ "o": "text", "at": ["n"], "edits": [] }),
        json!({ "o": "text", "at": ["body"], "edits": [{ "from": 5, "to": 9, "insert": "" }] }),
        json!({ "o": "put", "at": ["b"], "v": { "$bytes": "not base64" } }),
    ] {
        page.seq += 1;
        let good = json!({ "o": "put", "at": ["half"], "v": 1 });
        let refused = session.edit(&page.sends(vec![good, bad.clone()])).unwrap_err();
        assert!(["INVALID", "TOO_LARGE"].contains(&refused.code), "{bad}: {refused}");
        assert_eq!(document.value().unwrap(), before, "{bad}");
        let event = session.pump().unwrap().unwrap();
        session.ack(page.hears(&event).unwrap());
    }
    page.seq += 1;
    let deep = json!({ "o": "text", "at": ["m", "l", 1, "t"], "edits": [{ "from": 1, "to": 1, "insert": "y" }] });
    let rest = [
        json!({ "o": "ins", "at": ["m", "l", 0], "vs": ["first"] }),
        json!({ "o": "inc", "at": ["n"], "by": 2 }),
        json!({ "o": "del", "at": ["m", "l", 1] }),
    ];
    session.edit(&page.sends([vec![deep], rest.to_vec()].concat())).unwrap();
    let value = document.value().unwrap().to_json();
    assert_eq!((&value["m"]["l"], &value["n"]), (&json!(["first", { "t": "xy" }]), &json!(2)));
}
