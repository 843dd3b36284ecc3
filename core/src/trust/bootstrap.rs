//! A new space.
//!
//! The root signs three facts of its own chain, admin, writer and (for devices that can vote) voter of `/` for the
//! creator's device, in this order: the admin grant comes first because every invitation carries it, and the first fact of
//! a chain needs no predecessor.

use crate::id::{DeviceId, Prefix, SpaceId};
use crate::trust::device::RootKey;
use crate::trust::fact::{Fact, FactBody, Link};
use crate::trust::grant::{Grant, Role};
use crate::trust::roster::Roster;

/// A space that has just been made.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// Its id.
    pub space: SpaceId,
    /// Its first facts, to be stored and replicated.
    pub facts: Vec<Fact>,
    /// The roster of them.
    pub roster: Roster,
}

/// Makes the space of a root key with one device as its admin, writer and, if `votes`, voter. The same root and device
/// make the same facts again, so this can be repeated after a crash.
pub fn create_space(root: &RootKey, device: &DeviceId, votes: bool) -> Bootstrap {
    let space = root.space();
    let mut roster = Roster::new(space);
    let mut facts = Vec::new();
    let roles: &[Role] = if votes { &[Role::Admin, Role::Writer, Role::Voter] } else { &[Role::Admin, Role::Writer] };
    for role in roles {
        let body = FactBody::Grant(Grant::new(*device, *role, Prefix::root()));
        let link = Link::behind(roster.chain_end(&root.signer().device()));
        let fact = Fact::sign(root.signer(), &space, link, body).expect("a grant of `/` is well formed and small");
        roster.insert(fact.clone()).expect("the root's own chain is admissible in an empty roster");
        facts.push(fact);
    }
    Bootstrap { space, facts, roster }
}
