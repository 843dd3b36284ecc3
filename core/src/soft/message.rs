//! What peers say to each other about soft state: the body of message `Soft` of the sync stream.
//!
//! ```text
//! type u8, then
//!   0 news      list(≤ 1,024) news
//!   1 digest    flags u8 (0 first · 1 last · 2 graft · 3 asks · 4 answers) · token u8 if 3 · token u8 if 4 · list(≤ 2,048) summary
//!   2 fetch     list(≤ 256) (tag 8 · lease u8 · list(≤ 1,024) (path hash u64 · version varint))
//!   3 prune     list(≤ 2,048) tag 8
//!   4 have      list(≤ 2,048) summary
//!
//! news        head u8 (bits 0–1 kind · bit 2 checksum · bit 3 scope · bits 4–7 hops), then by kind
//!   0 renewal   tag 8 · seq varint · index u8 · preimage 16 · age varint (ms)
//!   1 lease     lease · index u8 · preimage 16 · age varint (ms) · list entry
//!   2 entries   tag 8 · incarnation u64 · list entry
//!   3 again     as a renewal, never with a scope: that of the owner's last news on this link that named one
//!   then        checksum u32 LE, if bit 2 · list(≤ 256) prefix str, if bit 3
//!
//! summary     tag 8 · incarnation u64 · seq varint · index u8 · checksum u32 LE
//! ```
//!
//! The checksum is over the owner's entries above its floor that both ends of the link replicate: the wrapping sum of the
//! first four bytes of BLAKE3(version u64 LE ‖ path) of each. It finds gaps; signatures protect.
//!
//! A renewal takes 32 bytes in here.
//!
//! A scope is named once: a peer that shows less of the tree than it replicates would say the same prefixes with every
//! renewal, which took a third of all bytes of a thousand owners' presence.

use super::MAX_HOPS;
use super::chain::Preimage;
use super::entry::SoftEntry;
use super::lease::{Lease, OwnerTag};
use crate::id::Prefix;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Most news in a message.
pub(super) const MAX_NEWS: usize = 1_024;
/// Most summaries in a message.
pub(super) const MAX_SUMMARIES: usize = 2_048;
/// Most owners in a fetch.
pub(super) const MAX_FETCHES: usize = 256;
/// Most entries of an owner in a fetch or in news of it.
pub(super) const MAX_HELD: usize = 1_024;
/// Longest age on the wire.
const MAX_AGE: u64 = 3_600_000;

const CHECKSUM: u8 = 4;
const SCOPE: u8 = 8;
/// Most prefixes of a scope: as many as a peer may be interested in.
const MAX_SCOPE: usize = crate::wire::v1::MAX_PREFIXES;

/// What a peer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// What is new; to be answered by an acknowledgement on the link.
    News(Vec<News>),
    /// What the sender has.
    Digest {
        /// Whether this begins a digest of everything.
        first: bool,
        /// Whether this ends it.
        last: bool,
        /// Not of everything: of owners about which the sender wants to hear again.
        graft: bool,
        /// The receiver's own digest is wanted, with this token.
        asks: Option<u8>,
        /// It was wanted with this token.
        answers: Option<u8>,
        /// One line an owner.
        owners: Vec<Summary>,
    },
    /// What the sender lacks.
    Fetch(Vec<Fetch>),
    /// About these owners the sender hears from others first.
    Prune(Vec<OwnerTag>),
    /// What the sender has now of owners about whom the receiver hears from others first.
    Have(Vec<Summary>),
}

/// News of one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It lives.
    Renewal {
        /// Who.
        owner: OwnerTag,
        /// Of which lease.
        seq: u64,
        /// Which renewal.
        index: u8,
        /// Its proof.
        preimage: Preimage,
        /// Milliseconds since then, as far as known.
        age: u64,
        /// Links crossed, this one included.
        hops: u8,
        /// Over the owner's entries in the scope, if the receiver has been sent them all.
        checksum: Option<u32>,
        /// What this vouches for; `None`: everything that the link covers.
        scope: Option<Vec<Prefix>>,
    },
    /// It lives, and this vouches for what the last news of it on this link that named a scope vouched for.
    Again {
        /// Who.
        owner: OwnerTag,
        /// Of which lease.
        seq: u64,
        /// Which renewal.
        index: u8,
        /// Its proof.
        preimage: Preimage,
        /// Milliseconds since then, as far as known.
        age: u64,
        /// Links crossed, this one included.
        hops: u8,
        /// As in a renewal.
        checksum: Option<u32>,
    },
    /// Its lease.
    Lease {
        /// The lease.
        lease: Box<Lease>,
        /// The newest renewal.
        index: u8,
        /// Its proof.
        preimage: Preimage,
        /// Milliseconds since then, as far as known.
        age: u64,
        /// Links crossed, this one included.
        hops: u8,
        /// Entries that the receiver may lack.
        entries: Vec<SoftEntry>,
        /// As in a renewal.
        checksum: Option<u32>,
        /// As in a renewal.
        scope: Option<Vec<Prefix>>,
    },
    /// Entries under a lease that the receiver has.
    Entries {
        /// Whose.
        owner: OwnerTag,
        /// Of which life.
        incarnation: u64,
        /// The entries.
        entries: Vec<SoftEntry>,
        /// As in a renewal.
        checksum: Option<u32>,
        /// As in a renewal.
        scope: Option<Vec<Prefix>>,
    },
}

/// What a peer has of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Whose.
    pub owner: OwnerTag,
    /// The owner's life.
    pub incarnation: u64,
    /// The lease.
    pub seq: u64,
    /// The newest renewal.
    pub index: u8,
    /// Over the entries.
    pub checksum: u32,
}

/// What a peer lacks of an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Whose.
    pub owner: OwnerTag,
    /// Whether the lease is wanted too, with everything under it.
    pub lease: bool,
    /// What it has: hashes of paths, and versions.
    pub held: Vec<(u64, u64)>,
}

impl Codec for Message {
    fn encode(&self, w: &mut Writer) {
        match self {
            Message::News(news) => {
                w.u8(0).list(news, |w, n| n.encode(w));
            }
            Message::Digest { first, last, graft, asks, answers, owners } => {
                let bits = [*first, *last, *graft, asks.is_some(), answers.is_some()];
                w.u8(1).u8(bits.iter().rev().fold(0, |flags, bit| flags << 1 | u8::from(*bit)));
                for token in [asks, answers].into_iter().flatten() {
                    w.u8(*token);
                }
                w.list(owners, |w, s| s.encode(w));
            }
            Message::Fetch(fetches) => {
                w.u8(2).list(fetches, |w, f| {
                    w.array(&f.owner.0).u8(u8::from(f.lease)).list(&f.held, |w, (path, version)| {
                        w.u64_le(*path).varint(*version);
                    });
                });
            }
            Message::Prune(owners) => {
                w.u8(3).list(owners, |w, tag| {
                    w.array(&tag.0);
                });
            }
            Message::Have(owners) => {
                w.u8(4).list(owners, |w, s| s.encode(w));
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8("soft message type")? {
            0 => Message::News(r.list(MAX_NEWS, "news", News::decode)?),
            1 => {
                let flags = r.u8("digest flags")?;
                if flags > 31 {
                    return Err(DecodeError::Invalid { field: "digest flags" });
                }
                let bit = |n: u8| flags >> n & 1 == 1;
                let asks = bit(3).then(|| r.u8("token")).transpose()?;
                let answers = bit(4).then(|| r.u8("token")).transpose()?;
                let owners = r.list(MAX_SUMMARIES, "summaries", Summary::decode)?;
                Message::Digest { first: bit(0), last: bit(1), graft: bit(2), asks, answers, owners }
            }
            2 => Message::Fetch(r.list(MAX_FETCHES, "fetches", |r| {
                let owner = OwnerTag(r.array("owner")?);
                let lease = match r.u8("lease wanted")? {
                    flag @ (0 | 1) => flag == 1,
                    _ => return Err(DecodeError::Invalid { field: "lease wanted" }),
                };
                let held = r.list(MAX_HELD, "held entries", |r| Ok((r.u64_le("path hash")?, r.varint("version")?)))?;
                Ok(Fetch { owner, lease, held })
            })?),
            4 => Message::Have(r.list(MAX_SUMMARIES, "summaries", Summary::decode)?),
            3 => Message::Prune(r.list(MAX_SUMMARIES, "pruned owners", |r| Ok(OwnerTag(r.array("owner")?)))?),
            _ => return Err(DecodeError::Invalid { field: "soft message type" }),
        })
    }
}

impl Codec for Summary {
    fn encode(&self, w: &mut Writer) {
        w.array(&self.owner.0).u64_le(self.incarnation).varint(self.seq).u8(self.index);
        w.array(&self.checksum.to_le_bytes());
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            owner: OwnerTag(r.array("owner")?),
            incarnation: r.u64_le("incarnation")?,
            seq: r.varint("lease seq")?,
            index: r.u8("index")?,
            checksum: u32::from_le_bytes(r.array("checksum")?),
        })
    }
}

impl News {
    /// Bytes on the wire, never too few.
    pub(super) fn size(&self) -> usize {
        let entries = match self {
            News::Renewal { .. } | News::Again { .. } => 0,
            News::Lease { entries, .. } | News::Entries { entries, .. } => entries.iter().map(SoftEntry::size).sum(),
        };
        entries + 256
    }
}

fn head(kind: u8, checksum: Option<u32>, scope: Option<&Vec<Prefix>>, hops: u8) -> u8 {
    kind | if checksum.is_some() { CHECKSUM } else { 0 } | if scope.is_some() { SCOPE } else { 0 } | hops << 4
}

fn decode_prefix(r: &mut Reader<'_>) -> Result<Prefix, DecodeError> {
    let text = r.str(crate::id::Path::MAX_LEN, "prefix")?;
    Prefix::parse(text).map_err(|_| DecodeError::Invalid { field: "prefix" })
}

fn encode_entries(w: &mut Writer, entries: &[SoftEntry]) {
    w.list(entries, |w, e| e.encode(w));
}

impl Codec for News {
    fn encode(&self, w: &mut Writer) {
        let (checksum, scope) = match self {
            News::Again { owner, seq, index, preimage, age, hops, checksum } => {
                w.u8(head(3, *checksum, None, *hops)).array(&owner.0).varint(*seq).u8(*index);
                w.array(preimage).varint(*age);
                (checksum, &None)
            }
            News::Renewal { owner, seq, index, preimage, age, hops, checksum, scope } => {
                w.u8(head(0, *checksum, scope.as_ref(), *hops))
                    .array(&owner.0)
                    .varint(*seq)
                    .u8(*index)
                    .array(preimage)
                    .varint(*age);
                (checksum, scope)
            }
            News::Lease { lease, index, preimage, age, hops, entries, checksum, scope } => {
                w.u8(head(1, *checksum, scope.as_ref(), *hops));
                lease.encode(w);
                w.u8(*index).array(preimage).varint(*age);
                encode_entries(w, entries);
                (checksum, scope)
            }
            News::Entries { owner, incarnation, entries, checksum, scope } => {
                w.u8(head(2, *checksum, scope.as_ref(), 0)).array(&owner.0).u64_le(*incarnation);
                encode_entries(w, entries);
                (checksum, scope)
            }
        };
        if let Some(checksum) = checksum {
            w.array(&checksum.to_le_bytes());
        }
        if let Some(scope) = scope {
            w.list(scope, |w, prefix| {
                w.str(prefix.as_str());
            });
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let head = r.u8("news head")?;
        let (kind, has_checksum, has_scope, hops) = (head & 3, head & CHECKSUM > 0, head & SCOPE > 0, head >> 4);
        let fair_hops = if kind == 2 { hops == 0 } else { (1..=MAX_HOPS).contains(&hops) };
        if !fair_hops || kind == 3 && has_scope {
            return Err(DecodeError::Invalid { field: "news head" });
        }
        let checksum =
            |r: &mut Reader<'_>| has_checksum.then(|| r.array("checksum").map(u32::from_le_bytes)).transpose();
        let scope = |r: &mut Reader<'_>| has_scope.then(|| r.list(MAX_SCOPE, "scope", decode_prefix)).transpose();
        let entries = |r: &mut Reader<'_>| r.list(MAX_HELD, "entries", SoftEntry::decode);
        Ok(match kind {
            0 => News::Renewal {
                owner: OwnerTag(r.array("owner")?),
                seq: r.varint("lease seq")?,
                index: r.u8("index")?,
                preimage: r.array("preimage")?,
                age: r.varint_max(MAX_AGE, "age")?,
                hops,
                checksum: checksum(r)?,
                scope: scope(r)?,
            },
            1 => News::Lease {
                lease: Box::new(Lease::decode(r)?),
                index: r.u8("index")?,
                preimage: r.array("preimage")?,
                age: r.varint_max(MAX_AGE, "age")?,
                hops,
                entries: entries(r)?,
                checksum: checksum(r)?,
                scope: scope(r)?,
            },
            2 => News::Entries {
                owner: OwnerTag(r.array("owner")?),
                incarnation: r.u64_le("incarnation")?,
                entries: entries(r)?,
                checksum: checksum(r)?,
                scope: scope(r)?,
            },
            _ => News::Again {
                owner: OwnerTag(r.array("owner")?),
                seq: r.varint("lease seq")?,
                index: r.u8("index")?,
                preimage: r.array("preimage")?,
                age: r.varint_max(MAX_AGE, "age")?,
                hops,
                checksum: checksum(r)?,
            },
        })
    }
}
