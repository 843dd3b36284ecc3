//! Commands that have not been met in the first minute.

use serde_json::json;

use crate::support::Home;

#[test]
fn configuration_comes_from_flags_then_environment_then_file_then_defaults() {
    let home = Home::new();
    std::fs::write(home.parent().join("f.toml"), "http = '127.0.0.1:1'\nspace = 'file'\ncache = '2MiB'").unwrap();
    let mut command = home.command(&["--json", "--config", "f.toml", "--space", "flag", "config"]);
    command.env("FORESHORE_SPACE", "environment").env("FORESHORE_HTTP", "127.0.0.1:2");
    let output = command.output().unwrap();
    let config: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let setting = |name: &str| (config["settings"][name]["value"].clone(), config["settings"][name]["source"].clone());
    assert_eq!(setting("space"), (json!("flag"), json!("flag --space")));
    assert_eq!(setting("http"), (json!("127.0.0.1:2"), json!("environment FORESHORE_HTTP")));
    assert_eq!(setting("cache"), (json!("2MiB"), json!("file f.toml")));
    assert_eq!(setting("storage"), (json!("redb"), json!("default")));
    assert!(home.ok(&["config"]).contains("reconcile_period"));
}

#[test]
fn put_takes_values_from_standard_input_and_says_what_it_did() {
    let home = Home::with_store();
    assert!(home.feed(&["put", "/doc"], r#"{"n":1}"#).status.success());
    assert!(home.feed(&["put", "/doc", "-"], r#"{"n":2}"#).status.success());
    assert_eq!(home.ok(&["get", "/doc", "--at", "/n"]), "2\n");
    assert_eq!(home.ok(&["put", "/doc", r#"{"n":2}"#]), "/doc was that way already\n");
    assert_eq!(home.json(&["put", "/doc", r#"{"n":3}"#])["changed"], true);
    home.ok(&["put", "/doc", "--at", "/s", "--text", "it's"]);
    assert_eq!(home.ok(&["get", "/doc", "--at", "/s", "--raw"]), "it's\n");
}

#[test]
fn history_lists_changes_newest_first() {
    let home = Home::with_store();
    for n in 0..4 {
        home.ok(&["put", "/doc", &format!(r#"{{"n":{n}}}"#)]);
    }
    let lines = home.ok(&["--json", "history", "/doc", "--limit", "3"]);
    let revisions: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(revisions.len(), 3);
    assert_eq!(home.ok(&["history", "/doc"]).lines().count(), 4);
    let heads = home.json(&["get", "/doc"])["heads"].clone();
    assert_eq!(heads, json!([revisions[0]["hash"]]));
}

#[test]
fn lists_are_paged_and_in_order() {
    let home = Home::with_store();
    let peer = home.run();
    for n in [3, 1, 2, 0] {
        home.ok(&["put", &format!("/n/{n}"), r#"{"k":1}"#]);
    }
    home.ok(&["put", "/other", r#"{"k":1}"#]);
    assert_eq!(home.ok(&["list", "/n"]), "/n/0\n/n/1\n/n/2\n/n/3\n");
    assert_eq!(home.ok(&["list", "/n", "--limit", "2"]), "/n/0\n/n/1\n");
    assert_eq!(home.ok(&["list", "/n", "--after", "/n/1"]), "/n/2\n/n/3\n");
    assert!(home.ok(&["list", "--long"]).lines().all(|line| line.contains('Z')));
    peer.stop();
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let home = Home::with_store();
    home.ok(&["put", "/a", r#"{"k":1}"#]);
    home.ok(&["put", "/b", r#"{"k":1}"#]);
    let mut command = home.command(&["list"]);
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_export_brings_documents_and_history_to_another_member() {
    let home = Home::with_store();
    for n in 0..30 {
        home.ok(&["put", &format!("/docs/{}", n % 5), &format!(r#"{{"n":{n}}}"#)]);
    }
    home.ok(&["delete", "/docs/4"]);
    let other = Home::new();
    let invitation = home.ok(&["invite", "--print"]);
    assert!(other.feed(&["join", "--name", "shared"], &invitation).status.success());
    assert!(home.ok(&["export", "copy.fsx"]).contains("exported"));
    let copy = home.parent().join("copy.fsx");
    let brought = other.json(&["import", copy.to_str().unwrap()]);
    assert_eq!((&brought["changes"], &brought["refused"]), (&json!(24), &json!(0)));
    assert_eq!(other.ok(&["list"]), home.ok(&["list"]));
    for n in 0..4 {
        let path = format!("/docs/{n}");
        let read = |home: &Home| {
            let read = home.json(&["get", &path]);
            (read["value"].clone(), read["heads"].clone())
        };
        assert_eq!(read(&other), read(&home));
        assert_eq!(other.ok(&["history", &path]), home.ok(&["history", &path]));
    }
    // Again changes nothing; a stranger cannot take it in.
    assert_eq!(other.json(&["import", copy.to_str().unwrap()])["changes"], 0);
    let stranger = Home::with_store();
    assert!(stranger.fails(3, &["import", copy.to_str().unwrap()]).contains("join the space first"));
}

#[test]
fn a_cut_export_brings_what_it_has_and_says_so() {
    let home = Home::with_store();
    home.ok(&["put", "/a", r#"{"n":1}"#]);
    home.ok(&["export", "x"]);
    let whole = std::fs::read(home.parent().join("x")).unwrap();
    std::fs::write(home.parent().join("x"), &whole[..whole.len() - 1]).unwrap();
    assert!(home.fails(6, &["import", "x"]).contains("ends early"));
    std::fs::write(home.parent().join("x"), &whole).unwrap();
    home.ok(&["import", "x"]);
}

#[test]
fn packing_keeps_everything() {
    let home = Home::with_store();
    for n in 0..10 {
        home.ok(&["put", &format!("/docs/{n}"), &format!(r#"{{"n":{n}}}"#)]);
    }
    let before = home.ok(&["list", "--long"]);
    assert!(home.ok(&["doctor", "--compact"]).contains("healthy"));
    assert_eq!(home.ok(&["list", "--long"]), before);
    assert!(home.ok(&["doctor"]).contains("healthy"));
}

#[test]
fn completions_name_every_command() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.ok(&["completions", shell]);
        assert!(script.contains("doctor") && script.contains("completions"), "{shell}");
    }
}

#[test]
fn help_lists_the_exit_statuses() {
    let home = Home::new();
    assert!(home.ok(&["--help"]).contains("130"));
}

#[test]
fn a_root_key_goes_into_a_file_of_its_own_and_nowhere_else() {
    use std::os::unix::fs::PermissionsExt;

    let home = Home::with_store();
    let said = home.ok(&["space", "root-key", "root.key"]);
    let file = home.parent().join("root.key");
    let key = std::fs::read_to_string(&file).unwrap();
    assert!(key.trim().len() == 64 && key.trim().bytes().all(|b| b.is_ascii_hexdigit()), "32 bytes");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!said.contains(key.trim()));
    let seed: Vec<u8> = (0..32).map(|n| u8::from_str_radix(&key[2 * n..2 * n + 2], 16).unwrap()).collect();
    let root = foreshore::trust::RootKey::from_seed(seed.as_slice().try_into().unwrap());
    assert!(said.contains(&root.space().to_bech32()), "it is the key of this very space");
    assert!(home.fails(1, &["space", "root-key", "root.key"]).contains("root.key"), "nothing is overwritten");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), key);
    assert!(home.fails(3, &["--space", "elsewhere", "space", "root-key", "other.key"]).contains("elsewhere"));
}
