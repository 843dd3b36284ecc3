//! Who may do what with a node: ZooKeeper's access control lists.
//!
//! A node has its own list; nothing is inherited. A list holds `(permissions, scheme, id)`, and a client acts under the
//! identities that its voter vouches for: its address (`ip`) and what it authenticated as (`digest`). The schemes are
//! `world:anyone`, `auth` (whatever the creator authenticated as, written out when the list is set), `digest`
//! (`user:base64(SHA-1(user:password))`, compared as text) and `ip` (an address, or `address/bits`). Source: ZooKeeper's
//! Programmer's Guide, "ACL Permissions", and the behaviour of 3.8. Absent: the schemes `x509`, `sasl` and `super`.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use super::error::CoordError;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Most entries of one list.
pub const MAX_ACL: usize = 64;

/// Most identities that one client acts under.
pub const MAX_IDENTITIES: usize = 16;

/// Longest scheme or id in bytes.
pub const MAX_IDENTITY_BYTES: usize = 256;

/// Permissions as ZooKeeper's bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Perms(u8);

impl Perms {
    /// Read data and list children.
    pub const READ: Self = Self(1);
    /// Set data.
    pub const WRITE: Self = Self(2);
    /// Create children.
    pub const CREATE: Self = Self(4);
    /// Delete children.
    pub const DELETE: Self = Self(8);
    /// Set the list itself.
    pub const ADMIN: Self = Self(16);
    /// All of them.
    pub const ALL: Self = Self(31);

    /// From ZooKeeper's bits; others than its five are dropped, since they permit nothing.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// ZooKeeper's bits.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Those of either.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Whom an entry of a list is about, or what a client is known as.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// `world`, `auth`, `digest` or `ip`.
    pub scheme: String,
    /// What the scheme says it is.
    pub id: String,
}

impl Identity {
    /// An identity of these two texts.
    pub fn new(scheme: &str, id: &str) -> Self {
        Self { scheme: scheme.into(), id: id.into() }
    }

    /// Everybody.
    pub fn anyone() -> Self {
        Self::new("world", "anyone")
    }

    fn is_anyone(&self) -> bool {
        self.scheme == "world" && self.id == "anyone"
    }

    /// Whether an entry of a list that names `self` is about a client known as `client`.
    fn matches(&self, client: &Identity) -> bool {
        self.scheme == client.scheme
            && match self.scheme.as_str() {
                "ip" => Network::parse(&self.id).is_some_and(|network| network.holds(&client.id)),
                _ => self.id == client.id,
            }
    }

    /// Whether a list may name it as it stands.
    fn is_well_formed(&self) -> bool {
        match self.scheme.as_str() {
            // ZooKeeper splits at colons and forgets empty parts at the end.
            "digest" => self.id.trim_end_matches(':').split(':').count() == 2,
            "ip" => Network::parse(&self.id).is_some(),
            _ => false,
        }
    }
}

impl Codec for Identity {
    fn encode(&self, w: &mut Writer) {
        w.str(&self.scheme).str(&self.id);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            scheme: r.str(MAX_IDENTITY_BYTES, "scheme")?.into(),
            id: r.str(MAX_IDENTITY_BYTES, "identity")?.into(),
        })
    }
}

/// `address` or `address/bits`.
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    fn holds(&self, client: &str) -> bool {
        match (self.address, client.parse()) {
            (IpAddr::V4(net), Ok(IpAddr::V4(client))) => {
                (net.to_bits() ^ client.to_bits()).checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(net), Ok(IpAddr::V6(client))) => {
                (net.to_bits() ^ client.to_bits()).checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AclEntry {
    /// What is permitted.
    pub perms: Perms,
    /// To whom.
    pub who: Identity,
}

impl Codec for AclEntry {
    fn encode(&self, w: &mut Writer) {
        w.u8(self.perms.bits());
        self.who.encode(w);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bits = r.u8("permissions")?;
        if bits > Perms::ALL.bits() {
            return Err(DecodeError::Invalid { field: "permissions" });
        }
        Ok(Self { perms: Perms(bits), who: Identity::decode(r)? })
    }
}

/// A node's list. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl(Arc<[AclEntry]>);

static OPEN: LazyLock<Acl> = LazyLock::new(|| Acl(Arc::new([AclEntry { perms: Perms::ALL, who: Identity::anyone() }])));

impl Acl {
    /// Everything for everybody.
    pub fn open() -> Self {
        OPEN.clone()
    }

    /// A list as a client sends it. What is wrong with it is said when it is set.
    pub fn new(entries: Vec<AclEntry>) -> Self {
        Self(entries.into())
    }

    /// The entries.
    pub fn entries(&self) -> &[AclEntry] {
        &self.0
    }

    /// Whether a client with these identities has one of `perms`. An empty list is no list: it permits everything.
    pub fn permits(&self, perms: Perms, identities: &[Identity]) -> bool {
        self.0.is_empty()
            || self
                .0
                .iter()
                .filter(|entry| entry.perms.meets(perms))
                .any(|entry| entry.who.is_anyone() || identities.iter().any(|client| entry.who.matches(client)))
    }

    /// The list as it is kept: without repetitions, and with `auth` written out as what the client authenticated as.
    pub(crate) fn resolve(&self, identities: &[Identity]) -> Result<Acl, CoordError> {
        let mut kept: Vec<AclEntry> = Vec::new();
        let mut keep = |entry: AclEntry| {
            if !kept.contains(&entry) {
                kept.push(entry);
            }
        };
        for entry in &*self.0 {
            if entry.who.is_anyone() || entry.who.is_well_formed() {
                keep(entry.clone());
            } else if entry.who.scheme == "auth" {
                // An address proves no one's identity, so it does not count as authentication.
                let mut own = identities.iter().filter(|identity| identity.scheme == "digest").peekable();
                own.peek().ok_or(CoordError::InvalidAcl)?;
                own.for_each(|identity| keep(AclEntry { perms: entry.perms, who: identity.clone() }));
            } else {
                return Err(CoordError::InvalidAcl);
            }
        }
        if kept.is_empty() || kept.len() > MAX_ACL {
            return Err(CoordError::InvalidAcl);
        }
        let kept = Self::new(kept);
        Ok(if kept == *OPEN { Self::open() } else { kept })
    }

    /// Bytes it counts for: nothing for the shared open one.
    pub(crate) fn bytes(&self) -> usize {
        if *self == *OPEN { 0 } else { self.0.iter().map(|e| e.who.scheme.len() + e.who.id.len() + 64).sum() }
    }
}

impl Codec for Acl {
    fn encode(&self, w: &mut Writer) {
        if *self == *OPEN {
            w.u8(0);
        } else {
            w.u8(1).list(&self.0, |w, entry| entry.encode(w));
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8("access control list")? {
            0 => Ok(Self::open()),
            1 => {
                let list = Self::new(r.list(MAX_ACL, "access control list", AclEntry::decode)?);
                if list == *OPEN { Err(DecodeError::Invalid { field: "access control list" }) } else { Ok(list) }
            }
            _ => Err(DecodeError::Invalid { field: "access control list" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u8, &str, &str)]) -> Acl {
        Acl::new(entries.iter().map(|(p, s, i)| AclEntry { perms: Perms(*p), who: Identity::new(s, i) }).collect())
    }

    #[test]
    fn malformed_lists_are_refused() {
        let nobody = [Identity::new("ip", "10.0.0.1")];
        for entries in [
            &[][..],
            &[(31, "auth", "")],
            &[(31, "world", "me")],
            &[(31, "digest", "joe")],
            &[(31, "digest", "a:b:c")],
            &[(31, "ip", "10.0.0")],
            &[(31, "ip", "10.0.0.1/33")],
            &[(31, "sasl", "joe")],
        ] {
            assert_eq!(list(entries).resolve(&nobody), Err(CoordError::InvalidAcl), "{entries:?}");
        }
    }

    #[test]
    fn auth_is_written_out_once_and_repetitions_go() {
        let me = [Identity::new("ip", "10.0.0.1"), Identity::new("digest", "joe:hash")];
        let resolved = list(&[(31, "auth", ""), (31, "auth", "x"), (1, "world", "anyone"), (1, "world", "anyone")]);
        assert_eq!(resolved.resolve(&me).unwrap(), list(&[(31, "digest", "joe:hash"), (1, "world", "anyone")]));
    }

    #[test]
    fn lists_permit_whom_they_name() {
        let joe = [Identity::new("digest", "joe:hash"), Identity::new("ip", "10.1.2.3")];
        for (entries, perms, permitted) in [
            (&[(1, "world", "anyone")][..], Perms::READ, true),
            (&[(1, "world", "anyone")], Perms::WRITE, false),
            (&[(1, "world", "anyone")], Perms::READ.and(Perms::ADMIN), true),
            (&[(2, "digest", "joe:hash")], Perms::WRITE, true),
            (&[(2, "digest", "joe:other")], Perms::WRITE, false),
            (&[(31, "ip", "10.1.2.3")], Perms::ADMIN, true),
            (&[(31, "ip", "10.1.0.0/16")], Perms::ADMIN, true),
            (&[(31, "ip", "10.2.0.0/16")], Perms::ADMIN, false),
            (&[(31, "ip", "0.0.0.0/0")], Perms::ADMIN, true),
            (&[(31, "ip", "::/0")], Perms::ADMIN, false),
        ] {
            assert_eq!(list(entries).permits(perms, &joe), permitted, "{entries:?}");
        }
    }
}
