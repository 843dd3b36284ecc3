//! Peers that lie to whoever they are linked with, over real sockets, for tests of the others. Everything below the frames
//! (identity, Noise, streams) is right, so only the engine at the other end can tell.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::driver::Machine;
use crate::fuzz::lies::endless_symbols;
use crate::io::{Input, LinkId, Output};
use crate::reconcile::message::Message as Step;
use crate::reconcile::{KeyName, Root};
use crate::time::Now;
use crate::wire::Codec;
use crate::wire::v1::{Message, RootsKind, decode_frame};

/// Frames that are remembered to be said again.
const RECORDED: usize = 64;
/// Sessions that a liar about sets begins each time that it is asked for its roots.
const BEGUN: u8 = 100;

/// What a liar does.
#[derive(Debug, Clone)]
pub enum Lies {
    /// What an honest engine says is altered, said again, said late or not at all, as the seed has it.
    Wire(u64),
    /// What it has is another thing each time that it is asked, in coded symbols of no set, which never end; and it asks itself,
    /// as often as it can.
    Sets(Arc<LyingSets>),
}

/// When a liar about sets begins, and how much it has said.
#[derive(Debug, Default)]
pub struct LyingSets {
    /// Honest until then, so that it is let in.
    pub begun: AtomicBool,
    /// Bytes of lies so far.
    pub bytes: AtomicU64,
}

/// The honest machine, and what is done to its words.
pub(crate) struct Liar<M> {
    machine: M,
    lies: Lies,
    rng: ChaCha12Rng,
    recorded: VecDeque<Vec<u8>>,
    /// Said after the next frame.
    late: Option<(LinkId, Vec<u8>)>,
    queue: VecDeque<Output>,
}

impl<M> Liar<M> {
    pub(crate) fn new(machine: M, lies: Lies) -> Self {
        let seed = if let Lies::Wire(seed) = lies { seed } else { 0 };
        let rng = ChaCha12Rng::seed_from_u64(seed);
        Self { machine, lies, rng, recorded: VecDeque::new(), late: None, queue: VecDeque::new() }
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

    /// Answers what is asked about sets with lies. Whether anything was: the honest machine is to hear nothing of it then.
    fn lies_about_sets(&mut self, told: &LyingSets, link: LinkId, frame: &[u8]) -> bool {
        if !told.begun.load(Ordering::Relaxed) {
            return false;
        }
        let mut said = Vec::new();
        for (message, _) in decode_frame(frame).unwrap_or_default() {
            match message {
                Message::Roots { kind: RootsKind::Ask, .. } => {
                    said.push(Message::Roots { kind: RootsKind::Answer, root: self.noise(), arrival: 1 });
                }
                Message::Reconcile { space, domain, body } => {
                    let Ok(step) = Step::from_bytes(&body) else { continue };
                    let begins = matches!(step, Step::Root { .. });
                    let mut steps = endless_symbols(&step, &mut self.rng);
                    steps.extend((0..if begins { BEGUN } else { 0 }).map(|serial| self.root(serial)));
                    said.extend(steps.into_iter().map(|step| Message::Reconcile {
                        space,
                        domain,
                        body: step.to_bytes(),
                    }));
                }
                _ => {}
            }
        }
        for message in &said {
            let mut bytes = Vec::new();
            message.append_to(&mut bytes);
            told.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.queue.push_back(Output::Send { link, bytes });
        }
        !said.is_empty()
    }

    fn noise<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    fn root(&mut self, serial: u8) -> Step {
        Step::Root { serial, key: KeyName::Epoch(0), at_least: 0, count: 3, root: Root(self.noise()), sketch: None }
    }
}

impl<M: Machine> Machine for Liar<M> {
    fn handle(&mut self, now: Now, input: Input) {
        if let (Lies::Sets(told), Input::Frame { link, bytes }) = (self.lies.clone(), &input)
            && self.lies_about_sets(&told, *link, bytes)
        {
            return;
        }
        self.machine.handle(now, input);
    }

    fn poll(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.queue.pop_front() {
                return Some(output);
            }
            match self.machine.poll()? {
                Output::Send { link, bytes } if matches!(self.lies, Lies::Wire(_)) => self.say(link, bytes),
                other => return Some(other),
            }
        }
    }
}
