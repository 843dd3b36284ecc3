//! Automerge's sync messages, from and to bytes.
//!
//! The format is that of Automerge's crate (`sync` module, message types 0x42 and 0x43) and of the paper behind it
//! ("Byzantine Eventual Consistency and the Fundamental Limits of Peer-to-Peer Databases", Kleppmann and Howard, 2020). It is
//! read by code of our own because a filter that says of itself to have no bits, or four thousand million probes, ends
//! Automerge's reader by a panic or by taking all memory, and what is read here is anybody's.
//!
//! ```text
//!   type     1 byte   0x42, or 0x43 where all changes are one piece of bytes
//!   heads    hashes
//!   need     hashes
//!   have     count · (hashes of the last sync · length · filter)
//!   changes  count · (length · bytes)
//!   flags    length · bytes                       may be missing
//!
//!   hashes   count · 32 bytes each
//!   filter   nothing, or entries · bits an entry · probes · bits
//! ```
//! Counts and lengths are unsigned LEB128.

use foreshore::id::ChangeHash;

/// Most probes of a filter; Automerge makes 7.
const MAX_PROBES: u32 = 64;

/// A filter with one false positive in a hundred, as Automerge makes them.
const BITS_PER_ENTRY: u32 = 10;
const PROBES: u32 = 7;

const TYPE: u8 = 0x42;
const TYPE_WHOLE: u8 = 0x43;

/// Marks the byte of flags among those that older programs know.
const FLAGS: u8 = 0x80;
const FLAG_RESET: u8 = 1;
const FLAG_READ_ONLY: u8 = 2;

/// Why bytes are no sync message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// They end early.
    #[error("{0}: the message ends early")]
    Cut(&'static str),
    /// A number has more than 64 bits, or one says more than there is.
    #[error("{0}: a number is out of range")]
    Number(&'static str),
    /// The first byte is another one.
    #[error("a sync message begins with 0x42 or 0x43, not with {0:#04x}")]
    Type(u8),
    /// A filter is none.
    #[error("a filter of {entries} entries with {bits} bits each and {probes} probes does not fit its {bytes} bytes")]
    Filter {
        /// What it says of itself.
        entries: u32,
        /// What it says of itself.
        bits: u32,
        /// What it says of itself.
        probes: u32,
        /// How many bytes of bits it has.
        bytes: usize,
    },
}

/// One message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncMessage {
    /// The sender's heads.
    pub heads: Vec<ChangeHash>,
    /// What it asks for by name.
    pub need: Vec<ChangeHash>,
    /// What it has.
    pub have: Vec<Have>,
    /// Change chunks; each piece may be several.
    pub changes: Vec<Vec<u8>>,
    /// The receiver is to forget what it has sent.
    pub reset: bool,
    /// The sender takes no changes.
    pub read_only: bool,
}

/// What a peer has: all below some heads, and what a filter lets pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Have {
    /// Heads of the last sync.
    pub last_sync: Vec<ChangeHash>,
    /// What came since.
    pub filter: Filter,
}

/// A Bloom filter over hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    entries: u32,
    bits_per_entry: u32,
    probes: u32,
    bits: Vec<u8>,
}

fn capacity(entries: u32, bits_per_entry: u32) -> u64 {
    (u64::from(entries) * u64::from(bits_per_entry)).div_ceil(8)
}

impl Filter {
    /// A filter that lets these pass.
    pub fn of<'h>(hashes: impl ExactSizeIterator<Item = &'h ChangeHash>) -> Self {
        let entries = u32::try_from(hashes.len()).unwrap_or(u32::MAX);
        if entries == 0 {
            return Self::default();
        }
        let bits = vec![0; usize::try_from(capacity(entries, BITS_PER_ENTRY)).unwrap_or(usize::MAX)];
        let mut filter = Self { entries, bits_per_entry: BITS_PER_ENTRY, probes: PROBES, bits };
        for hash in hashes {
            for at in filter.probes(hash) {
                filter.bits[at >> 3] |= 1 << (at & 7);
            }
        }
        filter
    }

    /// Whether a hash passes: all that were put in do, and a few others.
    pub fn passes(&self, hash: &ChangeHash) -> bool {
        self.entries != 0 && self.probes(hash).into_iter().all(|at| self.bits[at >> 3] & (1 << (at & 7)) != 0)
    }

    /// Where a hash has its bits: triple hashing over the first twelve bytes.
    fn probes(&self, hash: &ChangeHash) -> Vec<usize> {
        let modulus = 8 * self.bits.len() as u64;
        let word = |at: usize| {
            let bytes = [hash.0[at], hash.0[at + 1], hash.0[at + 2], hash.0[at + 3]];
            u64::from(u32::from_le_bytes(bytes)) % modulus
        };
        let (mut x, mut y, z) = (word(0), word(4), word(8));
        let mut probes = vec![x as usize];
        for _ in 1..self.probes {
            x = (x + y) % modulus;
            y = (y + z) % modulus;
            probes.push(x as usize);
        }
        probes
    }

    fn read(bytes: &[u8]) -> Result<Self, SyncError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut r = Cursor(bytes);
        let mut number = || u32::try_from(r.number("filter")?).map_err(|_| SyncError::Number("filter"));
        let (entries, bits_per_entry, probes) = (number()?, number()?, number()?);
        let bits = r.0;
        let fits = capacity(entries, bits_per_entry) == bits.len() as u64;
        if !fits || bits.is_empty() || !(1..=MAX_PROBES).contains(&probes) {
            return Err(SyncError::Filter { entries, bits: bits_per_entry, probes, bytes: bits.len() });
        }
        Ok(Self { entries, bits_per_entry, probes, bits: bits.to_vec() })
    }

    fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.entries != 0 {
            [self.entries, self.bits_per_entry, self.probes].iter().for_each(|n| put(&mut out, u64::from(*n)));
            out.extend_from_slice(&self.bits);
        }
        out
    }
}

impl SyncMessage {
    /// Reads a message.
    pub fn decode(bytes: &[u8]) -> Result<Self, SyncError> {
        let mut r = Cursor(bytes);
        match r.take(1, "type")? {
            [TYPE | TYPE_WHOLE] => {}
            other => return Err(SyncError::Type(other[0])),
        }
        let (heads, need) = (r.hashes("heads")?, r.hashes("need")?);
        let mut have = Vec::new();
        for _ in 0..r.number("have")? {
            let last_sync = r.hashes("last sync")?;
            let filter = Filter::read(r.piece("filter")?)?;
            have.push(Have { last_sync, filter });
        }
        let mut changes = Vec::new();
        for _ in 0..r.number("changes")? {
            changes.push(r.piece("change")?.to_vec());
        }
        let flags = if r.0.is_empty() { &[] } else { r.piece("flags")? };
        let flags = flags.iter().filter(|byte| **byte & FLAGS != 0).fold(0, |all, byte| all | byte);
        let (reset, read_only) = (flags & FLAG_RESET != 0, flags & FLAG_READ_ONLY != 0);
        Ok(Self { heads, need, have, changes, reset, read_only })
    }

    /// Writes it, without flags: who sends none gets its changes one by one, and never a whole document in a piece.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![TYPE];
        put_hashes(&mut out, &self.heads);
        put_hashes(&mut out, &self.need);
        put(&mut out, self.have.len() as u64);
        for have in &self.have {
            put_hashes(&mut out, &have.last_sync);
            put_piece(&mut out, &have.filter.write());
        }
        put(&mut out, self.changes.len() as u64);
        self.changes.iter().for_each(|change| put_piece(&mut out, change));
        out
    }
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_piece(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_hashes(out: &mut Vec<u8>, hashes: &[ChangeHash]) {
    put(out, hashes.len() as u64);
    hashes.iter().for_each(|hash| out.extend_from_slice(&hash.0));
}

/// What is left to read.
struct Cursor<'b>(&'b [u8]);

impl<'b> Cursor<'b> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'b [u8], SyncError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SyncError::Cut(what))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, what: &'static str) -> Result<u64, SyncError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1, what)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(SyncError::Number(what))
    }

    fn piece(&mut self, what: &'static str) -> Result<&'b [u8], SyncError> {
        let length = usize::try_from(self.number(what)?).map_err(|_| SyncError::Number(what))?;
        self.take(length, what)
    }

    fn hashes(&mut self, what: &'static str) -> Result<Vec<ChangeHash>, SyncError> {
        let count = usize::try_from(self.number(what)?).map_err(|_| SyncError::Number(what))?;
        let bytes = self.take(count.checked_mul(ChangeHash::LEN).ok_or(SyncError::Number(what))?, what)?;
        Ok(bytes.as_chunks::<{ ChangeHash::LEN }>().0.iter().map(|hash| ChangeHash(*hash)).collect())
    }
}
