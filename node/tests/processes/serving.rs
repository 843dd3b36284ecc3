//! A peer as a service: its ports, its lock, its end.

use rustix::process::Signal;

use crate::support::{Home, Running, get, until};

#[test]
fn a_second_peer_on_the_same_directory_is_told_who_has_it() {
    let home = Home::new();
    let peer = home.run();
    let said = home.fails(5, &["run", "--http", "off", "--listen", "off"]);
    assert!(said.contains(&format!("process {}", peer.child.id())), "{said}");
    assert!(said.contains("data"), "{said}");
    assert!(home.fails(5, &["doctor"]).contains("in use"));
    // The first one is none the worse.
    home.ok(&["put", "/x", r#"{"k":1}"#]);
    peer.stop();
}

#[test]
fn two_peers_with_default_ports_share_a_machine() {
    let (one, two) = (Home::new(), Home::new());
    let first = one.run_with(&[]);
    let second = two.run_with(&[]);
    assert_ne!(first.status["http"], second.status["http"]);
    assert!(!second.status["listen"].as_array().unwrap().is_empty());
    first.stop();
    second.stop();
}

#[test]
fn a_configured_port_that_is_taken_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let home = Home::new();
    let said = home.fails(1, &["run", "--listen", "off", "--http", &address.to_string()]);
    assert!(said.contains(&address.to_string()) && said.contains("--http"), "{said}");
    let listen = format!("/ip4/127.0.0.1/tcp/{}", address.port());
    let said = home.fails(1, &["run", "--http", "off", "--listen", &listen]);
    assert!(said.contains(&listen), "{said}");
}

#[test]
fn health_readiness_metrics_and_status_are_served() {
    let home = Home::new();
    let peer = home.run();
    home.ok(&["put", "/x", r#"{"k":1}"#]);
    assert!(get(&peer.status, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(&peer.status, "/readyz").starts_with("HTTP/1.1 200"));
    let metrics = get(&peer.status, "/metrics");
    assert!(metrics.contains("foreshore_documents{space=\"fs1") && metrics.trim_end().ends_with("# EOF"), "{metrics}");
    let status = get(&peer.status, "/status");
    assert!(status.contains("\"documents\":1") && status.contains("\"pid\":"), "{status}");
    peer.stop();
}

#[test]
fn both_signals_stop_a_peer_cleanly() {
    let home = Home::new();
    for signal in [Signal::TERM, Signal::INT] {
        let mut peer = home.run();
        // A caller that waits for ever must not hold up the end.
        let mut watch = Running::follow(home.command(&["watch"]));
        let mut edits = 0;
        let line = watch.line_while(|| {
            edits += 1;
            home.ok(&["put", "/x", "--merge", &format!(r#"{{"edits":{edits}}}"#)]);
        });
        assert!(line.contains("/x"), "{line}");
        home.ok(&["put", "/x", "--merge", r#"{"n":1}"#]);
        peer.signal(signal);
        assert_eq!(peer.end(), Some(0));
        assert_ne!(watch.end(), Some(0), "the watcher is told that its peer is gone");
        assert!(!home.data().join("control.sock").exists());
        assert!(home.data().join("life").exists(), "the store was closed cleanly");
    }
    assert_eq!(home.ok(&["get", "/x", "--at", "/n"]), "1\n");
    assert!(home.ok(&["doctor"]).contains("healthy"));
}

#[test]
fn the_control_socket_and_the_store_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let peer = home.run();
    let mode = |name: &str| std::fs::metadata(home.data().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("."), mode("control.sock"), mode("store.redb")], [0o700, 0o600, 0o600]);
    peer.stop();
}

#[test]
fn a_peer_in_memory_serves_and_keeps_nothing() {
    let home = Home::new();
    let peer = home.run_with(&["--storage", "memory", "--listen", "off", "--http", "off"]);
    home.ok(&["put", "/x", r#"{"k":1}"#]);
    assert_eq!(home.ok(&["list"]), "/x\n");
    peer.stop();
    assert!(!home.data().join("store.redb").exists());
}

#[test]
fn a_killed_peer_lets_go_of_its_directory() {
    let home = Home::new();
    let peer = home.run();
    home.ok(&["put", "/x", r#"{"n":1}"#]);
    peer.kill();
    assert_eq!(home.ok(&["get", "/x", "--at", "/n"]), "1\n");
    let again = home.run();
    until("the peer answers", || home.ok(&["list"]).contains("/x").then_some(()));
    again.stop();
}
