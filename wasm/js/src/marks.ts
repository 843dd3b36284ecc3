// Marks on a text: runs of UTF-16 code units with a name and a value. A text's marks are sorted by name, then place, and two of
// one name do not overlap.
import type { MarkEdit, Scalar, TextEdit } from './types.js';
import { encodeScalar } from './values.js';

export type Marks = readonly MarkEdit[];

const same = (a: Scalar, b: Scalar): boolean => a === b || JSON.stringify(encodeScalar(a)) === JSON.stringify(encodeScalar(b));

function sorted(marks: MarkEdit[]): Marks {
  marks.sort((a, b) => (a.name === b.name ? a.from - b.from : a.name < b.name ? -1 : 1));
  const joined: MarkEdit[] = [];
  for (const mark of marks) {
    const last = joined[joined.length - 1];
    if (last && last.name === mark.name && last.to >= mark.from && same(last.value, mark.value)) joined[joined.length - 1] = { ...last, to: Math.max(last.to, mark.to) };
    else if (mark.from < mark.to) joined.push(mark);
  }
  return joined;
}

/** The marks after a mark edit; a null value unmarks. */
export function paint(marks: Marks, { from, to, name, value }: MarkEdit): Marks {
  const kept = marks.flatMap(mark => {
    if (mark.name !== name || mark.to <= from || mark.from >= to) return [mark];
    return [{ ...mark, to: from }, { ...mark, from: to }].filter(part => part.from < part.to);
  });
  return sorted(value === null ? kept : [...kept, { from, to, name, value }]);
}

/** The marks after edits by others: what is inserted carries none until somebody says so. */
export function carry(marks: Marks, edits: readonly TextEdit[]): Marks {
  if (marks.length === 0) return marks;
  const kept: MarkEdit[] = [];
  for (const mark of marks) {
    let [old, now] = [0, 0];
    const keep = (end: number): void => {
      const [from, to] = [Math.max(mark.from, old), Math.min(mark.to, end)];
      if (from < to) kept.push({ ...mark, from: from - old + now, to: to - old + now });
    };
    for (const edit of edits) {
      keep(edit.from);
      now += edit.from - old + edit.insert.length;
      old = edit.to;
    }
    keep(Infinity);
  }
  // Parts on both sides of an insertion stay two.
  return kept.sort((a, b) => (a.name === b.name ? a.from - b.from : a.name < b.name ? -1 : 1));
}

/**
 * The marks after edits of this page, as the engine most likely has them: what is typed inside a mark or at its end is marked.
 * The engine corrects it where a mark does not grow so.
 */
export function grow(marks: Marks, edits: readonly TextEdit[]): Marks {
  if (marks.length === 0) return marks;
  return sorted(marks.map(mark => {
    let [from, to, by] = [mark.from, mark.to, 0];
    for (const edit of edits) {
      const end = edit.from + by + edit.insert.length;
      by += edit.insert.length - (edit.to - edit.from);
      if (edit.from <= mark.from) from = edit.to <= mark.from ? mark.from + by : end;
      if (edit.to <= mark.to) to = mark.to + by;
      else if (edit.from <= mark.to) to = edit.from > mark.from ? end : from;
    }
    return { ...mark, from, to };
  }));
}

/** Mark edits that lead from some marks of a text to others. */
export function between(before: Marks, after: Marks): Marks {
  const edits: MarkEdit[] = [];
  for (const name of new Set([...before, ...after].map(mark => mark.name))) {
    const of = (marks: Marks): Marks => marks.filter(mark => mark.name === name);
    const [is, wanted] = [of(before), of(after)];
    const cuts = [...new Set([...is, ...wanted].flatMap(mark => [mark.from, mark.to]))].sort((a, b) => a - b);
    cuts.slice(1).forEach((to, i) => {
      const from = cuts[i] as number;
      const at = (marks: Marks): Scalar => marks.find(mark => mark.from <= from && to <= mark.to)?.value ?? null;
      const [old, value] = [at(is), at(wanted)];
      const last = edits[edits.length - 1];
      if (same(old, value)) return;
      if (last && last.name === name && last.to === from && same(last.value, value)) edits[edits.length - 1] = { ...last, to };
      else edits.push({ from, to, name, value });
    });
  }
  return edits;
}

/** A text as runs of equal marks. */
export function spansOf(text: string, marks: Marks): readonly { readonly text: string; readonly marks: Readonly<Record<string, Scalar>> }[] {
  const cuts = [...new Set([0, text.length, ...marks.flatMap(mark => [mark.from, mark.to])])].filter(cut => cut <= text.length).sort((a, b) => a - b);
  return cuts.slice(1).map((to, i) => {
    const from = cuts[i] as number;
    const here = marks.filter(mark => mark.from <= from && to <= mark.to).map(mark => [mark.name, mark.value] as const);
    return { text: text.slice(from, to), marks: Object.fromEntries(here) };
  });
}
