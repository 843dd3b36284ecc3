// Drafts: what an edit sees. A draft object stands for the object, not for its place: elements may move while it is held.
import { ForeshoreError, invalid } from './errors.js';
import { grow, type Marks, paint } from './marks.js';
import { splice } from './mirror.js';
import type { At, Fenced, HeldLock, Patch, Scalar, SharedCounter, SharedText, TextEdit } from './types.js';
import { checkString, encode, type Json, type Node, type Register, snapshot, toNode, toScalar, Wanted } from './values.js';

/** One thing that an edit did, as the engine takes it. */
export type Op =
  | { o: 'put'; at: At; v: Json } | { o: 'del'; at: At; n?: number } | { o: 'ins'; at: At; vs: Json[] }
  | { o: 'inc'; at: At; by: number } | { o: 'text'; at: At; edits: TextEdit[] } | { o: 'fence'; at: At; token: number; v: Json }
  | { o: 'mark'; at: At; from: number; to: number; name: string; value: Json; expand?: string };

/** Everything an edit did, in the engine's words and in those of events. */
export class Recorder {
  readonly ops: Op[] = [];
  readonly patches: Patch[] = [];
  /** Once the edit is over, its drafts are dead. */
  over = false;

  check(): void {
    if (this.over) throw invalid('a draft is used after its edit has returned');
  }
}

/** A place in a draft, made when it is first looked at. */
export class Place {
  kids: Map<string, Place> | Place[] | undefined;
  /** Of what is edited in place and holds nothing else: what it holds now. */
  value: unknown;
  /** Of a text. */
  marks: Marks = [];
  touched = false;
  gone = false;
  face: object | undefined;

  constructor(readonly base: Node, readonly parent: Place | null, readonly key: string | null, readonly recorder: Recorder) {
    if (base.kind !== 'map' && base.kind !== 'list') this.value = base.value;
    if (base.kind === 'text') this.marks = base.marks ?? [];
  }

  /** The way from the root, now. */
  at(): (string | number)[] {
    if (this.gone) throw invalid('what this draft stands for has been deleted or replaced');
    if (!this.parent) return [];
    const way = this.parent.at();
    way.push(this.key ?? this.parent.list().indexOf(this));
    return way;
  }

  map(): Map<string, Place> {
    if (!this.kids) {
      const base = this.base as Node & { kind: 'map' };
      this.kids = new Map([...base.entries].map(([key, node]) => [key, new Place(node, this, key, this.recorder)]));
    }
    return this.kids as Map<string, Place>;
  }

  list(): Place[] {
    this.kids ??= (this.base as Node & { kind: 'list' }).items.map(node => new Place(node, this, null, this.recorder));
    return this.kids as Place[];
  }

  /** Marks this place and all above as changed. */
  touch(): void {
    for (let place: Place | null = this; place && !place.touched; place = place.parent) place.touched = true;
  }

  /** The node that this place has become; the old one if nothing changed in it. */
  node(): Node {
    if (!this.touched) return this.base;
    switch (this.base.kind) {
      case 'map': return { kind: 'map', entries: new Map([...this.map()].map(([key, place]) => [key, place.node()])) };
      case 'list': return { kind: 'list', items: this.list().map(place => place.node()) };
      case 'text': return { kind: 'text', value: this.value as string, marks: this.marks };
      default: return { kind: this.base.kind, value: this.value } as Node;
    }
  }
}

/** The place behind a draft object. */
const places = new WeakMap<object, Place>();

export function placeOf(draft: unknown): Place | undefined {
  return typeof draft === 'object' && draft !== null ? places.get(draft) : undefined;
}

function fromProgram(value: unknown): Node {
  return toNode(value, object => places.get(object)?.node());
}

/** What a program sees at a place. */
export function face(place: Place): unknown {
  switch (place.base.kind) {
    case 'scalar': return place.value;
    case 'text': return (place.face ??= remember(new TextDraft(place), place));
    case 'counter': return (place.face ??= remember(new CounterDraft(place), place));
    case 'fenced': return (place.face ??= remember(new FencedDraft(place), place));
    case 'map': return (place.face ??= remember(new Proxy({}, mapTraps(place)), place));
    default: return (place.face ??= remember(new Proxy([], listTraps(place)), place));
  }
}

function remember<T extends object>(draft: T, place: Place): T {
  places.set(draft, place);
  return draft;
}

function mapTraps(place: Place): ProxyHandler<object> {
  const set = (key: string, value: unknown): boolean => {
    place.recorder.check();
    checkString(key);
    const old = place.map().get(key);
    if (old && old.base.kind !== 'scalar' && old.base.kind !== 'map' && face(old) !== value) {
      throw invalid(`${JSON.stringify(key)} is a ${old.base.kind === 'fenced' ? 'fenced register' : old.base.kind}: edit it in place, since replacing it would drop what others do to it meanwhile`);
    }
    if (old && face(old) === value) return true;
    const node = fromProgram(value);
    const at = [...place.at(), key];
    if (old) old.gone = true;
    place.map().set(key, new Place(node, place, key, place.recorder));
    place.touch();
    place.recorder.ops.push({ o: 'put', at, v: encode(node) });
    place.recorder.patches.push({ action: 'put', at, value: snapshot(node) });
    return true;
  };
  return {
    get: (_, key) => {
      if (typeof key !== 'string') return undefined;
      const child = place.map().get(key);
      return child ? face(child) : undefined;
    },
    set: (_, key, value) => (typeof key === 'string' ? set(key, value) : false),
    defineProperty: (_, key, descriptor) => (typeof key === 'string' && 'value' in descriptor ? set(key, descriptor.value) : false),
    deleteProperty: (_, key) => {
      place.recorder.check();
      const child = typeof key === 'string' ? place.map().get(key) : undefined;
      if (!child) return true;
      const at = child.at();
      child.gone = true;
      place.map().delete(key as string);
      place.touch();
      place.recorder.ops.push({ o: 'del', at });
      place.recorder.patches.push({ action: 'delete', at });
      return true;
    },
    has: (_, key) => typeof key === 'string' && place.map().has(key),
    ownKeys: () => [...place.map().keys()],
    getOwnPropertyDescriptor: (_, key) => {
      const child = typeof key === 'string' ? place.map().get(key) : undefined;
      return child && { value: face(child), enumerable: true, configurable: true, writable: true };
    },
    getPrototypeOf: () => Object.prototype,
  };
}

/** Methods that read: they see the elements' drafts as an array of the moment. */
const READING = ['at', 'find', 'findIndex', 'indexOf', 'includes', 'filter', 'map', 'forEach', 'some', 'every', 'entries', 'join', 'slice', 'reduce', 'keys', 'values'] as const;

function listTraps(place: Place): ProxyHandler<unknown[]> {
  const methods: Record<string, unknown> = {
    push: (...values: unknown[]) => (change(place, place.list().length, 0, values), place.list().length),
    unshift: (...values: unknown[]) => (change(place, 0, 0, values), place.list().length),
    pop: () => change(place, place.list().length - 1, 1, [])[0],
    shift: () => change(place, 0, 1, [])[0],
    splice: (start: number, remove?: number, ...values: unknown[]) => {
      const length = place.list().length;
      const from = start < 0 ? Math.max(length + start, 0) : Math.min(start, length);
      return change(place, from, Math.max(0, Math.min(remove ?? length - from, length - from)), values);
    },
  };
  for (const name of READING) {
    methods[name] = (...args: unknown[]) => (Array.prototype[name] as (...args: unknown[]) => unknown).apply(place.list().map(face), args);
  }
  const index = (key: string | symbol): number | undefined => (typeof key === 'string' && /^(0|[1-9]\d*)$/.test(key) ? Number(key) : undefined);
  return {
    get: (_, key) => {
      if (key === 'length') return place.list().length;
      if (key === Symbol.iterator) return () => place.list().map(face)[Symbol.iterator]();
      const i = index(key);
      if (i === undefined) return typeof key === 'string' ? methods[key] : undefined;
      const child = place.list()[i];
      return child && face(child);
    },
    set: (_, key, value) => {
      const i = index(key);
      const old = i === undefined ? undefined : place.list()[i];
      if (i === undefined || !old) throw invalid('a list is edited by push, splice and its other methods, or at an index that it has');
      place.recorder.check();
      if (face(old) === value) return true;
      if (old.base.kind !== 'scalar' && old.base.kind !== 'map') throw invalid(`element ${i} is edited in place`);
      const node = fromProgram(value);
      const at = old.at();
      old.gone = true;
      place.list()[i] = new Place(node, place, null, place.recorder);
      place.touch();
      place.recorder.ops.push({ o: 'put', at, v: encode(node) });
      place.recorder.patches.push({ action: 'put', at, value: snapshot(node) });
      return true;
    },
    deleteProperty: () => { throw invalid('elements are removed by splice'); },
    defineProperty: () => { throw invalid('a list is edited by its methods'); },
    has: (_, key) => key === 'length' || (index(key) ?? Infinity) < place.list().length,
    ownKeys: () => [...place.list().keys()].map(String).concat('length'),
    getOwnPropertyDescriptor: (target, key) => {
      if (key === 'length') return { ...Object.getOwnPropertyDescriptor(target, 'length'), value: place.list().length } as PropertyDescriptor;
      const i = index(key);
      const child = i === undefined ? undefined : place.list()[i];
      return child && { value: face(child), enumerable: true, configurable: true, writable: true };
    },
  };
}

/** Removes and inserts elements; the removed ones as plain values. */
function change(place: Place, from: number, remove: number, values: unknown[]): unknown[] {
  place.recorder.check();
  const list = place.list();
  if (from < 0 || (remove === 0 && values.length === 0)) return [];
  const nodes = values.map(fromProgram);
  const at = [...place.at(), from];
  const removed = list.splice(from, remove, ...nodes.map(node => new Place(node, place, null, place.recorder)));
  const plain = removed.map(old => snapshot(old.node()));
  for (const old of removed) old.gone = true;
  place.touch();
  if (removed.length > 0) {
    place.recorder.ops.push({ o: 'del', at, n: removed.length });
    place.recorder.patches.push({ action: 'delete', at, count: removed.length });
  }
  if (nodes.length > 0) {
    place.recorder.ops.push({ o: 'ins', at, vs: nodes.map(encode) });
    place.recorder.patches.push({ action: 'insert', at, values: nodes.map(snapshot) });
  }
  return plain;
}

class TextDraft implements SharedText {
  readonly #place: Place;

  constructor(place: Place) {
    this.#place = place;
  }

  get length(): number {
    return this.toString().length;
  }

  toString(): string {
    return this.#place.value as string;
  }

  toJSON(): string {
    return this.toString();
  }

  splice(index: number, remove: number, insert = ''): void {
    const text = this.toString();
    const from = index < 0 ? Math.max(0, text.length + index) : Math.min(index, text.length);
    editText(this.#place, [{ from, to: Math.min(from + Math.max(0, remove), text.length), insert }]);
  }

  update(next: string): void {
    const edit = difference(this.toString(), next);
    if (edit) editText(this.#place, [edit]);
  }

  mark(from: number, to: number, name: string, value: Scalar, expand?: 'before' | 'after' | 'both' | 'none'): void {
    const place = this.#place;
    place.recorder.check();
    const at = place.at();
    const inner = toScalar(value);
    const mark = { from, to: Math.min(to, this.length), name: checkString(name), value: snapshot(inner) as Scalar };
    if (!(mark.from >= 0 && mark.from < mark.to)) throw invalid(`a mark covers a range of the text's ${this.length} code units`);
    place.marks = paint(place.marks, mark);
    place.touch();
    place.recorder.ops.push({ o: 'mark', at, from, to: mark.to, name, value: encode(inner), ...(expand ? { expand } : {}) });
    place.recorder.patches.push({ action: 'text', at, edits: [], marks: [mark] });
  }
}

/** Edits a text; positions are in the text before and settle outside surrogate pairs. */
export function editText(place: Place, edits: readonly TextEdit[]): void {
  place.recorder.check();
  const text = place.value as string;
  const at = place.at();
  const settled: TextEdit[] = [];
  let end = 0;
  for (const edit of edits) {
    if (!(edit.from >= end && edit.to >= edit.from && edit.to <= text.length)) {
      throw invalid(`edits of a text are sorted, disjoint and within its ${text.length} code units`);
    }
    end = edit.to;
    const [from, to] = [settle(text, edit.from), settle(text, edit.to)];
    checkString(edit.insert);
    if (from < to || edit.insert !== '') settled.push({ from, to, insert: edit.insert });
  }
  if (settled.length === 0) return;
  place.value = splice(text, settled);
  place.marks = grow(place.marks, settled);
  place.touch();
  place.recorder.ops.push({ o: 'text', at, edits: settled });
  place.recorder.patches.push({ action: 'text', at, edits: settled, marks: [] });
}

/** An index inside a surrogate pair moves to its end. */
function settle(text: string, index: number): number {
  const [before, here] = [text.charCodeAt(index - 1), text.charCodeAt(index)];
  return before >= 0xd800 && before < 0xdc00 && here >= 0xdc00 && here < 0xe000 ? index + 1 : index;
}

/** One replacement that leads from a text to another, without their common ends. */
export function difference(old: string, next: string): TextEdit | null {
  if (old === next) return null;
  const most = Math.min(old.length, next.length);
  let from = 0;
  while (from < most && old[from] === next[from]) from++;
  if (from > 0 && isHigh(old.charCodeAt(from - 1))) from--;
  let same = 0;
  while (same < most - from && old[old.length - 1 - same] === next[next.length - 1 - same]) same++;
  if (same > 0 && isLow(old.charCodeAt(old.length - same))) same--;
  return { from, to: old.length - same, insert: next.slice(from, next.length - same) };
}

const isHigh = (unit: number) => unit >= 0xd800 && unit < 0xdc00;
const isLow = (unit: number) => unit >= 0xdc00 && unit < 0xe000;

class CounterDraft implements SharedCounter {
  readonly #place: Place;

  constructor(place: Place) {
    this.#place = place;
  }

  get value(): number {
    return this.#place.value as number;
  }

  add(by: number): void {
    const place = this.#place;
    place.recorder.check();
    if (!Number.isSafeInteger(by)) throw invalid('a counter is moved by a safe integer');
    if (by === 0) return;
    const at = place.at();
    place.value = (place.value as number) + by;
    place.touch();
    place.recorder.ops.push({ o: 'inc', at, by });
    place.recorder.patches.push({ action: 'increment', at, by });
  }

  valueOf(): number {
    return this.value;
  }
}

class FencedDraft implements Fenced<unknown> {
  readonly #place: Place;

  constructor(place: Place) {
    this.#place = place;
  }

  get #register(): Register {
    return this.#place.value as Register;
  }

  get value(): unknown {
    return snapshot(this.#register.inner);
  }

  get token(): number {
    return this.#register.token;
  }

  set(lock: HeldLock, value: unknown): void {
    const place = this.#place;
    place.recorder.check();
    if (!Number.isSafeInteger(lock?.token) || lock.token < 0) throw invalid('a fenced register is set under a lock that is held');
    if (lock.signal?.aborted) throw ForeshoreError.make('LEASE_LOST', `the lock ${lock.path} is not held any more`, { path: lock.path, hint: 'acquire it again' });
    if (lock.token < this.token) throw ForeshoreError.make('FENCED', `the lock ${lock.path} has had another holder since: token ${lock.token} is older than ${this.token}`, { path: lock.path, hint: 'acquire it again' });
    const inner = toScalar(value);
    const at = place.at();
    place.value = { token: lock.token, inner };
    place.touch();
    place.recorder.ops.push({ o: 'fence', at, token: lock.token, v: encode(inner) });
    place.recorder.patches.push({ action: 'put', at, value: snapshot(inner) });
  }

  toJSON(): unknown {
    return this.value;
  }
}

/** Runs an edit on a value: what it leads to and what it did. Throws what the edit throws, with nothing done. */
export function run<R>(root: Node, edit: (draft: never) => R): { result: R; root: Node; recorder: Recorder; place: Place } {
  const recorder = new Recorder();
  const place = new Place(root, null, null, recorder);
  try {
    const result = edit(face(place) as never);
    if (typeof result === 'object' && result !== null && typeof (result as { then?: unknown }).then === 'function') {
      throw ForeshoreError.make('INVALID', 'an edit is synchronous', { hint: 'await first, then change' });
    }
    return { result, root: place.node(), recorder, place };
  } finally {
    recorder.over = true;
  }
}

/** A text marker cannot be read before it is stored. */
export function isWanted(value: unknown): boolean {
  return value instanceof Wanted;
}
