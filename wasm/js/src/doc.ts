// Documents on a page: a mirror that is edited at once and kept in step with the engine.
//
// The engine makes each edit at the state that this page saw, and tells changes as differences from exactly what this page
// shows. An event that was sent before it knew of this page's newest edit is dropped; the engine sends another.
import { DISPOSE } from './dispose.js';
import { difference, editText, type Op, type Place, placeOf, run } from './draft.js';
import { Emitter, stream, unsubscribe } from './emitter.js';
import type { Engine } from './engine.js';
import { abortable, ForeshoreError, fromEngine, invalid } from './errors.js';
import { spansOf } from './marks.js';
import { hasMoved } from './tabs.js';
import { apply, decoded, EMPTY, find, follow, type Marked, Misfit, remark, type WirePatch } from './mirror.js';
import { Builder } from './slices.js';
import { issues, layers } from './template.js';
import type { At, Author, ChangeOptions, Commit, Cursor, Doc, DocEvent, DocState, Draft, Heads, Patch, Path, SharedText, Snapshot, Template, TextEdit, TextRef, UndoManager, Unsubscribe, Wait } from './types.js';
import { decode, type Json, type Node, snapshot } from './values.js';

/** What a document needs of its space. */
export interface Home {
  readonly id: string;
  readonly engine: Engine;
  readonly author: Author;
  readonly closed: AbortSignal;
  /** What edits are gathered in, while the body of a batch runs. */
  readonly together: Together | null;
  number(): number;
  fail(error: ForeshoreError): void;
  changed(): void;
  /** From here on the mirror hears of its document. */
  follow(mirror: Mirror): void;
  unfollow(mirror: Mirror): void;
}

/** `value` is null if the value came ahead in pieces. */
interface First { value: Json; inPieces?: true; marks?: Marked[]; heads: string[]; deleted: boolean; standing: number | null }

interface DocMessage { id: number; seq: number; heads: string[]; deleted: boolean; patches?: WirePatch[]; value?: Json; marks?: Marked[] }

type AnyEvent = DocEvent<unknown>;

/** An edit that is not known to be stored. */
interface Unsaved {
  readonly seq: number;
  /** More is added while the body of its batch runs, and never after it was sent. */
  readonly ops: Op[];
  message: string | undefined;
  readonly saved: Promise<Heads>;
  readonly together: Together | null;
  /** What it stands on: the edit before it, or the heads of the last event. */
  readonly before: Unsaved | Heads;
  /** The change that the engine made of it; null if it changed nothing. */
  hash?: string | null;
  readonly resolve: (heads: Heads) => void;
  readonly reject: (error: ForeshoreError) => void;
}

/** The heads that an edit leads to, as far as they are known. */
function headsAfter(edit: Unsaved | Heads): Heads | undefined {
  if (!('seq' in edit)) return edit;
  return edit.hash ? [edit.hash] : edit.hash === null ? headsAfter(edit.before) : undefined;
}

/** Edits of several documents, one of each, that are stored together or not at all. */
export class Together {
  readonly parts = new Map<Mirror, Unsaved>();
  /** What each document was before the batch. */
  readonly undo: (() => void)[] = [];

  get saved(): Promise<Heads> {
    const saved = Promise.all([...this.parts.values()].map(edit => edit.saved)).then(heads => heads.flat());
    // Whoever does not await it has the space's `error` event.
    saved.catch(() => {});
    return saved;
  }

  /** Sends it. */
  post(): Commit {
    for (const [mirror, edit] of this.parts) mirror.post(edit);
    return { saved: this.saved };
  }

  /** Takes it back before it is sent. */
  takeBack(): void {
    for (const undo of this.undo.reverse()) undo();
  }
}

/** The mirror of one document, shared by every Doc of its path on the page. */
export class Mirror {
  root: Node = EMPTY;
  heads: Heads = [];
  deleted = false;
  users = 0;
  readonly events = new Emitter<AnyEvent>();
  readonly states = new Emitter<void>();
  /** The document is open with another host. */
  readonly moves = new Emitter<void>();
  readonly #unsaved = new Map<number, Unsaved>();
  readonly #saving = new Set<Promise<unknown>>();
  #seq = 0;
  #base = 0;
  /** What the next edit stands on. */
  #standing: Unsaved | Heads = [];
  /** What waits to be sent: a part of a batch until the other parts come first as well, and what is behind it. */
  #outbox: Unsaved[] = [];
  /** Counts hosts: what an earlier one has not answered is sent to the next. */
  #host = 0;
  /** There is no engine to keep in step with yet: at the start, and while another tab takes over. */
  #moving = true;
  /** A change that was told before the answer that opens the document. */
  #early: DocMessage | undefined;
  #pieces: Builder | undefined;
  #opened = false;

  private constructor(readonly home: Home, readonly path: Path, readonly id: number, readonly layers: Json) {}

  static async open(home: Home, path: Path, template: Template<never>): Promise<Mirror> {
    const mirror = new Mirror(home, path, home.number(), layers(template));
    home.follow(mirror);
    try {
      for (;;) {
        const host = mirror.#host;
        const first = await mirror.#open([]).catch((error: unknown) => {
          if (!hasMoved(error)) throw error;
        });
        // Another tab took over meanwhile, and has been asked since.
        if (!first || host !== mirror.#host) continue;
        mirror.#begin(first);
        mirror.#arrive();
        return mirror;
      }
    } catch (error) {
      home.unfollow(mirror);
      throw error;
    }
  }

  async #open(standings: { heads: Heads; seq: number }[]): Promise<First> {
    this.#early = undefined;
    this.#pieces = undefined;
    return (await this.home.engine.call({ do: 'open', space: this.home.id, path: this.path, layers: this.layers, doc: this.id, standings })) as unknown as First;
  }

  #begin(first: First): void {
    this.root = remark(first.inPieces ? (this.#pieces as Builder).finish() : decode(first.value), first.marks ?? []).root;
    this.heads = first.heads;
    this.#standing = first.heads;
    this.deleted = first.deleted;
  }

  /** The engine and this page are in step from here on. */
  #arrive(): void {
    this.#moving = false;
    this.#opened = true;
    this.#pieces = undefined;
    const early = this.#early;
    this.#early = undefined;
    if (early) this.hear(early);
  }

  /** A piece of the value that the answer to opening is about. */
  piece(piece: string): void {
    (this.#pieces ??= new Builder()).take(piece);
  }

  /** Another tab hosts the engine: goes on with it where this page stands. */
  async moved(): Promise<void> {
    const host = ++this.#host;
    this.#outbox = [];
    if (!this.#opened) {
      // Whoever opens it asks again, and what the former host sent is half of something.
      this.#early = this.#pieces = undefined;
      return;
    }
    this.#moving = true;
    const edits = [...this.#unsaved.values()];
    const [first] = edits;
    const standings = edits.map(edit => ({ heads: headsAfter(edit), seq: edit.seq })).reverse();
    standings.push({ heads: headsAfter(first ? first.before : this.#standing), seq: first ? first.seq - 1 : this.#seq });
    const known = standings.filter((standing): standing is { heads: Heads; seq: number } => standing.heads !== undefined);
    let answer: First;
    try {
      answer = await this.#open(known);
    } catch (error) {
      if (!hasMoved(error)) this.home.fail(fromEngine(error, this.path));
      return;
    }
    // Yet another host meanwhile.
    if (host !== this.#host) return;
    this.#base = 0;
    const standing = answer.standing === null ? undefined : known[answer.standing];
    if (standing) {
      for (const edit of edits) if (edit.seq <= standing.seq) this.#settle(edit, headsAfter(edit) ?? answer.heads);
      this.#arrive();
      for (const edit of [...this.#unsaved.values()]) this.post(edit);
    } else {
      // The former host told of what it had not stored yet, and that is gone.
      const previous = this.root;
      const gone = ForeshoreError.make('CLOSED', 'the tab that held this edit is gone', { path: this.path, retryable: true, hint: 'make it again' });
      for (const edit of [...this.#unsaved.values()]) this.#settle(edit, gone);
      this.#begin(answer);
      this.#arrive();
      this.#tell(previous, [{ action: 'put', at: [], value: snapshot(this.root) }], 'rollback');
    }
    this.moves.emit();
  }

  /** The engine has made an edit; it may not be stored yet. */
  made(seq: number, hash: string | null): void {
    const edit = this.#unsaved.get(seq);
    if (edit) edit.hash = hash;
  }

  close(): void {
    void this.home.engine.call({ do: 'closeDoc', doc: this.id }).catch(() => {});
  }

  get pending(): number {
    return this.#unsaved.size;
  }

  get seq(): number {
    return this.#seq;
  }

  /** An edit: applied here at once, and sent. */
  change<R>(edit: (draft: never) => R, check: (next: unknown) => void, options: ChangeOptions = {}): Commit {
    if (this.home.closed.aborted) throw ForeshoreError.make('CLOSED', 'the space is closed', { hint: 'open it again' });
    if (this.deleted) throw ForeshoreError.make('NOT_FOUND', `the document at ${this.path} was deleted`, { path: this.path, hint: 'open it again for its next life' });
    const { root, recorder } = run(this.root, edit);
    if (recorder.ops.length === 0) return { saved: Promise.resolve(this.heads) };
    check(snapshot(root));
    return this.#send(root, recorder.ops, recorder.patches, options);
  }

  #send(root: Node, ops: Op[], patches: readonly Patch[], options: ChangeOptions): Commit {
    const previous = this.root;
    const { together } = this.home;
    const begun = together?.parts.get(this);
    this.root = root;
    if (begun) {
      begun.ops.push(...ops);
      begun.message = options.message ?? begun.message;
      this.#tell(previous, patches, 'local', options.origin);
      return { saved: begun.saved };
    }
    const standing = this.#standing;
    let [resolve, reject] = [(_: Heads) => {}, (_: ForeshoreError) => {}];
    const saved = new Promise<Heads>((yes, no) => { [resolve, reject] = [yes, no]; });
    const edit: Unsaved = { seq: ++this.#seq, ops, message: options.message, before: standing, saved, together, resolve, reject };
    this.#unsaved.set(edit.seq, edit);
    this.#standing = edit;
    // Whoever does not await it has the space's `error` event.
    this.#saving.add(saved);
    saved.catch(() => {}).finally(() => this.#saving.delete(saved));
    if (together) {
      together.parts.set(this, edit);
      together.undo.push(() => this.#takeBack(edit, previous, standing));
    } else this.post(edit);
    this.states.emit();
    this.#tell(previous, patches, 'local', options.origin);
    return { saved };
  }

  /** The body of a batch failed: nothing of it was sent, and this page shows what it showed before. */
  #takeBack(edit: Unsaved, root: Node, standing: Unsaved | Heads): void {
    const shown = this.root;
    this.root = root;
    this.#standing = standing;
    this.#seq--;
    this.#settle(edit, ForeshoreError.make('ABORTED', 'the body of the batch failed', { path: this.path }));
    this.#tell(shown, [{ action: 'put', at: [], value: snapshot(root) }], 'rollback');
  }

  /** Sends an edit behind those before it. Without a host it is sent to the next. */
  post(edit: Unsaved): void {
    if (this.#moving) return;
    this.#outbox.push(edit);
    this.#flush();
  }

  #flush(): void {
    for (let edit = this.#outbox[0]; edit; edit = this.#outbox[0]) {
      const parts: [Mirror, Unsaved][] = edit.together ? [...edit.together.parts].filter(([mirror, part]) => mirror.#unsaved.has(part.seq)) : [[this, edit]];
      // A part whose document is not there yet sends them all when it is.
      if (!parts.every(([mirror, part]) => mirror.#outbox[0] === part)) return;
      for (const [mirror] of parts) mirror.#outbox.shift();
      this.#dispatch(parts, edit.together !== null);
      for (const [mirror] of parts) if (mirror !== this) mirror.#flush();
    }
  }

  #dispatch(parts: readonly [Mirror, Unsaved][], together: boolean): void {
    const host = this.#host;
    const edits = parts.map(([mirror, { seq, ops, message }]) => ({ doc: mirror.id, seq, base: mirror.#base, ops, message: message ?? null }));
    const asked = together
      ? this.home.engine.call({ do: 'batch', space: this.home.id, edits }).then(answer => answer as unknown as Heads[])
      : this.home.engine.call({ do: 'edit', ...(edits[0] as (typeof edits)[0]) }).then(answer => [(answer as unknown as { heads: Heads }).heads]);
    asked.then(
      heads => parts.forEach(([mirror, edit], i) => mirror.#settle(edit, heads[i] ?? [])),
      (reason: unknown) => {
        // What a host left unanswered goes to the next one.
        if (hasMoved(reason) || host !== this.#host) return;
        const error = fromEngine(reason, this.path);
        this.home.fail(error);
        for (const [mirror, edit] of parts) mirror.#settle(edit, error);
      },
    );
  }

  #settle(edit: Unsaved, outcome: Heads | ForeshoreError): void {
    if (this.#unsaved.get(edit.seq) !== edit) return;
    this.#unsaved.delete(edit.seq);
    if (outcome instanceof ForeshoreError) edit.reject(outcome);
    else edit.resolve(outcome);
    // Parts that wait for this one do no longer.
    if (edit.together) for (const mirror of edit.together.parts.keys()) mirror.#flush();
    this.states.emit();
    this.home.changed();
  }

  /** The engine tells what changed. */
  hear(message: DocMessage): void {
    if (this.#moving) {
      this.#early = message;
      return;
    }
    if (message.seq !== this.#seq) return;
    const previous = this.root;
    const deleted = message.deleted !== this.deleted;
    let patches: readonly Patch[];
    if (message.value !== undefined) {
      this.root = remark(decode(message.value), message.marks ?? []).root;
      patches = [{ action: 'put', at: [], value: snapshot(this.root) }];
    } else {
      try {
        // Of what this page has typed, the engine knows how it is marked.
        const exact = remark(this.root, message.marks ?? []);
        const next = apply(exact.root, message.patches ?? []);
        this.root = next.root;
        patches = [...exact.patches, ...next.patches];
      } catch (error) {
        if (!(error instanceof Misfit)) throw error;
        this.home.fail(ForeshoreError.make('CRASHED', `${this.path}: ${error.message}`, { hint: 'open the document again', path: this.path }));
        return;
      }
    }
    this.#base = message.id;
    this.heads = message.heads;
    this.#standing = message.heads;
    this.deleted = message.deleted;
    void this.home.engine.call({ do: 'ack', doc: this.id, id: message.id }).catch(() => {});
    if (patches.length > 0) this.#tell(previous, patches, message.value === undefined ? 'remote' : 'rollback');
    if (deleted || patches.length > 0) this.states.emit();
  }

  #tell(previous: Node, patches: readonly Patch[], source: AnyEvent['source'], origin?: unknown): void {
    const authors = source === 'local' ? [this.home.author] : [];
    const event: AnyEvent = { previous: snapshot(previous), value: snapshot(this.root), patches, source, authors, ...(origin === undefined ? {} : { origin }) } as AnyEvent;
    this.events.emit(event);
  }

  async flushed(): Promise<void> {
    while (this.#saving.size > 0) {
      const outcomes = await Promise.allSettled([...this.#saving]);
      const failed = outcomes.find(outcome => outcome.status === 'rejected');
      if (failed) throw failed.reason;
    }
  }
}

/** A page's Doc: counted, typed by its template. */
export class PageDoc<T> implements Doc<T> {
  readonly #mirror: Mirror;
  readonly #template: Template<T>;
  readonly #release: () => void;
  readonly #gone = new AbortController();

  constructor(mirror: Mirror, template: Template<T>, release: () => void) {
    this.#mirror = mirror;
    this.#template = template;
    this.#release = release;
  }

  get path(): Path {
    return this.#mirror.path;
  }

  get value(): Snapshot<T> {
    return snapshot(this.#mirror.root) as Snapshot<T>;
  }

  get heads(): Heads {
    return this.#mirror.heads;
  }

  get state(): DocState {
    const mirror = this.#mirror;
    return { exists: mirror.heads.length > 0 || mirror.seq > 0, deleted: mirror.deleted, canWrite: !mirror.deleted, pending: mirror.pending, issues: issues(this.#template as Template<never>, this.value) };
  }

  change<R>(edit: ((draft: Draft<T>) => R) & (R extends PromiseLike<unknown> ? never : unknown), options?: ChangeOptions): Commit {
    this.#alive();
    return this.#mirror.change(edit as (draft: never) => R, next => this.#check(next), options);
  }

  #check(next: unknown): void {
    const found = issues(this.#template as Template<never>, next);
    if (found.length > 0) throw invalid(found.join('; '), this.path);
  }

  #alive(): void {
    if (this.#gone.signal.aborted) throw ForeshoreError.make('CLOSED', `the document at ${this.path} was disposed`, { path: this.path, hint: 'open it again' });
  }

  #call(request: { do: string; [field: string]: unknown }, options?: Wait): Promise<Json> {
    this.#alive();
    const call = this.#mirror.home.engine.call({ ...request, doc: this.#mirror.id });
    return abortable(call, options?.signal);
  }

  #place(select: (draft: Draft<T>) => unknown): Place {
    const { result, place } = run(this.#mirror.root, select as (draft: never) => unknown);
    const found = placeOf(result);
    if (found) return found;
    return place;
  }

  text(select: (draft: Draft<T>) => SharedText): TextRef {
    this.#alive();
    const place = this.#place(select);
    if (place.base.kind !== 'text') throw invalid('text() selects a text', this.path);
    return new PageText(this.#mirror, place.at());
  }

  async conflicts(select: (draft: Draft<T>) => unknown): Promise<readonly { readonly value: unknown; readonly author: Author; readonly time: number }[]> {
    // The place itself is wanted, not what is in it: the last key that the selector reads.
    let at: At = [];
    const watch = (way: At): object => new Proxy({}, { get: (_, key) => (typeof key === 'string' ? watch((at = [...way, /^\d+$/.test(key) ? Number(key) : key])) : undefined) });
    select(watch([]) as Draft<T>);
    const found = (await this.#call({ do: 'conflicts', at })) as unknown as { value: Json; actor: string; time: number }[];
    return found.map(({ value, actor, time }) => ({ value: snapshot(decode(value)), author: { peer: actor, member: actor }, time }));
  }

  undoManager(options: { scope?: (draft: Draft<T>) => unknown; captureMs?: number } = {}): UndoManager {
    this.#alive();
    const scope = options.scope ? this.#place(options.scope).at() : [];
    return new PageUndo(this.#mirror, scope, options.captureMs ?? 500);
  }

  async *history(options: Wait & { limit?: number; before?: Heads } = {}): AsyncGenerator<{ heads: Heads; author: Author; time: number; message?: string }, void, undefined> {
    let before = options.before?.[0];
    for (let left = options.limit ?? Infinity; left > 0; ) {
      const page = (await this.#call({ do: 'history', before: before ?? null, limit: Math.min(left, 100) }, options)) as unknown as { heads: string[]; actor: string; time: number; message: string | null }[];
      if (page.length === 0) return;
      for (const { heads, actor, time, message } of page) {
        yield { heads, author: { peer: actor, member: actor }, time, ...(message === null ? {} : { message }) };
      }
      left -= page.length;
      before = page[page.length - 1]?.heads[0];
    }
  }

  async at(heads: Heads, options?: Wait): Promise<Snapshot<T>> {
    return snapshot(decode(await this.#call({ do: 'at', heads }, options))) as Snapshot<T>;
  }

  async diff(from: Heads, to: Heads, options?: Wait): Promise<readonly Patch[]> {
    const patches = (await this.#call({ do: 'diff', from, to }, options)) as unknown as WirePatch[];
    return patches.map(patch => {
      if (patch.action === 'put') return { ...patch, value: snapshot(decode(patch.value)) };
      if (patch.action === 'text') return { ...patch, marks: patch.marks.map(decoded) };
      return patch.action === 'insert' ? { ...patch, values: patch.values.map(value => snapshot(decode(value))) } : patch;
    });
  }

  subscribe(listener: (event: DocEvent<T>) => void): Unsubscribe {
    return this.#mirror.events.on(listener as (event: AnyEvent) => void);
  }

  onState(listener: () => void): Unsubscribe {
    return this.#mirror.states.on(listener);
  }

  watch(options?: Wait): AsyncIterableIterator<DocEvent<T>> {
    const merge = (before: AnyEvent, next: AnyEvent): AnyEvent => ({
      ...next,
      previous: before.previous,
      patches: [...before.patches, ...next.patches],
      authors: [...before.authors, ...next.authors.filter(author => !before.authors.some(a => a.peer === author.peer))],
    });
    return stream(this.#mirror.events, AbortSignal.any([this.#gone.signal, this.#mirror.home.closed]), merge, options) as AsyncIterableIterator<DocEvent<T>>;
  }

  flushed(options?: Wait): Promise<void> {
    return abortable(this.#mirror.flushed(), options?.signal);
  }

  async synced(options: Wait & { peers?: number } = {}): Promise<void> {
    await this.flushed(options);
    await this.#call({ do: 'synced', peers: options.peers ?? 1 }, options);
  }

  [DISPOSE](): void {
    if (this.#gone.signal.aborted) return;
    this.#gone.abort();
    this.#release();
  }
}

/** A text of a document, wherever it moves. */
class PageText implements TextRef {
  readonly #mirror: Mirror;
  #at: At | null;
  #last: string;
  readonly #events = new Emitter<Parameters<Parameters<TextRef['subscribe']>[0]>[0]>();
  readonly #stop: Unsubscribe;

  constructor(mirror: Mirror, at: At) {
    this.#mirror = mirror;
    this.#at = at;
    this.#last = this.#read();
    this.#stop = mirror.events.on(event => this.#hear(event));
  }

  get #node(): (Node & { kind: 'text' }) | null {
    const node = this.#at && find(this.#mirror.root, this.#at);
    return node?.kind === 'text' ? node : null;
  }

  #read(): string {
    return this.#node?.value ?? '';
  }

  get value(): string {
    return this.#read();
  }

  get spans(): TextRef['spans'] {
    return spansOf(this.#read(), this.#node?.marks ?? []);
  }

  #hear(event: AnyEvent): void {
    if (event.source === 'rollback') {
      const edit = difference(this.#last, this.#read());
      this.#last = this.#read();
      if (edit) this.#events.emit({ edits: [edit], marks: [], source: event.source });
      return;
    }
    for (const patch of event.patches) {
      if (!this.#at) return;
      const at = this.#at;
      if (patch.action === 'text' && patch.at.length === at.length && patch.at.every((step, i) => step === at[i])) {
        this.#events.emit({ edits: patch.edits, marks: patch.marks, source: event.source, ...(event.origin === undefined ? {} : { origin: event.origin }) });
      } else this.#at = follow(at, patch);
    }
    this.#last = this.#read();
  }

  #where(): At {
    if (this.#at) return this.#at;
    throw ForeshoreError.make('NOT_FOUND', 'the text has been deleted', { path: this.#mirror.path });
  }

  edit(edits: readonly TextEdit[], options?: ChangeOptions): Commit {
    const at = this.#where();
    const change = (root: unknown): void => {
      let here = root as never;
      for (const step of at) here = here[step];
      const place = placeOf(here);
      if (place) editText(place, edits);
    };
    return this.#mirror.change(change as (draft: never) => void, () => {}, options);
  }

  subscribe(listener: Parameters<TextRef['subscribe']>[0]): Unsubscribe {
    return this.#events.on(listener);
  }

  async cursor(index: number, side: 'before' | 'after' = 'after'): Promise<Cursor> {
    return String(await this.#mirror.home.engine.call({ do: 'cursor', doc: this.#mirror.id, at: this.#where(), index, before: side === 'before' }));
  }

  async locate(cursors: readonly Cursor[]): Promise<readonly (number | null)[]> {
    for (;;) {
      const seen = this.#mirror.root;
      const found = await this.#mirror.home.engine.call({ do: 'locate', doc: this.#mirror.id, at: this.#where(), cursors });
      // The answer is about what the page showed when it asked.
      if (this.#mirror.root === seen) return found as (number | null)[];
    }
  }

  [DISPOSE](): void {
    this.#stop();
  }
}

class PageUndo implements UndoManager {
  readonly #mirror: Mirror;
  readonly #id: number;
  readonly #changes = new Emitter<void>();
  readonly #stop: Unsubscribe;
  readonly #ready: Promise<unknown>;
  canUndo = false;
  canRedo = false;

  constructor(mirror: Mirror, scope: At, capture: number) {
    this.#mirror = mirror;
    this.#id = mirror.home.number();
    const begin = () => this.#call({ do: 'undoManager', doc: mirror.id, scope, capture });
    this.#ready = begin();
    // Another host knows nothing of former steps.
    const follow = mirror.moves.on(() => void begin().catch(() => {}));
    const hear = mirror.events.on(event => {
      if (event.source !== 'local') return;
      this.canUndo = true;
      this.canRedo = false;
      this.#changes.emit();
    });
    this.#stop = unsubscribe(() => (hear(), follow()));
  }

  async #call(request: { do: string; [field: string]: unknown }): Promise<boolean> {
    const state = (await this.#mirror.home.engine.call({ ...request, undo: this.#id })) as { did: boolean; canUndo: boolean; canRedo: boolean } | null;
    if (!state) return false;
    [this.canUndo, this.canRedo] = [state.canUndo, state.canRedo];
    this.#changes.emit();
    return state.did;
  }

  async undo(): Promise<boolean> {
    await this.#ready;
    await this.#mirror.flushed();
    return this.#call({ do: 'undo', redo: false });
  }

  async redo(): Promise<boolean> {
    await this.#ready;
    await this.#mirror.flushed();
    return this.#call({ do: 'undo', redo: true });
  }

  boundary(): void {
    void this.#call({ do: 'undoBoundary' }).catch(() => {});
  }

  subscribe(listener: () => void): Unsubscribe {
    return this.#changes.on(listener);
  }

  [DISPOSE](): void {
    this.#stop();
    void this.#call({ do: 'undoClose' }).catch(() => {});
  }
}
