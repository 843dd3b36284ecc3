//! The operator of a simulated group: adds spares, promotes, replaces the dead, removes, and moves leadership around.

use super::check::Violation;
use super::world::World;
use crate::coord::raft::{Member, MemberId, Standing};

impl World {
    pub(super) fn operate(&mut self) -> Result<(), Violation> {
        self.retire();
        let Some(leader) = self.leader() else { return Ok(()) };
        let names: Vec<Member> = self.nodes.iter().map(|node| node.me).collect();
        let choice = self.dice.below(6);
        let bits = self.dice.bits();
        let calm = self.calm;
        let Some(group) = &mut self.nodes[leader].group else { return Ok(()) };
        let membership = group.membership().clone();
        let me = group.identity().id;
        let pick = |from: Vec<MemberId>| from.get(bits as usize % from.len().max(1)).copied();
        let dead = membership.members.iter().find(|(_, member)| !names.contains(member)).map(|(id, _)| *id);
        let learner = pick(membership.learners.iter().filter(|id| Some(**id) != dead).copied().collect());
        let other = pick(membership.voters.iter().filter(|id| Some(**id) != me).copied().collect());
        let new = |name: &&Member| membership.id_of(name).is_none() && !membership.former.contains(&name.store);
        let spare = names.iter().find(new);
        // What is refused is asked for again another time: the operator is patient.
        let _ = match (choice, spare, learner) {
            (0 | 1, Some(spare), _) if !calm => group.add_learner(*spare).map(drop),
            (0..=2, _, Some(learner)) if dead.is_some_and(|dead| membership.voters.contains(&dead)) => {
                group.replace(dead.unwrap_or(learner), learner).map(drop)
            }
            (2, _, Some(learner)) if membership.voters.len() < 5 => group.promote(learner).map(drop),
            (3, _, Some(learner)) if !calm => other.map_or(Ok(()), |other| group.replace(other, learner).map(drop)),
            (4, ..) if membership.voters.len() > 3 && !calm => {
                dead.or(other).map_or(Ok(()), |gone| group.remove(gone).map(drop))
            }
            (5, ..) if !calm => other.map_or(Ok(()), |other| group.transfer_leadership(other)),
            _ => Ok(()),
        };
        self.pump(leader)
    }

    /// Whoever was removed begins again as a newcomer.
    fn retire(&mut self) {
        let Some(leader) = self.leader() else { return };
        let Some(group) = &self.nodes[leader].group else { return };
        let membership = group.membership().clone();
        for n in 0..self.nodes.len() {
            let Some(group) = &self.nodes[n].group else { continue };
            let given = group.identity().id.is_some_and(|id| id.0 < membership.next_id);
            let gone = given && membership.id_of(&group.identity().me).is_none();
            if n != leader && self.is_up(n) && (gone || self.standing(n) == Some(Standing::Removed)) {
                self.rejoin(n);
            }
        }
    }
}
