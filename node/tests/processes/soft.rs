//! Soft state from a shell.

use crate::support::{Home, Running, until};

#[test]
fn a_soft_entry_is_seen_from_another_peer_and_goes_with_its_own() {
    let home = Home::new();
    let peer = home.run();
    assert_eq!(home.ok(&["soft", "set", "/services/api", r#"{"port":80}"#]), "/services/api set\n");
    let mine = home.json(&["soft", "get", "/services/api"]);
    assert_eq!((&mine["value"]["port"], &mine["mine"]), (&80.into(), &true.into()));

    let invitation = home.ok(&["invite", "--print"]);
    let other = Home::new();
    other.ok(&["join", invitation.trim()]);
    let second = other.run();
    until("the entry has arrived", || other.ok(&["soft", "list"]).contains("/services/api").then_some(()));
    let theirs = other.json(&["soft", "get", "/services/api"]);
    assert_eq!((&theirs["mine"], &theirs["owner"]), (&false.into(), &mine["owner"]));

    // A watcher sees what happens after it has begun, so something happens until it has.
    let mut watch = Running::follow(other.command(&["--json", "soft", "watch", "/services"]));
    let (send, lines) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let line: serde_json::Value = serde_json::from_str(&watch.line()).unwrap();
                let goodbye = line["path"] == "/services/api" && line["kind"] == "deleted";
                send.send(line).unwrap();
                if goodbye {
                    return;
                }
            }
        });
        let mut n = 0;
        let first = until("the watcher has begun", || {
            n += 1;
            home.ok(&["soft", "set", "/services/beat", &n.to_string()]);
            lines.try_recv().ok()
        });
        assert_eq!((&first["kind"], &first["owner"]), (&"set".into(), &mine["owner"]));
        peer.stop();
    });
    assert_eq!(other.ok(&["soft", "list"]), "", "it said goodbye");
    watch.kill();
    second.stop();
}

#[test]
fn soft_entries_are_deleted_by_their_own_peer_and_need_a_running_one() {
    let home = Home::new();
    let peer = home.run();
    home.ok(&["soft", "set", "/a", "text", "--text"]);
    assert_eq!(home.json(&["soft", "get", "/a"])["value"], "text");
    assert_eq!(home.ok(&["soft", "delete", "/a"]), "/a deleted\n");
    assert!(home.fails(3, &["soft", "get", "/a"]).contains("no soft entry"));
    assert!(home.fails(3, &["soft", "delete", "/a"]).contains("no own soft entry"));
    peer.stop();
    assert!(home.fails(1, &["soft", "set", "/a", "1"]).contains("foreshore run"));
}
