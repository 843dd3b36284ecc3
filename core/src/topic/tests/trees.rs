//! Trees: made by what comes twice, mended by what does not come.

use super::*;

#[test]
fn in_a_mesh_a_stream_reaches_everybody_once() {
    const NODES: usize = 8;
    let mut net = Net::mesh(NODES, 3);
    // Who sent on a first signal and got none back has asked for no silence yet: trees take a few rounds.
    const ROUNDS: usize = 5;
    for n in 0..ROUNDS * NODES {
        net.publish(n % NODES, "/a", "first");
        net.run_for(200);
    }
    net.run_for(2_000);
    let before = net.crossed;
    const MORE: usize = 20;
    for n in 0..MORE {
        net.publish(n % NODES, "/a", &n.to_string());
        net.run_for(200);
    }
    net.run_for(2_000);
    net.check();
    assert_eq!(net.crossed - before, (MORE * (NODES - 1)) as u64, "once to everybody and never twice");
    assert!(net.heard.iter().all(|heard| heard.len() == ROUNDS * NODES + MORE));
}

#[test]
fn when_the_link_that_a_stream_came_by_is_lost_another_is_asked_at_once() {
    let mut net = Net::mesh(3, 4);
    for n in 0..5 {
        net.publish(0, "/a", &format!("warm {n}"));
        net.run_for(200);
    }
    net.cut(0, 1);
    net.run_for(50);
    net.publish(0, "/a", "after");
    net.run_for(100);
    assert_eq!(net.payloads(1, 0, "/a").last().unwrap(), "after");
    net.check();
}

/// Two ways lead to the far end; the one in use breaks in its middle, where its far end does not see it.
#[test]
fn a_way_that_breaks_far_away_is_found_out_and_nothing_is_missed() {
    let mut net = Net::new(6, &[(0, 1), (1, 2), (2, 5), (0, 3), (3, 4), (4, 5)], 5);
    for n in 0..5 {
        net.publish(0, "/a", &format!("warm {n}"));
        net.run_for(300);
    }
    let by = |net: &Net, a: usize, b: usize| net.wires.iter().find(|(_, ends)| **ends == [a, b]).map(|(wire, _)| *wire);
    let tag = signal::stream_tag(&sender(0), 1, &path("/a"));
    let silent = net.states[5].links[&LinkId(by(&net, 4, 5).unwrap())].is_silent(&tag);
    // Cut the first link of the way that speaks.
    let (a, b) = if silent { (0, 1) } else { (0, 3) };
    net.cut(a, b);
    net.publish(0, "/a", "lost for a moment");
    net.run_for(5);
    net.publish(0, "/a", "and this");
    net.run_for(3_000);
    let heard = net.payloads(5, 0, "/a");
    assert_eq!(heard[5..], ["lost for a moment", "and this"], "neighbours had kept it");
    let behind = if silent { 1 } else { 3 };
    assert_eq!(net.payloads(behind, 0, "/a").last().unwrap(), "and this", "the other way round");
    net.check();
    assert!(net.heard[5].iter().all(|event| event.missed == 0));
}

#[test]
fn a_link_that_goes_on_in_spite_of_a_request_is_asked_again() {
    let mut here = state(0);
    here.connect(LinkId(1), sender(1).peer, root(), Timestamp::ZERO);
    here.connect(LinkId(2), sender(2).peer, root(), Timestamp::ZERO);
    let prunes = |here: &mut State, micros: u64| {
        let sent = sent(here, 2, at(micros)).into_iter();
        sent.filter(|message| matches!(message, Message::Prune(_))).count()
    };
    for (seconds, expected) in [(0, 1), (1, 0), (4, 0), (5, 1), (6, 0)] {
        let again = signal(1, 1, seconds + 1, "/a", WALL);
        give(&mut here, 1, at(seconds * 1_000_000), &again);
        give(&mut here, 2, at(seconds * 1_000_000), &again);
        assert_eq!(prunes(&mut here, seconds * 1_000_000), expected, "second {seconds}");
    }
}

#[test]
fn an_announcement_that_leads_nowhere_costs_one_request() {
    let mut here = state(0);
    here.connect(LinkId(1), sender(1).peer, root(), Timestamp::ZERO);
    let have: Vec<(StreamTag, u64)> = (0..MAX_TAGS as u64).map(|n| (StreamTag(n.to_le_bytes()), 9)).collect();
    for _ in 0..3 {
        here.on_message(LinkId(1), at(0), Message::Have(have.clone()), 9, &|_, _| true).unwrap();
    }
    assert_eq!(sent(&mut here, 1, at(100_000)), []);
    let due = here.next_timer().unwrap();
    here.tick(due);
    let asked = sent(&mut here, 1, at(due.as_micros()));
    assert!(matches!(asked.as_slice(), [Message::Graft(marks)] if marks.len() == MAX_EXPECTED), "{asked:?}");
    assert_eq!(here.next_timer(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is cut and healed meanwhile: in order, once, gaps told; and when it is quiet again everything arrives.
    #[test]
    fn promises_hold_while_links_come_and_go(seed: u64) {
        const NODES: usize = 6;
        let mut net = Net::mesh(NODES, seed);
        let pairs: Vec<(usize, usize)> = (0..NODES).flat_map(|a| (a + 1..NODES).map(move |b| (a, b))).collect();
        let mut down: Vec<(usize, usize)> = Vec::new();
        for n in 0..150 {
            let who = net.draw(NODES as u64) as usize;
            let topic = if net.draw(3) == 0 { "/b" } else { "/a" };
            net.publish(who, topic, &n.to_string());
            let pause = net.draw(60);
            net.run_for(pause);
            let pair = pairs[net.draw(pairs.len() as u64) as usize];
            if down.len() > 6 || (net.draw(2) == 0 && !down.is_empty()) {
                let at = net.draw(down.len() as u64) as usize;
                let (a, b) = down.swap_remove(at);
                net.connect(a, b);
            } else if !down.contains(&pair) {
                net.cut(pair.0, pair.1);
                down.push(pair);
            }
        }
        // Half of what is down comes back, so that trees have to be found anew; node 0 sees to it that all are connected.
        for (a, b) in down {
            if a == 0 || net.draw(2) == 0 {
                net.connect(a, b);
            }
        }
        net.run_for(2_000);
        let before: Vec<usize> = net.heard.iter().map(Vec::len).collect();
        for round in 0..3 {
            for who in 0..NODES {
                net.publish(who, "/a", &format!("end {round}"));
            }
            net.run_for(40);
        }
        net.run_for(6_000);
        net.check();
        for (node, before) in before.iter().enumerate() {
            prop_assert_eq!(net.heard[node].len() - before, 3 * NODES, "node {}", node);
        }
    }
}
