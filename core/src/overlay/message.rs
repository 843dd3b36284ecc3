//! What peers say to each other about who is whose neighbour: the body of message `Overlay` of the sync stream.
//!
//! ```text
//! type u8, then
//!   0 peers       flags u8 (bit 0: an answer is wanted) · neighbours u8 · own addresses · list(≤ 8) (peer[32] · addresses)
//!   1 neighbour   wish u8 (0 if there is room · 1 in any case · 2 granted) · neighbours u8
//!   2 disconnect
//!   then          extensions
//!
//! addresses       list(≤ 4) str(≤ 128)
//! ```
//!
//! An address is text that means nothing here.

use super::{MAX_ADDRESS, MAX_ADDRESSES, MAX_SAMPLE};
use crate::id::PeerId;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// What a peer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Some of the peers that the sender knows.
    Peers {
        /// Whether the receiver's are wanted.
        asks: bool,
        /// How many neighbours the sender has.
        neighbours: u8,
        /// Where the sender can be reached.
        addresses: Vec<String>,
        /// The sample.
        sample: Vec<Contact>,
    },
    /// The sender wants to be a neighbour, or agrees to be one.
    Neighbour {
        /// Which.
        wish: Wish,
        /// How many neighbours the sender has.
        neighbours: u8,
    },
    /// The sender is no neighbour any more.
    Disconnect,
}

/// What a [`Message::Neighbour`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To be a neighbour if there is room.
    IfRoom,
    /// To be a neighbour in any case: the sender has next to nobody.
    Priority,
    /// Nothing: it grants what the receiver asked for.
    Granted,
}

/// A peer and where it may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// Who.
    pub peer: PeerId,
    /// Addresses as text; none: others may know them.
    pub addresses: Vec<String>,
}

fn encode_addresses(w: &mut Writer, addresses: &[String]) {
    w.list(addresses, |w, address| {
        w.str(address);
    });
}

fn decode_addresses(r: &mut Reader<'_>) -> Result<Vec<String>, DecodeError> {
    r.list(MAX_ADDRESSES, "addresses", |r| Ok(r.str(MAX_ADDRESS, "address")?.to_owned()))
}

impl Codec for Contact {
    fn encode(&self, w: &mut Writer) {
        w.array(&self.peer.0);
        encode_addresses(w, &self.addresses);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { peer: PeerId(r.array("peer")?), addresses: decode_addresses(r)? })
    }
}

impl Codec for Message {
    fn encode(&self, w: &mut Writer) {
        match self {
            Message::Peers { asks, neighbours, addresses, sample } => {
                w.u8(0).u8(u8::from(*asks)).u8(*neighbours);
                encode_addresses(w, addresses);
                w.list(sample, |w, contact| contact.encode(w));
            }
            Message::Neighbour { wish, neighbours } => {
                w.u8(1).u8(*wish as u8).u8(*neighbours);
            }
            Message::Disconnect => {
                w.u8(2);
            }
        }
        w.extensions(&[]);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let message = match r.u8("overlay message type")? {
            0 => {
                let asks = match r.u8("peers flags")? {
                    flag @ (0 | 1) => flag == 1,
                    _ => return Err(DecodeError::Invalid { field: "peers flags" }),
                };
                let (neighbours, addresses) = (r.u8("neighbours")?, decode_addresses(r)?);
                Message::Peers { asks, neighbours, addresses, sample: r.list(MAX_SAMPLE, "sample", Contact::decode)? }
            }
            1 => {
                let wish = match r.u8("wish")? {
                    0 => Wish::IfRoom,
                    1 => Wish::Priority,
                    2 => Wish::Granted,
                    _ => return Err(DecodeError::Invalid { field: "wish" }),
                };
                Message::Neighbour { wish, neighbours: r.u8("neighbours")? }
            }
            2 => Message::Disconnect,
            _ => return Err(DecodeError::Invalid { field: "overlay message type" }),
        };
        r.extensions()?;
        Ok(message)
    }
}
