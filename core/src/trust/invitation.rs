//! A link that makes its reader a member.
//!
//! An invitation carries a key of its own, made for it, and the facts that let this key hand on certain grants (see
//! [`super::grant`]). Whoever holds the link signs, with that key, grants for its own device: joining needs no network, and
//! any number of devices may join by one link until it runs out. A link for a single use needs an admin that is online to
//! answer it, and is not this.
//!
//! ```text
//! text     "foreshore:" (optional) · "fsi1" · bytes in bech32's alphabet, all lower or all upper case
//!
//! bytes
//!   version       varint   1
//!   space             32
//!   addresses         varint count (≤ 8), then varint length (≤ 256), a multiaddr as text
//!   facts             varint count (≤ 32), then facts, each after the one that allows it
//!   extensions        varint count, then tag and bytes each; unknown ones are skipped
//!   seed              32   of the invitation's key
//!   checksum           4   BLAKE3-derive("foreshore 1 invitation checksum", everything above)[..4]
//! ```
//!
//! For a grant by the space's creator and one address that is about 480 bytes, 780 characters: a QR code of alphanumeric
//! mode (upper case) in version 17 or so. bech32's own checksum is not used, since it only vouches for 1,023 characters.
//!
//! **Secret.** Whoever reads the link can join. `Debug` does not show it; seed and text are wiped on drop.
//!
//! **Not here.** Dialling the addresses, and refusing late joiners: the handshake does that ([`super::membership`]).
//! A member who kept the link can let others in after its end, as it could hand them its data; an admin ends that by
//! revoking the invitation's grants.

use std::fmt;

use rand_chacha::ChaCha12Rng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::id::{DeviceId, Prefix, SpaceId};
use crate::time::WallTime;
use crate::trust::device::DeviceKey;
use crate::trust::fact::{Fact, FactBody, FactError, Link};
use crate::trust::grant::{Delegation, Grant, Role};
use crate::trust::roster::{Doubt, MAX_PROOF_FACTS, Roster, established};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Most addresses in an invitation.
pub const MAX_ADDRESSES: usize = 8;

/// Longest address in bytes.
pub const MAX_ADDRESS: usize = 256;

/// Most grants that one invitation hands on.
pub const MAX_INVITED_GRANTS: usize = 4;

/// Longest invitation in characters, scheme included.
pub const MAX_INVITATION: usize = 32 * 1024;

/// Scheme of the link form.
const SCHEME: &str = "foreshore:";

/// Human-readable prefix of the bech32 alphabet's text.
const HRP: bech32::Hrp = bech32::Hrp::parse_unchecked("fsi");

/// Version of the bytes.
const VERSION: u64 = 1;

/// Context of the checksum.
const CHECKSUM_CONTEXT: &str = "foreshore 1 invitation checksum";

/// Bytes of the checksum.
const CHECKSUM_LEN: usize = 4;

/// Why an invitation is not made, not read or not accepted. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvitationError {
    /// The text is not an invitation.
    #[error("this is not an invitation: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The checksum fails: a character is missing or wrong.
    #[error("the invitation is damaged: copy the whole link again")]
    Damaged,
    /// Made by a newer version.
    #[error("the invitation has version {got}, this program reads version {VERSION}: update it")]
    Version {
        /// Its version.
        got: u64,
    },
    /// It ended.
    #[error("the invitation ended; ask for a new one")]
    Expired {
        /// When.
        at: WallTime,
    },
    /// Its facts do not give its key anything to hand on in that space.
    #[error("the invitation's grants are not valid in its space")]
    NotProved,
    /// The inviting device is not an admin of the prefix.
    #[error("only an admin of {prefix} can invite to it")]
    NotAnAdmin {
        /// The prefix.
        prefix: Prefix,
    },
    /// The inviter asks for more than an invitation holds.
    #[error("an invitation has at most {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many it holds.
        max: usize,
    },
    /// An address is not a multiaddr or is too long.
    #[error("{address:?} is not an address for an invitation: write a multiaddr of at most {MAX_ADDRESS} bytes")]
    Address {
        /// The address.
        address: String,
    },
    /// The grant cannot be made.
    #[error(transparent)]
    Grant(#[from] FactError),
}

impl From<DecodeError> for InvitationError {
    fn from(error: DecodeError) -> Self {
        let what = match error {
            DecodeError::Truncated { field } | DecodeError::Invalid { field } | DecodeError::TooLarge { field, .. } => {
                field
            }
            DecodeError::Trailing { .. } => "bytes after the end",
        };
        Self::Malformed { what }
    }
}

/// What an admin offers.
#[derive(Debug, Clone)]
pub struct Offer {
    /// What the joiner receives: at least one role and where, at most [`MAX_INVITED_GRANTS`].
    pub grants: Vec<(Role, Prefix)>,
    /// Until when the invitation can be accepted.
    pub expires: Option<WallTime>,
    /// When the joiner's grants end.
    pub grants_end: Option<WallTime>,
    /// Where to find the space, as multiaddr text.
    pub addresses: Vec<String>,
}

/// An invitation: secret.
#[derive(Clone)]
pub struct Invitation {
    space: SpaceId,
    addresses: Vec<String>,
    facts: Vec<Fact>,
    key: DeviceKey,
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invitation({:?}, {} addresses, secret redacted)", self.space, self.addresses.len())
    }
}

impl Invitation {
    /// Makes an invitation in the name of an admin, and the facts that stand behind it: admitted to the roster here, to be
    /// stored and replicated like any other.
    pub fn create(
        roster: &mut Roster,
        admin: &DeviceKey,
        offer: Offer,
        rng: &mut ChaCha12Rng,
    ) -> Result<(Self, Vec<Fact>), InvitationError> {
        check_offer(roster, &admin.device(), &offer)?;
        let key = DeviceKey::generate(rng);
        let mut facts: Vec<Fact> = Vec::new();
        let mut made = Vec::new();
        for (role, prefix) in offer.grants {
            let grant = Grant::new(key.device(), role, prefix).until(offer.expires);
            let grant = grant.delegating(Delegation { not_after: offer.grants_end });
            let fact = Fact::sign(admin, roster.space(), Link::Unchained, FactBody::Grant(grant))?;
            let path = roster.proof_of(&fact).ok_or(InvitationError::NotProved)?;
            facts.extend(path.into_iter().filter(|fact| !facts.contains(fact)).collect::<Vec<_>>());
            made.push(fact);
        }
        facts.extend(made.iter().cloned());
        if facts.len() > MAX_PROOF_FACTS {
            return Err(InvitationError::TooMany { what: "admins on the way to the root", max: MAX_PROOF_FACTS });
        }
        for fact in &made {
            // Can fail for want of room only; the invitation is then of no use and nobody has seen it.
            roster.insert(fact.clone()).map_err(|_| FactError::NotAuthorised)?;
        }
        Ok((Self { space: *roster.space(), addresses: offer.addresses, facts, key }, made))
    }

    /// The space.
    pub fn space(&self) -> &SpaceId {
        &self.space
    }

    /// Where to find it.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The facts that stand behind it.
    pub fn facts(&self) -> &[Fact] {
        &self.facts
    }

    /// What it hands on.
    pub fn offers(&self) -> impl Iterator<Item = &Grant> {
        let device = self.key.device();
        let grants = self.facts.iter().filter_map(Fact::grant);
        grants.filter(move |grant| grant.subject == device && grant.delegation.is_some())
    }

    /// When it ends: the earliest end of what it hands on.
    pub fn expires(&self) -> Option<WallTime> {
        self.offers().filter_map(|grant| grant.not_after).min()
    }

    /// Makes the grants of the joining device, and returns them behind the facts that stand behind them: to be inserted
    /// into the joiner's roster and stored. Accepting twice makes the same facts.
    pub fn accept(&self, device: &DeviceId, now: WallTime) -> Result<Vec<Fact>, InvitationError> {
        if let Some(at) = self.expires().filter(|at| *at < now) {
            return Err(InvitationError::Expired { at });
        }
        let mut facts = self.facts.clone();
        for offer in self.offers() {
            let end = offer.delegation.and_then(|delegation| delegation.not_after);
            let grant = Grant::new(*device, offer.role, offer.prefix.clone()).until(end);
            facts.push(Fact::sign(&self.key, &self.space, Link::Unchained, FactBody::Grant(grant))?);
        }
        Ok(facts)
    }

    /// The invitation as text, `fsi1…`. Wiped when dropped: print it and let it go. Its upper case is the same
    /// invitation, for QR codes of alphanumeric mode.
    pub fn to_text(&self) -> Zeroizing<String> {
        let bytes = self.to_secret_bytes();
        // Eight fifths of the bytes, the prefix and a remainder: reserved at once, so that no copy is left behind.
        let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 8 / 5 + 16));
        bech32::encode_lower_to_fmt::<bech32::NoChecksum, _>(&mut *text, HRP, &bytes)
            .expect("without a checksum there is no limit of length, and a string takes everything");
        text
    }

    /// The invitation as a link, `foreshore:fsi1…`.
    pub fn to_link(&self) -> Zeroizing<String> {
        let text = self.to_text();
        let mut link = Zeroizing::new(String::with_capacity(SCHEME.len() + text.len()));
        link.push_str(SCHEME);
        link.push_str(&text);
        link
    }

    /// Reads the text or link of an invitation, in lower or upper case, and checks that its facts hold in its space.
    pub fn parse(text: &str) -> Result<Self, InvitationError> {
        let text = text.trim();
        if text.len() > MAX_INVITATION {
            return Err(InvitationError::Malformed { what: "it is too long" });
        }
        let text = match text.split_at_checked(SCHEME.len()) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest,
            _ => text,
        };
        let unreadable = InvitationError::Malformed { what: "it does not read fsi1…" };
        let parsed = bech32::primitives::decode::CheckedHrpstring::new::<bech32::NoChecksum>(text);
        let parsed = parsed.ok().filter(|parsed| parsed.hrp() == HRP).ok_or(unreadable)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
        bytes.extend(parsed.byte_iter());
        let mut again = Zeroizing::new(String::with_capacity(text.len()));
        let spelled = bech32::encode_lower_to_fmt::<bech32::NoChecksum, _>(&mut *again, HRP, &bytes);
        // The last letter may carry bits of no byte: one of them altered is damage too.
        if spelled.is_err() || !again.eq_ignore_ascii_case(text) {
            return Err(InvitationError::Damaged);
        }
        Self::from_secret_bytes(&bytes)
    }

    fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut w = Writer::new();
        w.varint(VERSION).array(&self.space.0);
        w.list(&self.addresses, |w, address| {
            w.str(address);
        });
        w.list(&self.facts, |w, fact| fact.encode(w)).extensions(&[]);
        let public = w.finish();
        let mut bytes = Zeroizing::new(Vec::with_capacity(public.len() + 32 + CHECKSUM_LEN));
        bytes.extend_from_slice(&public);
        bytes.extend_from_slice(self.key.seed().as_ref());
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    fn from_secret_bytes(bytes: &[u8]) -> Result<Self, InvitationError> {
        let at = bytes.len().checked_sub(CHECKSUM_LEN).ok_or(InvitationError::Damaged)?;
        let (payload, sum) = bytes.split_at(at);
        if checksum(payload) != sum {
            return Err(InvitationError::Damaged);
        }
        let mut r = Reader::new(payload);
        match r.varint("version")? {
            VERSION => {}
            got => return Err(InvitationError::Version { got }),
        }
        let space = SpaceId(r.array("space")?);
        let addresses = r.list(MAX_ADDRESSES, "addresses", |r| r.str(MAX_ADDRESS, "address").map(String::from))?;
        let facts = r.list(MAX_PROOF_FACTS, "facts", Fact::decode)?;
        r.extensions()?;
        let seed = Zeroizing::new(r.array::<32>("seed")?);
        r.finish()?;
        let invitation = Self { space, addresses, facts, key: DeviceKey::from_seed(&seed) };
        invitation.check()?;
        Ok(invitation)
    }

    fn check(&self) -> Result<(), InvitationError> {
        self.addresses.iter().try_for_each(|address| check_address(address))?;
        let offers = self.offers().count();
        if offers > MAX_INVITED_GRANTS {
            return Err(InvitationError::TooMany { what: "grants", max: MAX_INVITED_GRANTS });
        }
        let signed = self.facts.iter().all(|fact| fact.verify(&self.space).is_ok());
        let holds =
            || established(&Roster::new(self.space), &self.facts, Doubt::Nothing).into_iter().all(|holds| holds);
        if offers == 0 || !signed || !holds() {
            return Err(InvitationError::NotProved);
        }
        Ok(())
    }
}

fn check_offer(roster: &Roster, admin: &DeviceId, offer: &Offer) -> Result<(), InvitationError> {
    if offer.grants.is_empty() {
        return Err(InvitationError::Malformed { what: "it offers no grant" });
    }
    if offer.grants.len() > MAX_INVITED_GRANTS {
        return Err(InvitationError::TooMany { what: "grants", max: MAX_INVITED_GRANTS });
    }
    if offer.addresses.len() > MAX_ADDRESSES {
        return Err(InvitationError::TooMany { what: "addresses", max: MAX_ADDRESSES });
    }
    offer.addresses.iter().try_for_each(|address| check_address(address))?;
    for (role, prefix) in &offer.grants {
        if !Grant::new(*admin, *role, prefix.clone()).is_well_formed() {
            return Err(FactError::Malformed(DecodeError::Invalid { field: "voter prefix" }).into());
        }
        if roster.root() != Some(*admin) && !roster.is_admin(admin, prefix) {
            return Err(InvitationError::NotAnAdmin { prefix: prefix.clone() });
        }
    }
    Ok(())
}

fn check_address(address: &str) -> Result<(), InvitationError> {
    let plain =
        address.starts_with('/') && address.len() <= MAX_ADDRESS && address.bytes().all(|b| b.is_ascii_graphic());
    if plain { Ok(()) } else { Err(InvitationError::Address { address: address.into() }) }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut sum = [0; CHECKSUM_LEN];
    sum.copy_from_slice(&blake3::derive_key(CHECKSUM_CONTEXT, bytes)[..CHECKSUM_LEN]);
    sum
}
