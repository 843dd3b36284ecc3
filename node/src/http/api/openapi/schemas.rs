//! Shapes of what is sent and answered.

use serde_json::{Map, Value, json};

use super::super::problem::CODES;
use super::refer;

fn text() -> Value {
    json!({ "type": "string" })
}

fn number() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn up_to(most: u64) -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": most })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn hash() -> Value {
    json!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
}

fn many(items: &Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// What is answered: all of these but the ones that end in `?`.
fn answer(fields: &[(&str, Value)]) -> Value {
    let properties: Map<_, _> =
        fields.iter().map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema.clone())).collect();
    let required: Vec<_> = fields.iter().filter(|(name, _)| !name.ends_with('?')).map(|(name, _)| *name).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// What is sent: nothing besides.
fn sent(fields: &[(&str, Value)]) -> Value {
    let mut schema = answer(fields);
    schema["additionalProperties"] = json!(false);
    schema
}

/// Text that is a path, behind what it begins with. What a pattern does not say: no segment is `.` or `..`, the text is in
/// Unicode's form NFC, and it has at most 512 bytes.
fn path_like(begins: &str, format: &str) -> Value {
    let segment = "[^/\\u0000-\\u001f\\u007f-\\u009f]+";
    json!({ "type": "string", "format": format, "maxLength": 512, "pattern": format!("^{begins}{segment}(/{segment})*$") })
}

/// A path.
pub(super) fn path() -> Value {
    path_like("/", "foreshore-path")
}

/// A path, or `/` for everything.
pub(super) fn prefix() -> Value {
    let mut schema = path_like("/", "foreshore-prefix");
    let pattern =
        schema["pattern"].as_str().unwrap_or_default().trim_start_matches('^').trim_end_matches('$').to_owned();
    schema["pattern"] = format!("^(/|{pattern})$").into();
    schema
}

pub(super) fn parameters() -> Value {
    let query = |name: &str, about: &str, schema: Value| json!({ "name": name, "in": "query", "description": about, "schema": schema });
    let header = |name: &str, about: &str, schema: Value| json!({ "name": name, "in": "header", "description": about, "schema": schema });
    let tags = json!({ "type": "string", "format": "foreshore-entity-tags" });
    let about = "The state's path without its first slash. Slashes may be escaped and need not be.";
    json!({
        "space": query("space", "A space's name or id; else the token's, or `default`, or the only one.", text()),
        "path": { "name": "path", "in": "path", "required": true, "description": about,
                  "schema": path_like("/?", "foreshore-path-tail") },
        "prefix": query("prefix", "Everything under this path; `/` where it is not said.",
                        prefix()),
        "limit": query("limit", "How many; 100 where it is not said.",
                       json!({ "type": "integer", "minimum": 1, "maximum": super::super::MAX_LIST })),
        "bookmark": header("Foreshore-Bookmark", "What was seen: waited for before anything else.",
                           json!({ "type": "string", "format": "foreshore-bookmark" })),
        "if_match": header("If-Match", "Only where the document still has one of these entity tags, or, for `*`, is there.",
                           tags.clone()),
        "if_none_match": header("If-None-Match", "Not again what has one of these entity tags.", tags),
        "if_none_match_any": header("If-None-Match", "`*`: only where no document is.",
                                    json!({ "type": "string", "enum": ["*"] })),
        "if_match_version": header("If-Match", "Only where the node has this version: its entity tag, or `*`.",
                                   json!({ "type": "string", "format": "foreshore-version-tag" })),
        "for_ms": query("for_ms", "The stream ends after so many milliseconds, if not before.",
                        json!({ "type": "integer", "minimum": 0, "maximum": super::super::event::MAX_LIFE_MS })),
        "last_event_id": header("Last-Event-ID", "The id of the last event that was heard.", text()),
    })
}

pub(super) fn headers() -> Value {
    json!({
        "ETag": { "description": "A document's heads, or a node's version.", "required": true,
                  "schema": { "type": "string", "pattern": "^\"[0-9a-f.]+\"$" } },
        "Foreshore-Bookmark": { "description": "Stands for what was seen or written, and for what was sent along.",
                                "required": true, "schema": { "type": "string", "pattern": "^fsb1[0-9a-z]+$" } },
    })
}

pub(super) fn schemas() -> Value {
    let mut all = Map::new();
    for (name, schema) in general().into_iter().chain(documents()).chain(transient()).chain(strong()) {
        all.insert(name.into(), schema);
    }
    all.into()
}

type Schemas = Vec<(&'static str, Value)>;

fn general() -> Schemas {
    let codes: Vec<&str> = CODES.iter().map(|(code, ..)| *code).collect();
    let found = answer(&[
        ("kind", json!({ "type": "string", "enum": super::KINDS.map(|(name, _)| name) })),
        ("path", text()),
        ("value", json!({ "description": "`null`: nothing is there, or it could not be read." })),
        ("problem?", refer("Problem")),
    ]);
    vec![
        ("Any", json!({ "description": "Any JSON." })),
        ("Object", json!({ "type": "object", "description": "A document." })),
        (
            "Problem",
            answer(&[
                ("type", json!({ "type": "string", "format": "uri-reference" })),
                ("title", text()),
                ("status", json!({ "type": "integer", "minimum": 400, "maximum": 599 })),
                ("code", json!({ "type": "string", "enum": codes, "description": "For programs." })),
                ("detail", json!({ "type": "string", "description": "What is wrong." })),
                ("hint?", json!({ "type": "string", "description": "What to do about it." })),
            ]),
        ),
        ("Entrance", answer(&[("version", text()), ("openapi", text()), ("docs", text())])),
        ("Found", found),
        ("State", answer(&[("results", many(&refer("Found"))), ("bookmark", text())])),
        (
            "Bytes",
            json!({
                "description": "Bytes as text, or, where they are none, in base64.",
                "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false,
                "properties": { "text": text(), "base64": { "type": "string", "contentEncoding": "base64", "format": "byte" } },
            }),
        ),
    ]
}

fn documents() -> Schemas {
    let operation = |names: &[&str], more: &[(&str, Value)]| {
        let op = json!({ "type": "string", "enum": names });
        let pointer = json!({ "type": "string", "format": "json-pointer" });
        let mut schema = answer(&[&[("op", op), ("path", pointer)], more].concat());
        schema["title"] = json!(names.join(", "));
        schema
    };
    let pointer = json!({ "type": "string", "format": "json-pointer" });
    vec![
        ("MergePatch", json!({ "type": "object", "description": "Keys that are `null` go, others come or change." })),
        (
            "JsonPatch",
            json!({ "type": "array", "items": { "oneOf": [
                operation(&["add", "replace", "test"], &[("value", json!(true))]),
                operation(&["remove"], &[]),
                operation(&["move", "copy"], &[("from", pointer)]),
            ] } }),
        ),
        (
            "Written",
            answer(&[
                ("path", text()),
                ("document", json!({ "type": "string", "description": "Its id." })),
                ("heads", many(&hash())),
                ("changed", json!({ "type": "boolean", "description": "`false`: it was that way already." })),
                ("bookmark", text()),
            ]),
        ),
        ("Removed", answer(&[("path", text()), ("deleted", flag()), ("bookmark", text())])),
        (
            "Listed",
            answer(&[
                ("path", text()),
                ("document", text()),
                ("heads", many(&hash())),
                ("bytes", number()),
                ("changed_at", json!({ "type": "integer", "description": "Milliseconds since 1970." })),
            ]),
        ),
        ("Listing", answer(&[("items", many(&refer("Listed"))), ("next?", text())])),
        (
            "Revision",
            answer(&[
                ("hash", hash()),
                ("actor", text()),
                ("seq", number()),
                (
                    "time",
                    json!({ "type": "integer", "description": "Milliseconds since 1970, by its author's clock; 0: none." }),
                ),
                ("ops", number()),
                ("message?", text()),
            ]),
        ),
        ("History", answer(&[("items", many(&refer("Revision")))])),
    ]
}

fn transient() -> Schemas {
    vec![
        (
            "SoftEntry",
            answer(&[
                ("path", text()),
                ("owner", json!({ "type": "string", "description": "The peer whose entry it is." })),
                ("device", text()),
                ("mine", flag()),
                ("away", json!({ "type": "boolean", "description": "Whether its owner has missed a renewal." })),
                ("expires_ms", number()),
                ("value", json!(true)),
            ]),
        ),
        ("SoftEntries", answer(&[("items", many(&refer("SoftEntry")))])),
        ("SoftSet", answer(&[("path", text()), ("owner", text())])),
        ("SoftRemoved", answer(&[("path", text()), ("deleted", flag())])),
        ("Published", answer(&[("path", text()), ("seq", number()), ("peers", number())])),
    ]
}

fn strong() -> Schemas {
    let life = json!({ "oneOf": [
        { "type": "string", "enum": ["persistent", "ephemeral", "container"] },
        answer(&[("ttl_millis", number())]),
    ] });
    let stat = answer(&[
        ("version", number()),
        ("cversion", json!({ "type": "integer" })),
        ("aversion", number()),
        ("czxid", number()),
        ("mzxid", number()),
        ("pzxid", number()),
        ("ctime", number()),
        ("mtime", number()),
        ("data_length", number()),
        ("num_children", number()),
        ("owner?", text()),
        ("life", life),
    ]);
    let waits = [
        (
            "wait_ms?",
            json!({ "type": "integer", "minimum": 0, "maximum": 600_000, "description": "How long to wait for it; 0, which is not at all, where it is not said." }),
        ),
        (
            "ttl_ms?",
            json!({ "type": "integer", "minimum": 0, "maximum": 600_000, "description": "How long it outlives a peer that is not heard of; 10,000 where it is not said. It is brought within what the voters allow." }),
        ),
    ];
    let ttl = json!({ "type": "integer", "minimum": 1, "maximum": foreshore::coord::stat::MAX_NODE_TTL_MS,
                      "description": "How long it stays without children and changes." });
    let mut create =
        sent(&[("data?", refer("Bytes")), ("sequential?", flag()), ("container?", flag()), ("ttl_ms?", ttl)]);
    create["not"] = json!({ "properties": { "container": { "const": true } }, "required": ["container", "ttl_ms"] });
    let holder = answer(&[("session", text()), ("shared", flag()), ("token", number())]);
    let item = ("item", number());
    vec![
        ("Stat", stat),
        ("Node", answer(&[("path", text()), ("data?", refer("Bytes")), ("stat?", refer("Stat"))])),
        ("SetNode", sent(&[("data", refer("Bytes"))])),
        ("CreateNode", create),
        ("HoldNode", sent(&[("data?", refer("Bytes")), ("sequential?", flag())])),
        ("Names", answer(&[("items", many(&text()))])),
        (
            "Grant",
            answer(&[
                ("path", text()),
                ("token", json!({ "type": "integer", "minimum": 0, "description": "The fencing token, below 2⁵³." })),
                (
                    "lease_ms",
                    json!({ "type": "integer", "minimum": 0, "description": "For how long it is certainly held if nothing more is heard." }),
                ),
                ("why?", json!({ "type": "string", "description": "Of `lost`: why." })),
            ]),
        ),
        ("Lock", answer(&[("path", text()), ("holders", many(&holder)), ("waiting", number())])),
        (
            "HoldLock",
            sent(
                &[&[("shared?", flag()), ("delay_ms?", up_to(super::super::locks::MAX_DELAY_MS))], waits.as_slice()]
                    .concat(),
            ),
        ),
        ("Campaign", sent(&[&[("value?", text())], waits.as_slice()].concat())),
        (
            "Leader",
            answer(&[
                ("path", text()),
                ("known", flag()),
                ("session?", text()),
                ("token?", number()),
                ("value?", refer("Bytes")),
            ]),
        ),
        ("Queue", answer(&[("path", text()), ("ready", number()), ("claimed", number()), ("dead", many(&number()))])),
        (
            "PutItem",
            sent(&[
                ("body", refer("Bytes")),
                (
                    "attempts?",
                    json!({ "type": "integer", "minimum": 1, "maximum": foreshore::coord::queue::MAX_ATTEMPTS, "description": "How often it is handed out before it is put aside; 5 where it is not said." }),
                ),
            ]),
        ),
        ("Queued", answer(&[("path", text()), item.clone()])),
        (
            "Claim",
            sent(&[(
                "visibility_ms?",
                json!({ "type": "integer", "minimum": 1, "maximum": foreshore::coord::queue::MAX_VISIBILITY_MS, "description": "For how long; 30,000 where it is not said." }),
            )]),
        ),
        (
            "Claimed",
            answer(&[("path", text()), item, ("token", number()), ("attempt", number()), ("body", refer("Bytes"))]),
        ),
    ]
}
