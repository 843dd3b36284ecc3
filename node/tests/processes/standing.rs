//! Rights taken back from a shell, what leaves documents with them, and a root key handed on.

use serde_json::{Value as Json, json};

use crate::support::{Home, Running, until};

/// Two peers in step over one document, and the device of the second one.
fn two() -> ([Home; 2], [Running; 2], String) {
    let (home, other) = (Home::new(), Home::new());
    let peer = home.run();
    home.ok(&["put", "/a", r#"{"kept":1}"#]);
    let before = devices(&home);
    other.ok(&["join", home.ok(&["invite", "--print"]).trim()]);
    let second = other.run();
    until("the document has arrived", || (other.ok(&["list"]) == "/a\n").then_some(()));
    let device = until("the newcomer is a member", || devices(&home).into_iter().find(|it| !before.contains(it)));
    ([home, other], [peer, second], device)
}

fn devices(home: &Home) -> Vec<String> {
    let members = home.ok(&["--json", "members"]);
    let all = members.lines().map(|line| serde_json::from_str::<Json>(line).expect("a line is an object"));
    all.filter_map(|member| member["device"].as_str().map(str::to_owned)).collect()
}

fn value(home: &Home) -> Json {
    home.json(&["get", "/a"])["value"].clone()
}

#[test]
fn a_revoked_writer_keeps_what_was_known_and_writes_no_more() {
    let ([home, other], peers, device) = two();
    other.ok(&["put", "/a", "--merge", r#"{"theirs":2}"#, "--synced", "1", "--timeout", "60s"]);
    assert!(home.fails(2, &["revoke"]).contains("DEVICE"));
    assert!(home.fails(3, &["revoke", "00000000"]).contains("members"));
    let revoked = home.json(&["revoke", &device[..12]]);
    assert_eq!(revoked["devices"], json!([device]));
    until("the device learns of its end", || {
        let output = other.output(&["put", "/a", "--merge", r#"{"late":3}"#]);
        (!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("revoked")).then_some(())
    });
    assert_eq!(value(&home), json!({"kept": 1, "theirs": 2}));
    assert!(!devices(&home).contains(&device));
    assert_eq!(home.ok(&["evicted"]), "");
    assert_eq!(home.json(&["revoke", "--expired"])["devices"], json!([]));
    peers.into_iter().for_each(Running::stop);
}

#[test]
fn own_edits_that_left_with_a_revoked_device_are_made_again() {
    let ([home, other], peers, device) = two();
    other.ok(&["put", "/a", "--merge", r#"{"theirs":2}"#, "--synced", "1", "--timeout", "60s"]);
    home.ok(&["put", "/a", "--merge", r#"{"mine":3}"#]);
    home.ok(&["revoke", &device, "--keep-nothing"]);
    let evicted = until("what the device wrote has left", || {
        let evicted = home.ok(&["evicted", "list", "/"]);
        evicted.contains("does not count").then_some(evicted)
    });
    assert!(evicted.contains("this device") && evicted.contains("can be made again"), "{evicted}");
    // The earlier edit of this device was signed with the later one, and is signed anew without it.
    assert_eq!(home.json(&["evicted", "rebase", "/a"])["made"], 1);
    assert_eq!(value(&home), json!({"kept": 1, "mine": 3}));
    home.ok(&["evicted", "discard", "/a"]);
    assert_eq!(home.ok(&["evicted"]), "");
    peers.into_iter().for_each(Running::stop);
}

#[test]
fn a_space_goes_on_under_a_new_root() {
    let ([home, other], peers, device) = two();
    assert!(other.fails(4, &["rotate-root"]).contains("root"));
    let file = home.parent().join("root.key");
    home.ok(&["space", "root-key", file.to_str().unwrap()]);
    let old = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(home.ok(&["rotate-root"]).contains("root-key"));
    home.ok(&["space", "root-key", file.to_str().unwrap()]);
    assert_ne!(std::fs::read(&file).unwrap(), old, "the key that is saved is the new one");
    other.ok(&["put", "/a", "--merge", r#"{"after":4}"#, "--synced", "1", "--timeout", "60s"]);
    assert_eq!(value(&home), json!({"kept": 1, "after": 4}));
    home.ok(&["revoke", &device]);
    peers.into_iter().for_each(Running::stop);
}
