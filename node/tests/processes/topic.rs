//! Topics from a shell.

use crate::support::{Home, Running, until};

#[test]
fn a_signal_is_heard_at_another_peer_and_kept_nowhere() {
    let home = Home::new();
    let peer = home.run();
    assert!(home.ok(&["topic", "pub", "/signals", "1"]).contains("no peer is connected"));
    let invitation = home.ok(&["invite", "--print"]);
    let other = Home::new();
    other.ok(&["join", invitation.trim()]);
    let second = other.run();
    // A subscriber hears what is published after it has begun, so something is until it has.
    let mut heard = Running::follow(other.command(&["--json", "topic", "sub", "/signals"]));
    let (send, lines) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let line: serde_json::Value = serde_json::from_str(&heard.line()).unwrap();
                let last = line["value"]["n"] == "last";
                send.send(line).unwrap();
                if last {
                    return;
                }
            }
        });
        let mut n = 0;
        let first = until("the subscriber has begun", || {
            n += 1;
            home.ok(&["topic", "pub", "/signals/beat", &n.to_string()]);
            lines.try_recv().ok()
        });
        assert_eq!((&first["path"], &first["mine"]), (&"/signals/beat".into(), &false.into()));
        assert_eq!((&first["missed"], &first["dropped"]), (&0.into(), &0.into()));
        let published = home.json(&["topic", "pub", "/signals", r#"{"n":"last"}"#]);
        assert_eq!((&published["peers"], &published["seq"]), (&1.into(), &2.into()));
    });
    heard.kill();
    assert_eq!(other.ok(&["list"]), "", "nothing of it is stored");
    second.stop();
    peer.stop();
}

#[test]
fn signals_are_refused_by_name_and_need_a_running_peer() {
    let home = Home::new();
    let peer = home.run();
    let long = format!("\"{}\"", "x".repeat(5_000));
    assert!(home.fails(2, &["topic", "pub", "/a", &long]).contains("at most 4096 bytes"));
    assert!(home.fails(2, &["topic", "pub", "/a", "no json"]).contains("--text"));
    assert!(home.fails(2, &["topic", "pub", "a//b", "1"]).contains("path"));
    peer.stop();
    assert!(home.fails(1, &["topic", "pub", "/a", "1"]).contains("foreshore run"));
    assert!(home.fails(1, &["topic", "sub", "/a"]).contains("foreshore run"));
}
