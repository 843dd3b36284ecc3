//! What a page is told, as JSON that loses nothing: values are tagged, so that a page knows text from a string and a
//! counter from a number.

use foreshore::document::edit::Mark;
use foreshore::document::patch::{At, Patch, Step};
use foreshore::document::value::Value;
use foreshore::id::ChangeHash;
use serde_json::{Value as Json, json};

/// Patches, in order.
pub fn patches(patches: &[Patch]) -> Json {
    patches.iter().map(patch).collect()
}

fn patch(patch: &Patch) -> Json {
    let mut plain = patch.to_json();
    let tagged = match patch {
        Patch::Put { value, .. } => Some(("value", value.to_tagged_json())),
        Patch::Insert { values, .. } => Some(("values", values.iter().map(Value::to_tagged_json).collect())),
        _ => None,
    };
    if let Some((name, value)) = tagged {
        plain[name] = value;
    }
    plain
}

/// The marks of texts.
pub fn marked(texts: &[(At, Vec<Mark>)]) -> Json {
    let marks = |marks: &[Mark]| -> Json {
        let mark = |m: &Mark| json!({ "from": m.from, "to": m.to, "name": m.name, "value": m.value.to_json() });
        marks.iter().map(mark).collect()
    };
    texts.iter().map(|(at, of)| json!({ "at": way(at), "marks": marks(of) })).collect()
}

fn way(at: &[Step]) -> Json {
    at.iter()
        .map(|step| match step {
            Step::Key(key) => Json::from(key.as_str()),
            Step::Index(index) => Json::from(*index),
        })
        .collect()
}

/// Heads, as text.
pub fn heads(heads: &[ChangeHash]) -> Json {
    heads.iter().map(|hash| json!(hash.to_string())).collect()
}
