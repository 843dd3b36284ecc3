//! Version 1 of the sync stream.
//!
//! A frame is a sequence of messages, each `type u8 ‖ length varint ‖ body`. A reader skips a message whose type it does
//! not know if the type is 128 or more, and closes the stream if it is less: new optional messages take high numbers.
//! Every list has a bound named in its decoder; a frame bounds the whole at 64 KiB.
//!
//! | type | message | when |
//! |---|---|---|
//! | 0 | [`Message::Hello`] | first, both ways |
//! | 1 | [`Message::Unsupported`] | no version in common; then the stream closes |
//! | 2 | [`Message::Open`] | after both hellos, and when a space is added |
//! | 3 | [`Message::Present`] | for each tag that both have |
//! | 4 | [`Message::Refused`] | for each tag that does not match, or whose proof fails: the same answer |
//! | 5 | [`Message::Interests`] | once the peer is a member, and when interests change |
//! | 6, 7, 28 | [`Message::Roots`] | ask, answer, answer while more is about to leave |
//! | 8 | [`Message::Reconcile`] | one step of L1 or L2 of a domain |
//! | 9 | [`Message::Cursor`] | L0: what has arrived since |
//! | 10 | [`Message::CursorReached`] | end of L0's shipment |
//! | 11 | [`Message::Want`] | after a domain's difference is known |
//! | 12 | [`Message::Unmatched`] | ids of a `Want` that meant nothing here |
//! | 13 | [`Message::Heads`] | what I have of these documents |
//! | 14 | [`Message::FetchSince`] | ship what I lack, given what I have |
//! | 15 | [`Message::Fetch`] | ship these changes by hash |
//! | 16 | [`Message::Shipped`] | end of a domain's shipment |
//! | 17 | [`Message::Update`] | changes, endorsements, tombstones of documents |
//! | 18 | [`Message::Facts`] | signed facts |
//! | 19 | [`Message::Part`] | a piece of a change that does not fit a frame |
//! | 20 | [`Message::Ack`] | durable up to this update |
//! | 21 | [`Message::Credit`] | more room for data |
//! | 22 | [`Message::Have`] | lazy push: heads that exist |
//! | 23 | [`Message::Prune`] | your pushes reach me another way too |
//! | 24 | [`Message::Graft`] | push to me again |
//! | 25 | [`Message::Soft`] | soft state |
//! | 26 | [`Message::SoftAck`] | a `Soft` with news was taken in |
//! | 30 | [`Message::Reached`] | you have my log up to here: a later cursor may begin there |
//! | 27 | [`Message::Held`] | an earlier link left this unfinished: do not send it again |
//! | 160 | [`Message::Vouch`] | before roots, where it says something new |
//! | 162 | [`Message::Peers`] | to a proved member, and when it is news |
//! | 161 | [`Message::Topic`] | signals of topics |
//! | 163 | [`Message::Overlay`] | who is whose neighbour |
//! | 164 | [`Message::PruneAuthor`] | this author's changes reach me another way too |
//! | 165 | [`Message::GraftAuthor`] | they no longer do: push them to me again |

mod document;
pub mod exchange;

pub use self::document::{DocumentHeads, DocumentUpdate};
use self::document::{decode_generation, decode_hashes, decode_path, encode_hashes};
use self::exchange::PeerAddresses;
use super::{Codec, DecodeError, Reader, Writer};
use crate::id::{ChangeHash, DocumentId, Path, Prefix};
use crate::reconcile::KeyName;

/// The protocol versions that this build speaks, best first.
pub const VERSIONS: &[u64] = &[1];

/// Names a space on one link: the first four bytes of its tag.
pub type SpaceTag = [u8; 4];
/// Names a domain on a link: the first four bytes of the BLAKE3 hash of its prefix; zero for the facts.
pub type DomainTag = [u8; 4];
/// The domain of facts.
pub const FACTS_DOMAIN: DomainTag = [0; 4];

/// Names an author on a link: the first eight bytes of its device's id; zero where no device answers for a change alone.
pub type AuthorTag = [u8; 8];

/// Most tags in an [`Message::Open`].
pub const MAX_SPACES: usize = 64;
/// Most prefixes in an [`Message::Interests`].
pub const MAX_PREFIXES: usize = 256;
/// Most ids in a [`Message::Want`].
pub const MAX_IDS: usize = 7_000;
/// Most documents in one message.
pub const MAX_DOCUMENTS: usize = 2_048;
/// Most heads of one document. A document with more is still stored; it is shipped whole instead of by difference.
pub const MAX_HEADS: usize = 1_024;
/// Longest proof in a [`Message::Present`].
pub const MAX_PROOF: usize = 48 * 1024;
/// Most documents of which a peer tells at once that changes wait.
pub const MAX_HELD_DOCUMENTS: usize = 16;
/// Most unfinished changes that a peer tells of at once.
pub const MAX_HELD_PARTS: usize = 64;
/// Longest fact.
pub const MAX_FACT: usize = 4 * 1024;
/// Longest statement (endorsement, tombstone) about a document.
pub const MAX_STATEMENT: usize = 40 * 1024;

/// Most former epochs in a [`Message::Vouch`].
pub const MAX_FORMER: usize = 8;
/// Most ranges in a [`Message::Vouch`].
pub const MAX_RANGES: usize = 16;

/// Why a root is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootsKind {
    /// To be answered with the receiver's.
    Ask,
    /// The answer, and nothing is on its way.
    Answer,
    /// The answer, while changes are about to leave or have not been acknowledged: the roots may differ for a moment.
    BusyAnswer,
}

/// A message of the sync stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// The first words.
    Hello {
        /// Versions spoken, best first.
        versions: Vec<u64>,
        /// Fresh random bytes; both sides' go into tags and proofs, so that neither can be replayed.
        nonce: [u8; 16],
        /// Bytes of data that may be on their way to the sender of this message without credit.
        window: u64,
        /// The store's arrival log, for L0 cursors: random, new when the log begins anew.
        epoch: u64,
    },
    /// No version in common; these are spoken here.
    Unsupported {
        /// Versions spoken, best first.
        versions: Vec<u64>,
    },
    /// Spaces that the sender has, as tags that mean something only to who has them too.
    Open {
        /// One tag a space.
        tags: Vec<[u8; 16]>,
    },
    /// The sender's proof of membership.
    Present {
        /// The space.
        space: SpaceTag,
        /// In the encoding of `trust`.
        proof: Vec<u8>,
    },
    /// Not a member, whatever the reason.
    Refused {
        /// The space.
        space: SpaceTag,
    },
    /// What the sender replicates, and its facts' root.
    Interests {
        /// The space.
        space: SpaceTag,
        /// Prefixes.
        prefixes: Vec<Prefix>,
        /// Root of the facts.
        facts_root: [u8; 24],
        /// Number of facts.
        facts: u64,
    },
    /// One root over all domains of the link.
    Roots {
        /// Why.
        kind: RootsKind,
        /// BLAKE3 of all domain roots, truncated.
        root: [u8; 24],
        /// The sender's arrival number when it took the root.
        arrival: u64,
    },
    /// A step of L1 or L2.
    Reconcile {
        /// The space.
        space: SpaceTag,
        /// The domain.
        domain: DomainTag,
        /// In the encoding of `reconcile`.
        body: Vec<u8>,
    },
    /// L0: ship what has arrived at your side since.
    Cursor {
        /// The space.
        space: SpaceTag,
        /// Arrival number of the receiver that the sender has everything up to.
        arrival: u64,
    },
    /// L0's shipment is complete.
    CursorReached {
        /// The space.
        space: SpaceTag,
        /// What the sender of this message has of the receiver's log; `None`: no cursor.
        mine: Option<u64>,
    },
    /// What the difference calls for.
    Want {
        /// The space.
        space: SpaceTag,
        /// The domain.
        domain: DomainTag,
        /// Ids of items that the receiver has and the sender wants.
        theirs: Vec<u64>,
        /// Ids of items that the sender has and the receiver may know how to bring up to date.
        mine: Vec<u64>,
        /// The key that the ids are under.
        key: KeyName,
        /// Whether this is the last `Want` of the domain's round.
        last: bool,
    },
    /// These of `mine` matched no earlier state of a document here.
    Unmatched {
        /// The space.
        space: SpaceTag,
        /// The domain.
        domain: DomainTag,
        /// The ids.
        ids: Vec<u64>,
    },
    /// What the sender has of these documents; the receiver answers with what is missing on either side.
    Heads {
        /// The space.
        space: SpaceTag,
        /// The documents.
        documents: Vec<DocumentHeads>,
    },
    /// Ship what the sender lacks, given its heads.
    FetchSince {
        /// The space.
        space: SpaceTag,
        /// The documents.
        documents: Vec<DocumentHeads>,
    },
    /// Ship changes by hash.
    Fetch {
        /// The space.
        space: SpaceTag,
        /// Where.
        path: Path,
        /// The path's generation.
        generation: u32,
        /// The changes.
        hashes: Vec<ChangeHash>,
    },
    /// Everything that a `Want` asked for has been sent.
    Shipped {
        /// The space.
        space: SpaceTag,
        /// The domain.
        domain: DomainTag,
    },
    /// News of documents.
    Update {
        /// The space.
        space: SpaceTag,
        /// Numbers updates and facts of one direction, from 1; acknowledged when durable.
        number: u64,
        /// The news.
        documents: Vec<DocumentUpdate>,
    },
    /// Signed facts.
    Facts {
        /// The space.
        space: SpaceTag,
        /// As in [`Message::Update`].
        number: u64,
        /// In the encoding of `trust`.
        facts: Vec<Vec<u8>>,
    },
    /// A piece of a change; the last piece completes it and is acknowledged by its number.
    Part {
        /// The space.
        space: SpaceTag,
        /// As in [`Message::Update`].
        number: u64,
        /// Where.
        path: Path,
        /// The path's generation.
        generation: u32,
        /// The change.
        hash: ChangeHash,
        /// Its length.
        total: u64,
        /// Where this piece begins.
        offset: u64,
        /// The piece.
        bytes: Vec<u8>,
    },
    /// Everything up to this number has been dealt with.
    Ack {
        /// The number.
        number: u64,
        /// Numbers among them of which something was refused or waits for more: not to be counted as stored.
        except: Vec<u64>,
    },
    /// The receiver may send this many more bytes of data.
    Credit {
        /// Bytes.
        bytes: u64,
    },
    /// Lazy push.
    Have {
        /// The space.
        space: SpaceTag,
        /// Documents and the first 8 bytes of a change that the sender has.
        documents: Vec<(DocumentId, [u8; 8])>,
    },
    /// Push lazily to the sender of this message.
    Prune {
        /// The space.
        space: SpaceTag,
        /// The domain that it concerns.
        domain: DomainTag,
    },
    /// Push eagerly again, beginning with these documents.
    Graft {
        /// The space.
        space: SpaceTag,
        /// Documents that were announced and did not arrive.
        documents: Vec<DocumentId>,
    },
    /// Soft state.
    Soft {
        /// The space.
        space: SpaceTag,
        /// In the encoding of `soft`.
        body: Vec<u8>,
    },
    /// One message of soft news was taken in.
    SoftAck,
    /// The receiver has been sent, and has acknowledged or was announced, everything of the sender's log up to here.
    Reached {
        /// The space.
        space: SpaceTag,
        /// Arrival number of the sender.
        arrival: u64,
    },
    /// What an earlier link left unfinished: not to be sent again.
    Held {
        /// The space.
        space: SpaceTag,
        /// Documents of which changes wait, with heads at and below which nothing is missing.
        documents: Vec<DocumentHeads>,
        /// Changes that have come in part, and how many bytes of each.
        parts: Vec<(ChangeHash, u64)>,
    },
    /// Where members of the space are. Who does not know it finds them otherwise.
    Peers {
        /// The space.
        space: SpaceTag,
        /// The sender itself, others, or both.
        peers: Vec<PeerAddresses>,
    },
    /// What equal roots do and do not say of the sender's arrival log. Who does not know it records nothing of the kind.
    Vouch {
        /// The space.
        space: SpaceTag,
        /// Former epochs of the log, with the arrival number up to which the sender has all of each.
        former: Vec<(u64, u64)>,
        /// Ranges of arrival numbers, end excluded: points in them may stand for edits that the sender has set aside.
        set_aside: Vec<(u64, u64)>,
    },
    /// A signal, or what keeps their trees in order. Who does not know it hears no topics, and passes none on.
    Topic {
        /// The space.
        space: SpaceTag,
        /// In the encoding of `topic`.
        body: Vec<u8>,
    },
    /// Who is whose neighbour. Who does not know it stays a neighbour of everybody.
    Overlay {
        /// The space.
        space: SpaceTag,
        /// In the encoding of `overlay`.
        body: Vec<u8>,
    },
    /// Announce this author's changes in a domain instead of pushing them; others' are not meant. Who does not know it goes
    /// on pushing.
    PruneAuthor {
        /// The space.
        space: SpaceTag,
        /// The domain that it concerns.
        domain: DomainTag,
        /// The author.
        author: AuthorTag,
    },
    /// Push this author's changes in a domain again: the link that brought them is gone. Who does not know it goes on
    /// announcing, and is asked for what does not come.
    GraftAuthor {
        /// The space.
        space: SpaceTag,
        /// The domain that it concerns.
        domain: DomainTag,
        /// The author.
        author: AuthorTag,
    },
}

impl Message {
    fn kind(&self) -> u8 {
        match self {
            Message::Hello { .. } => 0,
            Message::Unsupported { .. } => 1,
            Message::Open { .. } => 2,
            Message::Present { .. } => 3,
            Message::Refused { .. } => 4,
            Message::Interests { .. } => 5,
            Message::Roots { kind: RootsKind::Ask, .. } => 6,
            Message::Roots { kind: RootsKind::Answer, .. } => 7,
            Message::Roots { kind: RootsKind::BusyAnswer, .. } => 28,
            Message::Reconcile { .. } => 8,
            Message::Cursor { .. } => 9,
            Message::CursorReached { .. } => 10,
            Message::Want { .. } => 11,
            Message::Unmatched { .. } => 12,
            Message::Heads { .. } => 13,
            Message::FetchSince { .. } => 14,
            Message::Fetch { .. } => 15,
            Message::Shipped { .. } => 16,
            Message::Update { .. } => 17,
            Message::Facts { .. } => 18,
            Message::Part { .. } => 19,
            Message::Ack { .. } => 20,
            Message::Credit { .. } => 21,
            Message::Have { .. } => 22,
            Message::Prune { .. } => 23,
            Message::Graft { .. } => 24,
            Message::Soft { .. } => 25,
            Message::SoftAck => 26,
            Message::Held { .. } => 27,
            Message::Reached { .. } => 30,
            Message::Vouch { .. } => 160,
            Message::Peers { .. } => 162,
            Message::Topic { .. } => 161,
            Message::Overlay { .. } => 163,
            Message::PruneAuthor { .. } => 164,
            Message::GraftAuthor { .. } => 165,
        }
    }

    /// Appends `type ‖ length ‖ body` to a frame.
    pub fn append_to(&self, frame: &mut Vec<u8>) {
        let mut body = Writer::new();
        self.encode_body(&mut body);
        let body = body.finish();
        let mut head = Writer::new();
        head.u8(self.kind()).varint(body.len() as u64);
        frame.extend_from_slice(&head.finish());
        frame.extend_from_slice(&body);
    }

    /// Whether the message counts against the receiver's credit.
    pub fn is_data(&self) -> bool {
        matches!(self, Message::Update { .. } | Message::Facts { .. } | Message::Part { .. })
    }

    /// The space that a message is about, for those that are about one.
    pub fn space(&self) -> Option<&SpaceTag> {
        match self {
            Message::Present { space, .. }
            | Message::Refused { space }
            | Message::Interests { space, .. }
            | Message::Reconcile { space, .. }
            | Message::Cursor { space, .. }
            | Message::CursorReached { space, .. }
            | Message::Want { space, .. }
            | Message::Unmatched { space, .. }
            | Message::Heads { space, .. }
            | Message::FetchSince { space, .. }
            | Message::Fetch { space, .. }
            | Message::Shipped { space, .. }
            | Message::Update { space, .. }
            | Message::Facts { space, .. }
            | Message::Part { space, .. }
            | Message::Have { space, .. }
            | Message::Soft { space, .. }
            | Message::Topic { space, .. }
            | Message::Overlay { space, .. }
            | Message::PruneAuthor { space, .. }
            | Message::GraftAuthor { space, .. }
            | Message::Prune { space, .. }
            | Message::Graft { space, .. }
            | Message::Held { space, .. }
            | Message::Reached { space, .. }
            | Message::Vouch { space, .. }
            | Message::Peers { space, .. } => Some(space),
            _ => None,
        }
    }

    fn encode_body(&self, w: &mut Writer) {
        match self {
            Message::Hello { versions, nonce, window, epoch } => {
                w.list(versions, |w, v| {
                    w.varint(*v);
                });
                w.array(nonce).varint(*window).u64_le(*epoch).extensions(&[]);
            }
            Message::Unsupported { versions } => {
                w.list(versions, |w, v| {
                    w.varint(*v);
                });
            }
            Message::Open { tags } => {
                w.list(tags, |w, t| {
                    w.array(t);
                });
            }
            Message::Present { space, proof } => {
                w.array(space).bytes(proof);
            }
            Message::Refused { space } => {
                w.array(space);
            }
            Message::Prune { space, domain } => {
                w.array(space).array(domain);
            }
            Message::Interests { space, prefixes, facts_root, facts } => {
                w.array(space).list(prefixes, |w, p| {
                    w.str(p.as_str());
                });
                w.array(facts_root).varint(*facts).extensions(&[]);
            }
            Message::Roots { root, arrival, .. } => {
                w.array(root).varint(*arrival);
            }
            Message::Reconcile { space, domain, body } => {
                w.array(space).array(domain).raw(body);
            }
            Message::Cursor { space, arrival } => {
                w.array(space).varint(*arrival);
            }
            Message::CursorReached { space, mine } => {
                w.array(space).option(mine.as_ref(), |w, m| {
                    w.varint(*m);
                });
            }
            Message::Want { space, domain, theirs, mine, key, last } => {
                w.array(space).array(domain);
                key.encode(w);
                w.u8(u8::from(*last));
                encode_ids(w, theirs);
                encode_ids(w, mine);
            }
            Message::Unmatched { space, domain, ids } => {
                w.array(space).array(domain);
                encode_ids(w, ids);
            }
            Message::Heads { space, documents } | Message::FetchSince { space, documents } => {
                w.array(space).list(documents, |w, d| d.encode(w));
            }
            Message::Fetch { space, path, generation, hashes } => {
                w.array(space).str(path.as_str()).varint(u64::from(*generation));
                encode_hashes(w, hashes);
            }
            Message::Shipped { space, domain } => {
                w.array(space).array(domain);
            }
            Message::Update { space, number, documents } => {
                w.array(space).varint(*number).list(documents, |w, d| d.encode(w));
            }
            Message::Facts { space, number, facts } => {
                w.array(space).varint(*number).list(facts, |w, f| {
                    w.bytes(f);
                });
            }
            Message::Part { space, number, path, generation, hash, total, offset, bytes } => {
                w.array(space).varint(*number).str(path.as_str()).varint(u64::from(*generation));
                w.array(&hash.0).varint(*total).varint(*offset).raw(bytes);
            }
            Message::Ack { number, except } => {
                w.varint(*number).list(except, |w, n| {
                    w.varint(*n);
                });
            }
            Message::Credit { bytes } => {
                w.varint(*bytes);
            }
            Message::Have { space, documents } => {
                w.array(space).list(documents, |w, (d, h)| {
                    w.array(&d.0).array(h);
                });
            }
            Message::Graft { space, documents } => {
                w.array(space).list(documents, |w, d| {
                    w.array(&d.0);
                });
            }
            Message::Soft { space, body } | Message::Topic { space, body } | Message::Overlay { space, body } => {
                w.array(space).raw(body);
            }
            Message::PruneAuthor { space, domain, author } | Message::GraftAuthor { space, domain, author } => {
                w.array(space).array(domain).array(author).extensions(&[]);
            }
            Message::SoftAck => {}
            Message::Reached { space, arrival } => {
                w.array(space).varint(*arrival);
            }
            Message::Held { space, documents, parts } => {
                w.array(space).list(documents, |w, d| d.encode(w));
                w.list(parts, |w, (hash, bytes)| {
                    w.array(&hash.0).varint(*bytes);
                });
            }
            Message::Peers { space, peers } => {
                w.array(space).list(peers, |w, peer| peer.encode(w)).extensions(&[]);
            }
            Message::Vouch { space, former, set_aside } => {
                w.array(space).list(former, |w, (epoch, arrival)| {
                    w.u64_le(*epoch).varint(*arrival);
                });
                w.list(set_aside, |w, (from, to)| {
                    w.varint(*from).varint(*to);
                });
                w.extensions(&[]);
            }
        }
    }

    /// Decodes one body; `None` for a type that may be skipped.
    fn decode_body(kind: u8, r: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            0 => {
                let versions = r.list(16, "versions", |r| r.varint("version"))?;
                let (nonce, window, epoch) = (r.array("nonce")?, r.varint("window")?, r.u64_le("epoch")?);
                r.extensions()?;
                Message::Hello { versions, nonce, window, epoch }
            }
            1 => Message::Unsupported { versions: r.list(16, "versions", |r| r.varint("version"))? },
            2 => Message::Open { tags: r.list(MAX_SPACES, "tags", |r| r.array("tag"))? },
            3 => Message::Present { space: r.array("space")?, proof: r.bytes(MAX_PROOF, "proof")?.to_vec() },
            4 => Message::Refused { space: r.array("space")? },
            5 => {
                let space = r.array("space")?;
                let prefixes = r.list(MAX_PREFIXES, "prefixes", |r| {
                    let text = r.str(Path::MAX_LEN, "prefix")?;
                    Prefix::parse(text).map_err(|_| DecodeError::Invalid { field: "prefix" })
                })?;
                let (facts_root, facts) = (r.array("facts root")?, r.varint("facts")?);
                r.extensions()?;
                Message::Interests { space, prefixes, facts_root, facts }
            }
            6 | 7 | 28 => Message::Roots {
                kind: match kind {
                    6 => RootsKind::Ask,
                    7 => RootsKind::Answer,
                    _ => RootsKind::BusyAnswer,
                },
                root: r.array("root")?,
                arrival: r.varint("arrival")?,
            },
            8 => Message::Reconcile { space: r.array("space")?, domain: r.array("domain")?, body: r.rest().to_vec() },
            9 => Message::Cursor { space: r.array("space")?, arrival: r.varint("arrival")? },
            10 => {
                Message::CursorReached { space: r.array("space")?, mine: r.option("cursor", |r| r.varint("arrival"))? }
            }
            11 => {
                let (space, domain, key) = (r.array("space")?, r.array("domain")?, KeyName::decode(r)?);
                let last = match r.u8("last")? {
                    flag @ (0 | 1) => flag == 1,
                    _ => return Err(DecodeError::Invalid { field: "last" }),
                };
                Message::Want { space, domain, key, last, theirs: decode_ids(r)?, mine: decode_ids(r)? }
            }
            12 => Message::Unmatched { space: r.array("space")?, domain: r.array("domain")?, ids: decode_ids(r)? },
            13 | 14 => {
                let space = r.array("space")?;
                let documents = r.list(MAX_DOCUMENTS, "documents", DocumentHeads::decode)?;
                if kind == 13 { Message::Heads { space, documents } } else { Message::FetchSince { space, documents } }
            }
            15 => Message::Fetch {
                space: r.array("space")?,
                path: decode_path(r)?,
                generation: decode_generation(r)?,
                hashes: decode_hashes(r)?,
            },
            16 => Message::Shipped { space: r.array("space")?, domain: r.array("domain")? },
            17 => Message::Update {
                space: r.array("space")?,
                number: r.varint("number")?,
                documents: r.list(MAX_DOCUMENTS, "documents", DocumentUpdate::decode)?,
            },
            18 => Message::Facts {
                space: r.array("space")?,
                number: r.varint("number")?,
                facts: r.list(MAX_DOCUMENTS, "facts", |r| Ok(r.bytes(MAX_FACT, "fact")?.to_vec()))?,
            },
            19 => Message::Part {
                space: r.array("space")?,
                number: r.varint("number")?,
                path: decode_path(r)?,
                generation: decode_generation(r)?,
                hash: ChangeHash(r.array("hash")?),
                total: r.varint("total")?,
                offset: r.varint("offset")?,
                bytes: r.rest().to_vec(),
            },
            20 => Message::Ack {
                number: r.varint("number")?,
                except: r.list(crate::io::MAX_FRAME, "exceptions", |r| r.varint("exception"))?,
            },
            21 => Message::Credit { bytes: r.varint("bytes")? },
            22 => Message::Have {
                space: r.array("space")?,
                documents: r
                    .list(MAX_DOCUMENTS, "documents", |r| Ok((DocumentId(r.array("document")?), r.array("change")?)))?,
            },
            23 => Message::Prune { space: r.array("space")?, domain: r.array("domain")? },
            24 => Message::Graft {
                space: r.array("space")?,
                documents: r.list(MAX_DOCUMENTS, "documents", |r| Ok(DocumentId(r.array("document")?)))?,
            },
            25 => Message::Soft { space: r.array("space")?, body: r.rest().to_vec() },
            26 => Message::SoftAck,
            30 => Message::Reached { space: r.array("space")?, arrival: r.varint("arrival")? },
            27 => Message::Held {
                space: r.array("space")?,
                documents: r.list(MAX_HELD_DOCUMENTS, "documents", DocumentHeads::decode)?,
                parts: r.list(MAX_HELD_PARTS, "parts", |r| Ok((ChangeHash(r.array("hash")?), r.varint("offset")?)))?,
            },
            160 => {
                let space = r.array("space")?;
                let former = r.list(MAX_FORMER, "former epochs", |r| Ok((r.u64_le("epoch")?, r.varint("arrival")?)))?;
                let set_aside = r.list(MAX_RANGES, "ranges", |r| Ok((r.varint("from")?, r.varint("to")?)))?;
                r.extensions()?;
                Message::Vouch { space, former, set_aside }
            }
            162 => {
                let space = r.array("space")?;
                let peers = r.list(exchange::MAX_TOLD_PEERS, "peers", PeerAddresses::decode)?;
                r.extensions()?;
                Message::Peers { space, peers }
            }
            161 => Message::Topic { space: r.array("space")?, body: r.rest().to_vec() },
            163 => Message::Overlay { space: r.array("space")?, body: r.rest().to_vec() },
            164 | 165 => {
                let (space, domain, author) = (r.array("space")?, r.array("domain")?, r.array("author")?);
                r.extensions()?;
                match kind {
                    164 => Message::PruneAuthor { space, domain, author },
                    _ => Message::GraftAuthor { space, domain, author },
                }
            }
            128.. => {
                r.rest();
                return Ok(None);
            }
            _ => return Err(DecodeError::Invalid { field: "message type" }),
        }))
    }
}

/// All messages of a frame, each with its length there: what a numbered message costs of the credit.
pub fn decode_frame(frame: &[u8]) -> Result<Vec<(Message, usize)>, DecodeError> {
    let mut r = Reader::new(frame);
    let mut messages = Vec::new();
    while r.remaining() > 0 {
        let before = r.remaining();
        let kind = r.u8("message type")?;
        let mut body = Reader::new(r.bytes(crate::io::MAX_FRAME, "message")?);
        let message = Message::decode_body(kind, &mut body)?;
        body.finish()?;
        messages.extend(message.map(|m| (m, before - r.remaining())));
    }
    Ok(messages)
}

fn encode_ids(w: &mut Writer, ids: &[u64]) {
    w.list(ids, |w, id| {
        w.u64_le(*id);
    });
}

fn decode_ids(r: &mut Reader<'_>) -> Result<Vec<u64>, DecodeError> {
    r.list(MAX_IDS, "ids", |r| r.u64_le("id"))
}

#[cfg(test)]
mod tests;
