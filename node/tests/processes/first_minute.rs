//! The first minute, as the documentation shows it.

use std::process::Stdio;

use crate::support::{Home, Running, until};

#[test]
fn a_newcomer_gets_a_peer_and_a_second_one_in_step() {
    let home = Home::new();
    let peer = home.run();
    assert_eq!(home.ok(&["put", "/hello", r#"{"hi":1}"#]), "/hello written\n");
    assert_eq!(home.json(&["get", "/hello"])["value"]["hi"], 1);
    assert_eq!(home.ok(&["list"]), "/hello\n");

    let invitation = home.ok(&["invite", "--print"]);
    let other = Home::new();
    other.ok(&["join", invitation.trim()]);
    let second = other.run();
    until("the document has arrived", || (other.ok(&["list"]) == "/hello\n").then_some(()));
    // And back, with the wait that scripts use.
    other.ok(&["put", "/hello", "--merge", r#"{"there":2}"#, "--synced", "1", "--timeout", "60s"]);
    let value = &home.json(&["get", "/hello"])["value"];
    assert_eq!(*value, serde_json::json!({"hi": 1, "there": 2}));
    assert_eq!(home.json(&["peers"]).as_array().unwrap().len(), 1);
    assert_eq!(home.ok(&["members"]).matches("writer").count(), 2);
    second.stop();
    peer.stop();
}

#[test]
fn the_banner_says_where_everything_is() {
    let home = Home::new();
    let run = ["run", "--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0"];
    let mut command = home.command(&run);
    command.stderr(Stdio::null());
    let mut peer = Running::follow(command);
    let lines: Vec<_> = (0..7).map(|_| peer.line()).collect();
    let text = lines.concat();
    for part in
        ["new peer 12D3", "data (created)", "http://127.0.0.1:", "default (fs1", "tcp ", "foreshore invite", "Ctrl-C"]
    {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    peer.signal(rustix::process::Signal::INT);
    assert_eq!(peer.end(), Some(0));
}

#[test]
fn a_watcher_gets_one_line_a_change() {
    let home = Home::new();
    let peer = home.run();
    let mut watch = Running::follow(home.command(&["--json", "watch", "/lists", "--values", "--count", "2"]));
    // A watcher sees what happens after it has begun, so changes are made until it has.
    let mut n = 0;
    let mut first = None;
    let (send, lines) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2 {
                send.send(watch.line()).unwrap();
            }
            assert_eq!(watch.end(), Some(0));
        });
        until("the watcher has begun", || {
            n += 1;
            home.ok(&["put", "/lists/food", &format!(r#"{{"n":{n}}}"#)]);
            home.ok(&["put", "/elsewhere", &format!(r#"{{"n":{n}}}"#)]);
            first = lines.try_recv().ok();
            first.as_ref().map(|_| ())
        });
        home.ok(&["put", "/lists/last", r#"{"k":1}"#]);
        home.ok(&["put", "/lists/last", r#"{"x":1}"#]);
    });
    let first: serde_json::Value = serde_json::from_str(&first.unwrap()).unwrap();
    assert_eq!((&first["path"], &first["kind"]), (&"/lists/food".into(), &"changed".into()));
    assert!(first["value"]["n"].is_number());
    assert!(lines.recv().unwrap().contains("/lists/"));
    peer.stop();
}

#[test]
fn commands_work_alike_with_and_without_a_running_peer() {
    let home = Home::with_store();
    let mut seen = Vec::new();
    for running in [false, true] {
        let peer = running.then(|| home.run());
        home.ok(&["put", "/doc", r#"{"list":[1,2,3],"text":"a"}"#]);
        home.ok(&["put", "/doc", "--at", "/list/1", "20"]);
        home.ok(&["put", "/doc", "--merge", r#"{"text":null}"#]);
        let value = home.json(&["get", "/doc"])["value"].clone();
        let part = home.ok(&["get", "/doc", "--at", "/list/1"]);
        let listed = home.json(&["list", "/"])["path"].clone();
        assert_eq!(home.ok(&["delete", "/doc"]), "/doc deleted\n");
        let gone = home.fails(3, &["get", "/doc"]);
        seen.push((value, part, listed, gone));
        if let Some(peer) = peer {
            peer.stop();
        }
    }
    assert_eq!(seen[0].0, serde_json::json!({"list": [1, 20, 3]}));
    assert_eq!(seen[0], seen[1]);
}
