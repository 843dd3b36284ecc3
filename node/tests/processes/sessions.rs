//! Bookmarks from shell to shell: what was written through one peer is waited for at another.

use foreshore::peer::Bookmark;
use serde_json::Value as Json;

use crate::support::{Home, Running, refuses};

const LISTEN: [&str; 4] = ["--listen", "/ip4/127.0.0.1/tcp/0", "--http", "off"];

fn bookmark(answer: &Json) -> String {
    let text = answer["bookmark"].as_str().expect("writes and reads print a bookmark").to_owned();
    assert!(text.starts_with("fsb1"), "{text}");
    text
}

/// Two homes with one space, and the second one's peer, which the first one can dial.
fn pair() -> (Home, Home, Running, String) {
    let (here, there) = (Home::with_store(), Home::new());
    let invitation = here.ok(&["invite", "--print"]);
    assert!(there.feed(&["join", "--name", "default"], &invitation).status.success());
    let peer = there.run_with(&LISTEN);
    let address = peer.status["listen"][0].as_str().unwrap().to_owned();
    (here, there, peer, address)
}

#[test]
fn what_was_written_through_one_peer_is_waited_for_at_another() {
    let (here, there, peer, address) = pair();
    let written = bookmark(&here.json(&["put", "/lists/food", r#"{"bread":2}"#]));
    let said = there.fails(7, &["wait", &written, "--timeout", "100ms"]);
    assert!(said.contains("/lists/food"), "{said}");
    let said = there.fails(7, &["get", "/other", "--at-least", &written, "--timeout", "100ms"]);
    assert!(said.contains("/lists/food") && said.contains("peers"), "{said}");
    // It waits before the write can be there, and is told when it is.
    let mut waits = Running::follow(there.command(&["--json", "wait", &written, "--timeout", "60s"]));
    let dials = here.run_with(&[&LISTEN[..], &["--dial", &address]].concat());
    assert_eq!(waits.end(), Some(0));
    let reached: Json = serde_json::from_str(&waits.line()).unwrap();
    assert_eq!(reached["space"], "default");
    let read = there.json(&["get", "/lists/food", "--at-least", &bookmark(&reached)]);
    assert_eq!(read["value"]["bread"], 2);
    // Read there, and deleted there: here nobody is shown it any more.
    let gone = bookmark(&there.json(&["delete", "/lists/food"]));
    here.fails(3, &["get", "/lists/food", "--at-least", &gone, "--timeout", "60s"]);
    assert_eq!(here.json(&["put", "/lists/food", r#"{"bread":1}"#])["changed"], true);
    dials.stop();
    peer.stop();
}

#[test]
fn a_write_that_changes_nothing_and_an_import_have_bookmarks_too() {
    let home = Home::with_store();
    home.ok(&["put", "/a", r#"{"n":1}"#]);
    let again = home.json(&["put", "/a", r#"{"n":1}"#]);
    assert_eq!(again["changed"], false);
    let named: Bookmark = bookmark(&again).parse().unwrap();
    assert_eq!(named.documents().count(), 1);
    home.ok(&["wait", &bookmark(&again), "--timeout", "1ms"]);
    home.ok(&["export", "copy"]);
    let all = bookmark(&home.json(&["import", "copy"]));
    let output = home.feed(&["wait", "-"], &all);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "here, in default\n");
}

#[test]
fn a_bookmark_that_cannot_be_used_says_why() {
    let (home, other) = (Home::with_store(), Home::with_store());
    let good = bookmark(&home.json(&["put", "/a", r#"{"n":1}"#]));
    let damaged = format!("{}{}", &good[..good.len() - 1], if good.ends_with('q') { 'p' } else { 'q' });
    let foreign = bookmark(&other.json(&["put", "/a", r#"{"n":1}"#]));
    let newer = newer(&good);
    let cases: [(&[&str], i32, &str); 6] = [
        (&["wait", "tomorrow"], 2, "not a bookmark"),
        (&["wait", &damaged], 2, "bookmark"),
        (&["wait", &newer], 2, "format 2"),
        (&["wait", &foreign], 3, "no space"),
        (&["--space", "default", "get", "/a", "--at-least", &foreign], 2, "of space"),
        (&["wait", &good, "--timeout", "soon"], 2, "30s"),
    ];
    for (arguments, status, word) in cases {
        let said = home.fails(status, arguments);
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    let output = home.output(&["--json", "wait", &damaged]);
    let failure: Json = serde_json::from_str(&refuses(output, 2, &["wait"])).unwrap();
    assert_eq!(failure["error"]["code"], "invalid");
}

/// The same bookmark as a later version might write it.
fn newer(good: &str) -> String {
    let mut bytes = good.parse::<Bookmark>().unwrap().to_bytes();
    bytes.truncate(bytes.len() - 4);
    bytes[0] = 2;
    let sum = blake3::derive_key("foreshore 1 bookmark checksum", &bytes);
    bytes.extend_from_slice(&sum[..4]);
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let letter = |five: &[u8]| {
        let n = (0..5).fold(0, |n, i| n << 1 | five.get(i).copied().unwrap_or(0));
        b"qpzry9x8gf2tvdw0s3jn54khce6mua7l"[usize::from(n)] as char
    };
    format!("fsb1{}", bits.chunks(5).map(letter).collect::<String>())
}
