//! The tree and queues from a shell.

use rustix::process::Signal;
use serde_json::Value as Json;

use crate::support::{Home, Running, until};

#[test]
fn nodes_have_versions_lives_and_children() {
    let home = Home::new();
    assert!(home.fails(1, &["tree", "ls"]).contains("foreshore run"));
    let peer = home.run();
    assert_eq!(home.ok(&["tree", "create", "/config", "{\"a\":1}"]), "/config\n");
    assert_eq!(home.ok(&["tree", "get", "/config"]), "{\"a\":1}\n");
    assert!(home.ok(&["tree", "set", "/config", "two"]).contains("version 1"));
    assert!(home.fails(9, &["tree", "set", "/config", "three", "--version", "0"]).contains("the version is 1"));
    let node = home.json(&["tree", "get", "/config"]);
    assert_eq!((&node["data"]["text"], &node["stat"]["version"]), (&"two".into(), &1.into()));
    assert!(home.ok(&["tree", "get", "/config", "--stat"]).contains("persistent"));
    // Bytes that are no text come back as they are.
    let output = home.feed(&["tree", "create", "/config/blob", "-"], "");
    assert!(output.status.success());
    for n in 0..2 {
        let name = home.ok(&["tree", "create", "/config/n-", "--sequential"]);
        assert_eq!(name, format!("/config/n-{:010}\n", n + 1));
    }
    assert_eq!(home.ok(&["tree", "ls", "/config"]), "blob\nn-0000000001\nn-0000000002\n");
    assert_eq!(home.json(&["tree", "ls"]), serde_json::json!(["config"]));
    assert!(home.fails(9, &["tree", "delete", "/config"]).contains("children"));
    assert!(home.fails(9, &["tree", "create", "/config"]).contains("exists"));
    assert!(home.fails(3, &["tree", "create", "/no/parent"]).contains("no such node"));
    home.fails(3, &["tree", "get", "/nothing"]);
    home.fails(2, &["tree", "get", "nothing"]);
    assert_eq!(home.ok(&["tree", "delete", "/config/blob"]), "/config/blob deleted\n");
    // What was agreed on survives.
    peer.kill();
    let peer = home.run();
    assert_eq!(home.ok(&["tree", "get", "/config"]), "two\n");
    peer.stop();
}

#[test]
fn an_ephemeral_node_lives_with_its_command_and_watchers_see_all_of_it() {
    let home = Home::new();
    let peer = home.run();
    home.ok(&["tree", "create", "/members"]);
    let mut watch = Running::follow(home.command(&["--json", "tree", "watch", "--recursive", "/members"]));
    let next = |watch: &mut Running| -> (String, String) {
        let event: Json = serde_json::from_str(&watch.line()).unwrap();
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        (text("kind"), text("path"))
    };
    let is = |kind: &str, path: &str| (kind.to_owned(), path.to_owned());
    assert_eq!(next(&mut watch), is("watching", "/members"));
    let mut holder = Running::follow(home.command(&["tree", "create", "/members/a", "here", "--ephemeral"]));
    assert_eq!(holder.line(), "/members/a\n");
    assert_eq!(next(&mut watch), is("created", "/members/a"));
    home.ok(&["tree", "set", "/members/a", "still here"]);
    assert_eq!(next(&mut watch), is("changed", "/members/a"));
    let node = home.json(&["tree", "get", "/members/a"]);
    assert_eq!(node["stat"]["life"], "ephemeral");
    holder.signal(Signal::TERM);
    assert_eq!(holder.end(), Some(130));
    assert_eq!(next(&mut watch), is("deleted", "/members/a"));
    let holder = Running::follow(home.command(&["tree", "create", "/members/b", "--ephemeral"]));
    assert_eq!(next(&mut watch), is("created", "/members/b"));
    holder.kill();
    assert_eq!(next(&mut watch), is("deleted", "/members/b"), "however the command ends");
    watch.kill();
    peer.stop();
}

#[test]
fn an_item_is_done_once_or_tried_again_and_put_aside_in_the_end() {
    let home = Home::new();
    let peer = home.run();
    let number = |line: &Json| line["item"].as_u64().unwrap();
    let first = number(&home.json(&["queue", "push", "/jobs", "a", "--attempts", "2"]));
    home.ok(&["queue", "push", "/jobs", "b"]);
    assert!(home.ok(&["queue", "stats", "/jobs"]).contains("2 ready"));
    let pop = || home.json(&["queue", "pop", "/jobs"]);
    let settle = |what: &str, claimed: &Json| {
        home.ok(&["queue", what, "/jobs", &claimed["item"].to_string(), &claimed["token"].to_string()]);
    };
    let claimed = pop();
    assert_eq!((number(&claimed), &claimed["attempt"]), (first, &1.into()));
    assert_eq!(claimed["body"]["text"], "a");
    settle("nack", &claimed);
    let again = pop();
    assert_eq!((number(&again), &again["attempt"]), (first, &2.into()));
    let stale = ["queue", "ack", "/jobs", &first.to_string(), &claimed["token"].to_string()];
    assert!(home.fails(9, &stale).contains("token"), "the first claim is over");
    settle("nack", &again);
    assert_eq!(home.json(&["queue", "dead", "list", "/jobs"]), serde_json::json!([first]));
    assert_eq!(home.ok(&["queue", "show", "/jobs", &first.to_string()]), "a\n");
    settle("ack", &pop());
    assert!(home.fails(3, &["queue", "pop", "/jobs"]).contains("queue work"));
    home.ok(&["queue", "dead", "revive", "/jobs", &first.to_string()]);
    settle("ack", &pop());
    home.fails(3, &["queue", "show", "/jobs", &first.to_string()]);
    home.fails(2, &["queue", "push", "/jobs", "x", "--attempts", "0"]);
    peer.stop();
}

#[test]
fn workers_get_each_item_and_again_what_a_killed_one_had() {
    let home = Home::new();
    let peer = home.run();
    let done = home.parent().join("done");
    let script = format!("cat >> {0}; echo \" $FORESHORE_ATTEMPT\" >> {0}", done.display());
    home.ok(&["queue", "push", "/jobs", "one"]);
    home.ok(&["queue", "push", "/jobs", "two"]);
    home.ok(&["queue", "work", "/jobs", "--count", "2", "--", "sh", "-c", &script]);
    assert_eq!(std::fs::read_to_string(&done).unwrap(), "one 1\ntwo 1\n");
    // A worker that fails gives the item back; here to itself.
    let fails_once = format!("test $FORESHORE_ATTEMPT = 2 || exit 1; {script}");
    home.ok(&["queue", "push", "/jobs", "three"]);
    home.ok(&["queue", "work", "/jobs", "--count", "2", "--", "sh", "-c", &fails_once]);
    assert!(std::fs::read_to_string(&done).unwrap().ends_with("three 2\n"));
    // One that is killed has its item worked on by another.
    let started = home.parent().join("started");
    let hangs = format!("touch {}; sleep 1000", started.display());
    let worker = Running::follow(home.command(&["queue", "work", "/jobs", "--", "sh", "-c", &hangs]));
    home.ok(&["queue", "push", "/jobs", "four"]);
    until("the worker has the item", || started.exists().then_some(()));
    worker.kill();
    home.ok(&["queue", "work", "/jobs", "--count", "1", "--", "sh", "-c", &script]);
    assert!(std::fs::read_to_string(&done).unwrap().ends_with("four 2\n"));
    // One that takes too long is ended, and its item goes to whoever is faster.
    home.ok(&["queue", "push", "/jobs", "five"]);
    let slow_once = format!("test $FORESHORE_ATTEMPT = 2 || sleep 1000; {script}");
    home.ok(&["queue", "work", "/jobs", "--for", "2s", "--count", "2", "--", "sh", "-c", &slow_once]);
    assert!(std::fs::read_to_string(&done).unwrap().ends_with("five 2\n"));
    assert!(home.ok(&["queue", "stats", "/jobs"]).contains("0 ready, 0 being worked on, 0 put aside"));
    peer.stop();
}
