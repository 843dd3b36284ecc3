//! Who may do what, proved by signatures alone.
//!
//! The network is hostile by default: Noise proves which peer is at the other end, and the signed statements in here say
//! what that peer's device may do. Everything is pure: keys, time and randomness come in as arguments.
//!
//! | room | what it holds |
//! |---|---|
//! | [`device`] | keys, and signatures that carry what kind of statement they sign |
//! | [`grant`] | roles, prefixes, delegation, and the one rule that says which grant allows which |
//! | [`fact`] | the signed facts of a space, one chain a device |
//! | [`statement`] | what facts say beside grants |
//! | [`roster`] | the admitted facts of a space, what of them counts, and every question about them |
//! | [`endorsement`] | one signature for the whole chain of an actor's changes |
//! | [`tombstone`] | signed deletions |
//! | [`invitation`] | a link that makes its reader a member |
//! | [`membership`] | the proof of membership in the handshake |
//! | [`seal`] | when a store may go on with its incarnation |
//! | [`bootstrap`] | a new space |
//!
//! ```
//! use foreshore::id::{Path, Prefix};
//! use foreshore::time::WallTime;
//! use foreshore::trust::{DeviceKey, Invitation, Role, RootKey, Roster, create_space, invitation::Offer};
//! use rand_core::SeedableRng;
//!
//! let rng = &mut rand_chacha::ChaCha12Rng::from_seed([7; 32]); // the driver seeds it from the system
//! let (alice, bob) = (DeviceKey::generate(rng), DeviceKey::generate(rng));
//! let mut space = create_space(&RootKey::generate(rng), &alice.device(), true);
//!
//! let offer = Offer {
//!     grants: vec![(Role::Writer, Prefix::parse("/lists")?)],
//!     expires: Some(WallTime(1_900_000_000_000)),
//!     grants_end: None,
//!     addresses: vec!["/ip4/192.0.2.7/tcp/4801".into()],
//! };
//! let (invitation, _facts) = Invitation::create(&mut space.roster, &alice, offer, rng)?;
//! let link = invitation.to_link();
//!
//! // At Bob's, who knows nothing but the link:
//! let invitation = Invitation::parse(&link)?;
//! let mut roster = Roster::new(*invitation.space());
//! for fact in invitation.accept(&bob.device(), WallTime(1_800_000_000_000))? {
//!     roster.insert(fact)?;
//! }
//! assert!(roster.can_write(&bob.device(), &Path::parse("/lists/food")?));
//! assert!(!roster.can_read(&bob.device(), &Path::parse("/diary")?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Invariants.** What is admitted is a function of the set of facts alone, never of their order of arrival or of a
//! clock. Every statement is signed under a context of its own, so none passes for another. Every decoder bounds what it
//! reads, and whatever decodes re-encodes to the same bytes.
//!
//! **Not here.** Transport encryption (Noise), and the admission of changes under an endorsement (the cold log).

pub mod bootstrap;
pub mod device;
pub mod endorsement;
pub mod fact;
pub mod grant;
pub mod invitation;
pub mod membership;
pub mod roster;
pub mod seal;
pub mod statement;
pub mod tombstone;

pub use bootstrap::{Bootstrap, create_space};
pub use device::{DeviceKey, RootKey, ShortDeviceId, Signature, SignatureError};
pub use endorsement::{ActorPreimage, Endorsement, EndorsementKind, actor_for};
pub use fact::{Fact, FactBody, FactError};
pub use grant::{Delegation, Grant, Role};
pub use invitation::{Invitation, InvitationError};
pub use membership::{Handshake, Present, PresentError, Side, Verified, space_tag};
pub use roster::{Changes, Claim, Insert, Member, Refusal, Roster, RosterError};
pub use seal::{HostEpoch, Seal, SealVerdict, SequenceDigest};
pub use statement::{Deed, EquivocationProof, Generation, Inventory, Revocation, Succession, Voter as GroupVoter};
pub use tombstone::{Tombstone, TombstoneError, TombstoneHash};

#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "vectors"))]
pub(crate) mod vectors;
