//! The messages of automerge-repo's WebSocket protocol: one CBOR map each, in one binary frame.
//!
//! ```text
//!   join  {senderId, peerMetadata {storageId?, isEphemeral}, supportedProtocolVersions}     the client's first
//!   peer  {senderId, targetId, peerMetadata, selectedProtocolVersion}                       the answer
//!   request | sync  {documentId, senderId, targetId, data}
//!   doc-unavailable {documentId, senderId, targetId}
//!   ephemeral       {documentId, senderId, targetId, sessionId, count, data}
//!   remote-subscription-change {senderId, targetId, add?, remove?}
//!   remote-heads-changed {documentId, senderId, targetId, newHeads {storageId: {heads, timestamp}}}
//!   error {message}   leave {senderId}
//! ```
//! Source: `@automerge/automerge-repo` 2, its adapters and its README, which errs in places (the field is `peerMetadata`; heads
//! are texts in base58 with a check sum; `add` and `remove` may be missing).

use foreshore::id::ChangeHash;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder, decode};

/// The version of the protocol that is spoken here.
pub const VERSION: &str = "1";

/// Longest id of a peer, a session or a storage.
pub const MAX_ID: usize = 256;

/// Most texts of a list: ids of storages, versions.
const MAX_TEXTS: usize = 1_024;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Its first words.
    Join {
        /// What it calls itself.
        sender: String,
        /// Where it keeps documents, if it does.
        storage: Option<String>,
        /// What it speaks.
        versions: Vec<String>,
    },
    /// A sync message about a document; `request`: it does not have the document yet.
    Sync {
        /// The document.
        document: String,
        /// Automerge's message.
        data: Vec<u8>,
        /// Whether it asks for a document that it has nothing of.
        request: bool,
    },
    /// It does not have the document.
    Unavailable {
        /// The document.
        document: String,
    },
    /// Something for whoever has the document open now.
    Ephemeral(Ephemeral),
    /// Whose heads it wants to hear of.
    Subscribe {
        /// Storages, from now on.
        add: Vec<String>,
        /// Storages, no more.
        remove: Vec<String>,
    },
    /// It goes.
    Leave,
    /// Something that needs no answer here.
    Other,
}

/// Something that is passed on and kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ephemeral {
    /// The document.
    pub document: String,
    /// Who says it.
    pub sender: String,
    /// In which of its sessions.
    pub session: String,
    /// Its number there.
    pub count: u64,
    /// What it says.
    pub data: Vec<u8>,
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// They are no CBOR, or have another shape.
    #[error("no message of automerge-repo: {0}")]
    Cbor(#[from] decode::Error),
    /// Something that every message of the kind has is not there.
    #[error("a message {kind:?} without {field}")]
    Missing {
        /// The message's type.
        kind: String,
        /// What it lacks.
        field: &'static str,
    },
}

#[derive(Default)]
struct Fields {
    kind: Option<String>,
    sender: Option<String>,
    document: Option<String>,
    session: Option<String>,
    storage: Option<String>,
    count: Option<u64>,
    data: Option<Vec<u8>>,
    versions: Vec<String>,
    add: Vec<String>,
    remove: Vec<String>,
}

impl Fields {
    fn read(bytes: &[u8]) -> Result<Self, decode::Error> {
        let mut d = Decoder::new(bytes);
        let mut fields = Self::default();
        each(&mut d, |d, key| {
            match key {
                "type" => fields.kind = text(d)?,
                "senderId" => fields.sender = text(d)?,
                "documentId" => fields.document = text(d)?,
                "sessionId" => fields.session = text(d)?,
                "count" => fields.count = number(d)?,
                "data" => fields.data = bytes_of(d)?,
                "supportedProtocolVersions" => fields.versions = texts(d)?,
                "add" => fields.add = texts(d)?,
                "remove" => fields.remove = texts(d)?,
                "peerMetadata" if is_map(d)? => each(d, |d, key| {
                    match key {
                        "storageId" => fields.storage = text(d)?,
                        _ => d.skip()?,
                    }
                    Ok(())
                })?,
                _ => d.skip()?,
            }
            Ok(())
        })?;
        Ok(fields)
    }
}

fn is_map(d: &Decoder<'_>) -> Result<bool, decode::Error> {
    Ok(matches!(d.datatype()?, Type::Map | Type::MapIndef))
}

/// Goes through a map whose keys are texts.
fn each<'b>(
    d: &mut Decoder<'b>,
    mut entry: impl FnMut(&mut Decoder<'b>, &str) -> Result<(), decode::Error>,
) -> Result<(), decode::Error> {
    let mut left = d.map()?;
    loop {
        match left.as_mut() {
            Some(0) => return Ok(()),
            Some(count) => *count -= 1,
            None if d.datatype()? == Type::Break => return d.skip(),
            None => {}
        }
        if d.datatype()? == Type::String {
            let key = d.str()?;
            entry(d, key)?;
        } else {
            d.skip()?;
            d.skip()?;
        }
    }
}

/// A text of a sensible length; anything else, such as `undefined`, counts as nothing.
fn text(d: &mut Decoder<'_>) -> Result<Option<String>, decode::Error> {
    if d.datatype()? != Type::String {
        return d.skip().map(|()| None);
    }
    let text = d.str()?;
    Ok((text.len() <= MAX_ID).then(|| text.to_owned()))
}

fn texts(d: &mut Decoder<'_>) -> Result<Vec<String>, decode::Error> {
    if !matches!(d.datatype()?, Type::Array | Type::ArrayIndef) {
        return d.skip().map(|()| Vec::new());
    }
    let (mut texts, mut left) = (Vec::new(), d.array()?);
    loop {
        match left.as_mut() {
            Some(0) => return Ok(texts),
            Some(count) => *count -= 1,
            None if d.datatype()? == Type::Break => {
                d.skip()?;
                return Ok(texts);
            }
            None => {}
        }
        if let Some(text) = text(d)?
            && texts.len() < MAX_TEXTS
        {
            texts.push(text);
        }
    }
}

fn number(d: &mut Decoder<'_>) -> Result<Option<u64>, decode::Error> {
    match d.datatype()? {
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => d.u64().map(Some),
        // JavaScript's encoders write large whole numbers this way.
        Type::F64 => d.f64().map(|float| (float >= 0.0).then_some(float as u64)),
        _ => d.skip().map(|()| None),
    }
}

/// Bytes, which some encoders tag as an array of bytes.
fn bytes_of(d: &mut Decoder<'_>) -> Result<Option<Vec<u8>>, decode::Error> {
    if d.datatype()? == Type::Tag {
        d.tag()?;
    }
    match d.datatype()? {
        Type::Bytes => Ok(Some(d.bytes()?.to_vec())),
        _ => d.skip().map(|()| None),
    }
}

impl Said {
    /// Reads a frame.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let fields = Fields::read(bytes)?;
        let kind = fields.kind.unwrap_or_default();
        let lacks = |field| MessageError::Missing { kind: kind.clone(), field };
        let document = |it: Option<String>| it.ok_or_else(|| lacks("documentId"));
        Ok(match kind.as_str() {
            "join" => Said::Join {
                sender: fields.sender.ok_or_else(|| lacks("senderId"))?,
                storage: fields.storage,
                versions: fields.versions,
            },
            "sync" | "request" => Said::Sync {
                document: document(fields.document)?,
                data: fields.data.ok_or_else(|| lacks("data"))?,
                request: kind == "request",
            },
            "doc-unavailable" => Said::Unavailable { document: document(fields.document)? },
            "ephemeral" => Said::Ephemeral(Ephemeral {
                document: document(fields.document)?,
                sender: fields.sender.ok_or_else(|| lacks("senderId"))?,
                session: fields.session.ok_or_else(|| lacks("sessionId"))?,
                count: fields.count.ok_or_else(|| lacks("count"))?,
                data: fields.data.ok_or_else(|| lacks("data"))?,
            }),
            "remote-subscription-change" => Said::Subscribe { add: fields.add, remove: fields.remove },
            "leave" => Said::Leave,
            _ => Said::Other,
        })
    }
}

/// What is said to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Say<'m> {
    /// The answer to its first words.
    Peer {
        /// Where this store's documents are.
        storage: &'m str,
    },
    /// A sync message.
    Sync {
        /// The document.
        document: &'m str,
        /// Automerge's message.
        data: &'m [u8],
    },
    /// There is no such document.
    Unavailable {
        /// The document.
        document: &'m str,
    },
    /// What another one said.
    Ephemeral(&'m Ephemeral),
    /// What a storage has of a document.
    HeadsChanged {
        /// The document.
        document: &'m str,
        /// The storage.
        storage: &'m str,
        /// Its heads.
        heads: &'m [ChangeHash],
        /// When that was so, in milliseconds since 1970.
        timestamp: u64,
    },
    /// What is wrong; the connection ends.
    Error {
        /// What.
        message: &'m str,
    },
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

impl Say<'_> {
    /// Writes it, from a peer to another.
    pub fn encode(&self, from: &str, to: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.write(&mut Encoder::new(&mut bytes), from, to) {
            Ok(()) => bytes,
            // A vector takes everything.
            Err(_) => Vec::new(),
        }
    }

    fn write(&self, e: &mut Encoder<&mut Vec<u8>>, from: &str, to: &str) -> Written {
        let begin = |e: &mut Encoder<&mut Vec<u8>>, fields: u64, kind: &str, from: &str| -> Written {
            e.map(3 + fields)?.str("type")?.str(kind)?.str("senderId")?.str(from)?.str("targetId")?.str(to)?;
            Ok(())
        };
        match self {
            Say::Peer { storage } => {
                begin(e, 2, "peer", from)?;
                e.str("peerMetadata")?.map(2)?.str("storageId")?.str(storage)?.str("isEphemeral")?.bool(false)?;
                e.str("selectedProtocolVersion")?.str(VERSION)?;
            }
            Say::Sync { document, data } => {
                begin(e, 2, "sync", from)?;
                e.str("documentId")?.str(document)?.str("data")?.bytes(data)?;
            }
            Say::Unavailable { document } => {
                begin(e, 1, "doc-unavailable", from)?;
                e.str("documentId")?.str(document)?;
            }
            Say::Ephemeral(it) => {
                begin(e, 4, "ephemeral", &it.sender)?;
                e.str("documentId")?.str(&it.document)?.str("sessionId")?.str(&it.session)?;
                e.str("count")?.u64(it.count)?.str("data")?.bytes(&it.data)?;
            }
            Say::HeadsChanged { document, storage, heads, timestamp } => {
                begin(e, 2, "remote-heads-changed", from)?;
                e.str("documentId")?.str(document)?.str("newHeads")?.map(1)?.str(storage)?;
                e.map(2)?.str("heads")?.array(heads.len() as u64)?;
                for head in *heads {
                    e.str(&bs58::encode(&head.0).with_check().into_string())?;
                }
                // JavaScript knows no whole number above this but as a float.
                e.str("timestamp")?.f64(*timestamp as f64)?;
            }
            Say::Error { message } => {
                begin(e, 1, "error", from)?;
                e.str("message")?.str(message)?;
            }
        }
        Ok(())
    }
}
