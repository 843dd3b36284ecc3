//! ZooKeeper's encoding: big-endian integers, and texts, byte strings and lists behind a length of 32 bits, where −1 is
//! null. A reader never takes more than there is, whatever a length says.

use thiserror::Error;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JuteError {
    /// They end in the middle.
    #[error("the bytes end in the middle of {0}")]
    Short(&'static str),
    /// A length is negative, or more than there is.
    #[error("the length of {0} is not possible")]
    Length(&'static str),
    /// A value that has to be there is null.
    #[error("{0} is null")]
    Null(&'static str),
    /// A kind of record that there is not.
    #[error("{0} is of no known kind")]
    Kind(&'static str),
}

/// Reads a record from the front of some bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes that were not read.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], JuteError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(JuteError::Short(field))?;
        self.rest = rest;
        Ok(*head)
    }

    /// A byte that is not zero.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, JuteError> {
        self.take::<1>(field).map(|[byte]| byte != 0)
    }

    /// An integer of 32 bits.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, JuteError> {
        self.take(field).map(i32::from_be_bytes)
    }

    /// An integer of 64 bits.
    pub fn i64(&mut self, field: &'static str) -> Result<i64, JuteError> {
        self.take(field).map(i64::from_be_bytes)
    }

    /// A byte string; `None`: null.
    pub fn buffer(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, JuteError> {
        let length = self.i32(field)?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| JuteError::Length(field))?;
        if length > self.rest.len() {
            return Err(JuteError::Length(field));
        }
        let (head, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(Some(head))
    }

    /// Text; null is empty, and what is not UTF-8 becomes U+FFFD, as in Java.
    pub fn string(&mut self, field: &'static str) -> Result<String, JuteError> {
        Ok(String::from_utf8_lossy(self.buffer(field)?.unwrap_or_default()).into_owned())
    }

    /// A list; null is empty. Each item takes at least `least` bytes, so no length makes room for what is not there.
    pub fn list<T>(
        &mut self,
        field: &'static str,
        least: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, JuteError>,
    ) -> Result<Vec<T>, JuteError> {
        let length = self.i32(field)?;
        if length == -1 {
            return Ok(Vec::new());
        }
        let length = usize::try_from(length).map_err(|_| JuteError::Length(field))?;
        if length.saturating_mul(least) > self.rest.len() {
            return Err(JuteError::Length(field));
        }
        (0..length).map(|_| item(self)).collect()
    }
}

/// Appends records to bytes.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A byte that is 0 or 1.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.bytes.push(u8::from(value));
        self
    }

    /// An integer of 32 bits.
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// An integer of 64 bits.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A byte string.
    pub fn buffer(&mut self, value: &[u8]) -> &mut Self {
        self.i32(length(value.len()));
        self.bytes.extend_from_slice(value);
        self
    }

    /// Bytes as they are.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self
    }

    /// Text.
    pub fn string(&mut self, value: &str) -> &mut Self {
        self.buffer(value.as_bytes())
    }

    /// A list.
    pub fn list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.i32(length(items.len()));
        items.iter().for_each(|one| item(self, one));
        self
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// The bytes behind their length: a frame.
    pub fn frame(self) -> Vec<u8> {
        [&length(self.bytes.len()).to_be_bytes(), self.bytes.as_slice()].concat()
    }
}

/// A length as it is written. What does not fit into 31 bits is far over every bound of a record.
fn length(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut w = Writer::default();
        w.bool(true).i32(-7).i64(1 << 40).buffer(b"ab").string("é").list(&["x", "y"], |w, text| {
            w.string(text);
        });
        let bytes = w.finish();
        let mut r = Reader::new(&bytes);
        assert_eq!(r.bool("a"), Ok(true));
        assert_eq!(r.i32("b"), Ok(-7));
        assert_eq!(r.i64("c"), Ok(1 << 40));
        assert_eq!(r.buffer("d"), Ok(Some(&b"ab"[..])));
        assert_eq!(r.string("e"), Ok("é".into()));
        assert_eq!(r.list("f", 4, |r| r.string("g")), Ok(vec!["x".into(), "y".into()]));
        assert_eq!(r.remaining(), 0);
    }

    #[test]
    fn lengths_that_lie_make_no_room() {
        let huge = i32::MAX.to_be_bytes();
        assert_eq!(Reader::new(&huge).buffer("x"), Err(JuteError::Length("x")));
        assert_eq!(Reader::new(&huge).list("x", 4, |r| r.i32("y")), Err(JuteError::Length("x")));
        let negative = (-2i32).to_be_bytes();
        assert_eq!(Reader::new(&negative).buffer("x"), Err(JuteError::Length("x")));
        assert_eq!(Reader::new(&negative).list("x", 4, |r| r.i32("y")), Err(JuteError::Length("x")));
        let null = (-1i32).to_be_bytes();
        assert_eq!(Reader::new(&null).buffer("x"), Ok(None));
        assert_eq!(Reader::new(&null).list("x", 4, |r| r.i32("y")), Ok(Vec::new()));
        assert_eq!(Reader::new(&[0, 0, 0]).i32("x"), Err(JuteError::Short("x")));
    }
}
