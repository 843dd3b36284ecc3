//! Bounds: what happens at each, and to whom.

use super::*;

#[test]
fn a_payload_over_the_bound_is_refused_by_name_and_one_at_it_stays_under_six_kibibytes() {
    let mut here = state(0);
    here.connect(LinkId(1), sender(1).peer, root(), Timestamp::ZERO);
    let long = path(&format!("/{}", "p".repeat(Path::MAX_LEN - 1)));
    let mut publish = |bytes: usize| here.publish(at(0), &key(0), long.clone(), vec![0; bytes].into());
    let refused = publish(MAX_PAYLOAD + 1).unwrap_err();
    assert_eq!(refused, TopicError::PayloadTooLarge { bytes: MAX_PAYLOAD + 1, max: MAX_PAYLOAD });
    publish(MAX_PAYLOAD).unwrap();
    let bytes = here.poll_link(LinkId(1), at(0).mono).remove(0);
    assert!(bytes.len() < 6 * 1024 - 16, "{}", bytes.len());
    let mut large = signal(0, 1, 1, "/a", WALL);
    large.payload = vec![0; MAX_PAYLOAD + 1].into();
    assert!(Message::from_bytes(&Message::Signal(Box::new(large)).to_bytes()).is_err(), "nor is it taken of others");
}

#[test]
fn publishing_too_fast_is_refused_until_there_is_room() {
    let mut here = state(0);
    let mut publish = |micros: u64| here.publish(at(micros), &key(0), path("/a"), Arc::from(*b"x"));
    let passed = (0..10_000).take_while(|_| publish(0).is_ok()).count();
    assert_eq!(passed as u64, PUBLISH.burst / (SIGNAL_CHARGE + 3));
    let Err(TopicError::RateExceeded { wait }) = publish(0) else { panic!("it is over the rate") };
    assert!(wait < Duration::from_millis(10), "{wait:?}");
    let later = u64::try_from(wait.as_micros()).unwrap();
    assert!(publish(later - 1).is_err());
    let (seq, _) = publish(later).unwrap();
    assert_eq!(seq, passed as u64 + 1, "what was refused has no number");
}

#[test]
fn what_a_peer_may_publish_is_never_too_fast_for_others() {
    let mut net = Net::new(3, &[(0, 1), (1, 2)], 6);
    let mut published = 0;
    for _ in 0..400 {
        let now = at(net.micros);
        while net.states[0].publish(now, &key(0), path("/a"), Arc::from(*b"x")).is_ok() {
            published += 1;
            if published % 100 == 0 {
                break;
            }
        }
        net.run_for(10);
    }
    net.run_for(1_000);
    net.check();
    assert!(published > 1_000, "{published}");
    assert_eq!(net.heard[2].len(), published);
    assert_eq!(net.states[1].figures().refused + net.states[2].figures().refused, 0);
}

#[test]
fn a_receiver_that_takes_nothing_loses_its_own_signals_alone_and_is_told() {
    let mut net = Net::new(4, &[(0, 1), (0, 2), (1, 3)], 7);
    net.publish(0, "/a", "first");
    net.run_for(100);
    net.asleep.insert(2);
    let payload = "x".repeat(1_000);
    for _ in 0..600 {
        net.publish(0, "/a", &payload);
        net.run_for(20);
    }
    let kept = net.states[0].figures();
    assert!(kept.dropped > 0 && kept.bytes as usize <= QUEUE_BYTES + RECENT_BYTES, "{kept:?}");
    assert_eq!((net.heard[1].len(), net.heard[3].len()), (601, 601));
    net.asleep.clear();
    net.run_for(2_000);
    net.publish(0, "/a", "last");
    net.run_for(200);
    net.check();
    let heard = &net.heard[2];
    let missed: u64 = heard.iter().map(|event| event.missed).sum();
    assert_eq!(heard.last().unwrap().payload.as_ref(), b"last");
    assert_eq!(heard.len() as u64 + missed, 602, "what was dropped is told: {missed}");
    assert_eq!(missed, net.states[0].figures().dropped);
    assert!(missed > 300);
    assert!(net.heard[1].iter().all(|event| event.missed == 0));
}

/// A member that signs as fast as it can, on a link of its own to a relay between an honest sender and its receivers.
#[test]
fn a_flood_passes_no_honest_signal_by_and_fills_no_memory() {
    let mut net = Net::new(4, &[(0, 1), (1, 2), (1, 3)], 8);
    const FLOODER: usize = 3;
    let flooding = *net.wires.iter().find(|(_, ends)| **ends == [1, FLOODER]).unwrap().0;
    let mut payload = signal(FLOODER, 1, 1, "/flood", WALL);
    payload.payload = vec![0; MAX_PAYLOAD].into();
    let mut seq = 0;
    for n in 0..100 {
        net.publish(0, "/a", &n.to_string());
        let now = at(net.micros);
        for _ in 0..60 {
            seq += 1;
            let flood =
                Signal { seq, issue: now.wall, path: path(&format!("/flood/{}", seq % 700)), ..payload.clone() };
            let message = Message::Signal(Box::new(flood.signed(&key(FLOODER), &SPACE)));
            net.states[1].on_message(LinkId(flooding), now, message, 4_300, &|_, _| true).unwrap();
            net.states[1].take_events();
        }
        net.run_for(30);
    }
    net.run_for(2_000);
    let flood = net.states[1].figures();
    assert!(flood.refused > 4_000, "{flood:?}");
    assert!(flood.streams <= 1 + MAX_DEVICE_STREAMS as u64, "{flood:?}");
    assert!(flood.bytes as usize <= RECENT_BYTES + 3 * QUEUE_BYTES, "{flood:?}");
    for (node, heard) in [(1, net.payloads(1, 0, "/a")), (2, net.payloads(2, 0, "/a"))] {
        assert_eq!(heard.len(), 100, "node {node}");
    }
    let honest = net.heard[2].iter().filter(|event| event.sender == sender(0));
    assert!(honest.clone().all(|event| event.missed == 0));
    let over = Duration::from_micros(net.micros).as_secs_f64() * DEVICE.per_second as f64 + DEVICE.burst as f64;
    let passed = (net.heard[2].len() - honest.count()) * (MAX_PAYLOAD + SIGNAL_CHARGE as usize);
    assert!((passed as f64) < over, "{passed} of {over}");
}

#[test]
fn a_signal_whose_mark_was_forgotten_is_not_delivered_twice() {
    let mut here = state(0);
    here.connect(LinkId(1), sender(1).peer, root(), Timestamp::ZERO);
    let first = signal(1, 1, 1, "/first", WALL);
    let other = signal(2, 1, 1, "/first", WALL);
    assert_eq!(give(&mut here, 1, at(0), &first).len(), 1);
    assert_eq!(give(&mut here, 1, at(0), &other).len(), 1);
    let mut micros = 0;
    for n in 0..2 * MAX_DEVICE_STREAMS {
        micros += 20_000;
        let now = at(micros);
        assert_eq!(give(&mut here, 1, now, &signal(1, 1, 1, &format!("/n/{n}"), now.wall.0)).len(), 1, "{n}");
    }
    assert_eq!(here.figures().streams, MAX_DEVICE_STREAMS as u64 + 1);
    for again in [first, signal(1, 1, 1, "/n/0", WALL + 20), signal(1, 1, 2, "/n/0", WALL + 20)] {
        assert_eq!(give(&mut here, 1, at(micros), &again), [], "{again:?}");
    }
    let newer = signal(1, 1, 2, "/first", at(micros).wall.0);
    assert_eq!(give(&mut here, 1, at(micros), &newer).len(), 1, "what is newer begins anew");
    assert_eq!(give(&mut here, 1, at(micros), &signal(2, 1, 2, "/first", WALL)).len(), 1, "other devices' marks stay");
}

#[test]
fn a_space_full_of_streams_takes_from_who_has_most() {
    let mut here = state(0);
    let mut micros = 0;
    let devices = MAX_STREAMS / MAX_DEVICE_STREAMS + 1;
    for n in 1..=devices {
        here.connect(LinkId(n as u64), sender(n).peer, root(), Timestamp::ZERO);
        for stream in 0..if n == devices { 2 } else { MAX_DEVICE_STREAMS } {
            micros += 10_000;
            let now = at(micros);
            let begins = signal(n, 1, 1, &format!("/n/{stream}"), now.wall.0);
            assert_eq!(give(&mut here, n as u64, now, &begins).len(), 1, "device {n}, stream {stream}");
        }
    }
    assert_eq!(here.figures().streams, MAX_STREAMS as u64);
}

#[test]
fn a_peer_that_publishes_at_very_many_paths_begins_another_incarnation() {
    let (mut here, mut there) = (state(0), state(1));
    here.connect(LinkId(1), sender(1).peer, root(), Timestamp::ZERO);
    there.connect(LinkId(1), sender(0).peer, root(), Timestamp::ZERO);
    let mut micros = 0;
    let mut publish = |text: &str| {
        micros += 20_000;
        here.publish(at(micros), &key(0), path(text), Arc::from(*b"x")).unwrap();
        let mut heard = Vec::new();
        for message in sent(&mut here, 1, at(micros)) {
            let size = message.to_bytes().len();
            there.on_message(LinkId(1), at(micros), message, size, &|_, _| true).unwrap();
            heard.extend(there.take_events());
        }
        for ack in there.poll_link(LinkId(1), at(micros).mono) {
            let message = Message::from_bytes(&ack).unwrap();
            here.on_message(LinkId(1), at(micros), message, 9, &|_, _| true).unwrap();
        }
        assert_eq!((heard.len(), heard[0].missed), (1, 0), "{text}");
        heard[0].seq
    };
    assert_eq!([publish("/again"), publish("/again")], [1, 2]);
    (0..MAX_OWN_PATHS).for_each(|n| assert_eq!(publish(&format!("/n/{n}")), 1));
    assert_eq!([publish("/again"), publish("/again")], [1, 2], "numbers begin anew, and are taken");
}
