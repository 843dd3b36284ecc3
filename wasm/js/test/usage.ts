// How the face is meant to feel, as a type test: every line here must compile, every @ts-expect-error must be one.
import { openSpace, createSpace, template, text, counter, fenced, between, ForeshoreError, parseInvitation, type Doc, type Space, type SharedText, type SharedCounter, type Fenced, type Snapshot, type TextRef, type HeldLock, type StorageAdapter } from '../src/index.js';
import * as z from 'zod';
import * as v from 'valibot';
import { EditorView, ViewPlugin, type ViewUpdate } from '@codemirror/view';
import { Annotation } from '@codemirror/state';
import type { useSyncExternalStore as USES } from 'react';

// todo list
interface Todo { id: string; title: string; done: boolean; due?: Date; order: string; notes: SharedText }
interface Todos { title: string; items: Todo[]; votes: SharedCounter; tags?: string[]; byId: Record<string, Todo>; status: 'open' | 'closed' | null }
const todos = template<Todos>({ title: 'Groceries', items: [], votes: counter(), byId: {}, status: null });
export async function todo() {
  await using space = await openSpace();
  using list = await space.document('/lists/food', todos);
  list.change(d => {
    d.title = 'x'; d.status = 'closed'; d.votes.add(1);
    d.items.push({ id: '1', title: 'milk', done: false, order: between(null, null), notes: text('') });
    const i = d.items.find(t => t.id === '1'); if (i) { i.done = true; i.notes.splice(0, 0, 'hi'); }
    d.byId['a'] = { id: 'a', title: '', done: false, order: 'x', notes: text('n') }; delete d.byId['a'];
    d.tags = []; d.tags.push('a'); delete d.tags;
    const at = d.items.findIndex(t => t.done); d.items.splice(at, 1);
    for (const t of d.items) t.done = true;
    // @ts-expect-error lists are edited in place
    d.items = d.items.filter(t => !t.done);
    // @ts-expect-error so is text
    i!.notes = 'x';
    // @ts-expect-error and counters
    d.votes = 3;
    // @ts-expect-error a sort is a rewrite
    d.items.sort();
  });
  const notes: string = list.value.items[0]!.notes; const n: number = list.value.votes; const due: Date | undefined = list.value.items[0]!.due;
  // @ts-expect-error snapshots are readonly
  list.value.items.push({});
  // @ts-expect-error snapshots are readonly
  list.value.title = '';
  await list.flushed(); return [notes, n, due];
}
// @ts-expect-error functions cannot be stored
template({ f: () => 1 });
// @ts-expect-error maps neither
template({ m: new Map<string, string>() });
// @ts-expect-error bigint neither
template({ b: 1n });
export const v2 = todos.extend({ archived: [] as string[] });
// @ts-expect-error a layer adds new root keys only
todos.extend({ title: 'again' });
export async function use2(s: Space) { const d = await s.document('/x', v2); d.change(x => { x.archived.push('1'); x.title = 'y'; }); return d.value.archived.length + d.value.items.length; }

// schema
const Z = z.object({ title: z.string(), n: z.number().default(0), tags: z.array(z.string()) });
export const zt = template({ title: '', n: 0, tags: [] as string[] }).validate(Z);
export const vt = template({ title: '' }).validate(v.object({ title: v.string() }));
// @ts-expect-error wrong schema
template({ title: 1 }).validate(v.object({ title: v.string() }));

// CodeMirror
const remote = Annotation.define<boolean>();
export const collab = (ref: TextRef) => ViewPlugin.fromClass(class {
  stop: () => void;
  constructor(view: EditorView) { this.stop = ref.subscribe(e => { if (e.origin !== this) view.dispatch({ changes: e.edits as { from: number; to: number; insert: string }[], annotations: remote.of(true) }); }); }
  update(u: ViewUpdate) {
    if (!u.docChanged || u.transactions.every(t => t.annotation(remote))) return;
    const edits: { from: number; to: number; insert: string }[] = [];
    u.changes.iterChanges((from, to, _f, _t, ins) => edits.push({ from, to, insert: ins.toString() }));
    ref.edit(edits, { origin: this });
  }
  destroy() { this.stop(); }
});
export async function editor(space: Space) {
  const note = await space.document('/note', template({ body: text() }));
  const ref = note.text(d => d.body);
  const view = new EditorView({ doc: ref.value, extensions: [collab(ref)] });
  const carets = space.presence('/note', { name: 'Ann', at: '' });
  carets.set({ at: await ref.cursor(view.state.selection.main.head) });
  carets.subscribe(async () => { const p = await ref.locate(carets.others.map(o => o.value.at)); console.log(p); });
  using undo = note.undoManager({ scope: d => d.body }); await undo.undo();
}
// offline banner, errors
export async function banner(space: Space, el: HTMLElement) {
  space.on('status', s => { el.hidden = s.network === 'online'; el.textContent = `${s.pendingChanges} changes wait`; });
  space.on('error', e => { switch (e.code) { case 'QUOTA': alert(e.hint); break; default: console.error(e); } });
  try { await space.locks.request('/x', { signal: AbortSignal.timeout(1000) }, () => 1); }
  catch (e) { if (ForeshoreError.is(e, 'NO_QUORUM')) return; if (ForeshoreError.is(e)) console.log(e.retryable, e.hint); throw e; }
}
// locks
export async function cron(space: Space, cond: boolean) {
  await space.locks.request('/cron/nightly', { ifAvailable: true }, async lock => { if (!lock) return; await fetch('/db', { method: 'POST', signal: lock.signal, body: JSON.stringify({ fence: lock.token }) }); });
  const o = { ifAvailable: true };
  // @ts-expect-error may be null
  await space.locks.request('/cron', o, lock => lock.token);
  // @ts-expect-error may be null
  await space.locks.request('/cron', { ifAvailable: cond }, lock => lock.token);
  const t: number = await space.locks.request('/cron', lock => lock.token);
  const u: number = await space.locks.request('/cron', { leaseMs: 1 }, async lock => lock.token);
  await using h = await space.locks.acquire('/cron'); const m = await space.locks.tryAcquire('/cron'); await m?.release();
  return t + u + h.token;
}
export async function strong(space: Space) {
  const { held, waiting } = await space.locks.query('/cron'); const seen = space.elections.observe('/leader'); const name: string | undefined = seen.leader?.value;
  await space.locks.acquire('/cron', { mode: 'shared', deadlineMs: 100, delayMs: 10, leaseMs: 2000 });
  const { path, stat } = await space.tree.create('/a/b', new Uint8Array(), { parents: true, ttlMs: 1000 });
  for await (const { type, zxid } of space.tree.watch('/a', { recursive: true })) if (type === 'resync') return zxid;
  const job = await space.queue('/jobs').take({ visibilityMs: 1000 }); await job.ack();
  // @ts-expect-error data is bytes
  await space.tree.set('/a', 'text');
  return [held[0]?.owner.peer, waiting, name, path, stat.version];
}
export async function leader(space: Space, signal: AbortSignal) {
  const work = async (term: HeldLock) => { while (!term.signal.aborted) { /* … */ } };
  await space.elections.lead('/leader', work, { signal });
}
// 10k documents
export async function pages(space: Space) {
  for (let after: { items: readonly { path: `/${string}` }[]; next: `/${string}` | null } | null = await space.list('/cards', { limit: 100 }); after; after = after.next ? await space.list('/cards', { limit: 100, after: after.next }) : null)
    for (const d of after.items) console.log(d.path);
  using c = await space.collection('/cards', template({ title: '' }), { limit: 50 }); await c.more(); return c.items.map(i => i.value.title);
}
// React
declare const useSyncExternalStore: typeof USES;
export function useDoc<T>(doc: Doc<T>, initial: Snapshot<T> = todos.initial as never): Snapshot<T> { return useSyncExternalStore(f => doc.subscribe(f), () => doc.value, () => initial); }
// batch, join, grant, adapters
export async function rest(a: StorageAdapter, space: Space, x: Doc<Todos>, y: Doc<Todos>) {
  const c = space.batch(() => { x.change(d => { d.items.pop(); }); y.change(d => { d.title = ''; }); }); await c.saved;
  await openSpace({ space: 'inv', grant: async r => (await fetch(`/grant?k=${r.subject}`)).text() });
  await openSpace({ engine: 'inline', storage: a, wasm: await WebAssembly.compile(new Uint8Array()) });
  // @ts-expect-error an adapter cannot cross into a worker
  await openSpace({ engine: 'worker', storage: a });
  // @ts-expect-error nor by default
  await openSpace({ storage: a });
  await openSpace({ worker: () => new Worker(new URL('./w.js', import.meta.url), { type: 'module' }) });
  const s = await createSpace(); parseInvitation(await s.invite({ role: 'writer' }))?.role;
  const services = await space.soft<{ url: string }>('/services'); services.set('api', { url: 'x' }); for (const e of services.entries('api')) e.value.url;
  // @ts-expect-error not a path
  await space.remove('lists');
  for await (const e of x.watch()) { for (const p of e.patches) if (p.action === 'text') p.edits; break; }
}
export async function guard(x: Doc<Todos>) {
  // @ts-expect-error an async edit does not compile
  x.change(async d => { d.title = 'x'; });
  x.change(d => d.items.push({ id: '1', title: 'm', done: false, order: 'a', notes: text() })); x.change(d => { d.title = 'y'; }, { origin: 1 });
}
// fenced register
interface Job { title: string; last: Fenced<string> }
export async function fencedJob(space: Space) {
  const job = await space.document('/job', template<Job>({ title: '', last: fenced('') }));
  await space.locks.request('/job', lock => { job.change(d => { d.last.set(lock, 'done'); d.title = 'x'; }); });
  // @ts-expect-error only a holder sets it
  job.change(d => { d.last = fenced('z'); });
  const last: string = job.value.last; return last;
}
