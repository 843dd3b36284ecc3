//! The values of documents: plain data, no Automerge type in sight.
//!
//! A [`Value`] is a snapshot. Text and counters keep their kind in it, so that writing a value back creates what was read.
//!
//! **JSON.** [`Value::to_json`] gives what a person reads: text is a string, a counter a number. JSON has no bytes, times
//! or non-finite numbers, so these are tagged objects: `{"$bytes": "<base64>"}`, `{"$time": <ms since 1970>}`,
//! `{"$float": "NaN" | "inf" | "-inf"}`. [`Value::to_tagged_json`] loses nothing: it also tags `{"$text": "…"}`,
//! `{"$counter": n}` and `{"$uint": n}`. Bytes that are a [fenced register](super::fenced) are
//! `{"$fenced": {"token": n, "value": …}}` in both. [`Value::from_json`] reads either form. A map whose only key begins with `$` is
//! written with that `$` doubled, so no map is ever taken for a tag.
//!
//! **Equality and digest** are those of the canonical bytes: floats by their bits, maps in key order. Two replicas with
//! equal heads have equal digests.
//!
//! **Bound.** Objects nested deeper than [`MAX_DEPTH`] read as `Null`: a hostile document costs a level, not the stack.

use std::collections::BTreeMap;

use automerge::{ObjType, ROOT, ReadDoc, ScalarValue, ValueRef};
use base64::Engine as _;
use serde_json::Value as Json;

use super::fenced::{self, Fenced};
use crate::wire::Writer;

/// Deepest nesting that is read or written. JSON people write by hand stays under 20; serde_json's own limit is 128.
pub const MAX_DEPTH: usize = 100;

/// A snapshot of a document or of a part of it.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A floating-point number.
    F64(f64),
    /// A string that is replaced as a whole: the last writer wins. Text that people edit together is [`Value::Text`].
    Str(String),
    /// Bytes, replaced as a whole.
    Bytes(Vec<u8>),
    /// Milliseconds since 1970.
    Timestamp(i64),
    /// A counter: concurrent increments add up.
    Counter(i64),
    /// Collaborative text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// A map.
    Map(BTreeMap<String, Value>),
}

/// Why JSON is not a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// A tagged object such as `{"$bytes": …}` holds something else than its tag says.
    #[error("`{tag}` does not hold what its name says")]
    Tag {
        /// The tag.
        tag: String,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {max} levels")]
    TooDeep {
        /// The bound.
        max: usize,
    },
}

impl Value {
    /// A value that becomes collaborative text when it is written.
    pub fn text(text: impl Into<String>) -> Self {
        Value::Text(text.into())
    }

    /// An empty map.
    pub fn map() -> Self {
        Value::Map(BTreeMap::new())
    }

    /// The member of a map.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(map) => map.get(key),
            _ => None,
        }
    }

    /// The element of a list.
    pub fn at(&self, index: usize) -> Option<&Value> {
        match self {
            Value::List(list) => list.get(index),
            _ => None,
        }
    }

    /// The string of a string or text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(s) | Value::Text(s) => Some(s),
            _ => None,
        }
    }

    /// The number of an integer or counter, if it fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(n) | Value::Counter(n) => Some(*n),
            Value::Uint(n) => i64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// What kind of value this is, for messages.
    pub fn kind(&self) -> Kind {
        match self {
            Value::List(_) => Kind::List,
            Value::Map(_) => Kind::Map,
            Value::Text(_) => Kind::Text,
            Value::Counter(_) => Kind::Counter,
            _ => Kind::Scalar,
        }
    }

    /// Levels of nesting: 1 for a scalar. Stops counting past [`MAX_DEPTH`].
    pub(crate) fn depth(&self) -> usize {
        fn below<'a>(children: impl Iterator<Item = &'a Value>, left: usize) -> usize {
            match left {
                0 => 1,
                _ => 1 + children.map(|child| depth(child, left - 1)).max().unwrap_or(0),
            }
        }
        fn depth(value: &Value, left: usize) -> usize {
            match value {
                Value::List(list) => below(list.iter(), left),
                Value::Map(map) => below(map.values(), left),
                _ => 1,
            }
        }
        depth(self, MAX_DEPTH + 1)
    }

    /// A digest of the canonical bytes: equal exactly when the values are.
    pub fn digest(&self) -> [u8; 32] {
        blake3::derive_key("foreshore 1 value", &self.canonical())
    }

    fn canonical(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.write(&mut w);
        w.finish()
    }

    fn write(&self, w: &mut Writer) {
        match self {
            Value::Null => w.u8(0),
            Value::Bool(b) => w.u8(1).u8((*b).into()),
            Value::Int(n) => w.u8(2).zigzag(*n),
            Value::Uint(n) => w.u8(3).varint(*n),
            Value::F64(f) => w.u8(4).bytes(&f.to_bits().to_be_bytes()),
            Value::Str(s) => w.u8(5).bytes(s.as_bytes()),
            Value::Bytes(b) => w.u8(6).bytes(b),
            Value::Timestamp(ms) => w.u8(7).zigzag(*ms),
            Value::Counter(n) => w.u8(8).zigzag(*n),
            Value::Text(s) => w.u8(9).bytes(s.as_bytes()),
            Value::List(list) => {
                w.u8(10).varint(list.len() as u64);
                list.iter().for_each(|item| item.write(w));
                w
            }
            Value::Map(map) => {
                w.u8(11).varint(map.len() as u64);
                for (key, item) in map {
                    w.bytes(key.as_bytes());
                    item.write(w);
                }
                w
            }
        };
    }

    /// What a person reads. See the module's text for the mapping.
    pub fn to_json(&self) -> Json {
        self.json(false)
    }

    /// JSON that [`Value::from_json`] turns back into exactly this value.
    pub fn to_tagged_json(&self) -> Json {
        self.json(true)
    }

    fn json(&self, tagged: bool) -> Json {
        let tag = |name: &str, value: Json| Json::Object([(name.to_owned(), value)].into_iter().collect());
        match self {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(n) => Json::from(*n),
            Value::Uint(n) if tagged => tag("$uint", Json::from(*n)),
            Value::Uint(n) => Json::from(*n),
            Value::F64(f) => match serde_json::Number::from_f64(*f) {
                Some(number) => Json::Number(number),
                None => tag("$float", Json::from(f.to_string())),
            },
            Value::Str(s) => Json::from(s.as_str()),
            Value::Bytes(b) => match Fenced::to_json(b) {
                Some(register) => tag("$fenced", register),
                None => tag("$bytes", Json::from(base64::engine::general_purpose::STANDARD.encode(b))),
            },
            Value::Timestamp(ms) => tag("$time", Json::from(*ms)),
            Value::Counter(n) if tagged => tag("$counter", Json::from(*n)),
            Value::Counter(n) => Json::from(*n),
            Value::Text(s) if tagged => tag("$text", Json::from(s.as_str())),
            Value::Text(s) => Json::from(s.as_str()),
            Value::List(list) => Json::Array(list.iter().map(|item| item.json(tagged)).collect()),
            Value::Map(map) => {
                let lonely = map.len() == 1;
                let key = |k: &String| if lonely && k.starts_with('$') { format!("${k}") } else { k.clone() };
                Json::Object(map.iter().map(|(k, item)| (key(k), item.json(tagged))).collect())
            }
        }
    }

    /// A value from JSON, plain or tagged. Strings become [`Value::Str`]; whoever wants text says `{"$text": "…"}`, or
    /// reconciles the JSON into a place that holds text already.
    pub fn from_json(json: &Json) -> Result<Self, ValueError> {
        Self::parse(json, MAX_DEPTH)
    }

    fn parse(json: &Json, left: usize) -> Result<Self, ValueError> {
        let left = left.checked_sub(1).ok_or(ValueError::TooDeep { max: MAX_DEPTH })?;
        Ok(match json {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(int), _) => Value::Int(int),
                (_, Some(uint)) => Value::Uint(uint),
                _ => Value::F64(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(s) => Value::Str(s.clone()),
            Json::Array(items) => {
                Value::List(items.iter().map(|item| Self::parse(item, left)).collect::<Result<_, _>>()?)
            }
            Json::Object(members) => match members.iter().next() {
                Some((tag, inner)) if members.len() == 1 && tag.starts_with('$') => {
                    Self::parse_tagged(tag, inner, left)?
                }
                _ => Value::Map(
                    members
                        .iter()
                        .map(|(k, item)| Ok((k.clone(), Self::parse(item, left)?)))
                        .collect::<Result<_, ValueError>>()?,
                ),
            },
        })
    }

    fn parse_tagged(tag: &str, inner: &Json, left: usize) -> Result<Self, ValueError> {
        let value = match tag {
            "$bytes" => {
                inner.as_str().and_then(|s| base64::engine::general_purpose::STANDARD.decode(s).ok()).map(Value::Bytes)
            }
            "$fenced" => Fenced::from_json(inner).map(Value::Bytes),
            "$time" => inner.as_i64().map(Value::Timestamp),
            "$counter" => inner.as_i64().map(Value::Counter),
            "$uint" => inner.as_u64().map(Value::Uint),
            "$text" => inner.as_str().map(Value::text),
            // Of what is not a number there is one: its text says no more.
            "$float" => {
                let number = inner.as_str().and_then(|s| s.parse().ok());
                number.map(|n: f64| Value::F64(if n.is_nan() { f64::NAN } else { n }))
            }
            _ => {
                let key = if tag.starts_with("$$") { &tag[1..] } else { tag };
                Some(Value::Map([(key.to_owned(), Self::parse(inner, left)?)].into_iter().collect()))
            }
        };
        value.ok_or_else(|| ValueError::Tag { tag: tag.to_owned() })
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b))
            | (Value::Timestamp(a), Value::Timestamp(b))
            | (Value::Counter(a), Value::Counter(b)) => a == b,
            (Value::Uint(a), Value::Uint(b)) => a == b,
            (Value::F64(a), Value::F64(b)) => a.to_bits() == b.to_bits(),
            (Value::Str(a), Value::Str(b)) | (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// Kinds of places in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// Anything that is replaced as a whole.
    Scalar,
    /// A counter.
    Counter,
    /// Collaborative text.
    Text,
    /// A list.
    List,
    /// A map.
    Map,
    /// A fenced register, which is a plain value of its own form; see [`crate::document::fenced`].
    Fenced,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Scalar => "a plain value",
            Kind::Counter => "a counter",
            Kind::Text => "text",
            Kind::List => "a list",
            Kind::Map => "a map",
            Kind::Fenced => "a fenced register",
        })
    }
}

macro_rules! value_from {
    ($($type:ty => |$x:ident| $make:expr),+ $(,)?) => {
        $(impl From<$type> for Value {
            fn from($x: $type) -> Self {
                $make
            }
        })+
    };
}

value_from! {
    () => |_unit| Value::Null,
    bool => |b| Value::Bool(b),
    i32 => |n| Value::Int(n.into()),
    i64 => |n| Value::Int(n),
    u32 => |n| Value::Uint(n.into()),
    u64 => |n| Value::Uint(n),
    f64 => |f| Value::F64(f),
    &str => |s| Value::Str(s.to_owned()),
    String => |s| Value::Str(s),
    Vec<u8> => |b| Value::Bytes(b),
    Vec<Value> => |list| Value::List(list),
    BTreeMap<String, Value> => |map| Value::Map(map),
}

/// The value of the whole document at `heads`, or as it stands.
pub(super) fn read_root<D: ReadDoc>(doc: &D, heads: Option<&[automerge::ChangeHash]>) -> Value {
    read_object(doc, &ROOT, ObjType::Map, heads, MAX_DEPTH)
}

/// The value of one object.
pub(super) fn read_object<D: ReadDoc>(
    doc: &D,
    obj: &automerge::ObjId,
    kind: ObjType,
    heads: Option<&[automerge::ChangeHash]>,
    left: usize,
) -> Value {
    let Some(left) = left.checked_sub(1) else { return Value::Null };
    match kind {
        ObjType::Text => {
            let text = match heads {
                Some(heads) => doc.text_at(obj, heads),
                None => doc.text(obj),
            };
            Value::Text(text.unwrap_or_default())
        }
        ObjType::List => {
            let items = match heads {
                Some(heads) => doc.list_range_at(obj, .., heads),
                None => doc.list_range(obj, ..),
            };
            Value::List(items.map(|item| read_item(doc, &item.value, || item.id(), heads, left)).collect())
        }
        ObjType::Map | ObjType::Table => {
            let items = match heads {
                Some(heads) => doc.map_range_at(obj, .., heads),
                None => doc.map_range(obj, ..),
            };
            let read = |item: automerge::iter::MapRangeItem<'_>| {
                let value = if item.conflict { fenced::shown(doc, obj, &item.key, heads) } else { None };
                let value = value.unwrap_or_else(|| read_item(doc, &item.value, || item.id(), heads, left));
                (item.key.to_string(), value)
            };
            Value::Map(items.map(read).collect())
        }
    }
}

fn read_item<D: ReadDoc>(
    doc: &D,
    value: &ValueRef<'_>,
    id: impl FnOnce() -> automerge::ObjId,
    heads: Option<&[automerge::ChangeHash]>,
    left: usize,
) -> Value {
    match value.clone().into_value() {
        automerge::Value::Object(kind) => read_object(doc, &id(), kind, heads, left),
        automerge::Value::Scalar(scalar) => from_scalar(&scalar),
    }
}

/// A scalar as our own value. A scalar of a later Automerge reads as its bytes.
pub(super) fn from_scalar(scalar: &ScalarValue) -> Value {
    match scalar {
        ScalarValue::Null => Value::Null,
        ScalarValue::Boolean(b) => Value::Bool(*b),
        ScalarValue::Int(n) => Value::Int(*n),
        ScalarValue::Uint(n) => Value::Uint(*n),
        ScalarValue::F64(f) => Value::F64(*f),
        ScalarValue::Str(s) => Value::Str(s.to_string()),
        ScalarValue::Bytes(b) => Value::Bytes(b.clone()),
        ScalarValue::Timestamp(ms) => Value::Timestamp(*ms),
        ScalarValue::Counter(counter) => Value::Counter(counter.into()),
        ScalarValue::Unknown { bytes, .. } => Value::Bytes(bytes.clone()),
    }
}

/// A value that fits one operation; `None` for text, lists and maps.
pub(super) fn to_scalar(value: &Value) -> Option<ScalarValue> {
    Some(match value {
        Value::Null => ScalarValue::Null,
        Value::Bool(b) => ScalarValue::Boolean(*b),
        Value::Int(n) => ScalarValue::Int(*n),
        Value::Uint(n) => ScalarValue::Uint(*n),
        Value::F64(f) => ScalarValue::F64(*f),
        Value::Str(s) => ScalarValue::Str(s.as_str().into()),
        Value::Bytes(b) => ScalarValue::Bytes(b.clone()),
        Value::Timestamp(ms) => ScalarValue::Timestamp(*ms),
        Value::Counter(n) => ScalarValue::counter(*n),
        Value::Text(_) | Value::List(_) | Value::Map(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::Uint),
            any::<f64>().prop_map(Value::F64),
            "[a-z$😀]{0,4}".prop_map(Value::Str),
            "[a-z$😀]{0,4}".prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..5).prop_map(Value::Bytes),
            any::<i64>().prop_map(Value::Timestamp),
            any::<i64>().prop_map(Value::Counter),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                proptest::collection::btree_map(r"\${0,2}[a-c]{0,2}|\$text|\$time", inner, 0..4).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn tagged_json_loses_nothing(value in any_value()) {
            let json = value.to_tagged_json();
            let text = serde_json::to_string(&json).unwrap();
            let back = Value::from_json(&serde_json::from_str(&text).unwrap()).unwrap();
            prop_assert_eq!(back.digest() == value.digest(), back == value);
            // serde_json reads some floats one unit off; compare what it read, not what it printed.
            let direct = Value::from_json(&json).unwrap();
            prop_assert!(direct == value || has_nan(&value), "{:?} {:?}", direct, value);
        }

        #[test]
        fn digests_are_equal_exactly_when_values_are(a in any_value(), b in any_value()) {
            prop_assert_eq!(a.digest() == b.digest(), a == b);
            prop_assert_eq!(a.digest(), a.clone().digest());
        }
    }

    fn has_nan(value: &Value) -> bool {
        match value {
            Value::F64(f) => f.is_nan(),
            Value::List(list) => list.iter().any(has_nan),
            Value::Map(map) => map.values().any(has_nan),
            _ => false,
        }
    }

    #[test]
    fn plain_json_is_what_a_person_reads() {
        let value = Value::Map(
            [
                ("body".to_owned(), Value::text("hi")),
                ("votes".to_owned(), Value::Counter(3)),
                ("raw".to_owned(), Value::Bytes(vec![1, 2, 3])),
                ("when".to_owned(), Value::Timestamp(17)),
            ]
            .into(),
        );
        let expected = serde_json::json!({"body": "hi", "votes": 3, "raw": {"$bytes": "AQID"}, "when": {"$time": 17}});
        assert_eq!(value.to_json(), expected);
    }

    #[test]
    fn a_tag_that_holds_something_else_is_refused() {
        let refused = |json: Json| Value::from_json(&json).unwrap_err();
        assert_eq!(refused(serde_json::json!({"$bytes": 1})), ValueError::Tag { tag: "$bytes".into() });
        assert_eq!(refused(serde_json::json!({"$time": "now"})), ValueError::Tag { tag: "$time".into() });
        let mut deep = Json::Null;
        for _ in 0..MAX_DEPTH + 1 {
            deep = Json::Array(vec![deep]);
        }
        assert_eq!(refused(deep), ValueError::TooDeep { max: MAX_DEPTH });
    }
}
