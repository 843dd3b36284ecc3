// Patches on nodes: the mirror's copy follows the engine by exactly what it is told.
import { between, carry, type Marks, paint } from './marks.js';
import type { At, MarkEdit, Patch, Scalar, TextEdit } from './types.js';
import { decode, type Json, type Node, snapshot } from './values.js';

/** A patch as the engine sends it: values are tagged. */
export type WirePatch =
  | { action: 'put'; at: At; value: Json } | { action: 'delete'; at: At; count: number }
  | { action: 'insert'; at: At; values: Json[] } | { action: 'increment'; at: At; by: number }
  | { action: 'text'; at: At; edits: TextEdit[]; marks: WireMark[] } | { action: 'conflict'; at: At };

/** The value is not the one that the patches start from: the mirror and the engine disagree, which is a defect. */
export class Misfit extends Error {}

export const EMPTY: Node = { kind: 'map', entries: new Map() };

/** Applies patches in order; what they do not touch is the same node as before. */
export function apply(root: Node, patches: readonly WirePatch[]): { root: Node; patches: Patch[] } {
  const told: Patch[] = [];
  for (const patch of patches) {
    switch (patch.action) {
      case 'put': {
        const value = decode(patch.value);
        root = patch.at.length === 0 ? value : at(root, patch.at, (holder, last) => put(holder, last, value));
        told.push({ action: 'put', at: patch.at, value: snapshot(value) });
        break;
      }
      case 'delete':
        root = at(root, patch.at, (holder, last) => remove(holder, last, patch.count));
        told.push(typeof patch.at[patch.at.length - 1] === 'number' ? { action: 'delete', at: patch.at, count: patch.count } : { action: 'delete', at: patch.at });
        break;
      case 'insert': {
        const values = patch.values.map(decode);
        root = at(root, patch.at, (holder, last) => insert(holder, last, values));
        told.push({ action: 'insert', at: patch.at, values: values.map(snapshot) });
        break;
      }
      case 'increment':
        root = on(root, patch.at, node => (node.kind === 'counter' ? { kind: 'counter', value: node.value + patch.by } : misfit()));
        told.push(patch);
        break;
      case 'text':
        root = on(root, patch.at, node => {
          if (node.kind !== 'text') return misfit();
          const marks = patch.marks.map(decoded).reduce<Marks>(paint, carry(node.marks ?? [], patch.edits));
          return { kind: 'text', value: splice(node.value, patch.edits), marks };
        });
        told.push({ ...patch, marks: patch.marks.map(decoded) });
        break;
      default:
        told.push(patch);
    }
  }
  return { root, patches: told };
}

/** A mark as the engine sends it. */
export interface WireMark { from: number; to: number; name: string; value: Json }

/** All marks of a text. */
export interface Marked { at: At; marks: WireMark[] }

export function decoded(mark: WireMark): MarkEdit {
  return { ...mark, value: snapshot(decode(mark.value)) as Scalar };
}

/** Makes the marks of some texts what the engine says they are; what that changes. */
export function remark(root: Node, marked: readonly Marked[]): { root: Node; patches: Patch[] } {
  const patches: Patch[] = [];
  for (const { at, marks } of marked) {
    root = on(root, at, node => {
      if (node.kind !== 'text') return misfit();
      const wanted = marks.map(decoded).reduce<Marks>(paint, []);
      const edits = between(node.marks ?? [], wanted);
      if (edits.length === 0) return node;
      patches.push({ action: 'text', at, edits: [], marks: edits });
      return { kind: 'text', value: node.value, marks: wanted };
    });
  }
  return { root, patches };
}

/** The text after edits whose positions are all in the text before. */
export function splice(text: string, edits: readonly TextEdit[]): string {
  let result = '';
  let from = 0;
  for (const edit of edits) {
    if (edit.from < from || edit.to < edit.from || edit.to > text.length) return misfit();
    result += text.slice(from, edit.from) + edit.insert;
    from = edit.to;
  }
  return result + text.slice(from);
}

/** The node at a place, if there is one. */
export function find(root: Node, way: At): Node | undefined {
  let node: Node | undefined = root;
  for (const step of way) {
    if (node?.kind === 'map' && typeof step === 'string') node = node.entries.get(step);
    else if (node?.kind === 'list' && typeof step === 'number') node = node.items[step];
    else return undefined;
  }
  return node;
}

function misfit(): never {
  throw new Misfit('a change does not fit what this page shows');
}

/** Changes the node at a place. */
function on(node: Node, way: At, change: (node: Node) => Node, depth = 0): Node {
  if (depth === way.length) return change(node);
  const step = way[depth] as string | number;
  if (node.kind === 'map' && typeof step === 'string') {
    const child = node.entries.get(step) ?? misfit();
    return { kind: 'map', entries: new Map(node.entries).set(step, on(child, way, change, depth + 1)) };
  }
  if (node.kind === 'list' && typeof step === 'number') {
    const items = node.items.slice();
    items[step] = on(items[step] ?? misfit(), way, change, depth + 1);
    return { kind: 'list', items };
  }
  return misfit();
}

/** Changes what holds the last step of a way. */
function at(root: Node, way: At, change: (holder: Node, last: string | number) => Node): Node {
  const last = way[way.length - 1];
  if (last === undefined) return misfit();
  return on(root, way.slice(0, -1), holder => change(holder, last));
}

function put(holder: Node, last: string | number, value: Node): Node {
  if (holder.kind === 'map' && typeof last === 'string') return { kind: 'map', entries: new Map(holder.entries).set(last, value) };
  if (holder.kind === 'list' && typeof last === 'number' && last < holder.items.length) return { kind: 'list', items: holder.items.map((item, i) => (i === last ? value : item)) };
  return misfit();
}

function remove(holder: Node, last: string | number, count: number): Node {
  if (holder.kind === 'map' && typeof last === 'string') {
    const entries = new Map(holder.entries);
    entries.delete(last);
    return { kind: 'map', entries };
  }
  if (holder.kind === 'list' && typeof last === 'number' && last + count <= holder.items.length) return { kind: 'list', items: [...holder.items.slice(0, last), ...holder.items.slice(last + count)] };
  return misfit();
}

function insert(holder: Node, last: string | number, values: readonly Node[]): Node {
  if (holder.kind === 'list' && typeof last === 'number' && last <= holder.items.length) return { kind: 'list', items: [...holder.items.slice(0, last), ...values, ...holder.items.slice(last)] };
  return misfit();
}

/** Where a place is after a patch; `null` once what was there is gone or replaced. */
export function follow(place: At, patch: Patch): At | null {
  const last = patch.at.length - 1;
  const holds = patch.at.every((step, i) => i === last || place[i] === step);
  if (patch.action === 'put') return place.length > last && patch.at.every((step, i) => place[i] === step) ? null : place;
  if (!holds || place.length <= last) return place;
  const here = place[last] as string | number;
  const first = patch.at[last] as string | number;
  const moved = (by: number): At => [...place.slice(0, last), (here as number) + by, ...place.slice(last + 1)];
  if (patch.action === 'insert') return typeof here === 'number' && here >= (first as number) ? moved(patch.values.length) : place;
  if (patch.action !== 'delete') return place;
  if (typeof here === 'string') return here === first ? null : place;
  const count = patch.count ?? 1;
  if (here < (first as number)) return place;
  return here < (first as number) + count ? null : moved(-count);
}
