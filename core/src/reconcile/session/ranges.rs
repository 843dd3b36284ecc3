//! The requester's half of comparing ranges: a queue of questions, a few under way.

use std::collections::VecDeque;

use super::{ItemSource, MAX_COMPARES, MAX_DIFFERENCES, MAX_RANGES, SessionError, compare_ids};
use crate::reconcile::item::IdKey;
use crate::reconcile::message::{Answer, Ask, Holds, MAX_MESSAGE, MAX_RANGES_A_MESSAGE, Part};
use crate::reconcile::range::{Bound, FANOUT, LEAF, Range, RangeTree};
use crate::reconcile::riblt::Diff;

/// A range of at most this many own items is listed at once when nearly all its parts differ: 8 KB against as much for
/// going on one by one.
const DENSE: usize = 1_024;
/// Bytes of answers that one message of questions may bring; less than a message, so that most are answered in one go.
const ANSWER_BYTES: usize = 48 * 1024;

/// Most messages of questions of one session. An honest comparison of 10,000,000 items that all differ takes about 3,000;
/// whoever splits what there is into crumbs is cut off.
const MAX_QUESTIONS: usize = 8_192;

/// Most bytes of questions that wait. An honest comparison of 10,000,000 items stays under 4 MiB; past the bound it is cut
/// off.
const QUEUE_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct Ranges {
    tree: RangeTree,
    queue: VecDeque<Question>,
    queue_bytes: usize,
    under_way: VecDeque<Vec<Question>>,
    asked: usize,
    messages: usize,
    diff: Diff,
}

#[derive(Debug, Clone)]
struct Question {
    range: Range,
    ask: Ask,
    /// Its answer did not fit into a message with others: it gets one for itself.
    large: bool,
}

impl Question {
    fn new(range: Range, ask: Ask) -> Self {
        Self { range, ask, large: false }
    }

    /// What it holds in memory while it waits.
    fn weight(&self) -> usize {
        128 + self.range.from.path.len() + self.range.to.as_ref().map_or(0, |to| to.path.len())
    }
}

impl Ranges {
    /// Begins with the whole set: compares it, or with `list` has all of it listed.
    pub(super) fn new(source: &(impl ItemSource + ?Sized), key: &IdKey, list: bool) -> Self {
        let tree = RangeTree::new(key, |visit| source.for_each_ranged(key, visit));
        let mut ranges = Self {
            queue: VecDeque::new(),
            queue_bytes: 0,
            under_way: VecDeque::new(),
            asked: 0,
            messages: 0,
            diff: Diff::default(),
            tree,
        };
        if list {
            ranges.list_all();
        } else {
            let whole = ranges.tree.fingerprint(0..ranges.tree.len());
            ranges.enqueue([Question::new(Range::whole(), Ask::Fingerprint(whole))]);
        }
        ranges
    }

    /// The next questions to send.
    pub(super) fn next_questions(&mut self) -> Option<Vec<(Range, Ask)>> {
        if self.under_way.len() >= MAX_COMPARES || self.queue.is_empty() || self.is_cut_off() {
            return None;
        }
        let mut batch = Vec::new();
        let (mut question_bytes, mut answer_bytes) = (16, 0);
        while batch.len() < MAX_RANGES_A_MESSAGE {
            let Some(Question { range, ask, large }) = self.queue.front() else { break };
            question_bytes += 20 + range.from.size_bound() + range.to.as_ref().map_or(0, |to| to.size_bound());
            answer_bytes += match ask {
                _ if *large => ANSWER_BYTES,
                Ask::Fingerprint(_) => FANOUT * 40,
                Ask::List => 8 * self.tree.span(range).len().max(LEAF),
            };
            if !batch.is_empty() && (question_bytes > MAX_MESSAGE || answer_bytes > ANSWER_BYTES) {
                break;
            }
            if let Some(question) = self.queue.pop_front() {
                self.queue_bytes -= question.weight();
                batch.push(question);
            }
        }
        self.asked += batch.len();
        self.messages += 1;
        let questions = batch.iter().map(|question| (question.range.clone(), question.ask)).collect();
        self.under_way.push_back(batch);
        Some(questions)
    }

    /// Takes the answers to the oldest questions.
    pub(super) fn on_answers(&mut self, answers: Vec<Answer>) -> Result<(), SessionError> {
        let mut asked = self.under_way.pop_front().ok_or(SessionError::Unexpected { message: "Compared" })?;
        if answers.is_empty() || answers.len() > asked.len() {
            return Err(SessionError::Answer);
        }
        let mut unanswered = asked.split_off(answers.len());
        for question in &mut unanswered {
            question.large = question.ask == Ask::List;
        }
        self.enqueue(unanswered);
        for (Question { range, ask, .. }, answer) in asked.into_iter().zip(answers) {
            match (answer, ask) {
                (Answer::Equal, Ask::Fingerprint(_)) => {}
                (Answer::Equal, Ask::List) => return Err(SessionError::Answer),
                (Answer::Parts(parts), ask) => self.on_parts(range, ask, parts)?,
            }
        }
        Ok(())
    }

    /// The difference, once every question is answered or the bounds are reached, and whether it is all.
    pub(super) fn finish(&mut self) -> Option<(Diff, bool)> {
        let complete = self.queue.is_empty() && self.under_way.is_empty();
        if !complete && !self.is_cut_off() {
            return None;
        }
        let mut diff = std::mem::take(&mut self.diff);
        diff.sort();
        Some((diff, complete))
    }

    fn is_cut_off(&self) -> bool {
        self.asked >= MAX_RANGES
            || self.messages >= MAX_QUESTIONS
            || self.diff.len() >= MAX_DIFFERENCES
            || self.queue_bytes > QUEUE_BYTES
    }

    /// Puts questions before all others: depth first, so that an honest comparison's queue stays short.
    fn enqueue(&mut self, questions: impl IntoIterator<Item = Question, IntoIter: DoubleEndedIterator>) {
        for question in questions.into_iter().rev() {
            self.queue_bytes += question.weight();
            self.queue.push_front(question);
        }
    }

    fn list_all(&mut self) {
        const PIECE: usize = 4_096;
        let pieces = self.tree.len().div_ceil(PIECE).max(1);
        let mut bounds: Vec<Bound> = (0..pieces).map(|piece| self.tree.bound_at(piece * PIECE)).collect();
        let mut questions = Vec::with_capacity(pieces);
        let mut to = None;
        while let Some(from) = bounds.pop() {
            questions.push(Question::new(Range { from: from.clone(), to }, Ask::List));
            to = Some(from);
        }
        questions.reverse();
        self.enqueue(questions);
    }

    fn on_parts(&mut self, range: Range, ask: Ask, parts: Vec<Part>) -> Result<(), SessionError> {
        // What is not listed falls apart: one part that is all of the range would be asked about for ever.
        if let [Part { to: None, holds: Holds::Fingerprint(_) }] = &parts[..] {
            return Err(SessionError::Answer);
        }
        let nearly_all = parts.len() - parts.len() / 8;
        let mut differ = Vec::new();
        let mut rest = range.clone();
        let mut ended = false;
        for part in parts {
            if ended {
                return Err(SessionError::Answer);
            }
            let piece = Range { from: rest.from.clone(), to: part.to.clone().or_else(|| rest.to.clone()) };
            let inside = match (&piece.to, &rest.to) {
                (Some(to), Some(end)) => to <= end,
                (None, Some(_)) => false,
                _ => true,
            };
            if !inside || piece.is_empty() {
                return Err(SessionError::Answer);
            }
            match part.to {
                Some(to) => rest.from = to,
                None => ended = true,
            }
            match (part.holds, ask) {
                (Holds::Ids(ids), _) => self.on_ids(&piece, ids),
                (Holds::Fingerprint(_), Ask::List) => return Err(SessionError::Answer),
                (Holds::Fingerprint(sum), Ask::Fingerprint(_)) => differ.extend(self.check(piece, sum)),
            }
        }
        if differ.len() >= nearly_all.max(2) && self.tree.span(&range).len() <= DENSE {
            let from = differ[0].range.from.clone();
            let to = differ[differ.len() - 1].range.to.clone();
            differ = vec![Question::new(Range { from, to }, Ask::List)];
        }
        if !ended && !rest.is_empty() {
            let ask = match ask {
                Ask::List => Ask::List,
                Ask::Fingerprint(_) => Ask::Fingerprint(self.tree.fingerprint(self.tree.span(&rest))),
            };
            differ.push(Question { range: rest, ask, large: ask == Ask::List });
        }
        self.enqueue(differ);
        Ok(())
    }

    /// The question that follows from a peer's fingerprint, if the piece differs.
    fn check(&self, piece: Range, theirs: u128) -> Option<Question> {
        let span = self.tree.span(&piece);
        let mine = self.tree.fingerprint(span.clone());
        let ask = if span.is_empty() { Ask::List } else { Ask::Fingerprint(mine) };
        (mine != theirs).then(|| Question::new(piece, ask))
    }

    fn on_ids(&mut self, piece: &Range, mut theirs: Vec<u64>) {
        let mut mine = self.tree.ids(self.tree.span(piece)).to_vec();
        compare_ids(&mut mine, &mut theirs, &mut self.diff);
    }
}
