use std::time::Duration;

use foreshore::document::Value as Content;
use foreshore::id::{ChangeHash, Path};
use foreshore::peer::{Bookmark, Peer};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::*;
use crate::http::{Access, More, serve};
use crate::request::TokenLine;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const JSON: &str = "Content-Type: application/json\r\n";
const MERGE: &str = "Content-Type: application/merge-patch+json\r\n";
const PATCH: &str = "Content-Type: application/json-patch+json\r\n";

/// A peer in memory with its door.
struct Bench {
    service: Service,
    address: SocketAddr,
    _directory: tempfile::TempDir,
    _stop: oneshot::Sender<()>,
}

/// An answer to a request.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> String {
        let line = self.head.lines().find_map(|line| line.split_once(": ").filter(|(found, _)| *found == name));
        line.unwrap_or_else(|| panic!("no {name} in {}", self.head)).1.to_owned()
    }

    /// A problem with this status and code, which says so itself.
    fn refuses(&self, status: u16, code: &str) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(
            (problem["status"].as_u64(), problem["code"].as_str()),
            (Some(status.into()), Some(code)),
            "{self:?}"
        );
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        self
    }

    fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

impl Bench {
    async fn new() -> Self {
        Self::open(Admission::Local, &[]).await
    }

    async fn open(admission: Admission, origins: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let peer = Peer::builder().in_memory().spawn().await.unwrap();
        peer.create_space("default").await.unwrap();
        let service = Service::new(peer, directory.path().to_owned());
        let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let settings = Settings { admission, hosts: Vec::new(), token: None, origins };
        let more = More { api: Some(router(service.clone(), settings)), stage: None };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(serve(listener, service.clone(), Access::default(), more, async {
            let _ = stopped.await;
        }));
        Self { service, address, _directory: directory, _stop: stop }
    }

    async fn connect(&self, method: &str, path: &str, headers: &str, body: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = match body.is_empty() {
            true => String::new(),
            false => format!("Content-Length: {}\r\n", body.len()),
        };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        BufReader::new(stream)
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut stream = self.connect(method, path, &format!("Connection: close\r\n{headers}"), body).await;
        let mut text = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    async fn put(&self, path: &str, body: &str) -> Answer {
        self.ask("PUT", path, JSON, body).await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, JSON, body).await
    }

    /// A stream of events.
    async fn stream(&self, method: &str, path: &str, headers: &str, body: &str) -> Events {
        let mut events = Events { stream: self.connect(method, path, headers, body).await };
        let head = events.head().await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        events
    }

    async fn token(&self, prefix: &str, write: bool, expires_seconds: Option<u64>) -> TokenLine {
        let request = Request::TokenCreate {
            space: String::new(),
            name: "t".into(),
            prefix: prefix.into(),
            write,
            expires_seconds,
        };
        let (items, _) = mpsc::channel(1);
        let (_, pages) = mpsc::channel(1);
        serde_json::from_value(self.service.call(request, pages, items).await.unwrap()).unwrap()
    }
}

/// One event of a stream.
#[derive(Debug)]
struct Seen {
    name: String,
    id: String,
    data: Json,
}

struct Events {
    stream: BufReader<TcpStream>,
}

impl Events {
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await.expect("a line in time");
        (read.ok()? > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    async fn head(&mut self) -> String {
        let mut head = String::new();
        while let Some(line) = self.line().await.filter(|line| !line.is_empty()) {
            head.push_str(&line);
            head.push('\n');
        }
        head
    }

    /// The next event; `None` at the end, which is a chunk of no bytes. Lines with the sizes of others fall out, since none of
    /// them names a field.
    async fn next(&mut self) -> Option<Seen> {
        let (mut name, mut id, mut data) = (String::new(), String::new(), Json::Null);
        loop {
            let line = self.line().await?;
            match line.split_once(": ") {
                None if line == "0" => return None,
                Some(("event", text)) => name = text.into(),
                Some(("id", text)) => id = text.into(),
                Some(("data", text)) => data = serde_json::from_str(text).unwrap(),
                None if line.is_empty() && !name.is_empty() => return Some(Seen { name, id, data }),
                _ => {}
            }
        }
    }

    async fn expect(&mut self, name: &str) -> Seen {
        let seen = self.next().await.unwrap_or_else(|| panic!("the stream ended before {name}"));
        assert_eq!(seen.name, name, "{seen:?}");
        seen
    }

    /// The next event of a kind, whatever comes before.
    async fn until(&mut self, name: &str, fits: impl Fn(&Json) -> bool) -> Seen {
        loop {
            let seen = self.next().await.unwrap_or_else(|| panic!("the stream ended before {name}"));
            if seen.name == name && fits(&seen.data) {
                return seen;
            }
        }
    }
}

#[tokio::test]
async fn documents_are_guarded_by_their_heads() {
    let bench = Bench::new().await;
    let food = "/v1/documents/lists/food";
    bench.get(food).await.refuses(404, "not_found");
    bench.ask("PATCH", food, MERGE, r#"{"milk":1}"#).await.refuses(404, "not_found");
    let made = bench.ask("PUT", food, &format!("{JSON}If-None-Match: *\r\n"), r#"{"bread":2,"tags":["a"]}"#).await;
    let first = made.is(201).header("etag");
    bench
        .ask("PUT", food, &format!("{JSON}If-None-Match: *\r\n"), "{\"x\":1}")
        .await
        .refuses(412, "precondition_failed");
    let read = bench.get(food).await;
    assert_eq!(read.is(200).json(), serde_json::json!({ "bread": 2, "tags": ["a"] }));
    assert_eq!(read.header("etag"), first);
    bench.ask("GET", food, &format!("If-None-Match: {first}\r\n"), "").await.is(304);
    assert_eq!(bench.get(&format!("{food}?at=/tags/0")).await.json(), "a");

    let operations = r#"[{"op":"test","path":"/bread","value":2},{"op":"add","path":"/tags/-","value":"b"}]"#;
    let patched = bench.ask("PATCH", food, &format!("{PATCH}If-Match: {first}\r\n"), operations).await;
    let second = patched.is(200).header("etag");
    assert_ne!(first, second);
    let late = bench.ask("PATCH", food, &format!("{PATCH}If-Match: {first}\r\n"), operations).await;
    assert!(late.refuses(412, "precondition_failed").json()["hint"].is_string());
    bench
        .ask("PATCH", food, PATCH, r#"[{"op":"test","path":"/bread","value":3}]"#)
        .await
        .refuses(409, "patch_does_not_fit");
    bench.ask("PATCH", food, PATCH, r#"[{"op":"replace","path":"","value":7}]"#).await.refuses(400, "not_an_object");
    // A few operations that would make a document of a few GB.
    let copies: Vec<_> = (0..30).map(|n| format!(r#"{{"op":"copy","from":"","path":"/{n}"}}"#)).collect();
    bench.ask("PATCH", food, PATCH, &format!("[{}]", copies.join(","))).await.refuses(413, "too_large");
    bench
        .ask("PATCH", food, &format!("{MERGE}If-Match: \"x\", {second}\r\n"), r#"{"bread":null,"milk":{"l":1}}"#)
        .await
        .is(200);
    assert_eq!(bench.get(food).await.json(), serde_json::json!({ "tags": ["a", "b"], "milk": { "l": 1 } }));

    let heads = first.trim_matches('"');
    assert_eq!(
        bench.get(&format!("{food}?heads={heads}")).await.json(),
        serde_json::json!({ "bread": 2, "tags": ["a"] })
    );
    bench.get(&format!("{food}?heads={}", "0".repeat(64))).await.refuses(404, "not_found");
    let history = bench.get("/v1/history/lists/food?limit=2").await.json();
    assert_eq!(history["items"].as_array().unwrap().len(), 2);

    for name in ["a", "b", "c"] {
        bench.put(&format!("/v1/documents/lists/{name}"), "{\"n\":1}").await.is(201);
    }
    let page = bench.get("/v1/documents?prefix=/lists&limit=3").await.json();
    assert_eq!(page["items"][0]["path"], "/lists/a");
    let rest =
        bench.get(&format!("/v1/documents?prefix=/lists&limit=3&after={}", page["next"].as_str().unwrap())).await;
    assert_eq!(rest.json()["items"].as_array().unwrap().len(), 1);
    assert!(rest.json()["next"].is_null());

    bench.ask("DELETE", food, &format!("If-Match: {first}\r\n"), "").await.refuses(412, "precondition_failed");
    bench.ask("DELETE", food, "If-Match: *\r\n", "").await.is(200);
    bench.ask("DELETE", food, "", "").await.refuses(404, "not_found");
    bench.ask("DELETE", food, "If-Match: *\r\n", "").await.refuses(412, "precondition_failed");
}

#[tokio::test]
async fn of_writers_that_read_the_same_one_wins() {
    let bench = Bench::new().await;
    let first = bench.put("/v1/documents/n", r#"{"n":0}"#).await.header("etag");
    let headers = format!("{MERGE}If-Match: {first}\r\n");
    let bodies: Vec<_> = (1..9).map(|n| format!("{{\"n\":{n}}}")).collect();
    let asked = bodies.iter().map(|body| bench.ask("PATCH", "/v1/documents/n", &headers, body));
    let statuses: Vec<_> = futures::future::join_all(asked).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 7, "{statuses:?}");
}

#[tokio::test]
async fn what_a_patch_leaves_alone_keeps_its_kind() {
    let bench = Bench::new().await;
    let space = bench.service.space("").await.unwrap();
    let document = space.document("/kinds").await.unwrap();
    let edit = document.edit(|draft| {
        draft.put("bytes", Content::Bytes(vec![1, 2, 3]))?;
        draft.put("when", Content::Timestamp(7))?;
        draft.put("n", 1)
    });
    edit.unwrap().durable().await.unwrap();
    let before = bench.get("/v1/documents/kinds?tagged=true").await.json();
    bench.ask("PATCH", "/v1/documents/kinds", MERGE, r#"{"n":2}"#).await.is(200);
    let plain = bench.get("/v1/documents/kinds").await.body;
    bench.put("/v1/documents/kinds", &plain).await.is(200);
    let after = bench.get("/v1/documents/kinds?tagged=true").await.json();
    assert_eq!((&before["bytes"], &before["when"]), (&after["bytes"], &after["when"]));
    assert_ne!(before["n"], after["n"]);
    // What JSON has no kind for is one value, and stays of its kind.
    let patch = r#"[{"op":"replace","path":"/bytes/$bytes","value":"AAA="},{"op":"replace","path":"/when","value":{"$time":8}}]"#;
    bench.ask("PATCH", "/v1/documents/kinds", PATCH, patch).await.is(200);
    assert_eq!(document.value().unwrap().get("bytes"), Some(&Content::Bytes(vec![0, 0])));
    assert_eq!(document.value().unwrap().get("when"), Some(&Content::Timestamp(8)));
}

#[tokio::test]
async fn a_bookmark_is_waited_for_and_then_it_is_not_yet() {
    let bench = Bench::new().await;
    let written = bench.put("/v1/documents/a", r#"{"n":1}"#).await;
    let bookmark = written.header("foreshore-bookmark");
    let seen = bench.ask("GET", "/v1/documents/a", &format!("Foreshore-Bookmark: {bookmark}\r\n"), "").await;
    assert_eq!(seen.is(200).header("foreshore-bookmark"), bookmark);

    let space = bench.service.space("").await.unwrap().id();
    let mut elsewhere = Bookmark::new(space);
    elsewhere.see(&Path::parse("/b").unwrap(), 0, vec![ChangeHash([7; 32])]).unwrap();
    let header = format!("Foreshore-Bookmark: {elsewhere}\r\n");
    let late = bench.ask("GET", "/v1/documents/a?wait_ms=20", &header, "").await;
    assert!(late.refuses(504, "not_yet").json()["detail"].as_str().unwrap().contains("/b"));
    for bad in ["Foreshore-Bookmark: x\r\n", &format!("{header}{header}")] {
        bench.ask("GET", "/v1/documents/a", bad, "").await.refuses(400, "invalid");
        bench.ask("GET", "/v1/read?document=/a", bad, "").await.refuses(400, "invalid");
    }
}

#[tokio::test]
async fn several_kinds_are_read_at_once_and_kept_live_on_one_stream() {
    let bench = Bench::new().await;
    bench.put("/v1/documents/a", r#"{"n":1}"#).await.is(201);
    let wishes = "document=/a&document=/none&documents=/d&soft=/s&topic=/t&node=/n&children=/&leader=/l&queue=/q";
    let read = bench.get(&format!("/v1/read?{wishes}")).await;
    let results = read.is(200).json()["results"].clone();
    assert_eq!(results[0]["value"]["value"], serde_json::json!({ "n": 1 }));
    assert!(results[1]["value"].is_null() && results[1]["problem"].is_null());
    assert_eq!(results.as_array().unwrap().len(), 9);

    let path = format!("/v1/live?{wishes}");
    let mut events = bench.stream("GET", &path, "", "").await;
    assert_eq!(events.expect("state").await.data["results"].as_array().unwrap().len(), 9);
    bench.ask("PATCH", "/v1/documents/a", MERGE, r#"{"n":2}"#).await.is(200);
    let seen = events.until("change", |data| data["kind"] == "document").await;
    assert_eq!(seen.data["value"]["value"]["n"], 2);
    bench.put("/v1/documents/d/x", r#"{"n":1}"#).await.is(201);
    let seen = events.until("entry", |data| data["kind"] == "documents").await;
    assert_eq!(seen.data["entry"]["path"], "/d/x");
    bench.put("/v1/soft/s/me", r#"{"at":"desk"}"#).await.is(200);
    let seen = events.until("entry", |data| data["kind"] == "soft").await;
    assert_eq!(seen.data["entry"]["value"]["at"], "desk");
    bench.post("/v1/tree/n", r#"{"data":{"text":"one"}}"#).await.is(201);
    events.until("change", |data| data["kind"] == "node" && data["value"]["data"]["text"] == "one").await;
    events.until("change", |data| data["kind"] == "children" && data["value"]["items"][0] == "n").await;
    bench.post("/v1/queues/q", r#"{"body":{"text":"job"}}"#).await.is(201);
    events.until("change", |data| data["kind"] == "queue" && data["value"]["ready"] == 1).await;
    let mut leading = bench.stream("POST", "/v1/elections/l", JSON, r#"{"value":"me"}"#).await;
    leading.expect("held").await;
    events.until("change", |data| data["kind"] == "leader" && data["value"]["value"]["text"] == "me").await;
    bench.post("/v1/topics/t/x", "\"ding\"").await.is(202);
    let last = events.until("signal", |data| data["signal"]["value"] == "ding").await;

    // Gone for a moment: what happened meanwhile is told, the signal too, and nothing twice.
    drop(events);
    bench.post("/v1/topics/t/x", "\"dong\"").await.is(202);
    let mut again = bench.stream("GET", &path, &format!("Last-Event-ID: {}\r\n", last.id), "").await;
    let next = again.expect("signal").await;
    assert_eq!(next.data["signal"]["value"], "dong");
    // Over the parameter as well, from further back.
    let mut again = bench.stream("GET", &format!("{path}&last_event_id={}", last.id), "", "").await;
    assert_eq!(again.expect("signal").await.id, next.id);
    // A stream that is given a time has that much, also where nothing is asked for.
    let mut short = bench.stream("GET", "/v1/live?for_ms=200", "", "").await;
    assert_eq!(short.expect("state").await.data["results"], serde_json::json!([]));
    assert!(short.next().await.is_none(), "it ends without a problem");
    // What is not known, or is of other wishes, begins anew.
    for (path, id) in [(path.as_str(), "nobody-7"), ("/v1/live?document=/a", &last.id), (&path, "x")] {
        let mut anew = bench.stream("GET", path, &format!("Last-Event-ID: {id}\r\n"), "").await;
        anew.expect("state").await;
    }
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_and_dropped() {
    let bench = Bench::new().await;
    bench.put("/v1/documents/big", r#"{"text":""}"#).await.is(201);
    let mut events = bench.stream("GET", "/v1/live?document=/big", "", "").await;
    events.expect("state").await;
    let mut other = bench.stream("GET", "/v1/live?document=/other", "", "").await;
    other.expect("state").await;
    // More than sockets and the feed keep.
    let large = "x".repeat(400_000);
    for n in 0..60 {
        bench.put("/v1/documents/big", &format!("{{\"n\":{n},\"text\":\"{large}\"}}")).await.is(200);
    }
    let problem = events.until("problem", |_| true).await;
    assert_eq!(problem.data["code"], "too_slow");
    assert!(events.next().await.is_none(), "it is dropped");
    bench.put("/v1/documents/other", r#"{"n":1}"#).await.is(201);
    other.expect("change").await;
}

#[tokio::test]
async fn a_lock_is_held_by_a_request_and_released_when_it_ends() {
    let bench = Bench::new().await;
    let mut first = bench.stream("POST", "/v1/locks/door", JSON, "{}").await;
    let held = first.expect("held").await.data;
    assert!(
        held["token"].as_u64().is_some_and(|token| token > 0) && held["lease_ms"].as_u64().is_some_and(|ms| ms > 0)
    );
    assert_eq!(bench.get("/v1/locks/door").await.json()["holders"][0]["token"], held["token"]);
    bench.post("/v1/locks/door", "{}").await.refuses(409, "taken");
    bench.post("/v1/locks/door", r#"{"wait_ms":50}"#).await.refuses(409, "still_taken");
    let wait = bench.stream("POST", "/v1/locks/door", JSON, r#"{"wait_ms":50000}"#);
    let release = async {
        while bench.get("/v1/locks/door").await.json()["waiting"] != 1 {}
        drop(first);
    };
    let (mut second, ()) = tokio::join!(wait, release);
    let next = second.expect("held").await.data;
    assert!(next["token"].as_u64() > held["token"].as_u64(), "a later holder has a greater token");
    second.expect("renewed").await;

    let mut node = bench.stream("POST", "/v1/ephemeral/here", JSON, r#"{"data":{"text":"x"}}"#).await;
    assert_eq!(node.expect("held").await.data["path"], "/here");
    bench.get("/v1/tree/here").await.is(200);
    drop(node);
    let gone = async { while bench.get("/v1/tree/here").await.status != 404 {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("it goes with its request");
}

#[tokio::test]
async fn who_waits_for_a_lock_and_hangs_up_does_not_get_it() {
    let bench = Bench::new().await;
    let mut first = bench.stream("POST", "/v1/locks/door", JSON, "{}").await;
    first.expect("held").await;
    let waits = bench.connect("POST", "/v1/locks/door", JSON, r#"{"wait_ms":60000}"#).await;
    let waiting = async |many: u64| while bench.get("/v1/locks/door").await.json()["waiting"] != many {};
    tokio::time::timeout(PATIENCE, waiting(1)).await.unwrap();
    drop(waits);
    tokio::time::timeout(PATIENCE, waiting(0)).await.expect("who has hung up waits no more");
}

#[tokio::test]
async fn nodes_have_versions_and_queues_hand_out_at_least_once() {
    let bench = Bench::new().await;
    bench.get("/v1/tree/conf").await.refuses(404, "not_found");
    bench.post("/v1/tree/conf", r#"{"data":{"text":"one"}}"#).await.is(201);
    bench.post("/v1/tree/conf", "{}").await.refuses(409, "exists");
    let read = bench.get("/v1/tree/conf").await;
    assert_eq!((read.header("etag").as_str(), read.json()["data"]["text"].as_str()), ("\"0\"", Some("one")));
    let set = |tag: &'static str| bench.ask("PUT", "/v1/tree/conf", tag, r#"{"data":{"base64":"/w=="}}"#);
    let good = "Content-Type: application/json\r\nIf-Match: \"0\"\r\n";
    assert_eq!(set(good).await.is(200).header("etag"), "\"1\"");
    set(good).await.refuses(412, "other_version");
    assert_eq!(bench.get("/v1/tree/conf?stale=true").await.json()["data"]["base64"], "/w==");
    let numbered = bench.post("/v1/tree/conf/n-", r#"{"sequential":true}"#).await.json();
    assert_eq!(numbered["path"], "/conf/n-0000000000");
    assert_eq!(bench.get("/v1/children/conf").await.json()["items"], serde_json::json!(["n-0000000000"]));
    assert_eq!(bench.get("/v1/children").await.json()["items"], serde_json::json!(["conf"]));
    bench.ask("DELETE", "/v1/tree/conf", "", "").await.refuses(409, "has_children");
    for bad in [
        r#"{"container":true,"ttl_ms":5}"#,
        r#"{"ttl_ms":0}"#,
        r#"{"ttl_ms":null}"#,
        r#"{"ttl_ms":1.5}"#,
        r#"{"data":{}}"#,
        r#"{"data":{"text":"a","base64":""}}"#,
        "[]",
        "{",
    ] {
        bench.post("/v1/tree/other", bad).await.refuses(400, "invalid");
    }

    bench.post("/v1/claims/jobs", "{}").await.refuses(404, "not_found");
    let item =
        bench.post("/v1/queues/jobs", r#"{"body":{"text":"job"},"attempts":3}"#).await.is(201).json()["item"].clone();
    let claim = bench.post("/v1/claims/jobs", r#"{"visibility_ms":60000}"#).await.json();
    assert_eq!(
        (&claim["item"], claim["body"]["text"].as_str(), claim["attempt"].as_u64()),
        (&item, Some("job"), Some(1))
    );
    let settle =
        |claim: &Json, more: &str| format!("/v1/claims/jobs?item={}&token={}{more}", claim["item"], claim["token"]);
    bench.ask("DELETE", &settle(&claim, "&done=false"), "", "").await.is(200);
    let again = bench.post("/v1/claims/jobs", "{}").await.json();
    assert_eq!(again["attempt"], 2);
    bench.ask("DELETE", &settle(&claim, ""), "", "").await.refuses(409, "not_held");
    bench.ask("DELETE", &settle(&again, ""), "", "").await.is(200);
    assert_eq!(bench.get("/v1/queues/jobs").await.json()["ready"], 0);
}

#[tokio::test]
async fn a_token_opens_what_it_grants_and_nothing_else() {
    let bench = Bench::open(Admission::Token, &[]).await;
    bench.get("/v1/documents").await.refuses(401, "unauthorized");
    let bearer = |line: &TokenLine| format!("Authorization: Bearer {}\r\n", line.token.clone().unwrap());
    let (writes, reads) = (bench.token("/a", true, None).await, bench.token("/a", false, Some(3600)).await);
    let (write, read) = (bearer(&writes), bearer(&reads));
    let put = async |headers: &str, path: &str| {
        bench.ask("PUT", &format!("/v1/documents{path}"), &format!("{JSON}{headers}"), r#"{"n":1}"#).await
    };
    put(&write, "/a/x").await.is(201);
    put(&write, "/a").await.is(201);
    put(&read, "/a/x").await.refuses(403, "denied");
    for elsewhere in ["/ab", "/b", "/b/a"] {
        put(&write, elsewhere).await.refuses(403, "denied");
    }
    bench.ask("GET", "/v1/documents/a/x", &read, "").await.is(200);
    for (method, path) in [
        ("GET", "/v1/documents"),
        ("GET", "/v1/documents?prefix=/"),
        ("GET", "/v1/soft"),
        ("GET", "/v1/children"),
        ("GET", "/v1/documents/b"),
        ("GET", "/v1/history/b"),
        ("GET", "/v1/tree/b"),
        ("GET", "/v1/queues/b"),
        ("GET", "/v1/locks/b"),
        ("GET", "/v1/elections/b"),
        ("GET", "/v1/soft/b"),
        ("GET", "/v1/read?document=/a/x&document=/b"),
        ("GET", "/v1/live?topic=/"),
        ("GET", "/v1/documents/a/x?space=another"),
        // No way out of the prefix is a path.
        ("GET", "/v1/documents/a/../b"),
        ("GET", "/v1/documents/a%2F..%2Fb"),
        ("GET", "/v1/tree/a%2F..%2Fb"),
    ] {
        bench.ask(method, path, &read, "").await.refuses(403, "denied");
    }
    for (method, path) in [
        ("DELETE", "/v1/documents/a/x"),
        ("DELETE", "/v1/soft/a"),
        ("DELETE", "/v1/tree/a"),
        ("DELETE", "/v1/claims/a?item=1&token=1"),
    ] {
        bench.ask(method, path, &read, "").await.refuses(403, "denied");
    }
    for path in ["topics", "tree", "ephemeral", "locks", "elections", "queues", "claims"] {
        let body = if path == "queues" { r#"{"body":{"text":""}}"# } else { "{}" };
        bench.ask("POST", &format!("/v1/{path}/a"), &format!("{JSON}{read}"), body).await.refuses(403, "denied");
    }
    for wrong in ["Bearer x", "Bearer fst_x", "Basic abc", "Bearer"] {
        let answer = bench.ask("GET", "/v1/documents/a/x", &format!("Authorization: {wrong}\r\n"), "").await;
        assert_eq!(answer.refuses(401, "unauthorized").header("www-authenticate"), "Bearer");
    }
    bench.ask("GET", "/v1/documents/a/x", &format!("{read}{read}"), "").await.refuses(401, "unauthorized");

    // A stream ends with its token.
    let mut events = bench.stream("GET", "/v1/live?document=/a/x", &read, "").await;
    events.expect("state").await;
    bench.service.token_revoke(&reads.id).unwrap();
    assert_eq!(events.expect("problem").await.data["code"], "unauthorized");
    bench.ask("GET", "/v1/documents/a/x", &read, "").await.refuses(401, "unauthorized");
    let gone = bench.token("/a", true, Some(0)).await;
    bench.ask("GET", "/v1/documents/a/x", &bearer(&gone), "").await.refuses(401, "unauthorized");
}

#[tokio::test]
async fn pages_of_other_origins_ask_where_they_are_named_and_with_a_token() {
    let app = "Origin: https://app.example\r\n";
    let closed = Bench::new().await;
    closed.ask("GET", "/v1/documents", app, "").await.refuses(403, "forbidden_origin");
    closed.ask("GET", "/v1/documents", "Host: evil.example\r\n", "").await.refuses(403, "forbidden_origin");
    let bench = Bench::open(Admission::Local, &["https://app.example"]).await;
    let preflight =
        format!("{app}Access-Control-Request-Method: PATCH\r\nAccess-Control-Request-Headers: if-match\r\n");
    let allowed = bench.ask("OPTIONS", "/v1/documents/a", &preflight, "").await;
    assert_eq!(allowed.is(200).header("access-control-allow-origin"), "https://app.example");
    // This machine trusts itself, not whatever page is open on it.
    bench.ask("GET", "/v1/documents", app, "").await.refuses(401, "unauthorized");
    let token = bench.token("/", false, None).await.token.unwrap();
    let headers = format!("{app}Authorization: Bearer {token}\r\n");
    let answer = bench.ask("GET", "/v1/documents", &headers, "").await;
    assert_eq!(answer.is(200).header("access-control-allow-origin"), "https://app.example");
    assert!(answer.header("access-control-expose-headers").contains("etag"));
    let other = headers.replace("app.example", "evil.example");
    let refused = bench.ask("GET", "/v1/documents", &other, "").await;
    assert!(!refused.refuses(403, "forbidden_origin").head.contains("access-control-allow-origin"));
    // A picture of a page of another site, which has no origin.
    bench.ask("GET", "/v1/documents", "Sec-Fetch-Site: cross-site\r\n", "").await.refuses(403, "forbidden_origin");
    bench.ask("GET", "/v1/documents", "Sec-Fetch-Site: same-origin\r\n", "").await.is(200);
    // From further away than the socket says.
    bench.ask("GET", "/v1/documents", "X-Forwarded-For: 203.0.113.1\r\n", "").await.refuses(401, "unauthorized");
}

#[tokio::test]
async fn what_is_malformed_is_refused_by_name() {
    let bench = Bench::new().await;
    for (method, path, headers, body, status, code) in [
        ("GET", "/v1/documents?limit=x", "", "", 400, "invalid"),
        ("GET", "/v1/documents?limit=0", "", "", 400, "invalid"),
        ("GET", "/v1/documents?nothing=1", "", "", 400, "invalid"),
        ("GET", "/v1/documents?prefix=a", "", "", 400, "invalid"),
        ("GET", "/v1/documents/a//b", "", "", 400, "invalid"),
        ("GET", "/v1/documents/%FF", "", "", 400, "invalid"),
        ("GET", "/v1/documents/a?at=x", "", "", 400, "invalid"),
        ("GET", "/v1/documents/a?heads=x", "", "", 400, "invalid"),
        ("GET", "/v1/documents/a?wait_ms=99999999", "", "", 400, "invalid"),
        ("GET", "/v1/documents/a?space=nowhere", "", "", 404, "not_found"),
        ("GET", "/v1/nothing", "", "", 404, "no_route"),
        ("GET", "/v1/documents/", "", "", 404, "no_route"),
        ("POST", "/v1/documents/a", JSON, "{}", 405, "method_not_allowed"),
        ("PUT", "/v1/documents/a", JSON, "{", 400, "invalid"),
        ("PUT", "/v1/documents/a", JSON, "[]", 400, "invalid"),
        ("PUT", "/v1/documents/a", JSON, "{}", 409, "empty_document"),
        ("PUT", "/v1/documents/a", MERGE, "{\"n\":1}", 415, "unsupported_media_type"),
        ("PUT", "/v1/documents/a", "", "{\"n\":1}", 415, "unsupported_media_type"),
        ("PATCH", "/v1/documents/a", JSON, "{\"n\":1}", 415, "unsupported_media_type"),
        ("PATCH", "/v1/documents/a", PATCH, "{\"n\":1}", 400, "invalid"),
        ("PATCH", "/v1/documents/a", MERGE, "[]", 400, "invalid"),
        ("PUT", "/v1/documents/a", "Content-Type: application/json\r\nIf-Match: x\r\n", "{\"n\":1}", 400, "invalid"),
        ("PUT", "/v1/soft/a", JSON, "", 400, "invalid"),
        ("POST", "/v1/locks/a", JSON, r#"{"wait_ms":99999999}"#, 400, "invalid"),
        ("POST", "/v1/locks/a", JSON, r#"{"other":1}"#, 400, "invalid"),
        ("POST", "/v1/queues/a", JSON, r#"{"body":{"text":""},"attempts":0}"#, 400, "invalid"),
        ("DELETE", "/v1/claims/a?item=1", "", "", 400, "invalid"),
        ("GET", "/v1/live?lock=/a", "", "", 400, "invalid"),
        ("GET", "/v1/read?document=/a&for_ms=1", "", "", 400, "invalid"),
        ("GET", "/v1/live?document=/a", "Connection: Upgrade\r\nUpgrade: other\r\n", "", 426, "upgrade_required"),
    ] {
        bench.ask(method, path, headers, body).await.refuses(status, code);
    }
    let long = "x".repeat(600);
    for path in ["documents", "soft", "tree", "locks", "elections", "queues"].map(|kind| format!("/v1/{kind}/{long}")) {
        bench.get(&path).await.refuses(400, "invalid");
    }
    bench.get(&format!("/v1/read?node=/{long}")).await.refuses(400, "invalid");
    let large = format!("{{\"text\":\"{}\"}}", "x".repeat(MAX_BODY_BYTES));
    bench.put("/v1/documents/a", &large).await.refuses(413, "too_large");
    bench.put("/v1/soft/a", &format!("\"{}\"", "x".repeat(9000))).await.refuses(413, "too_large");
    bench.post("/v1/topics/a", &format!("\"{}\"", "x".repeat(9000))).await.refuses(413, "too_large");

    // A request that breaks off, one that lies about its length, and none at all: the others are served.
    let mut half = TcpStream::connect(bench.address).await.unwrap();
    half.write_all(b"PUT /v1/documents/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{").await.unwrap();
    let mut noise = TcpStream::connect(bench.address).await.unwrap();
    noise.write_all(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await.unwrap();
    let mut said = String::new();
    noise.read_to_string(&mut said).await.unwrap();
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{said}");
    bench.put("/v1/documents/a", r#"{"n":1}"#).await.is(201);
    drop(half);
    assert_eq!(bench.get("/v1/documents/a").await.json(), serde_json::json!({ "n": 1 }));
}

/// A text message of a server that is shorter than 64 KiB.
async fn message(stream: &mut BufReader<TcpStream>) -> (u8, Vec<u8>) {
    let first = stream.read_u8().await.unwrap();
    let length = match stream.read_u8().await.unwrap() {
        126 => usize::from(stream.read_u16().await.unwrap()),
        length => usize::from(length),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.unwrap();
    (first & 0x0f, payload)
}

#[tokio::test]
async fn a_websocket_says_the_same() {
    let bench = Bench::new().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let stream = bench.connect("GET", "/v1/live?document=/a", upgrade, "").await;
    let mut events = Events { stream };
    let head = events.head().await.to_lowercase();
    assert!(head.contains("101") && head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    let text = async |events: &mut Events| loop {
        let (kind, payload) = tokio::time::timeout(PATIENCE, message(&mut events.stream)).await.unwrap();
        if kind == 1 {
            return serde_json::from_slice::<Json>(&payload).unwrap();
        }
    };
    assert_eq!(text(&mut events).await["event"], "state");
    bench.put("/v1/documents/a", r#"{"n":1}"#).await.is(201);
    let change = text(&mut events).await;
    assert_eq!((change["event"].as_str(), change["data"]["value"]["value"]["n"].as_u64()), (Some("change"), Some(1)));
    assert!(change["id"].is_string());
    // What a client may not send ends it: a message that is too long.
    let mut long = vec![0x82, 0xff];
    long.extend((1_u64 << 40).to_be_bytes());
    long.extend([0; 4]);
    events.stream.write_all(&long).await.unwrap();
    let ended = async {
        let mut rest = Vec::new();
        let _ = events.stream.read_to_end(&mut rest).await;
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("it is closed");
    bench.get("/v1/documents/a").await.is(200);
}

#[tokio::test]
async fn the_description_is_what_the_router_has() {
    let bench = Bench::new().await;
    let described = bench.get("/openapi.json").await.is(200).json();
    let described = described["paths"].as_object().unwrap();
    let routes: Vec<String> = short().into_iter().chain(long()).map(|(path, _)| path.replace("{*", "{")).collect();
    for path in routes.iter().map(String::as_str).chain(["/v1"]) {
        assert!(described.contains_key(path), "{path} is not described");
    }
    for (path, operations) in described {
        assert!(path == "/v1" || routes.contains(path), "{path} is described and not there");
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE"] {
            let at = path.replace("{path}", "x");
            // A query that nobody takes: whatever is there refuses it before it does anything.
            let answer = bench.ask(method, &format!("{at}?not_a_parameter=1"), "", "").await;
            let is_described = operations.get(method.to_lowercase()).is_some();
            assert_eq!(answer.status != 405, is_described, "{method} {path}: {answer:?}");
        }
    }
    let page = bench.get("/docs").await;
    assert!(page.is(200).body.contains("/v1/documents/{path}"));
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
}

#[tokio::test]
async fn streams_end_when_the_peer_stops() {
    let bench = Bench::new().await;
    let mut events = bench.stream("GET", "/v1/live?document=/a&node=/n", "", "").await;
    events.expect("state").await;
    let mut lock = bench.stream("POST", "/v1/locks/a", JSON, "{}").await;
    lock.expect("held").await;
    bench.service.stopping();
    assert_eq!(events.until("problem", |_| true).await.data["code"], "stopping");
    lock.until("lost", |data| data["why"].is_string()).await;
    assert!(events.next().await.is_none() && lock.next().await.is_none());
}
