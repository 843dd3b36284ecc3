//! Malformed input: a status, a sentence that names what is wrong, and nothing changed.

use crate::support::{Home, refuses};

#[test]
fn every_malformed_argument_is_named_and_changes_nothing() {
    let home = Home::with_store();
    home.ok(&["put", "/doc", r#"{"a":1,"list":[1]}"#]);
    let before = home.json(&["get", "/doc"]);
    let long = format!("/{}", "x".repeat(600));
    let table: &[(&[&str], i32, &[&str])] = &[
        (&["put", "doc", "{}"], 2, &["path \"doc\"", "slash"]),
        (&["put", "/a//b", "{}"], 2, &["path", "empty segment"]),
        (&["put", "/a/../b", "{}"], 2, &["path", "`..`"]),
        (&["put", "/a\u{7}", "{}"], 2, &["path", "control"]),
        (&["put", "/e\u{301}", "{}"], 2, &["path", "NFC"]),
        (&["put", &long, "{}"], 2, &["path", "512"]),
        (&["put", "/doc", "{a:1}"], 2, &["value", "JSON"]),
        (&["put", "/doc", ""], 2, &["value", "JSON"]),
        (&["put", "/new", "{}"], 2, &["value", "at least one key"]),
        (&["put", "/doc", "7"], 2, &["value", "object"]),
        (&["put", "/doc", "--at", "a", "1"], 2, &["JSON Pointer"]),
        (&["put", "/doc", "--at", "/nothing/there", "1"], 3, &["nothing"]),
        (&["put", "/doc", "--at", "/list/9", "1"], 2, &["9"]),
        (&["put", "/doc", r#"{"$bytes":"!"}"#], 2, &["$bytes"]),
        (&["get", "doc"], 2, &["path"]),
        (&["get", "/doc", "--at", "a"], 2, &["pointer"]),
        (&["get", "/doc", "--at", "/zzz"], 3, &["/zzz"]),
        (&["get", "/missing"], 3, &["/missing"]),
        (&["delete", "/missing"], 3, &["/missing"]),
        (&["history", "/missing"], 3, &["/missing"]),
        (&["list", "lists"], 2, &["prefix"]),
        (&["watch", "/a/"], 2, &["prefix"]),
        (&["--space", "nowhere", "list"], 3, &["nowhere", "default"]),
        (&["join", "fsi1nonsense"], 2, &["invitation"]),
        (&["join", ""], 2, &["invitation"]),
        (&["space", "create", ""], 2, &["name"]),
        (&["space", "create", "default"], 2, &["default"]),
        (&["invite", "--print", "--prefix", "x"], 2, &["prefix"]),
        (&["invite", "--print", "--address", "here"], 2, &["here"]),
        (&["invite", "--print", "--expires", "soon"], 2, &["soon"]),
        (&["invite", "--print", "--role", "king"], 2, &["king"]),
        (&["import", "/nowhere/x"], 3, &["/nowhere/x"]),
        (&["put"], 2, &["PATH"]),
        (&["fly"], 2, &["fly"]),
        (&["put", "/doc", "{}", "--replace", "--merge"], 2, &["--merge"]),
    ];
    for (arguments, status, parts) in table {
        let said = home.fails(*status, arguments);
        for part in *parts {
            assert!(said.contains(part), "{arguments:?} should name {part:?}: {said}");
        }
    }
    assert_eq!(home.json(&["get", "/doc"]), before);
    assert_eq!(home.ok(&["list"]), "/doc\n");
    assert_eq!(home.ok(&["space"]).lines().count(), 1);
}

#[test]
fn failures_are_json_for_programs() {
    let home = Home::with_store();
    let said = home.fails(3, &["--json", "get", "/missing"]);
    let error: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(error["error"]["code"], "not_found");
    assert!(error["error"]["message"].as_str().unwrap().contains("/missing"));
}

#[test]
fn malformed_configuration_names_key_and_place() {
    let home = Home::new();
    std::fs::write(home.parent().join("f.toml"), "spcae = 'x'\n").unwrap();
    let said = home.fails(2, &["--config", "f.toml", "run"]);
    assert!(said.contains("spcae") && said.contains("f.toml") && said.contains("`space`"), "{said}");
    let said = refuses(home.command(&["list"]).env("FORESHORE_HTTP", "here").output().unwrap(), 2, &["list"]);
    assert!(said.contains("FORESHORE_HTTP") && said.contains("here"), "{said}");
    let said = home.fails(2, &["run", "--listen", "somewhere"]);
    assert!(said.contains("--listen") && said.contains("somewhere"), "{said}");
    let said = home.fails(2, &["run", "--listen", "/ip4/300.0.0.1/tcp/1"]);
    assert!(said.contains("300.0.0.1"), "{said}");
    assert!(!home.data().exists(), "nothing was made");
}

#[test]
fn a_file_that_is_no_export_is_refused() {
    let home = Home::with_store();
    std::fs::write(home.parent().join("x"), "something else\n").unwrap();
    assert!(home.fails(2, &["import", "x"]).contains("not an export"));
    std::fs::write(home.parent().join("x"), format!("foreshore export 1 default\n{}", "\u{7f}".repeat(9))).unwrap();
    assert!(home.fails(2, &["import", "x"]).contains("claims"));
}

#[test]
fn a_wrong_directory_is_not_made_into_a_store() {
    let home = Home::new();
    for arguments in
        [&["list"][..], &["get", "/x"], &["put", "/x", r#"{"k":1}"#], &["status"], &["doctor"], &["invite", "--print"]]
    {
        let said = home.fails(3, arguments);
        assert!(said.contains("no store in data"), "{arguments:?}: {said}");
    }
    std::fs::write(home.parent().join("x"), "foreshore export 1 fs1q\n").unwrap();
    assert!(home.fails(3, &["import", "x"]).contains("no store in data"));
    assert!(!home.data().exists());
}

#[test]
fn a_secret_is_not_printed_where_nobody_looks() {
    let home = Home::with_store();
    assert!(home.fails(2, &["invite"]).contains("--print"));
    assert!(home.ok(&["invite", "--print"]).starts_with("fsi1"));
    let made = home.json(&["invite", "--role", "reader", "--prefix", "/lists", "--expires", "1h"]);
    assert_eq!((&made["role"], &made["prefix"]), (&"reader".into(), &"/lists".into()));
    assert!(made["expires_at"].as_i64().unwrap() > 0);
}
