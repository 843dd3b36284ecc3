//! The smallest difference between two sequences (Myers, "An O(ND) Difference Algorithm and Its Variations",
//! Algorithmica 1986), with a bound: past [`MAX_EDITS`] edits the middle that differs is replaced as a whole.

use std::ops::Range;

use crate::document::patch::TextEdit;

/// Past this many single insertions and deletions the algorithm, quadratic in them, gives up. 1,000 keep it under a few
/// milliseconds and 4 MB.
const MAX_EDITS: usize = 1000;

/// Runs of `old` to be replaced by runs of `new`: sorted, disjoint, and never adjacent.
pub(super) fn sequences<T: PartialEq>(old: &[T], new: &[T]) -> Vec<(Range<usize>, Range<usize>)> {
    let prefix = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[prefix..], &new[prefix..]);
    let suffix = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let old_middle = &old_rest[..old_rest.len() - suffix];
    let new_middle = &new_rest[..new_rest.len() - suffix];
    if old_middle.is_empty() && new_middle.is_empty() {
        return Vec::new();
    }
    let shift =
        |(a, b): (Range<usize>, Range<usize>)| (a.start + prefix..a.end + prefix, b.start + prefix..b.end + prefix);
    match myers(old_middle, new_middle) {
        Some(hunks) => hunks.into_iter().map(shift).collect(),
        None => vec![shift((0..old_middle.len(), 0..new_middle.len()))],
    }
}

/// Text edits that lead from `old` to `new`, in UTF-16 positions of `old`. Surrogate pairs stay whole.
pub(in crate::document) fn text(old: &str, new: &str) -> Vec<TextEdit> {
    let (old_chars, new_chars): (Vec<char>, Vec<char>) = (old.chars().collect(), new.chars().collect());
    let (mut units, mut seen) = (0, 0);
    let mut position = |chars: usize| {
        units += old_chars[seen..chars].iter().map(|c| c.len_utf16()).sum::<usize>();
        seen = chars;
        units
    };
    sequences(&old_chars, &new_chars)
        .into_iter()
        .map(|(gone, come)| TextEdit {
            from: position(gone.start),
            to: position(gone.end),
            insert: new_chars[come].iter().collect(),
        })
        .collect()
}

/// The greedy forward algorithm. `None` past the bound.
fn myers<T: PartialEq>(old: &[T], new: &[T]) -> Option<Vec<(Range<usize>, Range<usize>)>> {
    let (n, m) = (old.len() as isize, new.len() as isize);
    let max = ((n + m) as usize).min(MAX_EDITS) as isize;
    let offset = max + 1;
    let mut furthest = vec![0isize; (2 * max + 3) as usize];
    let mut trace: Vec<Vec<isize>> = Vec::new();
    for d in 0..=max {
        for k in (-d..=d).step_by(2) {
            let at = (k + offset) as usize;
            let down = k == -d || (k != d && furthest[at - 1] < furthest[at + 1]);
            let mut x = if down { furthest[at + 1] } else { furthest[at - 1] + 1 };
            let mut y = x - k;
            while x < n && y < m && old[x as usize] == new[y as usize] {
                x += 1;
                y += 1;
            }
            furthest[at] = x;
            if x >= n && y >= m {
                return Some(backtrack(&trace, offset, d, n, m));
            }
        }
        // Only diagonals -d..=d have been touched; keep just these.
        trace.push(furthest[(offset - d) as usize..=(offset + d) as usize].to_vec());
    }
    None
}

/// Walks the trace back and gathers adjacent steps into hunks.
fn backtrack(
    trace: &[Vec<isize>],
    _offset: isize,
    edits: isize,
    n: isize,
    m: isize,
) -> Vec<(Range<usize>, Range<usize>)> {
    let mut hunks: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    let (mut x, mut y) = (n, m);
    for d in (1..=edits).rev() {
        let row = &trace[(d - 1) as usize];
        let reach = |k: isize| row.get((k + d - 1) as usize).copied();
        let k = x - y;
        let (below, above) = (if k > -d { reach(k - 1) } else { None }, if k < d { reach(k + 1) } else { None });
        let down = k == -d || (k != d && below.unwrap_or(-1) < above.unwrap_or(-1));
        let before_k = if down { k + 1 } else { k - 1 };
        let before_x = if down { above } else { below }.expect("the trace holds every diagonal of the step before");
        let before_y = before_x - before_k;
        let (old_step, new_step) = if down {
            (before_x..before_x, before_y..before_y + 1)
        } else {
            (before_x..before_x + 1, before_y..before_y)
        };
        let (old_step, new_step) =
            (old_step.start as usize..old_step.end as usize, new_step.start as usize..new_step.end as usize);
        match hunks.last_mut() {
            Some((gone, come)) if gone.start == old_step.end && come.start == new_step.end => {
                gone.start = old_step.start;
                come.start = new_step.start;
            }
            _ => hunks.push((old_step, new_step)),
        }
        (x, y) = (before_x, before_y);
    }
    hunks.reverse();
    hunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(old: &str, edits: &[TextEdit]) -> String {
        let units: Vec<u16> = old.encode_utf16().collect();
        let (mut out, mut at) = (Vec::new(), 0);
        for edit in edits {
            out.extend_from_slice(&units[at..edit.from]);
            out.extend(edit.insert.encode_utf16());
            at = edit.to;
        }
        out.extend_from_slice(&units[at..]);
        String::from_utf16(&out).unwrap()
    }

    proptest! {
        #[test]
        fn edits_lead_from_old_to_new(old in "[ab😀é]{0,12}", new in "[ab😀é]{0,12}") {
            let edits = text(&old, &new);
            prop_assert_eq!(apply(&old, &edits), new);
            prop_assert!(edits.windows(2).all(|w| w[0].to < w[1].from));
        }
    }

    #[test]
    fn one_changed_word_is_one_small_edit() {
        let edits = text("the quick fox 😀 jumps", "the quick dog 😀 jumps");
        assert!(edits.iter().all(|e| e.from >= 10 && e.to <= 13), "{edits:?}");
        assert_eq!(text("same", "same"), vec![]);
    }

    #[test]
    fn a_wholly_different_text_is_replaced_in_bounded_time() {
        let (old, new): (String, String) = ("ab".repeat(20_000), "cd".repeat(20_000));
        assert_eq!(text(&old, &new), vec![TextEdit { from: 0, to: 40_000, insert: new }]);
    }
}
