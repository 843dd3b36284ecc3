//! What crosses a link: signals, and what keeps their trees and queues in order.
//!
//! ```text
//! type u8, then
//!  0 signal   signal
//!  1 have     list(≤ 1,024) (stream tag 8 · seq varint)
//!  2 prune    list(≤ 1,024) stream tag 8
//!  3 graft    list(≤ 1,024) (stream tag 8 · seq varint)
//!  4 ack      bytes varint
//!  5 former   incarnation u64 LE
//! ```

use super::signal::{Signal, StreamTag};
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Most streams that one message names.
pub const MAX_TAGS: usize = 1_024;

/// A message between two peers, about one space.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// A signal.
    Signal(Box<Signal>),
    /// The sender of this message has these streams up to these numbers, and was asked to be silent about them.
    Have(Vec<(StreamTag, u64)>),
    /// Be silent about these streams: they come another way.
    Prune(Vec<StreamTag>),
    /// Send these streams again, from behind these numbers on.
    Graft(Vec<(StreamTag, u64)>),
    /// The receiver of this message publishes under an incarnation that is below this one, which it has had before.
    Former {
        /// The incarnation that was heard of.
        incarnation: u64,
    },
    /// So many more bytes of signals, as messages of this kind, have been taken in.
    Ack {
        /// Bytes.
        bytes: u64,
    },
}

fn encode_marks(w: &mut Writer, marks: &[(StreamTag, u64)]) {
    w.list(marks, |w, (tag, seq)| {
        w.array(&tag.0).varint(*seq);
    });
}

fn decode_marks(r: &mut Reader<'_>) -> Result<Vec<(StreamTag, u64)>, DecodeError> {
    r.list(MAX_TAGS, "streams", |r| Ok((StreamTag(r.array("stream")?), r.varint("seq")?)))
}

impl Codec for Message {
    fn encode(&self, w: &mut Writer) {
        match self {
            Message::Signal(signal) => {
                w.u8(0);
                signal.encode(w);
            }
            Message::Have(marks) => encode_marks(w.u8(1), marks),
            Message::Prune(tags) => {
                w.u8(2).list(tags, |w, tag| {
                    w.array(&tag.0);
                });
            }
            Message::Graft(marks) => encode_marks(w.u8(3), marks),
            Message::Ack { bytes } => {
                w.u8(4).varint(*bytes);
            }
            Message::Former { incarnation } => {
                w.u8(5).u64_le(*incarnation);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8("topic message type")? {
            0 => Message::Signal(Box::new(Signal::decode(r)?)),
            1 => Message::Have(decode_marks(r)?),
            2 => Message::Prune(r.list(MAX_TAGS, "streams", |r| Ok(StreamTag(r.array("stream")?)))?),
            3 => Message::Graft(decode_marks(r)?),
            4 => Message::Ack { bytes: r.varint("bytes")? },
            5 => Message::Former { incarnation: r.u64_le("incarnation")? },
            _ => return Err(DecodeError::Invalid { field: "topic message type" }),
        })
    }
}
