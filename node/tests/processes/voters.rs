//! The group of voters from a shell: who is in it, who leads it.

use crate::support::{Home, Running, get, join_as_voter, peer_id, trio, until};

/// Looks at a peer's own view of the group until it shows something.
fn group_when(home: &Home, what: &str, shows: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    until(what, || {
        let group = home.json(&["voters"]);
        shows(&group).then_some(group)
    })
}

#[test]
fn a_fresh_space_has_one_voter_and_the_first_words_say_so() {
    let home = Home::new();
    let mut command = home.command(&["run", "--listen", "off", "--http", "off"]);
    command.stderr(std::process::Stdio::null());
    let mut peer = Running::follow(command);
    let said = until("the banner says what works", || {
        let line = peer.line();
        assert!(!line.is_empty(), "the banner ended");
        line.contains("  space ").then_some(line)
    });
    assert!(said.contains("1 voter: locks and elections work"), "{said}");
    home.ok(&["lock", "/a", "--", "true"]);
    let group = home.json(&["voters"]);
    assert_eq!((&group["role"], group["members"].as_array().unwrap().len()), (&"leader".into(), 1));
    assert!(home.ok(&["status"]).contains("leader of 1 voter"));
    peer.kill();
}

#[test]
fn voters_come_and_go_and_hand_over() {
    let (homes, peers) = trio();
    let ids: Vec<String> = peers.iter().map(|peer| peer_id(&peer.status)).collect();
    let group = homes[0].json(&["voters"]);
    assert_eq!((&group["role"], &group["leader"]), (&"leader".into(), &ids[0].as_str().into()));
    assert_eq!(group["members"].as_array().unwrap().iter().filter(|member| member["votes"] == true).count(), 3);
    until("everybody is in step", || {
        let group = homes[0].json(&["voters"]);
        group["members"].as_array().unwrap().iter().all(|member| member["lag"] == 0).then_some(())
    });

    // Whoever does not lead says who does.
    let refused = homes[1].fails(1, &["voters", "remove", &ids[2]]);
    assert!(refused.contains(&ids[0]) && refused.contains("transfer"), "{refused}");
    assert!(homes[0].fails(1, &["voters", "remove", &ids[0]]).contains("hand leadership over"));
    assert!(homes[0].fails(3, &["voters", "add", "nobody"]).contains("foreshore peers"));

    // A fourth only receives, then takes the third one's place.
    let fourth = Home::new();
    join_as_voter(&homes[0], &fourth);
    let newcomer = fourth.run();
    let id = peer_id(&newcomer.status);
    until("the newcomer is linked", || homes[0].ok(&["--json", "peers"]).contains(&id).then_some(()));
    homes[0].ok(&["voters", "add", "--learner", &id]);
    group_when(&fourth, "the newcomer learns", |group| group["role"] == "learner");
    until("it has caught up", || homes[0].output(&["voters", "replace", &ids[2], &id]).status.success().then_some(()));
    group_when(&fourth, "the newcomer votes", |group| group["role"] == "follower");
    homes[0].ok(&["voters", "remove", &id]);
    assert!(homes[0].fails(3, &["voters", "remove", &id]).contains("no member"));

    // Equal states at equal entries, and a leader that is stopped hands over before it goes.
    homes[0].ok(&["tree", "create", "/kept", "1"]);
    let before = homes[0].json(&["voters"]);
    let after = group_when(&homes[1], "the other one is in step", |group| group["applied"] == before["applied"]);
    assert_eq!(after["digest"], before["digest"]);
    let [first, second, third] = peers;
    let metrics = get(&second.status, "/metrics");
    assert!(metrics.contains("foreshore_strong_voters{") && metrics.contains(before["digest"].as_str().unwrap()));
    homes[0].ok(&["voters", "transfer", &ids[1]]);
    let led = homes[1].json(&["voters"]);
    assert_eq!((&led["role"], led["term"].as_u64() > before["term"].as_u64()), (&"leader".into(), true));
    homes[1].ok(&["voters", "transfer"]);
    group_when(&homes[0], "it leads again", |group| group["role"] == "leader");
    homes[0].ok(&["voters", "transfer", &ids[1]]);
    second.stop();
    // Nobody waited for the silence of the one that stopped: its successor was in office before.
    let group = homes[0].json(&["voters"]);
    assert_eq!(group["role"], "leader", "{group}");
    for peer in [first, third, newcomer] {
        peer.kill();
    }
}

#[test]
fn an_invitation_to_vote_is_for_the_whole_space_and_no_vote_by_itself() {
    let home = Home::new();
    let peer = home.run();
    assert!(home.fails(2, &["invite", "--print", "--role", "voter", "--prefix", "/a"]).contains("prefix"));
    let other = Home::new();
    let invitation = home.ok(&["invite", "--print"]);
    other.ok(&["join", invitation.trim()]);
    let second = other.run();
    let id = peer_id(&second.status);
    until("they are linked", || home.ok(&["--json", "peers"]).contains(&id).then_some(()));
    assert!(home.fails(1, &["voters", "add", &id]).contains("invite --role voter"));
    assert!(other.ok(&["voters"]).contains("does not vote"));
    // A member that does not vote is a client of the one that does.
    other.ok(&["tree", "create", "/from-afar", "x"]);
    assert_eq!(home.ok(&["tree", "get", "/from-afar"]), "x\n");
    second.stop();
    peer.stop();
}
