//! The description of the door, OpenAPI 3.1, and where it is to be had: `/openapi.json`, and for people `/docs`.
//!
//! It is kept by hand, an entry an operation. A test asks the router whether it is complete and says nothing that is not there;
//! Schemathesis compares it with what is answered.

mod docs;
mod schemas;

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use super::Api;
use super::live::{KINDS, MAX_OF_KIND};
use super::problem::CODES;

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const EVENTS: &str = "text/event-stream";

/// The page loads nothing, from nowhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Where people and generators read on. None of it tells anything of what is stored here.
pub(super) fn router() -> Router<Api> {
    Router::new().route("/openapi.json", get(|| async { Json(document()) })).route("/docs", get(page))
}

async fn page() -> Response {
    let mut response = Html(docs::page(&document(), &CODES)).into_response();
    for (name, value) in [(header::CONTENT_SECURITY_POLICY, POLICY), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Answers `/v1`: what this is, and where it is described.
pub(super) async fn entrance() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION"), "openapi": "/openapi.json", "docs": "/docs" }))
}

/// One operation.
struct Op {
    json: Value,
    parameters: Vec<Value>,
}

impl Op {
    fn new(id: &str, tag: &str, summary: &str) -> Self {
        let mut responses = Map::new();
        for (range, what) in [("4XX", "Refused: what is wrong, and what to do."), ("5XX", "Not now, or not known.")] {
            let content = json!({ PROBLEM: { "schema": refer("Problem") } });
            responses.insert(range.into(), json!({ "description": what, "content": content }));
        }
        let json = json!({ "operationId": id, "tags": [tag], "summary": summary, "responses": responses });
        Self { json, parameters: vec![refer_parameter("space")] }
    }

    fn about(mut self, text: &str) -> Self {
        self.json["description"] = text.into();
        self
    }

    fn shared(mut self, names: &[&str]) -> Self {
        self.parameters.extend(names.iter().map(|name| refer_parameter(name)));
        self
    }

    fn query(mut self, name: &str, about: &str, schema: Value) -> Self {
        self.parameters.push(json!({ "name": name, "in": "query", "description": about, "schema": schema }));
        self
    }

    fn required(mut self, name: &str, about: &str, schema: Value) -> Self {
        self.parameters
            .push(json!({ "name": name, "in": "query", "required": true, "description": about, "schema": schema }));
        self
    }

    /// A body, in each of these types.
    fn body(mut self, kinds: &[(&str, Value)]) -> Self {
        let content: Map<_, _> =
            kinds.iter().map(|(kind, schema)| ((*kind).to_owned(), json!({ "schema": schema }))).collect();
        self.json["requestBody"] = json!({ "required": true, "content": content });
        self
    }

    fn json_body(self, name: &str) -> Self {
        self.body(&[(JSON, refer(name))])
    }

    fn answer(mut self, status: &str, about: &str, kind: &str, schema: Value) -> Self {
        let content = json!({ kind: { "schema": schema } });
        self.json["responses"][status] = json!({ "description": about, "content": content });
        self
    }

    fn ok(self, about: &str, name: &str) -> Self {
        self.answer("200", about, JSON, refer(name))
    }

    /// A stream of events, each with JSON of this shape.
    fn events(self, about: &str, names: &[&str], shape: &str) -> Self {
        let data = json!({ "type": "string", "contentMediaType": JSON, "contentSchema": refer(shape) });
        let properties = json!({ "event": { "enum": names }, "data": data, "id": { "type": "string" } });
        let schema = json!({ "type": "object", "properties": properties, "required": ["event", "data"] });
        self.answer("200", about, EVENTS, schema)
    }

    /// Headers of an answer.
    fn with(mut self, statuses: &[&str], headers: &[&str]) -> Self {
        for status in statuses {
            for header in headers {
                let reference = json!({ "$ref": format!("#/components/headers/{header}") });
                self.json["responses"][status]["headers"][header] = reference;
            }
        }
        self
    }

    fn build(mut self) -> Value {
        self.json["parameters"] = self.parameters.into();
        self.json
    }
}

fn refer(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn refer_parameter(name: &str) -> Value {
    json!({ "$ref": format!("#/components/parameters/{name}") })
}

/// The whole document.
pub(super) fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {
            "title": "Foreshore",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Documents, soft state, topics and strong state of one peer, as JSON over HTTP",
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, {}],
        "tags": TAGS.map(|(name, about)| json!({ "name": name, "description": about })),
        "paths": paths(),
        "components": {
            "securitySchemes": { "token": {
                "type": "http", "scheme": "bearer",
                "description": "A token of `foreshore token create`: a path prefix of one space, to read or to write, until \
                                a time. From the peer's own machine none is needed where the door is open so (`local`).",
            } },
            "parameters": schemas::parameters(),
            "headers": schemas::headers(),
            "schemas": schemas::schemas(),
        },
    })
}

const ABOUT: &str = "A path of state stands at the end of an address as it is, `/v1/documents/lists/food`; its slashes may be \
                     escaped and need not be. Each answer to a read or write of documents has the header \
                     `Foreshore-Bookmark`: sent along with the next request, to whichever peer, it makes sure that what was \
                     seen is seen there. Refusals are problems (RFC 9457) with a `code` for programs and a `hint` for people.";

const TAGS: [(&str, &str); 8] = [
    ("documents", "Always readable and writable; merged with what others write."),
    ("soft state", "Alive or gone: entries of this peer live for as long as it does."),
    ("topics", "Heard or not: at most once, and kept nowhere."),
    ("tree", "Strong state: nodes with versions, decided by the group of voters."),
    ("locks", "Held by a request for as long as its answer lasts, with a fencing token."),
    ("queues", "Items that are claimed for a while, and acknowledged or given back: at least once."),
    ("several", "Several paths of different kinds at once, and kept up to date on one stream."),
    ("door", "What this is."),
];

fn merged(operations: Vec<(&str, Op)>) -> Value {
    operations.into_iter().map(|(method, op)| (method.to_owned(), op.build())).collect::<Map<_, _>>().into()
}

fn paths() -> Value {
    let mut paths = Map::new();
    for (path, operations) in documents().into_iter().chain(transient()).chain(strong()).chain(several()) {
        paths.insert(path.into(), merged(operations));
    }
    paths.into()
}

type Paths = Vec<(&'static str, Vec<(&'static str, Op)>)>;

fn documents() -> Paths {
    let bodies =
        [("application/merge-patch+json", refer("MergePatch")), ("application/json-patch+json", refer("JsonPatch"))];
    let both = ["ETag", "Foreshore-Bookmark"];
    let read = Op::new("readDocument", "documents", "Read a document")
        .about(
            "The body is the document itself. With `Foreshore-Bookmark`, only a state that covers it, waited for until \
                `wait_ms` are over; then the problem is `not_yet`.",
        )
        .shared(&["path", "bookmark", "if_none_match"])
        .query(
            "at",
            "A JSON Pointer (RFC 6901) to a part of it.",
            json!({ "type": "string", "format": "json-pointer" }),
        )
        .query("tagged", "Whether values say of what kind they are.", json!({ "type": "boolean" }))
        .query(
            "heads",
            "The document as it was at these heads, as an entity tag names them.",
            json!({ "type": "string", "pattern": "^[0-9a-f]{64}(\\.[0-9a-f]{64})*$" }),
        )
        .query(
            "wait_ms",
            "How long to wait for what the bookmark stands for; 10,000 where it is not said.",
            json!({ "type": "integer", "minimum": 0, "maximum": super::MAX_WAIT_MS }),
        )
        .answer("200", "The document, or the part.", JSON, json!(true))
        .with(&["200"], &both);
    let mut read = read;
    read.json["responses"]["304"] = json!({ "description": "It is what `If-None-Match` names." });
    let write = |op: Op, status: &[&str]| {
        let op = op.shared(&["path", "bookmark", "if_match", "if_none_match_any"]);
        status
            .iter()
            .fold(op, |op, status| op.answer(status, "It is stored.", JSON, refer("Written")))
            .with(status, &both)
    };
    let put = write(
        Op::new("putDocument", "documents", "Write a whole document")
            .about("The document becomes equal to the body by the smallest edits; where none is, it is made.")
            .body(&[(JSON, refer("Object"))]),
        &["200", "201"],
    );
    let patch = write(
        Op::new("patchDocument", "documents", "Edit a document")
            .about("JSON Merge Patch (RFC 7396) or JSON Patch (RFC 6902), applied as a whole or not at all.")
            .body(&bodies),
        &["200"],
    );
    let delete = Op::new("deleteDocument", "documents", "Delete a document")
        .about("Edits that others make without knowing of it are set aside.")
        .shared(&["path", "bookmark", "if_match"])
        .ok("It is gone.", "Removed")
        .with(&["200"], &["Foreshore-Bookmark"]);
    let list = Op::new("listDocuments", "documents", "List documents, in pages")
        .shared(&["prefix", "limit"])
        .query("after", "Where to go on: what `next` said.", schemas::path())
        .ok("A page.", "Listing");
    let history = Op::new("readHistory", "documents", "The changes of a document, newest first")
        .shared(&["path", "limit"])
        .ok("The changes.", "History");
    vec![
        ("/v1/documents", vec![("get", list)]),
        ("/v1/documents/{path}", vec![("get", read), ("put", put), ("patch", patch), ("delete", delete)]),
        ("/v1/history/{path}", vec![("get", history)]),
    ]
}

fn transient() -> Paths {
    let soft = |id, summary| Op::new(id, "soft state", summary);
    vec![
        (
            "/v1/soft",
            vec![(
                "get",
                soft("listSoft", "Entries under a prefix").shared(&["prefix"]).ok("The entries.", "SoftEntries"),
            )],
        ),
        (
            "/v1/soft/{path}",
            vec![
                (
                    "get",
                    soft("readSoft", "Entries at a path, one an owner")
                        .shared(&["path"])
                        .ok("The entries.", "SoftEntries"),
                ),
                (
                    "put",
                    soft("setSoft", "Set this peer's entry")
                        .about("It is gone when this peer is, at most `soft_ttl` after its last sign of life.")
                        .shared(&["path"])
                        .body(&[(JSON, refer("Any"))])
                        .ok("It is set.", "SoftSet"),
                ),
                (
                    "delete",
                    soft("deleteSoft", "Delete this peer's entry").shared(&["path"]).ok("It is gone.", "SoftRemoved"),
                ),
            ],
        ),
        (
            "/v1/topics/{path}",
            vec![(
                "post",
                Op::new("publish", "topics", "Publish a signal")
                    .about("Who subscribes does so with `topic` in `/v1/live`.")
                    .shared(&["path"])
                    .body(&[(JSON, refer("Any"))])
                    .answer("202", "It is on its way.", JSON, refer("Published")),
            )],
        ),
    ]
}

fn strong() -> Paths {
    let tree = |id, summary| Op::new(id, "tree", summary);
    let stale = |op: Op| {
        op.query(
            "stale",
            "Whether what the peer's voter has will do; else everything acknowledged before is in it.",
            json!({ "type": "boolean" }),
        )
    };
    let lock = |id, summary| Op::new(id, "locks", summary).shared(&["path"]);
    let queue = |id, summary| Op::new(id, "queues", summary).shared(&["path"]);
    let held = "It is held: events `held` (with the fencing token), `renewed`, `lost`. When the stream ends, it is given back.";
    let holding = ["held", "renewed", "lost", "problem"];
    let number = |most: u64| json!({ "type": "integer", "minimum": 0, "maximum": most });
    vec![
        (
            "/v1/tree/{path}",
            vec![
                ("get", stale(tree("readNode", "Read a node").shared(&["path"])).ok("The node.", "Node").with(&["200"], &["ETag"])),
                (
                    "put",
                    tree("setNode", "Set a node's data").shared(&["path", "if_match_version"]).json_body("SetNode")
                        .ok("It is set.", "Node").with(&["200"], &["ETag"]),
                ),
                (
                    "post",
                    tree("createNode", "Create a node").shared(&["path"]).json_body("CreateNode")
                        .answer("201", "It is there.", JSON, refer("Node")),
                ),
                ("delete", tree("deleteNode", "Delete a node").shared(&["path", "if_match_version"]).ok("It is gone.", "Node")),
            ],
        ),
        ("/v1/children", vec![("get", stale(tree("listTop", "Names of the nodes at the top")).ok("The names.", "Names"))]),
        (
            "/v1/children/{path}",
            vec![("get", stale(tree("listChildren", "Names of a node's children").shared(&["path"])).ok("The names.", "Names"))],
        ),
        (
            "/v1/ephemeral/{path}",
            vec![(
                "post",
                tree("holdNode", "Create a node for as long as the answer lasts").shared(&["path", "for_ms"]).json_body("HoldNode")
                    .events("The node is there. When the stream ends, it goes.", &["held", "problem"], "Any"),
            )],
        ),
        (
            "/v1/locks/{path}",
            vec![
                ("get", lock("readLock", "Who holds a lock").ok("The holders.", "Lock")),
                ("post", lock("holdLock", "Hold a lock for as long as the answer lasts").shared(&["for_ms"]).json_body("HoldLock").events(held, &holding, "Grant")),
            ],
        ),
        (
            "/v1/elections/{path}",
            vec![
                ("get", lock("readLeader", "Who leads an election").ok("The leader, if any.", "Leader")),
                ("post", lock("lead", "Lead for as long as the answer lasts").shared(&["for_ms"]).json_body("Campaign").events(held, &holding, "Grant")),
            ],
        ),
        (
            "/v1/queues/{path}",
            vec![
                ("get", queue("readQueue", "How a queue stands").ok("Its figures.", "Queue")),
                (
                    "post",
                    queue("putItem", "Put an item into a queue").json_body("PutItem")
                        .answer("201", "It is in the queue.", JSON, refer("Queued")),
                ),
            ],
        ),
        (
            "/v1/claims/{path}",
            vec![
                (
                    "post",
                    queue("claimItem", "Claim an item for a while")
                        .about("Where none is ready, the problem is `not_found`. What is not acknowledged in time is handed out again.")
                        .json_body("Claim").ok("The item, and the claim's token.", "Claimed"),
                ),
                (
                    "delete",
                    queue("settleItem", "Acknowledge an item, or give it back")
                        .required("item", "Its number.", number(super::queues::MAX_NUMBER))
                        .required("token", "The claim's token.", number(super::queues::MAX_NUMBER))
                        .query("done", "`false`: it is given back.", json!({ "type": "boolean" }))
                        .ok("It is settled.", "Queued"),
                ),
            ],
        ),
    ]
}

fn several() -> Paths {
    let with_kinds = |op: Op| {
        KINDS.iter().fold(op, |op, (name, about)| {
            let item = if *name == "document" { schemas::path() } else { schemas::prefix() };
            op.query(
                name,
                &format!("Repeatable: {about}."),
                json!({ "type": "array", "items": item, "maxItems": MAX_OF_KIND }),
            )
        })
    };
    let read = with_kinds(
        Op::new("readSeveral", "several", "Read several paths of different kinds in one answer")
            .about("Each kind at most 16 times. One that cannot be read has a `problem` in its place; the others are read.")
            .shared(&["bookmark"]),
    )
    .ok("What is there, in the order in which it was asked for.", "State")
    .with(&["200"], &["Foreshore-Bookmark"]);
    let mut live = with_kinds(
        Op::new("live", "several", "Read several paths and keep them up to date on one stream")
            .about("Events `state`, `change`, `entry`, `signal`, `problem`. With `Upgrade: websocket` the same events come as \
                    messages `{id, event, data}`.")
            .shared(&["bookmark", "last_event_id", "for_ms"]),
    )
    .query("last_event_id", "As the header of that name, for who cannot set one.", json!({ "type": "string" }))
    .events("The stream.", &["state", "change", "entry", "signal", "problem"], "Any");
    live.json["responses"]["101"] = json!({ "description": "It goes on as a WebSocket." });
    let mut entrance =
        Op::new("readEntrance", "door", "What this is").ok("The version, and where it is described.", "Entrance");
    entrance.parameters.clear();
    vec![("/v1", vec![("get", entrance)]), ("/v1/read", vec![("get", read)]), ("/v1/live", vec![("get", live)])]
}
