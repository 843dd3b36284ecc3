//! Keys, and signatures that carry what kind of statement they sign.
//!
//! Ed25519 (RFC 8032). What is signed is never the statement's bytes but `BLAKE3-derive-key(context, bytes)`, 32 bytes,
//! where the context names the kind of statement ([`Context`]). So a signature under one kind never passes for another,
//! and signing costs the same whatever the statement's size.
//!
//! Verification is the strict one: canonical `s`, no small-order points. It accepts exactly the same signatures on every
//! peer, which the weaker and the batched equation do not promise; peers that disagree on one signature would disagree
//! on their heads for ever. That is why there is no batch verification here.
//!
//! **Invariants.** Secret bytes are wiped on drop and never printed.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::id::{DeviceId, SpaceId};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// What kind of statement a signature is made for. The strings are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Context {
    /// A [`Fact`](crate::trust::Fact).
    Fact,
    /// An [`Endorsement`](crate::trust::Endorsement).
    Endorsement,
    /// A [`Tombstone`](crate::trust::Tombstone).
    Tombstone,
    /// A [`Present`](crate::trust::Present).
    Present,
    /// The new root's consent in a [`Succession`](crate::trust::Succession).
    Consent,
    /// A [`Lease`](crate::soft::Lease).
    SoftLease,
    /// A [`SoftEntry`](crate::soft::SoftEntry).
    SoftEntry,
    /// A [`Signal`](crate::topic::Signal).
    TopicSignal,
}

impl Context {
    /// The domain separation string.
    pub const fn name(self) -> &'static str {
        match self {
            Context::Fact => "foreshore 1 fact",
            Context::Endorsement => "foreshore 1 endorsement",
            Context::Tombstone => "foreshore 1 tombstone",
            Context::Present => "foreshore 1 present",
            Context::Consent => "foreshore 1 root consent",
            Context::SoftLease => "foreshore 1 soft lease",
            Context::SoftEntry => "foreshore 1 soft entry",
            Context::TopicSignal => "foreshore 1 topic signal",
        }
    }

    /// What is signed in place of `bytes`.
    fn digest(self, bytes: &[u8]) -> [u8; 32] {
        blake3::derive_key(self.name(), bytes)
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

impl Codec for Signature {
    fn encode(&self, w: &mut Writer) {
        w.array(&self.0);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.array("signature").map(Self)
    }
}

/// A signature does not fit its statement and key. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the signature does not fit the statement and the key")]
pub struct SignatureError;

/// The first 8 bytes of a device's key: how endorsements on the wire name a device that both sides know. Two devices may
/// share one (keys can be ground until they do), so it is looked up, never trusted: the signature decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShortDeviceId(pub [u8; 8]);

impl From<&DeviceId> for ShortDeviceId {
    fn from(device: &DeviceId) -> Self {
        let mut short = [0; 8];
        short.copy_from_slice(&device.0[..8]);
        Self(short)
    }
}

/// Checks a device's signature over `bytes` as a statement of kind `context`. About 85 µs.
pub fn verify(device: &DeviceId, context: Context, bytes: &[u8], signature: &Signature) -> Result<(), SignatureError> {
    let key = VerifyingKey::from_bytes(&device.0).map_err(|_| SignatureError)?;
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    key.verify_strict(&context.digest(bytes), &signature).map_err(|_| SignatureError)
}

/// A device's signing key. Wiped on drop; `Debug` shows the public half only.
#[derive(Clone)]
pub struct DeviceKey(SigningKey);

impl DeviceKey {
    /// The key of a 32-byte seed, as kept in `device.key`.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// A fresh key.
    pub fn generate(rng: &mut ChaCha12Rng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        Self::from_seed(&seed)
    }

    /// The public half.
    pub fn device(&self) -> DeviceId {
        DeviceId(self.0.verifying_key().to_bytes())
    }

    /// The secret seed, for storage. Wiped when dropped.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Signs `bytes` as a statement of kind `context`. About 32 µs.
    pub fn sign(&self, context: Context, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(&context.digest(bytes)).to_bytes())
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey({:?}, secret redacted)", self.device())
    }
}

/// The key a space is made with. It signs the creator's first grants, revocations of admins, and its own succession, and
/// is otherwise kept away.
#[derive(Clone)]
pub struct RootKey(DeviceKey);

impl RootKey {
    /// The key of a 32-byte seed, as kept in `root.key`.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(DeviceKey::from_seed(seed))
    }

    /// A fresh key, and with it a space that never was before.
    pub fn generate(rng: &mut ChaCha12Rng) -> Self {
        Self(DeviceKey::generate(rng))
    }

    /// The space that begins with this root.
    pub fn space(&self) -> SpaceId {
        SpaceId(self.0.device().0)
    }

    /// The secret seed, for storage. Wiped when dropped.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        self.0.seed()
    }

    /// The root as a signer of facts.
    pub fn signer(&self) -> &DeviceKey {
        &self.0
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootKey({:?}, secret redacted)", self.space())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_key_context_and_bytes_only() {
        let key = DeviceKey::from_seed(&[1; 32]);
        let signature = key.sign(Context::Fact, b"hello");
        let device = key.device();
        assert_eq!(verify(&device, Context::Fact, b"hello", &signature), Ok(()));
        assert_eq!(verify(&device, Context::Tombstone, b"hello", &signature), Err(SignatureError));
        assert_eq!(verify(&device, Context::Fact, b"hellp", &signature), Err(SignatureError));
        let other = DeviceKey::from_seed(&[2; 32]).device();
        assert_eq!(verify(&other, Context::Fact, b"hello", &signature), Err(SignatureError));
        assert_eq!(verify(&DeviceId([0xff; 32]), Context::Fact, b"hello", &signature), Err(SignatureError));
    }

    #[test]
    fn secrets_are_not_printed() {
        let seed = [0xab; 32];
        for text in [format!("{:?}", DeviceKey::from_seed(&seed)), format!("{:?}", RootKey::from_seed(&seed))] {
            assert!(!text.contains("abab") && !text.contains("171, 171") && text.contains("redacted"), "{text}");
        }
    }

    #[test]
    fn the_all_zero_key_signs_nothing() {
        // The identity point as a public key accepts any message under the lenient equation.
        let mut weak = [0; 32];
        weak[0] = 1;
        assert_eq!(verify(&DeviceId(weak), Context::Fact, b"x", &Signature([0; 64])), Err(SignatureError));
        let mut forged = [0; 64];
        forged[0] = 1;
        assert_eq!(verify(&DeviceId(weak), Context::Fact, b"x", &Signature(forged)), Err(SignatureError));
    }
}
