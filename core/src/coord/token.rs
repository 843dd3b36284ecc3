//! Fencing tokens: proof of how new a grant is.

use std::fmt;

use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Greatest generation that a token can name, so that [`FencingToken::as_u64`] stays below 2⁵³ and JavaScript can hold it.
pub const MAX_TOKEN_GENERATION: u32 = (1 << 13) - 1;

/// Greatest Raft index that a token can name: 2⁴⁰ entries are 3.5 years at 10,000 a second without a pause. Beyond it
/// nothing is granted any more, rather than a token given twice.
pub const MAX_TOKEN_INDEX: u64 = (1 << 40) - 1;

/// `(generation of the group, Raft index of the entry that granted)`, in this order.
///
/// One entry grants a resource either to one exclusive holder, or to a batch of shared ones, and an index is used once. So
/// an exclusive holder's token is greater than every token given before on that resource, and smaller than every one given
/// after; shared holders who came in together have the same one. No floor has to be kept for resources that are gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken {
    /// How often the group was rebuilt after a lost quorum.
    pub generation: u32,
    /// The entry.
    pub index: u64,
}

impl FencingToken {
    /// Both as one number, in the same order: `generation × 2⁴⁰ + index`.
    pub fn as_u64(self) -> u64 {
        u64::from(self.generation) << 40 | self.index
    }

    /// From [`FencingToken::as_u64`]; `None` if no grant has this number.
    pub fn from_u64(value: u64) -> Option<Self> {
        Self::new((value >> 40).try_into().ok()?, value & MAX_TOKEN_INDEX)
    }

    /// A token of a grant; `None` beyond what a token can name.
    pub(crate) fn new(generation: u32, index: u64) -> Option<Self> {
        (generation <= MAX_TOKEN_GENERATION && index <= MAX_TOKEN_INDEX).then_some(Self { generation, index })
    }
}

impl Codec for FencingToken {
    fn encode(&self, w: &mut Writer) {
        w.varint(self.generation.into()).varint(self.index);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            generation: r.varint_max(MAX_TOKEN_GENERATION.into(), "generation of a token")? as u32,
            index: r.varint_max(MAX_TOKEN_INDEX, "index of a token")?,
        })
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_u64(), f)
    }
}

impl fmt::Debug for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FencingToken({}:{})", self.generation, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_order_as_their_numbers_and_fit_javascript() {
        let newest = FencingToken::new(MAX_TOKEN_GENERATION, MAX_TOKEN_INDEX).unwrap();
        assert_eq!(newest.as_u64(), (1 << 53) - 1);
        assert_eq!(FencingToken::from_u64(newest.as_u64()), Some(newest));
        assert_eq!(FencingToken::from_u64(1 << 53), None);
        let [older, newer] = [(1, MAX_TOKEN_INDEX), (2, 7)].map(|(g, i)| FencingToken::new(g, i).unwrap());
        assert!(older < newer && older.as_u64() < newer.as_u64());
    }
}
