// Values as the mirror holds them: immutable nodes that know their kind, each with the plain snapshot that pages see.
import { invalid, ForeshoreError } from './errors.js';
import type { Fenced, MarkEdit, Scalar, SharedCounter, SharedText } from './types.js';

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** A place's value. `shown` is its snapshot, made when first asked for and shared for as long as the node lives. */
export type Node =
  | { readonly kind: 'scalar'; readonly value: Scalar }
  | { readonly kind: 'text'; readonly value: string; readonly marks?: readonly MarkEdit[] }
  | { readonly kind: 'counter'; readonly value: number }
  | { readonly kind: 'fenced'; readonly value: Register }
  | { readonly kind: 'map'; readonly entries: ReadonlyMap<string, Node>; shown?: unknown }
  | { readonly kind: 'list'; readonly items: readonly Node[]; shown?: unknown };

/** What a fenced register holds. */
export interface Register { readonly token: number; readonly inner: Node }

/** Deepest nesting that is stored. */
const MAX_DEPTH = 100;
/** Largest value of bytes. */
const MAX_BYTES = 64 * 1024;

const encoder = new TextEncoder();

/** What a program says it wants where it writes `text()`, `counter()` or `fenced()`. */
export class Wanted {
  constructor(readonly kind: 'text' | 'counter' | 'fenced', readonly initial: unknown) {}
}

export function text(initial = ''): SharedText {
  if (typeof initial !== 'string') throw invalid('text() takes a string');
  return new Wanted('text', initial) as unknown as SharedText;
}

export function counter(initial = 0): SharedCounter {
  if (!Number.isSafeInteger(initial)) throw invalid('counter() takes a safe integer');
  return new Wanted('counter', initial) as unknown as SharedCounter;
}

export function fenced<V extends Scalar>(initial: V): Fenced<V> {
  return new Wanted('fenced', initial) as unknown as Fenced<V>;
}

/** The plain, frozen value of a node. */
export function snapshot(node: Node): unknown {
  if (node.kind === 'map') {
    if (node.shown === undefined) {
      const plain: Record<string, unknown> = {};
      // In one order on every page, whoever set the keys when.
      for (const key of [...node.entries.keys()].sort()) define(plain, key, snapshot(node.entries.get(key) as Node));
      node.shown = Object.freeze(plain);
    }
    return node.shown;
  }
  if (node.kind === 'list') return (node.shown ??= Object.freeze(node.items.map(item => snapshot(item))));
  if (node.kind === 'fenced') return snapshot(node.value.inner);
  return node.value;
}

/** Sets a key as data even if it is `__proto__`, which anybody may write into a document. */
function define(target: Record<string, unknown>, key: string, value: unknown): void {
  if (key === '__proto__') Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else target[key] = value;
}

/** A node from the engine's tagged JSON. */
export function decode(json: Json): Node {
  if (json === null || typeof json !== 'object') return { kind: 'scalar', value: json };
  if (Array.isArray(json)) return { kind: 'list', items: (json as readonly Json[]).map(decode) };
  const members = Object.entries(json as { readonly [key: string]: Json });
  const [first] = members;
  if (members.length === 1 && first && first[0].startsWith('$')) return decodeTagged(first[0], first[1]);
  return { kind: 'map', entries: new Map(members.map(([key, value]) => [key, decode(value)])) };
}

function decodeTagged(tag: string, inner: Json): Node {
  switch (tag) {
    case '$text': return { kind: 'text', value: String(inner) };
    case '$counter': return { kind: 'counter', value: Number(inner) };
    case '$fenced': {
      const { token, value } = inner as { readonly token: number; readonly value: Json };
      return { kind: 'fenced', value: { token, inner: decode(value) } };
    }
    case '$uint': return { kind: 'scalar', value: Number(inner) };
    case '$float': return { kind: 'scalar', value: inner === 'inf' ? Infinity : inner === '-inf' ? -Infinity : NaN };
    case '$time': return { kind: 'scalar', value: new Date(Number(inner)) };
    case '$bytes': return { kind: 'scalar', value: fromBase64(inner) };
    default: return { kind: 'map', entries: new Map([[tag.startsWith('$$') ? tag.slice(1) : tag, decode(inner)]]) };
  }
}

/** A node as the engine's tagged JSON. */
export function encode(node: Node): Json {
  switch (node.kind) {
    case 'text': return { $text: node.value };
    case 'counter': return { $counter: node.value };
    case 'fenced': return { $fenced: { token: node.value.token, value: encode(node.value.inner) } };
    case 'list': return node.items.map(encode);
    case 'map': {
      const json: { [key: string]: Json } = {};
      const lonely = node.entries.size === 1;
      for (const [key, child] of node.entries) define(json, lonely && key.startsWith('$') ? `$${key}` : key, encode(child));
      return json;
    }
    default: return encodeScalar(node.value);
  }
}

export function encodeScalar(value: Scalar): Json {
  if (value instanceof Uint8Array) return { $bytes: toBase64(value) };
  if (value instanceof Date) return { $time: value.getTime() };
  if (typeof value === 'number' && !Number.isFinite(value)) return { $float: Number.isNaN(value) ? 'NaN' : value > 0 ? 'inf' : '-inf' };
  return value as Json;
}

/** Bytes in one piece of base64: a multiple of three, and no more arguments than a call takes. */
const CHUNK = 3 * 8192;

export function toBase64(data: Uint8Array): string {
  if (!(data instanceof Uint8Array)) throw invalid('data is a Uint8Array');
  let text = '';
  for (let at = 0; at < data.length; at += CHUNK) text += btoa(String.fromCharCode(...data.subarray(at, at + CHUNK)));
  return text;
}

export function fromBase64(text: unknown): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(String(text)), c => c.charCodeAt(0));
}

/** A node from what a program wrote. `known` finds the node behind a draft that is stored a second time. */
export function toNode(value: unknown, known: (value: object) => Node | undefined = () => undefined, depth = 0): Node {
  if (depth > MAX_DEPTH) throw ForeshoreError.make('TOO_LARGE', `values are nested at most ${MAX_DEPTH} levels deep`);
  switch (typeof value) {
    case 'string': return { kind: 'scalar', value: checkString(value) };
    case 'boolean': return { kind: 'scalar', value };
    case 'number': return { kind: 'scalar', value: Object.is(value, -0) ? 0 : value };
    case 'object': break;
    default: throw invalid(`a ${typeof value} cannot be stored${value === undefined ? '; use delete' : ''}`);
  }
  if (value === null) return { kind: 'scalar', value };
  if (value instanceof Wanted) return wanted(value);
  const same = known(value);
  if (same) return same;
  if (value instanceof Uint8Array) {
    if (value.length > MAX_BYTES) throw ForeshoreError.make('TOO_LARGE', `a Uint8Array of ${value.length} bytes: at most ${MAX_BYTES} are stored`);
    return { kind: 'scalar', value: value.slice() };
  }
  if (value instanceof Date) {
    if (Number.isNaN(value.getTime())) throw invalid('an invalid Date cannot be stored');
    return { kind: 'scalar', value: new Date(value) };
  }
  if (Array.isArray(value)) return { kind: 'list', items: Array.from(value, item => toNode(item, known, depth + 1)) };
  const prototype = Object.getPrototypeOf(value) as unknown;
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) throw invalid(`a ${value.constructor?.name ?? 'class instance'} cannot be stored: only plain objects`);
  const entries = new Map<string, Node>();
  for (const [key, item] of Object.entries(value)) {
    if (item !== undefined) entries.set(checkString(key), toNode(item, known, depth + 1));
  }
  return { kind: 'map', entries };
}

function wanted(value: Wanted): Node {
  switch (value.kind) {
    case 'text': return { kind: 'text', value: checkString(value.initial as string) };
    case 'counter': return { kind: 'counter', value: value.initial as number };
    // No lock has been held yet: every token is greater.
    default: return { kind: 'fenced', value: { token: 0, inner: toScalar(value.initial) } };
  }
}

/** What a fenced register holds: one value that is replaced as a whole. */
export function toScalar(value: unknown): Node {
  const node = toNode(value);
  if (node.kind !== 'scalar') throw invalid('a fenced register holds a single value: null, a boolean, a number, a string, a Uint8Array or a Date');
  return node;
}

/** Half of a surrogate pair is no text; it would come back as another character. */
export function checkString(value: string): string {
  if ((value as { isWellFormed?(): boolean }).isWellFormed?.() === false) throw invalid('a string holds half of a surrogate pair');
  return value;
}

/** Length in bytes, for messages. */
export function bytesOf(value: string): number {
  return encoder.encode(value).length;
}

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** A sort key between two others; `null` is before or after all. Keys are strings of digits and letters, compared as strings. */
export function between(before: string | null, after: string | null): string {
  const low = before ?? '';
  if ([...low, ...(after ?? '')].some(c => !DIGITS.includes(c))) throw invalid('between() takes keys that it made');
  if (after !== null && low >= after) throw invalid(`${JSON.stringify(before)} does not sort before ${JSON.stringify(after)}`);
  // Digit by digit: a missing digit of `low` counts as the lowest, one of `after` as past the highest.
  let key = '';
  let bounded = after !== null;
  for (let at = 0; ; at++) {
    const from = at < low.length ? DIGITS.indexOf(low[at] as string) : 0;
    const to = bounded ? (at < (after as string).length ? DIGITS.indexOf((after as string)[at] as string) : 0) : DIGITS.length;
    if (to - from > 1) {
      const middle = Math.floor((from + to) / 2);
      return key + DIGITS[middle];
    }
    key += DIGITS[from];
    if (from < to) bounded = false;
  }
}
