//! The proof of membership in the handshake.
//!
//! Nothing about a space is said to a peer that has not proved two things: that it knows the space's id, and that its
//! device is a member. The first is a *tag* from each side; the second is a [`Present`], sent only for tags that matched.
//!
//! ```text
//! tag        16   BLAKE3-derive("foreshore 1 space tag", space 32 · sender's nonce 16 · receiver's nonce 16 ·
//!                 sender's peer 32 · receiver's peer 32)[..16]
//!
//! present
//!   flags         1   bit 0: incarnation · others 0
//!   device       32
//!   incarnation   8   u64 LE, if bit 0
//!   signature    64   over "foreshore 1 present": space 32 · initiator's peer 32 · acceptor's peer 32 ·
//!                     initiator's nonce 16 · acceptor's nonce 16 · side (0 initiator, 1 acceptor) · flags · incarnation
//!   proof             varint count (≤ 32), then facts, each after the one that allows it
//! ```
//!
//! The tag is directed, so that an echo of it proves nothing. The signature names both peers as Noise proved them, both
//! nonces and the side, so that it can be neither replayed, nor reflected, nor relayed by a peer in the middle.
//!
//! **Expiry** counts here and nowhere else, by the verifier's wall clock: a device needs a grant that has not ended. A
//! grant made from an invitation that has run out is taken if the verifier has admitted it before, and from the peer that
//! the verifier itself called (an old member whom a newcomer cannot know yet); a caller whom nobody has heard of comes too
//! late.
//!
//! **Every refusal looks the same** on the wire, `NotAMember`; a [`PresentError`] is for the verifier's own log.

use thiserror::Error;

use crate::id::{DeviceId, Incarnation, PeerId, Prefix, SpaceId};
use crate::time::WallTime;
use crate::trust::device::{Context, DeviceKey, Signature, verify};
use crate::trust::fact::Fact;
use crate::trust::grant::Grant;
use crate::trust::roster::{Doubt, MAX_PROOF_BYTES, MAX_PROOF_FACTS, Roster, established, outermost};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 16;

/// Largest encoded [`Present`].
pub const MAX_PRESENT: usize = 1 + 32 + 8 + 64 + 1 + MAX_PROOF_BYTES;

/// Context of [`space_tag`].
const TAG_CONTEXT: &str = "foreshore 1 space tag";

/// Shows that its sender knows a space's id, to whoever knows it too, and says nothing to anybody else.
pub fn space_tag(
    space: &SpaceId,
    (sender, sender_nonce): (&PeerId, &[u8; NONCE_LEN]),
    (receiver, receiver_nonce): (&PeerId, &[u8; NONCE_LEN]),
) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key(TAG_CONTEXT);
    hasher.update(&space.0).update(sender_nonce).update(receiver_nonce).update(&sender.0).update(&receiver.0);
    let mut tag = [0; 16];
    tag.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    tag
}

/// Which end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Opened the stream.
    Initiator,
    /// Accepted it.
    Acceptor,
}

/// What a membership proof is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The space.
    pub space: SpaceId,
    /// The peer that opened the stream, as Noise proved it.
    pub initiator: PeerId,
    /// The peer that accepted it.
    pub acceptor: PeerId,
    /// The initiator's fresh random bytes.
    pub initiator_nonce: [u8; NONCE_LEN],
    /// The acceptor's fresh random bytes.
    pub acceptor_nonce: [u8; NONCE_LEN],
}

impl Handshake {
    /// The tag that this side sends for the space.
    pub fn tag_of(&self, sender: Side) -> [u8; 16] {
        let initiator = (&self.initiator, &self.initiator_nonce);
        let acceptor = (&self.acceptor, &self.acceptor_nonce);
        match sender {
            Side::Initiator => space_tag(&self.space, initiator, acceptor),
            Side::Acceptor => space_tag(&self.space, acceptor, initiator),
        }
    }

    fn signed_bytes(&self, side: Side, incarnation: Option<Incarnation>) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(&self.space.0).array(&self.initiator.0).array(&self.acceptor.0);
        w.array(&self.initiator_nonce).array(&self.acceptor_nonce);
        w.u8(u8::from(side == Side::Acceptor));
        encode_incarnation(&mut w, incarnation);
        w.finish()
    }
}

/// The claim to be a device that is a member of a space, with its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Who it claims to be.
    pub device: DeviceId,
    /// Its store's incarnation, if it says.
    pub incarnation: Option<Incarnation>,
    /// The device's signature over the handshake.
    pub signature: Signature,
    /// The facts that lead from the root to the device.
    pub proof: Vec<Fact>,
}

/// Why a claim was refused. The peer is told `NotAMember` whatever it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PresentError {
    /// The device's signature over this handshake does not hold.
    #[error("the peer does not hold the key of the device that it claims to be")]
    Signature,
    /// A fact of the proof is not signed by whom it says.
    #[error("the peer's proof holds a forged fact")]
    Forged,
    /// The proof does not lead from the root to the device.
    #[error("the peer's device is not a member")]
    NotProved,
    /// Every grant of the device has ended, or its invitation had run out.
    #[error("the rights of the peer's device have ended")]
    Expired,
    /// The device's grants were revoked.
    #[error("the rights of the peer's device were revoked")]
    Revoked,
}

/// A device that proved its membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The device.
    pub device: DeviceId,
    /// Its store's incarnation, if it said.
    pub incarnation: Option<Incarnation>,
    /// What it may read now: disjoint prefixes, ascending.
    pub reads: Vec<Prefix>,
    /// Facts of its proof that the roster has not admitted: to be [inserted](Roster::insert).
    pub new_facts: Vec<Fact>,
}

impl Present {
    /// Claims membership for a device, with the proof from its own roster.
    pub fn create(
        key: &DeviceKey,
        handshake: &Handshake,
        side: Side,
        incarnation: Option<Incarnation>,
        roster: &Roster,
        now: WallTime,
    ) -> Self {
        let device = key.device();
        let signature = key.sign(Context::Present, &handshake.signed_bytes(side, incarnation));
        Self { device, incarnation, signature, proof: roster.proof_for(&device, now) }
    }

    /// Checks a claim that came from `side`. At most 33 signature checks, fewer by every fact that the roster holds; an
    /// empty roster knows nothing but the space id, and that is enough.
    pub fn verify(
        &self,
        handshake: &Handshake,
        side: Side,
        roster: &Roster,
        now: WallTime,
    ) -> Result<Verified, PresentError> {
        let signed = handshake.signed_bytes(side, self.incarnation);
        verify(&self.device, Context::Present, &signed, &self.signature).map_err(|_| PresentError::Signature)?;
        if self.proof.len() > MAX_PROOF_FACTS {
            return Err(PresentError::NotProved);
        }
        let unknown: Vec<&Fact> = self.proof.iter().filter(|fact| !roster.contains(&fact.hash())).collect();
        if unknown.iter().any(|fact| fact.verify(&handshake.space).is_err()) {
            return Err(PresentError::Forged);
        }
        let doubt = match side {
            Side::Initiator => Doubt::Expired(now),
            Side::Acceptor => Doubt::Nothing,
        };
        let holds = established(roster, &self.proof, doubt);
        let held = self.proof.iter().zip(&holds).filter(|(_, holds)| **holds).map(|(fact, _)| fact);
        // Which of the grants that the roster knows are in force it says itself.
        let new = held.clone().filter(|fact| !roster.contains(&fact.hash())).filter_map(Fact::grant);
        let own = new.filter(|grant| grant.is_own() && grant.subject == self.device);
        let own: Vec<&Grant> = own.chain(roster.grants_of(&self.device)).collect();
        if own.is_empty() && roster.is_revoked(&self.device) {
            return Err(PresentError::Revoked);
        }
        if own.is_empty() {
            let without_doubt = doubt == Doubt::Nothing || !self.proves_device(roster);
            return Err(if without_doubt { PresentError::NotProved } else { PresentError::Expired });
        }
        let current = own.iter().copied().filter(|grant| !grant.expired(now));
        if current.clone().next().is_none() {
            return Err(PresentError::Expired);
        }
        Ok(Verified {
            device: self.device,
            incarnation: self.incarnation,
            reads: outermost(current.filter(|grant| grant.role.reads())),
            new_facts: held.filter(|fact| !roster.contains(&fact.hash())).cloned().collect(),
        })
    }

    /// Whether the proof would do if no invitation had run out.
    fn proves_device(&self, roster: &Roster) -> bool {
        let holds = established(roster, &self.proof, Doubt::Nothing);
        let mut held = self.proof.iter().zip(&holds).filter(|(_, holds)| **holds).filter_map(|(fact, _)| fact.grant());
        held.any(|grant| grant.is_own() && grant.subject == self.device)
    }
}

fn encode_incarnation(w: &mut Writer, incarnation: Option<Incarnation>) {
    w.u8(u8::from(incarnation.is_some()));
    if let Some(incarnation) = incarnation {
        w.u64_le(incarnation.0);
    }
}

impl Codec for Present {
    fn encode(&self, w: &mut Writer) {
        w.u8(u8::from(self.incarnation.is_some())).array(&self.device.0);
        if let Some(incarnation) = self.incarnation {
            w.u64_le(incarnation.0);
        }
        self.signature.encode(w);
        w.list(&self.proof, |w, fact| fact.encode(w));
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flags = r.u8("present flags")?;
        if flags > 1 {
            return Err(DecodeError::Invalid { field: "present flags" });
        }
        let device = DeviceId(r.array("device")?);
        let incarnation = if flags == 1 { Some(Incarnation(r.u64_le("incarnation")?)) } else { None };
        let signature = Signature::decode(r)?;
        let before = r.remaining();
        let proof = r.list(MAX_PROOF_FACTS, "proof", Fact::decode)?;
        let got = before - r.remaining();
        if got > MAX_PROOF_BYTES {
            return Err(DecodeError::TooLarge { field: "proof bytes", got: got as u64, max: MAX_PROOF_BYTES as u64 });
        }
        Ok(Self { device, incarnation, signature, proof })
    }
}
