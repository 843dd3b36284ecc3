// Parts of the face that stand on their own: batches, fenced registers, copies, a program's own storage, revocation.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { counter, createSpace, fenced, ForeshoreError, openSpace, template, text } from '../dist/node.js';
import { PageSpace } from '../dist/space.js';
import { memoryNetwork } from '../dist/testing.js';

const memory = { engine: 'inline', storage: 'memory' };

async function opened(t, options = memory) {
  const space = await openSpace(options);
  t.after(() => space.close());
  return space;
}

function network(t) {
  const net = memoryNetwork();
  const alive = setInterval(() => {}, 1000);
  t.after(async () => { await net.close(); clearInterval(alive); });
  return net;
}

async function until(what, reached) {
  for (const end = Date.now() + 60_000; ; ) {
    const value = await reached();
    if (value) return value;
    assert.ok(Date.now() < end, `waited in vain until ${what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

const refused = async (code, act) => {
  const error = await (async () => act())().then(() => null, error => error);
  assert.ok(ForeshoreError.is(error, code), `${code}, not ${error?.code}: ${error?.message}`);
  return error;
};

// ── status ──

test('a space that is handed out has a status, even if that was being asked for already', async () => {
  const answers = {
    members: () => [],
    status: () => new Promise(resolve => setImmediate(resolve, { pending: 2, root: null, quorum: 'none', links: [], offline: false })),
  };
  let asked = 0;
  const engine = {
    me: { peer: '', device: '' }, role: 'guest-tab', close: async () => {},
    call: async request => { asked += Number(request.do === 'status'); return answers[request.do](); },
  };
  const space = new PageSpace(engine, 'fs1', 'memory', true);
  space.hear({ event: 'status' });
  await space.ready([]);
  assert.deepEqual([space.status.role, space.status.pendingChanges], ['guest-tab', 2]);
  // What was heard while it was being asked for is one more question, however often.
  space.hear({ event: 'status' });
  space.hear({ event: 'status' });
  await until('it was asked for again', () => asked === 3);
  await new Promise(resolve => setImmediate(resolve));
  assert.equal(asked, 3);
});

// ── batches ──

const stock = template({ n: counter(10), log: [] });

test('a batch is one durable unit, and one change of each document', async t => {
  const space = await opened(t);
  const [from, to] = [await space.document('/stock/a', stock), await space.document('/stock/b', stock)];
  const errors = [];
  space.on('error', error => errors.push(error));
  from.change(d => { d.log.push('before'); });
  const commit = space.batch(() => {
    from.change(d => { d.n.add(-3); });
    from.change(d => { d.log.push('out'); });
    to.change(d => { d.n.add(3); });
    space.batch(() => to.change(d => { d.log.push('in'); }));
  });
  from.change(d => { d.log.push('after'); });
  assert.deepEqual([from.value.n, to.value.n], [7, 13], 'it shows at once');
  const heads = await commit.saved;
  assert.equal(heads.length, 2);
  await from.flushed();
  assert.deepEqual(await from.at(from.heads), { n: 7, log: ['before', 'out', 'after'] }, 'the engine made the same of it');
  assert.deepEqual(await to.at(heads.slice(1)), { n: 13, log: ['in'] });
  let changes = 0;
  for await (const change of to.history()) changes += change.heads[0] === heads[1] ? 1 : 0;
  assert.equal(changes, 1);
  assert.deepEqual(errors, []);
  assert.deepEqual(await space.batch(() => {}).saved, []);
});

test('a batch whose body fails leaves nothing behind, on any document', async t => {
  const space = await opened(t);
  const [from, to] = [await space.document('/stock/a', stock), await space.document('/stock/b', stock)];
  const sources = [];
  from.subscribe(event => sources.push(event.source));
  const before = [from.value, to.value];
  let inner;
  assert.throws(() => space.batch(() => {
    inner = from.change(d => { d.n.add(-3); });
    to.change(d => { d.n.add(3); });
    throw new Error('no');
  }), /no/);
  await refused('ABORTED', () => inner.saved);
  await refused('INVALID', () => space.batch(async () => {}));
  assert.deepEqual([from.value, to.value], before);
  assert.deepEqual(sources, ['local', 'rollback']);
  from.change(d => { d.n.add(1); });
  await from.flushed();
  assert.equal((await from.at(from.heads)).n, 11, 'it goes on from there');
});

test('a batch that the engine refuses is taken back on all its documents', async t => {
  const space = await opened(t);
  const [small, large] = [await space.document('/small', template({ n: 0 })), await space.document('/large', template({ n: 0 }))];
  space.on('error', () => {});
  const commit = space.batch(() => {
    small.change(d => { d.n = 1; });
    // More steps than one edit has: only the engine counts them.
    large.change(d => { for (let n = 1; n <= 100_001; n++) d.n = n; });
  });
  assert.equal(small.value.n, 1);
  await refused('TOO_LARGE', () => commit.saved);
  await until('both are back', () => small.value.n === 0 && large.value.n === 0);
  small.change(d => { d.n = 2; });
  await small.flushed();
  assert.equal((await small.at(small.heads)).n, 2);
});

// ── fenced registers ──

test('a fenced register takes what the newest holder writes, and refuses an older one', async t => {
  const net = network(t);
  const voters = [];
  for (let n = 0; n < 3; n++) voters.push(await net.open({ votes: true }));
  await until('one leads', () => net.leader());
  const [ann, ben] = [await net.open(), await net.open()];
  const owned = template({ owner: fenced('nobody'), other: text() });
  const [hers, his] = [await ann.document('/owned', owned), await ben.document('/owned', owned)];
  assert.equal(hers.value.owner, 'nobody');
  const first = await ann.locks.acquire('/lock');
  hers.change(d => { assert.equal(d.owner.token, 0); d.owner.set(first, 'ann'); assert.equal(d.owner.value, 'ann'); });
  await hers.flushed();
  await net.settled();
  assert.equal(his.value.owner, 'ann');
  // A holder that does not know that it was replaced writes on.
  const stale = { path: first.path, mode: first.mode, token: first.token, signal: new AbortController().signal };
  await first.release();
  const second = await ben.locks.acquire('/lock');
  assert.ok(second.token > stale.token);
  await net.cut(ann, ben);
  for (const voter of voters) { await net.cut(ann, voter).catch(() => {}); }
  hers.change(d => d.owner.set(stale, 'ann, late'));
  his.change(d => d.owner.set(second, 'ben'));
  assert.equal(hers.value.owner, 'ann, late', 'alone it knows no better');
  await net.heal(ann, ben);
  await net.settled();
  assert.deepEqual([hers.value.owner, his.value.owner], ['ben', 'ben'], 'the greater token wins on every page');
  assert.deepEqual([(await ann.read('/owned', owned)).owner, (await hers.at(hers.heads)).owner], ['ben', 'ben']);
  await refused('FENCED', () => hers.change(d => d.owner.set(stale, 'ann, again')));
  await refused('INVALID', () => hers.change(d => { d.owner = 'without a lock'; }));
  await refused('INVALID', () => his.change(d => d.owner.set(second, { not: 'a single value' })));
  const lost = { ...stale, token: second.token + 1, signal: AbortSignal.abort() };
  await refused('LEASE_LOST', () => hers.change(d => d.owner.set(lost, 'ann, whose lease ran out')));
  assert.equal(hers.value.owner, 'ben');
});

// ── copies ──

test('a copy of a space is a stream, and is taken in by another device of it', async t => {
  const space = await opened(t);
  for (let n = 0; n < 300; n++) await (await space.document(`/docs/${n}`, template({ n: 0 }))).change(d => { d.n = n + 1; }).saved;
  const chunks = [];
  for await (const chunk of space.export()) chunks.push(chunk);
  const copy = Buffer.concat(chunks);
  assert.match(copy.subarray(0, 128).toString(), new RegExp(`^foreshore export 1 ${space.id}\n`));
  assert.ok(chunks.length > 2, 'it comes in pieces');

  const other = await opened(t, { ...memory, space: await space.invite({ role: 'writer' }) });
  const stream = (...parts) => new ReadableStream({ start(controller) { parts.forEach(part => controller.enqueue(part)); controller.close(); } });
  await refused('INVALID', () => other.import(stream(copy.subarray(0, copy.length - 40))));
  const damaged = Buffer.from(copy);
  damaged[copy.length - 1] ^= 1;
  await refused('INVALID', () => other.import(stream(damaged)));
  await refused('INVALID', () => other.import(stream(Buffer.from('<html>'))));
  await other.import(stream(copy.subarray(0, 1000), copy.subarray(1000)));
  assert.equal((await other.list('/docs', { limit: 1000 })).items.length, 300);
  assert.equal((await other.read('/docs/123', template({ n: 0 }))).n, 124);
  const stranger = await createSpace(memory);
  t.after(() => stranger.close());
  await refused('INVALID', () => stranger.import(stream(copy)));
});

// ── a program's own storage ──

class Box {
  constructor(rows = new Map()) { this.rows = rows; this.full = false; this.writes = 0; }
  async read(keys) { return keys.map(key => this.rows.get(key) ?? null); }
  async *list(prefix) { for (const [key, value] of this.rows) if (key.startsWith(prefix)) yield [key, value.length]; }
  async write(batch, durability) {
    if (this.full) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
    assert.equal(durability, 'strict');
    this.writes++;
    for (const [key, value] of batch) { if (value === null) this.rows.delete(key); else this.rows.set(key, value.slice()); }
  }
  async close() { this.closed = true; }
}

test('a storage adapter keeps a space, which is there when it is opened again', async t => {
  const box = new Box(new Map([['unrelated', new Uint8Array(3)]]));
  const first = await openSpace({ engine: 'inline', storage: box });
  const doc = await first.document('/doc', template({ body: text() }));
  for (let n = 0; n < 30; n++) await doc.change(d => d.body.splice(d.body.length, 0, `${n} `)).saved;
  await (await first.document('/gone', template({ n: 1 }))).change(d => { d.n = 2; }).saved;
  await first.remove('/gone');
  const { kind, usage } = await first.storage();
  assert.equal(kind, 'adapter');
  assert.ok(usage > 100, `${usage} bytes`);
  const { id } = first;
  await first.close();
  assert.ok(box.closed && box.rows.has('unrelated'));

  const again = await opened(t, { engine: 'inline', storage: new Box(box.rows) });
  assert.equal(again.id, id);
  const body = (await again.read('/doc', template({ body: text() }))).body;
  assert.equal(body, [...Array(30).keys()].map(n => `${n} `).join(''));
  assert.deepEqual((await again.list('/')).items.map(item => item.path), ['/doc']);
});

test('an adapter that is full is told as that, and the space goes on when it is not', async t => {
  const box = new Box();
  const space = await opened(t, { engine: 'inline', storage: box });
  const codes = [];
  space.on('error', error => codes.push(error.code));
  const doc = await space.document('/doc', template({ n: 0 }));
  box.full = true;
  const commit = doc.change(d => { d.n = 1; });
  await until('the page is told', () => codes.includes('QUOTA'));
  assert.deepEqual([doc.value.n, doc.state.pending], [1, 1], 'it is shown, and not stored');
  box.full = false;
  await commit.saved;
  assert.deepEqual([(await doc.at(doc.heads)).n, doc.state.pending], [1, 0]);
  await refused('INVALID', () => openSpace({ storage: box }));
  await refused('INVALID', () => openSpace({ engine: 'inline', storage: 'a shelf' }));
});

// ── revocation ──

test('a revoked member stops everywhere, and what it had done stays', async t => {
  const net = network(t);
  const [ann, ben, cyd] = [await net.open(), await net.open(), await net.open()];
  const note = template({ lines: [] });
  const [hers, his, theirs] = await Promise.all([ann, ben, cyd].map(space => space.document('/note', note)));
  his.change(d => { d.lines.push('ben was here'); });
  await net.settled();
  await net.cut(ben, cyd);
  await net.cut(ann, ben);
  his.change(d => { d.lines.push('behind her back'); });
  await ann.revoke(ben.me.member);
  await until('it is no member here', async () => !(await ann.members()).some(member => member.id === ben.me.member));
  await until('nor there', async () => !(await cyd.members()).some(member => member.id === ben.me.member));
  await net.heal(ben, cyd);
  hers.change(d => { d.lines.push('ann goes on'); });
  await until('the others go on', () => theirs.value.lines.includes('ann goes on'));
  for (const doc of [hers, theirs]) assert.deepEqual(doc.value.lines, ['ben was here', 'ann goes on']);
  await refused('INVALID', () => ann.revoke('nobody'));
  await refused('DENIED', () => cyd.revoke(ann.me.member));
});
