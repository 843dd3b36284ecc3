// Several devices in memory, as tests of programs have them: what one does the others see, topics, windows, what is kept.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { counter, ForeshoreError, template, text } from '../dist/node.js';
import { memoryNetwork } from '../dist/testing.js';

const list = template({ title: '', items: [], body: text(), votes: counter() });

/** A network that ends with the test; Node waits for neither an engine nor a promise. */
function network(t) {
  const net = memoryNetwork();
  const alive = setInterval(() => {}, 1000);
  t.after(async () => { await net.close(); clearInterval(alive); });
  return net;
}

async function until(reached) {
  for (const end = Date.now() + 30_000; !(await reached()); ) {
    assert.ok(Date.now() < end, `waited in vain until ${reached}`);
    await new Promise(resolve => setTimeout(resolve, 10));
  }
}

test('devices in memory are in step, apart while they are cut, and in step again', async t => {
  const net = network(t);
  const spaces = [await net.open(), await net.open(), await net.open()];
  const docs = await Promise.all(spaces.map(space => space.document('/list', list)));
  docs[0].change(d => { d.title = 'food'; d.items.push('bread'); });
  await net.settled();
  for (const doc of docs) assert.deepEqual([doc.value.title, doc.value.items], ['food', ['bread']]);
  assert.deepEqual(new Set(spaces.map(space => space.me.member)).size, 3);
  assert.deepEqual(spaces.map(space => space.me.role), ['admin', 'writer', 'writer']);
  await net.cut(spaces[0], spaces[1]);
  await net.cut(spaces[0], spaces[2]);
  docs[0].change(d => { d.items.push('milk'); d.votes.add(1); });
  docs[1].change(d => { d.items.push('salt'); d.votes.add(1); });
  await net.settled();
  assert.deepEqual(docs.map(doc => doc.value.votes), [1, 1, 1]);
  assert.deepEqual(docs.map(doc => doc.value.items.at(-1)), ['milk', 'salt', 'salt']);
  assert.equal(spaces[0].status.pendingChanges > 0, true);
  await net.heal(spaces[1], spaces[0]);
  await net.settled();
  assert.deepEqual(docs.map(doc => doc.value.votes), [2, 2, 2], 'by way of the second, though the third is still cut off');
  assert.deepEqual(docs[0].value, docs[2].value);
});

test('a reader reads, and is refused when it writes', async t => {
  const net = network(t);
  const [admin, reader] = [await net.open(), await net.open({ role: 'reader' })];
  const doc = await admin.document('/list', list);
  doc.change(d => { d.title = 'x'; });
  await net.settled();
  const seen = await reader.document('/list', list);
  assert.equal(seen.value.title, 'x');
  const codes = [];
  reader.on('error', error => codes.push(error.code));
  const error = await seen.change(d => { d.title = 'y'; }).saved.then(() => null, error => error);
  assert.ok(ForeshoreError.is(error, 'DENIED'), String(error));
  await until(() => seen.value.title === 'x' && codes.includes('DENIED'));
});

test('a topic is heard by whoever listens, in order, and kept nowhere', async t => {
  const net = network(t);
  const [one, other] = [await net.open(), await net.open()];
  const [from, to] = [one.topic('/bells'), other.topic('/bells')];
  const heard = [];
  const stop = to.subscribe((value, { member }) => heard.push([value.n, member]));
  // The listener's wish has to be here before anything is told.
  await until(() => { from.publish({ n: 0 }); return heard.length > 0; });
  heard.length = 0;
  for (let n = 1; n <= 5; n++) from.publish({ n, at: new Date(n) });
  await until(() => heard.some(([n]) => n === 5));
  const numbers = heard.map(([n]) => n).filter(n => n > 0);
  assert.deepEqual(numbers, [1, 2, 3, 4, 5]);
  assert.equal(heard[0][1], one.me.member);
  stop();
  to[Symbol.dispose]();
  from[Symbol.dispose]();
  const errors = [];
  one.on('error', error => errors.push(error.code));
  from.publish({ n: 6 });
  await until(() => errors.includes('CLOSED'));
});

test('a collection is a window that follows its documents', async t => {
  const net = network(t);
  const [one, other] = [await net.open(), await net.open()];
  const card = template({ title: '', votes: counter() });
  for (let n = 0; n < 5; n++) {
    const doc = await one.document(`/cards/${n}`, card);
    await doc.change(d => { d.title = `card ${n}`; }).saved;
    doc[Symbol.dispose]();
  }
  await net.settled();
  const cards = await other.collection('/cards', card, { limit: 3 });
  const titles = () => cards.items.map(item => item.value.title);
  assert.deepEqual([titles(), cards.hasMore], [['card 0', 'card 1', 'card 2'], true]);
  await cards.more(1);
  assert.deepEqual([titles().length, cards.hasMore], [4, true]);
  await cards.more();
  assert.deepEqual([titles().length, cards.hasMore], [5, false]);
  let changes = 0;
  cards.subscribe(() => changes++);
  const kept = cards.items[0];
  const doc = await one.document('/cards/3', card);
  doc.change(d => { d.title = 'other'; d.votes.add(2); });
  await until(() => titles()[3] === 'other');
  assert.equal(cards.items[0], kept, 'what did not change is the same object');
  assert.equal(cards.items[3].value.votes, 2);
  await one.remove('/cards/1');
  await until(() => cards.items.length === 4);
  assert.deepEqual(titles(), ['card 0', 'card 2', 'other', 'card 4']);
  assert.ok(changes >= 2);
  cards[Symbol.dispose]();
  const empty = await other.collection('/none', card);
  assert.deepEqual([empty.items, empty.hasMore], [[], false]);
});

test('a device keeps the prefixes that it names, and of the rest what it has open', async t => {
  const net = network(t);
  const [all, part] = [await net.open(), await net.open({ replicate: ['/kept'] })];
  const note = template({ text: '' });
  for (const path of ['/kept/a', '/else/b', '/else/c']) await (await all.document(path, note)).change(d => { d.text = path; }).saved;
  const here = async () => (await part.list('/')).items.map(item => item.path);
  await until(async () => (await here()).includes('/kept/a'));
  const opened = await part.document('/else/b', note);
  await until(() => opened.value.text === '/else/b');
  assert.deepEqual(await here(), ['/else/b', '/kept/a'], 'and /else/c is not here');
  const more = await part.replicate('/else');
  await until(async () => (await here()).includes('/else/c'));
  more[Symbol.dispose]();
});
