//! Templates: what a document is before anyone writes.
//!
//! A template is a list of layers. Each layer is one change that is byte-identical on every peer (see
//! [`layer`]), so the `text` under `body` that two peers edit offline is one and the same object and their
//! edits merge. Layers have no dependencies, so heads are equal in whatever order they are applied.
//!
//! **Invariants.** A layer sets root keys that no earlier layer has. A layer is never edited once shipped: the next
//! version of a program [extends](Template::extend) the template by another layer. Opening a document never writes:
//! layers are applied in memory and travel with the first change that depends on them.

use std::collections::BTreeSet;
use std::sync::Arc;

use automerge::transaction::CommitOptions;
use automerge::{ActorId, Automerge, Change, TextEncoding};

use super::edit::{EditError, MapDraft, Tx};
use super::layer::{self, LayerError};
use super::value::{Kind, Value};
use crate::id::ChangeHash;

/// Most layers of one template. Each costs 32 bytes in the first change of a document.
pub const MAX_LAYERS: usize = 64;

/// Why a template is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// An earlier layer has this root key. A shipped layer cannot be changed: use another key.
    #[error("the root key `{key}` is in an earlier layer; a layer adds new root keys only")]
    Taken {
        /// The key.
        key: String,
    },
    /// A layer is a map of root keys.
    #[error("a layer is a map of root keys, not {found}")]
    NotAMap {
        /// What it is.
        found: Kind,
    },
    /// A layer without any key.
    #[error("a layer has at least one root key")]
    Empty,
    /// More than [`MAX_LAYERS`].
    #[error("a template has at most {MAX_LAYERS} layers")]
    TooMany,
    /// A value is over its bound.
    #[error(transparent)]
    Value(#[from] EditError),
    /// The layer as one change is over its bound.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// A list of layers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Template {
    layers: Arc<[Layer]>,
}

/// One layer.
#[derive(Debug, Clone)]
struct Layer {
    hash: ChangeHash,
    bytes: Vec<u8>,
    keys: BTreeSet<String>,
}

impl Template {
    /// A template of one layer: a map from root keys to their first values. Lists, maps, texts and counters become
    /// objects that everyone shares.
    ///
    /// ```
    /// # use foreshore::document::{Template, Value};
    /// let todos = Template::new(&Value::from_json(&serde_json::json!({
    ///     "title": "", "body": {"$text": ""}, "votes": {"$counter": 0}, "items": [],
    /// }))?)?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(initial: &Value) -> Result<Self, TemplateError> {
        Self::default().extend(initial)
    }

    /// The template with one layer more, for the next version of a program.
    pub fn extend(&self, added: &Value) -> Result<Self, TemplateError> {
        let Value::Map(map) = added else { return Err(TemplateError::NotAMap { found: added.kind() }) };
        if map.is_empty() {
            return Err(TemplateError::Empty);
        }
        if self.layers.len() == MAX_LAYERS {
            return Err(TemplateError::TooMany);
        }
        if let Some(key) = map.keys().find(|key| self.layers.iter().any(|layer| layer.keys.contains(*key))) {
            return Err(TemplateError::Taken { key: key.clone() });
        }
        let bytes = layer::seal(&zero_actor_change(added)?)?;
        let hash = Change::from_bytes(bytes.clone()).map(|change| ChangeHash(change.hash().0));
        let hash = hash.expect("a layer that was sealed here is a change");
        let layer = Layer { hash, bytes, keys: map.keys().cloned().collect() };
        Ok(Self { layers: self.layers.iter().cloned().chain([layer]).collect() })
    }

    /// Both templates' layers, those of `other` last; `None` if it adds none.
    pub fn join(&self, other: &Template) -> Result<Option<Self>, TemplateError> {
        let known = |layer: &&Layer| !self.layers.iter().any(|own| own.hash == layer.hash);
        let added: Vec<&Layer> = other.layers.iter().filter(known).collect();
        if self.layers.len() + added.len() > MAX_LAYERS {
            return Err(TemplateError::TooMany);
        }
        let taken = |key: &&String| self.layers.iter().any(|own| own.keys.contains(*key));
        if let Some(key) = added.iter().flat_map(|layer| &layer.keys).find(taken) {
            return Err(TemplateError::Taken { key: key.clone() });
        }
        let joined = self.layers.iter().chain(added.iter().copied()).cloned();
        Ok((!added.is_empty()).then(|| Self { layers: joined.collect() }))
    }

    /// Number of layers.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there is no layer: documents begin empty.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Hash and chunk of each layer, oldest first.
    pub fn layers(&self) -> impl Iterator<Item = (ChangeHash, &[u8])> {
        self.layers.iter().map(|layer| (layer.hash, layer.bytes.as_slice()))
    }
}

/// The change that sets the root keys, in key order, on the zero actor.
fn zero_actor_change(value: &Value) -> Result<Vec<u8>, EditError> {
    let doc = Automerge::new_with_encoding(TextEncoding::Utf16CodeUnit).with_actor(ActorId::from(layer::ZERO_ACTOR));
    let mut tx =
        Tx::new(doc.into_transaction(None, None).expect("a transaction without a patch log has none to mismatch"));
    let mut root = MapDraft::root(&mut tx);
    if let Value::Map(map) = value {
        map.iter().try_for_each(|(key, item)| root.put(key, item.clone()))?;
    }
    let (doc, _, _) = tx.inner.commit_with(CommitOptions::default().with_time(0));
    Ok(doc.get_last_local_change().map(|change| change.raw_bytes().to_vec()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: serde_json::Value) -> Value {
        Value::from_json(&json).unwrap()
    }

    #[test]
    fn templates_are_byte_identical_and_frozen() {
        let build = || {
            Template::new(&value(
                serde_json::json!({"title": "", "body": {"$text": "hi"}, "n": {"$counter": 3}, "items": []}),
            ))
            .unwrap()
            .extend(&value(serde_json::json!({"meta": {"v": 2}})))
            .unwrap()
        };
        let hashes: Vec<String> = build().layers().map(|(hash, _)| hash.to_string()).collect();
        assert_eq!(hashes, build().layers().map(|(hash, _)| hash.to_string()).collect::<Vec<_>>());
        // Frozen: another hash here means that documents of shipped programs fall apart into two sets of objects.
        assert_eq!(hashes, FROZEN);
    }

    const FROZEN: [&str; 2] = [
        "e7789ed094b877d8c6b9ede3286b5ac9c34a054b05608a6ce1f01af2ef043bb3",
        "77c1623fbd63a06d0d424e97b6e24e733bf1ae116c8c03412152a863c8cd4d4b",
    ];

    #[test]
    fn a_layer_adds_new_root_keys_only() {
        let first = Template::new(&value(serde_json::json!({"a": 1}))).unwrap();
        let taken = first.extend(&value(serde_json::json!({"b": 1, "a": 2}))).unwrap_err();
        assert!(matches!(taken, TemplateError::Taken { key } if key == "a"));
        assert!(matches!(first.extend(&value(serde_json::json!({}))), Err(TemplateError::Empty)));
        assert!(matches!(first.extend(&value(serde_json::json!(3))), Err(TemplateError::NotAMap { .. })));
        let big = serde_json::json!({"c": (0..5000).map(|i| i * 7919 % 10007).collect::<Vec<_>>()});
        assert!(matches!(first.extend(&value(big)), Err(TemplateError::Layer(LayerError::TooLarge { .. }))));
    }
}
