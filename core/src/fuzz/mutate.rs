//! Damage of the shapes that hurt parsers: altered lengths and numbers, pieces moved, doubled, cut and mixed.

use crate::sim::dice::Dice;

/// Numbers around which parsers go wrong.
const EDGES: [u64; 20] = [
    0,
    1,
    2,
    15,
    16,
    63,
    127,
    128,
    255,
    256,
    16_383,
    16_384,
    65_535,
    65_536,
    (1 << 31) - 1,
    1 << 32,
    (1 << 53) - 1,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Alters inputs at random, reproducibly.
#[derive(Debug)]
pub struct Mutator {
    dice: Dice,
}

impl Mutator {
    /// The mutator of a seed.
    pub fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed) }
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.dice.below(n as u64) as usize
    }

    /// Alters `bytes` one to eight times; pieces may come from `other`. At most `max` bytes are left.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8], max: usize) {
        for _ in 0..1 + self.below(3) * self.below(4) {
            self.once(bytes, other);
            bytes.truncate(max);
        }
    }

    fn once(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len());
        match self.below(16) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = self.dice.bits() as u8,
            2 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][self.below(6)],
            3 => bytes.insert(at, self.dice.bits() as u8),
            4 => bytes.truncate(at),
            5 => drop(bytes.drain(at..(at + 1 + self.below(16)).min(bytes.len()))),
            6 => self.double(bytes, at),
            7 => self.splice(bytes, other, at),
            8 => self.graft(bytes, other, at),
            9 | 10 => self.number(bytes, at),
            11 | 12 => self.length(bytes, at),
            13 => self.field(bytes, other, at),
            14 => self.fixed(bytes, at),
            _ => self.swap(bytes, at),
        }
    }

    /// A piece stands there twice, or many times.
    fn double(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let end = (at + 1 + self.below(64)).min(bytes.len());
        let piece = bytes[at.min(end)..end].to_vec();
        let times = if self.dice.chance(100) { 200 } else { 1 };
        bytes.splice(at..at, piece.repeat(times));
    }

    /// The beginning of one input and the end of another.
    fn splice(&mut self, bytes: &mut Vec<u8>, other: &[u8], at: usize) {
        bytes.truncate(at);
        bytes.extend_from_slice(&other[self.below(other.len())..]);
    }

    /// A piece of another input in the place of one here.
    fn graft(&mut self, bytes: &mut Vec<u8>, other: &[u8], at: usize) {
        let from = self.below(other.len());
        let piece = &other[from..(from + 1 + self.below(64)).min(other.len())];
        let end = (at + self.below(piece.len() + 1)).min(bytes.len());
        bytes.splice(at..end, piece.iter().copied());
    }

    /// A variable-length number becomes another one, in its own length or the one that it needs.
    fn number(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let Some((value, len)) = leb(&bytes[at..]) else { return };
        let next = self.edge(value);
        let mut spelled = spell(next);
        if self.dice.chance(50)
            && let Some(last) = spelled.last_mut()
        {
            // Not in its shortest form.
            *last |= 0x80;
            spelled.push(0);
        }
        bytes.splice(at..at + len, spelled);
    }

    /// A length grows or shrinks, with its content or without.
    fn length(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let Some((at, value, len)) = self.field_from(bytes, at) else { return };
        let (content, end) = (at + len, at + len + value as usize);
        match self.below(4) {
            0 => {
                let cut = self.below(value as usize + 1);
                bytes.splice(at..end, [spell(cut as u64), bytes[content..content + cut].to_vec()].concat());
            }
            1 => {
                let more = vec![self.dice.bits() as u8; 1 + self.below(80)];
                let longer = [spell(value + more.len() as u64), bytes[content..end].to_vec(), more].concat();
                bytes.splice(at..end, longer);
            }
            2 => drop(bytes.splice(at..at + len, spell(value.wrapping_add(1)))),
            _ => drop(bytes.splice(at..at + len, spell(self.edge(value)))),
        }
    }

    /// A length and its content in the place of another such field.
    fn field(&mut self, bytes: &mut Vec<u8>, other: &[u8], at: usize) {
        let from = self.below(other.len());
        let Some((from, theirs, their_len)) = self.field_from(other, from) else { return };
        let Some((at, value, len)) = self.field_from(bytes, at) else { return };
        let field = &other[from..from + their_len + theirs as usize];
        bytes.splice(at..at + len + value as usize, field.iter().copied());
    }

    /// A number of fixed width.
    fn fixed(&mut self, bytes: &mut [u8], at: usize) {
        let edge = self.edge(1 << 40).to_le_bytes();
        let width = [2, 4, 8][self.below(3)];
        let big = self.dice.chance(500);
        for (n, byte) in bytes.iter_mut().skip(at).take(width).enumerate() {
            *byte = edge[if big { width - 1 - n } else { n }];
        }
    }

    fn swap(&mut self, bytes: &mut [u8], at: usize) {
        let (to, len) = (self.below(bytes.len()), self.below(32));
        for n in 0..len {
            if at + n < bytes.len() && to + n < bytes.len() {
                bytes.swap(at + n, to + n);
            }
        }
    }

    fn edge(&mut self, value: u64) -> u64 {
        match self.below(6) {
            0 => value.wrapping_add(1),
            1 => value.wrapping_sub(1),
            2 => value ^ 1 << self.below(64),
            3 => self.dice.bits() >> self.below(64),
            _ => EDGES[self.below(EDGES.len())],
        }
    }

    /// The first length from `at` on whose content is there: (where, length, bytes that spell it).
    fn field_from(&mut self, bytes: &[u8], at: usize) -> Option<(usize, u64, usize)> {
        (at..bytes.len().min(at + 64)).find_map(|at| {
            let (value, len) = leb(&bytes[at..])?;
            let fits = value > 0 && value <= (bytes.len() - at - len) as u64;
            fits.then_some((at, value, len))
        })
    }
}

/// A LEB128 number and how many bytes spell it.
fn leb(bytes: &[u8]) -> Option<(u64, usize)> {
    let len = 1 + bytes.iter().take(10).position(|byte| byte & 0x80 == 0)?;
    Some((bytes[..len].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f)), len))
}

fn spell(value: u64) -> Vec<u8> {
    let mut w = crate::wire::Writer::new();
    w.varint(value);
    w.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_damage_and_no_input_is_too_small_for_it() {
        let run = |seed| {
            let mut mutator = Mutator::new(seed);
            let mut bytes = b"\x05hello\x80\x01world".to_vec();
            for _ in 0..2_000 {
                mutator.mutate(&mut bytes, b"\x03abc\xff\xff\x03", 512);
                assert!(bytes.len() <= 512);
            }
            (0..200).for_each(|_| mutator.mutate(&mut Vec::new(), b"", 512));
            bytes
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn numbers_are_read_and_spelled() {
        for value in EDGES {
            assert_eq!(leb(&spell(value)), Some((value, spell(value).len())));
        }
        assert_eq!(leb(&[0xff; 4]), None);
    }
}
