//! Frames on a byte stream: a LEB128 length, then that many bytes, 1 to a bound that the stream's protocol sets ([`MAX_FRAME`]
//! on a sync stream).
//!
//! The [`Decoder`] is the read buffer of a link. It never holds more than one unfinished frame and one read, and never
//! allocates by a length that the peer claims beyond the bound.

use thiserror::Error;

use crate::io::MAX_FRAME;

/// Most bytes of a length prefix: the largest bound of any protocol needs 22 bits.
pub(crate) const MAX_PREFIX: usize = 4;

/// What one read may bring at most. A buffer of this size takes 16 MiB/s at 1,000 reads a second.
const READ_CHUNK: usize = 16 * 1024;

/// Why a stream of frames is broken. The link is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum FrameError {
    /// A frame of no bytes says nothing.
    #[error("an empty frame")]
    Empty,
    /// The length is over the bound, or not in its shortest form.
    #[error("a frame length over the bound or not in its shortest form")]
    Length,
}

/// Appends the length prefix of a frame of `len` bytes to `out`.
pub(crate) fn push_prefix(out: &mut Vec<u8>, len: usize) {
    let mut rest = len;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Cuts a byte stream into frames.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// Longest frame.
    max: usize,
    /// Initialised memory; what lies in `start..end` is read and not yet taken.
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(MAX_FRAME)
    }
}

impl Decoder {
    /// A decoder of frames of at most `max` bytes.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, buf: Vec::new(), start: 0, end: 0 }
    }

    /// Room for the next read, never empty. Call [`Decoder::advance`] with what was read into it.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let wanted = self.end + READ_CHUNK;
        if self.buf.len() < wanted {
            self.buf.resize(wanted, 0);
        }
        &mut self.buf[self.end..]
    }

    /// `read` bytes were read into [`Decoder::space`].
    pub(crate) fn advance(&mut self, read: usize) {
        self.end = (self.end + read).min(self.buf.len());
    }

    /// The next whole frame, if one is there.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some((prefix, len)) = parse_prefix(&self.buf[self.start..self.end], self.max)? else {
            return Ok(None);
        };
        let from = self.start + prefix;
        if self.end - from < len {
            return Ok(None);
        }
        self.start = from + len;
        Ok(Some(self.buf[from..from + len].to_vec()))
    }
}

/// Bytes of the prefix and the frame's length, or `None` while the prefix is unfinished.
fn parse_prefix(bytes: &[u8], max: usize) -> Result<Option<(usize, usize)>, FrameError> {
    let mut len = 0;
    for (i, byte) in bytes.iter().take(MAX_PREFIX).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return match len {
                0 if i == 0 => Err(FrameError::Empty),
                _ if len > max || (i > 0 && *byte == 0) => Err(FrameError::Length),
                _ => Ok(Some((i + 1, len))),
            };
        }
    }
    if bytes.len() >= MAX_PREFIX { Err(FrameError::Length) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feed(decoder: &mut Decoder, mut bytes: &[u8], step: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let space = decoder.space();
            let n = step.min(bytes.len()).min(space.len());
            space[..n].copy_from_slice(&bytes[..n]);
            decoder.advance(n);
            bytes = &bytes[n..];
            while let Some(frame) = decoder.next_frame()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn frames_survive_any_cut(lens in prop::collection::vec(1..=MAX_FRAME, 0..5), step in 1..40_000usize) {
            let frames: Vec<Vec<u8>> = lens.iter().map(|len| vec![*len as u8; *len]).collect();
            let mut stream = Vec::new();
            for frame in &frames {
                push_prefix(&mut stream, frame.len());
                stream.extend_from_slice(frame);
            }
            prop_assert_eq!(feed(&mut Decoder::default(), &stream, step).unwrap(), frames);
        }

        #[test]
        fn the_buffer_stays_bounded_whatever_arrives(bytes in prop::collection::vec(any::<u8>(), 0..200_000)) {
            let mut decoder = Decoder::default();
            let _ = feed(&mut decoder, &bytes, 7_000);
            prop_assert!(decoder.buf.len() <= MAX_FRAME + MAX_PREFIX + 2 * READ_CHUNK);
        }
    }

    #[test]
    fn bad_lengths_are_refused() {
        let cases: &[(&[u8], FrameError)] = &[
            (&[0], FrameError::Empty),
            (&[0x80, 0], FrameError::Length),
            (&[0x81, 0x80, 0x04], FrameError::Length),
            (&[0xff, 0xff, 0x7f], FrameError::Length),
            (&[0xff, 0xff, 0xff, 0xff], FrameError::Length),
        ];
        for (bytes, error) in cases {
            assert_eq!(feed(&mut Decoder::default(), bytes, 1), Err(*error), "{bytes:?}");
        }
    }
}
