//! The HTTP door of real peers: tokens from a shell, a group without a majority, and peers that stop or are killed while clients
//! hold something.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value as Json;

use crate::support::{Home, PATIENCE, Running, join_as_voter, peer_id, until};

const DOOR: [&str; 5] = ["--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0", "--http-api"];

/// An answer, read to its end.
struct Answer {
    status: u16,
    head: String,
    body: Json,
}

fn connect(peer: &Running, method: &str, path: &str, headers: &str, body: &str) -> BufReader<TcpStream> {
    let address = peer.status["http"].as_str().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    BufReader::new(stream)
}

fn ask_with(peer: &Running, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut text = String::new();
    connect(peer, method, path, headers, body).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap_or(Json::Null) }
}

fn ask(peer: &Running, method: &str, path: &str, body: &str) -> Answer {
    ask_with(peer, method, path, "", body)
}

/// The data of the next event of a kind; `None` at the end of the stream.
fn event(stream: &mut BufReader<TcpStream>, name: &str) -> Option<Json> {
    let mut found = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some(("event", seen)) => found = seen == name,
            Some(("data", data)) if found => return Some(serde_json::from_str(data).unwrap()),
            _ => {}
        }
    }
}

#[test]
fn the_door_is_closed_until_it_is_asked_for() {
    let home = Home::new();
    let peer = home.run();
    for path in ["/v1", "/v1/documents", "/openapi.json", "/docs"] {
        assert_eq!(ask(&peer, "GET", path, "").status, 404, "{path}");
    }
    home.fails(2, &["run", "--http-api=everybody"]);
    home.fails(2, &["run", "--http-cors", "app.example.org"]);
}

#[test]
fn tokens_are_made_listed_and_revoked_from_a_shell() {
    let home = Home::new();
    let peer = home.run_with(&["--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0", "--http-api=token"]);
    let token = home.ok(&["token", "create", "--path", "/a", "--write", "--name", "robot"]);
    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    assert_eq!(ask(&peer, "GET", "/v1/documents/a", "").status, 401);
    assert_eq!(ask_with(&peer, "PUT", "/v1/documents/a", &bearer, "{\"n\":1}").status, 201);
    assert_eq!(ask_with(&peer, "PUT", "/v1/documents/b", &bearer, "{\"n\":1}").status, 403);
    let listed = home.json(&["token", "list"]);
    assert_eq!((listed[0]["name"].as_str(), listed[0]["prefix"].as_str()), (Some("robot"), Some("/a")));
    assert!(listed[0]["token"].is_null(), "a token is shown once");
    let kept = std::fs::read_to_string(home.data().join("http-tokens.json")).unwrap();
    assert!(!kept.contains(token.trim()) && !kept.contains(&token.trim()[4..]));

    // It outlives the peer, also one that is killed.
    peer.kill();
    let peer = home.run_with(&DOOR);
    assert_eq!(ask_with(&peer, "GET", "/v1/documents/a", &bearer, "").status, 200);
    home.ok(&["token", "revoke", listed[0]["id"].as_str().unwrap()]);
    assert_eq!(ask_with(&peer, "GET", "/v1/documents/a", &bearer, "").status, 401);
    home.fails(3, &["token", "revoke", "nobody"]);
    home.fails(2, &["token", "create", "--path", "a"]);
    peer.stop();
    // And it can be made where no peer runs.
    home.ok(&["token", "create"]);
    assert_eq!(home.json(&["token", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn without_a_majority_what_is_strong_is_refused_and_documents_work_on() {
    let (host, guest) = (Home::new(), Home::new());
    let peer = host.run_with(&DOOR);
    join_as_voter(&host, &guest);
    let other = guest.run();
    let id = peer_id(&other.status);
    until("the newcomer is linked", || host.ok(&["--json", "peers"]).contains(&id).then_some(()));
    host.ok(&["voters", "add", &id]);
    assert_eq!(ask(&peer, "POST", "/v1/tree/n", r#"{"data":{"text":"one"}}"#).status, 201);
    let wishes = "document=/a&node=/n";
    let mut live = connect(&peer, "GET", &format!("/v1/live?{wishes}"), "", "");
    assert_eq!(event(&mut live, "state").unwrap()["results"][1]["value"]["data"]["text"], "one");
    let mut lock = connect(&peer, "POST", "/v1/locks/door", "", r#"{"ttl_ms":2000}"#);
    assert!(event(&mut lock, "held").is_some());

    other.signal(rustix::process::Signal::STOP);
    let refused = ask(&peer, "PUT", "/v1/tree/n", r#"{"data":{"text":"two"}}"#);
    assert!(matches!(refused.status, 503 | 504), "{}", refused.head);
    let refused = ask(&peer, "GET", "/v1/tree/n", "");
    assert_eq!((refused.status, refused.body["code"].as_str()), (503, Some("no_quorum")));
    assert!(refused.head.contains("application/problem+json") && refused.head.contains("retry-after"));
    assert!(event(&mut lock, "lost").is_some_and(|lost| lost["why"].is_string()), "who holds it is told to stop");
    assert!(event(&mut lock, "renewed").is_none(), "and the stream ends");
    // Documents never wait for another peer.
    assert_eq!(ask(&peer, "PUT", "/v1/documents/a", "{\"n\":1}").status, 201);
    let seen = event(&mut live, "change").unwrap();
    assert_eq!((seen["kind"].as_str(), seen["value"]["value"]["n"].as_u64()), (Some("document"), Some(1)));
    let read = ask(&peer, "GET", &format!("/v1/read?{wishes}"), "");
    assert_eq!((read.status, read.body["results"][1]["problem"]["code"].as_str()), (200, Some("no_quorum")));
    assert_eq!(read.body["results"][0]["value"]["value"]["n"], 1);

    other.signal(rustix::process::Signal::CONT);
    until("the voters answer again", || {
        let set = ask(&peer, "PUT", "/v1/tree/n", r#"{"data":{"text":"three"}}"#);
        (set.status == 200).then_some(())
    });
    while event(&mut live, "change").expect("the stream goes on")["value"]["data"]["text"] != "three" {}
}

#[test]
fn a_peer_that_stops_ends_its_streams_and_one_that_is_killed_frees_what_they_held() {
    let (host, guest) = (Home::new(), Home::new());
    let first = host.run_with(&DOOR);
    // A member that does not vote: its clients are served by whoever does.
    let invitation = host.ok(&["invite", "--print"]);
    guest.ok(&["join", "--name", "default", invitation.trim()]);
    let second = guest.run_with(&DOOR);
    let held = until("the guest reaches a voter", || {
        let mut lock = connect(&second, "POST", "/v1/locks/door", "", r#"{"ttl_ms":2000,"wait_ms":1000}"#);
        event(&mut lock, "held").map(|held| (lock, held))
    });
    let waits = connect(&first, "POST", "/v1/locks/door", "", r#"{"wait_ms":60000,"ttl_ms":2000}"#);
    second.kill();
    let mut waits = waits;
    let next = event(&mut waits, "held").expect("it is free when the killed peer's session is over");
    assert!(next["token"].as_u64() > held.1["token"].as_u64());
    let mut live = connect(&first, "GET", "/v1/live?document=/a&node=/n", "", "");
    assert!(event(&mut live, "state").is_some());
    first.stop();
    assert!(event(&mut waits, "lost").is_some(), "who holds something hears of it");
    assert_eq!(event(&mut live, "problem").map(|problem| problem["code"].clone()), Some("stopping".into()));
}
