//! Grants: a device, a role, a prefix, and the one rule that says which grant allows which.
//!
//! ```text
//! grant body
//!   subject      32   the device's public key
//!   role          1   0 reader, 1 writer, 2 admin, 3 voter
//!   flags         1   bit 0: not_after · bit 1: delegation · bit 2: delegation has not_after · others 0
//!   prefix        varint length, then `/` or a path; `/` for a voter
//!   not_after         zigzag varint, ms since 1970, if bit 0
//!   delegated until   zigzag varint, ms since 1970, if bit 2 (which needs bit 1)
//! ```
//!
//! | role | reads under the prefix | writes | grants | votes |
//! |---|---|---|---|---|
//! | reader | yes | | | |
//! | writer | yes | yes | | |
//! | admin | | | any role, any prefix inside its own | |
//! | voter | | | | in the space's consensus group |
//!
//! Roles do not include each other, except that a writer reads: whoever is to administer and write holds two grants.
//!
//! A *delegating* grant is what an invitation carries. It gives its subject (a key whose seed is in the link) nothing
//! but the right to make grants like itself: same role (or reader, from writer), a prefix inside its own, an end no later
//! than the delegation says, and never delegating again.
//!
//! **Not here.** A clock. `not_after` stops a device at the handshake and an invitation from being accepted; it never
//! decides whether a fact is admitted. An unknown flag or role is a malformed grant, not a newer one: a restriction that
//! is skipped would be a right, so whatever a later version adds takes a new fact kind.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::id::{DeviceId, Path, Prefix};
use crate::time::WallTime;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Replicates and reads.
    Reader = 0,
    /// Reads and writes.
    Writer = 1,
    /// Makes grants under its prefix.
    Admin = 2,
    /// Takes part in the space's consensus group.
    Voter = 3,
}

/// Text is not the name of a role.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not a role: write reader, writer, admin or voter")]
pub struct RoleError {
    /// What was given.
    pub text: String,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 4] = [Role::Reader, Role::Writer, Role::Admin, Role::Voter];

    /// Whether the role reads documents.
    pub const fn reads(self) -> bool {
        matches!(self, Role::Reader | Role::Writer)
    }

    /// Whether the role writes documents.
    pub const fn writes(self) -> bool {
        matches!(self, Role::Writer)
    }

    /// Whether a delegation of this role may hand out `other`.
    pub const fn covers(self, other: Role) -> bool {
        matches!(
            (self, other),
            (Role::Reader, Role::Reader)
                | (Role::Writer, Role::Reader | Role::Writer)
                | (Role::Admin, Role::Admin)
                | (Role::Voter, Role::Voter)
        )
    }

    /// The role's name.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Writer => "writer",
            Role::Admin => "admin",
            Role::Voter => "voter",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = RoleError;
    fn from_str(text: &str) -> Result<Self, RoleError> {
        Role::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| RoleError { text: text.into() })
    }
}

/// What a delegating grant lets its subject hand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delegation {
    /// The latest end that a delegated grant may have; `None`: it need not end.
    pub not_after: Option<WallTime>,
}

/// A right of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who receives it.
    pub subject: DeviceId,
    /// What it allows.
    pub role: Role,
    /// Where.
    pub prefix: Prefix,
    /// When it ends. For a delegating grant: until when the invitation can be accepted.
    pub not_after: Option<WallTime>,
    /// If set, the grant gives its subject nothing but the right to hand it on.
    pub delegation: Option<Delegation>,
}

impl Grant {
    /// A grant without end.
    pub fn new(subject: DeviceId, role: Role, prefix: Prefix) -> Self {
        Self { subject, role, prefix, not_after: None, delegation: None }
    }

    /// The same grant with an end.
    pub fn until(mut self, not_after: Option<WallTime>) -> Self {
        self.not_after = not_after;
        self
    }

    /// The same grant as a delegating one.
    pub fn delegating(mut self, delegation: Delegation) -> Self {
        self.delegation = Some(delegation);
        self
    }

    /// Whether it gives its subject a right of its own, and so makes it a member.
    pub fn is_own(&self) -> bool {
        self.delegation.is_none()
    }

    /// Whether it has ended at `now`.
    pub fn expired(&self, now: WallTime) -> bool {
        self.not_after.is_some_and(|end| end < now)
    }

    /// Whether its subject may read `path` by it.
    pub fn reads(&self, path: &Path) -> bool {
        self.is_own() && self.role.reads() && self.prefix.covers(path)
    }

    /// Whether its subject may write `path` by it.
    pub fn writes(&self, path: &Path) -> bool {
        self.is_own() && self.role.writes() && self.prefix.covers(path)
    }

    /// Whether its subject is an admin of all of `prefix` by it.
    pub fn administers(&self, prefix: &Prefix) -> bool {
        self.is_own() && self.role == Role::Admin && self.prefix.contains(prefix)
    }

    /// Whether its subject may hand out `other` by delegation.
    pub fn delegates(&self, other: &Grant) -> bool {
        self.delegation.is_some_and(|delegation| {
            let ends_in_time = match (delegation.not_after, other.not_after) {
                (None, _) => true,
                (Some(limit), Some(end)) => end <= limit,
                (Some(_), None) => false,
            };
            ends_in_time
                && other.delegation.is_none()
                && self.role.covers(other.role)
                && self.prefix.contains(&other.prefix)
        })
    }

    /// Whether it stands outside its signer's chain when an admin makes it. Admin and delegating grants do, so that what
    /// an invitation carries is complete without the chains of everyone on the way to the root.
    pub fn goes_unchained(&self) -> bool {
        self.role == Role::Admin || self.delegation.is_some()
    }

    /// Whether it is well formed: a voter's prefix is `/`.
    pub(crate) fn is_well_formed(&self) -> bool {
        self.role != Role::Voter || self.prefix == Prefix::root()
    }
}

impl Codec for Grant {
    fn encode(&self, w: &mut Writer) {
        let delegated_until = self.delegation.and_then(|delegation| delegation.not_after);
        let flags = u8::from(self.not_after.is_some())
            | u8::from(self.delegation.is_some()) << 1
            | u8::from(delegated_until.is_some()) << 2;
        w.array(&self.subject.0).u8(self.role as u8).u8(flags).str(self.prefix.as_str());
        for end in [self.not_after, delegated_until].into_iter().flatten() {
            w.zigzag(end.0);
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let subject = DeviceId(r.array("grant subject")?);
        let role = usize::from(r.u8("grant role")?);
        let role = *Role::ALL.get(role).ok_or(DecodeError::Invalid { field: "grant role" })?;
        let flags = r.u8("grant flags")?;
        if flags > 0b111 || flags & 0b110 == 0b100 {
            return Err(DecodeError::Invalid { field: "grant flags" });
        }
        let prefix = r.str(Path::MAX_LEN, "grant prefix")?;
        let prefix = Prefix::parse(prefix).map_err(|_| DecodeError::Invalid { field: "grant prefix" })?;
        let mut end = |bit: u8| match flags & bit {
            0 => Ok(None),
            _ => r.zigzag("grant end").map(|ms| Some(WallTime(ms))),
        };
        let not_after = end(0b001)?;
        let delegated_until = end(0b100)?;
        let delegation = (flags & 0b010 != 0).then_some(Delegation { not_after: delegated_until });
        let grant = Self { subject, role, prefix, not_after, delegation };
        if !grant.is_well_formed() {
            return Err(DecodeError::Invalid { field: "voter prefix" });
        }
        Ok(grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        Prefix::parse(text).unwrap()
    }

    #[test]
    fn roles_give_exactly_what_the_table_says() {
        let path = Path::parse("/a/b").unwrap();
        for (role, reads, writes, administers) in [
            (Role::Reader, true, false, false),
            (Role::Writer, true, true, false),
            (Role::Admin, false, false, true),
            (Role::Voter, false, false, false),
        ] {
            let grant = Grant::new(DeviceId([1; 32]), role, Prefix::root());
            assert_eq!(
                (grant.reads(&path), grant.writes(&path), grant.administers(&prefix("/a"))),
                (reads, writes, administers),
                "{role}"
            );
            let handed = grant.delegating(Delegation { not_after: None });
            assert!(!handed.reads(&path) && !handed.writes(&path) && !handed.administers(&prefix("/a")), "{role}");
        }
    }

    #[test]
    fn a_delegation_hands_on_no_more_than_itself() {
        let end = |ms| Some(WallTime(ms));
        let inviter = Grant::new(DeviceId([1; 32]), Role::Writer, prefix("/a")).until(end(5));
        let inviter = inviter.delegating(Delegation { not_after: end(100) });
        let joiner = |role, at: &str, until| Grant::new(DeviceId([2; 32]), role, prefix(at)).until(until);
        for (grant, allowed) in [
            (joiner(Role::Writer, "/a", end(100)), true),
            (joiner(Role::Reader, "/a/b", end(7)), true),
            (joiner(Role::Writer, "/", end(7)), false),
            (joiner(Role::Writer, "/ab", end(7)), false),
            (joiner(Role::Admin, "/a", end(7)), false),
            (joiner(Role::Writer, "/a", end(101)), false),
            (joiner(Role::Writer, "/a", None), false),
            (joiner(Role::Writer, "/a", end(7)).delegating(Delegation { not_after: end(7) }), false),
        ] {
            assert_eq!(inviter.delegates(&grant), allowed, "{grant:?}");
        }
    }

    #[test]
    fn malformed_grants_are_refused() {
        let bytes = Grant::new(DeviceId([1; 32]), Role::Writer, prefix("/a")).to_bytes();
        for (at, value) in [(32, 4), (33, 8), (33, 4), (34, 200), (35, b'b')] {
            let mut bad = bytes.clone();
            bad[at] = value;
            assert!(Grant::from_bytes(&bad).is_err(), "byte {at} = {value}");
        }
        let voter = Grant { role: Role::Voter, ..Grant::from_bytes(&bytes).unwrap() };
        assert_eq!(Grant::from_bytes(&voter.to_bytes()), Err(DecodeError::Invalid { field: "voter prefix" }));
    }
}
