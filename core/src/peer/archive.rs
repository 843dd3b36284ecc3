//! A space as a file: pages of [`Space::export`](super::Space::export), framed so that a cut or a changed byte is noticed.
//!
//! ```text
//!   "foreshore export 1 " fs1… "\n"     the format, and the space's id
//!   length  u32, little-endian ┐        a page, at most MAX_PAGE bytes
//!   page                       ┘ …
//!   0       u32
//!   hash    32 bytes                    BLAKE3 of everything before it
//! ```
//!
//! What a page brings is checked by its authors' signatures when it is taken in, so a forged file can bring nothing; the hash
//! is there to notice an accident. Pure: bytes in, bytes out, so that files, pipes and a browser's streams are served alike.

use crate::id::SpaceId;

const MAGIC: &str = "foreshore export 1 ";

/// Longest first line.
const MAX_LINE: usize = 128;

/// Largest page, in bytes. The engine's have 4 MiB, or more where a single document is larger.
pub const MAX_PAGE: usize = 180 << 20;

/// Why a file is not taken for an export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The first line is another one.
    #[error("it is not an export of foreshore, or of a newer release")]
    NotAnExport,
    /// A page is larger than any that is written.
    #[error("a page claims {bytes} bytes, over {MAX_PAGE}")]
    TooLarge {
        /// What it claims.
        bytes: usize,
    },
    /// The hash at the end is not that of the bytes before it.
    #[error("the file is damaged: its hash does not match")]
    Damaged,
    /// Bytes follow the end.
    #[error("the file goes on behind its end")]
    Trailing,
    /// The file was cut: pages before that were whole.
    #[error("the file ends early: its last pages are missing")]
    Cut,
}

/// Writes an archive.
pub struct ArchiveWriter(blake3::Hasher);

impl ArchiveWriter {
    /// Begins an archive of a space; what comes back goes first.
    pub fn begin(space: SpaceId) -> (Self, Vec<u8>) {
        let mut writer = Self(blake3::Hasher::new());
        let line = writer.counted(format!("{MAGIC}{}\n", space.to_bech32()).into_bytes());
        (writer, line)
    }

    /// The next page, with what frames it.
    ///
    /// # Errors
    /// [`ArchiveError::TooLarge`]: it is empty or over [`MAX_PAGE`].
    pub fn page(&mut self, page: &[u8]) -> Result<Vec<u8>, ArchiveError> {
        let bytes = page.len();
        let length = u32::try_from(bytes).ok().filter(|_| (1..=MAX_PAGE).contains(&bytes));
        let mut framed = length.ok_or(ArchiveError::TooLarge { bytes })?.to_le_bytes().to_vec();
        framed.extend_from_slice(page);
        Ok(self.counted(framed))
    }

    /// The end, behind which nothing is read.
    pub fn finish(&self) -> Vec<u8> {
        let mut end = 0u32.to_le_bytes().to_vec();
        let hash = self.0.clone().update(&end).finalize();
        end.extend_from_slice(hash.as_bytes());
        end
    }

    fn counted(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        self.0.update(&bytes);
        bytes
    }
}

/// What an archive says, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveItem {
    /// The space it is of, as text; it comes first.
    Space(String),
    /// A page.
    Page(Vec<u8>),
    /// The end: all of it is as it was written.
    End,
}

/// Reads an archive from pieces of any size. Holds one page at most, and never more than has come.
#[derive(Default)]
pub struct ArchiveReader {
    hash: blake3::Hasher,
    waiting: Vec<u8>,
    begun: bool,
    ended: bool,
}

impl ArchiveReader {
    /// Takes in the next bytes of the file.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// What has come whole; `None`: more is needed, or nothing follows.
    ///
    /// # Errors
    /// The file is not an archive, or not as it was written. It stays so.
    pub fn next_item(&mut self) -> Result<Option<ArchiveItem>, ArchiveError> {
        match (self.begun, self.ended) {
            (_, true) if self.waiting.is_empty() => Ok(None),
            (_, true) => Err(ArchiveError::Trailing),
            (false, _) => self.line(),
            (true, _) => self.page(),
        }
    }

    /// Says that the file has no more bytes.
    ///
    /// # Errors
    /// [`ArchiveError::Cut`]: its end has not come.
    pub fn close(&self) -> Result<(), ArchiveError> {
        if self.ended { Ok(()) } else { Err(ArchiveError::Cut) }
    }

    fn line(&mut self) -> Result<Option<ArchiveItem>, ArchiveError> {
        let head = self.waiting.get(..MAX_LINE).unwrap_or(&self.waiting);
        let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
            let common = head.len().min(MAGIC.len());
            let fits = head.len() < MAX_LINE && head[..common] == MAGIC.as_bytes()[..common];
            return if fits { Ok(None) } else { Err(ArchiveError::NotAnExport) };
        };
        let space = std::str::from_utf8(&head[..end]).ok().and_then(|line| line.strip_prefix(MAGIC));
        let space = space.ok_or(ArchiveError::NotAnExport)?.to_owned();
        self.take(end + 1);
        self.begun = true;
        Ok(Some(ArchiveItem::Space(space)))
    }

    fn page(&mut self) -> Result<Option<ArchiveItem>, ArchiveError> {
        const LENGTH: usize = 4;
        let Some(length) = self.waiting.first_chunk::<LENGTH>() else { return Ok(None) };
        let bytes = u32::from_le_bytes(*length) as usize;
        if bytes > MAX_PAGE {
            return Err(ArchiveError::TooLarge { bytes });
        }
        if bytes == 0 {
            return self.end();
        }
        if self.waiting.len() < LENGTH + bytes {
            return Ok(None);
        }
        let mut page = self.take(LENGTH + bytes);
        page.drain(..LENGTH);
        Ok(Some(ArchiveItem::Page(page)))
    }

    fn end(&mut self) -> Result<Option<ArchiveItem>, ArchiveError> {
        const END: usize = 4;
        let Some(found) = self.waiting.get(END..END + blake3::OUT_LEN) else { return Ok(None) };
        let expected = *self.hash.clone().update(&self.waiting[..END]).finalize().as_bytes();
        if found != expected {
            return Err(ArchiveError::Damaged);
        }
        self.take(END + blake3::OUT_LEN);
        self.ended = true;
        Ok(Some(ArchiveItem::End))
    }

    fn take(&mut self, bytes: usize) -> Vec<u8> {
        let rest = self.waiting.split_off(bytes);
        let taken = std::mem::replace(&mut self.waiting, rest);
        self.hash.update(&taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> SpaceId {
        SpaceId([7; 32])
    }

    fn archive(pages: &[&[u8]]) -> Vec<u8> {
        let (mut writer, mut bytes) = ArchiveWriter::begin(space());
        for page in pages {
            bytes.extend(writer.page(page).unwrap());
        }
        bytes.extend(writer.finish());
        bytes
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<ArchiveItem>, ArchiveError> {
        let (mut reader, mut items) = (ArchiveReader::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            reader.feed(piece);
            while let Some(item) = reader.next_item()? {
                items.push(item);
            }
        }
        reader.close().map(|()| items)
    }

    #[test]
    fn what_was_written_is_read_in_pieces_of_any_size() {
        let bytes = archive(&[b"one", &[7; 10_000]]);
        let pages = [ArchiveItem::Page(b"one".to_vec()), ArchiveItem::Page(vec![7; 10_000])];
        let expected: Vec<ArchiveItem> =
            [ArchiveItem::Space(space().to_bech32())].into_iter().chain(pages).chain([ArchiveItem::End]).collect();
        for piece in [1, 3, 4096, bytes.len()] {
            assert_eq!(read(&bytes, piece).unwrap(), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_cut_or_changed_archive_is_noticed() {
        let bytes = archive(&[b"one", b"two"]);
        let name = MAGIC.len()..bytes.iter().position(|byte| *byte == b'\n').unwrap();
        for at in 0..bytes.len() {
            assert!(read(&bytes[..at], 64).is_err(), "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 0x80;
            // Another name of a space is noticed at the end.
            assert!(
                read(&changed, 64).is_err(),
                "changed at {at}{}",
                if name.contains(&at) { ", in the name" } else { "" }
            );
        }
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert_eq!(read(&longer, 64), Err(ArchiveError::Trailing));
    }

    #[test]
    fn a_claimed_length_reserves_nothing_and_what_no_export_is_is_refused_at_once() {
        let mut bytes = archive(&[]);
        bytes.truncate(bytes.len() - 36);
        bytes.extend(u32::MAX.to_le_bytes());
        assert_eq!(read(&bytes, 64), Err(ArchiveError::TooLarge { bytes: u32::MAX as usize }));
        let mut reader = ArchiveReader::default();
        reader.feed(b"<html>");
        assert_eq!(reader.next_item(), Err(ArchiveError::NotAnExport));
        let (mut writer, _) = ArchiveWriter::begin(space());
        assert_eq!(writer.page(&[]), Err(ArchiveError::TooLarge { bytes: 0 }));
    }
}
