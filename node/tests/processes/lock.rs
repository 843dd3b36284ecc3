//! Locks and elections from a shell: programs run under them, and end when they are lost.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::support::{Home, Running, trio, until};

/// A program that writes what it is told into files, and ends when a file says so.
struct Script<'a> {
    home: &'a Home,
    name: &'static str,
}

impl<'a> Script<'a> {
    fn new(home: &'a Home, name: &'static str) -> Self {
        Self { home, name }
    }

    fn file(&self, what: &str) -> PathBuf {
        self.home.parent().join(format!("{}-{what}", self.name))
    }

    /// Writes its token and its process id, and waits for a file. `on_term`: what it does on SIGTERM.
    fn text(&self, on_term: &str) -> String {
        let file = |what: &str| self.file(what).display().to_string();
        format!(
            "trap '{on_term}' TERM; echo $$ > {pid}; echo $FORESHORE_FENCING_TOKEN > {token}.new; mv {token}.new {token}; \
             while [ ! -e {go} ]; do sleep 0.05; done",
            pid = file("pid"),
            token = file("token"),
            go = file("go"),
        )
    }

    /// Waits until it runs; its token.
    fn token(&self) -> u64 {
        until("the program runs", || read(&self.file("token"))).parse().unwrap()
    }

    fn go(&self) {
        std::fs::write(self.file("go"), "").unwrap();
    }

    fn runs(&self) -> bool {
        let pid = read(&self.file("pid")).unwrap();
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A zombie has ended; whoever reaps it is none of this test's affair.
        state.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with('Z'))
    }
}

fn read(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn start(home: &Home, arguments: &[&str], script: &str) -> Running {
    Running::follow(home.command(&[arguments, &["--", "sh", "-c", script]].concat()))
}

#[test]
fn a_lock_has_one_holder_and_the_next_one_a_greater_token() {
    let home = Home::new();
    assert!(home.fails(125, &["lock", "/cron", "--", "true"]).contains("foreshore run"));
    let peer = home.run();
    let (one, two) = (Script::new(&home, "one"), Script::new(&home, "two"));
    let mut first = start(&home, &["lock", "/cron"], &one.text("exit 5"));
    let token = one.token();
    let touched = home.parent().join("touched");
    let touch = ["--", "touch", touched.to_str().unwrap()];
    assert!(home.fails(125, &[&["lock", "/cron", "--try"], &touch[..]].concat()).contains("held"));
    assert!(home.fails(125, &[&["lock", "/cron", "--wait", "100ms"], &touch[..]].concat()).contains("deadline"));
    assert!(!touched.exists(), "a program without its lock is not started");
    let mut second = start(&home, &["lock", "/cron"], &two.text("exit 5"));
    let shown = until("one holds it and one waits", || {
        let shown = home.json(&["lock", "/cron", "--show"]);
        (shown["waiting"] == 1).then_some(shown)
    });
    assert_eq!(shown["holders"][0]["token"], token);
    assert!(!two.file("token").exists());
    one.go();
    assert_eq!(first.end(), Some(0));
    assert!(two.token() > token);
    // Told to stop, it passes that on, and gives the lock back when the program has ended.
    second.signal(Signal::TERM);
    assert_eq!(second.end(), Some(5));
    home.ok(&["lock", "/cron", "--try", "--", "true"]);
    peer.stop();
}

#[test]
fn the_status_is_the_programs_own() {
    let home = Home::new();
    let peer = home.run();
    home.ok(&["lock", "/a", "--", "true"]);
    home.fails(7, &["lock", "/a", "--", "sh", "-c", "exit 7"]);
    home.fails(128 + 9, &["lock", "/a", "--", "sh", "-c", "kill -9 $$"]);
    assert!(home.fails(127, &["lock", "/a", "--", "./no-such-program"]).contains("no-such-program"));
    home.fails(7, &["elect", "/a", "--", "sh", "-c", "exit 7"]);
    assert!(home.fails(125, &["lock", "a//b", "--", "true"]).contains("/a/b"));
    assert!(home.fails(2, &["lock", "/a"]).contains("COMMAND"));
    // Nothing of it is left.
    assert_eq!(home.json(&["lock", "/a", "--show"])["holders"], serde_json::json!([]));
    peer.stop();
}

#[test]
fn shared_holders_run_together_and_keep_an_exclusive_one_out() {
    let home = Home::new();
    let peer = home.run();
    let (one, two) = (Script::new(&home, "one"), Script::new(&home, "two"));
    let mut first = start(&home, &["lock", "/files", "--shared"], &one.text("exit"));
    one.token();
    let mut second = start(&home, &["lock", "/files", "--shared"], &two.text("exit"));
    two.token();
    home.fails(125, &["lock", "/files", "--try", "--", "true"]);
    one.go();
    two.go();
    assert_eq!((first.end(), second.end()), (Some(0), Some(0)));
    peer.stop();
}

/// A peer that is stopped says nothing: the program ends by the clock, before anybody else can have the lock.
#[test]
fn a_program_ends_when_its_lock_is_lost() {
    let home = Home::new();
    let peer = home.run();
    let (one, two) = (Script::new(&home, "one"), Script::new(&home, "two"));
    let trapped = home.parent().join("trapped");
    let first = one.text(&format!("touch {}; exit 0", trapped.display()));
    let mut first = start(&home, &["lock", "/one", "--ttl", "2s"], &first);
    // This one does not listen.
    let mut second = start(&home, &["lock", "/two", "--ttl", "2s"], &two.text(""));
    one.token();
    two.token();
    peer.signal(Signal::STOP);
    assert_eq!(first.end(), Some(126));
    assert!(trapped.exists(), "it was asked before it was ended");
    assert_eq!(second.end(), Some(126));
    assert!(!one.runs() && !two.runs());
    peer.signal(Signal::CONT);
    home.ok(&["lock", "/one", "--", "true"]);
    home.ok(&["lock", "/two", "--", "true"]);
    peer.stop();
}

#[test]
fn a_program_ends_with_its_peer_and_with_its_command() {
    let home = Home::new();
    let peer = home.run();
    let one = Script::new(&home, "one");
    let mut held = start(&home, &["lock", "/cron", "--ttl", "3s"], &one.text("exit"));
    let first = one.token();
    peer.kill();
    assert_eq!(held.end(), Some(126));
    assert!(!one.runs());

    let peer = home.run();
    let two = Script::new(&home, "two");
    let held = start(&home, &["lock", "/cron"], &two.text("exit"));
    let second = two.token();
    assert!(second > first, "also after a restart");
    held.kill();
    until("the program of a killed command has ended", || (!two.runs()).then_some(()));
    // The peer saw the connection end, so nobody waits for the session's time.
    let three = Script::new(&home, "three");
    let mut held = start(&home, &["lock", "/cron", "--ttl", "1h"], &three.text("exit 3"));
    assert!(three.token() > second);

    // A peer that is told to stop has programs end first.
    peer.stop();
    assert_eq!(held.end(), Some(126));
    assert!(!three.runs());
    let peer = home.run();
    home.ok(&["lock", "/cron", "--", "true"]);
    peer.stop();
}

#[test]
fn another_candidate_leads_when_the_leader_is_killed() {
    let (homes, peers) = trio();
    let [one, two] = [0, 1].map(|n| Script::new(&homes[n], "candidate"));
    let mut first = start(&homes[0], &["elect", "/leader", "--value", "first", "--ttl", "3s"], &one.text("exit"));
    let token = one.token();
    let mut second = start(&homes[1], &["elect", "/leader", "--value", "second", "--ttl", "3s"], &two.text("exit 4"));
    let mut watch = Running::follow(homes[2].command(&["--json", "elect", "/leader", "--observe"]));
    let seen: serde_json::Value = serde_json::from_str(&watch.line()).unwrap();
    assert_eq!((&seen["token"], &seen["value"]["text"]), (&token.into(), &"first".into()));
    // The leader of the election and of the voters, at once.
    let [killed, survivor, third] = peers;
    killed.kill();
    assert!(two.token() > token);
    // Both are never at work: the first program had ended before.
    assert!(!one.runs());
    let led = until("everybody sees the new leader", || {
        let seen: serde_json::Value = serde_json::from_str(&watch.line()).unwrap();
        (seen["value"]["text"] == "second").then_some(seen)
    });
    assert!(led["token"].as_u64().unwrap() > token);
    // The first one stands again when it can, which it cannot.
    assert!(first.child.try_wait().unwrap().is_none());
    first.signal(Signal::TERM);
    assert_eq!(first.end(), Some(130));
    second.signal(Signal::TERM);
    assert_eq!(second.end(), Some(4));
    watch.kill();
    third.stop();
    survivor.stop();
}

#[test]
fn without_a_majority_nothing_is_granted_and_what_was_held_ends() {
    let (homes, peers) = trio();
    let one = Script::new(&homes[0], "holder");
    let mut held = start(&homes[0], &["lock", "/cron", "--ttl", "3s"], &one.text("exit"));
    one.token();
    let [alone, second, third] = peers;
    second.kill();
    third.kill();
    assert_eq!(held.end(), Some(126));
    assert!(!one.runs());
    let said = homes[0].fails(125, &["lock", "/other", "--try", "--", "true"]);
    assert!(said.contains("quorum") || said.contains("unknown"), "{said}");
    assert!(homes[0].fails(7, &["tree", "get", "/"]).contains("foreshore voters"));
    alone.kill();
}
