//! Newcomers to a group of voters that do not answer at once.

use super::*;
use crate::engine::{CoordCommand, CoordFailure, CoordReply, Operation};

/// A voter that leads alone, and a peer that may vote.
fn leader_and_newcomer() -> (Net, SpaceId, Operation) {
    let mut net = Net::new(2);
    (0..2).for_each(|n| assert!(net.call(n, Command::Coord(CoordCommand::Start)).is_ok()));
    let space = net.create_space(0);
    assert_eq!(members(&mut net, space), 1);
    net.run_for(5_000);
    net.join(0, 1, space, Role::Voter, "/");
    net.connect(1, 0);
    net.run_for(500);
    let newcomer = net.nodes[1].peer.unwrap();
    (net, space, Operation::Add(newcomer))
}

fn members(net: &mut Net, space: SpaceId) -> usize {
    match net.call(0, Command::Coord(CoordCommand::Status { space, hash: false })) {
        Ok(Reply::Coord(CoordReply::Status(status))) => status.voters.len() + status.learners.len(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_newcomer_that_hears_only_later_is_asked_again() {
    let (mut net, space, operation) = leader_and_newcomer();
    let before = members(&mut net, space);
    net.nodes[1].deaf = true;
    let request = net.ask(0, Command::Coord(CoordCommand::Operate { space, operation }));
    net.run_for(2_500);
    assert!(net.answer(0, request).is_none());
    net.nodes[1].deaf = false;
    net.run_for(3_000);
    assert!(matches!(net.answer(0, request), Some(Ok(_))), "{:?}", net.answer(0, request));
    assert_eq!(members(&mut net, space), before + 1);
}

/// Whoever asked waited for ever.
#[test]
fn a_newcomer_that_says_nothing_is_given_up() {
    let (mut net, space, operation) = leader_and_newcomer();
    net.nodes[1].deaf = true;
    let request = net.ask(0, Command::Coord(CoordCommand::Operate { space, operation }));
    net.run_for(12_000);
    let answer = net.answer(0, request);
    let given_up = matches!(answer, Some(Err(CommandError::Coord(CoordFailure::ChangeLater(_)))));
    assert!(given_up, "{answer:?}");
}
