// The package without a browser: what a program may say, and what it is told.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { between, counter, createSpace, ForeshoreError, openSpace, parseInvitation, template, text } from '../dist/node.js';

const memory = { engine: 'inline', storage: 'memory' };

async function opened(t, initial = { title: '', body: text(), votes: counter(), items: [] }) {
  const space = await openSpace(memory);
  t.after(() => space.close());
  const doc = await space.document('/doc', template(initial));
  return { space, doc };
}

const refused = async (code, act) => {
  const error = await (async () => act())().then(() => null, error => error);
  assert.ok(ForeshoreError.is(error, code), `${code}, not ${error?.code}: ${error?.message}`);
  return error;
};

test('an edit shows at once and is one change, and its patches lead to what is shown', async t => {
  const { doc } = await opened(t);
  const events = [];
  doc.subscribe(event => events.push(event));
  const before = doc.value;
  const kept = before.items;
  const commit = doc.change(d => { d.title = 'x'; d.body.splice(0, 0, 'hello'); d.votes.add(2); });
  assert.equal(doc.value.title, 'x');
  assert.equal(doc.value.items, kept, 'what did not change is the same object');
  assert.equal(before.title, '', 'a snapshot stays as it was');
  const heads = await commit.saved;
  await doc.flushed();
  assert.equal(heads.length, 1);
  assert.equal(events.length, 1);
  assert.deepEqual([events[0].source, events[0].previous === before, events[0].value === doc.value], ['local', true, true]);
  let changes = 0;
  for await (const _ of doc.history()) changes++;
  assert.ok(changes >= 1);
});

test('a draft object stands for the object, wherever it moves', async t => {
  const { doc } = await opened(t);
  doc.change(d => { d.items.push({ n: 1 }, { n: 2 }, { n: 3 }); });
  doc.change(d => {
    const last = d.items.find(item => item.n === 3);
    d.items.shift();
    last.n = 30;
    d.items.unshift({ n: 0 });
    last.seen = true;
  });
  assert.deepEqual(doc.value.items, [{ n: 0 }, { n: 2 }, { n: 30, seen: true }]);
  await doc.flushed();
  assert.deepEqual((await doc.at(doc.heads)).items, doc.value.items, 'the engine made the same of it');
});

test('an edit that throws leaves nothing behind, and its draft is dead', async t => {
  const { doc } = await opened(t);
  let escaped;
  assert.throws(() => doc.change(d => { d.title = 'half'; escaped = d; throw new Error('no'); }), /no/);
  assert.equal(doc.value.title, '');
  await refused('INVALID', () => { escaped.title = 'late'; });
});

test('what cannot be stored is refused with a code and does nothing', async t => {
  const { doc, space } = await opened(t);
  for (const value of [() => 1, 1n, Symbol('x'), undefined, new Map(), new Date(NaN), '\ud800']) {
    await refused('INVALID', () => doc.change(d => { d.title = value; }));
  }
  await refused('TOO_LARGE', () => doc.change(d => { d.title = new Uint8Array(65 * 1024); }));
  await refused('INVALID', () => doc.change(d => { d.items = []; }));
  await refused('INVALID', () => doc.change(d => { d.body = 'x'; }));
  await refused('INVALID', () => space.document('no/slash', template({})));
  await refused('INVALID', () => space.document('/a/../b', template({})));
  await refused('INVALID', () => template({ f: () => 1 }));
  await refused('INVALID', () => template({ a: 1 }).extend({ a: 2 }));
  await refused('INVALID', () => openSpace({ ...memory, peers: ['http://x'] }));
  await refused('INVALID', () => openSpace({ ...memory, space: 'fsi1qqqq' }));
  await refused('NOT_A_MEMBER', () => openSpace({ ...memory, space: space.id }));
  assert.equal(doc.value.title, '');
});

test('values come back as they were stored', async t => {
  const { doc } = await opened(t);
  const value = { d: new Date(1e12), b: Uint8Array.of(1, 255), f: 0.5, big: 2 ** 60, n: null, t: true, nan: NaN, inf: -Infinity, deep: [[{ a: [] }]], $x: 1, one: { $text: 'no text' }, __proto__: undefined };
  doc.change(d => { d.items.push(value); });
  await doc.flushed();
  const { value: back } = await (async () => ({ value: (await doc.at(doc.heads)).items[0] }))();
  delete value.__proto__;
  assert.deepEqual(back, { ...value });
  assert.deepEqual(doc.value.items[0], back);
});

test('text takes UTF-16 indexes, marks and the smallest update', async t => {
  const { doc } = await opened(t, { body: text('a😀b') });
  const patches = [];
  doc.subscribe(event => patches.push(...event.patches));
  doc.change(d => { d.body.splice(2, 0, 'x'); });
  assert.equal(doc.value.body, 'a😀xb', 'inside a pair means its end');
  doc.change(d => { d.body.update('a😀xcb'); });
  assert.deepEqual(patches[1].edits, [{ from: 4, to: 4, insert: 'c' }]);
  await doc.flushed();
  assert.equal((await doc.at(doc.heads)).body, 'a😀xcb');
  const ref = doc.text(d => d.body);
  const cursor = await ref.cursor(4);
  ref.edit([{ from: 0, to: 1, insert: '' }, { from: 5, to: 6, insert: '!!' }]);
  assert.equal(ref.value, '😀xc!!');
  assert.deepEqual(await ref.locate([cursor]), [3]);
});

test('undo takes back one\'s own edits', async t => {
  const { doc } = await opened(t);
  const undo = doc.undoManager();
  await doc.flushed();
  doc.change(d => { d.title = 'one'; });
  assert.equal(await undo.undo(), true);
  for (let n = 0; n < 100 && doc.value.title !== ''; n++) await new Promise(resolve => setTimeout(resolve, 10));
  assert.equal(doc.value.title, '');
  assert.equal(undo.canRedo, true);
});

test('a schema refuses a local edit', async t => {
  const { space } = await opened(t);
  const short = { '~standard': { version: 1, vendor: 'test', validate: value => (value.name.length > 3 ? { issues: [{ message: 'too long' }] } : { value }) } };
  const doc = await space.document('/short', template({ name: '' }).validate(short));
  await refused('INVALID', () => doc.change(d => { d.name = 'long name'; }));
  doc.change(d => { d.name = 'ok'; });
  assert.deepEqual([doc.value.name, doc.state.issues], ['ok', []]);
});

test('a deleted document is told, and the path has a next life', async t => {
  const { space, doc } = await opened(t);
  doc.change(d => { d.title = 'old'; });
  await space.remove('/doc');
  for (let n = 0; n < 200 && !doc.state.deleted; n++) await new Promise(resolve => setTimeout(resolve, 10));
  assert.equal(doc.state.deleted, true);
  await refused('NOT_FOUND', () => doc.change(d => { d.title = 'late'; }));
  const next = await space.document('/doc', template({ title: 'fresh' }));
  assert.equal(next.value.title, 'fresh');
  await refused('NOT_FOUND', () => space.remove('/nothing'));
});

test('a signal gives up, a closed space says so, and strong state says what it lacks', async t => {
  const { space, doc } = await opened(t);
  // Node waits neither for a signal's timer nor for an engine without peers.
  const alive = setInterval(() => {}, 1000);
  t.after(() => clearInterval(alive));
  const gone = AbortSignal.abort(new Error('enough'));
  const error = await refused('ABORTED', () => doc.synced({ signal: gone }));
  assert.deepEqual([error.name, error.cause.message], ['AbortError', 'enough']);
  await refused('TIMEOUT', () => doc.synced({ signal: AbortSignal.timeout(20) }));
  await refused('ABORTED', () => openSpace({ ...memory, signal: gone }));
  await refused('NO_QUORUM', () => space.locks.request('/x', () => 1));
  await refused('NO_QUORUM', () => space.elections.lead('/x', () => 1));
  await refused('NO_QUORUM', () => space.tree.get('/x'));
  await refused('INVALID', () => space.revoke('x'));
  await space.close();
  assert.equal(space.closed.aborted, true);
  await refused('CLOSED', () => space.list('/'));
  await refused('CLOSED', () => doc.change(d => { d.title = 'late'; }));
  await space.close();
});

test('an invitation is read without an engine, and joins', async t => {
  const { space } = await opened(t);
  const expires = new Date(Date.now() + 3600_000);
  const invitation = await space.invite({ role: 'writer', expires });
  assert.deepEqual(parseInvitation(invitation), { space: space.id, role: 'writer', expires });
  assert.equal(parseInvitation((await space.invite({ role: 'reader' })).toUpperCase()).role, 'reader');
  for (const none of ['', 'fsi1', 'fs1qqqq', invitation.slice(0, 40), 'x'.repeat(100_000)]) assert.equal(parseInvitation(none), null);
  const joined = await openSpace({ ...memory, space: invitation });
  t.after(() => joined.close());
  assert.deepEqual([joined.id, joined.me.role], [space.id, 'writer']);
  const own = await createSpace(memory);
  t.after(() => own.close());
  assert.notEqual(own.id, space.id);
});

test('keys between keys sort between them', () => {
  let keys = [between(null, null)];
  for (let n = 0; n < 2000; n++) {
    const at = (n * 7919) % (keys.length + 1);
    keys.splice(at, 0, between(keys[at - 1] ?? null, keys[at] ?? null));
  }
  assert.deepEqual(keys, [...keys].sort());
  assert.equal(new Set(keys).size, keys.length);
  assert.throws(() => between('b', 'a'), error => ForeshoreError.is(error, 'INVALID'));
});

test('a large value comes in pieces, each of them small, and is the same put together', async () => {
  const { Builder, PIECE, pieces } = await import('../dist/slices.js');
  const { decode, encode, snapshot } = await import('../dist/values.js');
  const long = 'x😀'.repeat(PIECE);
  const rows = Array.from({ length: 5000 }, (_, n) => ({ n, title: `row ${n}`, tags: ['a', { $counter: n }], body: { $text: `body ${n}` } }));
  const byKey = Object.fromEntries(Array.from({ length: 3000 }, (_, n) => [`key ${String(n).padStart(4, '0')}`, { at: { $time: n }, long: 'y'.repeat(50) }]));
  const unsorted = Object.fromEntries(Array.from({ length: 3000 }, (_, n) => [`${(n * 7919) % 3000}`, 'z'.repeat(40)]));
  const hostile = Object.defineProperty({ $$text: rows.slice(0, 900) }, '$$text', { enumerable: true });
  const proto = JSON.parse(`{"__proto__":${JSON.stringify(rows.slice(0, 900))},"a":1}`);
  for (const value of [null, 5, [], {}, 'short', long, { $text: long }, { rows, byKey, unsorted, long: { $text: long } }, hostile, proto, [[rows], [[byKey]]], { $bytes: btoa('b'.repeat(60_000)) }]) {
    const builder = new Builder();
    let count = 0;
    for (const piece of pieces(value)) {
      count++;
      builder.take(piece);
      assert.ok(piece.length < 4 * PIECE || value === long || value?.$bytes, `${piece.length} characters`);
    }
    const [node, plain] = [builder.finish(), decode(value)];
    assert.deepEqual(encode(node), encode(plain));
    assert.deepEqual(snapshot(node), snapshot(plain));
    assert.deepEqual(Object.keys(snapshot(node) ?? {}), Object.keys(snapshot(plain) ?? {}), 'in the same order');
    if (value === hostile) assert.ok(count > 1);
  }
});
