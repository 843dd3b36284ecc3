//! A peer that lies to whoever it is linked with, over real sockets, for soak tests: what an honest engine says is altered, said
//! again, said late or not at all. Everything below the frames (identity, Noise, streams) is right, so only the engine at the
//! other end can tell.

use std::collections::VecDeque;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::driver::Machine;
use crate::io::{Input, LinkId, Output};
use crate::time::Now;

/// Frames that are remembered to be said again.
const RECORDED: usize = 64;

/// The honest machine, and what is done to its words.
pub(crate) struct Liar<M> {
    machine: M,
    rng: ChaCha12Rng,
    recorded: VecDeque<Vec<u8>>,
    /// Said after the next frame.
    late: Option<(LinkId, Vec<u8>)>,
    queue: VecDeque<Output>,
}

impl<M> Liar<M> {
    pub(crate) fn new(machine: M, seed: u64) -> Self {
        let rng = ChaCha12Rng::seed_from_u64(seed);
        Self { machine, rng, recorded: VecDeque::new(), late: None, queue: VecDeque::new() }
    }

    fn below(&mut self, most: usize) -> usize {
        (self.rng.next_u64() % most.max(1) as u64) as usize
    }

    fn say(&mut self, link: LinkId, mut bytes: Vec<u8>) {
        self.recorded.push_back(bytes.clone());
        if self.recorded.len() > RECORDED {
            self.recorded.pop_front();
        }
        match self.below(200) {
            0 => return,
            1 | 2 if !bytes.is_empty() => {
                let at = self.below(bytes.len());
                bytes[at] ^= 1 << self.below(8);
            }
            3 | 4 => {
                let at = self.below(self.recorded.len());
                if let Some(old) = self.recorded.get(at).cloned() {
                    self.queue.push_back(Output::Send { link, bytes: old });
                }
            }
            5 if self.late.is_none() => return self.late = Some((link, bytes)),
            _ => {}
        }
        self.queue.push_back(Output::Send { link, bytes });
        if let Some((link, bytes)) = self.late.take() {
            self.queue.push_back(Output::Send { link, bytes });
        }
    }
}

impl<M: Machine> Machine for Liar<M> {
    fn handle(&mut self, now: Now, input: Input) {
        self.machine.handle(now, input);
    }

    fn poll(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.queue.pop_front() {
                return Some(output);
            }
            match self.machine.poll()? {
                Output::Send { link, bytes } => self.say(link, bytes),
                other => return Some(other),
            }
        }
    }
}
