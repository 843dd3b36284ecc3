//! What a page is told, as JSON that loses nothing: values are tagged, so that a page knows text from a string and a
//! counter from a number.

use foreshore::document::patch::Patch;
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

/// Heads, as text.
pub fn heads(heads: &[ChangeHash]) -> Json {
    heads.iter().map(|hash| json!(hash.to_string())).collect()
}
