//! From splices one after the other, each in the text that the one before left, to edits in the text before all of them.
//!
//! The text is a list of runs: kept from the text before, or inserted. Splices of a diff come in rising order, so the
//! search starts where the last one ended.

use super::TextEdit;

/// A run of the present text.
#[derive(Debug, Clone)]
enum Run {
    /// These code units of the text before.
    Kept { from: usize, len: usize },
    /// These are new.
    New(Vec<u16>),
}

impl Run {
    fn len(&self) -> usize {
        match self {
            Run::Kept { len, .. } => *len,
            Run::New(units) => units.len(),
        }
    }
}

/// Gathers splices.
#[derive(Debug)]
pub(in crate::document) struct Composer {
    runs: Vec<Run>,
    /// Where the last search ended: index of a run, and where it starts.
    near: (usize, usize),
    before: usize,
}

impl Composer {
    /// Begins with a text of `before` code units.
    pub(in crate::document) fn new(before: usize) -> Self {
        Self { runs: vec![Run::Kept { from: 0, len: before }], near: (0, 0), before }
    }

    /// Inserts at a position of the present text.
    pub(in crate::document) fn insert(&mut self, at: usize, units: Vec<u16>) {
        if units.is_empty() {
            return;
        }
        let run = self.cut(at);
        if let Some(Run::New(old)) = run.checked_sub(1).and_then(|before| self.runs.get_mut(before)) {
            old.extend(units);
            // The run that grew lies before the cut, so the remembered place moves.
            self.near = (0, 0);
            return;
        }
        self.runs.insert(run, Run::New(units));
    }

    /// Deletes from a position of the present text on.
    pub(in crate::document) fn delete(&mut self, at: usize, len: usize) {
        if len == 0 {
            return;
        }
        let first = self.cut(at);
        let end = self.cut(at + len);
        self.runs.drain(first..end.max(first));
        self.near = (0, 0);
        if first > 0 {
            let start = self.runs[..first].iter().map(Run::len).sum();
            self.near = (first, start);
        }
    }

    /// Makes `at` a boundary between runs; the index of the run that begins there.
    fn cut(&mut self, at: usize) -> usize {
        let (mut run, mut start) = if self.near.1 <= at { self.near } else { (0, 0) };
        while run < self.runs.len() && start + self.runs[run].len() <= at {
            start += self.runs[run].len();
            run += 1;
        }
        if run < self.runs.len() && start < at {
            let inside = at - start;
            let tail = match &mut self.runs[run] {
                Run::Kept { from, len } => {
                    let tail = Run::Kept { from: *from + inside, len: *len - inside };
                    *len = inside;
                    tail
                }
                Run::New(units) => Run::New(units.split_off(inside)),
            };
            run += 1;
            start = at;
            self.runs.insert(run, tail);
        }
        self.near = (run, start);
        run
    }

    /// The edits: sorted, disjoint, none adjacent to the next.
    pub(in crate::document) fn finish(self) -> Vec<TextEdit> {
        let mut edits = Vec::new();
        let (mut at, mut insert) = (0, Vec::new());
        let end = [Run::Kept { from: self.before, len: 0 }];
        for run in self.runs.into_iter().chain(end) {
            match run {
                Run::New(units) => insert.extend(units),
                Run::Kept { from, len } => {
                    if from > at || !insert.is_empty() {
                        edits.push(TextEdit { from: at, to: from, insert: String::from_utf16_lossy(&insert) });
                        insert.clear();
                    }
                    at = from + len;
                }
            }
        }
        merge(edits)
    }
}

/// Joins edits that touch.
fn merge(edits: Vec<TextEdit>) -> Vec<TextEdit> {
    let mut merged: Vec<TextEdit> = Vec::with_capacity(edits.len());
    for edit in edits {
        match merged.last_mut() {
            Some(last) if last.to == edit.from => {
                last.to = edit.to;
                last.insert.push_str(&edit.insert);
            }
            _ => merged.push(edit),
        }
    }
    merged
}

/// The UTF-16 code units of a string.
pub(in crate::document) fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn splices_and_edits_give_the_same_text(
            before in "[a-e]{0,20}",
            splices in proptest::collection::vec((0usize..30, 0usize..5, "[v-z]{0,3}"), 0..12),
        ) {
            let mut now = before.clone();
            let mut composer = Composer::new(before.len());
            for (at, remove, insert) in splices {
                let at = at.min(now.len());
                let remove = remove.min(now.len() - at);
                composer.delete(at, remove);
                composer.insert(at, units(&insert));
                now.replace_range(at..at + remove, &insert);
            }
            let edits = composer.finish();
            prop_assert_eq!(super::super::edit_text(&before, &edits), Some(now));
            prop_assert!(edits.windows(2).all(|pair| pair[0].to < pair[1].from));
        }
    }
}
