//! Bounded, versioned encoding of everything that crosses the network or reaches the disk.
//!
//! The primitives are few: LEB128 variable-length integers (minimal form only), fixed arrays, and length-prefixed byte
//! strings and lists with a bound that the *reader* names. A [`Reader`] never allocates by a number that a peer sent:
//! a length is checked against its bound and against the bytes that are actually there before anything is reserved.
//!
//! Extension rule: a struct that may grow ends in [`Writer::extensions`]; a reader skips extension fields it does not
//! know. What may not be skipped gets a new message type or a new protocol version instead.

pub mod v1;

use std::cell::RefCell;

use thiserror::Error;

/// Why bytes did not decode. The input is refused whole; no state has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ended inside a field.
    #[error("input ends inside {field}")]
    Truncated {
        /// The field that was being read.
        field: &'static str,
    },
    /// A length or count lies over its bound.
    #[error("{field} is {got}, over its bound of {max}")]
    TooLarge {
        /// The field that was being read.
        field: &'static str,
        /// What the input claims.
        got: u64,
        /// The bound.
        max: u64,
    },
    /// A field holds a value that its type does not have.
    #[error("{field} holds an invalid value")]
    Invalid {
        /// The field that was being read.
        field: &'static str,
    },
    /// Bytes are left after the last field.
    #[error("{left} bytes are left after the last field")]
    Trailing {
        /// How many.
        left: usize,
    },
}

/// Appends fields to a buffer.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    buf: Vec<u8>,
}

/// Most bytes of a buffer that is kept for the next writer, and how many are.
const SPARE_BYTES: usize = 16 << 10;
const SPARES: usize = 4;

thread_local! {
    /// Buffers of earlier writers. One that grew from nothing is moved five times on its way to 200 bytes, which is what a
    /// request or an entry has; one from here costs the single allocation of what it gives.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self { buf: SPARE.with_borrow_mut(Vec::pop).unwrap_or_default() }
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.buf.push(value);
        self
    }

    /// An unsigned integer, LEB128.
    pub fn varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.buf.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.buf.push(value as u8);
        self
    }

    /// A signed integer, zigzag then LEB128.
    pub fn zigzag(&mut self, value: i64) -> &mut Self {
        self.varint(((value << 1) ^ (value >> 63)) as u64)
    }

    /// A fixed-width little-endian integer.
    pub fn u64_le(&mut self, value: u64) -> &mut Self {
        self.array(&value.to_le_bytes())
    }

    /// Bytes of a length that both sides know.
    pub fn array<const N: usize>(&mut self, bytes: &[u8; N]) -> &mut Self {
        self.buf.extend_from_slice(bytes);
        self
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.buf.extend_from_slice(bytes);
        self
    }

    /// A length, then the bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.varint(bytes.len() as u64);
        self.buf.extend_from_slice(bytes);
        self
    }

    /// A string as length-prefixed UTF-8.
    pub fn str(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// A count, then each item.
    pub fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.varint(items.len() as u64);
        for item in items {
            each(self, item);
        }
        self
    }

    /// A presence byte, then the item if any.
    pub fn option<T>(&mut self, item: Option<&T>, each: impl FnOnce(&mut Self, &T)) -> &mut Self {
        self.u8(item.is_some() as u8);
        if let Some(item) = item {
            each(self, item);
        }
        self
    }

    /// Optional fields at the end of a struct: `(tag, bytes)` pairs. Readers skip tags they do not know.
    pub fn extensions(&mut self, fields: &[(u64, &[u8])]) -> &mut Self {
        self.list(fields, |w, (tag, bytes)| {
            w.varint(*tag).bytes(bytes);
        })
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// What was written.
    pub fn finish(mut self) -> Vec<u8> {
        if self.buf.capacity() > SPARE_BYTES {
            return self.buf;
        }
        let written = self.buf.as_slice().to_vec();
        self.buf.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARES {
                spare.push(self.buf);
            }
        });
        written
    }
}

/// Takes fields from the front of a buffer, with a bound on everything.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over the whole of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(self.take(1, field)?[0])
    }

    /// An unsigned LEB128 integer in minimal form.
    pub fn varint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(field)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Invalid { field });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                // A final zero group would be a second spelling of a shorter number.
                return if byte == 0 && shift > 0 { Err(DecodeError::Invalid { field }) } else { Ok(value) };
            }
        }
        Err(DecodeError::Invalid { field })
    }

    /// An unsigned integer of at most `max`.
    pub fn varint_max(&mut self, max: u64, field: &'static str) -> Result<u64, DecodeError> {
        match self.varint(field)? {
            got if got > max => Err(DecodeError::TooLarge { field, got, max }),
            value => Ok(value),
        }
    }

    /// A zigzag LEB128 integer.
    pub fn zigzag(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        let raw = self.varint(field)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A fixed-width little-endian integer.
    pub fn u64_le(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Bytes of a length that both sides know.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        Ok(self.take(N, field)?.try_into().expect("take returned N bytes"))
    }

    /// Length-prefixed bytes, at most `max`.
    pub fn bytes(&mut self, max: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.varint_max(max as u64, field)? as usize;
        self.take(len, field)
    }

    /// A length-prefixed UTF-8 string of at most `max` bytes.
    pub fn str(&mut self, max: usize, field: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(max, field)?).map_err(|_| DecodeError::Invalid { field })
    }

    /// A list of at most `max` items. Room is reserved only for as many items as the remaining bytes could hold.
    pub fn list<T>(
        &mut self,
        max: usize,
        field: &'static str,
        mut each: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.varint_max(max as u64, field)? as usize;
        let mut items = Vec::with_capacity(count.min(self.rest.len()));
        for _ in 0..count {
            items.push(each(self)?);
        }
        Ok(items)
    }

    /// An optional item behind a presence byte.
    pub fn option<T>(
        &mut self,
        field: &'static str,
        each: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.u8(field)? {
            0 => Ok(None),
            1 => each(self).map(Some),
            _ => Err(DecodeError::Invalid { field }),
        }
    }

    /// Extension fields: at most 16, each at most 4 KiB.
    pub fn extensions(&mut self) -> Result<Vec<(u64, &'a [u8])>, DecodeError> {
        self.list(16, "extensions", |r| Ok((r.varint("extension tag")?, r.bytes(4096, "extension")?)))
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Exactly `len` bytes.
    pub fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(taken)
    }

    /// Refuses leftovers.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { left }),
        }
    }
}

/// A type with one canonical encoding: `decode(encode(x)) == x`, and no other bytes decode to `x`.
pub trait Codec: Sized {
    /// Appends the canonical encoding.
    fn encode(&self, w: &mut Writer);
    /// Reads one value, leaving the reader behind it.
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// The canonical encoding as bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::new();
        self.encode(&mut w);
        w.finish()
    }

    /// Decodes a value that must fill `bytes` exactly.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let value = Self::decode(&mut r)?;
        r.finish()?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_survive(value: u64, signed: i64) {
            let mut w = Writer::new();
            w.varint(value).zigzag(signed);
            let bytes = w.finish();
            let mut r = Reader::new(&bytes);
            prop_assert_eq!(r.varint("a").unwrap(), value);
            prop_assert_eq!(r.zigzag("b").unwrap(), signed);
            r.finish().unwrap();
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let mut r = Reader::new(&bytes);
            let _ = r.varint("v");
            let _ = r.list(1 << 40, "l", |r| r.bytes(1 << 40, "b"));
            let _ = r.extensions();
        }
    }

    #[test]
    fn second_spellings_of_a_number_are_refused() {
        assert_eq!(Reader::new(&[0x80, 0x00]).varint("n"), Err(DecodeError::Invalid { field: "n" }));
        assert!(Reader::new(&[0xff; 10]).varint("n").is_err());
    }
}
