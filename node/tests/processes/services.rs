//! The service registry from a shell.

use serde_json::Value as Json;

use crate::support::{Home, Running, until};

fn register(home: &Home, arguments: &[&str]) -> Running {
    let mut running = Running::follow(home.command(&[&["--json", "services", "register"], arguments].concat()));
    let line: Json = serde_json::from_str(&running.line()).unwrap();
    assert_eq!(line["service"], arguments[0]);
    running
}

fn listed(home: &Home) -> String {
    home.ok(&["services", "list"])
}

/// Two peers with one space.
fn pair() -> ((Home, Running), (Home, Running)) {
    let (home, other) = (Home::new(), Home::new());
    let peer = home.run();
    let invitation = home.ok(&["invite", "--print"]);
    other.ok(&["join", invitation.trim()]);
    let second = other.run();
    ((home, peer), (other, second))
}

#[test]
fn an_endpoint_is_seen_from_another_peer_while_its_command_lives() {
    let ((home, peer), (other, second)) = pair();
    let mut holder = register(&home, &["api", "10.0.0.1:80", "--meta", "zone=b"]);
    let theirs = until("the endpoint has arrived", || {
        let lines = other.ok(&["--json", "services", "list", "api"]);
        lines.lines().next().map(|line| serde_json::from_str::<Json>(line).unwrap())
    });
    assert_eq!((&theirs["endpoint"], &theirs["metadata"]["zone"]), (&"10.0.0.1:80".into(), &"b".into()));
    assert_eq!((&theirs["mine"], &theirs["owner"]), (&false.into(), &peer.status["peer"]));
    let mut watch = Running::follow(other.command(&["--json", "services", "watch", "--count", "3"]));
    let kind = |line: String| serde_json::from_str::<Json>(&line).unwrap()["kind"].as_str().unwrap().to_owned();
    assert_eq!(kind(watch.line()), "offered", "a watch begins with what is there");

    holder.signal(rustix::process::Signal::TERM);
    assert_eq!(holder.end(), Some(0));
    assert_eq!(kind(watch.line()), "gone");
    // However the command ends, its offer does too.
    let holder = register(&home, &["api", "10.0.0.1:81"]);
    assert_eq!(kind(watch.line()), "offered");
    assert_eq!(watch.end(), Some(0));
    holder.kill();
    until("the offer of a killed command is gone", || listed(&other).is_empty().then_some(()));
    peer.stop();
    second.stop();
}

#[test]
fn a_program_is_offered_as_long_as_it_runs_and_its_status_is_told() {
    let home = Home::new();
    let untouched = home.parent().join("started");
    let touch = ["services", "register", "api", "a:1", "--", "touch", untouched.to_str().unwrap()];
    assert!(home.fails(125, &touch).contains("foreshore run"));
    let peer = home.run();
    assert!(
        home.fails(125, &["services", "register", "a/b", "a:1", "--", "touch", untouched.to_str().unwrap()])
            .contains("no name")
    );
    assert!(!untouched.exists(), "a program whose service is refused is not started");
    home.ok(&["services", "register", "api", "a:1", "--", "true"]);
    home.fails(7, &["services", "register", "api", "a:1", "--", "sh", "-c", "exit 7"]);
    home.fails(128 + 9, &["services", "register", "api", "a:1", "--", "sh", "-c", "kill -9 $$"]);
    assert!(
        home.fails(127, &["services", "register", "api", "a:1", "--", "./no-such-program"]).contains("no-such-program")
    );
    until("nothing is offered by programs that ended", || listed(&home).is_empty().then_some(()));

    // Offered until it is told to stop; then the offer goes first, and the program may end in its own way.
    let ready = home.parent().join("ready");
    let script = format!("trap 'exit 5' TERM; touch {}; while :; do sleep 0.05; done", ready.display());
    let mut holder = register(&home, &["api", "a:1", "--", "sh", "-c", &script]);
    until("the program runs", || ready.exists().then_some(()));
    assert!(listed(&home).contains("a:1"));
    holder.signal(rustix::process::Signal::TERM);
    assert_eq!(holder.end(), Some(5));
    until("the offer is gone", || listed(&home).is_empty().then_some(()));
    peer.stop();
}

#[test]
fn an_endpoint_outlives_a_restart_of_its_peer_and_one_of_two_commands() {
    let home = Home::new();
    let peer = home.run();
    let mut first = register(&home, &["api", "a:1", "--", "sleep", "1000"]);
    let second = register(&home, &["api", "a:1"]);
    second.kill();
    // What the killed command's end does is done before the next answer, or not at all.
    assert!(listed(&home).contains("a:1"), "the other command still holds it");
    peer.stop();
    assert!(home.fails(1, &["services", "list"]).contains("foreshore run"));
    let peer = home.run();
    until("it is offered again", || listed(&home).contains("a:1").then_some(()));
    first.signal(rustix::process::Signal::TERM);
    assert_eq!(first.end(), Some(128 + 15));
    peer.stop();
}

#[test]
fn malformed_registrations_are_refused_with_what_would_be_right() {
    let home = Home::new();
    let peer = home.run();
    assert!(home.fails(2, &["services", "register", "a/b", "a:1"]).contains("letters"));
    assert!(home.fails(2, &["services", "register", "api", "a b"]).contains("host:port"));
    assert!(home.fails(2, &["services", "register", "api", "a:1", "--meta", "novalue"]).contains("key=value"));
    assert!(home.fails(2, &["services", "list", "a/b"]).contains("letters"));
    assert!(home.fails(2, &["services", "watch", "a/b"]).contains("letters"));
    peer.stop();
}
